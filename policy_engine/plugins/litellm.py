"""The LiteLLM plugin: a `CustomLogger` that decides before each call, at each deployment, in listings and in streams.

`callbacks: [policy_engine.plugins.litellm.guard]` in the proxy's configuration makes it from POLICY_ENGINE_* variables.

Rules of the room:
- Who asks is what the proxy authenticated: the `UserAPIKeyAuth` object, which no body can hold, and of it the fields
  that the settings name. Without one nothing is allowed.
- Before the call the model that was asked for is decided; at each hop (retry, fallback, another deployment) the model
  that would answer. Neither stands in for the other.
- A body that could name a model, or a place, beside `model` is refused: what comes of it no hook sees (`onemodel`).
- Assistants and threads run no hook; they are closed where they all pass.
- A call type that is not in `GUARDED` is refused, unless the operator lists it as unguarded: on other routes the model
  may stand where no hook sees it.
- Prompts and replies are never read. Whatever fails, fails the request.
Left to others: deciding (`hops`), cutting (`cutting`), everything LiteLLM does with a request that was let through.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

import litellm
from litellm.exceptions import GuardrailRaisedException
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException, UserAPIKeyAuth

from policy_engine.core.decision import DecisionDenied
from policy_engine.core.dialects import Dialect, dialect_of
from policy_engine.errors import StartRefused
from policy_engine.guarding import guarded
from policy_engine.plugins.callers import caller_of
from policy_engine.plugins.engines import GatewayEngine, gateway_engine
from policy_engine.plugins.gatewaysettings import PREFIX, GatewaySettings, gateway_settings
from policy_engine.plugins.holding import ChangingHold
from policy_engine.plugins.hops import Hop, Hops, Journey, Refused, another_model, no_model, nobody, not_guarded, told
from policy_engine.plugins.onemodel import names_another

_KINDS: Final = (
    "completion",
    "embedding",
    "image_generation",
    "moderation",
    "rerank",
    "responses",
    "speech",
    "text_completion",
    "transcription",
)
GUARDED: Final = frozenset({"anthropic_messages", *_KINDS, *(f"a{kind}" for kind in _KINDS)})
"""Call types whose model is `data["model"]` and nothing else."""
COOLING: Final = frozenset({401, 402, 404, 408, 429})
"""Statuses for which LiteLLM takes a deployment away from everybody for a while."""

_NOT_KEPT: Final = ("headers", "provider_specific_header")
"""Members of a body that LiteLLM leaves out of what it keeps of one, for they may hold keys."""
_ASSISTANTS: Final = "assistants"
_THROUGH: Final = "_pass_through_assistants_endpoint_factory"


class Unguarded:
    """Stands for a request of a call type that passes without a decision; each deployment it reaches is decided."""


_JOURNEY: ContextVar[Journey | Unguarded | None] = ContextVar("policy_engine_journey", default=None)


class ModelDenied(ProxyException, GuardrailRaisedException):  # type: ignore[misc]  # LiteLLM is not there where types are checked
    """A refusal as LiteLLM passes it on: status and headers are kept, nothing is retried, and no fallback stands in.

    The proxy answers a `ProxyException` as it is. A `GuardrailRaisedException` ends retries and fallbacks of a group.
    """

    def __init__(self, refused: Refused, *, status: int | None = None) -> None:
        answer = refused.answer
        headers = {name: value for name, value in answer.headers if name != "content-type"}
        message = told(answer)
        denied = answer.status not in (400, 401, 503)
        super().__init__(
            message=message,
            type="request_forbidden" if denied else "policy_engine_error",
            param="model" if denied else None,
            code=status or answer.status,
            headers=headers,
            provider_specific_fields=dict(refused.fields) or None,
        )
        self.message = message  # the second base class made another one of it
        self.args = (message,)
        self.status_code = status or answer.status
        self.guardrail_name = "policy_engine"


class Guard(CustomLogger):  # type: ignore[misc]  # as above
    """The hooks of LiteLLM. One instance serves a proxy; what belongs to a request lies in its context."""

    _HOOKS: Final = (
        "async_pre_call_hook",
        "async_filter_listed_models",
        "async_filter_deployments",
        "async_pre_call_deployment_hook",
        "async_post_call_streaming_iterator_hook",
        "async_post_call_response_headers_hook",
    )

    def __init__(self, engine: GatewayEngine, settings: GatewaySettings) -> None:
        super().__init__()
        self._engine = engine
        self._settings = settings
        self._hops = Hops(engine, settings.wording)
        if _ASSISTANTS not in settings.unguarded:
            close_assistants()

    def __init_subclass__(cls, **more: Any) -> None:
        """Put the hooks into the subclass itself: for some, LiteLLM looks in the class of an instance alone."""
        super().__init_subclass__(**more)
        for name in cls._HOOKS:
            if name not in vars(cls):
                setattr(cls, name, getattr(cls, name))

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any] | None:
        """Decide the model that is asked for, before anything is done with the request."""
        if call_type in self._settings.unguarded:
            _JOURNEY.set(Unguarded())
            return None
        dialect = _dialect(user_api_key_dict)
        try:
            if call_type not in GUARDED:
                raise not_guarded(dialect)
            journey = self._begin(user_api_key_dict)
            if names_another(_sent(data)):
                raise another_model(dialect)
            await self._hops.allow(journey, self._hop(_model(data.get("model"), dialect)))
        except Refused as refused:
            raise ModelDenied(refused) from None
        _JOURNEY.set(journey)
        return None

    async def async_filter_listed_models(self, user_api_key_dict: Any, model_names: Sequence[str]) -> Sequence[str]:
        """Return the names that may be used: the name itself, and one of its deployments where it has any.

        Raises when that cannot be told: an empty listing would be a guess.
        """
        behind = {name: self._behind(name, user_api_key_dict) for name in model_names if name}
        hops = {hop for own in behind.values() for hop in own} | {self._hop(name) for name in behind}
        try:
            caller = self._begin(user_api_key_dict).caller
            usable = await self._hops.usable(caller, hops, _dialect(user_api_key_dict))
        except Refused as refused:
            raise ModelDenied(refused) from None
        return [name for name, own in behind.items() if self._hop(name) in usable and (not own or own & usable)]

    async def async_filter_deployments(
        self,
        model: str,
        healthy_deployments: list[dict[str, Any]],
        messages: Any,
        request_kwargs: dict[str, Any] | None = None,
        parent_otel_span: Any = None,
    ) -> list[dict[str, Any]]:
        """Keep the deployments whose model may be used: on the first try, on each retry and on each fallback."""
        kept: list[dict[str, Any]] = []
        first: Refused | None = None
        try:
            journey = self._journey(request_kwargs or {})
            for deployment in healthy_deployments:
                hop = self._deployed(deployment)
                try:
                    await self._hops.allow(journey, hop)
                except Refused as refused:
                    first = first or refused
                    continue
                journey.deployments[_named(deployment)] = hop
                kept.append(deployment)
        except Refused as refused:
            raise ModelDenied(refused) from None
        if first is not None and not kept:
            raise ModelDenied(first)
        return kept

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> dict[str, Any] | None:
        """Decide the model that the provider is about to be asked for, whichever way the call came here."""
        try:
            journey = self._journey(kwargs)
            model = _model(kwargs.get("model"), journey.dialect)
            info = kwargs.get("model_info")
            id = str(info.get("id")) if isinstance(info, Mapping) else ""
            await self._hops.allow(journey, journey.deployments.get((id, model)) or self._hop(_bare(model, kwargs)))
        except Refused as refused:
            raise ModelDenied(refused, status=403 if refused.answer.status in COOLING else None) from None
        return None

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Pass a reply on for as long as its allow stands, and end it within a second of its end."""
        journey = _JOURNEY.get()
        if isinstance(journey, Unguarded):
            async for chunk in response:
                yield chunk
            return
        if journey is None or journey.last is None or journey.caller != caller_of(user_api_key_dict, self._settings):
            raise ModelDenied(nobody(_dialect(user_api_key_dict)))
        try:
            held = ChangingHold(self._engine, await self._hops.allow(journey, journey.last))
        except Refused as refused:
            raise ModelDenied(refused) from None
        journey.told = held.change
        stream = guarded(response, held)
        try:
            async for chunk in stream:
                yield chunk
        except DecisionDenied as denied:
            raise ModelDenied(self._hops.refused(denied.decision, journey.dialect)) from None
        finally:
            journey.told = None
            await stream.aclose()

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Say with an answer which decision let it through: after a fallback, that of the model that answered."""
        journey = _JOURNEY.get()
        if response is None or not isinstance(journey, Journey) or journey.last not in journey.allowed:
            return None
        return {"policy-engine-decision-id": journey.allowed[journey.last].decision.id}

    def _begin(self, record: Any) -> Journey:
        """Return a new journey of whom the proxy authenticated. Raises `Refused`."""
        dialect = _dialect(record)
        caller = caller_of(record, self._settings) if isinstance(record, UserAPIKeyAuth) else None
        if caller is None:
            raise nobody(dialect)
        return Journey(caller, dialect)

    def _journey(self, kwargs: Mapping[str, Any]) -> Journey:
        """Return the journey that a hop belongs to; a new one where the context has none of this caller."""
        kept, record = _JOURNEY.get(), _record(kwargs)
        if isinstance(kept, Journey) and (record is None or caller_of(record, self._settings) == kept.caller):
            return kept
        return self._begin(record)

    def _behind(self, name: str, record: Any) -> frozenset[Hop]:
        """Return the hops that a listed name can lead to; none where the proxy has no deployment of that very name."""
        from litellm.proxy import proxy_server  # while it starts, it imports this module

        router = proxy_server.llm_router
        team = getattr(record, "team_id", None)
        found = None if router is None else router.get_model_list(model_name=name, team_id=team)
        return frozenset(self._deployed(deployment) for deployment in found or ())

    def _hop(self, model: str, region: Any = None) -> Hop:
        return Hop(model, serving_region=region if isinstance(region, str) else self._settings.serving_region)

    def _deployed(self, deployment: Mapping[str, Any]) -> Hop:
        """Return the model that a deployment reaches: as the operator named it there, else its name at the provider."""
        info, params = deployment.get("model_info") or {}, deployment.get("litellm_params") or {}
        named = info.get("policy_engine_model")
        model = named if isinstance(named, str) else _bare(str(params.get("model")), params)
        return self._hop(model, info.get("policy_engine_serving_region"))


def _record(kwargs: Mapping[str, Any]) -> UserAPIKeyAuth | None:
    """Return what the proxy put beside a call about its caller. JSON makes no such object, so no client can put it."""
    for name in ("litellm_metadata", "metadata"):
        metadata = kwargs.get(name)
        record = metadata.get("user_api_key_auth") if isinstance(metadata, Mapping) else None
        if isinstance(record, UserAPIKeyAuth):
            return record
    return None


def _sent(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return of a request what its caller sent: beside it lies what the operator wrote down for the key or the team.
    What LiteLLM has changed is as it is now, and what it has taken out is as it was: it may lie elsewhere by now."""
    kept = data.get("proxy_server_request")
    sent = kept.get("body") if isinstance(kept, Mapping) else None
    if not isinstance(sent, Mapping):
        return data
    unkept = {name: data[name] for name in _NOT_KEPT if name in data}
    return {**unkept, **{name: data.get(name, value) for name, value in sent.items()}}


def _dialect(record: Any) -> Dialect:
    """Return whose words the caller's route speaks; those of OpenAI where it cannot be told."""
    route = getattr(record, "request_route", None)
    spoken = dialect_of(route, {}) if isinstance(route, str) else Dialect.OPENAI
    return spoken if spoken is Dialect.ANTHROPIC else Dialect.OPENAI


def _model(name: Any, dialect: Dialect) -> str:
    """Return a model's name. Raises `Refused` where there is none."""
    if not isinstance(name, str) or not name:
        raise no_model(dialect)
    return name


def _named(deployment: Mapping[str, Any]) -> tuple[str, str]:
    info, params = deployment.get("model_info") or {}, deployment.get("litellm_params") or {}
    return str(info.get("id")), str(params.get("model"))


def _bare(model: str, params: Mapping[str, Any]) -> str:
    """Return a model's name at its provider: without the provider in front, where LiteLLM knows it as one."""
    provider, base = params.get("custom_llm_provider"), params.get("api_base")
    try:
        return str(litellm.get_llm_provider(model=model, custom_llm_provider=provider, api_base=base)[0])
    except litellm.exceptions.BadRequestError:  # a provider that LiteLLM does not know: the whole name is asked for
        return model


def close_assistants() -> None:
    """Refuse assistants and threads, for which LiteLLM runs no hook at all, where all of their routes pass.

    Raises `StartRefused` where this version has no such place.
    """

    async def refuse(self: Any, *args: Any, **more: Any) -> Any:
        raise ModelDenied(not_guarded(Dialect.OPENAI))

    if not hasattr(litellm.Router, _THROUGH):
        raise StartRefused(
            f"this version of LiteLLM has no {_THROUGH}, so its assistants cannot be closed here; close "
            f"/assistants and /threads before it, and name {_ASSISTANTS} here",
            where=f"{PREFIX}UNGUARDED",
        )
    setattr(litellm.Router, _THROUGH, refuse)


def __getattr__(name: str) -> Any:
    """Make `guard` when LiteLLM first asks for it. Raises `StartRefused`, and then the proxy does not start."""
    if name != "guard":
        raise AttributeError(name)
    settings = gateway_settings()
    made = globals()["guard"] = Guard(gateway_engine(settings), settings)
    return made
