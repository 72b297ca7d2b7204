"""Attacks on the second person, through both doors: over HTTP and on the command line, each test is one and names it.

All are refused with one clear sentence, the switch stays engaged, and nothing is written but that a proposal failed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import PrincipalKind
from policy_engine.core.instants import SECOND
from policy_engine.services.keys import KeyRequest
from policy_engine.services.proposals import Proposal
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from tests.conftest import POLICIES, SampleDatabase
from tests.matrix.doorways import CONFLICT, REFUSED, Attempt, on_the_command_line, over_http, trace
from tests.services.governed import Clock

APPROVE = ("approve", "audit:read")


@dataclass
class Attacked:
    """An engine with a switch engaged and a waiting proposal to release it, and one door to it."""

    engine: Engine
    clock: Clock
    keys: dict[str, str]
    door: Callable[[str | None, Attempt], tuple[str, str]]
    proposal: Any = None
    made: dict[str, Any] = field(default_factory=dict)

    def principal(self, name: str) -> Any:
        """Return a sample principal."""
        return self.engine.keys.authenticate(self.keys[name], self.engine.store.now())

    def release(self) -> Proposal:
        """Propose to release the switch, as the operator."""
        return self.engine.switches.release(self.principal("operator"), "s", "over")

    def key(self, name: str, **more: Any) -> str:
        """Make a key of a person who may approve, and return its secret."""
        issued = self.engine.keys.create(
            self.principal("operator"), KeyRequest(name, PrincipalKind.PERSON, APPROVE, **more)
        )
        self.engine.approvals.approve(self.principal("approver"), issued.proposal)
        self.made[name] = issued
        return str(issued.secret)

    def approve(self, secret: str | None, proposal: Proposal, hash: str | None = None) -> tuple[str, str]:
        """Approve a proposal through the door; return its sign and its sentence."""
        content = proposal.hash if hash is None else hash
        http = (f"/v1/approvals/{proposal.id}/approve", {"hash": content})
        return self.door(secret, Attempt(http, ("approvals", "approve", proposal.id, "--hash", content)))

    def refused(self, secret: str | None, sentence: str, sign: str = REFUSED) -> None:
        """Approving is refused with a sentence that says this, and nothing at all was written."""
        before = trace(self.engine)
        found, said = self.approve(secret, self.proposal)
        assert (found, trace(self.engine)) == (sign, before), said
        assert re.search(sentence, said) and re.fullmatch(r"[^\n]{10,300}", said), said
        self.still_engaged()

    def still_engaged(self, status: str = "waiting") -> None:
        """The switch denies, and the proposal stands as it is said to stand."""
        assert self.engine.switches.show(self.principal("auditor"), "s").engaged(self.clock())
        assert self.engine.approvals.show(self.principal("approver"), self.proposal.id).status == status


@pytest.fixture(params=["http", "command line"])
def attacked(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    sample_database: SampleDatabase,
    compiled: ReleaseLoader,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Attacked]:
    """Offer a database of the sample world with a switch that the auditor's colleague engaged, behind one door."""
    place = tmp_path / "engine.db"
    copy_template(sample_database.place, place)
    settings = Settings(database=f"sqlite:///{place}", policies=POLICIES)
    live = open_engine(settings, releases=compiled)
    clock = Clock(live.store.now() + SECOND)
    live.close()
    engine = open_engine(settings, clock=clock, releases=compiled)

    def door(secret: str | None, attempt: Attempt) -> tuple[str, str]:
        if request.param == "http":
            return over_http(engine, secret, "nobody", {})(attempt)
        with monkeypatch.context() as patch:
            return on_the_command_line(engine, secret, "nobody", {}, tmp_path, patch)(attempt)

    scene = Attacked(engine, clock, dict(sample_database.keys), door)
    third = scene.key("third", expires_at=None)
    scene.keys["third"] = third
    engager = engine.keys.create(
        scene.principal("operator"), KeyRequest("engager", PrincipalKind.PERSON, ("switch:engage",))
    )
    engine.approvals.approve(scene.principal("approver"), engager.proposal)
    who = engine.keys.authenticate(engager.secret or "", engine.store.now())
    engine.switches.engage(who, "s", {"models": "all"}, "attack")
    scene.proposal = scene.release()
    yield scene
    engine.close()


def test_self_approval(attacked: Attacked) -> None:
    """The proposer cannot approve with the key that proposed."""
    attacked.refused(attacked.keys["operator"], "another person must")


def test_second_key_of_the_same_person(attacked: Attacked) -> None:
    """Another key of the proposer is still the proposer."""
    attacked.refused(attacked.key("operator"), "another person must")


def test_service_key(attacked: Attacked) -> None:
    """A service's key approves nothing."""
    attacked.refused(attacked.keys["enforcement point"], "this needs")


def test_no_key(attacked: Attacked) -> None:
    """A stranger, or a shell without a key, approves nothing."""
    attacked.refused(None, "POLICY_ENGINE_KEY|send the header")


def test_key_without_the_scope(attacked: Attacked) -> None:
    """A person whose key may not approve does not."""
    attacked.refused(attacked.keys["auditor"], "this needs .*approve")


def test_expired_approver(attacked: Attacked) -> None:
    """A key that has expired approves nothing; a microsecond before, it would have."""
    secret = attacked.key("brief", expires_at=attacked.clock.at + SECOND)
    attacked.clock.at += SECOND
    attacked.refused(secret, "the key has expired")
    attacked.clock.at -= 1
    assert attacked.approve(secret, attacked.proposal)[0] == "✓"


def test_revoked_approver(attacked: Attacked) -> None:
    """A key that was revoked approves nothing."""
    secret = attacked.key("left")
    attacked.engine.keys.revoke(attacked.principal("operator"), attacked.made["left"].id, "left")
    attacked.refused(secret, "the key is revoked")


def test_approver_of_another_tenant(attacked: Attacked) -> None:
    """A key that is bounded to tenants does not approve what reaches everybody."""
    attacked.refused(attacked.key("elsewhere", tenants=("acme-de",)), "beyond the tenants")


def test_who_engaged_approves_the_release(attacked: Attacked) -> None:
    """Who engaged a switch does not approve its release, with a key that may approve either."""
    attacked.refused(attacked.key("engager"), "a third person must")


def test_another_content(attacked: Attacked) -> None:
    """The content hash that is approved must be the proposal's."""
    before = trace(attacked.engine)
    sign, said = attacked.approve(attacked.keys["third"], attacked.proposal, "0" * 64)
    assert (sign, trace(attacked.engine)) == (CONFLICT, before)
    assert "content hash" in said
    attacked.still_engaged()


def test_replayed_approval(attacked: Attacked) -> None:
    """What was approved once does nothing again, after the switch was engaged anew."""
    assert attacked.approve(attacked.keys["third"], attacked.proposal)[0] == "✓"
    attacked.engine.switches.engage(attacked.principal("operator"), "s", {"models": "all"}, "again")
    before = trace(attacked.engine)
    for name in ("third", "approver"):
        sign, said = attacked.approve(attacked.keys[name], attacked.proposal)
        assert (sign, trace(attacked.engine)) == (CONFLICT, before)
        assert "approved already" in said
    attacked.still_engaged("approved")


def test_approval_after_the_state_moved(attacked: Attacked) -> None:
    """A switch released and engaged anew is another one: the older proposal fails, for good."""
    later = attacked.release()
    assert attacked.approve(attacked.keys["third"], later)[0] == "✓"
    attacked.engine.switches.engage(attacked.principal("operator"), "s", {"models": "all"}, "again")
    epoch = attacked.engine.store.state().epoch
    sign, said = attacked.approve(attacked.keys["approver"], attacked.proposal)
    assert (sign, attacked.engine.store.state().epoch) == (CONFLICT, epoch)
    assert "has changed" in said
    attacked.still_engaged("failed")
    assert "failed already" in attacked.approve(attacked.keys["third"], attacked.proposal)[1]
