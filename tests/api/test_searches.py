"""AuthZEN searches over HTTP on the sample world: what is found is what evaluations allow, page by page."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from policy_engine import logs
from policy_engine.api.authzensearch import read_search
from policy_engine.api.metrics import Metrics
from policy_engine.api.searches import PATHS, SearchApp
from policy_engine.core.decision import Principal
from policy_engine.errors import StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.services.queries import Listing, Page
from tests.api import doors
from tests.api.served import ALICE, Served, request

SUBJECT, RESOURCE, ACTION = PATHS
OF = {SUBJECT: "subject", RESOURCE: "resource", ACTION: "action"}
HEADERS = ("Policy-Engine-Epoch", "Policy-Engine-Release", "Policy-Engine-Valid-For-Ms", "Policy-Engine-Decision-Ids")
PERSONS = ("alice", "bruno", "chen", "dana", "eve", "greg", "ines", "mina")
MODELS = ("fable-5", "fable-5-1", "mythos-5", "opus-4-8", "open-1", "summit-4")
CANDIDATES: dict[str, list[dict[str, str]]] = {
    SUBJECT: [{"type": "person", "id": id} for id in PERSONS],
    RESOURCE: [{"type": "model", "id": id} for id in MODELS],
    ACTION: [{"name": name} for name in ("infer", "fine_tune", "download_weights", "list")],
}


def search(served: Served, path: str, body: Any = ALICE, key: str = "gateway", **page: Any) -> Any:
    """Return the answer to a search, which is there."""
    answer = served.post(path, {**body, "page": page} if page else body, key=key)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("who", [("alice", "acme", "US"), ("eve", "acme", "US"), ("greg", "lab", "US")])
def test_what_is_found_is_what_a_batch_allows(served: Served, path: str, who: tuple[str, str, str]) -> None:
    """Law 9 at the door: each candidate put into the same body is allowed exactly when the search lists it."""
    body = request(*who, "fable-5")
    found = search(served, path, body)["results"]
    batch = {**body, "evaluations": [{OF[path]: candidate} for candidate in CANDIDATES[path]]}
    decided = served.post("/access/v1/evaluations", batch).json()["evaluations"]
    allowed = [each for each, decision in zip(CANDIDATES[path], decided, strict=True) if decision["decision"]]
    assert [each for each in found if each in CANDIDATES[path]] == sorted(
        allowed, key=lambda each: [*each.values()][-1]
    )


@pytest.mark.parametrize("path", PATHS)
def test_pages_joined_are_the_whole(served: Served, path: str) -> None:
    """`page` comes first, counts, and leads on until its token is empty, with the limit repeated or left out."""
    whole = served.post(path, ALICE)
    assert list(whole.json()) == ["results"]
    for repeated in ({"limit": 1}, {}):
        page = search(served, path, limit=1)
        results = page["results"]
        while page["page"]["next_token"]:
            assert list(page) == ["page", "results"]
            assert page["page"].keys() == {"next_token", "count"} and page["page"]["count"] == len(page["results"]) == 1
            page = search(served, path, token=page["page"]["next_token"], **repeated)
            results += page["results"]
        assert results == whole.json()["results"]


@pytest.mark.parametrize("path", PATHS)
def test_equal_questions_get_equal_bytes(served: Served, path: str) -> None:
    """Bodies hold no id and no instant, and tokens are the same; ids stand in headers, one entry for each answer."""
    body = {**ALICE, "page": {"limit": 1}}
    before = served.entries()
    first, second = served.post(path, body), served.post(path, body)
    assert first.content == second.content and served.entries() == before + 2
    assert all(name in first.headers for name in HEADERS)
    assert first.headers["cache-control"] == "no-store"
    ids = [answer.headers["Policy-Engine-Decision-Ids"] for answer in (first, second)]
    assert len(set(ids)) == 2
    entry = served.get(f"/v1/decisions/{ids[0]}", key="auditor").json()
    assert (entry["kind"], entry["search"], entry["count"]) == ("search", OF[path], 1)
    assert int(first.headers["Policy-Engine-Epoch"]) == served.engine.store.state().epoch
    assert first.headers["Policy-Engine-Release"] == served.engine.store.state().release
    assert 0 < int(first.headers["Policy-Engine-Valid-For-Ms"]) <= 2_000


def test_what_stands_in_the_open_place_is_ignored(served: Served) -> None:
    """A stray id, properties, a whole action in an action search: the answer is the same."""
    for path, name in OF.items():
        clean = {**ALICE, name: {"type": {"subject": "person", "resource": "model"}[name]}} if path != ACTION else ALICE
        without = {key: member for key, member in clean.items() if key != "action" or path != ACTION}
        stray = {**clean, name: {**clean[name], "id": ["x"], "properties": {"role": "admin"}, "future": 1}}
        if path == ACTION:
            stray[name] = "anything"
        asked = [search(served, path, body)["results"] for body in (without, stray, ALICE)]
        assert asked[0] == asked[1] == asked[2] != []


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        (SUBJECT, {"subject": {"type": "spaceship"}}),
        (SUBJECT, {"resource": {"type": "model", "id": "no-such"}}),
        (SUBJECT, {"resource": {"type": "spaceship", "id": "fable-5"}}),
        (SUBJECT, {"action": {"name": "no-such"}}),
        (SUBJECT, {"context": {"location": "US", "serving_region": "US"}}),
        (RESOURCE, {"subject": {"type": "person", "id": "no-such"}}),
        (RESOURCE, {"subject": {"type": "service", "id": "alice"}}),
        (RESOURCE, {"resource": {"type": "spaceship"}}),
        (RESOURCE, {"context": {"tenant": "lab", "location": "US"}}),
        (ACTION, {"subject": {"type": "person", "id": "no-such"}}),
        (ACTION, {"resource": {"type": "model", "id": "no-such"}}),
    ],
)
def test_what_nobody_knows_has_an_empty_listing(served: Served, path: str, changed: dict[str, Any]) -> None:
    """An unknown type or id, another tenant or none: 200 and nothing, as each evaluation would be denied."""
    assert search(served, path, {**ALICE, **changed}) == {"results": []}


def test_services_are_subjects_of_their_own_type(served: Served) -> None:
    """A search for services lists no person, one for persons no service."""
    found = [search(served, SUBJECT, {**request("", "lab", "US", "open-1"), "subject": {"type": kind}}) for kind in
             ("person", "service")]  # fmt: skip
    persons, services = ({each["id"] for each in answer["results"]} for answer in found)
    assert persons and not persons & services
    assert all(served.engine.store.row("persons", id).document["facts"]["subject_type"]["value"] == "service"
               for id in services)  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        (SUBJECT, {"subject": {}}, "subject.type"),
        (SUBJECT, {"subject": "person"}, "subject"),
        (SUBJECT, {"subject": {"type": "person", "properties": []}}, "subject.properties"),
        (SUBJECT, {"action": {}}, "action.name"),
        (SUBJECT, {"resource": {"type": "model"}}, "resource.id"),
        (RESOURCE, {"subject": {"type": "person"}}, "subject.id"),
        (RESOURCE, {"resource": {"type": 5}}, "resource.type"),
        (ACTION, {"resource": {"id": "fable-5"}}, "resource.type"),
        (ACTION, {"context": []}, "context"),
        (ACTION, {"context": {"tenant": 5}}, "context.tenant"),
        (SUBJECT, {"page": []}, "page"),
        (SUBJECT, {"page": {"token": 5}}, "page.token"),
        (SUBJECT, {"page": {"token": ""}}, "page.token"),
        (SUBJECT, {"page": {"token": "x"}}, "page.token"),
        (SUBJECT, {"page": {"token": "A" * 60_000}}, "page.token"),
        (SUBJECT, {"page": {"token": "\u0000\uffff"}}, "page.token"),
        (SUBJECT, {"page": {"limit": -1}}, "page.limit"),
        (SUBJECT, {"page": {"limit": 1.5}}, "page.limit"),
        (SUBJECT, {"page": {"limit": "1"}}, "page.limit"),
        (SUBJECT, {"page": {"limit": True}}, "page.limit"),
        (SUBJECT, {"page": {"limit": [1]}}, "page.limit"),
        (SUBJECT, {"page": {"limit": -1e300}}, "page.limit"),
    ],
)
def test_a_wrong_member_is_named(served: Served, path: str, body: dict[str, Any], where: str) -> None:
    """400 with the place of what was wrong, nothing written to the log."""
    before = served.entries()
    answer = served.post(path, {**ALICE, **body})
    assert (answer.status_code, answer.json()["where"]) == (400, where)
    assert served.entries() == before


@pytest.mark.parametrize("name", ["subject", "action", "resource"])
@pytest.mark.parametrize("path", PATHS)
def test_a_missing_member_is_named(served: Served, path: str, name: str) -> None:
    """Each entity is needed, the sought one for its type; only an action search needs no action."""
    answer = served.post(path, {key: member for key, member in ALICE.items() if key != name})
    wanted = (200, None) if (path, name) == (ACTION, "action") else (400, name)
    assert (answer.status_code, answer.json().get("where")) == wanted


@pytest.mark.parametrize("limit", [10**9, 2**63, 10**30, 1e300, 1e3, None, 0.0])
def test_a_huge_limit_is_no_larger_page(served: Served, limit: Any) -> None:
    """A limit beyond the engine's own is cut to it, and continues as it began; null is no limit."""
    page = search(served, RESOURCE, limit=limit)
    assert (page["results"] == []) is (limit == 0.0)
    assert page["page"]["count"] == len(page["results"]) <= LIMITS.search_page_count


def test_a_token_is_for_its_caller_question_and_limit(served: Served) -> None:
    """Of another key's caller, another search, another body, another limit, or changed: 400, in words, no names."""
    token = search(served, SUBJECT, limit=1)["page"]["next_token"]
    other = served.grant("decide")
    moved = {**ALICE, "action": {"name": "list"}}
    tried = [
        served.post(SUBJECT, {**ALICE, "page": {"token": token}}, key=other),
        served.post(RESOURCE, {**ALICE, "page": {"token": token}}),
        served.post(SUBJECT, {**moved, "page": {"token": token}}),
        served.post(SUBJECT, {**ALICE, "page": {"token": token[:-1] + ("A" if token[-1] != "A" else "B")}}),
        served.post(SUBJECT, {**ALICE, "page": {"token": token, "limit": 2}}),
    ]
    assert [answer.status_code for answer in tried] == [400] * 5
    assert [answer.json()["where"] for answer in tried] == ["page.token"] * 4 + ["page.limit"]
    assert not any("alice" in answer.text or token in answer.text for answer in tried)
    assert search(served, SUBJECT, {**ALICE, "future": 1}, token=token)["results"]


def test_members_of_page_that_nobody_knows_are_ignored(served: Served) -> None:
    """`properties`, the draft's `next_token`, and whatever comes later."""
    page = search(served, RESOURCE, limit=1, properties={"sort": "x"}, next_token="x", future=[1])
    assert page["page"]["count"] == 1


def test_a_key_bounded_to_a_tenant_lists_that_tenant_alone(served: Served) -> None:
    """As with its decisions: for another tenant nothing is allowed, so nothing is listed."""
    principal = served.engine.keys.authenticate(served.keys["gateway"], served.engine.store.now())
    narrow = replace(principal, tenants=frozenset(("lab",)))
    listing = read_search(PATHS[RESOURCE], request("alice", "acme", "US", "fable-5"))
    assert served.engine.listings.page(principal, listing).found
    assert served.engine.listings.page(narrow, listing).found == ()


def test_decisions_do_not_wait_for_searches(served: Served) -> None:
    """While a search is at work, and others wait for it, decisions are answered; beyond the limit there is a 503."""
    with ThreadPoolExecutor(LIMITS.searches_count + 1) as pool:
        with served.engine.listings._alone:
            waiting = [pool.submit(served.post, RESOURCE, ALICE) for _ in range(LIMITS.searches_count + 1)]
            (refused,) = wait(waiting, timeout=20, return_when=FIRST_COMPLETED).done
            assert (refused.result().status_code, refused.result().json()["code"]) == (503, "busy")
            assert served.decide(ALICE)["decision"] is True
            assert served.get("/readyz").status_code == 200
        statuses = sorted(future.result().status_code for future in waiting)
    assert statuses == [200] * LIMITS.searches_count + [503]


# The door alone

PAGE = Page("e" * 32, ("alice",), "", True, 1, 7, doors.RELEASE, 1_500)
BODY = {"subject": {"type": "person"}, "action": {"name": "infer"}, "resource": {"type": "model", "id": "m"}}


class OnePage:
    """Answers every listing with one page, or raises."""

    def __init__(self, answer: Page | Exception) -> None:
        self.answer = answer
        self.handed_on = 0

    @asynccontextmanager
    async def page_async(self, principal: Principal, listing: Listing) -> AsyncIterator[Page]:
        """Offer it, and see it handed on."""
        if isinstance(self.answer, Exception):
            raise self.answer
        yield self.answer
        self.handed_on += 1


def door(answer: Page | Exception, keys: doors.TwoKeys | None = None, **limits: Any) -> SearchApp:
    """Return the search endpoints before one answer."""
    return SearchApp(OnePage(answer), keys or doors.TwoKeys(), Metrics(), replace(LIMITS, **limits))


def test_the_answer_is_handed_on_inside_the_page() -> None:
    """The page ends only after its answer went to the transport; its headers are the page's."""
    lister = OnePage(PAGE)
    reply = doors.ask(SearchApp(lister, doors.TwoKeys(), Metrics()), BODY, path=SUBJECT)
    assert reply.json() == {"results": [{"type": "person", "id": "alice"}]}
    assert lister.handed_on == 1
    assert [reply.header(name) for name in HEADERS] == ["7", doors.RELEASE, "1500", "e" * 32]


def test_a_listing_that_cannot_be_complete_says_so() -> None:
    """Then `page` is there though nobody asked, and comes first."""
    reply = doors.ask(door(replace(PAGE, complete=False, found=())), BODY, path=SUBJECT)
    assert reply.body == b'{"page":{"next_token":"","count":0,"properties":{"complete":false}},"results":[]}'


def test_a_page_that_is_not_the_last_says_so_unasked() -> None:
    """Whoever does not know pages learns that there is more."""
    reply = doors.ask(door(replace(PAGE, next_token="t")), BODY, path=SUBJECT)
    assert reply.json()["page"] == {"next_token": "t", "count": 1}


def test_no_release_has_no_release_header() -> None:
    """Before anything is active there is an epoch and nothing to list."""
    reply = doors.ask(door(replace(PAGE, release="", found=())), BODY, path=SUBJECT)
    assert (reply.header("Policy-Engine-Release"), reply.header("Policy-Engine-Epoch")) == (None, "7")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "post"])
def test_other_verbs_are_refused_with_the_one_that_works(path: str, method: str) -> None:
    """Searches are asked with POST alone."""
    reply = doors.ask(door(PAGE), BODY, path=path, method=method, headers=((b"x-request-id", b"r1"),))
    assert (reply.status, reply.header("allow"), reply.header("x-request-id")) == (405, "POST", "r1")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json5", "application/x-www-form-urlencoded"])
def test_another_media_type_is_refused(content_type: str | None) -> None:
    """400, as for evaluations; parameters of the right one do not matter."""
    assert doors.ask(door(PAGE), BODY, path=SUBJECT, content_type=content_type).status == 400
    assert doors.ask(door(PAGE), BODY, path=SUBJECT, content_type="application/json; charset=utf-8").status == 200


def test_a_key_that_ended_meanwhile_is_told_so() -> None:
    """A page of another epoch than the caller's asks for the caller again, and shows nothing to a revoked key."""
    keys = doors.TwoKeys(epoch=6)
    assert doors.ask(door(PAGE, keys), BODY, path=SUBJECT).status == 200
    keys.revoked = True
    reply = doors.ask(door(PAGE, keys), BODY, path=SUBJECT)
    assert (reply.status, b"alice" in reply.body) == (401, False)


def test_a_search_that_cannot_be_recorded_is_a_503() -> None:
    """An empty listing would say that nothing is allowed."""
    reply = doors.ask(door(StoreUnavailable("the database file is gone")), BODY, path=SUBJECT)
    assert (reply.status, reply.header("retry-after")) == (503, "1")


def test_a_fault_of_ours_is_a_500_that_says_nothing(planted_facts: Any) -> None:
    """An unexpected error reaches neither the caller nor the log with what it was about."""
    out = io.StringIO()
    logs.configure(level="info", stream=out)
    reply = doors.ask(door(RuntimeError(planted_facts.person)), BODY, path=SUBJECT)
    assert reply.status == 500 and planted_facts.person not in reply.body.decode()
    (line,) = [json.loads(line) for line in out.getvalue().splitlines()]
    assert (line["event"], line["error"]) == ("search.failed", "RuntimeError")


def test_beyond_the_searches_that_may_wait_the_answer_is_503() -> None:
    """Whoever comes too many is told so at once; one that ended, however, makes room."""
    reply = doors.ask(door(PAGE, searches_count=0), BODY, path=SUBJECT)
    assert (reply.status, reply.json()["code"]) == (503, "busy")
    app = door(StoreUnavailable("gone"), searches_count=1)
    assert [doors.ask(app, BODY, path=SUBJECT).json()["code"] for _ in range(2)] == ["log.unavailable"] * 2


def test_searches_are_counted_by_kind(served: Served) -> None:
    """The metrics count pages by what is sought, and the time they took; nothing of what was asked."""
    search(served, RESOURCE)
    text = served.get("/metrics").text
    assert 'policy_engine_searches_total{sought="resource"}' in text and "policy_engine_searching_seconds" in text
