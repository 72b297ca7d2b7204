"""Law 9: search equals check, at the same instant, epoch and context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policy_engine.core.decision import Outcome, Request
from policy_engine.core.facts import Location
from policy_engine.limits import LIMITS
from policy_engine.services.permissions import LOCAL
from policy_engine.services.queries import Query
from policy_engine.services.search import Search
from tests.laws.sample import opened

MODELS = ("fable-5", "mythos-5", "opus-4-8", "open-1")
ACTIONS = ("infer", "fine_tune", "download_weights", "list")
PLACES = st.sampled_from((Location("US"), Location("GB"), Location("CN"), None))


@settings(max_examples=12)
@given(
    place=PLACES,
    model=st.sampled_from((*MODELS, None)),
    action=st.sampled_from((*ACTIONS, None)),
    who=st.sampled_from((None, None, "alice", "chen", "eve")),
    letter=st.booleans(),
)
def test_what_a_search_shows_is_allowed_and_what_it_hides_is_denied(
    place: Location | None,
    model: str | None,
    action: str | None,
    who: str | None,
    letter: bool,
    sample_database: Any,
    compiled: Any,
) -> None:
    """Every combination of subject, tenant, model and action is listed exactly when it is allowed then.

    Control: policy_engine/services/search.py: `if evaluation.outcome is Outcome.ALLOW:`
    """
    with opened(sample_database, compiled) as (engine, keys):
        if letter:
            body = {"id": "letter", "models": ["fable-5"], "blocks": ["foreign_person"]}
            engine.orders.receive(keys["operator"], "directive", body)
        query = Query(who, model, action, None, place, "US")
        found = engine.search.who_can(LOCAL, query) if who is None else engine.search.what_can(LOCAL, query)
        assert found.complete
        shown = {(hit.subject, hit.tenant, hit.model, hit.action) for hit in found.hits}
        event("something is shown" if shown else "nothing is shown")
        snapshot = engine.snapshots.refresh()
        assert snapshot.state.epoch == found.epoch
        for row in engine.store.rows("persons"):
            if who not in (None, row.id):
                continue
            facts = row.document["facts"]
            kind = facts.get("subject_type", {"value": "person"})["value"]
            for tenant in facts["tenants"]["value"]:
                for name in MODELS if model is None else (model,):
                    for deed in ACTIONS if action is None else (action,):
                        request = Request(row.id, deed, name, tenant, place, "US", kind)
                        evaluation = engine.decider._evaluator.evaluate(request, LOCAL, snapshot, found.at)
                        allowed = evaluation.outcome is Outcome.ALLOW
                        assert allowed is ((row.id, tenant, name, deed) in shown)


def test_a_search_that_stops_early_says_so(sample_database: Any, compiled: Any) -> None:
    """A search that reaches its limit is not complete."""
    with opened(sample_database, compiled) as (engine, _):
        limits = replace(LIMITS, search_candidates_count=3)
        search = Search(engine.snapshots, engine.decider._evaluator, engine.recorder, engine.store, limits)
        assert not search.who_can(LOCAL, Query(location=Location("US"), serving_region="US")).complete


def test_each_search_is_one_entry_and_grants_nothing(sample_database: Any, compiled: Any) -> None:
    """A search writes one entry of its own kind and no decision."""
    with opened(sample_database, compiled) as (engine, _):
        before = engine.store.head().next_seq
        engine.search.who_can(LOCAL, Query(model="fable-5", action="infer", location=Location("US")))
        assert engine.store.head().next_seq == before + 1
        (newest,) = engine.store.entries(limit=1, newest_first=True)
        assert b'"kind":"search"' in newest[2]
