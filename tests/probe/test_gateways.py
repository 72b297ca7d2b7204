"""The suite against real gateways that ask this engine: Envoy by its two doors, and LiteLLM with our plugin.

Each runs in an environment of its own: LiteLLM is part of `make nightly`, Envoy of `make campaigns` as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from policy_engine.probe import Credentials, Models, Outcome, Report, Switching, Target, run
from policy_engine.probe.catalogue import NAMES
from tests.api.served import Served, serving
from tests.plugins import litellm_proxy
from tests.plugins.upstream import providing
from tests.probe.conftest import listening
from tests.probe.test_holes import told
from tests.probe.upstream import Upstream
from tests.proxies.gateways import TOKEN, gateway

ALLOWED, FORBIDDEN = "open-1", "fable-5"
MODELS = {name: name for name in (ALLOWED, FORBIDDEN, "mythos-5")} | {"fable-latest": FORBIDDEN}
WITHHELD = Models((ALLOWED,), (FORBIDDEN,), ("fable-latest",), ("mythos-5",))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Served]:
    """Offer an engine on a new sample database, with its doors for proxies open."""
    folder = tmp_path / "engine"
    folder.mkdir()
    with serving(folder, grpc_port=0) as running:
        yield running


def switching(engine: Served) -> Switching:
    """Return the switch that the probe may engage."""
    return Switching(f"http://127.0.0.1:{engine.port}", engine.keys["operator"], ALLOWED)


def check(report: Report, holes: set[str], skipped: set[str]) -> None:
    """Say that these are all the holes, that these alone were left out, and that everything else has passed."""
    assert set(told(report, Outcome.HOLE)) == holes, told(report, Outcome.HOLE)
    assert told(report, Outcome.UNCLEAR, Outcome.UNPROBED) == {}
    assert set(told(report, Outcome.SKIPPED)) == skipped
    assert len(told(report, Outcome.PASSED)) == len(NAMES) - len(holes) - len(skipped)


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["envoy", "envoy-http"])
def test_envoy_lets_nothing_past_but_the_rest_of_a_stream(engine: Served, tmp_path: Path, name: str) -> None:
    """Behind the printed configuration each check passes; a stream that was begun goes on, as the page says."""
    upstream = Upstream(MODELS, default=FORBIDDEN, lenient=False)
    folder = tmp_path / name
    folder.mkdir()
    with listening(upstream) as port, gateway(name, engine, SimpleNamespace(port=port), folder) as made:  # type: ignore[arg-type]  # its port is all that is read
        credentials = Credentials(TOKEN("eve"), TOKEN("eve", aud="elsewhere"), TOKEN("eve", exp=int(time.time()) - 600))
        given: dict[str, Any] = {"down": made.engine.cut, "up": made.engine.heal, "privileged": ("alice",)}
        bounds = {"pause_seconds": 0.0, "stale_seconds": 0.5, "cut_seconds": 0.5}
        target = Target(
            f"http://127.0.0.1:{made.port}", WITHHELD, credentials, switching=switching(engine), **given, **bounds
        )
        report = run(target)
    check(report, {"stream-cut"}, {"fallback-forced"})
    assert {model for _, _, model in upstream.reached} == {ALLOWED}


@pytest.mark.nightly
def test_litellm_with_our_plugin_lets_nothing_past(engine: Served, tmp_path: Path) -> None:
    """In a real proxy each check passes: LiteLLM repeats names, so its headers say which model has answered."""
    with providing() as provider:
        base = {"api_base": f"http://127.0.0.1:{provider.port}/v1", "api_key": "sk-none"}
        models = [
            {"model_name": name, "litellm_params": {"model": f"openai/{name}", **base}, "model_info": {}}
            for name in MODELS
        ]
        variables = {
            **litellm_proxy.exported(),
            "POLICY_ENGINE_URL": f"http://127.0.0.1:{engine.port}",
            "POLICY_ENGINE_KEY": engine.keys["gateway"],
        }
        with litellm_proxy.started(tmp_path, litellm_proxy.configuration(models, {}), variables) as proxy:
            assert litellm_proxy.ready(proxy), proxy.log.read_text()[-4_000:]
            target = Target(
                proxy.url,
                WITHHELD,
                Credentials("sk-eve"),
                switching=switching(engine),
                pause_seconds=0.0,
                skip=frozenset({"stream-cut"}),  # the plugin's own tests cut streams; the provider's end too soon here
            )
            report = run(target)
        reached = {model for _, model in provider.reached}
    left_out = {"jwt-unsigned", "jwt-changed", "expired-credential", "fallback-forced", "authorizer-down", "stream-cut"}
    check(report, set(), left_out)
    assert reached == {ALLOWED}
