"""The checks over HTTP as one raw ASGI application: `/check/ext-authz/*`, `/check/auth-request`, `/check/forward-auth`.

Rules of the room: a check may have any method, for it has its client's: `OPTIONS` and `HEAD` are nothing special, and
neither is a wish to upgrade. A body is read, bounded and in time, before anything is decided. What a client wrote into
a header that is none of ours is not looked at, except to choose the words of an answer.
Left to others: what comes of a check (`checking`), what each proxy is told (`table`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from policy_engine.api.callers import Authenticated
from policy_engine.api.checks.checking import Checker, Permit
from policy_engine.api.checks.table import Answer, Proxy, permitted, refused
from policy_engine.api.checks.told import PREFIX, Told
from policy_engine.api.exchange import Disconnected, Head, Receive, Scope, Send, answer, read_body
from policy_engine.core.dialects import Refusal
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS

PREFIX_PATH: Final = "/check/"
URI_HEADERS: Final = {Proxy.NGINX: "x-original-uri", Proxy.FORWARD: "x-forwarded-uri"}
"""Where each puts the client's path: it chooses the words of an answer, and its query may only contradict the model."""

SHOWN: Final = frozenset(("accept", "anthropic-version", "mcp-protocol-version", "mcp-session-id"))
_REQUEST_ID: Final = "x-request-id"


class CheckApp:
    """The raw ASGI application of the three doors. The caller routes `/check/`, and nothing else, to it."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one check; never raises for what a caller sent."""
        proxy = proxy_of(scope["path"])
        head, told = Head(), Told()
        if proxy is None:
            return await _send(send, refused(Proxy.FORWARD, self._checker.refused(NO_SUCH_DOOR, told)), head)
        try:
            caller = await self._read(proxy, scope, receive, head, told)
        except Disconnected:
            return
        except Exception as error:  # noqa: BLE001  whatever it is, it is a refusal
            return await _send(send, _answer(proxy, self._checker.refused(error, told)), head)
        with self._checker.answering():  # not before: nobody waits for a body that dawdles
            await _send(send, _answer(proxy, await self._checker.check(told, caller)), head)

    async def _read(self, proxy: Proxy, scope: Scope, receive: Receive, head: Head, told: Told) -> Authenticated:
        """Take everything that is told, and return whose check it is."""
        told.path = _raw_path(scope)
        headers = list(_texts(scope, head))
        told.shown = {name: value for name, value in headers if name in SHOWN}
        if proxy in URI_HEADERS:
            told.path = _only([value for name, value in headers if name == URI_HEADERS[proxy]], URI_HEADERS[proxy])
        told.take(headers)
        caller = await self._checker.caller(told.key)  # before the body is read: a stranger's is not
        most = self._checker.limits.checked_body_bytes
        told.body = await read_body(receive, head, most)
        if len(told.body) > most:  # it came in one piece, without its length
            raise TooLarge(f"the body is longer than {most} bytes")
        return caller


NO_SUCH_DOOR: Final = InputRefused(f"checks are asked at {', '.join(proxy.value for proxy in Proxy)}", where="path")


def proxy_of(path: str) -> Proxy | None:
    """Return whose door a path is. Envoy puts the client's path behind it; the others have one path each."""
    for proxy in Proxy:
        if path == proxy.value or (proxy is Proxy.ENVOY and path.startswith(f"{proxy.value}/")):
            return proxy
    return None


def _only(paths: Sequence[str], where: str) -> str:
    """Return the client's path where it is told. Raises `InputRefused` for two: the query of either names a model."""
    if len(paths) > 1:
        raise InputRefused("must be sent once", where=where)
    return paths[0] if paths else "/"


def _answer(proxy: Proxy, outcome: Permit | Refusal) -> Answer:
    return permitted(proxy, outcome) if isinstance(outcome, Permit) else refused(proxy, outcome)


def _raw_path(scope: Scope) -> str:
    """Return the client's path and query behind Envoy's prefix."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    query: bytes = scope.get("query_string", b"")
    path = raw.partition(b"?")[0].decode("latin-1").removeprefix(Proxy.ENVOY.value) or "/"
    return f"{path}?{query.decode('latin-1')}" if query else path


def _texts(scope: Scope, head: Head) -> Iterable[tuple[str, str]]:
    """Yield the headers as text, and fill `head`. Raises `InputRefused` for one of ours that is no text."""
    for raw_name, raw_value in scope["headers"]:
        name = raw_name.decode("latin-1").lower()
        if name == "content-length":
            head.content_length = int(raw_value) if raw_value.isdigit() else None
        elif name == _REQUEST_ID and len(raw_value) <= LIMITS.request_id_characters and raw_value.isascii():
            head.request_id = raw_value if raw_value.decode("ascii").isprintable() else None
        try:
            yield name, raw_value.decode("utf-8")
        except UnicodeDecodeError:
            if name.startswith(PREFIX):
                raise InputRefused("must be UTF-8 text", where=f"{PREFIX}…") from None
            yield name, raw_value.decode("latin-1")


async def _send(send: Send, given: Answer, head: Head) -> None:
    headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in given.headers]
    await answer(send, given.status, given.body, headers, head.request_id)
