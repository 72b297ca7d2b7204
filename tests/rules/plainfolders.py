"""Small plain Casbin folders for tests: a role model, its policy, and changes to either."""

from __future__ import annotations

from collections.abc import Mapping

from policy_engine.core.plain import PlainRelease
from policy_engine.rules.plain import load_plain

MODEL = """[request_definition]
r = sub, obj, act

[policy_definition]
p = sub, obj, act, eft

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
"""
POLICY = """# who may read
p, reader, doc, read, allow
p, writer, doc, write, allow

p, mallory, doc, read, deny
g, alice, reader
g, mallory, reader
g, writer, reader
"""


def folder(policy: str = POLICY, model: str = MODEL, **others: str) -> dict[str, bytes]:
    """Return the files of a folder; `others` are further files, `facets_toml` for `facets.toml`."""
    named = {name.replace("_", "."): text for name, text in others.items()}
    files = {"model.conf": model, "policy.csv": policy, **named}
    return {name: text.encode() for name, text in files.items()}


def with_line(line: str, policy: str = POLICY) -> dict[str, bytes]:
    """Return the folder with one more line at the end of its policy."""
    return folder(policy + line + "\n")


def with_matcher(matcher: str, policy: str = POLICY) -> dict[str, bytes]:
    """Return the folder with another matcher."""
    head = MODEL[: MODEL.index("m = ")]
    return folder(policy, f"{head}m = {matcher}\n")


def with_effect(effect: str) -> dict[str, bytes]:
    """Return the folder with another effect."""
    lines = [f"e = {effect}" if line.startswith("e = ") else line for line in MODEL.splitlines()]
    return folder(model="\n".join(lines) + "\n")


def loaded(files: Mapping[str, bytes] | None = None) -> PlainRelease:
    """Return the release of files, by default of the small folder."""
    return load_plain(folder() if files is None else files)
