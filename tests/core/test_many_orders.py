"""Ten thousand directives cost what the different ones among them cost, and nothing is remembered beyond its time."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core import orders
from policy_engine.core.instants import ENDLESS
from policy_engine.core.orders import Directive, OrderBook, directive_blocks
from tests.core.sample import NOW, asked
from tests.core.test_directives import ABROAD, BOTH, COMPANY, INDIAN

DIRECTIVES = st.builds(
    Directive,
    id=st.sampled_from(("d1", "d2", "d3")),
    start=st.sampled_from((-ENDLESS, NOW - 1, NOW, NOW + 1)),
    until=st.sampled_from((NOW, NOW + 1, NOW + 2, ENDLESS)),
    models=st.none() | st.frozensets(st.sampled_from(("summit-4", "summit-5", "other")), max_size=2),
    blocks=st.frozensets(st.sampled_from((*BOTH, "odd")), max_size=2),
)


def blocks(book: OrderBook, at: int) -> dict[str, tuple[str, ...]]:
    """Return the blocks that hold for an Indian abroad who asks for a derivative of summit-4."""
    return directive_blocks(book, asked("summit-5", "summit-4"), INDIAN, COMPANY, ABROAD, at)


@given(directives=st.lists(DIRECTIVES, max_size=6), times=st.lists(st.integers(NOW - 2, NOW + 3), min_size=1))
def test_a_book_asked_at_any_times_answers_as_one_that_was_never_asked(
    directives: list[Directive], times: Iterable[int]
) -> None:
    """Forward and back in time, a book that remembers what is in force answers as a new one."""
    held = OrderBook(directives)
    for at in times:
        assert blocks(held, at) == blocks(OrderBook(directives), at)


@given(directives=st.lists(DIRECTIVES, max_size=6), at=st.integers(NOW - 2, NOW + 3))
def test_directives_together_block_what_each_blocks(directives: list[Directive], at: int) -> None:
    """The blocks of several directives are those of each by itself, and every id is named."""
    each: dict[str, set[str]] = {}
    for directive in directives:
        for block, ids in blocks(OrderBook([directive]), at).items():
            each.setdefault(block, set()).update(ids)
    assert blocks(OrderBook(directives), at) == {block: tuple(sorted(ids)) for block, ids in sorted(each.items())}


def test_ten_thousand_directives_that_say_the_same_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is hit is worked out once for each kind of block; whom nothing exempts is not looked for in exemptions."""
    many = [
        Directive(f"d{n:05}", -ENDLESS, ENDLESS, frozenset(("summit-4",)), frozenset(BOTH[: 1 + n % 2]))
        for n in range(10_000)
    ]
    looked = {"hits": 0, "exempt": 0}
    hits, exempt = orders._hits, orders._exempt

    def counted_hits(*given: object) -> list[str]:
        looked["hits"] += 1
        return hits(*given)  # type: ignore[arg-type]  # passed on as they came

    def counted_exempt(*given: object) -> bool:
        looked["exempt"] += 1
        return exempt(*given)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(orders, "_hits", counted_hits)
    monkeypatch.setattr(orders, "_exempt", counted_exempt)
    found = blocks(OrderBook(many), NOW)
    assert {block: len(ids) for block, ids in found.items()} == {BOTH[0]: 10_000, BOTH[1]: 5_000}
    assert looked == {"hits": 2, "exempt": 0}
