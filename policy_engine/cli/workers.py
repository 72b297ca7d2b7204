"""Several serving processes on one port, for `serve --workers N` on PostgreSQL.

Rules of the room: the parent has checked, filled and closed the database before the first worker starts, and then only
watches: it holds no connection. Each worker is a fresh process with an engine and a log of its own; all accept from
one socket that the parent bound. A worker that ends by itself is started again, unless it had hardly begun: then all
end, and whoever runs the service sees why. SIGTERM, SIGINT and SIGHUP end all of them.
Left to others: serving (`api.server`), what is checked before (`serve`).
"""

from __future__ import annotations

import signal
import socket
import time
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import TYPE_CHECKING

import structlog

from policy_engine.cli.process import end_with_terminal
from policy_engine.errors import PolicyEngineError, StartRefused

if TYPE_CHECKING:
    from policy_engine.settings import Settings

HARDLY_SECONDS = 5.0
"""A worker that ends sooner than this after its start would end again."""

END_SECONDS = 20.0
"""How long workers may take to finish what is under way."""

log = structlog.get_logger(__name__)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket bound for all workers. Raises `StartRefused` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise StartRefused(
            f"cannot listen on {host} port {port}: another process does, or the address is not this machine's"
        ) from None
    listener.set_inheritable(True)
    return listener


def serve_many(settings: Settings, listener: socket.socket) -> int:
    """Run the workers until the process is told to end; return the exit code."""
    workers = Workers(settings, listener)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, workers.end)
    end_with_terminal(workers.end)
    return workers.run()


class Workers:
    """The processes, each with the time of its start."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._started: dict[BaseProcess, float] = {}
        self._ending = False

    def run(self) -> int:
        """Start as many as the settings say and keep them until told to end."""
        for _ in range(self._settings.workers):
            self._start()
        failed = False
        while self._started and not self._ending:
            wait([process.sentinel for process in self._started], timeout=0.5)
            for process in [process for process in self._started if process.exitcode is not None]:
                lived = time.monotonic() - self._started.pop(process)
                log.warning("worker.ended", process=process.pid, code=process.exitcode, seconds=round(lived, 1))
                if self._ending or lived < HARDLY_SECONDS:
                    failed = failed or not self._ending
                    self._ending = True
                else:
                    self._start()
        self._stop()
        return 1 if failed else 0

    def end(self, number: int, frame: FrameType | None) -> None:
        """End all workers: the handler of the signals that end the service."""
        self._ending = True

    def _start(self) -> None:
        process = get_context("spawn").Process(target=work, args=(self._settings, self._listener), name="worker")
        process.start()
        self._started[process] = time.monotonic()

    def _stop(self) -> None:
        for process in self._started:
            process.terminate()
        until = time.monotonic() + END_SECONDS
        for process in self._started:
            process.join(max(0.0, until - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()


def work(settings: Settings, listener: socket.socket) -> None:
    """Open an engine and serve from the shared socket, in a process of its own."""
    from policy_engine import logs
    from policy_engine.api.server import run
    from policy_engine.bootstrap import open_engine

    logs.configure(level="info")
    try:
        engine = open_engine(settings, serving=True)
    except PolicyEngineError as refused:
        log.error("worker.refused", code=refused.code, message=refused.message, where=refused.where)
        raise SystemExit(1) from None
    try:
        run(engine, listener)
    finally:
        engine.close()
