"""Cutting: when the allow ends, the stream does, whatever the application does, and nothing of it leaves after that."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import Any

import pytest

from tests.middleware.doors import CHAT, Answered, App, begin_stream, engage, exchange, guarded, headers, later


async def hang(scope: Any, receive: Any, send: Any) -> None:
    """Begin a stream of events and then say nothing."""
    await begin_stream(send)
    await asyncio.sleep(60)


async def hang_unstarted(scope: Any, receive: Any, send: Any) -> None:
    """Work on an answer for ever."""
    await asyncio.sleep(60)


async def swallow(scope: Any, receive: Any, send: Any) -> None:
    """Go on sending whatever happens, and never return."""
    await begin_stream(send)
    while True:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await asyncio.sleep(0.01)
            await send({"type": "http.response.body", "body": b"data: more\n\n", "more_body": True})


async def swallow_and_return(scope: Any, receive: Any, send: Any) -> None:
    """Take a cancellation for nothing, try to end the answer as if it were whole, and return."""
    await begin_stream(send)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(60)
    with contextlib.suppress(Exception):
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def in_another_task(scope: Any, receive: Any, send: Any) -> None:
    """Send from a task that nobody cancels."""
    await begin_stream(send)

    async def go_on() -> None:
        while True:
            await asyncio.sleep(0.01)
            await send({"type": "http.response.body", "body": b"data: more\n\n", "more_body": True})

    task = asyncio.create_task(go_on())
    await asyncio.wait({task})
    with contextlib.suppress(Exception):
        task.result()


async def other_media(scope: Any, receive: Any, send: Any) -> None:
    """Begin a stream that is none of events."""
    await begin_stream(send, b"application/x-ndjson")
    await asyncio.sleep(60)


def cut_while(running: Any, answer: Any, seconds: float = 0.1, **more: Any) -> tuple[Answered, float, App]:
    """Return what a client got of an application that was running when a switch was engaged, and how late it ended."""
    engine, keys = running
    app, committed, arrived = App(answer), list[float](), list[float]()

    async def main() -> Answered:
        async with later(seconds, lambda: committed.append(engage(engine, keys["operator"]))):
            answered = Answered()
            task = asyncio.create_task(exchange(guarded(engine, app), on_piece=lambda found: note(found), **more))
            seen: list[Answered] = []

            def note(found: Answered) -> None:
                seen[:] = [found]
                arrived.append(time.monotonic())

            async with asyncio.timeout(5):
                while not (seen and seen[0].complete) and not task.done():
                    await asyncio.sleep(0.005)
                answered = seen[0] if seen else task.result()
            if not task.done():  # an application that never returns: its client has its answer all the same
                task.cancel()
                await asyncio.wait({task}, timeout=0.2)
            return answered

    answered = asyncio.run(main())
    return answered, arrived[-1] - committed[0] if arrived else 0.0, app


@pytest.mark.parametrize("answer", [hang, swallow_and_return, in_another_task])
def test_a_stream_ends_within_a_second_with_the_clients_error(running: Any, answer: Any) -> None:
    """The last event is the error, in the client's words, and the answer is complete."""
    answered, late, _ = cut_while(running, answer)
    assert answered.complete and late < 1.0
    assert answered.pieces[0] == b"data: one\n\n"
    assert b'"code":"model_suspended"' in answered.pieces[-1]
    assert b"[DONE]" not in answered.body
    assert running[0].uses.count == 0


def test_the_anthropic_dialect_ends_with_an_error_event(running: Any) -> None:
    """A client of `/v1/messages` gets `event: error`."""
    answered, _, _ = cut_while(running, hang, path="/v1/messages")
    assert answered.pieces[-1].startswith(b"\n\nevent: error\ndata: ")


def test_an_application_that_swallows_everything_gets_no_byte_out(running: Any) -> None:
    """It goes on for ever, and its client has a complete answer that ends with the error.

    Control: policy_engine/middleware/exchange.py: `shut()`
    """
    engine, keys = running

    async def main() -> Answered:
        seen: list[Answered] = []
        door = guarded(engine, App(swallow))
        task = asyncio.create_task(exchange(door, on_piece=lambda found: seen.append(found)))
        async with later(0.1, lambda: engage(engine, keys["operator"])), asyncio.timeout(5):
            while not (seen and seen[-1].complete):
                await asyncio.sleep(0.005)
        count = len(seen[-1].messages)
        await asyncio.sleep(0.1)
        assert len(seen[-1].messages) == count
        assert not task.done()
        for pending in asyncio.all_tasks() - {asyncio.current_task()}:
            pending.cancel()
        return seen[-1]

    loop = asyncio.new_event_loop()
    try:
        answered = loop.run_until_complete(main())
    finally:
        loop.close()  # not `asyncio.run`: it would wait for an application that never ends
    assert b"model_suspended" in answered.pieces[-1]


def test_an_answer_that_has_not_begun_is_the_refusal(running: Any) -> None:
    """A client that waits for a whole answer gets the 403 instead."""
    answered, _, app = cut_while(running, hang_unstarted)
    assert (answered.status, answered.complete) == (403, True)
    assert app.ended == ["CancelledError"]


def test_another_kind_of_stream_is_left_unfinished(running: Any) -> None:
    """Nobody takes a cut answer for whole: the server closes the connection of one that is not finished."""
    answered, _, _ = cut_while(running, other_media)
    assert not answered.complete
    assert answered.body == b"data: one\n\n"


HINT = {"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]}
DEBUG = {"type": "http.response.debug", "info": {}}
PUSH = {"type": "http.response.push", "path": "/a", "headers": []}


@pytest.mark.parametrize("before", [HINT, DEBUG, PUSH])
def test_what_comes_before_an_answer_is_none(running: Any, before: dict[str, Any]) -> None:
    """A stream behind a hint ends with its error, and an application that hints and works on is answered with the
    refusal."""

    async def hint_then(answer: Any, scope: Any, receive: Any, send: Any) -> None:
        await send(before)
        await answer(scope, receive, send)

    engine, keys = running
    for number, (answer, model) in enumerate(((hang, "fable-5"), (hang_unstarted, "opus-4-8"))):
        sent: list[Any] = []

        async def main(answer: Any = answer, model: str = model, id: str = f"stop-{number}", seen: Any = sent) -> None:
            async def send(message: Any) -> None:
                seen.append(message)

            async def receive() -> Any:
                return {"type": "http.request", "body": b'{"model":"%s"}' % model.encode()}

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await hint_then(answer, scope, receive, send)

            scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers(), "query_string": b""}
            async with later(0.1, lambda: engage(engine, keys["operator"], model, id)), asyncio.timeout(5):
                await guarded(engine, app)(scope, receive, send)

        asyncio.run(main())
        assert sent[0] == before and b"model_suspended" in sent[-1]["body"]
        assert [each["status"] for each in sent if "status" in each] == [200 if answer is hang else 403]
    assert engine.uses.count == 0


@pytest.mark.parametrize("kind", ["one mapping", "once"])
def test_an_application_may_use_its_messages_and_headers_up(running: Any, kind: str) -> None:
    """One mapping for all messages, or headers that can be read once: the stream ends with its error all the same."""
    kept = [(b"content-type", b"text/event-stream")]

    async def thrifty(scope: Any, receive: Any, send: Any) -> None:
        message: dict[str, Any] = {"type": "http.response.start", "status": 200, "headers": kept}
        await send({**message, "headers": iter(kept)} if kind == "once" else message)
        message.clear()
        message |= {"type": "http.response.body", "body": b"data: one\n\n", "more_body": True}
        while True:
            await send(message)
            await asyncio.sleep(0.02)

    answered, late, _ = cut_while(running, thrifty)
    assert answered.headers == {"content-type": "text/event-stream"}
    assert answered.complete and late < 1.0 and b"model_suspended" in answered.pieces[-1]


def test_an_answer_that_is_whole_is_left_alone(running: Any) -> None:
    """A switch after the last byte changes nothing of the answer."""

    async def done(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"whole"})
        await asyncio.sleep(60)

    answered, _, _ = cut_while(running, done, 0.2)
    assert answered.body == b"whole" and answered.status == 200


def test_a_withdrawal_between_the_decision_and_the_hold_is_not_missed(running: Any) -> None:
    """An allow whose hold has ended at once is refused before the application runs."""
    engine, _ = running
    app = App()
    door = guarded(engine, app)
    engine.uses.close()
    answered = asyncio.run(exchange(door))
    assert (answered.status, app.calls) == (503, [])


def test_a_cancellation_by_the_server_stays_one(running: Any) -> None:
    """A task that the server cancels is cancelled, and its hold closed."""
    engine, _ = running

    async def main() -> bool:
        task = asyncio.create_task(exchange(guarded(engine, App(hang))))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        return task.cancelled()

    assert asyncio.run(main())
    assert engine.uses.count == 0


def test_what_the_application_raises_passes(running: Any) -> None:
    """An error of the application's own is the server's to handle."""

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("own")

    with pytest.raises(KeyError):
        asyncio.run(exchange(guarded(running[0], App(fail))))
    assert running[0].uses.count == 0


def test_others_go_on(running: Any) -> None:
    """A switch on one model cuts no stream of another."""
    engine, keys = running

    async def short(scope: Any, receive: Any, send: Any) -> None:
        await begin_stream(send)
        await asyncio.sleep(1.2)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def main() -> list[Answered]:
        door = guarded(engine, App(short))
        async with later(0.1, lambda: engage(engine, keys["operator"])):
            bodies = (b'{"model":"opus-4-8"}', b'{"model":"fable-5"}')
            return list(await asyncio.gather(*(exchange(door, body) for body in bodies)))

    other, cut = asyncio.run(main())
    assert other.body.endswith(b"[DONE]\n\n") and other.complete
    assert b"model_suspended" in cut.body


def test_two_hundred_streams_are_cut_on_one_switch(running: Any) -> None:
    """The small form of `python -m benchmarks --only cut`: all end within a second of the commit, none before."""
    engine, keys = running
    committed: list[float] = []
    ends: list[float] = []

    async def main() -> list[Answered]:
        door = guarded(engine, App(hang))

        async def one() -> Answered:
            answered = await exchange(door)
            ends.append(time.monotonic())
            return answered

        tasks = [asyncio.create_task(one()) for _ in range(200)]
        while engine.uses.count < 200:
            await asyncio.sleep(0.01)
        async with later(0.0, lambda: committed.append(engage(engine, keys["operator"]))):
            return list(await asyncio.gather(*tasks))

    found = asyncio.run(main())
    assert all(each.complete and b"model_suspended" in each.pieces[-1] for each in found)
    assert max(ends) - committed[0] < 1.0


@pytest.mark.parametrize("withdrawn", ["fable-5", "opus-4-8"])
def test_a_fallback_is_held_as_well(running: Any, withdrawn: str) -> None:
    """An answer that asked for a fallback ends when the allow of either model does, and both holds are let go."""
    engine, keys = running
    asked = threading.Event()

    async def fall_back(scope: Any, receive: Any, send: Any) -> None:
        assert (await scope["policy_engine"].ask("opus-4-8")).allowed
        assert not (await scope["policy_engine"].ask("mythos-5")).allowed
        assert engine.uses.count == 2
        asked.set()
        await hang(scope, receive, send)

    def withdraw() -> None:
        assert asked.wait(10)
        engage(engine, keys["operator"], withdrawn)

    async def main() -> Answered:
        async with later(0.0, withdraw):
            return await exchange(guarded(engine, App(fall_back)))

    answered = asyncio.run(main())
    assert answered.complete and b"model_suspended" in answered.pieces[-1]
    assert engine.uses.count == 0


def test_what_is_asked_when_the_answer_is_over_is_held_no_longer(running: Any) -> None:
    """An application that asks behind its own end leaves no hold watched for ever."""
    engine, _ = running
    app = App()

    async def main() -> None:
        await exchange(guarded(engine, app))
        assert (await app.scopes[0]["policy_engine"].ask("opus-4-8")).allowed

    asyncio.run(main())
    assert engine.uses.count == 0


def socket(door: Any, answer_after: float = 10.0, **more: Any) -> Any:
    """Return what a WebSocket client sees: the messages that the server was told to send."""

    async def main() -> list[Any]:
        sent: list[Any] = []
        closed = asyncio.Event()
        told = [{"type": "websocket.connect"}]

        async def receive() -> Any:
            if told:
                return told.pop()
            await closed.wait()
            return {"type": "websocket.disconnect", "code": 1005}

        async def send(message: Any) -> None:
            sent.append(message)
            if message["type"] in ("websocket.close", "websocket.http.response.body"):
                closed.set()

        scope = {
            "type": "websocket",
            "path": "/v1/realtime",
            "query_string": b"model=fable-5",
            "headers": headers(),
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            **more,
        }
        async with asyncio.timeout(answer_after):
            await door(scope, receive, send)
        return sent

    return main()


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """Accept a WebSocket, say one thing, and wait."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "hello"})
    await asyncio.sleep(60)


def test_a_websocket_is_guarded_and_closed_with_1008(running: Any) -> None:
    """It is decided before it is accepted, and closed when its allow ends."""
    from policy_engine.middleware.models import from_body, from_query

    engine, keys = running
    door = guarded(engine, App(talk), model=from_body() & from_query())

    async def cut() -> list[Any]:
        async with later(0.1, lambda: engage(engine, keys["operator"])):
            found: list[Any] = await socket(door)
            return found

    denied = asyncio.run(socket(door, headers=headers(user="eve")))
    shown = asyncio.run(socket(door, headers=headers(user="eve"), extensions={"websocket.http.response": {}}))
    nameless = asyncio.run(socket(door, query_string=b""))
    nobody = asyncio.run(socket(door, headers=[]))
    assert denied == nameless == nobody == [{"type": "websocket.close", "code": 1008, "reason": "policy"}]
    assert [message["type"] for message in shown] == ["websocket.http.response.start", "websocket.http.response.body"]
    assert shown[0]["status"] == 403
    assert [message["type"] for message in asyncio.run(cut())] == [
        "websocket.accept",
        "websocket.send",
        "websocket.close",
    ]
