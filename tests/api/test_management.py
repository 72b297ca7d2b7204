"""The management routes end to end: what they change shows in decisions, what loosens waits for a second person."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from policy_engine.api.access import SCOPES_MEMBER
from policy_engine.core.decision import PrincipalKind
from policy_engine.services.keys import KeyRequest
from tests.api.served import ALICE, EVE, POLICIES, Served, request, serving

BRUNO = request("bruno", "acme-de", "DE", "opus-4-8")


def approve(served: Served, proposal: str, key: str = "approver") -> Any:
    """Approve a proposal by the content hash that its page shows; return the answer."""
    shown = served.get(f"/v1/approvals/{proposal}", key=key).json()
    return served.post(f"/v1/approvals/{proposal}/approve", {"hash": shown["hash"]}, key=key)


def test_a_switch_withdraws_at_once_and_returns_by_two_persons(served: Served) -> None:
    """One person engages, and the next decision denies; releasing waits, and the proposer cannot approve it."""
    assert served.decide(BRUNO)["decision"] is True
    body = {"id": "m-1", "scope": {"models": ["opus-4-8"]}, "reason": "incident", "reference": "T-1"}
    engaged = served.post("/v1/switches", body, key="operator")
    assert (engaged.status_code, engaged.json()["status"]) == (201, "committed")
    denied = served.decide(BRUNO)
    assert denied["decision"] is False
    assert denied["context"]["reasons"][0]["orders"] == ["m-1"]
    waiting = served.post("/v1/switches/m-1/release", {"reason": "over"}, key="operator")
    proposal = waiting.json()["proposal"]
    assert (waiting.status_code, waiting.headers["location"]) == (202, f"/v1/approvals/{proposal}")
    own = served.post(f"/v1/approvals/{proposal}/approve", {"hash": waiting.json()["hash"]}, key="operator")
    assert (own.status_code, own.json()["code"]) == (403, "caller.not-permitted")
    assert served.decide(BRUNO)["decision"] is False
    approved = approve(served, proposal)
    assert (approved.status_code, approved.json()["status"]) == (200, "approved")
    assert served.decide(BRUNO)["decision"] is True
    shown = served.get("/v1/switches/m-1", key="gateway").json()
    assert (shown["status"], shown["released_by"], shown["approved_by"]) == ("released", "operator", "approver")
    assert shown["id"] in [
        each["id"] for each in served.get("/v1/switches?status=released", key="gateway").json()["switches"]
    ]


@pytest.mark.parametrize("id", ["BIS/2026/14", "x/release", "a%2Fb", "a?b#c", "/"])
def test_every_id_that_is_taken_has_its_own_places(served: Served, id: str) -> None:
    """A switch and an order whose ids hold slashes, as the numbers of letters do, are shown, released and ended."""
    place = quote(id, safe="")
    served.post("/v1/switches", {"id": id, "scope": {"models": ["mythos-5"]}, "reason": "r"}, key="operator")
    shown = served.get(f"/v1/switches/{place}", key="gateway")
    assert (shown.status_code, shown.json()["id"], shown.json()["status"]) == (200, id, "engaged")
    waiting = served.post(f"/v1/switches/{place}/release", {"reason": "over"}, key="operator")
    assert (waiting.status_code, waiting.json()["id"]) == (202, id)
    assert approve(served, waiting.json()["proposal"]).status_code == 200
    document = {"id": id, "models": ["mythos-5"], "blocks": ["foreign_person"]}
    served.post("/v1/orders", {"kind": "directive", "document": document}, key="operator")
    assert served.get(f"/v1/orders/{place}", key="operator").json()["id"] == id
    tighter = {**document, "blocks": ["foreign_person", "destination_outside_us"]}
    assert served.post(f"/v1/orders/{place}/amend", {"document": tighter}, key="operator").status_code == 200
    ended = served.post(f"/v1/orders/{place}/end", {"reason": "over"}, key="operator")
    assert (ended.status_code, ended.json()["id"]) == (202, id)
    assert approve(served, ended.json()["proposal"]).status_code == 200
    held = served.post("/v1/log/holds", {"id": f"hold {id}", "model": "mythos-5", "reason": "r"}, key="operator")
    assert held.status_code == 201, held.text
    over = served.post(f"/v1/log/holds/{quote(f'hold {id}', safe='')}/release", {"reason": "over"}, key="operator")
    assert (over.status_code, over.json()["id"]) == (202, f"hold {id}")


def test_an_approval_of_another_content_is_refused(served: Served) -> None:
    """What is approved is what its person read, and a proposal is decided once."""
    served.post("/v1/switches", {"id": "m-2", "scope": {"models": ["summit-4"]}, "reason": "r"}, key="operator")
    proposal = served.post("/v1/switches/m-2/release", {"reason": "r"}, key="operator").json()["proposal"]
    wrong = served.post(f"/v1/approvals/{proposal}/approve", {"hash": "0" * 64}, key="approver")
    assert wrong.status_code == 409
    refused = served.post(f"/v1/approvals/{proposal}/refuse", {"reason": "not yet"}, key="approver")
    assert (refused.status_code, refused.json()["status"]) == (200, "refused")
    assert approve(served, proposal).status_code == 409
    listed = served.get("/v1/approvals?status=refused", key="approver").json()["approvals"]
    assert [each["reason"] for each in listed if each["id"] == proposal] == ["not yet"]


def test_a_directive_denies_from_its_receipt_and_its_exemptions_wait(served: Served) -> None:
    """Blocks are in force when the answer comes; what eases them is a proposal of its own."""
    document = {
        "id": "m-3",
        "from": "2026-06-01T00:00:00Z",
        "models": ["fable-5-1"],
        "blocks": ["foreign_person"],
        "exempts": [{"id": "m-3-e", "models": ["fable-5-1"], "who": "lab_foreign_national_employees"}],
    }
    asked = request("bruno", "acme-de", "DE", "fable-5-1")
    assert served.decide(asked)["decision"] is True
    received = served.post(
        "/v1/orders", {"kind": "directive", "document": document, "text": "By order."}, key="operator"
    )
    assert (received.status_code, received.json()["status"]) == (201, "partly waiting")
    denied = served.decide(asked)["context"]["reasons"]
    assert any(reason.get("orders") == ["m-3"] and reason["rule"] == "P12" for reason in denied)
    shown = served.get("/v1/orders/m-3", key="operator").json()
    assert (shown["status"], shown["body"]["exempts"]) == ("in_force", [])
    assert approve(served, received.json()["proposal"]).status_code == 200
    assert len(served.get("/v1/orders/m-3", key="operator").json()["body"]["exempts"]) == 1
    tighter = {**document, "blocks": ["foreign_person", "destination_outside_us"]}
    amended = served.post("/v1/orders/m-3/amend", {"document": tighter, "reason": "second letter"}, key="operator")
    assert (amended.status_code, amended.json()["status"]) == (200, "committed")
    ended = served.post("/v1/orders/m-3/end", {"reason": "withdrawn"}, key="operator")
    assert (ended.status_code, ended.json()["status"]) == (202, "waiting")
    assert approve(served, ended.json()["proposal"]).status_code == 200
    assert served.decide(asked)["decision"] is True


def test_facts_are_set_by_one_person_and_seen_by_the_next_decision(served: Served) -> None:
    """A changed fact changes the next answer; who wrote it is stamped from the key."""
    asked = request("m-person", "acme-de", "DE", "opus-4-8")
    assert served.decide(asked)["decision"] is False
    facts = {
        "citizenships": [{"country": "DE", "acquired": "birth", "current": True}],
        "permanent_residencies": [],
        "us_status": "none",
        "residence_country": "DE",
        "nationality_evidence": {"level": "verified", "verified_on": "2026-11-01", "expires_on": None},
        "list_match": "none",
        "tenants": ["acme-de"],
    }
    body = {"id": "m-person", "facts": facts, "provenance": {"method": "passport", "reference": "R-1"}}
    assert served.post("/v1/subjects", body, key="operator").json()["status"] == "committed"
    assert served.decide(asked)["decision"] is True
    before = served.entries()
    shown = served.post("/v1/subjects/show", {"id": "m-person"}, key="operator").json()
    assert served.entries() == before + 1  # the read is on the record
    assert shown["facts"]["us_status"]["value"] == "none"
    assert shown["facts"]["us_status"]["verifier"] == "operator"
    assert shown["facts"]["us_status"]["method"] == "passport"
    again = served.post("/v1/subjects", body, key="operator")
    assert again.status_code == 409
    stamped = {"id": "m-person", "facts": {"lab_employee": {"value": True, "verifier": "somebody"}}}
    assert served.post("/v1/subjects", stamped, key="operator").status_code == 400
    ending = served.get("/v1/subjects/expiring?days=365", key="operator").json()["expiring"]
    assert ("persons", "m-person", "nationality_evidence") in [(e["of"], e["id"], e["field"]) for e in ending]


def test_facts_of_a_tenant_have_their_own_route(served: Served) -> None:
    """Tenants are set and shown as persons are."""
    facts = {"type": "enterprise", "incorporated_in": "US", "headquarters": "US", "ultimate_parent_headquarters": "US"}
    assert served.post("/v1/tenants", {"id": "m-tenant", "facts": facts}, key="operator").status_code == 200
    shown = served.post("/v1/tenants/show", {"id": "m-tenant"}, key="auditor").json()
    assert shown["facts"]["headquarters"]["value"] == "US" and shown["revision"] == 1


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/v1/switches", {"id": "x", "scope": {}, "reason": "r", "extra": 1}, "body.*"),
        ("/v1/switches", {"id": "x", "scope": {"modell": ["fable-5"]}, "reason": "r"}, "body.scope.*"),
        ("/v1/switches", {"id": 5, "scope": {}, "reason": "r"}, "body.id"),
        ("/v1/switches", {"id": "x", "scope": {}, "reason": "r", "until": "tomorrow"}, "body.until"),
        ("/v1/switches", {"id": "x", "scope": {}, "reason": "r", "until": "2026-07-01T00:00:00"}, "body.until"),
        ("/v1/orders", {"kind": "decree", "document": {}}, "body.kind"),
        ("/v1/subjects", {"id": "x", "facts": {}}, "body.facts"),
        ("/v1/subjects", {"id": "x", "facts": {"a": 1}, "provenance": {"source": "me"}}, "body.provenance.*"),
        ("/v1/approvals/x/approve", {"hash": "short"}, "body.hash"),
        ("/v1/releases", {"files": {}}, "body.files"),
    ],
)
def test_a_body_that_is_not_what_the_route_takes_is_a_422_that_names_the_member(
    served: Served, path: str, body: Any, where: str
) -> None:
    """Models are strict: unknown members, coerced types and instants without a zone are refused by place."""
    answer = served.post(path, body, key="operator")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert where in [each["where"] for each in answer.json()["errors"]]


@pytest.mark.parametrize("query", ["?status=on", "?stat=engaged", "?status=engaged&x=1"])
def test_a_query_that_means_nothing_is_refused(served: Served, query: str) -> None:
    """A misspelt filter must not look like no filter."""
    assert served.get(f"/v1/switches{query}", key="gateway").status_code == 422


def test_no_parameter_of_a_query_is_taken_from_two(served: Served) -> None:
    """Of every route that takes parameters, one that stands twice is refused by its name, even with one value."""
    paths = served.get("/openapi.json", key="gateway").json()["paths"]
    tried = {
        (path, verb, parameter["name"])
        for path, verbs in paths.items()
        for verb, route in verbs.items()
        for parameter in route.get("parameters", ())
        if parameter["in"] == "query"
    }
    assert {("/v1/decisions", "get", "outcome"), ("/v1/switches", "post", "wait")} <= tried
    keys = {scope: key for key in ("gateway", "auditor", "approver", "operator") for scope in _scopes(served, key)}
    for path, verb, name in sorted(tried):
        needed = paths[path][verb][SCOPES_MEMBER]
        key = keys[needed[0]] if needed else "operator"
        place = path.replace("{id}", "x").replace("{hash}", "0")
        for values in ("allow", "deny"), ("1", "1"):
            asked = f"{place}?{name}={values[0]}&{name}={values[1]}"
            answer = served.get(asked, key=key) if verb == "get" else served.post(asked, {}, key=key)
            assert answer.status_code == 422, (asked, answer.text)
            named = [each for each in answer.json()["errors"] if each["where"] == f"query.{name}"]
            assert named == [{"where": f"query.{name}", "detail": "stands more than once; give one value"}]


def test_a_parameter_that_a_caller_made_up_is_not_repeated(served: Served) -> None:
    """It may be a person's name, and a route without parameters heeds none: twice it is refused all the same."""
    answer = served.get("/v1/models/fable-5?alice-smith=1&alice-smith=2", key="gateway")
    assert answer.status_code == 422 and "alice-smith" not in answer.text
    assert [each["where"] for each in answer.json()["errors"]] == ["query.*"]


def _scopes(served: Served, key: str) -> frozenset[str]:
    """Return the scopes of a sample key."""
    principal = served.engine.keys.authenticate(served.keys[key], served.engine.store.now())
    return frozenset(principal.scopes)


def test_models_are_found_by_id_and_alias(served: Served) -> None:
    """The catalogue is read from the active release, whole or by tier."""
    listed = served.get("/v1/models", key="gateway").json()
    assert listed["release"] == served.engine.store.state().release
    assert [model["id"] for model in listed["models"]] == sorted(model["id"] for model in listed["models"])
    assert served.get("/v1/models/fable-latest", key="gateway").json()["id"] == "fable-5"
    assert {model["tier"] for model in served.get("/v1/models?tier=5", key="gateway").json()["models"]} == {5}


def release_files(**changed: str) -> dict[str, str]:
    """Return the sample release as text, with some files changed."""
    names = ["model.conf", "facets.toml", "models.toml"]
    names += [str(path.relative_to(POLICIES)) for path in sorted(POLICIES.glob("packs/*.toml"))]
    names += [str(path.relative_to(POLICIES)) for path in sorted(POLICIES.glob("tables/*.csv"))]
    return {name: (POLICIES / name).read_text(encoding="utf-8") for name in names} | changed


def test_a_release_is_published_and_activated_by_two_persons_each(tmp_path: Path) -> None:
    """A new release decides after two approvals, and not before."""
    with serving(tmp_path, serving_region="US") as served:
        old = served.decide(ALICE)["context"]["release"]
        models = (POLICIES / "models.toml").read_text(encoding="utf-8") + "\n# another edition\n"
        body = {"files": release_files(**{"models.toml": models}), "note": "n"}
        waiting = served.post("/v1/releases", body, key="operator")
        assert waiting.status_code == 202, waiting.text
        new = waiting.json()["id"]
        early = served.post(f"/v1/releases/{new}/activate", {}, key="operator")
        assert early.status_code == 409
        assert approve(served, waiting.json()["proposal"]).status_code == 200
        activation = served.post(f"/v1/releases/{new}/activate", {"note": "go"}, key="operator")
        assert activation.status_code == 202
        assert served.decide(ALICE)["context"]["release"] == old
        assert approve(served, activation.json()["proposal"]).status_code == 200
        assert served.decide(ALICE)["context"]["release"] == new != old
        shown = served.get(f"/v1/releases/{new}", key="gateway").json()
        assert (shown["active"], shown["status"], shown["approved_by"]) == (True, "published", "approver")


def test_a_release_that_does_not_load_is_refused_with_its_place(served: Served) -> None:
    """File and line come back; nothing is stored and the last release keeps deciding."""
    packs = next(name for name in release_files() if name.startswith("packs/"))
    body = {"files": release_files(**{packs: "[[rule]]\nid = 5\n"})}
    answer = served.post("/v1/releases", body, key="operator")
    assert (answer.status_code, answer.json()["code"]) == (422, "load.refused")
    assert answer.json()["where"].startswith(packs)
    assert len(served.get("/v1/releases", key="gateway").json()["releases"]) == 1


def make_key(served: Served, name: str, **options: Any) -> tuple[str, str]:
    """Make an enforcement point's key, approved; return its id and secret."""
    operator = served.engine.keys.authenticate(served.keys["operator"], served.engine.store.now())
    asked = KeyRequest(name, PrincipalKind.SERVICE, ("decide",), supplies=("location", "serving_region"), **options)
    issued = served.engine.keys.create(operator, asked)
    assert approve(served, issued.proposal).status_code == 200
    return issued.id, issued.secret


def test_a_revoked_key_is_dead_on_the_next_request(served: Served) -> None:
    """Decisions and management refuse it alike."""
    id, secret = make_key(served, "m-revoked")
    assert served.post("/access/v1/evaluation", ALICE, key=secret).status_code == 200
    operator = served.engine.keys.authenticate(served.keys["operator"], served.engine.store.now())
    served.engine.keys.revoke(operator, id, "lost")
    assert served.post("/access/v1/evaluation", ALICE, key=secret).status_code == 401
    assert served.get("/v1/models", key=secret).status_code == 401


def test_an_expired_key_is_dead(served: Served) -> None:
    """A key ends at its instant without anybody doing anything."""
    now = served.engine.store.now()
    _, secret = make_key(served, "m-expired", expires_at=now + 1_500_000)
    assert served.post("/access/v1/evaluation", ALICE, key=secret).status_code == 200
    time.sleep(max(0.0, (now + 1_500_000 - served.engine.store.now()) / 1e6))
    assert served.post("/access/v1/evaluation", ALICE, key=secret).status_code == 401


def test_a_key_bounded_to_another_tenant_is_denied(served: Served) -> None:
    """The key's tenants bound what it may ask for."""
    _, secret = make_key(served, "m-bounded", tenants=("acme-de",))
    answer = served.post("/access/v1/evaluation", ALICE, key=secret).json()
    assert answer["decision"] is False
    assert "tenant.not-permitted" in [reason["code"] for reason in answer["context"]["reasons"]]


def test_a_fact_that_the_key_may_not_supply_is_unknown(served: Served) -> None:
    """The operator's approver may decide and supplies no location: the place is unknown, and that denies."""
    answer = served.post("/access/v1/evaluation", ALICE, key="approver").json()
    assert answer["decision"] is False and "location" in " ".join(answer["context"]["missing"])


def test_a_hold_that_names_nothing_known_says_so(served: Served) -> None:
    """It stands all the same, and its members that may be misspelt are named without their values."""
    old = {"since": "2001-01-01T00:00:00Z", "until": "2001-01-02T00:00:00Z", "reason": "r"}
    odd = {"id": "m-h1", "subject": "minna", "tenant": "acmee", "model": "fable5", **old}
    placed = served.post("/v1/log/holds", odd, key="operator")
    assert (placed.status_code, placed.json()["status"]) == (201, "committed")
    assert placed.json()["unregistered"] == ["subject", "tenant", "model"] and "fable5" not in placed.text
    for id, model in (("m-h2", "fable-5"), ("m-h3", "fable-latest")):
        known = {"id": id, "subject": "mina", "tenant": "acme", "model": model, **old}
        assert "unregistered" not in served.post("/v1/log/holds", known, key="operator").json()


def test_decisions_are_listed_newest_first_page_by_page(served: Served) -> None:
    """Public parts come with instants as text; pages follow one another without gap or repetition."""
    asked = [served.decide(body)["context"]["id"] for body in (ALICE, EVE, BRUNO)]
    whole = served.get("/v1/decisions?limit=3", key="auditor").json()
    assert [each["id"] for each in whole["decisions"]] == asked[::-1]
    assert whole["decisions"][0]["at"].endswith("Z") and whole["complete"] is False
    first = served.get("/v1/decisions?limit=2", key="auditor").json()
    second = served.get(f"/v1/decisions?limit=1&after={first['after']}", key="auditor").json()
    assert first["decisions"] + second["decisions"] == whole["decisions"]
    denied = served.get("/v1/decisions?outcome=deny&model=fable-5&limit=1", key="auditor").json()["decisions"]
    assert [each["id"] for each in denied] == [asked[1]]
    later = served.get(f"/v1/decisions?since={whole['decisions'][0]['at']}", key="auditor").json()
    assert asked[2] in [each["id"] for each in later["decisions"]] and later["complete"] is True


def test_decisions_about_somebody_are_looked_for_by_post_and_on_the_record(served: Served) -> None:
    """A subject is found by its tag; the look itself has an entry before it is answered."""
    asked = served.decide(request("dana", "acme", "GB", "opus-4-8"))["context"]["id"]
    before = served.entries()
    found = served.post("/v1/decisions/query", {"subject": "dana", "limit": 1}, key="auditor").json()
    assert [each["id"] for each in found["decisions"]] == [asked]
    assert served.entries() == before + 1
    by_tenant = served.post("/v1/decisions/query", {"tenant": "acme-de", "limit": 5}, key="auditor").json()
    assert {each["tenant"] for each in by_tenant["decisions"]} <= {"acme-de"}
    assert "dana" not in str(found)


@pytest.mark.parametrize("query", ["?subject=alice", "?tenant=acme"])
def test_nobody_is_looked_for_in_a_url(served: Served, query: str) -> None:
    """Names of persons and tenants are no members of a query string."""
    assert served.get(f"/v1/decisions{query}", key="auditor").status_code == 422


def test_decisions_are_asked_for_in_the_language_of_questions(served: Served) -> None:
    """A question goes by POST; it finds decisions, or other entries when it names their kind."""
    asked = [served.decide(body)["context"]["id"] for body in (ALICE, EVE)]
    found = served.post("/v1/decisions/query", {"q": "deny model:fable-5 since 1h", "limit": 1}, key="auditor").json()
    assert [each["id"] for each in found["decisions"]] == [asked[1]]
    about = served.post("/v1/decisions/query", {"q": "allow subject:alice", "limit": 1}, key="auditor").json()
    assert [each["id"] for each in about["decisions"]] == [asked[0]]
    first = served.post("/v1/decisions/query", {"q": "kind:genesis", "oldest_first": True}, key="auditor").json()
    assert [each["seq"] for each in first["decisions"]] == [0] and first["complete"] is True
    refused = served.post("/v1/decisions/query", {"q": "deny shoe:43"}, key="auditor")
    assert refused.status_code == 400 and refused.json()["where"] == "question, character 6"


def test_one_decision_is_shown_by_its_id(served: Served) -> None:
    """The id that the answer carried finds the entry."""
    asked = served.decide(EVE)["context"]["id"]
    shown = served.get(f"/v1/decisions/{asked}", key="auditor").json()
    assert (shown["id"], shown["outcome"], shown["at"][-1]) == (asked, "deny", "Z")
    assert served.get(f"/v1/decisions/{shown['seq']}", key="auditor").json() == shown
