"""A running service on the sample release and world: a real server on loopback in front of a real engine.

Tests of the door and attacks on it share it; what they change (a switch, a fact) they change under ids of their own.
"""

from __future__ import annotations

import io
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from policy_engine import logs
from policy_engine.api.server import server
from policy_engine.bootstrap import open_engine
from policy_engine.core.decision import PrincipalKind
from policy_engine.services.keys import KeyRequest
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings

POLICIES = Path(__file__).resolve().parents[2] / "policies"
NAMES = {"enforcement point": "gateway"}
_RELEASES = ReleaseLoader()
"""Of the few folders that are served over and over."""


def request(subject: str, tenant: str, location: Any, model: str, action: str = "infer") -> dict[str, Any]:
    """Return an AuthZEN body of the sample world."""
    return {
        "subject": {"type": "person", "id": subject},
        "action": {"name": action},
        "resource": {"type": "model", "id": model},
        "context": {"tenant": tenant, "location": location, "serving_region": "US"},
    }


ALICE = request("alice", "acme", "US", "fable-5")
EVE = request("eve", "acme", "US", "fable-5")


@dataclass
class Served:
    """A service: its engine, where it answers, and the keys of its sample principals by name."""

    engine: Any
    port: int
    client: httpx2.Client
    keys: dict[str, str] = field(default_factory=dict, repr=False)
    server: Any = None

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the enforcement point."""
        return {"Authorization": f"Bearer {self.keys['gateway']}"}

    def post(
        self, path: str, body: Any, *, key: str | None = "gateway", headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """Send a body as one of the principals (`None`: as nobody)."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            own["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        return self.client.post(path, content=content, headers=own)

    def get(self, path: str, *, key: str | None = None, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """Ask for a path as one of the principals (`None`: as nobody)."""
        own = dict(headers or {})
        if key is not None:
            own["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        return self.client.get(path, headers=own)

    def decide(self, body: Any) -> Any:
        """Return the answer to one evaluation."""
        answer = self.post("/access/v1/evaluation", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def entries(self) -> int:
        """Return how many entries the log holds."""
        head = self.engine.store.head()
        return 0 if head is None else int(head.next_seq)

    def grant(self, scope: str, kind: PrincipalKind = PrincipalKind.PERSON) -> str:
        """Make a key of a new principal with one scope, approved by a second person; return its secret."""
        name = f"only-{scope.replace(':', '-')}-{secrets.token_hex(3)}"
        issued = self.engine.keys.create(self._principal("operator"), KeyRequest(name, kind, (scope,)))
        self.engine.approvals.approve(self._principal("approver"), issued.proposal)
        return str(issued.secret)

    def _principal(self, name: str) -> Any:
        return self.engine.keys.authenticate(self.keys[name], self.engine.store.now())


@contextmanager
def serving(folder: Path, policies: Path = POLICIES, *, replica: bool = False, **settings: Any) -> Iterator[Served]:
    """Open an engine on a new database with a folder and its world, serve it on a free port, and end both.

    `replica` makes it one of the replicas, as `policy-engine serve` is.
    """
    logs.configure(level="info", stream=io.StringIO())  # the suite keeps each line at its source
    database = f"sqlite:///{folder / 'engine.db'}"
    chosen = Settings(database=database, policies=policies, port=0, **settings)
    engine = open_engine(chosen, serving=replica, releases=_RELEASES)
    running = server(engine, host="127.0.0.1", port=0)
    thread = threading.Thread(target=running.run, name="server")
    thread.start()
    try:
        until = time.monotonic() + 30
        while not running.started:
            assert thread.is_alive() and time.monotonic() < until, "the server did not start"
            time.sleep(0.01)
        running.door.management  # noqa: B018  it loads under warning filters of its own, which are the process's
        port = running.servers[0].sockets[0].getsockname()[1]
        keys = {NAMES.get(key.label, key.label): key.secret for key in engine.sample_keys}
        in_clear: Any = {"base_url": f"http://127.0.0.1:{port}", "verify": False}  # to load authorities takes longest
        with httpx2.Client(**in_clear, timeout=30) as client:
            yield Served(engine, port, client, keys, running)
    finally:
        running.should_exit = True
        thread.join(timeout=30)
        engine.close()
