"""`CompiledEnforcer` equals stock pycasbin in result, named row and raising, on generated models of many shapes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.models import PATTERN_SHAPES, SHAPES, answer, compiled, policies, stock


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data())
def test_it_answers_as_stock_does(name: str, data: st.DataObject) -> None:
    """Whatever rows, effect and values: the same answer, the same row, the same error; asked once and again."""
    shape = SHAPES[name]
    effect = data.draw(st.sampled_from(shape.effects))
    lines = data.draw(policies(shape))
    ours, theirs = compiled(shape, effect, lines), stock(shape, effect, lines)
    for request in data.draw(st.lists(st.tuples(*shape.request), min_size=1, max_size=5)):
        expected = answer(theirs, request)
        assert answer(ours, request) == expected
        assert answer(ours, request) == expected
        assert plainly(ours, request) == plainly(theirs, request)


@pytest.mark.parametrize("name", PATTERN_SHAPES)
@given(data=st.data())
def test_pattern_roles_answer_as_a_fresh_stock_does(name: str, data: st.DataObject) -> None:
    """Roles by patterns give what stock gives when it is asked first; in stock, questions may change later answers."""
    shape = PATTERN_SHAPES[name]
    effect = data.draw(st.sampled_from(shape.effects))
    lines = data.draw(policies(shape, odd=False))
    ours = compiled(shape, effect, lines)
    for request in data.draw(st.lists(st.tuples(*shape.request), min_size=1, max_size=4)):
        assert answer(ours, request) == answer(stock(shape, effect, lines), request)


def plainly(enforcer: Any, request: tuple[Any, ...]) -> Any:
    """Return what `enforce` and `batch_enforce` give, or the kind of error."""
    try:
        allowed = enforcer.enforce(*request)
        return allowed, enforcer.batch_enforce([request, request])
    except Exception as error:  # noqa: BLE001  whatever Casbin raises is what is compared
        return type(error)
