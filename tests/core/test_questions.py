"""Questions as programs write them: what becomes of them, and that both sides read the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.api.authzen import read_evaluation
from policy_engine.core.facts import Location
from policy_engine.core.questions import body_of, request_of, requests_of
from policy_engine.errors import InputRefused

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), min_size=1, max_size=20)
PLACE = st.one_of(
    st.none(),
    st.sampled_from(("US", "UA-43")),
    st.fixed_dictionaries({}, optional={"country": TEXT, "region": TEXT, "anonymiser": st.booleans()}),
)
QUESTIONS = st.fixed_dictionaries(
    {"subject": TEXT, "model": TEXT, "action": TEXT},
    optional={
        "tenant": st.none() | TEXT,
        "location": PLACE,
        "serving_region": st.none() | TEXT,
        "subject_type": TEXT,
        "resource_type": TEXT,
    },
)
FULL: dict[str, Any] = {"subject": "alice", "model": "fable-5", "action": "infer", "tenant": "acme", "location": "US"}


@given(QUESTIONS)
def test_what_is_sent_is_read_as_what_was_asked(question: dict[str, Any]) -> None:
    """The service reads the body of a request as that request, so near and far engines decide the same."""
    asked = request_of(**question)
    read = read_evaluation(body_of(asked))
    for name in type(asked).__dataclass_fields__:
        if name != "raw":
            assert getattr(read, name) == getattr(asked, name), name


@pytest.mark.parametrize("name", ["subject", "model", "action", "tenant", "serving_region", "subject_type"])
@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", "a\u2028b", "\ud800", 7, ["x"], b"x", "\x00"])
def test_a_malformed_name_is_refused_before_anything_is_sent(name: str, value: Any) -> None:
    """By its place, and without saying it back."""
    with pytest.raises(InputRefused) as refused:
        request_of(**{**FULL, name: value})
    assert refused.value.where == name
    assert "xxx" not in str(refused.value)


@pytest.mark.parametrize(
    "value", [7, {"contry": "US"}, {"country": "a\nb"}, {"anonymiser": "no"}, {"region": "x" * 257}]
)
def test_a_malformed_place_is_refused(value: Any) -> None:
    """An unknown member too: a misspelt one would be a fact that nobody reads."""
    with pytest.raises(InputRefused, match="location"):
        request_of(**{**FULL, "location": value})


def test_the_place_is_read_as_the_design_says() -> None:
    """`"US"` is a country without region, `"UA-43"` both, and an absent anonymiser means not detected."""
    assert request_of(**FULL).location == Location("US", None, False)
    assert request_of(**{**FULL, "location": "UA-43"}).location == Location("UA", "UA-43", False)
    assert request_of(**{**FULL, "location": {"country": "US", "region": None}}).location == Location("US")


@pytest.mark.parametrize("wrong", [{}, {"subject": "a"}, {**FULL, "modle": "x"}, "alice", None])
def test_one_of_many_is_refused_by_its_place(wrong: Any) -> None:
    """Missing and unknown keywords name the question that has them."""
    with pytest.raises(InputRefused, match=r"questions\[3\]"):
        requests_of([FULL, FULL, FULL, wrong])
    with pytest.raises(InputRefused, match=r"questions\[4\]\.tenant"):
        requests_of([FULL, FULL, FULL, FULL, {**FULL, "tenant": ""}])
