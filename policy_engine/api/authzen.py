"""AuthZEN 1.0 evaluation bodies: a parsed object in, requests of the engine out.

Rules of the room (OpenID AuthZEN Authorization API 1.0, sections on the information model and both evaluation APIs):
- A required member that is missing or of the wrong type refuses the body; in a batch it refuses its item alone.
- Unknown members are ignored, at every level. A member of an item replaces the whole top-level entity: nothing merges.
- `context` is free-form; this engine reads `tenant`, `location` and `serving_region` from it, and a wrong type of those
  refuses. Which of them are believed is the caller's key (`supplies`), enforced by the decider.
Left to others: bytes (`parse`), deciding (`services.decide`), status codes (`problems`), answers (`answers`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Request
from policy_engine.core.facts import Location
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS, Limits

EXECUTE_ALL: Final = "execute_all"
DENY_ON_FIRST_DENY: Final = "deny_on_first_deny"
PERMIT_ON_FIRST_PERMIT: Final = "permit_on_first_permit"
SEMANTICS: Final = (EXECUTE_ALL, DENY_ON_FIRST_DENY, PERMIT_ON_FIRST_PERMIT)

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ENTITIES: Final = ("subject", "action", "resource", "context")
_NO_CONTEXT: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Batch:
    """The items of `evaluations`, in order: each a request, or the refusal of that item alone.

    `explain` asks for a context beside every decision and `receipts` for the receipt of every allow; without them the
    body of the answer is the same each time.
    """

    items: tuple[Request | InputRefused, ...]
    semantic: str = EXECUTE_ALL
    explain: bool = False
    receipts: bool = False


def read_evaluation(body: Mapping[str, Any], limits: Limits = LIMITS) -> Request:
    """Return the request of an Access Evaluation body. Raises `InputRefused` naming the member that is wrong."""
    return _request(body, limits)


def read_evaluations(body: Mapping[str, Any], limits: Limits = LIMITS) -> Request | Batch:
    """Return the batch of an Access Evaluations body, or its one request where `evaluations` is absent or empty.

    Raises `InputRefused` for what is broken as a whole: a default, `options` or `evaluations` of the wrong type, an
    unknown semantic, or too many items.
    """
    semantic, explain, receipts = _options(body)
    items = body.get("evaluations", ())
    if items == () or items == []:
        return _request(body, limits)
    if type(items) is not list:
        raise InputRefused("must be an array", where="evaluations")
    if len(items) > limits.evaluations_count:
        raise InputRefused(f"holds more than {limits.evaluations_count} items", where="evaluations")
    defaults = {
        name: _object(body[name], name) for name in ("subject", "action", "resource", "context") if name in body
    }
    return Batch(tuple(_item(item, defaults, limits) for item in items), semantic, explain, receipts)


def _options(body: Mapping[str, Any]) -> tuple[str, bool, bool]:
    if "options" not in body:
        return EXECUTE_ALL, False, False
    options = _object(body["options"], "options")
    semantic = options.get("evaluations_semantic", EXECUTE_ALL)
    if semantic not in SEMANTICS:
        raise InputRefused(f"must be one of {', '.join(SEMANTICS)}", where="options.evaluations_semantic")
    asked = options.get("explain", False), options.get("receipts", False)
    for name, value in zip(("explain", "receipts"), asked, strict=True):
        if type(value) is not bool:
            raise InputRefused("must be true or false", where=f"options.{name}")
    return semantic, *asked


def _item(item: Any, defaults: Mapping[str, Any], limits: Limits) -> Request | InputRefused:
    if type(item) is not dict:
        return InputRefused("an item of evaluations must be an object")
    try:
        return _request({**defaults, **item}, limits)
    except InputRefused as refusal:
        return refusal


def _request(body: Mapping[str, Any], limits: Limits) -> Request:
    bound = limits.id_characters
    try:
        subject, action, resource = body["subject"], body["action"], body["resource"]
    except KeyError as missing:
        raise InputRefused("is missing", where=str(missing.args[0])) from None
    if type(subject) is not dict or "properties" in subject:
        _with_properties(subject, "subject")
    if type(action) is not dict or "properties" in action:
        _with_properties(action, "action")
    if type(resource) is not dict or "properties" in resource:
        _with_properties(resource, "resource")
    context = _object(body["context"], "context") if "context" in body else _NO_CONTEXT
    location = context.get("location")
    tenant = context.get("tenant")
    serving_region = context.get("serving_region")
    return Request(
        subject_id=_text(subject.get("id"), "subject.id", bound),
        action=_text(action.get("name"), "action.name", bound),
        model=_text(resource.get("id"), "resource.id", bound),
        tenant=None if tenant is None else _text(tenant, "context.tenant", bound),
        location=None if location is None else _location(location, bound),
        serving_region=None if serving_region is None else _text(serving_region, "context.serving_region", bound),
        subject_type=_text(subject.get("type"), "subject.type", bound),
        resource_type=_text(resource.get("type"), "resource.type", bound),
        raw=body,
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise InputRefused("must be an object", where=where)
    return value


def _with_properties(entity: Any, where: str) -> None:
    members = _object(entity, where)
    if "properties" in members:
        _object(members["properties"], f"{where}.properties")


def _text(value: Any, where: str, characters_max: int) -> str:
    """Return `value` if it is text that may name something: not empty, not too long, without control characters."""
    if type(value) is not str:
        raise InputRefused("is missing" if value is None else "must be a string", where=where)
    if not 0 < len(value) <= characters_max:
        raise InputRefused(f"must have 1 to {characters_max} characters", where=where)
    if not value.isprintable() and _CONTROL.search(value):
        raise InputRefused("must not hold control characters or line breaks", where=where)
    return value


def _location(value: Any, characters_max: int) -> Location:
    """Return the place that `"US"`, `"UA-43"` or an object names; codes that mean nothing are left to the decider."""
    if type(value) is str:
        text = _text(value, "context.location", characters_max)
        head, dash, _ = text.partition("-")
        return Location(country=head, region=text if dash else None)
    if type(value) is not dict:
        raise InputRefused('must be a code such as "US" or "UA-43", or an object', where="context.location")
    if "anonymizer" in value:
        # Unknown members are ignored, but ignoring this one would hide a detected anonymiser behind its other spelling.
        raise InputRefused("is spelt anonymiser here", where="context.location.anonymizer")
    place: dict[str, Any] = value
    anonymiser = place.get("anonymiser", False)
    if type(anonymiser) is not bool:
        raise InputRefused("must be true or false", where="context.location.anonymiser")
    return Location(
        country=_code(place, "country", characters_max),
        region=_code(place, "region", characters_max),
        anonymiser=anonymiser,
    )


def _code(place: Mapping[str, Any], name: str, characters_max: int) -> str | None:
    value = place.get(name)
    return None if value is None else _text(value, f"context.location.{name}", characters_max)
