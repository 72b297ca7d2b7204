"""A question as a program writes it, checked and turned into a request; the same for an engine near and far.

Rules of the room: what the service would refuse in a body is refused here, by the same bounds, before anything is sent
or decided. What is refused is named by its place, never by its value.
Left to others: bytes (`remote`), bodies that others send (`api.authzen`), deciding (`services.decide`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, Generic, NotRequired, TypedDict, TypeVar

from policy_engine.core.decision import Decision, Request
from policy_engine.core.factparse import parse_location
from policy_engine.core.facts import Location
from policy_engine.core.reasonclasses import Why, leading
from policy_engine.errors import EngineUnavailable, InputRefused, StoreUnavailable
from policy_engine.limits import LIMITS

PLACES_COUNT: Final = 1_024
"""How many codes of places are kept with what they say."""
_FORKED: Final = "engine.forked"
"""The code, of those that begin with `engine.`, that an engine in the caller's own process gives."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Question(TypedDict):
    """One of the questions of `decide_many`: the same names as the keywords of `decide`."""

    subject: str
    model: str
    action: str
    tenant: NotRequired[str | None]
    location: NotRequired[str | Mapping[str, Any] | None]
    serving_region: NotRequired[str | None]
    subject_type: NotRequired[str]
    resource_type: NotRequired[str]


class Circumstances(TypedDict, total=False):
    """The keywords of a question beside who, what and which model."""

    tenant: str | None
    location: str | Mapping[str, Any] | None
    serving_region: str | None
    subject_type: str
    resource_type: str


ANY: Final = "-"
"""Stands in the place that a listing leaves open; it is asked about by nobody."""

M = TypeVar("M", bound=str | Mapping[str, Any])
_REQUIRED: Final = frozenset(("subject", "model", "action"))
_NAMES: Final = frozenset(Question.__annotations__)


def request_of(
    *,
    subject: str,
    model: str,
    action: str,
    tenant: str | None = None,
    location: str | Mapping[str, Any] | None = None,
    serving_region: str | None = None,
    subject_type: str = "person",
    resource_type: str = "model",
) -> Request:
    """Return the request that a question is. Raises `InputRefused` naming what is malformed."""
    return Request(
        subject_id=_text(subject, "subject"),
        action=_text(action, "action"),
        model=_text(model, "model"),
        tenant=_optional(tenant, "tenant"),
        location=_located(location) if type(location) is str else _place(location),
        serving_region=_optional(serving_region, "serving_region"),
        subject_type=_text(subject_type, "subject_type"),
        resource_type=_text(resource_type, "resource_type"),
    )


def _place(location: str | Mapping[str, Any] | None) -> Location | None:
    """Return where somebody is, or what a program knows of it. Raises `InputRefused`."""
    place = parse_location(location)
    if place is not None:
        _optional(place.country, "location.country")
        _optional(place.region, "location.region")
    return place


_located: Final = lru_cache(PLACES_COUNT)(_place)
"""The same for a code; a program asks about few, over and over."""


def requests_of(questions: Iterable[Mapping[str, Any]]) -> list[Request]:
    """Return the requests of questions, in order. Raises `InputRefused` naming the first that is malformed."""
    return [_request_of_question(question, f"questions[{place}]") for place, question in enumerate(questions)]


def _request_of_question(question: Mapping[str, Any], where: str) -> Request:
    if not isinstance(question, Mapping):
        raise InputRefused("must be a mapping with the keywords of decide", where=where)
    if not question.keys() <= _NAMES or not question.keys() >= _REQUIRED:
        raise InputRefused("needs subject, model and action, and may have the other keywords of decide", where=where)
    try:
        return request_of(**dict(question))
    except InputRefused as refusal:
        raise InputRefused(refusal.message, where=f"{where}.{refusal.where}") from None


class Filtering(Generic[M]):
    """A listing of models that is narrowed to what is allowed: `requests` are asked, `allowed` takes their answers."""

    def __init__(self, models: Iterable[M], request: Request) -> None:
        """`request` is asked for each model of the listing that could be asked for, once.

        Raises `InputRefused` for one model in the place of several: its letters or members are models that nobody has.
        """
        if isinstance(models, str | bytes | Mapping):
            raise InputRefused("must be several: a list of ids, or of mappings with an id", where="models")
        self._models = list(models)
        ids = dict.fromkeys(id for model in self._models if (id := _id_of(model)) is not None)
        self.requests = [replace(request, model=id) for id in ids]

    def allowed(self, decisions: Sequence[Decision]) -> list[M]:
        """Return the models whose decision is an allow, as they were and in their order.

        Raises `StoreUnavailable` where nobody decided on one of them, and its kind `EngineUnavailable` where that is
        because an engine afar gave no answer: a listing without that model would say that it may not be used.
        """
        for decision in decisions:
            if decision.allowed is not True:
                _require_decided(decision)
        pairs = zip(self.requests, decisions, strict=True)
        usable = {request.model for request, decision in pairs if decision.allowed is True}
        return [model for model in self._models if _id_of(model) in usable]


def _require_decided(denied: Decision) -> None:
    """Raise `StoreUnavailable` for a deny that is an outage: the doors answer 503 to the same ones."""
    codes = [reason.code for reason in denied.reasons]
    if leading(codes) is not Why.OUTAGE:
        return
    afar = codes[0].startswith("engine.") and codes[0] != _FORKED
    kind = EngineUnavailable if afar else StoreUnavailable
    raise kind(f"not every model of the listing was decided ({codes[0]})", where="engine")


def _id_of(model: Any) -> str | None:
    """Return the id of a model of a listing, `None` for one that could not be asked for."""
    id = model.get("id") if isinstance(model, Mapping) else model
    try:
        return _text(id, "model")
    except InputRefused:
        return None


def body_of(request: Request) -> dict[str, Any]:
    """Return the AuthZEN body that asks for a request."""
    context: dict[str, Any] = {}
    if request.tenant is not None:
        context["tenant"] = request.tenant
    if request.location is not None:
        place = request.location
        members = {"country": place.country, "region": place.region, "anonymiser": place.anonymiser}
        context["location"] = {name: value for name, value in members.items() if value is not None}
    if request.serving_region is not None:
        context["serving_region"] = request.serving_region
    return {
        "subject": {"type": request.subject_type, "id": request.subject_id},
        "action": {"name": request.action},
        "resource": {"type": request.resource_type, "id": request.model},
        **({"context": context} if context else {}),
    }


def _text(value: Any, where: str) -> str:
    """Return a text that may name something: neither empty nor too long, without control characters."""
    if type(value) is not str:
        raise InputRefused("must be a text", where=where)
    if not 0 < len(value) <= LIMITS.id_characters:
        raise InputRefused(f"must have 1 to {LIMITS.id_characters} characters", where=where)
    if not value.isprintable() and _CONTROL.search(value):
        raise InputRefused("must not hold control characters or line breaks", where=where)
    return value


def _optional(value: Any, where: str) -> str | None:
    return None if value is None else _text(value, where)
