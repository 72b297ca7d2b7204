"""Names that do not tell the models apart: what is learned of them, and that nobody is passed by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from policy_engine.probe import Models, Outcome, Target, run
from policy_engine.probe.standing import DO_SHARE, MAY_SHARE, Names, Standing
from tests.probe.conftest import Served
from tests.probe.gateway import ALIAS, ALLOWED, DERIVATIVE, FAILING, FORBIDDEN, refused
from tests.probe.test_holes import SLOW, told
from tests.probe.test_suite import outcome_of, probed, scripted
from tests.probe.upstream import completion, whole

SAME = "served-model"
KNOWN = (ALLOWED, FORBIDDEN)


async def _answered(send: Any, said: str) -> None:
    await whole(send, 200, completion("/v1/chat/completions", said))


async def _uncontrolled(document: dict[str, Any], send: Any) -> None:
    """Answer whichever model is asked for under one name, as upstreams with a fixed name do."""
    known = document["path"] == "/v1/chat/completions" and document.get("model") in KNOWN
    await (_answered(send, SAME) if known else refused(send, 404))


@pytest.mark.parametrize("allowed", [(ALLOWED,), (ALLOWED, SAME)])
def test_a_gateway_without_control_is_not_passed_under_one_name_for_all(allowed: tuple[str, ...]) -> None:
    """Where both models answer under the same name the plain question is unclear, also if the name is said to be the
    allowed model's; and so is each check that is answered under it."""
    report = probed(scripted(_uncontrolled), models=Models(allowed, (FORBIDDEN,)))
    unclear = told(report, Outcome.UNCLEAR)
    assert {"plain", "streaming", "body-model", "duplicate-key", "late-model"} <= unclear.keys()
    assert unclear["plain"] == f"the plain question: 200, answered by `{SAME}`; {DO_SHARE}"
    assert not report.complete and report.problem == ""


def test_a_model_in_the_place_of_another_says_so_by_its_own_name() -> None:
    """A gateway that answers for the forbidden model with the allowed one, as the answer says itself, is passed."""

    async def replacing(document: dict[str, Any], send: Any) -> None:
        await (_answered(send, f"{ALLOWED}-2026-06-12") if document.get("model") in KNOWN else refused(send, 404))

    report = probed(scripted(replacing), only=frozenset({"name-case"}))
    assert outcome_of(report, "plain") is Outcome.PASSED and report.complete


@pytest.mark.parametrize("given", [(), (SAME,)])
def test_a_second_model_under_the_learned_name_is_not_passed(given: tuple[str, ...]) -> None:
    """The gateway decides on the first of two names and the upstream takes the last, under one name for both: unclear,
    and the finding says what to do. Whoever says that the name is the allowed model's alone is believed."""

    async def first(document: dict[str, Any], send: Any) -> None:
        if document.get("model") == ALLOWED or document.get("fallbacks"):
            await _answered(send, SAME)
        else:
            await refused(send, 403)

    report = probed(scripted(first), models=Models((ALLOWED, *given), (FORBIDDEN,)), only=frozenset({"fallback-asked"}))
    assert outcome_of(report, "plain") is Outcome.PASSED
    assert outcome_of(report, "fallback-asked") is (Outcome.PASSED if given else Outcome.UNCLEAR)
    assert report.complete is bool(given)
    assert given or (MAY_SHARE in told(report, Outcome.UNCLEAR)["fallback-asked"] and "--allowed" in MAY_SHARE)


def test_a_good_gateway_before_an_upstream_with_names_of_its_own(served: Served, aimed: Callable[..., Target]) -> None:
    """What is refused stays refused. Only what the allowed model answers although the forbidden one is named is in
    doubt, and given the name no check is."""
    served.upstream.called = {ALLOWED: SAME}
    report = run(aimed(skip=SLOW))
    unclear = told(report, Outcome.UNCLEAR)
    assert report.problem == "" and report.holes == ()
    assert unclear.keys() == {"header-model", "nested-model", "nested-elsewhere", "fallback-asked"}
    assert all(MAY_SHARE in finding for finding in unclear.values())
    models = Models((ALLOWED, SAME), (FORBIDDEN,), (ALIAS,), (DERIVATIVE,), FAILING)
    assert run(aimed(skip=SLOW, models=models)).complete


@pytest.mark.parametrize(
    ("allowed", "forbidden", "said", "standing"),
    [
        ("open-1", "acme/fable-5", "fable-5", Standing.FORBIDDEN),
        ("open-1", "acme/fable-5", "openai/Fable-5", Standing.FORBIDDEN),
        ("open-1", "acme/eu/fable-5", "fable-5-2026-06-12", Standing.FORBIDDEN),
        ("open-1", "acme/fable-5", "fable-5-mini", Standing.OTHER),
        ("acme/open-1", "acme/fable-5", "open-1", Standing.ALLOWED),
        ("eu/fable-5", "us/fable-5", "fable-5", Standing.OTHER),
        ("eu/fable-5", "us/fable-5", "us/fable-5", Standing.FORBIDDEN),
        ("fable-5", "us/fable-5", "us/fable-5", Standing.FORBIDDEN),
        ("eu/fable-5", "fable-5", "fable-5", Standing.FORBIDDEN),
        ("open-1", "acme/", "", Standing.UNSAID),
    ],
)
def test_the_last_segment_of_a_name_is_known(allowed: str, forbidden: str, said: str, standing: Standing) -> None:
    """An answer may leave out the provider or name another, unless two models differ in nothing else."""
    assert Names(Models((allowed,), (forbidden,))).standing(said) is standing


@pytest.mark.parametrize(
    ("said", "other", "standing"),
    [
        (f"{ALLOWED}-2026-06-12", "", Standing.ALLOWED),
        (f"acme/{ALLOWED}", f"acme/{ALLOWED}", Standing.ALLOWED),
        (SAME, "", Standing.SHARED),
        (SAME, SAME.upper(), Standing.SHARED),
        ("given", "", Standing.ALLOWED),
        ("given", "given", Standing.SHARED),
        ("end", "end", Standing.SHARED),
    ],
)
def test_a_name_is_learned_for_neither_model(said: str, other: str, standing: Standing) -> None:
    """The allowed model's own name stays its own; another is shared until it was given, and where both answered under
    it also then."""
    names = Names(Models((ALLOWED, "given", "end"), (FORBIDDEN, "acme/end")))
    names.learn(said, other)
    assert names.standing(said) is standing
    assert bool(names.doubt(said)) is (standing is Standing.SHARED)
    assert names.standing(FORBIDDEN) is Standing.FORBIDDEN and names.standing(ALLOWED) is Standing.ALLOWED


def test_a_name_that_ends_as_the_forbidden_one_is_not_the_allowed_models_own() -> None:
    """`fable-5` is the allowed model's and may be what the upstream calls `us/fable-5`: if both answer so, it is
    nobody's."""
    names = Names(Models(("fable-5",), ("us/fable-5",)))
    names.learn("fable-5", "fable-5")
    assert names.standing("fable-5") is Standing.SHARED
