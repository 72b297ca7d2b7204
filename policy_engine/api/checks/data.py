"""`POST /v1/data/{path}`, as plugins for Open Policy Agent ask it: the question stands in `input`.

`input` is either a question in the shape of AuthZEN (`subject`, `action`, `resource`, `context`), or what a gateway's
plugin tells of a request: its path and headers under `request` (APISIX) or `request.http` (Kong), `X-Policy-Engine-…`
among them. A path that ends in `/allow` is answered with a bare boolean, every other with an object.

Rules of the room: what OPA would leave undefined is `false` here. A question that cannot be decided is a deny with 200,
for a plugin would take another status for an outage and might be told to let outages pass; what is no `input` at all,
or comes without a key, is an error. The key comes in the header `Policy-Engine-Key`, as `Authorization: Bearer`, or,
from plugins that can send neither, among the request's headers, where the gateway must set it itself.
Left to others: what comes of a check (`checking`), the members of an answer (`table`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

import orjson
import structlog

from policy_engine.api import problems
from policy_engine.api.authzen import read_evaluation
from policy_engine.api.checks.checking import Checker, Permit
from policy_engine.api.checks.doors import SHOWN
from policy_engine.api.checks.table import opa
from policy_engine.api.checks.told import KEY_HEADER, PREFIX, READ, Told
from policy_engine.api.exchange import (
    JSON,
    NO_STORE,
    Disconnected,
    Head,
    Receive,
    Scope,
    Send,
    answer,
    answer_problem,
    read_body,
    read_head,
    require_json,
)
from policy_engine.api.parse import parse_object
from policy_engine.core.dialects import Refusal
from policy_engine.errors import InputRefused, NotAuthenticated, PolicyEngineError

PREFIX_PATH: Final = "/v1/data/"
_BEARER: Final = b"bearer "

log = structlog.get_logger(__name__)


class DataApp:
    """The raw ASGI application of the OPA-shaped door. The caller routes `/v1/data/`, and nothing else, to it."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one question; never raises for what a caller sent."""
        head = Head()
        try:
            await self._decide(scope, receive, send, head)
            return
        except Disconnected:
            return
        except PolicyEngineError as error:
            problem = problems.of_error(error)
        except Exception as error:  # the last line of defence: nothing of a fault leaves
            problem = problems.internal()
            log.error("check.failed", exc_info=error)
        await answer_problem(send, problem, head.request_id)

    async def _decide(self, scope: Scope, receive: Receive, send: Send, head: Head) -> None:
        limits = self._checker.limits
        read_head(scope, head, limits)
        if scope["method"] != "POST":
            return await answer_problem(send, problems.method_not_allowed("POST"), head.request_id)
        key = _key_of_head(scope, head)
        if key is not None:
            await self._checker.caller(key)
        require_json(head)
        most = limits.body_bytes if key is None else limits.checked_body_bytes
        content = await read_body(receive, head, most)
        asked = parse_object(content, limits=limits, bytes_max=most).get("input")
        if type(asked) is not dict:
            raise InputRefused("must be an object with the question in it", where="input")
        with self._checker.answering():
            outcome = await self._checked(asked, key)
            await answer(send, 200, shaped(scope["path"], outcome), [JSON, NO_STORE], head.request_id)

    async def _checked(self, asked: dict[str, Any], key: str | None) -> Permit | Refusal:
        """Return what comes of an `input`. Raises only where the key it needs is no key."""
        told = Told(key=key)
        if "subject" in asked:
            caller = await self._checker.caller(key)
            return await self._checker.check(told, caller, lambda _, limits: read_evaluation(asked, limits))
        try:
            _tell(told, asked, key)
        except InputRefused as error:
            await self._checker.caller(told.key)
            return self._checker.refused(error, told)
        return await self._checker.check(told, await self._checker.caller(told.key))


def shaped(path: str, outcome: Permit | Refusal) -> bytes:
    """Return the answer in the shape that the path asks for."""
    if path.rstrip("/").rpartition("/")[2] == "allow":  # a slash behind it names the same to OPA
        return orjson.dumps({"result": isinstance(outcome, Permit)})
    return orjson.dumps({"result": opa(outcome)})


def _key_of_head(scope: Scope, head: Head) -> str | None:
    """Return the plugin's key from its own request, `None` where it sends none."""
    sent = [value for name, value in scope["headers"] if name == KEY_HEADER.encode("ascii")]
    if head.authorization is not None:
        sent.append(head.authorization[7:] if head.authorization[:7].lower() == _BEARER else b"")
    if len(sent) > 1:
        raise NotAuthenticated("send one key, once")
    return sent[0].strip().decode("latin-1") if sent else None


def _tell(told: Told, asked: Mapping[str, Any], key: str | None) -> None:
    """Take what a gateway's plugin tells of a request. Raises `InputRefused`."""
    request = _object(asked.get("request"), "input.request")
    if "http" in request:
        request = _object(request["http"], "input.request.http")
    headers = list(_headers(_object(request.get("headers", {}), "input.request.headers")))
    told.shown = {name: value for name, value in headers if name in SHOWN}
    told.take((name, value) for name, value in headers if key is None or name != KEY_HEADER)
    told.path = _path(request)
    _tell_body(told, request)


def _path(request: Mapping[str, Any]) -> str:
    """Return the path with its query, which plugins tell beside it: APISIX as `query`, Kong as `querystring`."""
    path = request.get("path", "/")
    if type(path) is not str:
        raise InputRefused("must be a text", where="input.request.path")
    for member in ("query", "querystring"):
        query = request.get(member) or {}
        if type(query) is not str:
            query = urlencode(_object(query, f"input.request.{member}"), doseq=True)
        if query:
            path += ("&" if "?" in path else "?") + query
    return path


def _tell_body(told: Told, request: Mapping[str, Any]) -> None:
    body = request.get("body")
    if body is None and "parsed_body" in request:
        raise InputRefused("of a parsed body nobody can say whether it named two models", where="input.request")
    if body is not None:
        if type(body) is not str:
            raise InputRefused("must be the text that the client sent", where="input.request.body")
        told.body = body.encode("utf-8")


def _headers(given: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield headers whose value is one text. Raises `InputRefused` for one that is read here and is a list: it stood
    twice, and an upstream may take the other one."""
    for name, value in given.items():
        lower = name.lower()
        if type(value) is str:
            yield lower, value
        elif lower.startswith(PREFIX) or lower in READ:
            raise InputRefused("must be one text", where=lower if lower in READ else f"{PREFIX}…")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if type(value) is not dict:
        raise InputRefused("must be an object", where=where)
    return value
