"""Several indexes asked as one: the same rules as one index over all, at the positions of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.index import Index, OneOf, positions
from policy_engine.core.segments import Segments
from policy_engine.errors import InputRefused

ACCEPTED = st.none() | st.frozensets(st.sampled_from("abc"), min_size=1)


def index_of(accepted: Sequence[Any]) -> Index:
    """Return the index of rules that accept some words each."""
    return Index([OneOf(0, accepted)], len(accepted))


@given(st.lists(st.tuples(ACCEPTED, st.integers(0, 3)), max_size=40), st.sampled_from("abcd"))
def test_segments_match_what_one_index_matches(rules: list[tuple[Any, int]], word: str) -> None:
    """However rules are dealt, positions are those of one index over all of them, ascending, as a tuple and as bits."""
    whole = index_of([accepted for accepted, _ in rules])
    dealt = [[at for at, (_, segment) in enumerate(rules) if segment == number] for number in range(4)]
    segments = Segments((index_of([rules[at][0] for at in places]), places) for places in dealt)
    assert segments.places((word,)) == whole.places((word,)) == positions(whole.matching((word,)))
    assert segments.matching((word,)) == whole.matching((word,))
    assert segments.rule_count == whole.rule_count == len(rules)


def test_what_one_segment_cannot_read_is_refused() -> None:
    """A value that a term of any segment cannot read raises, as in one index, and is not readable."""
    segments = Segments(((Index([], 1), range(1)), (index_of([frozenset("a")]), range(1, 2))))
    assert segments.readable(("a",)) and not segments.readable((3,))
    assert segments.places(("b",)) == (0,)
    with pytest.raises(InputRefused):
        segments.places((3,))
