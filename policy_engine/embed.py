"""`PolicyEngine`: the door for Python programs, to an engine in their own process or to one that is asked from afar.

Rules of the room:
- Near and far give the same decisions by the same calls; every call has a twin for event loops, named `..._async`.
- Deciding never raises for policy reasons, nor for an engine that is away: that is a deny, and its code says so.
- Importing this loads no web framework, no SQLAlchemy, no casbin and no HTTP library; `open` or `connect` does.
Left to others: the engine here (`inprocess`), the engine there (`remote`), streams (`guarding`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, Unpack, overload

from policy_engine.core.decision import Decision, Request
from policy_engine.core.dialects import Dialect
from policy_engine.core.enforcing import Hold
from policy_engine.core.listed import Listed
from policy_engine.core.questions import ANY, Circumstances, Filtering, Question, request_of, requests_of
from policy_engine.guarding import guarded
from policy_engine.limits import LIMITS

T = TypeVar("T")
M = TypeVar("M", bound=str | Mapping[str, Any])
Place = str | Mapping[str, Any] | None


class Asked(Protocol):
    """What is behind a `PolicyEngine`: an engine in this process, or one that is asked from afar."""

    def decide(self, request: Request, /, *, explained: bool = False) -> Decision:
        """Return the decision of a request."""
        ...

    async def decide_async(self, request: Request, /, *, explained: bool = False) -> Decision:
        """The same on the running event loop."""
        ...

    def decide_many(self, requests: Sequence[Request], /) -> list[Decision]:
        """Return one decision a request, in order."""
        ...

    async def decide_many_async(self, requests: Sequence[Request], /) -> list[Decision]:
        """The same on the running event loop."""
        ...

    def who_can(self, request: Request, /) -> Listed:
        """Return the subjects that may; the request's own is not looked at."""
        ...

    async def who_can_async(self, request: Request, /) -> Listed:
        """The same on the running event loop."""
        ...

    def what_can(self, request: Request, /) -> Listed:
        """Return the models that may be used; the request's own is not looked at."""
        ...

    async def what_can_async(self, request: Request, /) -> Listed:
        """The same on the running event loop."""
        ...

    def hold(self, decision: Decision, /) -> Hold:
        """Watch an allow from now on."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class PolicyEngine:
    """An engine to ask. Close it, or use it as a context manager (`with` or `async with`); safe to share by threads."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    @classmethod
    def open(
        cls, policies: str | Path = "policies/", *, database: str = "sqlite:///engine.db", **settings: Any
    ) -> PolicyEngine:
        """Open a database with a policies folder, filling an empty one from them.

        `settings` are those of `docs/operations.md` in lower case, without the prefix (`serving_region="US"`); they win
        over the environment. Raises `InputRefused` for one that is not known or wrong, `StartRefused` when the folder
        differs from the active release or the key file is missing, and `LoadRefused` for a folder that is not accepted.
        """
        from policy_engine.inprocess import InProcess

        return cls(InProcess.open(policies, database, settings))

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        key: str,
        timeout_seconds: float = LIMITS.remote_seconds,
        tls: ssl.SSLContext | None = None,
        cleartext: bool = False,
    ) -> PolicyEngine:
        """Ask the engine at an address, as the owner of a key. Nothing is sent before something is asked.

        `timeout_seconds` is for a whole answer. `tls` replaces the system's authorities. A key is sent in clear to this
        machine alone, unless `cleartext` says that the network is encrypted otherwise. Raises `InputRefused`.
        """
        from policy_engine.remote import RemoteEngine

        return cls(RemoteEngine(url, key, timeout_seconds=timeout_seconds, tls=tls, cleartext=cleartext))

    def decide(
        self,
        *,
        subject: str,
        model: str,
        action: str,
        tenant: str | None = None,
        location: Place = None,
        serving_region: str | None = None,
        subject_type: str = "person",
        resource_type: str = "model",
        explain: bool = False,
    ) -> Decision:
        """Return the decision after its entry is durable; a deny that says why where there is none.

        Never raises for policy reasons. `location` is `"US"`, `"UA-65"` or `{country, region, anonymiser}`. Raises
        `InputRefused` for a malformed question. An allow is for use within `valid_for_ms` from before this was called;
        `hold` one that is used for longer. `explain` fills `explanation` where the engine is in this process.
        Other types than `person`, `service` and `model` are those of a plain Casbin folder's entities.
        """
        request = request_of(
            subject=subject,
            model=model,
            action=action,
            tenant=tenant,
            location=location,
            serving_region=serving_region,
            subject_type=subject_type,
            resource_type=resource_type,
        )
        return self._asked.decide(request, explained=explain)

    async def decide_async(
        self,
        *,
        subject: str,
        model: str,
        action: str,
        tenant: str | None = None,
        location: Place = None,
        serving_region: str | None = None,
        subject_type: str = "person",
        resource_type: str = "model",
        explain: bool = False,
    ) -> Decision:
        """`decide`, waiting on the running event loop."""
        request = request_of(
            subject=subject,
            model=model,
            action=action,
            tenant=tenant,
            location=location,
            serving_region=serving_region,
            subject_type=subject_type,
            resource_type=resource_type,
        )
        return await self._asked.decide_async(request, explained=explain)

    def decide_many(self, questions: Iterable[Question]) -> list[Decision]:
        """Return one decision a question, in order; each has its entry. A question is a mapping of `decide`'s keywords.

        Raises `InputRefused` for one that is malformed; then nothing was asked.
        """
        return self._asked.decide_many(requests_of(questions))

    async def decide_many_async(self, questions: Iterable[Question]) -> list[Decision]:
        """`decide_many`, waiting on the running event loop."""
        return await self._asked.decide_many_async(requests_of(questions))

    def filter_models(
        self, models: Iterable[M], *, subject: str, action: str = "infer", **more: Unpack[Circumstances]
    ) -> list[M]:
        """Return those of a listing that the subject may use, as they were and in their order.

        Models are ids or aliases, or mappings with an `id` (as in `/v1/models`). Each is decided, so each has an entry
        and a listing shows exactly what could be called; an id that could not be asked for is left out. Raises
        `StoreUnavailable` where one of them was not decided: a listing without it would say that it may not be used;
        and `InputRefused` for a single model in the place of a listing.
        """
        listing = Filtering(models, request_of(subject=subject, model=ANY, action=action, **more))
        return listing.allowed(self._asked.decide_many(listing.requests))

    async def filter_models_async(
        self, models: Iterable[M], *, subject: str, action: str = "infer", **more: Unpack[Circumstances]
    ) -> list[M]:
        """`filter_models`, waiting on the running event loop."""
        listing = Filtering(models, request_of(subject=subject, model=ANY, action=action, **more))
        return listing.allowed(await self._asked.decide_many_async(listing.requests))

    def who_can(self, *, model: str, action: str = "infer", **more: Unpack[Circumstances]) -> Listed:
        """Return the subjects of a type that may use a model for a tenant. One entry a page; it grants nothing.

        Raises `StoreUnavailable` where nothing can be listed: an empty listing would say that nobody may.
        """
        return self._asked.who_can(request_of(subject=ANY, model=model, action=action, **more))

    async def who_can_async(self, *, model: str, action: str = "infer", **more: Unpack[Circumstances]) -> Listed:
        """`who_can`, waiting on the running event loop."""
        return await self._asked.who_can_async(request_of(subject=ANY, model=model, action=action, **more))

    def what_can(self, *, subject: str, action: str = "infer", **more: Unpack[Circumstances]) -> Listed:
        """Return the models that a subject may use for a tenant. One entry a page; it grants nothing.

        Raises `StoreUnavailable` where nothing can be listed: an empty listing would say that nothing may be used.
        """
        return self._asked.what_can(request_of(subject=subject, model=ANY, action=action, **more))

    async def what_can_async(self, *, subject: str, action: str = "infer", **more: Unpack[Circumstances]) -> Listed:
        """`what_can`, waiting on the running event loop."""
        return await self._asked.what_can_async(request_of(subject=subject, model=ANY, action=action, **more))

    def hold(self, decision: Decision) -> Hold:
        """Watch an allow of this engine from now on, until the hold is closed. Raises `ValueError` for a deny."""
        return self._asked.hold(decision)

    @overload
    def guard_stream(
        self, upstream: AsyncIterable[T], decision: Decision, dialect: Dialect | None = None
    ) -> AsyncIterator[T | bytes]: ...

    @overload
    def guard_stream(
        self, upstream: Iterable[T], decision: Decision, dialect: Dialect | None = None
    ) -> Iterator[T | bytes]: ...

    def guard_stream(self, upstream: Any, decision: Decision, dialect: Dialect | None = None) -> Any:
        """Return the stream for as long as the allow lasts (`guarding.guarded`): then it ends with the error in the
        dialect, or raises the deny. Raises `ValueError` for a deny."""
        return guarded(upstream, self.hold(decision), dialect)

    def close(self) -> None:
        """Write what is queued and let go of the database or the connections. Closing twice is no error."""
        self._asked.close()

    async def aclose(self) -> None:
        """`close`, without keeping the running event loop waiting."""
        await asyncio.to_thread(self._asked.close)

    def __enter__(self) -> PolicyEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> PolicyEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
