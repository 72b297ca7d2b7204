"""The program that is killed: 64 decisions in flight at once, and changes beside them, until it dies.

`python -m tests.attacks.killed DATABASE` says `R`, waits for a line, opens the database and then tells every step on
stdout, one short line each, written at once: `S id` when a decision is handed in, `A seq id` when its entry was
acknowledged, `M id` when it has to be evaluated again, `C seq` when a change was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from pathlib import Path

from policy_engine.services.record import Written
from policy_engine.store.interfaces import Change, Write
from tests.services.evidencesamples import PEP, Desk, evaluation, open_desk

IN_FLIGHT = 64


def say(line: str) -> None:
    """Write a line to the pipe at once."""
    os.write(1, line.encode() + b"\n")


async def decide(desk: Desk, worker: int) -> None:
    """Hand in one decision after another; what moved is evaluated again."""
    n = 0
    while True:
        n += 1
        state = desk.store.state()
        draft = desk.recorder.decision(
            evaluation(state, desk.store.now(), f"user-{worker}-{n % 7}"), PEP, state.facts_revision
        )
        say(f"S {draft.id}")
        (result,) = await desk.recorder.write_async([draft], state)
        if isinstance(result, Written):
            say(f"A {result.seq} {draft.id}")
        else:
            say(f"M {draft.id}")


def change(desk: Desk) -> None:
    """Change a fact or an order now and then, beside the decisions."""
    n = time.time_ns()
    while True:
        n += 1
        register = "persons" if n % 4 else "switches"
        write = Write(register, f"x-{n}", {"n": str(n)}, 0)
        committed = desk.store.change(Change("x", {}, (write,), raises_epoch=register == "switches"))
        say(f"C {committed.seqs[0]}")
        time.sleep(0.01)


async def main(path: Path) -> None:
    """Work until killed."""
    say("R")
    sys.stdin.readline()
    desk = open_desk(path, new=False)
    threading.Thread(target=change, args=(desk,), daemon=True).start()
    await asyncio.gather(*(decide(desk, worker) for worker in range(IN_FLIGHT)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
