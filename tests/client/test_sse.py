"""Server-Sent Events from bytes: any split gives the same events, and nothing grows without bound."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.client.sse import EVENT_BYTES_MAX, Event, Parser, Unreadable

STREAM = (
    b'retry: 1500\n\n: heartbeat\n\nid: 7\nevent: changed\ndata: {"a":\ndata:1}\n\n'
    b"id: 8\r\nevent:void\r\ndata: \xc3\xa9\r\n\r\ndata: bare\n\nevent: nothing\n\nid\ndata\n\n"
)
EVENTS = [Event("changed", '{"a":\n1}'), Event("void", "é"), Event("message", "bare"), Event("message", "")]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_any_split_of_the_bytes_gives_the_same_events(cuts: list[int]) -> None:
    """A connection delivers as it likes."""
    places = [0, *sorted(cuts), len(STREAM)]
    parser = Parser()
    found = [event for a, b in pairwise(places) for event in parser.feed(STREAM[a:b])]
    assert found == EVENTS
    assert parser.retry_ms == 1_500


def test_the_id_is_that_of_the_last_whole_event() -> None:
    """An event that is cut off in the middle was not heard, so it is asked for again."""
    parser = Parser()
    parser.feed(b"id: 7\ndata: x\n\nid: 8\ndata: y\n")
    assert parser.last_id == "7"


@pytest.mark.parametrize("text", [b"data: \xff\n\n", b"\xfe: x\n"])
def test_what_is_no_text_is_refused(text: bytes) -> None:
    """The stream is UTF-8, or it is none of ours."""
    with pytest.raises(Unreadable):
        Parser().feed(text)


@pytest.mark.parametrize("piece", [b"x" * 1_000, b"data: x\n" * 100])
def test_an_event_without_an_end_is_refused(piece: bytes) -> None:
    """Neither a line nor an event may grow for ever."""
    parser = Parser()
    with pytest.raises(Unreadable):
        for _ in range(EVENT_BYTES_MAX // len(piece) * 2):
            parser.feed(piece)


@pytest.mark.parametrize("text", [b"retry: soon\n\n", b"retry: -1\n\n", b"retry: 9999999999\n\n", b"id: a\0b\n\n"])
def test_odd_fields_are_left_out(text: bytes) -> None:
    """A pause that is no number of milliseconds, and an id with a NUL, are ignored, as the standard says."""
    parser = Parser()
    assert (parser.feed(text), parser.retry_ms, parser.last_id) == ([], None, None)
