"""Sample evaluations and engines for tests of the recorder and of evidence: a store, a recorder, a vault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from policy_engine.core.decision import Evaluation, Outcome, Principal, PrincipalKind, Reason, Request
from policy_engine.core.facts import Location
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.evidence import Evidence
from policy_engine.services.keyfile import FileVault
from policy_engine.services.record import Recorder
from policy_engine.store.interfaces import Change, State, Write
from policy_engine.store.migrate import copy_template
from policy_engine.store.sqlite import SqliteStore

VAULT = FileVault(b"m" * 32, b"i" * 32, b"t" * 32)
PEP = Principal("gateway", PrincipalKind.SERVICE, frozenset({"decide"}), key_id="key-pep")
AUDITOR = Principal("anna", PrincipalKind.PERSON, frozenset({"audit:read"}), key_id="key-anna")
UNSEALER = Principal("uma", PrincipalKind.PERSON, frozenset({"audit:read", "audit:unseal"}), key_id="key-uma")
BOUNDED = replace(AUDITOR, id="bo", key_id="key-bo", tenants=frozenset({"acme"}), scopes=UNSEALER.scopes)

ENDLESS = 2**62


def key_document(principal: Principal, hash: str) -> dict[str, Any]:
    """Return the register document of a principal's key."""
    return {
        "hash": hash,
        "prefix": "pe_",
        "principal": {"id": principal.id, "kind": principal.kind.value},
        "scopes": sorted(principal.scopes),
        "tenants": None if principal.tenants is None else sorted(principal.tenants),
        "supplies": [],
        "created_at": "2026-01-01T00:00:00Z",
        "expires_at": None,
        "revoked_at": None,
    }


@dataclass
class Desk:
    """A database with everything that writes and reads evidence."""

    store: SqliteStore
    recorder: Recorder
    evidence: Evidence

    @property
    def state(self) -> State:
        """The state now."""
        return self.store.state()

    def evaluation(self, subject: str = "alice", allowed: bool = True, **more: Any) -> Evaluation:
        """Return an evaluation under the state now."""
        return evaluation(self.state, self.store.now(), subject, allowed, **more)

    def decide(self, *evaluations: Evaluation) -> list[Any]:
        """Write decisions and return the results."""
        state = self.state
        drafts = [self.recorder.decision(one, PEP, state.facts_revision) for one in evaluations]
        return self.recorder.write(drafts, state)

    def close(self) -> None:
        """Close recorder and store."""
        self.recorder.close()
        self.store.close()


def open_desk(path: Path, clock: Callable[[], int] | None = None, limits: Limits = LIMITS, new: bool = True) -> Desk:
    """Open a database, laying genesis in a new one."""
    if new:
        copy_template(path)
    store = SqliteStore(path, VAULT, clock=clock, limits=limits)
    if new:
        keys = [
            Write("keys", who.key_id or "", key_document(who, f"h-{who.id}"), 0) for who in (AUDITOR, UNSEALER, BOUNDED)
        ]
        people = [Write("persons", id, {"facts": {}}, 0) for id in ("alice", "bob")]
        release = Write("releases", "sha256:aa", {"hash": "sha256:aa"}, 0)
        store.change(Change("genesis", {"by": "local"}, (release, *people, *keys), True, activate="sha256:aa"))
    recorder = Recorder(store, VAULT, limits)
    return Desk(store, recorder, Evidence(store, recorder, VAULT, limits))


def evaluation(state: State, at: int, subject: str = "alice", allowed: bool = True, **more: Any) -> Evaluation:
    """Return a complete evaluation, as the decider would hand it over."""
    request = more.pop("request", None) or Request(subject, "infer", "fable-latest", "acme", Location("GB"))
    whole: dict[str, Any] = {
        "request": request,
        "outcome": Outcome.ALLOW if allowed else Outcome.DENY,
        "reasons": (Reason("allowed", "allow") if allowed else Reason("nationality.restricted", "P7"),),
        "missing": (),
        "alternatives": (),
        "release": state.release or "",
        "epoch": state.epoch,
        "at": at,
        "until": ENDLESS,
        "model": "fable-5",
        "tier": 4,
        "tenant_sealed": False,
        "values": (at, "infer", frozenset({"GB"})),
        "matched": ("allow-frontier",),
        "lifted": (),
        "licences": (),
        "revisions": (("persons", subject, 1),) if subject in ("alice", "bob") else (),
        "facets": {"location": frozenset({"GB"}), "counted": frozenset({"GB"}), "us_person": "no", "evidence": "valid"},
    }
    return Evaluation(**{**whole, **more})
