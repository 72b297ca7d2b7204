"""
title: policy_engine
description: Asks policy_engine whether this user may use this model, and cuts the answer when that ends.
version: 0.1.0

A filter function for Open WebUI. This one file is all of it: paste it in under Admin, Functions, make it active and
global, and fill in the valves. It needs the standard library alone, so nothing has to be installed in Open WebUI.

Rules of the room:
- Only a readable answer that says `decision: true` in time is a yes. Whatever else happens raises, and Open WebUI then
  sends nothing to the model.
- Who asks is what Open WebUI authenticated (`__user__`), never the body. What is asked for is the base model behind a
  workspace model (`__model__`). Ids go to the engine; prompts, names and addresses never do.
- The filter has no `toggle`, so users cannot switch it off.
Left to others: requests that Open WebUI sends to a provider past its filters (docs/gateways.md says which).
"""

import asyncio
import json
import secrets
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

ANSWER_BYTES_MAX = 65_536
BUDGET_MILLISECONDS_MAX = 60_000
USED_SHARE = 0.99
"""Of a budget so much is used: a clock that runs slow by one percent against the engine's stays within it."""

AWAY = "Policy, not login: nobody could decide this request, so nothing is allowed. It may be repeated in a moment."
UNKNOWN_USER = "Policy, not login: Open WebUI named no user for this request, so nothing is allowed."
UNKNOWN_MODEL = (
    "Policy, not login: which model this is cannot be told, so nothing is allowed. "
    "An administrator should let the policy_engine filter run after every filter that changes the model."
)
OTHER_MODEL = (
    "Policy, not login: a parameter of this chat could make another model answer, so nothing is allowed. "
    "Take it out of the advanced parameters: models, fallbacks, deployment_id, model_id, preset, a model in extra_body."
)
OTHER_MODELS = frozenset(
    [
        *("models", "fallbacks", "fallback_models", "context_window_fallbacks", "content_policy_fallbacks"),
        *("deployment_id", "model_id", "model_list"),
        *("preset", "router_settings_override", "user_config"),
    ]
)
"""Members by which providers and the gateways before them take another model than that of `model`."""
DIRECT = "Policy, not login: direct connections go past the policy and are not allowed here."


class Denied(Exception):
    """The user may not use the model, or nobody could say so. The message is for the user."""


class Valves:
    """The settings, as Open WebUI keeps them: made from what an administrator saved, unknown names dropped.

    It stands where others put a pydantic model, with the members that Open WebUI uses of one. Raises `ValueError` or
    `TypeError` for a value of the wrong kind; Open WebUI then sends nothing to the model.
    """

    url: str = ""
    key: str = ""
    tenant: str = ""
    subject: str = "id"
    location: str = ""
    action: str = "infer"
    timeout_seconds: float = 3.0
    recheck_seconds: float = 1.0
    plain_http: bool = False
    priority: int = 1_000_000

    texts: ClassVar[dict[str, str]] = {
        "url": "Where policy_engine answers, for example https://pdp.example:8181",
        "key": "The API key of this enforcement point (pe_THE_KEY_OF_THIS_PROXY), with the scope decide",
        "tenant": "The id of the organisation that the users of this Open WebUI act for",
        "subject": "What of the user is the person's id in the engine: id, or email where nobody can choose their own",
        "location": "Where the users are (US, UA-65), if that is known for all; the key needs --supplies location",
        "action": "The action that is asked for",
        "timeout_seconds": "How long the engine may take to answer",
        "recheck_seconds": "How old an answer may be while a reply streams; never older than the engine grants",
        "plain_http": "Send the key over http to another machine: only on a network that nobody else is on",
        "priority": "Filters run in this order; this one runs last, so it sees the model that is used",
    }

    def __init__(self, **saved: Any) -> None:
        self._saved = {name: value for name, value in saved.items() if name in self.texts and value is not None}
        for name, value in self._saved.items():
            kind = type(getattr(Valves, name))
            setattr(self, name, value is True if kind is bool else kind(value))
        if self.subject not in ("id", "email"):
            raise ValueError("the valve `subject` is id or email")

    def model_dump(self, *, exclude_unset: bool = False, **_: Any) -> dict[str, Any]:
        """Return the settings, or those alone that were saved."""
        return {name: getattr(self, name) for name in self.texts if not exclude_unset or name in self._saved}

    @classmethod
    def schema(cls) -> dict[str, Any]:
        """Return the JSON schema from which Open WebUI draws the form."""
        kinds: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}
        drawn = {
            name: {"title": name, "type": kinds[type(default)], "default": default, "description": text}
            for name, text in cls.texts.items()
            for default in [getattr(cls, name)]
        }
        return {"title": "Valves", "type": "object", "properties": drawn}


class Engine:
    """The decision point as this filter asks it: a connection for each question, without proxies or redirects."""

    def __init__(self, valves: Valves) -> None:
        try:
            parts = urlsplit(valves.url)
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or not valves.key:
            raise Denied(AWAY + " (An administrator must fill in the valves `url` and `key`.)")
        if parts.scheme == "http" and not valves.plain_http and not _is_here(parts.hostname):
            raise Denied(AWAY + " (An administrator must use https, or the valve `plain_http`.)")
        self._parts = parts
        self._valves = valves

    def ask(self, subject: str, model: str) -> tuple[float, float]:
        """Return until when the answer may be used unasked, and until when at all. Raises `Denied`."""
        valves, sent_at = self._valves, time.monotonic()
        context = {"tenant": valves.tenant, "location": valves.location}
        body = {
            "subject": {"type": "person", "id": subject},
            "action": {"name": valves.action},
            "resource": {"type": "model", "id": model},
            "context": {name: value for name, value in context.items() if value},
        }
        try:
            said = self._post(json.dumps(body).encode("ascii"), sent_at + valves.timeout_seconds)
            budget = _allowed(json.loads(said))
        except (OSError, HTTPException, ValueError, RecursionError):
            raise Denied(AWAY) from None  # the cause may name what was sent
        over = sent_at + budget * USED_SHARE
        return min(over, sent_at + valves.recheck_seconds), over

    def _post(self, content: bytes, until: float) -> bytes:
        """Return a JSON body that came with 200, read by `until`. Raises `OSError`, `HTTPException` or `ValueError`."""
        host, port = self._parts.hostname or "", self._parts.port
        seconds = max(0.001, until - time.monotonic())
        if self._parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host, port, timeout=seconds, context=ssl.create_default_context()
            )
        else:
            connection = HTTPConnection(host, port, timeout=seconds)
        headers = {"Authorization": f"Bearer {self._valves.key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", self._parts.path.rstrip("/") + "/access/v1/evaluation", content, headers)
            response = connection.getresponse()
            said = b""
            while len(said) <= ANSWER_BYTES_MAX and time.monotonic() < until:
                more = response.read1(8_192)  # a piece at a time: a trickle must not outlast the time there is
                if not more:
                    break
                said += more
            media = response.headers.get_content_type()
            if response.status != 200 or media != "application/json" or len(said) > ANSWER_BYTES_MAX:
                raise ValueError("no answer of a decision point")
            return said
        finally:
            connection.close()


def _allowed(answer: Any) -> float:
    """Return the budget of an allow in seconds. Raises `Denied` for a deny, and `ValueError` for anything else."""
    context = answer.get("context") if isinstance(answer, dict) else None
    if not isinstance(context, dict) or answer.get("decision") not in (True, False):
        raise ValueError("no decision")
    if answer["decision"] is not True:
        raise Denied(_sentences(context))
    budget = context.get("valid_for_ms")
    if type(budget) is not int or not 0 <= budget <= BUDGET_MILLISECONDS_MAX or context.get("obligations"):
        raise ValueError("an allow that cannot be used: no budget, or an obligation that nobody here carries out")
    return budget / 1000


def _sentences(context: dict[str, Any]) -> str:
    """Return what a denied user is told: what, why in the engine's words for users, what else, and the reference."""
    parts = ["Policy, not login: this model may not be used for this request, and repeating it will not help."]
    if isinstance(context.get("message"), str):
        parts.append(context["message"])
    others = [name for name in context.get("alternatives") or () if isinstance(name, str)]
    if others:
        parts.append(f"What may be asked for instead: {', '.join(others[:8])}.")
    if isinstance(context.get("id"), str):
        parts.append(f"Reference: {context['id']}.")
    return " ".join(parts)


def _is_here(host: str) -> bool:
    """Say whether a host is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _names_another(members: dict[str, Any]) -> bool:
    """Say whether members that go to the provider beside `model` could name another one; users can add such."""
    return any(
        value is not None
        and (
            name.casefold() == "model"
            or name.casefold() in OTHER_MODELS
            or (name.casefold() == "extra_body" and not (isinstance(value, dict) and not _names_another(value)))
        )
        for name, value in members.items()
    )


def _model(body: dict[str, Any], model: Any, metadata: Any) -> str:
    """Return the id of the model that will answer: the base model behind a workspace model. Raises `Denied`.

    What another filter put into the body is not what `__model__` describes, so it is nothing that could be asked for.
    """
    if isinstance(metadata, dict) and metadata.get("direct"):
        raise Denied(DIRECT)  # `__model__` came from the browser
    named = body.get("model")
    if not isinstance(model, dict) or not isinstance(named, str) or model.get("id") != named:
        raise Denied(UNKNOWN_MODEL)
    if _names_another({name: value for name, value in body.items() if name != "model"}):
        raise Denied(OTHER_MODEL)
    if model.get("owned_by") == "arena":
        raise Denied(UNKNOWN_MODEL)  # which one answers is drawn later
    info = model.get("info")
    base = info.get("base_model_id") if isinstance(info, dict) else None
    if base is None or base == "":
        return named
    if not isinstance(base, str):
        raise Denied(UNKNOWN_MODEL)
    return base


class Filter:
    """The filter. Open WebUI makes one for all requests; what belongs to a request lies in its `__metadata__`."""

    Valves = Valves

    def __init__(self) -> None:
        self.valves = Valves()
        self._mark = f"policy_engine_{secrets.token_hex(8)}"  # no caller can have put it into the metadata

    async def inlet(
        self,
        body: dict[str, Any],
        __user__: Any = None,
        __model__: Any = None,
        __metadata__: Any = None,
    ) -> dict[str, Any]:
        """Let a request through to the model, or raise with the sentence that the user sees."""
        await self._ask(_model(body, __model__, __metadata__), __user__, __metadata__)
        return body

    async def request(
        self,
        body: dict[str, Any],
        __user__: Any = None,
        __model__: Any = None,
        __metadata__: Any = None,
    ) -> dict[str, Any]:
        """Do the same before each request of a chat with tools; versions of Open WebUI that know it call it."""
        model = _model(body, __model__, __metadata__)
        held = self._held(__metadata__)
        if held is None or held["model"] != model or time.monotonic() >= held["until"]:
            await self._ask(model, __user__, __metadata__)
        return body

    async def stream(
        self, event: dict[str, Any], __user__: Any = None, __metadata__: Any = None
    ) -> dict[str, Any] | None:
        """Pass a piece of the reply on, ask anew when the answer has grown old, and say one error once it is denied.

        Behind the error nothing of the reply passes. Raising would not do: Open WebUI goes on with the next piece.
        """
        held = self._held(__metadata__)
        if held is None:
            return {"error": {"message": AWAY}}  # nothing is held, so nothing was allowed
        if held["cut"] is not None:
            return None
        if time.monotonic() < held["until"]:
            return event
        try:
            await self._ask(held["model"], __user__, __metadata__)
        except Denied as denied:
            held["cut"] = str(denied)
            return {"error": {"message": held["cut"]}}
        return event

    async def outlet(self, body: dict[str, Any], __metadata__: Any = None) -> dict[str, Any]:
        """Write under a reply that was cut why it ends there, so that the saved chat says so."""
        held = self._held(__metadata__)
        messages = body.get("messages")
        if held is None or held["cut"] is None or not isinstance(messages, list) or not messages:
            return body
        last = messages[-1]
        if isinstance(last, dict) and last.get("role") == "assistant":
            last["content"] = f"{last.get('content') or ''}\n\n{held['cut']}".strip()
        return body

    def _held(self, metadata: Any) -> dict[str, Any] | None:
        held = metadata.get(self._mark) if isinstance(metadata, dict) else None
        return held if isinstance(held, dict) else None

    async def _ask(self, model: str, user: Any, metadata: Any) -> None:
        """Ask, and keep beside the request until when the answer holds. Raises `Denied`."""
        subject = user.get(self.valves.subject) if isinstance(user, dict) else None
        if not isinstance(subject, str) or not subject:
            raise Denied(UNKNOWN_USER)
        engine = Engine(self.valves)
        until, over = await asyncio.to_thread(engine.ask, subject, model)
        if time.monotonic() >= over:
            raise Denied(AWAY)  # the answer was so slow that it holds no more
        if isinstance(metadata, dict):
            metadata[self._mark] = {"model": model, "until": until, "cut": None}
