"""Hostile bodies against a running service: each is refused or denied in words, none is a 500, and it keeps serving."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.served import Served, request
from tests.house.outputs import PLANTED

pytestmark = pytest.mark.usefixtures("served")

PATHS = ("/access/v1/evaluation", "/access/v1/evaluations", "/access/v1/search/action")
WHOLE = request("alice", "acme", "US", "fable-5")


def with_raw(**texts: str) -> bytes:
    """Return the whole request with some members replaced by raw text."""
    body = json.dumps(WHOLE)
    for name, text in texts.items():
        start = body.index(f'"{name}": ')
        end = json.JSONDecoder().raw_decode(body, start + len(name) + 4)[1]
        body = f'{body[:start]}"{name}": {text}{body[end:]}'
    return body.encode("utf-8", "surrogatepass")


HOSTILE = {
    "nothing": b"",
    "spaces": b" " * 1_000,
    "array": b"[" + json.dumps(WHOLE).encode() + b"]",
    "text": b'"subject"',
    "NaN": with_raw(context='{"tenant": NaN}'),
    "infinite number": with_raw(context='{"x": 1e400}'),
    "lone surrogate": with_raw(context='{"tenant": "\\ud800"}'),
    "raw surrogate": b'{"subject": "\xed\xa0\x80"}',
    "latin-1": '{"subject": "é"}'.encode("latin-1"),
    "UTF-16": json.dumps(WHOLE).encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf" + json.dumps(WHOLE).encode(),
    "two subjects": b'{"subject": {"type": "person", "id": "eve"}, ' + json.dumps(WHOLE).encode()[1:],
    "two tenants": with_raw(context='{"tenant": "acme", "tenant": "lab"}'),
    "escaped twin": with_raw(context='{"tenant": "acme", "t\\u0065nant": "lab"}'),
    "depth 10,000 of arrays": with_raw(context='{"x": ' + "[" * 10_000 + "]" * 10_000 + "}"),
    "depth 10,000 of objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "cut off": json.dumps(WHOLE).encode()[:-1],
    "trailing": json.dumps(WHOLE).encode() + b"}",
    "many members": b'{"context": {' + b",".join(b'"%d": 0' % n for n in range(3_000)) + b"}}",
    "control in an id": with_raw(subject='{"type": "person", "id": "al\\u0000ice"}'),
    "line break in an id": with_raw(resource='{"type": "model", "id": "fable-5\\nx"}'),
    "long id": with_raw(subject=json.dumps({"type": "person", "id": "x" * 10_000})),
    "number for an id": with_raw(subject='{"type": "person", "id": 7}'),
    "number for a country": with_raw(context='{"location": {"country": 1}}'),
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_refused_in_words(served: Served, path: str, name: str) -> None:
    """400 with a problem document whose sentence says what was wrong."""
    answer = served.post(path, HOSTILE[name])
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    assert answer.json()["detail"]


@pytest.mark.parametrize("path", PATHS)
def test_ten_megabytes_are_refused(served: Served, path: str) -> None:
    """A body beyond the limit is too large, whatever it holds, and the next request is answered."""
    answer = served.post(path, b'{"x": "' + b"a" * 10_485_760 + b'"}')
    assert (answer.status_code, answer.json()["code"]) == (413, "input.too-large")
    assert served.post(path, WHOLE).status_code == 200


def test_ten_megabytes_in_chunks_of_no_announced_length_are_refused(served: Served) -> None:
    """A length that is not announced is counted."""

    def pieces() -> Any:
        for _ in range(160):
            yield b" " * 65_536

    answer = served.client.post(
        PATHS[0], content=pieces(), headers={**served.headers, "Content-Type": "application/json"}
    )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/v1/switches", "/v1/orders", "/v1/subjects", "/v1/releases", "/v1/approvals/x/approve"]
)
@pytest.mark.parametrize("name", ["NaN", "two tenants", "depth 10,000 of objects", "nothing", "array", "raw surrogate"])
def test_management_bodies_are_as_strict(served: Served, path: str, name: str) -> None:
    """The same bodies are refused by the management routes before any model sees them."""
    answer = served.post(path, HOSTILE[name], key="operator")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


def test_a_hostile_member_name_is_not_echoed(served: Served, planted_facts: Any) -> None:
    """What a caller made up comes back nowhere, not even as the place of an error."""
    body = {"id": "S-1", "scope": {planted_facts.person: ["x"]}, "reason": "r", planted_facts.nationality: 1}
    answer = served.post("/v1/switches", body, key="operator")
    assert answer.status_code == 422
    assert planted_facts.person not in answer.text and planted_facts.nationality not in answer.text


PERSON = PLANTED.person
NAMED = (
    ("GET", "switches/{}", None),
    ("POST", "switches/{}/release", {"reason": "r"}),
    ("POST", "switches/preview", {"release": PERSON}),
    ("GET", "orders/{}", None),
    ("POST", "orders/{}/amend", {"document": {}}),
    ("POST", "orders/{}/end", {"reason": "r"}),
    ("POST", "orders/preview", {"end": PERSON}),
    ("GET", "approvals/{}", None),
    ("POST", "approvals/{}/approve", {"hash": "0" * 64}),
    ("POST", "approvals/{}/refuse", {"reason": "r"}),
    ("POST", "log/holds/{}/release", {"reason": "r"}),
    ("POST", "log/erase", {"id": PERSON, "reason": "r"}),
    ("POST", "subjects/show", {"id": PERSON}),
    ("POST", "tenants/show", {"id": PERSON}),
    ("GET", "models/{}", None),
    ("GET", "releases/{}", None),
    ("POST", "releases/{}/activate", {}),
)


@pytest.mark.parametrize(("verb", "path", "body"), NAMED)
def test_an_id_that_names_nothing_is_not_echoed(served: Served, verb: str, path: str, body: Any) -> None:
    """Whoever types a person's name where an id is asked for finds it in no error."""
    there = "/v1/" + path.format(PERSON)
    key = "approver" if "approvals" in path else "operator"
    answer = served.get(there, key=key) if verb == "GET" else served.post(there, body, key=key)
    assert answer.status_code == 404 and PERSON not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_refusals_echo_nothing_personal(served: Served, planted_facts: Any, path: str) -> None:
    """A refused body may hold facts; its refusal does not."""
    body = {
        "subject": {"type": "person", "id": planted_facts.person},
        "action": {"name": "infer"},
        "resource": {"type": "model", "id": 5},
        "context": {"tenant": planted_facts.tenant, "location": planted_facts.location},
    }
    answer = served.post(path, body)
    assert answer.status_code == 400
    assert "planted" not in answer.text
