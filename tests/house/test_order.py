"""The order of the tests loses none of them, and names files that are there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.house import order
from tests.house.repository import ROOT


class Named:
    """As much of a test as its order depends on."""

    def __init__(self, nodeid: str) -> None:
        self.nodeid = nodeid


@pytest.mark.parametrize("short_count", [0, 3, 1_000])
def test_every_test_stands_in_the_order_once(short_count: int) -> None:
    """Long files come first in each half, in their own order; everything else is between and behind them."""
    names = [f"{file}::test_{number}" for file in (*order.SECOND_HALF, *order.FIRST_HALF) for number in range(2)]
    short = [f"tests/short.py::test_{number}" for number in range(short_count)]
    items: Any = [Named(name) for name in (*short, *names)]
    found = [item.nodeid for item in order.ordered(items)]
    assert sorted(found) == sorted((*short, *names))
    assert found[0] == f"{order.FIRST_HALF[0]}::test_0"
    assert [name for name in found if name in short] == short
    if short_count == 1_000:
        assert found[len(found) // 2] == f"{order.SECOND_HALF[0]}::test_0"


def test_the_long_files_are_there() -> None:
    """A file that was renamed takes its place in the order along."""
    assert [file for file in (*order.FIRST_HALF, *order.SECOND_HALF) if not (ROOT / file).is_file()] == []
