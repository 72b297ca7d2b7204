"""The words of a decision: truth, errors, and what they carry."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest

from policy_engine.core.decision import Decision, DecisionDenied, Outcome, Request

DENIED = Decision(
    allowed=False,
    id="one",
    reasons=(),
    missing=(),
    alternatives=(),
    release="sha256:0",
    epoch=1,
    valid_for_ms=0,
    message="Not from this place.",
)


def test_there_are_two_outcomes() -> None:
    """Unknown ends as deny; there is no third word."""
    assert [outcome.value for outcome in Outcome] == ["allow", "deny"]


def test_a_decision_is_true_only_when_allowed() -> None:
    """`if not decision` is safe."""
    assert not DENIED
    assert replace(DENIED, allowed=True)


def test_a_deny_can_be_raised() -> None:
    """`decision.as_error()` carries the decision and its sentence for the end user."""
    error = DENIED.as_error()
    assert isinstance(error, DecisionDenied)
    assert (error.decision, str(error)) == (DENIED, "Not from this place.")


def test_an_allow_is_no_error() -> None:
    """Raising an allowed decision is a mistake of the caller's."""
    with pytest.raises(ValueError, match="no error"):
        replace(DENIED, allowed=True).as_error()


def test_a_decision_cannot_be_changed() -> None:
    """Nobody turns a deny into an allow by assignment."""
    with pytest.raises(FrozenInstanceError):
        DENIED.allowed = True  # type: ignore[misc]  # this is the point


def test_a_request_names_a_person_and_a_model_unless_it_says_otherwise() -> None:
    """The defaults are those of AuthZEN bodies without types."""
    request = Request("p1", "infer", "summit-4")
    assert (request.subject_type, request.resource_type, request.tenant, request.location) == (
        "person",
        "model",
        None,
        None,
    )


def test_a_deny_that_is_raised_in_another_process_arrives() -> None:
    """Pools of workers pickle what their work raised; a deny comes out as it went in."""
    error = pickle.loads(pickle.dumps(DENIED.as_error()))  # noqa: S301  of our own making
    assert isinstance(error, DecisionDenied)
    assert (error.decision, str(error)) == (DENIED, "Not from this place.")


def test_a_decision_fits_in_sets_and_caches_explained_or_not() -> None:
    """It never changes, so it can be a key; an explanation is a mapping, and no part of what it is found by."""
    explained = replace(DENIED, explanation={"steps": ["place"]})
    assert {DENIED: 1, explained: 2}[replace(explained)] == 2 and hash(explained) == hash(DENIED)


def test_a_copy_is_the_decision_and_a_pickle_what_was_answered() -> None:
    """A pickle has the receipt, and neither the question, which is personal, nor what would let it be held."""
    allowed = replace(
        DENIED, allowed=True, proof=lambda: {"v": 1}, asked=Request("alice", "infer", "fable-5"), grant=object()
    )
    assert copy.copy(allowed) is allowed and copy.deepcopy([allowed])[0] is allowed
    found, again = (pickle.loads(pickle.dumps(each)) for each in (allowed, DENIED))  # noqa: S301  of our own making
    assert found == allowed and found.receipt == {"v": 1} and again == DENIED and again.receipt is None
    assert (found.asked, found.grant) == (None, None) and b"alice" not in pickle.dumps(allowed)
    assert pickle.loads(pickle.dumps(found)).receipt == {"v": 1}  # noqa: S301  of our own making
