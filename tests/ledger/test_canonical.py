"""Canonical JSON: equal to RFC 8785 for the log's values, and closed to everything else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policy_engine.errors import InputRefused, VerificationFailed
from policy_engine.ledger.canonical import DEPTH_LEVELS, INTEGER_MAX, canonical, parse

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NAMES = st.text(st.characters(max_codepoint=127), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)

GOLDEN = [
    ({}, b"{}"),
    ([], b"[]"),
    ({"b": 1, "a": [True, False, None]}, b'{"a":[true,false,null],"b":1}'),
    ({"10": 1, "9": 2, "A": 3, "a": 4, "": 5}, b'{"":5,"10":1,"9":2,"A":3,"a":4}'),
    ('\u20ac$\x0f\nA\'B"\\\\"/', b'"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'),
    ("\b\t\n\f\r\x00\x1f\x7f\x80\u2028", b'"\\b\\t\\n\\f\\r\\u0000\\u001f\x7f\xc2\x80\xe2\x80\xa8"'),
    ("\U0001f600", b'"\xf0\x9f\x98\x80"'),
    ([INTEGER_MAX, -INTEGER_MAX, 0], b"[9007199254740991,-9007199254740991,0]"),
]


@pytest.mark.parametrize(("value", "wanted"), GOLDEN)
def test_golden_vectors_never_change(value: Any, wanted: bytes) -> None:
    """Each value has exactly the bytes written here, which are those of RFC 8785 and permanent."""
    assert canonical(value) == wanted


def rfc8785(value: Any) -> str:
    """Write a value by the letter of RFC 8785, slowly: names sorted by UTF-16 units, the five short escapes."""
    if isinstance(value, str):
        short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
        return '"' + "".join(short.get(ord(c)) or (f"\\u{ord(c):04x}" if ord(c) < 32 else c) for c in value) + '"'
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(rfc8785(item) for item in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(f"{rfc8785(name)}:{rfc8785(value[name])}" for name in names) + "}"


@given(VALUES)
def test_equals_a_slow_writer_of_the_standard(value: Any) -> None:
    """For every value of the log the bytes are those that a literal reading of RFC 8785 gives."""
    assert canonical(value) == rfc8785(value).encode()


@given(VALUES)
def test_reading_gives_back_what_was_written(value: Any) -> None:
    """What canonical bytes are read as has the same canonical bytes and the same value."""
    assert parse(canonical(value), "it") == value


@pytest.mark.parametrize(
    "value",
    [0.5, 1.0, float("nan"), [float("inf")], {"a": 2**53}, -(2**53), {1: "a"}, {"é": 1}, {None: 1}, b"a", {"a": {1}}],
)
def test_refuses_what_has_no_canonical_form(value: Any) -> None:
    """Fractions, large numbers, names that are not ASCII text, and values that are no JSON are refused."""
    with pytest.raises(InputRefused):
        canonical(value)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_refuses_lone_surrogates(text: str) -> None:
    """Text that UTF-8 cannot write is refused, and the error does not repeat it."""
    with pytest.raises(InputRefused) as refused:
        canonical({"name": text})
    assert text not in str(refused.value)


def test_nesting_has_a_limit() -> None:
    """The deepest nesting allowed is written and read; one level more is refused."""
    value: Any = 1
    for _ in range(DEPTH_LEVELS):
        value = [value]
    assert parse(canonical(value), "it") == value
    with pytest.raises(InputRefused):
        canonical([value])
    with pytest.raises(VerificationFailed):
        parse(b"[" + canonical(value) + b"]", "it")


@pytest.mark.parametrize(
    "data",
    [
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1}\n',
        b'{"x":1,"y":}',
        b'{"x":}',
        b'{"x":[1,],"y":1}',
        b'{"x":[,1],"y":1}',
        b'{"x":1,}',
        b'{"x":1"y":2}',
        b"1.0",
        b"1e3",
        b"-0",
        b"9007199254740992",
        b"NaN",
        b'"\\u0041"',
        b'"\\ud800"',
        b'{"\xc3\xa9":1}',
        b"\xff",
        b"",
        b"[" * 100_000,
        b"9" * 5_000,
    ],
)
def test_reading_refuses_other_spellings(data: bytes) -> None:
    """Bytes that writing would not have produced are refused, whatever they mean."""
    with pytest.raises(VerificationFailed, match="the entry"):
        parse(data, "the entry")


PLAIN = st.text("abc _,:{}[]'/-0", max_size=6)
FLAT = st.lists(
    st.tuples(
        st.sampled_from(["a", "at", "b", "kind", "v", "a_b", "A", "a1"]),
        st.recursive(
            PLAIN | st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.sampled_from([9 * 10**15, 10**15]),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
    ),
    max_size=5,
)


@given(FLAT, st.integers(0, 200), st.sampled_from([b"", b" ", b",", b"-", b"0", b'"', b"\\", b"\n", b"\x7f", b"1"]))
def test_objects_of_the_usual_form_are_read_as_all_others(members: Any, place: int, put: bytes) -> None:
    """Names in any order or twice, spaces, signs and zeros anywhere: what is read is what has just these bytes."""
    data = ("{" + ",".join(f"{json.dumps(name)}:{rfc8785(value)}" for name, value in members) + "}").encode()
    data = data[:place] + put + data[place:]
    try:
        plain = json.loads(data)
        wanted = canonical(plain) == data
    except (ValueError, InputRefused):
        wanted = False
    try:
        assert parse(data, "it") == plain
        assert wanted
    except VerificationFailed:
        assert not wanted


@given(st.binary(max_size=20) | VALUES.map(lambda value: json.dumps(value).encode()))
@example(b'{"a":[1,2]}')
def test_whatever_is_read_is_canonical(data: bytes) -> None:
    """Bytes are either refused or the canonical bytes of what they are read as."""
    try:
        value = parse(data, "it")
    except VerificationFailed:
        return
    assert canonical(value) == data
