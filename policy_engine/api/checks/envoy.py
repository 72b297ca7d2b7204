"""Envoy's `envoy.service.auth.v3.Authorization/Check` over gRPC: a check request in, a check response out.

Rules of the room:
- To Envoy an empty response is a permit, for code 0 is OK, and so is code 0 beside a denied response. So a response
  leaves as bytes that `_wire` has looked at: code 0 leaves beside an `ok_response` made of a permit, and never else.
- The proxy's key is metadata of the call, or a context extension of its route; a client reaches neither. Without a good
  key the call itself fails, which is an error to Envoy, and it fails closed unless it was told otherwise.
- Facts come from headers, from context extensions (`policy-engine-tenant`) and from the payload of Envoy's own JWT
  filter under the name `policy_engine` (`sub` and `tenant`). Two that differ refuse. The case of a name says nothing.
Left to others: what comes of a check (`checking`), the words of a refusal (`core.dialects`), the server (`listening`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any, Final

from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2 as auth
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from policy_engine.api.callers import Authenticated
from policy_engine.api.checks.checking import Checker, NoPermit, Permit
from policy_engine.api.checks.doors import SHOWN
from policy_engine.api.checks.frames import Call, CallRefused, Metadata, Status
from policy_engine.api.checks.table import REMOVED, denying, upstream_headers
from policy_engine.api.checks.told import KEY_HEADER, PREFIX, READ, Told
from policy_engine.core.dialects import Refusal
from policy_engine.errors import InputRefused, IssuerUnavailable, NotAuthenticated, NotPermitted, PolicyEngineError

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = "Check"
JWT_FILTER: Final = "envoy.filters.http.jwt_authn"
JWT_PAYLOAD: Final = "policy_engine"
CLAIMS: Final = (("sub", "subject"), ("tenant", "tenant"))
EXTENSION_PREFIX: Final = PREFIX.removeprefix("x-")
OURS: Final = (EXTENSION_PREFIX, PREFIX)
"""How an extension begins that means us. With the header's beginning it is no fact: refused, not passed over."""

HEARD: Final = SHOWN | READ

OVERWRITE: Final = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
NOT_ANSWERED: Final = CallRefused(Status.INTERNAL, "the call could not be answered")
OK: Final = 0
PERMISSION_DENIED: Final = 7
UNAVAILABLE: Final = 14


class Checks:
    """The method `Check`."""

    path = f"/{SERVICE}/{METHOD}".encode("ascii")
    acquaints = True

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    def bytes_max(self, metadata: Metadata) -> int:
        """Return how long a request may be: much longer where the key came with the metadata, and is good.

        A token whose issuer's keys are not here yet is a stranger's so far: nobody can wait in the middle of a message.
        """
        told = Told(key=_key_of(metadata))
        try:
            self._checker.caller_now(told.key)
        except PolicyEngineError:
            return self._checker.limits.grpc_stranger_bytes
        return self._checker.limits.checked_body_bytes + self._checker.limits.grpc_head_bytes

    def under_way(self) -> AbstractContextManager[None]:
        """Return what is entered before calls are answered and left when the answers were handed on."""
        return self._checker.answering()

    async def answer(self, calls: Sequence[Call]) -> list[bytes | CallRefused]:
        """Return the response to each call, in order, or the status that it ends with.

        Calls that came together come from one proxy, which has one key: where that is a token, they wait for its
        issuer's keys together.
        """
        answers: list[bytes | CallRefused | None] = [None] * len(calls)
        open_: list[tuple[int, Told, Authenticated]] = []
        for place, (message, metadata) in enumerate(calls):
            try:
                told, caller, error = await self._told(message, metadata)
            except NotAuthenticated as refused:
                answers[place] = CallRefused(Status.UNAUTHENTICATED, str(refused))
            except IssuerUnavailable as refused:
                answers[place] = CallRefused(Status.UNAVAILABLE, str(refused))
            except NotPermitted as refused:
                answers[place] = CallRefused(Status.PERMISSION_DENIED, str(refused))
            else:
                if error is None:
                    open_.append((place, told, caller))
                else:
                    answers[place] = denied(self._checker.refused(error, told))
        outcomes = await self._checker.check_all([(told, caller) for _, told, caller in open_]) if open_ else []
        for (place, _, _), outcome in zip(open_, outcomes, strict=True):
            answers[place] = permitted(outcome) if isinstance(outcome, Permit) else denied(outcome)
        return [NOT_ANSWERED if answer is None else answer for answer in answers]

    async def _told(self, message: bytes, metadata: Metadata) -> tuple[Told, Authenticated, Exception | None]:
        """Return what a call tells, whose it is, and why it cannot be decided if it cannot.

        Raises `NotAuthenticated`, `IssuerUnavailable` or `NotPermitted` where the key is none: who has none is told
        nothing else.
        """
        told = Told(key=_key_of(metadata))
        error: Exception | None = None
        try:
            tell(told, auth.CheckRequest.FromString(message), metadata)
        except DecodeError:
            error = InputRefused("is no CheckRequest of envoy.service.auth.v3", where="message")
        except Exception as caught:  # noqa: BLE001  whatever it is, it is a refusal, once the proxy is known
            error = caught
        return told, await self._checker.caller(told.key), error


def _key_of(metadata: Metadata, extensions: Iterable[tuple[str, str]] = ()) -> str | None:
    """Return the proxy's key, `None` where there is none or more than one."""
    keys = [value.decode("latin-1") for name, value in metadata if name == KEY_HEADER]
    keys += [value for name, value in extensions if name == KEY_HEADER]
    return keys[0] if len(keys) == 1 else None


def tell(told: Told, asked: auth.CheckRequest, metadata: Metadata) -> None:
    """Take what a check request tells. Raises `InputRefused`. The key comes first: without it nothing is answered."""
    attributes = asked.attributes
    given = attributes.context_extensions
    extensions = [(name.lower(), given[name]) for name in given if name.lower().startswith(OURS)] if given else []
    told.key = key = _key_of(metadata, extensions)
    http = attributes.request.http
    told.path = http.path
    sent = http.headers  # its own iterator of pairs is slow, and most of them are not for us
    headers = [(low, sent[name]) for name in sent if (low := name.lower()) in HEARD or low.startswith(PREFIX)]
    headers += [(each.key.lower(), _text(each)) for each in http.header_map.headers]
    told.shown = {name: value for name, value in headers if name in SHOWN}
    told.take([(name, value) for name, value in headers if name != KEY_HEADER])
    told.key = key
    told.body = http.raw_body or http.body.encode("utf-8")
    for name, value in extensions:
        if name != KEY_HEADER:
            told.tell(name.removeprefix(EXTENSION_PREFIX), value)
    if JWT_FILTER in attributes.metadata_context.filter_metadata:
        _tell_claims(told, attributes.metadata_context.filter_metadata[JWT_FILTER])


def _text(header: base_pb2.HeaderValue) -> str:
    raw: bytes = header.raw_value or header.value.encode("utf-8")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if header.key.lower().startswith(PREFIX):
            raise InputRefused("must be UTF-8 text", where=f"{PREFIX}…") from None
        return raw.decode("latin-1")


def _tell_claims(told: Told, payloads: Any) -> None:
    """Take the claims of a token that Envoy has verified."""
    if JWT_PAYLOAD not in payloads.fields:
        return
    claims = payloads.fields[JWT_PAYLOAD].struct_value.fields
    for claim, name in CLAIMS:
        if claim in claims:
            if claims[claim].WhichOneof("kind") != "string_value":
                raise InputRefused("must be a string", where=f"claim {claim}")
            told.tell(name, claims[claim].string_value)


def permitted(permit: Permit) -> bytes:
    """Return the response that lets a request pass. This is the only place where one is built.

    A message is also one that is written in two parts: first the decision's own, then what many have in common.
    """
    decision = permit.decision
    (name, id), *rest = upstream_headers(decision)
    response = _deny_first()
    response.status.code = OK
    option = response.ok_response.headers.add(append_action=OVERWRITE)
    option.header.key, option.header.value = name, id
    return _wire(response, permit) + _shared_part(tuple(rest))


@lru_cache(maxsize=64)
def _shared_part(pairs: tuple[tuple[str, str], ...]) -> bytes:
    """Return the part of a permit that says nothing by itself: headers to add and to remove. It has no status."""
    part = auth.CheckResponse()
    part.ok_response.headers.extend(_options(pairs))
    part.ok_response.headers_to_remove.extend(REMOVED)
    data: bytes = part.SerializeToString()
    return data


def denied(refusal: Refusal) -> bytes:
    """Return the response that Envoy reads as a deny, or as our own failure."""
    sound = denying(refusal)
    response = _deny_first()
    failed = sound.status >= 500
    shown = response.error_response if failed else response.denied_response
    response.status.code = UNAVAILABLE if failed else PERMISSION_DENIED
    shown.status.code = sound.status
    shown.headers.extend(_options(sound.headers))
    shown.body = sound.body.decode("ascii")
    return _wire(response, None)


def _deny_first() -> auth.CheckResponse:
    return auth.CheckResponse(status=status_pb2.Status(code=PERMISSION_DENIED))


def _options(pairs: Iterable[tuple[str, str]]) -> list[base_pb2.HeaderValueOption]:
    return [
        base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=name, value=value), append_action=OVERWRITE)
        for name, value in pairs
    ]


def _wire(response: auth.CheckResponse, permit: Permit | None) -> bytes:
    """Return a response as bytes. Raises `NoPermit` for what Envoy would take for a permit where there is none."""
    kind = response.WhichOneof("http_response")
    lets_pass = response.status.code == OK or kind is None or kind == "ok_response"
    if lets_pass and not (isinstance(permit, Permit) and kind == "ok_response" and response.status.code == OK):
        raise NoPermit("a response that lets a request pass needs a permit")
    data: bytes = response.SerializeToString()
    if not data:
        raise NoPermit("an empty response lets a request pass")
    return data
