"""Listings of the sample world: pages, their cost, their tokens, and their entries."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.bootstrap import Engine
from policy_engine.core.decision import Evaluation, Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import DAY
from policy_engine.errors import InputRefused, NotPermitted, ReplicaCutOff
from policy_engine.ledger.encoding import parse_public
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache
from policy_engine.services.keyfile import new_vault
from policy_engine.services.listings import Listings
from policy_engine.services.pagetokens import Cursor, PageTokens
from policy_engine.services.queries import Listing, Page, Query, Sought
from policy_engine.services.unseal import Unsealer

PEP = Principal("pep", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("location", "serving_region")))
WHO = Listing(Sought.SUBJECT, Request("", "infer", "opus-4-8", "acme", Location("US"), "US"))
WHAT = Listing(Sought.RESOURCE, Request("alice", "infer", "", "acme", Location("US"), "US"))
DEEDS = Listing(Sought.ACTION, Request("alice", "", "open-1", "acme", Location("US"), "US"))


class Counting(Evaluator):
    """An evaluator that remembers what it was asked, in order, and may do something first."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(FactCache(engine.store), serving_region="US", remembers=False, hints=False)
        self.asked: list[Request] = []
        self.first: Any = None

    def evaluate(self, request: Request, *arguments: Any) -> Evaluation:
        """Evaluate, after what was to be done first."""
        first, self.first = self.first, None
        if first is not None:
            first()
        self.asked.append(request)
        return super().evaluate(request, *arguments)


def listings(engine: Engine, evaluator: Evaluator, limits: Limits = LIMITS) -> Listings:
    """Return the listings of an engine with another evaluator or other limits."""
    vault = engine.evidence._vault
    return Listings(engine.snapshots, evaluator, engine.recorder, engine.store, vault, engine.decider, limits)


def pages(found: Listings, listing: Listing, principal: Principal = PEP) -> Iterator[Page]:
    """Yield every page of a listing."""
    while True:
        page = found.page(principal, listing)
        yield page
        if not page.next_token:
            return
        listing = replace(listing, token=page.next_token)


def test_pages_cost_what_one_page_does(engine: Engine) -> None:
    """Each candidate is asked about once; the first id of a page once more, to know that there is such a page."""
    counting = Counting(engine)
    found = listings(engine, counting)
    whole = found.page(PEP, WHO)
    asked, counting.asked = [each.subject_id for each in counting.asked], []
    assert len(whole.found) > 3 and whole.next_token == "" and whole.complete
    assert asked == sorted(row.id for row in engine.store.rows("persons"))
    single = list(pages(found, replace(WHO, limit=1)))
    assert [page.found for page in single] == [(id,) for id in whole.found]
    again = [each.subject_id for each in counting.asked]
    assert sorted(again) == sorted([*asked, *whole.found[1:]])


def test_a_listing_drives_nothing_out_of_the_memory_of_decisions(engine: Engine) -> None:
    """The evaluator of listings has memories of its own and gives no hints; it doubts what the deciding one doubts."""
    deciding, asking = engine.decider._evaluator, engine.listings._evaluator
    engine.listings.page(PEP, WHO)
    assert deciding.facts._persons == {} and len(asking.facts._persons) > 10
    assert asking._hints is False and asking._remembers is False
    doubt = object()
    engine.decider.doubt_by(lambda: doubt)  # type: ignore[arg-type, return-value]  # only whether it is handed on
    assert asking.doubt() is doubt


def test_a_page_begins_behind_an_id_that_is_gone(engine: Engine) -> None:
    """Nothing has to be remembered for a token: its id need not be there any more."""
    whole = engine.listings.page(PEP, WHAT).found
    gone = engine.listings._tokens.make(PEP, WHAT, Cursor("fable-5-0-gone", None))
    assert engine.listings.page(PEP, replace(WHAT, token=gone)).found == tuple(id for id in whole if id > "fable-5-0")


@pytest.mark.parametrize("listing", [WHO, WHAT, DEEDS])
def test_limit_0_asks_whether_there_is_anything(engine: Engine, listing: Listing) -> None:
    """Nothing is shown; a token says that there is something, and shows it to whoever does not repeat the 0."""
    whole = engine.listings.page(PEP, listing)
    none = engine.listings.page(PEP, replace(listing, limit=0))
    assert none.found == () and none.next_token
    again = engine.listings.page(PEP, replace(listing, limit=0, token=none.next_token))
    assert (again.found, again.next_token) == ((), none.next_token)
    assert engine.listings.page(PEP, replace(listing, token=none.next_token)).found == whole.found
    nobody = replace(listing, request=replace(listing.request, tenant="no-such"), limit=0)
    assert engine.listings.page(PEP, nobody).next_token == ""


def test_a_page_has_no_more_than_the_limits_allow(engine: Engine) -> None:
    """A huge limit is cut to `search_page_count`; after `search_page_candidates_count` a page ends, even empty."""
    whole = engine.listings.page(PEP, WHO).found
    small = listings(engine, engine.listings._evaluator, replace(LIMITS, search_page_count=2))
    assert next(pages(small, replace(WHO, limit=10**30))).found == whole[:2]
    counting = Counting(engine)
    short = listings(engine, counting, replace(LIMITS, search_page_candidates_count=3))
    denied = replace(WHO, request=replace(WHO.request, model="mythos-5"))
    for page in pages(short, denied):
        assert page.found == () and len(counting.asked) <= 3
        counting.asked.clear()
    shown = [id for page in pages(short, WHO) for id in page.found]
    assert tuple(shown) == whole


def test_what_moves_under_a_page_is_asked_again(engine: Engine, sample_database: Any) -> None:
    """A switch engaged while a page is looked for: the page is of the epoch after it, and one entry says so."""
    counting = Counting(engine)
    found = listings(engine, counting)
    operator = engine.keys.authenticate(sample_database.keys["operator"])
    counting.first = lambda: engine.switches.engage(operator, "s", {"models": ["opus-4-8"]}, "meanwhile")
    page = found.page(PEP, WHO)
    assert (page.found, page.epoch) == ((), engine.store.state().epoch)
    searches = [entry for entry in public(engine) if entry["kind"] == "search"]
    assert [(entry["id"], entry["count"]) for entry in searches] == [(page.id, 0)]


def test_the_asynchronous_twin_answers_the_same_and_is_on_its_way_until_handed_on(engine: Engine) -> None:
    """Both give the same page; the answer counts as under way inside the context, as a decision's does."""
    engine.decider.presence = engine.withdrawals.join(engine.snapshots, "test")
    under_way = engine.decider.presence._under_way

    async def asked() -> Page:
        async with engine.listings.page_async(PEP, WHO) as page:
            assert [count for count, _ in under_way.values()] == [1]
            return page

    page = asyncio.run(asked())
    assert not under_way
    assert page.found == engine.listings.page(PEP, WHO).found


def test_nothing_is_listed_where_nothing_is_allowed(engine: Engine) -> None:
    """A replica that the others may count as gone denies every decision, and lists nothing: it says so instead."""
    engine.decider.presence = engine.withdrawals.join(engine.snapshots, "test")
    engine.decider.presence._beaten_at = -1e9
    with pytest.raises(ReplicaCutOff):
        engine.listings.page(PEP, WHO)
    with pytest.raises(ReplicaCutOff):
        engine.search.who_can(PEP, Query(model="open-1"))


def test_a_listing_needs_the_scope_decide(engine: Engine) -> None:
    """A key that may only read the log asks for nothing."""
    with pytest.raises(NotPermitted):
        engine.listings.page(replace(PEP, scopes=frozenset(("audit:read",))), WHO)


def public(engine: Engine) -> list[dict[str, Any]]:
    """Return the public parts of all entries."""
    return [parse_public(entry[2]) for entry in engine.store.entries()]


def test_each_page_is_one_entry_without_names(engine: Engine) -> None:
    """Public are the kind, what the release and the register name, and the count; a person and a caller's words not."""
    before = len(public(engine))
    first, second = pages(engine.listings, replace(WHAT, limit=3))
    engine.listings.page(PEP, replace(WHO, request=replace(WHO.request, action="planted", model="planted")))
    one, two, three = (entry for entry in public(engine)[before:] if entry["kind"] == "search")
    assert (one["id"], one["search"], one["model"], one["action"]) == (first.id, "resource", None, "infer")
    assert (one["tenant"], one["count"], one["complete"], one["continued"]) == ("acme", 3, False, False)
    assert (two["id"], two["complete"], two["continued"], two["instant"]) == (second.id, True, True, second.at)
    assert (three["search"], three["model"], three["action"], three["count"]) == ("subject", None, None, 0)
    assert "alice" not in json.dumps([one, two]) and "planted" not in json.dumps(three)
    assert engine.evidence.verify().findings == ()


def test_the_sealed_part_says_what_was_asked_about_a_person(engine: Engine) -> None:
    """Under the person's own key, so that it can be erased: the whole question, and nothing of what was found."""
    engine.listings.page(PEP, WHAT)
    with engine.store.view() as view:
        *_, entry = view.scan_entries()
        body = Unsealer(engine.evidence._vault, view.data_key).body(entry, parse_public(entry.public))
    assert body == {
        "search": "resource",
        "subject": "alice",
        "subject_type": "person",
        "tenant": "acme",
        "resource": None,
        "resource_type": "model",
        "action": "infer",
        "location": ["US", None, False],
        "serving_region": "US",
    }


def test_a_search_says_for_whom_and_from_where(engine: Engine) -> None:
    """The sealed part of `what-can` holds tenant, place and region, without which nobody could ask it again."""
    place = Location("US", "US-CA")
    engine.search.what_can(PEP, Query("alice", tenant="acme", location=place, serving_region="US"))
    with engine.store.view() as view:
        *_, entry = view.scan_entries()
        body = Unsealer(engine.evidence._vault, view.data_key).body(entry, parse_public(entry.public))
    assert body == {
        "search": "what-can",
        "subject": "alice",
        "tenant": "acme",
        "location": ["US", "US-CA", False],
        "serving_region": "US",
    }
    assert engine.evidence.verify().findings == ()


# Tokens

VAULT = new_vault()
NOW = 20_000 * DAY
TOKENS = PageTokens(VAULT, lambda: NOW)
CURSOR = Cursor("alice", 7)


def test_a_token_comes_back_and_is_the_same_each_time() -> None:
    """It opens for its caller and question, with or without the limit, and equal places have equal tokens."""
    token = TOKENS.make(PEP, WHO, CURSOR)
    assert TOKENS.make(PEP, WHO, CURSOR) == token == PageTokens(VAULT, lambda: NOW).make(PEP, WHO, CURSOR)
    assert TOKENS.read(PEP, replace(WHO, token=token)) == CURSOR
    assert TOKENS.read(PEP, replace(WHO, token=token, limit=7)) == CURSOR
    with pytest.raises(InputRefused, match=r"page\.limit"):
        TOKENS.read(PEP, replace(WHO, token=token, limit=8))
    assert TOKENS.read(PEP, replace(WHO, limit=7)) == Cursor("", 7)


def refused(token: str, listing: Listing = WHO, principal: Principal = PEP, tokens: PageTokens = TOKENS) -> bool:
    """Say whether a token is refused, in the one sentence."""
    try:
        tokens.read(principal, replace(listing, token=token))
    except InputRefused as refusal:
        assert refusal.where == "page.token" and "begin again without a token" in str(refusal)
        return True
    return False


def of(**members: Any) -> Listing:
    """Return the question with another member."""
    return replace(WHO, request=replace(WHO.request, **members))


@pytest.mark.parametrize(
    ("listing", "principal"),
    [
        (of(action="list"), PEP),
        (of(model="open-1"), PEP),
        (of(tenant="lab"), PEP),
        (of(tenant=None), PEP),
        (of(location=Location("US", "US-CA")), PEP),
        (of(location=Location("US", None, True)), PEP),
        (of(serving_region="DE"), PEP),
        (of(subject_type="service"), PEP),
        (of(resource_type="agent"), PEP),
        (of(raw={"context": {"ip": "::1"}}), PEP),
        (replace(WHO, sought=Sought.RESOURCE), PEP),
        (WHO, replace(PEP, id="another")),
        (WHO, replace(PEP, kind=PrincipalKind.PERSON)),
        (WHO, replace(PEP, tenants=frozenset(("acme",)))),
        (WHO, replace(PEP, supplies=frozenset(("*",)))),
    ],
)
def test_a_token_belongs_to_its_question_and_caller(listing: Listing, principal: Principal) -> None:
    """With any other member, or for anybody else, it does not open."""
    assert refused(TOKENS.make(PEP, WHO, CURSOR), listing, principal)


def test_what_stands_in_the_open_place_and_another_key_of_the_caller_change_nothing() -> None:
    """A stray id is no part of the question; a new key of the same principal goes on where the old one was."""
    token = TOKENS.make(PEP, WHO, CURSOR)
    assert not refused(token, of(subject_id="stray", raw={"subject": {"type": "person", "id": "stray"}}))
    assert not refused(token, WHO, replace(PEP, key_id="key-2"))


def test_a_token_grows_old() -> None:
    """It is good on the day it was made and on the next, and not before it or after."""
    token = TOKENS.make(PEP, WHO, CURSOR)
    days = {days: refused(token, tokens=PageTokens(VAULT, lambda at=NOW + days * DAY: at)) for days in (-1, 0, 1, 2)}
    assert days == {-1: True, 0: False, 1: False, 2: True}
    assert refused(token, tokens=PageTokens(new_vault(), lambda: NOW))


@given(data=st.data(), id=st.text(st.characters(exclude_categories=("Cs",)), max_size=256))
def test_a_changed_token_is_refused(data: st.DataObject, id: str) -> None:
    """Whatever character is changed, left out or added: it does not open, and raises nothing else."""
    token = TOKENS.make(PEP, WHO, Cursor(id, None))
    assert TOKENS.read(PEP, replace(WHO, token=token)) == Cursor(id, None)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters(exclude_characters=token[place], exclude_categories=("Cs",)))
    assert refused(token[:place] + other + token[place + 1 :])
    assert refused(token[:place] + token[place + 1 :]) and refused(token[:place] + other + token[place:])
    assert refused(token[:place])


@given(st.one_of(st.text(max_size=3_000), st.binary(max_size=300).map(lambda b: urlsafe_b64encode(b).decode())))
def test_a_made_up_token_is_refused(token: str) -> None:
    """Text or bytes of any kind and length."""
    assert refused(token)


@pytest.mark.parametrize("token", ["x" * 2_049, "A" * 1_000_000, "====", "AA==", "A" * 64])
def test_huge_and_malformed_tokens_are_refused(token: str) -> None:
    """Beyond the limit it is not even decoded; the longest id there may be still fits."""
    assert refused(token)
    longest = TOKENS.make(PEP, WHO, Cursor("\U0001f600" * LIMITS.id_characters, 10**15))
    assert len(longest) <= LIMITS.search_token_characters and not refused(longest)


def test_a_token_tells_no_id_and_no_length_of_one() -> None:
    """Ids of persons are in it, sealed; ids of different lengths have tokens of one length."""
    tokens = [TOKENS.make(PEP, WHO, Cursor(id, None)) for id in ("al", "alice", "alice@acme.example")]
    assert len({len(token) for token in tokens}) == 1 and len(set(tokens)) == 3
    assert not any(b"alice" in urlsafe_b64decode(token) or "alice" in token for token in tokens)
