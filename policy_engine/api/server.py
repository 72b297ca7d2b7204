"""Serving: one uvicorn worker on uvloop and httptools in front of an open engine.

Rules of the room: no access log (paths and addresses are nobody's business), no server header, no forwarded headers
believed, heads bounded in size and time, and an end that lets what is under way finish.
Left to others: opening and closing the engine (whoever calls), its logs (`logs`).
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

from policy_engine.api.app import Door
from policy_engine.api.certificate import HTTP_1, HTTP_2, Certificate, certificate_of
from policy_engine.api.checks.listening import Listening, require_possible
from policy_engine.api.protocol import BoundedHead

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine

BACKLOG: Final = 2_048
KEEP_ALIVE_SECONDS: Final = 75
SHUTDOWN_SECONDS: Final = 10
GARBAGE_OBJECTS: Final = 20_000
"""New objects between two looks of the collector; a decision makes about a hundred, and nearly none in a circle."""

SWITCH_SECONDS: Final = 0.005
"""How long the event loop may keep the interpreter while the recorder wants it: a commit must not wait for a burst."""


class Server(uvicorn.Server):
    """Uvicorn's server: ready before everything is loaded, and endless streams end before it waits for the others.

    `beside` is the gRPC door for Envoy, where there is one; `certificate` is that of both doors, where they have one.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        door: Door,
        beside: Listening | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        super().__init__(config)
        self.door = door
        self.beside = beside
        self._certificate = certificate
        self._keeping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what is not needed for decisions is loaded from here on."""
        if self.beside is not None:
            await self.beside.begin()
        if self._certificate is not None:
            self._keeping = asyncio.create_task(self._certificate.keep())
        await super().startup(sockets)
        self.door.load().add_done_callback(lambda _: gc.freeze())  # that stays as well

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, then everything else."""
        self.door.end_streams()
        if self._keeping is not None:
            self._keeping.cancel()
        if self.beside is not None:
            await self.beside.end()
        await super().shutdown(sockets)


def server(engine: Engine, *, host: str, port: int) -> Server:
    """Return a server that is not yet started. Port 0 takes a free one.

    Raises `StartRefused` when the settings ask for gRPC or TLS and it cannot be.
    """
    settings = engine.settings
    require_possible(settings)
    certificate = certificate_of(settings)
    door = Door(engine)
    beside = None
    if settings.grpc_port is not None:
        shared = settings.workers > 1
        tls = None if certificate is None else certificate.context(HTTP_2)
        where = settings.grpc_host, settings.grpc_port
        beside = Listening(door.checker, door.condition, *where, shared=shared, tls=tls)
    config = uvicorn.Config(
        door,
        host=host,
        port=port,
        loop="uvloop",
        http=BoundedHead,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context(HTTP_1),
    )
    return Server(config, door, beside, certificate)


def run(engine: Engine, listener: socket.socket | None = None) -> None:
    """Serve the engine where its settings say, until the process is told to end. The caller closes the engine.

    `listener` is a bound socket that this process shares with others, instead of one of its own.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is loaded by now stays: the collector need not walk it again
    gc.set_threshold(GARBAGE_OBJECTS)
    sockets = None if listener is None else [listener]
    server(engine, host=engine.settings.host, port=engine.settings.port).run(sockets)
