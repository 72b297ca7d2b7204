"""Law 9: search equals check, at the same instant, epoch and context."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from policy_engine.core.decision import Outcome, Request
from policy_engine.core.facts import Location
from policy_engine.limits import LIMITS
from policy_engine.services.listings import Listings
from policy_engine.services.permissions import LOCAL
from policy_engine.services.queries import Listing, Query, Sought
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


def paged(engine: Any, **limits: Any) -> Listings:
    """Return the listings of an engine under other limits."""
    asking, vault = engine.listings._evaluator, engine.evidence._vault
    return Listings(
        engine.snapshots, asking, engine.recorder, engine.store, vault, engine.decider, replace(LIMITS, **limits)
    )


def candidates(engine: Any, sought: Sought) -> list[str]:
    """Return every id there is of what is sought, in order."""
    persons = sorted(row.id for row in engine.store.rows("persons"))
    models = sorted(engine.snapshots.current().release.catalogue.models)
    return {Sought.SUBJECT: persons, Sought.RESOURCE: models, Sought.ACTION: sorted(ACTIONS)}[sought]


CHANGES = st.sampled_from(("nothing", "switch", "letter", "facts"))


def change(engine: Any, keys: Any, what: str, number: int) -> None:
    """Change what pages are found under, between two of them."""
    if what == "switch":
        scope = {"models": [MODELS[number % len(MODELS)]]}
        engine.switches.engage(keys["operator"], f"s-{number}", scope, "between pages")
    elif what == "letter":
        body = {"id": f"letter-{number}", "models": ["fable-5"], "blocks": ["foreign_person"]}
        engine.orders.receive(keys["operator"], "directive", body)
    elif what == "facts":
        facts, reference = {"lab_employee": number % 2 == 0}, {"reference": f"file {number}"}
        engine.facts.set_facts(keys["operator"], "persons", "eve", facts, provenance=reference)


@settings(max_examples=25)
@given(
    sought=st.sampled_from(Sought),
    who=st.sampled_from(("alice", "chen", "eve", "greg")),
    tenant=st.sampled_from(("acme", "lab", None)),
    place=PLACES,
    model=st.sampled_from(MODELS),
    action=st.sampled_from(ACTIONS),
    limit=st.sampled_from((None, 1, 2, 3)),
    looks=st.sampled_from((1, 2, 3, 2_000)),
    changes=st.lists(CHANGES, max_size=4),
)
def test_what_a_page_shows_is_allowed_and_what_it_passes_over_is_denied(
    sought: Sought,
    who: str,
    tenant: str | None,
    place: Location | None,
    model: str,
    action: str,
    limit: int | None,
    looks: int,
    changes: list[str],
    sample_database: Any,
    compiled: Any,
) -> None:
    """Pages cover all ids once, in order, and each lists those of its part that are allowed at its own instant.

    Under whatever changes between two pages, and wherever a limit ends them.

    Control: policy_engine/services/listings.py: `if evaluation.outcome is Outcome.ALLOW:`
    """
    with opened(sample_database, compiled) as (engine, keys):
        listings = paged(engine, search_page_candidates_count=looks)
        request = Request(who, action, model, tenant, place, "US")
        listing, after, pages = Listing(sought, request, limit), "", 0
        while True:
            page = listings.page(LOCAL, listing)
            pages += 1
            following = replace(listing, token=page.next_token)
            end = listings._tokens.read(LOCAL, following).after if page.next_token else None
            snapshot = engine.snapshots.refresh()
            assert (snapshot.state.epoch, page.complete) == (page.epoch, True)
            part = [id for id in candidates(engine, sought) if id > after and (end is None or id <= end)]
            assert end is None or end >= after
            for id in part:
                asked = replace(request, **{{"subject": "subject_id", "resource": "model"}.get(sought, "action"): id})
                allowed = engine.decider._evaluator.evaluate(asked, LOCAL, snapshot, page.at).outcome is Outcome.ALLOW
                assert allowed is (id in page.found)
            assert set(page.found) <= set(part) and list(page.found) == sorted(page.found)
            assert limit is None or len(page.found) <= limit
            if end is None:
                break
            listing, after = following, end
            change(engine, keys, changes.pop() if changes else "nothing", pages)
        event(f"{sought}: {min(pages, 3)} pages or more")
