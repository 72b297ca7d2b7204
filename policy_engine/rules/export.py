"""A release as a plain Casbin folder: `model.conf` and `policy.csv`, for an unmodified `casbin.Enforcer`.

Rules of the room: the lines are those that the index was compiled from. Casbin's file adapter knows no quotes (it
splits at commas outside brackets and strips spaces), so every line is read back in Casbin's way before it is given
out; a cell that would change is refused. Load with `e = casbin.Enforcer("model.conf", "policy.csv")` after
`policy_engine.rules.functions.add_functions(e)`. Left to others: writing to disk (`cli`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from casbin.persist.adapter import _extract_tokens

from policy_engine.core.plain import POLICY_FILE, AnyRelease, PlainRelease
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.release import MODEL_FILE, read_parts


def export(release: AnyRelease, *, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Return the two files by name. Raises `LoadRefused` for a cell that Casbin's form cannot hold."""
    if isinstance(release, PlainRelease):  # it is one already, and its lines were read as Casbin reads them
        return {name: release.files[name] for name in (MODEL_FILE, POLICY_FILE)}
    model = read_parts(release.files, limits, previous=release).model
    lines = [_line("p", line) for line in model["p"]["p"].policy]
    for key, roles in (model["g"] or {}).items():
        lines.extend(_line(key, line) for line in roles.policy)
    return {MODEL_FILE: release.files[MODEL_FILE], POLICY_FILE: _joined(lines)}


def _line(key: str, cells: Sequence[str]) -> str:
    line = ", ".join((key, *cells))
    try:
        same = not _broken(line) and _extract_tokens(line) == [key, *cells]
    except IndexError:  # a closing bracket without an opening one
        same = False
    if not same:
        message = "a cell holds a comma, a bracket, a line break or an outer space, which Casbin's form cannot hold"
        raise LoadRefused(f"{message}; rename it", where=f"{POLICY_FILE}: {cells[0][:80]}")
    return line


def _broken(line: str) -> bool:
    return len(line.splitlines()) != 1 or line != line.strip()


def _joined(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
