"""One engine, one upstream, and the gateways between them, shared by the tests of a process."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from policy_engine import logs
from tests.api.served import Served, serving
from tests.proxies.gateways import Gateway, gateway
from tests.proxies.upstream import Upstream, upstream

BLOCKER = "https://policy.example/who-blocks"


@pytest.fixture(scope="package", autouse=True)
def _logged_as_served() -> None:
    """Log as the service does: a line for a fault, and no picture of it."""
    logs.configure(level="info", stream=io.StringIO())


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer an engine that shows some denies as 451 and some as 404, with both doors for proxies open."""
    statuses = "evidence=451, subject.unknown=404"
    folder = tmp_path_factory.mktemp("guarded")
    with serving(folder, grpc_port=0, deny_statuses=statuses, blocked_by=BLOCKER) as running:
        yield running


@pytest.fixture(scope="session")
def behind() -> Iterator[Upstream]:
    """Offer what stands behind the gateways."""
    with upstream() as running:
        yield running


@pytest.fixture(scope="session")
def gateways(guarded: Served, behind: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Offer each gateway by name, started when it is asked for first."""
    with ExitStack() as ending:
        started: dict[str, Gateway] = {}

        def get(name: str) -> Gateway:
            if name not in started:
                folder = tmp_path_factory.mktemp(name)
                started[name] = ending.enter_context(gateway(name, guarded, behind, folder))
            started[name].engine.heal()
            return started[name]

        yield get
