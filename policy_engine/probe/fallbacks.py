"""Checks of fallbacks: a model that the caller may use, and another one that answers in its place.

Left to others: what a gateway does while its authorizer is away (`withdrawing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policy_engine.probe.asks import Ask
from policy_engine.probe.checking import Check, Scene, Verdict, judged, skipped, withheld

GROUP: Final = "fallbacks"
TRIES_COUNT: Final = 3


def asked_for(scene: Scene, model: str) -> Iterator[Ask]:
    """Ask for the allowed model and name this one as its fallback, in the members that gateways read."""
    own = scene.allowed
    yield scene.form.ask(own, "the model among fallbacks", fallbacks=[model], mock_testing_fallbacks=True)
    yield scene.form.ask(own, "the model among fallbacks, streamed", fallbacks=[model], stream=True)
    yield scene.form.ask(own, "the model among fallbacks, as an object", fallbacks=[{"model": model}])
    yield scene.form.ask(own, "the model among fallback_models", fallback_models=[model])
    yield scene.form.ask(own, "the model first among models", models=[model, own])
    yield scene.form.ask(own, "the model first among models, with a route", models=[model, own], route="fallback")
    for why, sent in (("context_window", "long texts"), ("content_policy", "refused texts")):
        trigger = f"mock_testing_{why.removesuffix('_window')}_fallbacks"  # LiteLLM then fails as such a text would
        yield scene.form.ask(
            own, f"the model as fallback for {sent}", **{f"{why}_fallbacks": [{own: [model]}], trigger: True}
        )


def forced(scene: Scene) -> Verdict:
    """Ask for a model whose upstream fails, a few times: nobody may answer, or a model that the caller may use."""
    failing = scene.target.models.failing
    if not failing:
        return skipped("no model whose upstream fails: give --failing")
    asks = [scene.form.ask(failing, f"a model that fails, question {number}") for number in range(1, TRIES_COUNT + 1)]
    return judged([scene.put(ask) for ask in asks], failing=True)


_AGAIN: Final = "ask for a decision on the model of each attempt"

CHECKS: Final = (
    Check("fallback-asked", GROUP, f"{_AGAIN}; take no fallbacks from callers", withheld(asked_for)),
    Check("fallback-forced", GROUP, f"{_AGAIN}; in LiteLLM turn on enforce_fallback_model_access", forced),
)
