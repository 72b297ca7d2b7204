"""Attacks on plain Casbin folders, by what a request holds and by what a folder holds: nothing opens or hangs."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.decision import Outcome, Principal, PrincipalKind, Request
from policy_engine.core.plain import PlainRelease
from policy_engine.core.switches import Switchboard
from policy_engine.errors import LoadRefused
from policy_engine.ledger.decisions import flat_text
from policy_engine.rules.plain import load_plain
from policy_engine.services.plain import evaluate_plain
from policy_engine.services.snapshot import Snapshot
from policy_engine.store.interfaces import State
from tests.rules.plainfolders import MODEL, POLICY, folder, loaded, with_line

TRUSTED = Principal("gateway", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("*",)))
ROLE = '[tokens]\nsub = { from = "subject.properties.role", kind = "scalar" }\n'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=10,
)


def decided(release: PlainRelease, raw: dict[str, Any], action: str = "read") -> Any:
    """Return the evaluation of a request for `doc` whose subject says `raw`."""
    request = Request("eve", action, "doc", subject_type="user", raw={"subject": raw})
    snapshot = Snapshot(State(1, release.hash, 0, False), release, None, Switchboard(), ())
    return evaluate_plain(release, request, TRUSTED, snapshot, 0)


@given(VALUES)
def test_no_value_but_the_one_named_is_a_yes(value: Any) -> None:
    """Whatever stands where the policy reads a role, only the role that a row names is allowed."""
    release = loaded(folder(facets_toml=ROLE))
    found = decided(release, {"type": "user", "id": "eve", "properties": {"role": value}})
    assert (found.outcome is Outcome.ALLOW) == (value in ("reader", "alice", "writer") and isinstance(value, str))
    if found.values is not None:
        flat_text(found.values)


@pytest.mark.parametrize(
    "properties", [None, "role", ["role"], 5, {"role": None}, {"Role": "reader"}, {"role ": "reader"}]
)
def test_properties_of_another_shape_are_unknown(properties: Any) -> None:
    """Properties that are no object, or that spell the name otherwise, do not make the role known."""
    found = decided(loaded(folder(facets_toml=ROLE)), {"properties": properties})
    assert (found.outcome, found.reasons[0].code) == (Outcome.DENY, "token.unknown")


@pytest.mark.parametrize(
    "name", ["*", "reader, doc, read, allow", "#", "p", "g", "\ufeffalice", "alice ", "ALICE", "\uff41lice"]
)
def test_an_id_that_imitates_the_policy_is_an_id(name: str) -> None:
    """Wildcards, separators, look-alikes and other cases in an id match no row that does not name them."""
    release = loaded(with_line("p, *, doc, list, allow"))
    assert not release.judge((name, "doc", "read")).allowed
    assert release.judge((name, "doc", "list")).allowed == (name == "*")


@pytest.mark.parametrize("token", ["sub", "obj", "act"])
def test_an_overlong_value_is_only_a_value(token: str) -> None:
    """A value of a megabyte is compared and denied like any other."""
    values = {"sub": "alice", "obj": "doc", "act": "read", token: "x" * 1_000_000}
    began = perf_counter()
    assert not loaded().judge(tuple(values[name] for name in ("sub", "obj", "act"))).allowed
    assert perf_counter() - began < 1


@given(st.text(max_size=60))
def test_any_line_is_read_as_casbin_reads_it_or_refused(line: str) -> None:
    """A line of any text is refused by one sentence with its place, or gives exactly the row that Casbin would have."""
    import casbin
    from casbin.persist.adapter import load_policy_line

    policy = f"p, a, b, c, allow\n{line}\n"
    try:
        release = load_plain(folder(policy))
    except LoadRefused as refused:
        assert str(refused).startswith("policy.csv:") and "\n" not in str(refused)
        return
    model = casbin.Model()
    model.load_model_from_text(MODEL)
    for each in policy.encode().split(b"\n"):
        load_policy_line(each.decode().strip(), model)
    rows = [row for row in release.rows.entries if row is not None]
    assert [list(row[1:]) for row in rows if row[0] == "p"] == model["p"]["p"].policy
    assert [list(row[1:]) for row in rows if row[0] == "g"] == model["g"]["g"].policy


CELLS = st.text(alphabet="ab,()[] #*\t\"'", max_size=6)


@given(st.lists(st.tuples(st.sampled_from(("p", "g", "q", " p", "p ")), CELLS, CELLS, CELLS), max_size=4))
def test_separators_and_brackets_split_as_casbin_splits(lines: list[tuple[str, str, str, str]]) -> None:
    """Brackets, quotes, tabs and empty cells: read as Casbin reads them, or refused; never a row of our own."""
    test = test_any_line_is_read_as_casbin_reads_it_or_refused.hypothesis.inner_test
    for kind, *cells in lines:
        test(f"{kind}, {', '.join(cells)}, allow" if "p" in kind else f"{kind}, {', '.join(cells[:2])}")


def test_a_hundred_thousand_roles_in_a_row_end() -> None:
    """A chain of roles as long as a file holds is checked for circles without recursion and in time."""
    chain = "".join(f"g, r{at}, r{at + 1}\n" for at in range(100_000))
    began = perf_counter()
    with pytest.raises(LoadRefused, match=r"^policy.csv:100009: .*its own member"):
        load_plain(folder(f"{POLICY}{chain}g, r100000, r0\n"))
    assert perf_counter() - began < 20


@pytest.mark.parametrize(
    "matcher",
    [
        "r.sub.__class__.__mro__ == p.sub",
        "r.sub.__init__.__globals__ == p.sub",
        "open(p.obj)",
        "__import__(p.obj)",
        "(lambda: True)() && foo(r.sub)",
        "(" * 500 + "r.sub == p.sub" + ")" * 500,
        "r.sub == p.sub; True",
        "r.sub == p.sub\ud800",
    ],
)
def test_a_hostile_matcher_is_refused(matcher: str) -> None:
    """A matcher that reaches for Python, or that is no expression, is refused when it is loaded, with its line."""
    head = MODEL[: MODEL.index("m = ")]
    text = f"{head}m = {matcher}\n".encode("utf-8", "surrogatepass")
    with pytest.raises(LoadRefused, match=r"^model.conf"):
        load_plain({**folder(), "model.conf": text})


@pytest.mark.parametrize("path", ["../policy.csv", "/etc/passwd", "packs/../x", "policy.csv\n", "world/keys.jsonl"])
def test_a_path_out_of_the_folder_is_no_part_of_it(path: str) -> None:
    """Files given by name over HTTP are those of a release; any other name is refused and read from nowhere."""
    with pytest.raises(LoadRefused, match="no part of a plain Casbin folder"):
        load_plain({**folder(), path: b""})


def test_a_link_out_of_the_folder_is_read_as_a_file(tmp_path: Path) -> None:
    """A link to another file is that file; a link to nothing is refused by a sentence."""
    from policy_engine.rules.folder import read_folder

    for name, content in folder().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "entities.jsonl").symlink_to(tmp_path / "gone")
    with pytest.raises(LoadRefused, match=r"entities\.jsonl: the file cannot be read"):
        read_folder(tmp_path)
    (tmp_path / "entities.jsonl").unlink()
    (tmp_path / "policy.csv").unlink()
    (tmp_path / "policy.csv").symlink_to("/dev/zero")
    with pytest.raises(LoadRefused, match="no ordinary file"):
        read_folder(tmp_path)


@given(st.dictionaries(st.text(max_size=12), VALUES, max_size=5))
def test_any_entity_that_is_read_can_be_recorded(properties: dict[str, Any]) -> None:
    """Whatever an entity says is either refused when it is loaded or has canonical text for the log."""
    line = json.dumps({"type": "user", "id": "eve", "properties": properties})
    try:
        release = loaded(folder(entities_jsonl=line))
    except LoadRefused as refused:
        assert str(refused).startswith("entities.jsonl:1: ")
        return
    flat_text(({"type": "user", "id": "eve", "properties": release.entities["user", "eve"]},))
