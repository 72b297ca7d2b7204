"""Decision entries: put together by hand for speed, equal to canonical JSON for every input."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused
from policy_engine.ledger.canonical import INTEGER_MAX, canonical, parse
from policy_engine.ledger.decisions import (
    DecisionBody,
    DecisionMembers,
    decision_public,
    flat_text,
    flat_values,
)
from policy_engine.ledger.merkle import leaf_hash

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SOME = st.none() | TEXTS
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
NUMBERS = st.integers(0, INTEGER_MAX)
REASONS = st.lists(st.tuples(SOME, TEXTS, LISTS), max_size=3).map(tuple)
FACETS = st.dictionaries(st.sampled_from(["location", "counted", "evidence"]), LISTS, min_size=1)

MEMBERS = st.builds(
    DecisionMembers,
    id=st.just("0" * 32),
    outcome=st.sampled_from(["allow", "deny"]),
    action=SOME,
    model=SOME,
    asked=SOME,
    tier=st.none() | st.integers(1, 5),
    tenant=SOME,
    reasons=REASONS,
    rules=LISTS,
    lifted=LISTS,
    licences=LISTS,
    missing=LISTS,
    flags=LISTS,
    until=st.none() | NUMBERS,
    instant=NUMBERS,
    by=TEXTS,
    reached=st.booleans(),
    epoch=NUMBERS,
    release=SOME,
    clock_set=st.booleans(),
)
BODIES = st.builds(
    DecisionBody,
    action=TEXTS,
    model=TEXTS,
    subject=TEXTS,
    subject_type=TEXTS,
    resource_type=TEXTS,
    tenant=SOME,
    location=st.none() | st.tuples(SOME, SOME, st.booleans()),
    serving_region=SOME,
    revisions=st.lists(st.tuples(st.sampled_from(["persons", "tenants"]), TEXTS, NUMBERS), max_size=2).map(tuple),
    values=st.none() | st.lists(TEXTS | NUMBERS | st.frozensets(TEXTS, max_size=3), max_size=5).map(tuple),
    raw=SOME,
    tagged=st.none() | FACETS.map(lambda facets: tuple(facets.items())),
)


@given(MEMBERS)
def test_public_bytes_are_canonical(members: DecisionMembers) -> None:
    """The public bytes are the canonical bytes of the members they name, whatever these hold."""
    wanted: dict[str, Any] = {
        name: value for name, value in members._asdict().items() if name not in ("clock_set", "asked", "flags")
    }
    wanted |= {"v": 1, "kind": "decision", "log": "ab", "seq": 5, "at": 9, "commit": "c", "sealed": "d"}
    if members.asked is not None:
        wanted["asked"] = members.asked
    if members.flags:
        wanted["flags"] = members.flags
    if members.clock_set:
        wanted["clock"] = "set"
    assert decision_public(members, "ab", 5, 9, "c", "d") == canonical(wanted)


@given(BODIES)
def test_body_bytes_are_canonical(body: DecisionBody) -> None:
    """The body's bytes are the canonical bytes of the members they name."""
    wanted = body._asdict()
    if body.location is not None:
        country, region, anonymiser = body.location
        wanted["location"] = {"country": country, "region": region, "anonymiser": anonymiser}
    if body.values is not None:
        wanted["values"] = [sorted(v) if isinstance(v, frozenset) else v for v in body.values]
    if body.raw is None:
        del wanted["raw"]
    if body.tagged is None:
        del wanted["tagged"]
    else:
        wanted["tagged"] = dict(body.tagged)
    assert body.encode() == canonical(wanted)


MEMBERS_GOLDEN = DecisionMembers(
    id="8c2f3a4d5e6f4a7b8c9d0e1f2a3b4c5d",
    outcome="deny",
    action="infer",
    model="fable-5",
    asked="fable-latest",
    tier=4,
    tenant="acme",
    reasons=(("P12", "directive.foreign-person", ("dir-1",)), (None, "no-rule-allows", ())),
    rules=("directive-foreign",),
    lifted=(),
    licences=(),
    missing=(),
    flags=("table.oldest",),
    until=None,
    instant=1_795_219_200_000_001,
    by="key-1",
    reached=True,
    epoch=3,
    release="sha256:ab",
    clock_set=True,
)
PUBLIC_GOLDEN = (
    b'{"action":"infer","asked":"fable-latest","at":1795219200000002,"by":"key-1","clock":"set","commit":"cc",'
    b'"epoch":3,"flags":["table.oldest"],"id":"8c2f3a4d5e6f4a7b8c9d0e1f2a3b4c5d","instant":1795219200000001,'
    b'"kind":"decision","licences":[],"lifted":[],"log":"00f1e2d3c4b5a697","missing":[],"model":"fable-5",'
    b'"outcome":"deny","reached":true,"reasons":[["P12","directive.foreign-person",["dir-1"]],'
    b'[null,"no-rule-allows",[]]],"release":"sha256:ab","rules":["directive-foreign"],"sealed":"dd","seq":7,'
    b'"tenant":"acme","tier":4,"until":null,"v":1}'
)
BODY_GOLDEN = (
    b'{"action":"infer","location":{"anonymiser":false,"country":"GB","region":null},"model":"fable-latest",'
    b'"resource_type":"model","revisions":[["persons","dana",2],["tenants","acme",1]],"serving_region":"US",'
    b'"subject":"dana","subject_type":"person","tagged":{"evidence":["valid"],"location":["GB"]},"tenant":"acme",'
    b'"values":[1795219200000001,"infer",["A","B"],null,true,{"json":"1.5"},{"json":"[\\"b\\",\\"a\\"]"}]}'
)


def test_golden_vectors_never_change() -> None:
    """A sample decision has exactly the bytes and leaf hash written here, for ever."""
    public = decision_public(MEMBERS_GOLDEN, "00f1e2d3c4b5a697", 7, 1_795_219_200_000_002, "cc", "dd")
    body = DecisionBody(
        action="infer",
        model="fable-latest",
        subject="dana",
        subject_type="person",
        resource_type="model",
        tenant="acme",
        location=("GB", None, False),
        serving_region="US",
        revisions=(("persons", "dana", 2), ("tenants", "acme", 1)),
        values=(1_795_219_200_000_001, "infer", frozenset({"B", "A"}), None, True, 1.5, ["b", "a"]),
        tagged=(("location", ("GB",)), ("evidence", ("valid",))),
    ).encode()
    assert public == PUBLIC_GOLDEN
    assert body == BODY_GOLDEN
    assert leaf_hash(public).hex() == "8f54f5b3fa9406d68fb3ff5ec688e485acc48223a324394ba2a98c14ba8be499"


@given(
    st.lists(
        TEXTS
        | st.integers()
        | st.booleans()
        | st.none()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.frozensets(TEXTS, max_size=3)
        | st.lists(st.integers() | TEXTS, max_size=3)
        | st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=2),
        max_size=6,
    )
)
def test_flat_values_come_back(values: list[Any]) -> None:
    """Every value given to the rules is read back equal and of the same type, sets as sorted tuples."""
    back = flat_values(parse(flat_text(values).encode(), "it"))
    wanted = tuple(tuple(sorted(value)) if isinstance(value, frozenset) else value for value in values)
    assert (back, [type(value) for value in back]) == (wanted, [type(value) for value in wanted])


def test_one_and_true_do_not_share_a_place() -> None:
    """Values that Python calls equal keep their own spelling."""
    assert flat_text([1, True, 1.0, "1", 0, False]) == '[1,true,{"json":"1.0"},"1",0,false]'


def test_sets_and_tuples_are_sorted_and_lists_are_kept() -> None:
    """A set, a frozenset and a tuple are the same sorted set of texts; a list stays a list."""
    assert flat_text([{"b", "a"}, ("b", "a", "b"), frozenset({"b", "a"})]) == '[["a","b"],["a","b"],["a","b"]]'
    assert flat_text([["b", "a"]]) == '[{"json":"[\\"b\\",\\"a\\"]"}]'


@pytest.mark.parametrize("value", [{1, 2}, ("a", 1), float("nan"), object(), {"a": {1}}, b"x"])
def test_what_cannot_be_recorded_is_refused(value: Any) -> None:
    """A value that no JSON can write is refused, so that a decision on it is never recorded otherwise."""
    with pytest.raises(InputRefused):
        flat_text([value])


def test_lone_surrogates_are_refused() -> None:
    """A lone surrogate anywhere in a decision is refused and not repeated in the error."""
    with pytest.raises(InputRefused) as refused:
        decision_public(MEMBERS_GOLDEN._replace(model="\ud800"), "ab", 1, 1, "", "")
    assert "\ud800" not in str(refused.value)


def test_words_of_an_enumeration_are_texts() -> None:
    """A member of a text enumeration is recorded as its text."""
    assert flat_text([Word.VALID]) == '["valid"]'


class Word(StrEnum):
    """A vocabulary."""

    VALID = "valid"
