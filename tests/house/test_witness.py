"""The witness of law 6 sees what the suite records, and objects when an entry says otherwise than stock Casbin."""

from __future__ import annotations

import pytest

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Evaluation, Outcome, Request
from policy_engine.core.factparse import parse_location
from policy_engine.services.permissions import LOCAL
from tests import conftest
from tests.house.witness import Witness


def asked(subject: str) -> Request:
    """Return a question of the sample world: alice is allowed, eve is not."""
    return Request(subject, "infer", "fable-5", "acme", parse_location("US"), "US")


def evaluation(engine: Engine, subject: str) -> Evaluation:
    """Return what the engine would record, without recording it."""
    return engine.decider.evaluate(asked(subject), LOCAL)


def fresh(engine: Engine) -> Witness:
    """Return a witness that knows the active release and has seen nothing."""
    release = engine.snapshots.current().release
    assert release is not None
    return Witness(releases={release.hash: release})


def test_a_recorded_decision_is_seen(engine: Engine) -> None:
    """Deciding through the service, in any test, adds to what is put to stock Casbin at the end."""
    before = conftest.WITNESS.entries
    assert engine.decider.decide(asked("alice"), LOCAL).allowed
    assert not engine.decider.decide(asked("eve"), LOCAL).allowed
    assert conftest.WITNESS.entries == before + 2


@pytest.mark.parametrize("subject", ["alice", "eve"])
def test_stock_casbin_agrees_with_what_was_decided(engine: Engine, subject: str) -> None:
    """An entry as the engine makes it is agreed with."""
    witness = fresh(engine)
    witness.saw(evaluation(engine, subject))
    assert (len(witness.answers), witness.disagreements()) == (1, [])


@pytest.mark.parametrize("subject", ["alice", "eve"])
def test_a_forged_outcome_is_objected_to(engine: Engine, subject: str) -> None:
    """An entry with the other outcome is disagreed with: the witness would see a wrong index."""
    found = evaluation(engine, subject)
    other = Outcome.DENY if found.outcome is Outcome.ALLOW else Outcome.ALLOW
    witness = fresh(engine)
    witness.saw(found._replace(outcome=other))
    assert len(witness.disagreements()) == 1


def test_one_tuple_with_two_outcomes_is_objected_to(engine: Engine) -> None:
    """Entries of one interval that differ in nothing but the instant must have one outcome."""
    found = evaluation(engine, "alice")
    later = tuple(value + 1 if value == found.at else value for value in found.values or ())
    witness = fresh(engine)
    witness.saw(found)
    witness.saw(found._replace(values=later, outcome=Outcome.DENY))
    assert (len(witness.answers), len(witness.odd)) == (1, 1)
