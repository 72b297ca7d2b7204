"""A gateway on loopback in front of a fake upstream, and a target that has everything a check may need."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn

from policy_engine.probe import Credentials, Models, Switching, Target
from tests.probe.gateway import ALIAS, ALLOWED, DERIVATIVE, FAILING, FORBIDDEN, MODELS, Gateway
from tests.probe.tokens import token
from tests.probe.upstream import Upstream

HOUR = 3_600


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """Serve an application on a free port of this machine."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="gateway")
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive() and time.monotonic() < until, "the gateway did not start"
            time.sleep(0.01)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@dataclass
class Served:
    """A gateway that is served, its upstream, and the engine of the real one."""

    gateway: Any
    upstream: Upstream
    port: int
    engine: Any = None

    @property
    def url(self) -> str:
        """Return where it is."""
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="package")
def _running() -> Iterator[Served]:
    upstream = Upstream(MODELS, default=FORBIDDEN, failing=FAILING)
    gateway = Gateway(upstream)
    with listening(gateway) as port:
        yield Served(gateway, upstream, port)


@pytest.fixture
def served(_running: Served) -> Served:
    """Offer the gateway without a hole and without a past."""
    _running.gateway.holes, _running.gateway.styles, _running.gateway.up = frozenset(), frozenset(), True
    _running.gateway.switched.clear()
    _running.gateway.cached.clear()
    _running.upstream.reached.clear()
    _running.upstream.called = {}
    return _running


@pytest.fixture
def aimed(served: Served) -> Callable[..., Target]:
    """Offer `aimed(**changes)`: a target of the gateway, without pauses and with short bounds."""

    def target(**changes: Any) -> Target:
        return Target(**{**everything(served), **changes})

    return target


def everything(served: Served) -> dict[str, Any]:
    """Return what an operator can give: names, credentials, the authorizer's switch-off, an engine to switch at."""
    now = int(time.time())
    gateway = served.gateway
    return {
        "url": served.url,
        "models": Models((ALLOWED,), (FORBIDDEN,), (ALIAS,), (DERIVATIVE,), FAILING),
        "credentials": Credentials(
            own=token(sub="alice", aud="gateway", exp=now + HOUR),
            foreign=token(sub="alice", aud="elsewhere", exp=now + HOUR),
            expired=token(sub="alice", aud="gateway", exp=now - HOUR),
        ),
        "down": lambda: setattr(gateway, "up", False),
        "up": lambda: setattr(gateway, "up", True),
        "switching": Switching(f"{served.url}/engine", "pe_operator", ALLOWED),
        "privileged": ("admin",),
        "pause_seconds": 0.0,
        "stale_seconds": 0.3,
        "cut_seconds": 0.3,
        "timeout_seconds": 5.0,
    }
