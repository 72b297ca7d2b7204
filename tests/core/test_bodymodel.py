"""The model of a body: what every reader of JSON would find, found in any pieces; everything else is refused."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.bodymodel import SLICE_CHARACTERS, BodyProblem, BodyRefused, ModelScan, find_model
from policy_engine.limits import LIMITS

SMALL = replace(LIMITS, guarded_depth_levels=4, id_characters=8)


def outcome(body: bytes, pieces: list[int] = [], **options: Any) -> str | BodyProblem:  # noqa: B006  never changed
    """Return the model, or why there is none, feeding the body cut at these places."""
    scan = ModelScan(**options)
    try:
        for start, end in zip([0, *pieces], [*pieces, len(body)], strict=True):
            scan.feed(body[start:end])
        return scan.end()
    except BodyRefused as refused:
        return refused.reason


def at_once(body: bytes) -> str | BodyProblem:
    """Return the model of a whole body, or why there is none."""
    try:
        return find_model(body)
    except BodyRefused as refused:
        return refused.reason


def by_the_library(body: bytes) -> str | None:
    """Return the model that the standard library's reader finds when it looks at every pair; `None` if unclear."""
    found: list[list[tuple[str, Any]]] = []

    def pairs(members: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        found.append(members)
        return members

    value = json.loads(body.decode("utf-8"), object_pairs_hook=pairs)
    if not found or value is not found[-1]:
        return None
    models = [(name, each) for name, each in value if name.casefold() == "model"]
    if len(models) != 1 or models[0][0] != "model" or not isinstance(models[0][1], str) or not models[0][1]:
        return None
    return models[0][1] if len(models[0][1]) <= LIMITS.id_characters else None


def spelled(text: str, escaped: list[bool]) -> str:
    """Return a JSON string of the text, in which some characters are written as escapes."""
    written = ""
    for position, character in enumerate(text):
        if escaped[position % len(escaped)] and ord(character) < 0x10000:
            written += f"\\u{ord(character):04x}"
        else:
            written += json.dumps(character, ensure_ascii=False)[1:-1]
    return f'"{written}"'


NAMES = st.one_of(st.sampled_from(["model", "Model", "messages", "models", "model ", "\u212aey"]), st.text(max_size=6))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.just("model"), st.text(max_size=5)), inner, max_size=3),
    ),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return the bytes of an object whose names may stand twice, be spelled with escapes, and have space around."""
    space = st.sampled_from(["", " ", "\n\t", "\r\n "])
    escaped = st.lists(st.booleans(), min_size=1, max_size=4)
    written = []
    for name in draw(st.lists(NAMES, max_size=4)):
        value = draw(st.one_of(st.sampled_from(["fable-5", "open-1", "", "n\u00e4me"]), VALUES))
        text = json.dumps(value, ensure_ascii=draw(st.booleans()))
        if isinstance(value, str):
            text = spelled(value, draw(escaped))
        written.append(f"{draw(space)}{spelled(name, draw(escaped))}{draw(space)}:{draw(space)}{text}{draw(space)}")
    return f"{draw(space)}{{{','.join(written)}}}{draw(space)}".encode("utf-8", "surrogatepass")


@given(bodies(), st.data())
def test_it_finds_what_the_library_finds_whatever_the_pieces(body: bytes, data: st.DataObject) -> None:
    """A valid object gives the one model that all its pairs give, or is refused, and pieces change nothing."""
    pieces = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    found = outcome(body)
    assert outcome(body, pieces) == found
    assert at_once(body) == found
    try:
        expected = by_the_library(body)
    except UnicodeDecodeError:
        assert found is BodyProblem.NOT_UTF8
        return
    if isinstance(found, BodyProblem):
        assert expected is None or found is BodyProblem.NAME_UNCLEAR  # a NUL or half a pair in some name
    else:
        assert found == expected


@given(bodies(), st.data())
def test_one_byte_changed_never_shows_another_model_than_the_library(body: bytes, data: st.DataObject) -> None:
    """Of a body with a byte changed, left out or put in, only what the library also reads gives a model."""
    place = data.draw(st.integers(0, len(body)))
    byte = data.draw(st.one_of(st.binary(max_size=1), st.sampled_from([b'"', b"\\", b"}", b"{", b",", b"/", b"'"])))
    changed = body[:place] + byte + body[place + data.draw(st.integers(0, 1)) :]
    found = outcome(changed)
    assert at_once(changed) == found
    if isinstance(found, BodyProblem):
        return
    try:
        assert found == by_the_library(changed)
    except json.JSONDecodeError:  # a comma, colon or line break inside a value: no strict reader takes it
        assert b"[" in changed or changed.count(b"{") > 1 or any(each in changed for each in b"\n\r\t")


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_or_read_as_the_library_does(body: bytes) -> None:
    """No bytes make the scan fail in any other way than a refusal."""
    found = outcome(body)
    assert isinstance(found, BodyProblem) or found == by_the_library(body)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"fable-5"}', "fable-5"),
        (b' {"messages":[{"model":"a"}], "model" : "fable-5" } \n', "fable-5"),
        (b'{"\\u006dodel":"fable-5"}', "fable-5"),
        (b'{"model":"a","model":"b"}', BodyProblem.MODEL_TWICE),
        (b'{"model":"a","\\u006dodel":"b"}', BodyProblem.MODEL_TWICE),
        (b'{"\\u006d\\u006F\\u0064el":"a","model":"b"}', BodyProblem.MODEL_TWICE),
        (b'{"model":"a","Model":"b"}', BodyProblem.MODEL_TWICE),
        (b'{"MODEL":"a"}', BodyProblem.NAME_UNCLEAR),
        (b'{"model\\u0000":"a","model":"b"}', BodyProblem.NAME_UNCLEAR),
        (b'{"mode\\ud800l":"a","model":"b"}', BodyProblem.NAME_UNCLEAR),
        (b'{"model":["a"]}', BodyProblem.MODEL_NOT_TEXT),
        (b'{"model":{"id":"a"}}', BodyProblem.MODEL_NOT_TEXT),
        (b'{"model":null}', BodyProblem.MODEL_NOT_TEXT),
        (b'{"model":5 }', BodyProblem.MODEL_NOT_TEXT),
        (b'{"model":"\\ud800"}', BodyProblem.MODEL_NOT_TEXT),
        (b'{"model":""}', BodyProblem.MODEL_EMPTY),
        (b"{}", BodyProblem.MODEL_MISSING),
        (b'{"input":"x"}', BodyProblem.MODEL_MISSING),
        (b'["model"]', BodyProblem.NOT_AN_OBJECT),
        (b'"model"', BodyProblem.NOT_AN_OBJECT),
        (b"5", BodyProblem.NOT_AN_OBJECT),
        (b"", BodyProblem.NOT_JSON),
        (b"model=fable-5", BodyProblem.NOT_JSON),
        (b"\xef\xbb\xbf{}", BodyProblem.NOT_JSON),
        (b'{"model":"a"', BodyProblem.NOT_JSON),
        (b'{"model":"a"}{"model":"b"}', BodyProblem.NOT_JSON),
        (b'{"model":"a"} // "', BodyProblem.NOT_JSON),
        (b'{/*"*/"model":"a"}', BodyProblem.NOT_JSON),
        (b"{'model':'a'}", BodyProblem.NOT_JSON),
        (b'{model:"a"}', BodyProblem.NOT_JSON),
        (b'{"model":"a",}', BodyProblem.NOT_JSON),
        (b'{"model" "a"}', BodyProblem.NOT_JSON),
        (b'{"n":NaN,"model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":01,"model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":[1}],"model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":["a\x00b"],"model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":["a\nb"],"model":"a"}', "a"),
        (b'{"a\nb":1,"model":"a"}', BodyProblem.NOT_JSON),
        (b'{"model":"a\nb"}', BodyProblem.NOT_JSON),
        (b'{"n":"\\x","model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":"\\u00g0","model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":' + b"1" * 1_025 + b',"model":"a"}', BodyProblem.NOT_JSON),
        (b'{"n":"\xc0\xa2","model":"a"}', BodyProblem.NOT_UTF8),
        (b'{"model":"a"}\xc3', BodyProblem.NOT_UTF8),
        ('{"model":"a"}'.encode("utf-16-le"), BodyProblem.NOT_JSON),
    ],
)
def test_each_kind_of_body_has_its_own_outcome(body: bytes, expected: str | BodyProblem) -> None:
    """A body gives its model, or the reason that fits, in one piece and byte by byte."""
    assert outcome(body) == expected
    assert at_once(body) == expected
    assert outcome(body, list(range(1, len(body)))) == expected


def test_names_that_are_too_long_to_matter_are_let_by_unless_a_reader_could_cut_them() -> None:
    """A long name is none of ours; one that a reader may cut at a NUL, or whose half characters it may drop, is."""
    long = b'"' + b"m" * 5_000 + b'":1'
    assert outcome(b"{" + long + b',"model":"a"}') == "a"
    assert outcome(b'{"model\\u0000' + b"x" * 5_000 + b'":"b","model":"a"}') is BodyProblem.NAME_UNCLEAR
    assert outcome(b'{"m' + b"\\ud800" * 500 + b'odel":"b","model":"a"}') is BodyProblem.NAME_UNCLEAR


def test_limits_hold_at_the_edge_and_one_past_it() -> None:
    """Nesting and the length of the model are accepted at their limits and refused one past them."""
    assert outcome(b'{"n":[[[[]]]],"model":"a"}', limits=SMALL) is BodyProblem.TOO_DEEP
    assert outcome(b'{"n":[[[]]],"model":"a"}', limits=SMALL) == "a"
    assert outcome(b'{"model":"12345678"}', limits=SMALL) == "12345678"
    assert outcome(b'{"model":"123456789"}', limits=SMALL) is BodyProblem.MODEL_TOO_LONG
    assert outcome(b'{"model":"' + b"1" * 97 + b'"}', limits=SMALL) is BodyProblem.MODEL_TOO_LONG


def test_of_members_at_the_top_there_may_be_so_many() -> None:
    """Each costs by itself, and all others on the event loop wait: 1 MB of them had taken 1.7 seconds."""
    inner = b'{"n":{' + b",".join(b'"%d":1' % each for each in range(9_000)) + b'},"model":"a"}'
    assert outcome(inner) == at_once(inner) == "a"
    for head, repeated in ((b'{"model":"a"', b',"n":1'), (b'{"model":"a"', b',"":""')):
        most = head + repeated * (LIMITS.guarded_members_count - 1)
        assert outcome(most + b"}", [20_000]) == at_once(most + b"}") == "a"
        assert outcome(most + repeated + b"}") is at_once(most + repeated + b"}") is BodyProblem.TOO_MANY
    begun = time.process_time()
    assert at_once(b"{" + b'"n":1,' * 170_000 + b'"model":"a"}') is BodyProblem.TOO_MANY
    assert time.process_time() - begun < 0.5


def test_members_that_choose_other_models_can_be_refused() -> None:
    """A body with a refused member is refused, in whatever case and spelling."""
    refused = frozenset({"models", "fallbacks"})
    for name in (b"models", b"Models", b"\\u0066allbacks"):
        assert outcome(b'{"model":"a","' + name + b'":[]}', refused=refused) is BodyProblem.NAME_REFUSED
    assert outcome(b'{"model":"a","fallback":[]}', refused=refused) == "a"


def test_a_long_body_is_scanned_in_slices_and_a_late_second_model_is_found() -> None:
    """The scan goes on through megabytes, escapes at every border of a slice included, and finds what is last."""
    prompt = b"\\n\\u00e9\\\\" * (SLICE_CHARACTERS // 3) + "\u00e9".encode() * SLICE_CHARACTERS
    body = b'{"model":"a","messages":[{"content":"' + prompt + b'"}],"n":1.5e3'
    assert outcome(body + b"}") == "a"
    assert outcome(body + b"}", list(range(1, len(body), 4_099))) == "a"
    assert outcome(body + b',"model":"b"}') is BodyProblem.MODEL_TWICE


def test_a_second_model_raises_before_the_object_is_whole() -> None:
    """What was fed before the piece that raises is no whole object, so no reader takes it for one.

    Control: policy_engine/core/bodymodel.py: `if self.model is not None:`
    """
    scan = ModelScan()
    scan.feed(b'{"model":"open-1","messages":[]')
    assert scan.model == "open-1"
    with pytest.raises(BodyRefused):
        scan.feed(b',"model":"fable-5"}')
    with pytest.raises(json.JSONDecodeError):
        json.loads(b'{"model":"open-1","messages":[]')


def test_a_beginning_alone_gives_no_model() -> None:
    """Of a body that goes on unseen no model is taken, and the reason says whether one was in what was seen."""
    with pytest.raises(BodyRefused) as cut:
        find_model(b'{"model":"open-1",', complete=False)
    with pytest.raises(BodyRefused) as none:
        find_model(b'{"messages":[', complete=False)
    assert find_model(b'{"model":"open-1"}') == "open-1"
    assert (cut.value.reason, none.value.reason) == (BodyProblem.INCOMPLETE, BodyProblem.MODEL_NOT_REACHED)
