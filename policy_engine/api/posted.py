"""What every raw endpoint does around its own work: who asks, the strict body, errors as problems.

No framework stands between the socket and the decider. The steps of an exchange, numbered in `_read`:
1. method, 2. caller and scope, 3. media type, 4. body, 5. strict JSON; then the endpoint's own work.
Whatever fails here or is raised by that work is a problem document; a fault of ours is a 500, without detail.
Left to others: what is asked and answered (`decisions`, `searches`), which error is which status (`problems`).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import structlog

from policy_engine.api import problems
from policy_engine.api.callers import Authenticated, Keys, identify, identify_again, require_scope, require_time
from policy_engine.api.exchange import (
    Disconnected,
    Head,
    Receive,
    Scope,
    Send,
    answer_problem,
    read_body,
    read_head,
    require_json,
)
from policy_engine.api.metrics import Metrics
from policy_engine.api.parse import parse_object
from policy_engine.errors import PolicyEngineError
from policy_engine.limits import LIMITS, Limits

SCOPE: Final = "decide"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Posted:
    """A question on its way: where it was sent, what its body says, who asks, and since when (`perf_counter`)."""

    path: str
    body: dict[str, Any]
    caller: Authenticated
    head: Head
    began: float


class PostedApp(ABC):
    """A raw ASGI application whose endpoints answer questions sent by POST."""

    failed: ClassVar[str]
    """What the log calls a fault of ours here."""

    def __init__(self, keys: Keys, metrics: Metrics, limits: Limits = LIMITS) -> None:
        self._keys = keys
        self._metrics = metrics
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one exchange; never raises for what a caller sent."""
        head = Head()
        try:
            posted = await self._read(scope, receive, send, head)
            if posted is not None:
                await self._answer(posted, send)
            return
        except Disconnected:
            return
        except PolicyEngineError as error:
            problem = problems.of_error(error)
        except Exception as error:  # the last line of defence: nothing of a fault leaves
            problem = problems.internal()
            log.error(self.failed, exc_info=error)
        self._metrics.refused(problem.status)
        await answer_problem(send, problem, head.request_id)

    @abstractmethod
    async def _answer(self, posted: Posted, send: Send) -> None:
        """Answer a question, or raise before anything of an answer was sent."""

    async def _read(self, scope: Scope, receive: Receive, send: Send, head: Head) -> Posted | None:
        """Return the question, `None` when the method was wrong and that is answered."""
        began = time.perf_counter()
        read_head(scope, head, self._limits)
        if scope["method"] != "POST":  # 1
            self._metrics.refused(405)
            await answer_problem(send, problems.method_not_allowed("POST"), head.request_id)
            return None
        caller = await identify(self._keys, head.authorization, fresh=False)  # 2
        require_scope(caller.principal, SCOPE)
        require_json(head)  # 3
        content = await read_body(receive, head, self._limits.body_bytes)  # 4
        require_time(self._keys, caller)
        return Posted(scope["path"], parse_object(content, limits=self._limits), caller, head, began)  # 5

    def _check_caller(self, posted: Posted) -> None:
        """Raise `NotAuthenticated` unless the caller may still ask: after an answer under another epoch than the one
        under which its key was found alive."""
        identify_again(self._keys, posted.head.authorization, posted.caller)
