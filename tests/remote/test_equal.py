"""Near and far: a decision that comes over HTTP is equal to the one that the engine made, and so are the listings."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine import Decision, PolicyEngine
from policy_engine.core.enforcing import Enforcing
from policy_engine.inprocess import InProcess
from policy_engine.limits import LIMITS
from tests.api.served import Served

PERSONS = ("alice", "mina", "dana", "bruno", "ines", "chen", "greg", "eve", "nobody")
TENANTS = ("acme", "acme-de", "annexco", "lab", "ministry-uk", "shellco", "nowhere", None)
MODELS = ("fable-5", "fable-latest", "mythos-5", "opus-4-8", "open-1", "summit-4", "unheard-of")
PLACES = ("US", "DE", "CN", "UA-43", "XX", None, {"country": "US", "anonymiser": True}, {"region": "US-CA"})
QUESTIONS = st.fixed_dictionaries(
    {
        "subject": st.sampled_from(PERSONS),
        "model": st.sampled_from(MODELS),
        "action": st.sampled_from(("infer", "fine_tune", "download_weights", "list", "fly")),
        "tenant": st.sampled_from(TENANTS),
        "location": st.sampled_from(PLACES),
    },
    optional={
        "serving_region": st.sampled_from(("US", "CN", "nowhere")),
        "subject_type": st.sampled_from(("person", "service")),
    },
)
ALICE: dict[str, Any] = {
    "subject": "alice",
    "model": "fable-5",
    "action": "infer",
    "tenant": "acme",
    "location": "US",
}


@pytest.fixture
def made(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[Decision]:
    """Keep every decision that the service makes, before it becomes an answer."""
    kept: list[Decision] = []
    decider = served.engine.decider
    one, many = decider.decide_async, decider.decide_many_async

    async def keep_one(*arguments: Any, **options: Any) -> Decision:
        kept.append(await one(*arguments, **options))
        return kept[-1]

    async def keep_many(*arguments: Any, **options: Any) -> list[Decision]:
        found: list[Decision] = await many(*arguments, **options)
        kept.extend(found)
        return found

    monkeypatch.setattr(decider, "decide_async", keep_one)
    monkeypatch.setattr(decider, "decide_many_async", keep_many)
    return kept


@pytest.fixture(scope="module")
def far(served: Served) -> Iterator[PolicyEngine]:
    """Offer the served engine as it is asked over HTTP."""
    with PolicyEngine.connect(f"http://127.0.0.1:{served.port}", key=served.keys["gateway"]) as engine:
        yield engine


@pytest.fixture(scope="module")
def near(served: Served) -> PolicyEngine:
    """Offer the same engine as its own process asks it."""
    return PolicyEngine(InProcess(served.engine))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(QUESTIONS, min_size=1, max_size=4))
def test_what_comes_over_http_is_what_was_decided(
    far: PolicyEngine, made: list[Decision], questions: list[dict[str, Any]]
) -> None:
    """Every member is equal, the id too, alone and in a batch; only what is not compared differs."""
    made.clear()
    assert [far.decide(**question) for question in questions] == made
    made.clear()
    assert far.decide_many(questions) == made  # type: ignore[arg-type]  # made of the same names
    assert len(made) == len(questions)


def test_many_questions_are_put_in_batches_whose_answers_pass_a_proxy(
    far: PolicyEngine, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch is longer than its limit, and the decisions come back in the order asked."""
    decider, lengths = served.engine.decider, list[int]()
    many = decider.decide_many_async

    async def counted(requests: Any, *arguments: Any, **named: Any) -> list[Decision]:
        lengths.append(len(requests))
        return await many(requests, *arguments, **named)

    monkeypatch.setattr(decider, "decide_many_async", counted)
    names = [("fable-5", "mythos-5")[number % 7 == 3] for number in range(2 * LIMITS.remote_batch_count + 5)]
    found = far.decide_many([{**ALICE, "model": name} for name in names])  # type: ignore[list-item]  # the same names
    assert [decision.asked.model for decision in found if decision.asked is not None] == names
    assert sorted(lengths) == [5, LIMITS.remote_batch_count, LIMITS.remote_batch_count]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUESTIONS)
def test_near_and_far_decide_the_same(near: PolicyEngine, far: PolicyEngine, question: dict[str, Any]) -> None:
    """Two decisions of the same question differ in their ids alone, near, far, and on an event loop."""
    decisions = [near.decide(**question), far.decide(**question)]
    decisions += asyncio.run(_both(near, far, question))
    assert (
        len({(d.allowed, d.reasons, d.missing, d.alternatives, d.release, d.epoch, d.message) for d in decisions}) == 1
    )
    assert len({d.id for d in decisions}) == 4
    assert all(0 < d.valid_for_ms <= 2_000 for d in decisions)
    assert all((d.grant is not None) is d.allowed for d in decisions)


async def _both(near: PolicyEngine, far: PolicyEngine, question: dict[str, Any]) -> list[Decision]:
    return [await near.decide_async(**question), await far.decide_async(**question)]


def test_an_allow_from_afar_has_its_receipt(far: PolicyEngine) -> None:
    """What proves a later deletion comes with the answer, alone and in a batch."""
    for decision in (far.decide(**ALICE), *far.decide_many([ALICE])):  # type: ignore[list-item]  # the same names
        assert decision.receipt is not None
        assert decision.receipt["valid_for_ms"] == decision.valid_for_ms


def test_many_questions_keep_their_order(near: PolicyEngine, far: PolicyEngine) -> None:
    """More questions than one body holds are split and joined again, and each gets its own answer."""
    questions = [{**ALICE, "subject": PERSONS[place % len(PERSONS)]} for place in range(300)]
    questions += [{**ALICE, "tenant": "t" * 200, "serving_region": "é" * 250} for _ in range(140)]
    expected = [decision.reasons for decision in near.decide_many(questions)]  # type: ignore[arg-type]  # same names
    assert [decision.reasons for decision in far.decide_many(questions)] == expected  # type: ignore[arg-type]  # too
    assert far.decide_many([]) == near.decide_many([]) == []


@pytest.mark.parametrize("subject", ["alice", "bruno", "eve"])
def test_a_listing_shows_what_can_be_called(near: PolicyEngine, far: PolicyEngine, subject: str) -> None:
    """Aliases and objects stay as they were; a model that nobody could ask for is not shown.

    Control: policy_engine/core/questions.py:
    `usable = {request.model for request, decision in pairs if decision.allowed is True}`
    """
    listing: list[Any] = [*MODELS, {"id": "open-1", "object": "model"}, {"id": ""}, {"name": "open-1"}, "\ud800"]
    asked: dict[str, Any] = {"subject": subject, "tenant": "acme", "location": "US"}
    shown = far.filter_models(listing, **asked)
    callable_ = [id for id in MODELS if near.decide(model=id, action="infer", **asked)]
    expected = callable_ + [model for model in listing[len(MODELS) : len(MODELS) + 1] if "open-1" in callable_]
    assert shown == near.filter_models(listing, **asked) == expected
    assert asyncio.run(far.filter_models_async(listing, **asked)) == expected
    assert asyncio.run(near.filter_models_async(listing, **asked)) == expected


def test_near_and_far_list_the_same(near: PolicyEngine, far: PolicyEngine) -> None:
    """Who can and what can, alone and on an event loop; what is listed is allowed, what is not is denied."""
    asked: dict[str, Any] = {"tenant": "acme", "location": "US"}

    async def listed(engine: PolicyEngine) -> tuple[Any, Any]:
        return (
            await engine.who_can_async(model="fable-5", **asked),
            await engine.what_can_async(subject="alice", **asked),
        )

    who, what = near.who_can(model="fable-5", **asked), near.what_can(subject="alice", **asked)
    assert (far.who_can(model="fable-5", **asked), far.what_can(subject="alice", **asked)) == (who, what)
    assert asyncio.run(listed(far)) == asyncio.run(listed(near)) == (who, what)
    assert who.complete and what.complete and "alice" in who and "fable-5" in what and len(what) > 1
    for person in PERSONS:
        assert bool(far.decide(**{**ALICE, "subject": person})) is (person in who)


def test_either_is_what_an_enforcement_point_needs(near: PolicyEngine, far: PolicyEngine) -> None:
    """Middleware takes an `Enforcing`, and may be given either; an allow of one cannot be held by the other."""
    points: list[Enforcing] = [near, far]
    allowed = [point.decide(**ALICE) for point in points]
    for point, decision in zip(points, allowed, strict=True):
        with point.hold(decision) as hold:
            assert hold.ended is None
    for point, decision in zip(points, allowed[::-1], strict=True):
        with pytest.raises(ValueError, match="that this engine gave"):
            point.hold(decision)
    with pytest.raises(ValueError, match="that this engine gave"):
        far.hold(far.decide(**{**ALICE, "subject": "eve"}))


def test_an_allow_goes_where_programs_put_it(near: PolicyEngine, far: PolicyEngine) -> None:
    """It is copied, made a mapping and pickled without its engine; the copy can be held, what was pickled cannot."""
    for engine in (near, far):
        decision = engine.decide(**ALICE)
        assert asdict(decision)["reasons"][0]["code"] == "access.closed"
        engine.hold(copy.deepcopy(decision)).close()
        found = pickle.loads(pickle.dumps(decision))  # noqa: S301  of our own making
        assert found == decision and found and found.receipt == decision.receipt is not None
        with pytest.raises(ValueError, match="that this engine gave"):
            engine.hold(found)
