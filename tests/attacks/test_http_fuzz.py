"""Made-up requests against a running service: whatever they hold, the answer is a declared one and never a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.served import ALICE, Served
from tests.contracts.schemas import problems_of

odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(
        ["", "US", "UA-43", "UA", "HK", "XK", "ZZ", "us", "alice", "acme", "lab", "fable-latest", "*", "all"]
    ),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
)
names = st.sampled_from(
    ["type", "id", "name", "properties", "tenant", "location", "serving_region", "country", "region"]
)
entities = odd | st.dictionaries(names | st.text(max_size=8), odd, max_size=5)
members = st.sampled_from(["subject", "action", "resource", "context", "options", "evaluations", "future"])
items = st.dictionaries(members, entities, max_size=5).map(lambda item: {**ALICE, **item})
OPTIONS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def document(served: Served) -> Any:
    """Offer the OpenAPI document."""
    return served.get("/openapi.json").json()


def fits(answer: Any, path: str, verb: str, document: Any) -> None:
    """Compare an answer with what the document declares."""
    declared = document["paths"][path][verb]["responses"]
    assert str(answer.status_code) in declared and answer.status_code < 500, answer.text
    content = declared[str(answer.status_code)]["content"]
    assert problems_of(answer.json(), content[answer.headers["content-type"]]["schema"], document) == []


@OPTIONS
@given(item=items)
def test_a_made_up_evaluation_is_answered_as_declared(served: Served, document: Any, item: dict[str, Any]) -> None:
    """A decision, or a refusal that says what was wrong."""
    path = "/access/v1/evaluation"
    fits(served.post(path, item), path, "post", document)


@OPTIONS
@given(top=items, batch=st.lists(items | odd, max_size=5), semantic=odd, explain=st.booleans() | odd)
def test_a_made_up_batch_is_answered_as_declared(
    served: Served, document: Any, top: dict[str, Any], batch: list[Any], semantic: Any, explain: Any
) -> None:
    """Each item has its decision, or the batch its refusal."""
    options = {"evaluations_semantic": semantic, "explain": explain}
    path = "/access/v1/evaluations"
    for body in ({**top, "evaluations": batch}, {**ALICE, "evaluations": batch}, {**top, "options": options}):
        fits(served.post(path, body), path, "post", document)


SEARCHES = [f"/access/v1/search/{sought}" for sought in ("subject", "resource", "action")]
a_page = odd | st.dictionaries(st.sampled_from(["token", "limit", "properties", "next_token"]), odd, max_size=4)


@OPTIONS
@given(path=st.sampled_from(SEARCHES), item=items, page=st.none() | a_page)
def test_a_made_up_search_is_answered_as_declared(
    served: Served, document: Any, path: str, item: dict[str, Any], page: Any
) -> None:
    """A page, or a refusal that says what was wrong; and never a page for a made-up token."""
    answer = served.post(path, item if page is None else {**item, "page": page})
    fits(answer, path, "post", document)
    if isinstance(page, dict) and page.get("token") is not None:
        assert answer.status_code == 400


ROUTES = ["/v1/switches", "/v1/orders", "/v1/subjects", "/v1/tenants/show", "/v1/releases", "/v1/decisions/query"]
own = st.sampled_from(
    ["id", "scope", "reason", "until", "kind", "document", "text", "facts", "provenance", "files", "note"]
)


@OPTIONS
@given(path=st.sampled_from(ROUTES), body=st.dictionaries(own, entities, max_size=6))
def test_a_made_up_change_is_answered_as_declared(
    served: Served, document: Any, path: str, body: dict[str, Any]
) -> None:
    """Whatever a body holds, a management route takes it or says why not."""
    fits(served.post(path, body, key="operator"), path, "post", document)


@OPTIONS
@given(text=st.binary(max_size=200) | st.text(alphabet='{}[]":,\\u0019ntrue -.eE', max_size=200).map(str.encode))
def test_made_up_bytes_are_refused(served: Served, document: Any, text: bytes) -> None:
    """What is no JSON object with the three entities is a 400."""
    path = "/access/v1/evaluation"
    answer = served.post(path, text)
    fits(answer, path, "post", document)
    assert answer.status_code == 400


def test_the_fuzzers_own_whole_request_is_a_decision(served: Served) -> None:
    """What the made-up requests are made from is well-formed; otherwise nothing above would reach the decider."""
    assert served.decide(json.loads(json.dumps(ALICE)))["decision"] in (True, False)
