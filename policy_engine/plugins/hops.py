"""The decisions of one request through a gateway: each model that is about to answer is decided by itself.

Rules of the room:
- A hop is a model, an action and a serving region. An allow is used again for the same hop of the same request within
  its budget, counted from before it was asked for; for any other hop, and any later, the engine is asked anew.
- Whatever is not an allow raises `Refused`. An engine that fails is an outage, never an allow.
- Errors and log lines hold no identifier and nothing that a caller sent.
Left to others: who asks (`callers`), what the gateway's exceptions are (`litellm`), cutting a stream (`cutting`).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import Dialect, Refusal, malformed, refusal, unauthenticated, unavailable
from policy_engine.core.wording import Wording
from policy_engine.errors import InputRefused, StoreUnavailable
from policy_engine.plugins.callers import GatewayCaller
from policy_engine.plugins.engines import GatewayEngine

USED_SHARE: Final = 0.99
"""Of a budget so much is used, as the reference client does."""

NOBODY: Final = "Policy, not login: the key of this request names no user or no organisation, so nothing is allowed."
NO_MODEL: Final = "Policy, not login: this request names no model, so nothing can be allowed."
NOT_GUARDED: Final = (
    "Policy, not login: the model of this kind of request cannot be told here, so nothing is allowed. "
    "Administrators can let kinds through that reach no model: POLICY_ENGINE_GATEWAY_UNGUARDED."
)
ANOTHER_MODEL: Final = (
    "Policy, not login: beside `model` this request has a member that could say which model answers, or where, so "
    "nothing can be allowed. Leave it out: deployment_id, model_id, models, custom_llm_provider, aws_region_name, "
    "api_base, user_config, provider, inference_geo, a `model` within extra_body or a tool, and the like."
)
NOT_ASKABLE: Final = "The model or the place of this request is malformed, so nothing can be allowed."

_FIELDS: Final = frozenset({"code", "decision_id", "alternatives", "docs_url"})

log = logging.getLogger("policy_engine.plugins")


class Refused(Exception):
    """Nothing is let through. `answer` is what the client is told; `fields` say more of a deny, for clients that read.

    The fields are those of the OpenAI dialect beside its message: code, decision id, alternatives, where to look.
    """

    def __init__(self, answer: Refusal, fields: Mapping[str, Any] | None = None) -> None:
        self.answer = answer
        self.fields = fields or {}
        super().__init__("refused by policy")


@dataclass(frozen=True, slots=True)
class Hop:
    """A model that is about to answer, where it would, and what is done there."""

    model: str
    action: str = "infer"
    serving_region: str | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """An allow of this request, and until when it may be used, by the monotonic clock of this process."""

    decision: Decision
    until: float


@dataclass(slots=True)
class Journey:
    """One request on its way: who asks, in which dialect, what was allowed, and what was allowed last.

    `deployments` are the gateway's deployments that were let through, by what a later hook knows of them. `told` is
    called with each allow while a stream flows.
    """

    caller: GatewayCaller
    dialect: Dialect = Dialect.OPENAI
    allowed: dict[Hop, Allowed] = field(default_factory=dict)
    deployments: dict[tuple[str, str], Hop] = field(default_factory=dict)
    last: Hop | None = None
    told: Callable[[Decision], None] | None = None


class Hops:
    """Decides hops by an engine."""

    def __init__(self, engine: GatewayEngine, wording: Wording, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._wording = wording
        self._clock = clock

    async def allow(self, journey: Journey, hop: Hop) -> Decision:
        """Return the allow of a hop, fresh or still good. Raises `Refused` with the answer to send."""
        kept = journey.allowed.get(hop)
        if kept is None or self._clock() >= kept.until:
            kept = await self._ask(journey, hop)
            journey.allowed[hop] = kept
        journey.last = hop
        if journey.told is not None:
            journey.told(kept.decision)
        return kept.decision

    async def usable(self, caller: GatewayCaller, hops: Collection[Hop], dialect: Dialect) -> frozenset[Hop]:
        """Return the hops that the caller may make. Raises `Refused` where one of them was not decided.

        Each is decided, so a listing shows what could be called; an outage is said instead of what is left.
        """
        kept: set[Hop] = set()
        for region in {hop.serving_region for hop in hops}:
            models = {hop.model for hop in hops if hop.serving_region == region}
            try:
                found = await self._engine.filter_models_async(
                    sorted(models),
                    subject=caller.subject,
                    tenant=caller.tenant,
                    location=caller.location,
                    serving_region=region,
                )
            except InputRefused:
                raise Refused(malformed(dialect, NOT_ASKABLE)) from None
            except StoreUnavailable as error:
                log.error("a listing could not be decided: %s", type(error).__name__)
                raise Refused(unavailable(dialect)) from None
            kept |= {Hop(model, serving_region=region) for model in found}
        return frozenset(kept)

    async def _ask(self, journey: Journey, hop: Hop) -> Allowed:
        caller, asked_at = journey.caller, self._clock()
        try:
            decision = await self._engine.decide_async(
                subject=caller.subject,
                tenant=caller.tenant,
                location=caller.location,
                model=hop.model,
                action=hop.action,
                serving_region=hop.serving_region,
            )
        except InputRefused:
            raise Refused(malformed(journey.dialect, NOT_ASKABLE)) from None  # the cause may quote what was sent
        except Exception as error:  # noqa: BLE001  # whatever failed in the engine: nothing is allowed without an answer
            log.error("the engine could not be asked: %s", type(error).__name__)
            raise Refused(unavailable(journey.dialect)) from None
        if decision.allowed is not True:
            raise self.refused(decision, journey.dialect)
        until = asked_at + decision.valid_for_ms * USED_SHARE / 1000
        if self._clock() >= until:
            raise Refused(unavailable(journey.dialect))  # the answer was so slow that it holds no more
        return Allowed(decision, until)

    def refused(self, decision: Decision, dialect: Dialect) -> Refused:
        """Return the exception for a deny."""
        fields = json.loads(refusal(decision, Dialect.OPENAI, self._wording).body)["error"]
        told = {name: value for name, value in fields.items() if name in _FIELDS and value}
        return Refused(refusal(decision, dialect, self._wording), told)


def nobody(dialect: Dialect) -> Refused:
    """Return the exception for a caller whom the gateway did not name."""
    return Refused(unauthenticated(dialect, NOBODY))


def told(answer: Refusal) -> str:
    """Return the sentences of a refusal, in whichever dialect it is."""
    body = json.loads(answer.body)
    error = body.get("error", body)
    return str(error.get("message") or error.get("detail") or "")


def no_model(dialect: Dialect) -> Refused:
    """Return the exception for a request without a model."""
    return Refused(malformed(dialect, NO_MODEL))


def another_model(dialect: Dialect) -> Refused:
    """Return the exception for a request that could name a model, or a place, beside its `model`."""
    return Refused(malformed(dialect, ANOTHER_MODEL))


def not_guarded(dialect: Dialect) -> Refused:
    """Return the exception for a kind of request whose model may stand where nobody looks."""
    return Refused(malformed(dialect, NOT_GUARDED))
