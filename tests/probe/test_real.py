"""The suite against the real thing: the ASGI middleware with an engine in its process, and a real switch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from policy_engine.probe import Outcome, run
from policy_engine.probe.catalogue import NAMES
from tests.probe.conftest import listening
from tests.probe.real import FAILING, FORBIDDEN, MODELS, guarded, real, target
from tests.probe.test_holes import SLOW, told
from tests.probe.upstream import Upstream


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Offer the middleware before an upstream that reads as the usual servers do."""
    upstream = Upstream(MODELS, default=FORBIDDEN, failing=FAILING, lenient=False)
    with real(tmp_path_factory.mktemp("real"), upstream) as found:
        yield found


MISTAKES: Any = [
    ({"exempt": ["/invocations"]}, {"route-invocations", "no-credentials"}),
    pytest.param(
        {"exempt": ["/v1/responses"]},
        {"route-responses", "websocket", "no-credentials"},
        marks=pytest.mark.campaign,
    ),
    ({"resolve": {"open-1": "open-1", "fable-5": "open-1"}}, {"plain", "listing", "listing-one"}),
]
"""Settings that open the middleware, and what must be found then: an exempted route, a name that stands for another."""


@pytest.mark.parametrize(("settings", "holes"), MISTAKES)
def test_a_mistake_in_the_settings_is_found(gateway: Any, settings: Any, holes: set[str]) -> None:
    """The real thing with one wrong setting has just the hole that comes of it."""
    served, given = gateway
    with listening(guarded(served.engine, served.upstream, **settings)) as port:
        report = run(target({**given, "url": f"http://127.0.0.1:{port}"}, skip=SLOW))
    assert set(told(report, Outcome.HOLE)) == holes and told(report, Outcome.UNCLEAR) == {}


def test_the_middleware_has_no_hole(gateway: Any) -> None:
    """Every check of the suite is carried out and passes, and no forbidden model was ever reached."""
    served, given = gateway
    served.upstream.reached.clear()
    report = run(target(given))  # it withdraws the model that the caller may use, so it comes last
    assert told(report, Outcome.HOLE, Outcome.UNCLEAR, Outcome.UNPROBED, Outcome.SKIPPED) == {}
    assert report.complete and {result.check for result in report.results} == set(NAMES)
    assert {model for _, _, model in served.upstream.reached} & {FORBIDDEN, "mythos-5"} == set()
    measured = {result.check: result.measured_milliseconds for result in report.results}
    assert measured["stream-cut"] is not None and measured["stream-cut"] < 1_000
