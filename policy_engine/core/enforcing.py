"""What an enforcement point needs of an engine, embedded or remote: to ask it, and to hold an allow while it is in use.

Rules of the room: an allow is good for the moment it is asked for; whoever goes on using it, for a stream, holds it and
stops when the hold has ended. A hold only ever ends; whatever is in doubt ends it.
Left to others: deciding (`services.decide`), watching (whoever makes a hold), what the end looks like (`dialects`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from policy_engine.core.decision import Decision


class Hold(Protocol):
    """An allow in use. `ended` is the deny that ended it, `None` while it stands; it may be read from any thread.

    Ask `hold.ended is not None`: a deny is false, so `if hold.ended` never is true.
    """

    @property
    def ended(self) -> Decision | None:
        """Return the deny, once there is one."""
        ...

    def on_end(self, call: Callable[[], None]) -> None:
        """Call once when the hold ends, at once if it has; from whichever thread learned of it."""
        ...

    def close(self) -> None:
        """Say that the allow is no longer in use. Without this the hold is watched for ever."""
        ...

    def __enter__(self) -> Hold: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Enforcing(Protocol):
    """An engine as an enforcement point asks it: `PolicyEngine.open` and `PolicyEngine.connect` both are one."""

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
        """Return the decision after its entry is durable; a deny that says why where there is none. Never raises for
        policy reasons or for an engine that cannot be reached; raises `InputRefused` for a malformed question."""
        ...

    async def decide_async(
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
        """The same, waiting on the running event loop."""
        ...

    def hold(self, decision: Decision) -> Hold:
        """Watch an allow of this engine from now on. Raises `ValueError` for a deny or another engine's decision."""
        ...
