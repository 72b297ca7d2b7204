"""The gRPC server for Envoy, on the event loop of the HTTP server.

Rules of the room: without TLS it listens on loopback alone, unless a setting says that the network is private; with it
the certificate is that of the HTTP server. When the service ends, calls under way are answered first.
Left to others: a connection (`connection`), what is answered (`envoy`, `health`). What the extra brings is imported
where a port is set, nowhere else.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from policy_engine.errors import StartRefused
from policy_engine.loopback import is_loopback

if TYPE_CHECKING:
    from policy_engine.api.checks.checking import Checker
    from policy_engine.api.checks.connection import Connection
    from policy_engine.api.condition import Condition
    from policy_engine.settings import Settings

GRACE_SECONDS: Final = 5.0
BACKLOG: Final = 1_024
HANDSHAKE_SECONDS: Final = 10.0


class Listening:
    """The server, begun and ended with the HTTP server."""

    def __init__(
        self,
        checker: Checker,
        ready: Callable[[], Condition],
        host: str,
        port: int,
        *,
        shared: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`ready` reads whether decisions can be made. `shared` lets several processes listen on one port; without
        `tls` it listens in clear."""
        self._checker = checker
        self._ready = ready
        self._tls = tls
        self._host = host
        self._wanted = port
        self._shared = shared
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.port = 0
        """Where it listens, once it does."""

    async def begin(self) -> None:
        """Listen. Raises `StartRefused` when the address cannot be had."""
        from policy_engine.api.checks.connection import Connection
        from policy_engine.api.checks.envoy import SERVICE, Checks
        from policy_engine.api.checks.health import Health

        methods = (Checks(self._checker), Health(self._ready, (SERVICE,)))
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Connection(methods, self._connections, self._checker.limits),
                self._host,
                self._wanted,
                backlog=BACKLOG,
                reuse_port=self._shared or None,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HANDSHAKE_SECONDS,
            )
        except OSError:
            raise StartRefused(
                f"cannot listen on {self._host} port {self._wanted} for gRPC: another process does, or the address is "
                "not this machine's"
            ) from None
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def end(self) -> None:
        """Take no more calls, let those under way be answered for a moment, and stop."""
        if self._server is None:
            return
        self._server.close()
        ending = [asyncio.ensure_future(connection.finish()) for connection in self._connections]
        if ending:
            await asyncio.wait(ending, timeout=GRACE_SECONDS)


def require_possible(settings: Settings) -> None:
    """Raise `StartRefused` when gRPC is asked for and the extra is missing, or the network would hear keys in clear."""
    if settings.grpc_port is None:
        return
    try:
        import hpack  # noqa: F401  to see that it is there
        from envoy.service.auth.v3 import external_auth_pb2  # noqa: F401  to see that it is there
    except ModuleNotFoundError as missing:
        raise StartRefused(
            f"serving Envoy over gRPC needs the extra `envoy` ({missing.name} is missing): "
            "pip install 'policy-engine[envoy]'",
            where="POLICY_ENGINE_GRPC_PORT",
        ) from None
    private = settings.tls_certificate is not None or settings.grpc_plaintext == "yes"
    if not is_loopback(settings.grpc_host) and not private:
        raise StartRefused(
            "gRPC without TLS is served on loopback alone: put Envoy beside the engine, name a certificate in "
            "POLICY_ENGINE_TLS_CERTIFICATE, or set POLICY_ENGINE_GRPC_PLAINTEXT=yes where the network between them is "
            "private",
            where="POLICY_ENGINE_GRPC_HOST",
        )
