"""The stream of revocations over real connections to a real server."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from policy_engine.api.server import SHUTDOWN_SECONDS
from policy_engine.core.decision import PrincipalKind
from tests.api.served import Served, serving
from tests.api.streams import reading


def engage(served: Served, id: str, scope: Any) -> None:
    """Engage a switch over HTTP."""
    answer = served.post("/v1/switches", {"id": id, "scope": scope, "reason": "why"}, key="operator")
    assert answer.status_code == 201, answer.text


def epoch(served: Served) -> int:
    """Return the epoch."""
    return int(served.engine.store.state().epoch)


def test_a_change_is_told_while_it_happens(served: Served) -> None:
    """The stream begins with where it stands; a switch is on it, under the new epoch, within a second."""
    with reading(served.port, served.keys["gateway"]) as reader:
        before = epoch(served)
        assert reader.next() == ("standing", {"epoch": before, "heartbeat_ms": 1000})
        assert reader.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert reader.response.getheader("cache-control") == "no-store"
        engage(served, "told", {"models": ["mythos-5"], "tenants": ["acme"]})
        committed = time.monotonic()
        name, data = reader.next()
        assert time.monotonic() - committed < 1.0
        assert (name, data["epoch"], data["kind"], data["id"]) == ("changed", before + 1, "switch.engaged", "told")
        assert data["scope"] == {"models": ["mythos-5"], "tenants": ["acme"]}
        assert data["voids"] == {"models": ["mythos-5"]}
        assert reader.parser.last_id == str(before + 1)
        assert reader.parser.retry_ms is not None and 1_000 <= reader.parser.retry_ms <= 3_000


def test_who_comes_back_is_told_what_it_missed(served: Served) -> None:
    """After a loss, `Last-Event-ID` brings every epoch after it, once, in order, from the log."""
    before = epoch(served)
    for number in range(3):
        engage(served, f"missed-{number}", {"models": ["summit-4"]})
    with reading(served.port, served.keys["gateway"], last=before) as reader:
        assert reader.next() == ("standing", {"epoch": before, "heartbeat_ms": 1000})
        told = [reader.next()[1] for _ in range(3)]
    assert [(each["epoch"], each["id"]) for each in told] == [(before + n + 1, f"missed-{n}") for n in range(3)]


def test_an_epoch_that_is_not_there_voids_everything(served: Served) -> None:
    """Who has heard of a later epoch than the database knows is told so: it was restored from an older copy."""
    with reading(served.port, served.keys["gateway"], last=10**9) as reader:
        assert reader.next() == ("void", {"epoch": epoch(served), "reason": "rolled-back"})


@pytest.mark.parametrize("last", ["-1", "one", "1" * 19, "1 2"])
def test_an_id_that_is_no_epoch_is_refused(served: Served, last: str) -> None:
    """It is not taken for none."""
    answer = served.get("/v1/revocations", key="gateway", headers={"Last-Event-ID": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "input.not-valid")


def test_the_stream_of_a_revoked_key_ends(served: Served) -> None:
    """It says so and ends; coming back is refused like any other use of the key."""
    secret = served.grant("decide", PrincipalKind.SERVICE)
    own = served.engine.keys.authenticate(secret, served.engine.store.now())
    with reading(served.port, secret) as reader:
        assert reader.next()[0] == "standing"
        operator = served.engine.keys.authenticate(served.keys["operator"], served.engine.store.now())
        served.engine.keys.revoke(operator, own.key_id, "lost")
        assert reader.until_end() == [("ended", {})]
    assert served.get("/v1/revocations", key=secret).status_code == 401


def test_the_server_stops_while_a_stream_is_open(tmp_path: Path) -> None:
    """Open streams end at once when the server is told to stop: nobody waits for them."""
    with serving(tmp_path) as own, reading(own.port, own.keys["gateway"]) as reader:
        assert reader.next()[0] == "standing"
        stopped = time.monotonic()
        own.server.should_exit = True  # as a signal does
        assert reader.until_end() == []
        assert time.monotonic() - stopped < SHUTDOWN_SECONDS / 2
