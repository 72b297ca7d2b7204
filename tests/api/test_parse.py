"""Strict JSON: what a body may be, what it may not, and that the quick check for duplicates is never wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy_engine.api import parse
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS


def test_an_object_is_returned_as_it_stands() -> None:
    """A plain document comes out as the values it holds."""
    body = '{"a": {"b": [1, 2.5, "ü:\\n", null, true]}, "c": {}}'.encode()
    assert parse.parse_object(body) == {"a": {"b": [1, 2.5, "ü:\n", None, True]}, "c": {}}


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b"[]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": Infinity}', "not valid JSON"),
        (b'{"a": -Infinity}', "not valid JSON"),
        (b'{"a": 1e400}', "too large for a double"),
        (b'{"a": -1e400}', "too large for a double"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\\udc00 "}', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (b'{"a": 1', "ends too early"),
        (b'{"a": 1,}', "not valid JSON at character"),
        (b'{"a": 01}', "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b'{"a": 1} {"a": 2}', "not valid JSON"),
        (b'{"a": "\n"}', "not valid JSON"),
        (b'{"a": 1} // comment', "not valid JSON"),
    ],
)
def test_what_is_not_strict_json_is_refused_with_a_sentence(body: bytes, sentence: str) -> None:
    """Each kind of malformed body is refused, and the sentence says which it is without quoting the body."""
    with pytest.raises(InputRefused, match=sentence):
        parse.parse_object(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"subject": 1, "subject": 2}',
        b'{"a": {"id": 1, "id": 1}}',
        b'{"a": [{"b": [{"id": 1, "x": 0, "id": 1}]}]}',
        b'{"id": 1, "\\u0069d": 2}',
        b'{"a:b": 1, "a:b": 2}',
        b'{"a": "::", "b": {"c": ":\\"", "c": 1}}',
        b'{"": 1, "": 2}',
        '{"é": 1, "\\u00e9": 2}'.encode(),
    ],
)
def test_a_member_named_twice_is_refused_at_every_depth(body: bytes) -> None:
    """Two members of one name are two readings of one request, however the names are written."""
    with pytest.raises(InputRefused, match="twice"):
        parse.parse_object(body)


def test_names_that_differ_in_normalisation_or_case_are_different_names() -> None:
    """Names are compared as they are: nothing is folded or composed."""
    body = '{"é": 1, "e\\u0301": 2, "E": 3, "e": 4}'.encode()
    assert len(parse.parse_object(body)) == 4


def nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize("levels", [33, 1_000, 1_025, 10_000])
def test_deep_nesting_is_refused(opening: bytes, levels: int) -> None:
    """One level beyond the limit and ten thousand alike are refused in one sentence, without exhausting the stack."""
    closing = b"}" if opening != b"[" else b"]"
    body = b'{"x":' + opening * (levels - 1) + b"1" + closing * (levels - 1) + b"}"
    with pytest.raises(InputRefused, match="nested"):
        parse.parse_object(body)


def test_the_deepest_allowed_nesting_passes() -> None:
    """The limit itself is allowed."""
    assert parse.parse_object(nested(LIMITS.json_depth_levels))


@pytest.mark.parametrize(("length", "refused"), [(100, False), (101, True)])
def test_the_byte_limit_is_exact(length: int, refused: bool) -> None:
    """A body of the limit passes and one byte more is too large, before anything is parsed."""
    limits = replace(LIMITS, body_bytes=100)
    body = b"{" + b" " * (length - 2) + b"}"
    if refused:
        with pytest.raises(TooLarge, match="longer than 100 bytes"):
            parse.parse_object(body, limits=limits)
    else:
        assert parse.parse_object(body, limits=limits) == {}


def test_documents_may_be_longer_than_decision_bodies() -> None:
    """A route for documents passes its own bound."""
    body = b"{" + b" " * LIMITS.body_bytes + b"}"
    assert parse.parse_object(body, bytes_max=LIMITS.document_bytes) == {}


@pytest.mark.parametrize(("members", "refused"), [(10, False), (11, True)])
def test_the_member_limit_counts_every_depth(members: int, refused: bool) -> None:
    """Members of all objects count together."""
    limits = replace(LIMITS, json_members_count=10)
    body = json.dumps({"a": [{str(n): n} for n in range(members - 1)]}).encode()
    if refused:
        with pytest.raises(InputRefused, match="more than 10 members"):
            parse.parse_object(body, limits=limits)
    else:
        assert parse.parse_object(body, limits=limits)


names = st.sampled_from(["id", "type", "a:b", ":", 'q"', "back\\slash", "", "é", "id:"])
leaves = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", ":", "a:b", '":"', "\\", '\\":', "é\n"])
Pairs = list[tuple[str, Any]]


def written(value: Any, escape: bool) -> str:
    """Write a tree whose objects are lists of pairs, so that a name may stand twice."""
    if isinstance(value, dict):
        pairs: Pairs = value["pairs"]
        return "{" + ", ".join(f"{text(name, escape)} :{written(member, escape)}" for name, member in pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(item, escape) for item in value) + "]"
    return text(value, escape) if isinstance(value, str) else json.dumps(value)


def text(value: str, escape: bool) -> str:
    plain = json.dumps(value, ensure_ascii=escape)
    return plain.replace(":", "\\u003a") if escape else plain


trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.tuples(names, inner), max_size=4).map(lambda pairs: {"pairs": pairs})
    ),
    max_leaves=12,
)


def names_twice(value: Any) -> bool:
    if isinstance(value, dict):
        seen = [name for name, _ in value["pairs"]]
        return len(seen) != len(set(seen)) or any(names_twice(member) for _, member in value["pairs"])
    return isinstance(value, list) and any(names_twice(item) for item in value)


@given(st.lists(st.tuples(names, trees), max_size=4), st.booleans())
@example([("id", ":"), ("id", 1)], False)
@example([("a:b", [{"pairs": [("id", 1), ("id", 2)]}])], False)
@example([("id", 1), ("x", '":"')], True)
def test_the_quick_check_for_duplicates_agrees_with_the_tree_that_was_written(pairs: Pairs, escape: bool) -> None:
    """A document is refused exactly when one of its objects names a member twice, whatever its strings hold."""
    tree = {"pairs": pairs}
    body = written(tree, escape).encode()
    if names_twice(tree):
        with pytest.raises(InputRefused, match="twice"):
            parse.parse_object(body)
    else:
        assert parse.parse_object(body) == json.loads(body)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]":,\\u0019ntrue -.eE', max_size=60).map(str.encode))
def test_any_bytes_give_an_object_or_a_refusal(body: bytes) -> None:
    """No bytes whatever raise anything but a refusal, and what passes the standard parser calls the same object."""
    try:
        value = parse.parse_object(body)
    except InputRefused:
        return
    assert value == json.loads(body)
