"""The embedded engine: the door for Python programs that decide in their own process.

The embedding process is a trusted caller: it acts as the service principal `local`, which decides and supplies
location and serving region. Same path, same evidence, same refusals as the service. Remote and async: not yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from policy_engine.core.decision import Decision, Request
from policy_engine.core.dialects import Dialect
from policy_engine.core.enforcing import Hold
from policy_engine.core.factparse import parse_location
from policy_engine.guarding import guarded

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

T = TypeVar("T")


class PolicyEngine:
    """An open engine. Close it, or use it as a context manager; it is safe to use from several threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(
        cls, policies: str | Path = "policies/", *, database: str = "sqlite:///engine.db", **settings: Any
    ) -> PolicyEngine:
        """Open a database with a policies folder, filling an empty one from them.

        Raises `StartRefused` when the folder differs from the active release or the key file is missing, and
        `LoadRefused` when the folder cannot be accepted.
        """
        from policy_engine.bootstrap import open_engine
        from policy_engine.settings import Settings

        return cls(open_engine(Settings(policies=Path(policies), database=database, **settings), embedded=True))

    def decide(
        self,
        *,
        subject: str,
        model: str,
        action: str,
        tenant: str | None = None,
        location: str | Mapping[str, Any] | None = None,
        serving_region: str | None = None,
        subject_type: str = "person",
        resource_type: str = "model",
        explain: bool = False,
    ) -> Decision:
        """Return the decision after its entry is durable. Never raises for policy reasons.

        `location` is `"US"`, `"UA-65"` or `{country, region, anonymiser}`. Raises `InputRefused` for a malformed one.
        Other types than `person`, `service` and `model` are those of a plain Casbin folder's entities.
        """
        from policy_engine.services.permissions import LOCAL

        request = Request(
            subject_id=subject,
            action=action,
            model=model,
            tenant=tenant,
            location=parse_location(location),
            serving_region=serving_region,
            subject_type=subject_type,
            resource_type=resource_type,
        )
        return self._engine.decider.decide(request, LOCAL, explained=explain)

    def hold(self, decision: Decision) -> Hold:
        """Watch an allow of this engine from now on, until the hold is closed. Raises `ValueError` for a deny."""
        return self._engine.uses.hold(decision)

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
        """Write what is queued and close the database."""
        self._engine.close()

    def __enter__(self) -> PolicyEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
