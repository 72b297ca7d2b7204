"""Any application, cut at any moment: the client sees an answer that is whole, ended with our error, or unfinished."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.decision import Decision, Request
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from tests.middleware.doors import Answered, by_proxy, exchange
from tests.test_guarding import ByHand

ALLOWED = Decision(True, "d-0", (), (), (), "sha256:0", 1, 2_000, asked=Request("alice", "infer", "fable-5"))
STEPS = st.lists(st.sampled_from(["send", "wait", "yield", "swallow", "task"]), max_size=8)
MEDIA = st.sampled_from([b"text/event-stream", b"text/event-stream; charset=utf-8", b"application/x-ndjson"])


class Yes:
    """An engine that allows everything, and whose hold a test ends."""

    def __init__(self) -> None:
        self.given = ByHand()

    async def decide_async(self, **question: Any) -> Decision:
        """Allow."""
        return ALLOWED

    async def decide_many_async(self, questions: Any) -> list[Decision]:
        """Allow."""
        return [ALLOWED for _ in questions]

    def hold(self, decision: Decision) -> ByHand:
        """Hold by hand."""
        return self.given


class Played:
    """An application that plays steps, and notes what it got out."""

    def __init__(self, steps: list[str], media: bytes, finish: bool) -> None:
        self.steps, self.media, self.finish = steps, media, finish
        self.tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Play, swallowing what is to be swallowed."""
        await receive()
        kept = [(b"content-type", self.media)]
        await send({"type": "http.response.start", "status": 200, "headers": kept})
        piece = {"type": "http.response.body", "body": b"data: app\n\n", "more_body": True}
        for step in self.steps:
            if step == "send":
                await send(piece)
            elif step == "wait":
                await asyncio.sleep(0.002)
            elif step == "yield":
                await asyncio.sleep(0)
            elif step == "swallow":
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await asyncio.sleep(0.002)
                    await send(piece)
            else:
                self.tasks.append(asyncio.create_task(later(send, piece)))
        if self.finish:
            await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def later(send: Any, piece: Any) -> None:
    """Send from a task of its own, when nobody waits for it any more."""
    await asyncio.sleep(0.001)
    with contextlib.suppress(Exception):
        await send(piece)


async def play(app: Played, after: float) -> tuple[Answered | None, bool, list[Answered]]:
    """Run the application under a door and cut it after so many seconds; return what its client saw."""
    engine, seen = Yes(), list[Answered]()
    door = PolicyEngineMiddleware(app, engine=engine, subject=by_proxy())  # type: ignore[arg-type]  # as much of one
    loop = asyncio.get_running_loop()
    cut = loop.create_task(asyncio.to_thread(engine.given.end)) if not after else None
    handle = None if cut else loop.call_later(after, lambda: loop.create_task(asyncio.to_thread(engine.given.end)))
    answered = await exchange(door, on_piece=seen.append)
    if handle is not None:
        handle.cancel()
    for task in (*app.tasks, *([cut] if cut else [])):
        await task
    await asyncio.sleep(0.003)
    current = asyncio.current_task()
    assert current is not None and current.cancelling() == 0
    return answered, engine.given.ended is not None, seen


@given(STEPS, MEDIA, st.booleans(), st.sampled_from([0.0, 0.0005, 0.001, 0.002, 0.004, 0.05]))
def test_what_the_client_sees_is_whole_ended_or_unfinished(
    steps: list[str], media: bytes, finish: bool, after: float
) -> None:
    """Nothing comes after the end, the refusal is whole, and nobody is left cancelled or held."""
    app = Played(steps, media, finish)
    try:
        answered, ended, _ = asyncio.run(play(app, after))
    except AssertionError as error:
        raise AssertionError(f"{steps} {media!r} {finish} {after}") from error
    assert answered is not None
    if not ended:
        assert answered.complete == finish
    elif answered.status == 403:
        assert answered.complete and b"app" not in answered.body
    elif answered.complete:
        assert answered.pieces[-1] == b"data: [DONE]\n\n" or b"model_suspended" in answered.pieces[-1]
        assert media.startswith(b"text/event-stream") or b"model_suspended" not in answered.body
    assert answered.status in (200, 403)
