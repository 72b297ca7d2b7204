"""A plain folder built from the one before it: the same release as one read afresh, for less work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.plain import PlainRelease
from policy_engine.errors import LoadRefused
from policy_engine.rules import plainpolicy
from policy_engine.rules.enforcer import CompiledEnforcer
from policy_engine.rules.plain import RowsAdapter, load_plain
from tests.rules.plainfolders import MODEL, POLICY, folder, loaded, with_effect

LINES = (
    "p, reader, doc, read, allow",
    "p, reader, doc, read, deny",
    "p, writer, doc, write, allow",
    "p, alice, doc, write, deny",
    "g, alice, reader",
    "g, bob, writer",
    "g, writer, reader",
    "# a comment",
    "",
)
POLICIES = st.lists(st.sampled_from(LINES), min_size=1)
WORDS = st.sampled_from(("alice", "bob", "reader", "writer", "doc", "read", "write"))


class Changed:
    """An enforcer that says what it was changed by, and otherwise answers as one that was built of the same rows."""

    def __init__(self, model: Any, adapter: RowsAdapter) -> None:
        self.changes: list[tuple[Any, Any]] = []
        self.built = CompiledEnforcer(model, adapter)

    def updated(self, *, add: Sequence[Any], remove: Sequence[Any]) -> Changed:
        """Return another that remembers the change."""
        made = object.__new__(Changed)
        made.built, made.changes = self.built, [*self.changes, (add, remove)]
        return made


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let releases be made with enforcers that say what they were changed by."""
    monkeypatch.setattr("policy_engine.rules.plain.CompiledEnforcer", Changed)


def after(old: str, new: str) -> PlainRelease:
    """Return the release of the new policy, built from that of the old one."""
    return load_plain(folder(new), previous=loaded(folder(old)))


def changes(release: PlainRelease) -> Any:
    """Return what the release's enforcer was changed by."""
    return release.enforcer.changes  # type: ignore[attr-defined]  # it is a `Changed`


@given(
    st.lists(st.sampled_from(LINES), min_size=1), st.lists(st.sampled_from(LINES), min_size=1), st.tuples(*[WORDS] * 3)
)
def test_a_change_gives_what_reading_afresh_gives(old: list[str], new: list[str], asked: tuple[str, str, str]) -> None:
    """Whatever lines change, rows, lines, names, warnings and answers are those of the new files alone."""
    before = load_plain(folder("p, x, y, z, allow\n" + "\n".join(old)))
    files = folder("p, x, y, z, allow\n" + "\n".join(new))
    changed, fresh = load_plain(files, previous=before), load_plain(files)
    assert changed.rows.entries == fresh.rows.entries
    assert changed.rows.lines == fresh.rows.lines
    assert (changed.hash, changed.named, changed.warnings) == (fresh.hash, fresh.named, fresh.warnings)
    assert changed.judge(asked) == fresh.judge(asked)


@pytest.mark.parametrize(
    "line", ["p, bob, doc, read, allow", "g, bob, writer", "# more", "p, mallory, doc, read, deny"]
)
def test_a_row_that_stands_twice_keeps_its_first_line_where_lines_come_in_before_it(line: str) -> None:
    """One release names one line for a row, whether it was read afresh or from the folder before it."""
    twice = "p, mallory, doc, read, deny\n" * 2
    old, new = f"# first\n{twice}{POLICY}", f"# first\n{line}\n{twice}{POLICY}"
    fresh = loaded(folder(new))
    changed = after(old, new)
    assert changed.rows.lines == fresh.rows.lines
    assert changed.judge(("mallory", "doc", "read")) == fresh.judge(("mallory", "doc", "read"))


def test_nothing_changed_keeps_the_enforcer() -> None:
    """Where only comments, the catalogue or the entities differ, nothing is compiled."""
    before = loaded()
    for files in (folder(POLICY + "# more\n"), folder(models_toml="[[model]]\nid = 'doc'"), folder(entities_jsonl="")):
        assert load_plain(files, previous=before).enforcer is before.enforcer
    assert load_plain(folder("# first\n" + POLICY), previous=before).rules[0].id == "policy.csv:3"


@pytest.mark.usefixtures("recording")
def test_a_rule_at_the_end_is_added() -> None:
    """A row that stands behind the others of its kind is added to the enforcer, also in front of other kinds."""
    added = ["p", "bob", "doc", "read", "allow"]
    line = ", ".join(added)
    assert changes(after(POLICY, f"{POLICY}{line}\n")) == [([added], [])]
    assert changes(after(POLICY, POLICY.replace("g, alice", f"{line}\ng, alice", 1))) == [([added], [])]
    assert changes(after(POLICY, POLICY + "g, bob, reader\n")) == [([["g", "bob", "reader"]], [])]


@pytest.mark.usefixtures("recording")
def test_a_rule_that_is_taken_out_is_removed() -> None:
    """A row that stood once is removed from the enforcer."""
    assert changes(after(POLICY, POLICY.replace("g, alice, reader\n", ""))) == [([], [["g", "alice", "reader"]])]


@pytest.mark.usefixtures("recording")
@pytest.mark.parametrize(
    "policy",
    [
        POLICY.replace("p, writer", "p, bob, doc, read, allow\np, writer"),  # not at the end of its kind
        POLICY + "p, reader, doc, read, allow\n",  # stands there already
        POLICY.replace("p, reader", "p, editor"),  # changed in the middle: order may decide
    ],
)
def test_other_changes_are_built_anew(policy: str) -> None:
    """Where the place of a row may matter, or a row stands twice, the enforcer is built of all rows."""
    assert changes(after(POLICY, policy)) == []


@pytest.mark.usefixtures("recording")
def test_a_row_that_stands_twice_is_not_removed_by_halves() -> None:
    """Taking out one of two equal rows leaves the other: the enforcer is built anew."""
    twice = POLICY + "g, alice, reader\n"
    assert changes(after(twice, POLICY)) == []


@pytest.mark.usefixtures("recording")
def test_where_priority_decides_the_enforcer_is_built_anew() -> None:
    """Under an effect that reads the order of rows, none is added behind the others."""
    model = with_effect("priority(p.eft) || deny")["model.conf"].decode()
    more = folder(POLICY + "p, bob, doc, read, allow\n", model)
    assert changes(load_plain(more, previous=loaded(folder(model=model)))) == []


def test_a_small_change_reads_its_own_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20,000 lines only the changed one is read, and the line of an old rule behind it is still right."""
    rules = [f"p, user{at}, doc{at}, read, allow" for at in range(20_000)]
    before = loaded(folder("\n".join(rules)))
    read: list[int] = []
    real = plainpolicy._Reader.row

    def reading(self: Any, line: str, number: int) -> Any:
        read.append(number)
        return real(self, line, number)

    monkeypatch.setattr(plainpolicy._Reader, "row", reading)
    rules.insert(10_000, "p, new, doc, read, allow")
    changed = load_plain(folder("\n".join(rules)), previous=before)
    assert read == [10_001]
    judged = changed.judge(("user15000", "doc15000", "read"))
    assert judged.deciding is not None and judged.deciding.id == "policy.csv:15002"


def test_a_bad_changed_line_is_refused_with_its_line() -> None:
    """A change is read as strictly as the whole: its line is named, and a circle through old links is seen."""
    before = loaded()
    for line, sentence in (("p, bob, doc", "has 2 values"), ("g, reader, alice", "its own member")):
        with pytest.raises(LoadRefused, match=rf"^policy.csv:9: .*{sentence}"):
            load_plain(folder(f"{POLICY}{line}\n"), previous=before)
    with pytest.raises(LoadRefused, match="no `p` line"):
        load_plain(folder("# empty\n"), previous=before)


def test_another_model_is_read_anew() -> None:
    """Under another model nothing of the previous folder is taken over."""
    model = MODEL.replace("r.act == p.act", "r.act == p.sub")
    changed = load_plain(folder(model=model), previous=loaded())
    assert changed.judge(("alice", "doc", "read")) == load_plain(folder(model=model)).judge(("alice", "doc", "read"))
    assert not changed.judge(("alice", "doc", "read")).allowed
