"""Remembered evaluations: the same as fresh ones, until anything they rest on may have changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import CodeType, FrameType
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policy_engine.core.decision import Evaluation, Outcome, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY, ENDLESS, format_instant
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache, Known
from policy_engine.services.permissions import LOCAL
from tests.laws.sample import decisions, opened

ASKED = st.tuples(
    st.sampled_from((("alice", "acme"), ("eve", "acme"), ("bruno", "acme-de"), ("chen", "lab"), ("nobody", "acme"))),
    st.sampled_from(("fable-5", "fable-latest", "mythos-5", "open-1", "no-such-model")),
    st.sampled_from(("infer", "fine_tune", "download_weights")),
    st.sampled_from((Location("US"), Location("GB"), Location("UA", "UA-43"), None)),
    st.sampled_from((0, 1, DAY, 300 * DAY, 400 * DAY)),
)


def plain(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation without its facets, which are for explaining and tags, and without what entries share."""
    return evaluation._replace(facets=None, shared=None)


@settings(max_examples=15)
@given(asked=st.lists(ASKED, min_size=4, max_size=12), letter=st.integers(0, 11))
def test_a_remembered_evaluation_is_the_fresh_one(
    asked: list[Any], letter: int, sample_database: Any, compiled: Any
) -> None:
    """Asked twice at instants up to a year apart, with a directive between, both evaluators always agree.

    Control: policy_engine/services/evaluate.py: `if known is not None and known.at <= at < known.until:`
    """
    with opened(sample_database, compiled) as (engine, keys):
        facts = FactCache(engine.store)
        remembering = Evaluator(facts, serving_region="US")
        fresh = Evaluator(facts, serving_region="US", remembers=False)
        began = engine.store.now()
        for number, ((subject, tenant), model, action, place, later) in enumerate((*asked, *asked)):
            if number == letter:
                body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
                engine.orders.receive(keys["operator"], "directive", body)
            snapshot = engine.snapshots.refresh()
            request = Request(subject, action, model, tenant, place, "US")
            for at in (began + later, began + later + 400 * DAY):
                found = remembering.evaluate(request, LOCAL, snapshot, at)
                assert plain(found) == plain(fresh.evaluate(request, LOCAL, snapshot, at))
                event("with an end" if found.until < ENDLESS else "without an end")


def test_what_did_not_reach_the_rules_is_not_remembered(sample_database: Any, compiled: Any) -> None:
    """Made-up names fill no memory, and neither do more questions than are kept."""
    with opened(sample_database, compiled) as (engine, _):
        evaluator = Evaluator(FactCache(engine.store), serving_region="US")
        snapshot = engine.snapshots.refresh()
        for number in range(50):
            evaluator.evaluate(Request(f"made-up-{number}", "infer", "fable-5", "acme"), LOCAL, snapshot, 0)
        assert evaluator._answered == {}


def test_entries_of_a_remembered_evaluation_differ_in_their_instant_alone(sample_database: Any, compiled: Any) -> None:
    """The sealed part says the entry's own instant and otherwise what a fresh one says, and the log verifies."""
    with opened(sample_database, compiled) as (engine, keys):
        request = Request("chen", "infer", "fable-5", "lab", Location("US"), "US")
        for _ in range(4):
            engine.decider.decide(request, keys["enforcement point"])
        first, *others = decisions(engine)
        for other in others:
            assert other.body["values"][0] == other.public["instant"] > first.public["instant"]
            assert other.body["values"][1:] == first.body["values"][1:]
            assert {**other.body, "values": 0} == {**first.body, "values": 0}
        assert engine.evidence.verify().ok
        engine.keys.revoke(keys["operator"], keys["enforcement point"].key_id)
        engine.decider.decide(request, keys["enforcement point"])
        ended = decisions(engine)[-1]
        assert (ended.public["reached"], ended.body["values"]) == (False, None)


@contextmanager
def before_each_line(code: CodeType, act: Callable[[], object]) -> Iterator[None]:
    """Have another thread act, to the end, before this one runs each line of some code."""

    def traced(frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code is not code:
            return None
        if event == "line":
            others.submit(act).result()
        return traced

    before = sys.gettrace()
    with ThreadPoolExecutor(1) as others:
        sys.settrace(traced)
        try:
            yield
        finally:
            sys.settrace(before)


def test_a_late_thread_leaves_no_answer_of_its_old_snapshot(sample_database: Any, compiled: Any) -> None:
    """An allow that is remembered while others already know of the directive is not found by them."""
    with opened(sample_database, compiled) as (engine, keys):
        evaluator = Evaluator(FactCache(engine.store), serving_region="US")
        asked = Request("bruno", "infer", "fable-5", "acme-de", Location("DE"), "DE")
        other = replace(asked, model="open-1")
        at, old = engine.store.now(), engine.snapshots.refresh()
        body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
        engine.orders.receive(keys["operator"], "directive", body)
        new = engine.snapshots.refresh()
        with before_each_line(Evaluator._keep.__code__, lambda: evaluator.evaluate(other, LOCAL, new, at)):
            assert evaluator.evaluate(asked, LOCAL, old, at).outcome is Outcome.ALLOW
        found = evaluator.evaluate(asked, LOCAL, new, at)
        assert (found.outcome, found.epoch) == (Outcome.DENY, new.state.epoch)


def test_facets_of_another_instant_are_nobody_elses(sample_database: Any, compiled: Any) -> None:
    """While one thread asks about a day on which evidence is valid again, another still finds it run out."""
    with opened(sample_database, compiled) as (engine, keys):
        at, snapshot = engine.store.now(), engine.snapshots.refresh()
        evidence = {"level": "verified", "verified_on": format_instant(at + DAY), "expires_on": None}
        engine.facts.set_facts(keys["operator"], "persons", "alice", {"nationality_evidence": evidence})
        known, reference = FactCache(engine.store).person("alice", 0), snapshot.release.reference
        found = [known.at(at, reference).evidence]
        with before_each_line(Known.at.__code__, lambda: found.append(known.at(at, reference).evidence)):
            assert known.at(at + 2 * DAY, reference).evidence == "valid"
        assert len(found) > 2
        assert set(found) == {"undated"}
