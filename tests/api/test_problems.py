"""Errors as problem documents: each class of error has its status, and nothing else leaves."""

from __future__ import annotations

import json
import re

import pytest

from policy_engine import errors
from policy_engine.api import problems
from policy_engine.errors import PolicyEngineError

STATUSES = {
    errors.InputRefused: 400,
    errors.TooLarge: 413,
    errors.LoadRefused: 422,
    errors.StartRefused: 500,
    errors.NotAuthenticated: 401,
    errors.Busy: 503,
    errors.IssuerUnavailable: 503,
    errors.NotPermitted: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.Overtaken: 409,
    errors.EngineUnavailable: 503,
    errors.LogForked: 503,
    errors.ReplicaCutOff: 503,
    errors.RollbackSuspected: 503,
    errors.StoreDamaged: 503,
    errors.StoreUnavailable: 503,
    errors.VerificationFailed: 500,
}


def every_error() -> set[type[PolicyEngineError]]:
    found: set[type[PolicyEngineError]] = set()
    left: list[type[PolicyEngineError]] = [PolicyEngineError]
    while left:
        kind = left.pop()
        found |= set(kind.__subclasses__())
        left += kind.__subclasses__()
    return {kind for kind in found if kind.__module__ == "policy_engine.errors"}


def test_every_class_of_error_has_a_status() -> None:
    """A new class of error needs a line here and in the table; a waiting approval is no error."""
    assert every_error() - STATUSES.keys() == {errors.ApprovalNeeded}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items(), ids=lambda value: getattr(value, "__name__", value))
def test_an_error_becomes_the_problem_of_its_class(kind: type[PolicyEngineError], status: int) -> None:
    """Status, code and sentence are the error's; a fault of ours says neither where nor why."""
    problem = problems.of_error(kind("the sentence"))
    document = json.loads(problem.body())
    assert (problem.status, document["status"]) == (status, status)
    assert document["title"] and document["detail"]
    if status == 500:
        assert "the sentence" not in problem.body().decode() and document["code"] == "internal"
    else:
        assert (document["code"], document["detail"]) == (kind.code, "the sentence")
        assert document["type"] == f"urn:policy-engine:problem:{kind.code}"


def test_the_place_stands_in_the_sentence_and_beside_it() -> None:
    """Where it was is for people and for programs."""
    document = problems.of_error(errors.LoadRefused("unknown effect word", where="packs/a.toml:7")).document()
    assert (document["where"], document["detail"]) == ("packs/a.toml:7", "packs/a.toml:7: unknown effect word")


def test_an_unknown_exception_says_nothing() -> None:
    """Whatever else is raised becomes a 500 without its text."""
    document = problems.of_error(KeyError("a secret")).document()
    assert document["status"] == 500 and "secret" not in json.dumps(document)


def test_headers_that_a_status_needs() -> None:
    """401 says how to authenticate, 503 when to come back, 405 what works."""
    assert problems.of_error(errors.NotAuthenticated("no")).headers == [
        (b"www-authenticate", b'Bearer realm="policy_engine"')
    ]
    assert problems.of_error(errors.StoreUnavailable("no")).headers == [(b"retry-after", b"1")]
    assert problems.method_not_allowed("POST").headers == [(b"allow", b"POST")]


def test_extension_members_have_names_that_the_rfc_allows() -> None:
    """RFC 9457, section 3.2: letters, digits and `_`, three characters or more, a letter first."""
    whole = problems.Problem(422, "x", "t", "d", "w", [{"where": "a", "detail": "b"}]).document()
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{2,}", name) for name in whole)


def test_what_waits_for_a_second_person_names_its_proposal() -> None:
    """202 is an answer, not a problem."""
    needed = errors.ApprovalNeeded("a second person must approve", proposal="prop-1")
    assert problems.waiting(needed) == {
        "proposal": "prop-1",
        "status": "waiting",
        "detail": "a second person must approve",
    }
