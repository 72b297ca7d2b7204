"""What the pages name exists: links, paths, settings, limits, scopes, exit codes and commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from policy_engine.limits import LIMITS
from tests.docs import pages

DOCS = pages.ROOT / "docs"


def relative(page: Path) -> str:
    """Return a page's name for a test id."""
    return str(page.relative_to(pages.ROOT))


@pytest.mark.parametrize("page", pages.pages(), ids=relative)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file of the repository."""
    links = [link.split("#")[0] for link in pages.LINK.findall(page.read_text(encoding="utf-8"))]
    local = [link for link in links if link and not link.startswith(("http://", "https://"))]
    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", pages.pages(), ids=relative)
def test_every_named_path_exists(page: Path) -> None:
    """Each path of the repository that a page names exists (a `*` stands for at least one file)."""
    named = pages.NAMED_PATH.findall(page.read_text(encoding="utf-8"))
    assert [path for path in named if "<" not in path and not any(pages.ROOT.glob(path.rstrip("/")))] == []


def test_every_page_is_reachable_from_the_readme() -> None:
    """Nobody has to list a folder to find a page: links lead to all of them."""
    seen, waiting = set(), [pages.ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        links = [link.split("#")[0] for link in pages.LINK.findall(page.read_text(encoding="utf-8"))]
        waiting += [(page.parent / link).resolve() for link in links if link and "://" not in link]
    assert sorted(relative(page) for page in set(pages.pages()) - seen) == []


def test_every_decision_page_has_the_five_parts() -> None:
    """A decision page says context, decision, consequences, alternatives and what enforces it."""
    parts = ("Context", "Decision", "Consequences", "Alternatives", "What enforces it")
    for page in sorted((DOCS / "decisions").glob("0*.md")):
        text = page.read_text(encoding="utf-8")
        assert [part for part in parts if f"**{part}.**" not in text] == [], page.name


def test_every_limit_is_on_the_page_with_its_value() -> None:
    """`docs/limits.md` names each field of `Limits` with the value it has."""
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.,]+) \|", (DOCS / "limits.md").read_text(encoding="utf-8"), re.M))
    assert rows == {field.name: f"{getattr(LIMITS, field.name):,}" for field in fields(LIMITS)}


def test_every_setting_is_on_the_page() -> None:
    """`docs/operations.md` names each `POLICY_ENGINE_*` setting, and no setting that does not exist."""
    from policy_engine.settings import Settings

    known = {f"POLICY_ENGINE_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"POLICY_ENGINE_[A-Z_]+", pages.section(DOCS / "operations.md", "Settings")))
    assert named == known


def test_every_scope_is_on_the_page() -> None:
    """`docs/operations.md` names each scope that a key may have, and no other."""
    from policy_engine.services.permissions import SCOPES

    rows = re.findall(r"^\| ((?:`[a-z:]+`(?:, )?)+) \|", pages.section(DOCS / "operations.md", "Keys"), re.M)
    assert {scope for row in rows for scope in re.findall(r"`([a-z:]+)`", row)} == set(SCOPES)


def test_the_readme_names_one_test_command() -> None:
    """The README's section Test begins with one block that holds `make test`, which the build server runs."""
    found = pages.FENCE.findall(pages.section(pages.ROOT / "README.md", "Test"))
    assert found == [("sh", "make test\n")]


def test_the_changelog_names_the_version() -> None:
    """The newest heading of the changelog is the version of the package."""
    import policy_engine

    newest = re.search(r"^## ([\d.]+)", (pages.ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert newest is not None
    assert newest.group(1) == policy_engine.__version__


def shown_commands() -> list[tuple[str, str]]:
    """Return `(page, command)` for each `policy-engine` command in a shell block of any page."""
    return [
        (f"{relative(page)}:{block.line}", command)
        for page in pages.pages()
        for block in pages.blocks(page, "sh")
        for command in pages.commands(block)
        if re.match(r"(?:\S*/)?policy-engine\s", command)
    ]


@pytest.mark.parametrize(("where", "command"), shown_commands())
def test_every_shown_command_exists(where: str, command: str) -> None:
    """Each `policy-engine` command that a page shows has that name, and each option in it is one of its options."""
    import typer

    from policy_engine.cli.app import make_app

    node = typer.main.get_command(make_app())
    words = shlex.split(command)[1:]
    while words and words[0] in getattr(node, "commands", {}):
        node = node.commands[words.pop(0)]
    assert not hasattr(node, "commands"), f"{where}: {command} is a group, or names an unknown command"
    options = {name for parameter in node.params for name in (*parameter.opts, *parameter.secondary_opts)}
    words = words[: words.index("--")] if "--" in words else words  # what stands behind it is no option
    assert [word for word in words if word.startswith("-") and word.split("=")[0] not in options] == []


@pytest.mark.parametrize(
    ("shown", "found", "count"),
    [
        ({"a": 1}, {"a": 1}, 0),
        ({"a": 1}, {"a": 2}, 1),
        ({"a": 1}, {"a": True}, 1),
        ({"a": 1}, {}, 1),
        ({}, {"a": 1}, 1),
        ({"a": ["x"]}, {"a": ["x", "y"]}, 1),
        ({"id": "sha256:…"}, {"id": "sha256:0f"}, 0),
        ({"id": "sha256:…"}, {"id": "md5:0f"}, 1),
        ({"epoch": 3}, {"epoch": 9}, 0),
        ({"epoch": 3}, {"epoch": "9"}, 1),
    ],
)
def test_a_shown_answer_is_compared_member_by_member(shown, found, count: int) -> None:
    """The comparison sees a missing, an additional and a different member, and lets only marked ones vary."""
    assert len(pages.differences(shown, found)) == count
