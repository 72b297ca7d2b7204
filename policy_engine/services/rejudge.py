"""Deciding a recorded decision again, under the registers of its own time, and comparing every member of its entry.

Rules of the room:
- There is one path: `services.decide.judged`, as for a live decision, on registers of then (`services.past`), with the
  release named in the state of then, at the recorded instant, for the principal that the key was then.
- Every input is in the entry or fixed there (law 5). A location or serving region that the caller could not supply was
  recorded as unknown, and one that was filled in as if it had been named, so what is recorded is what was believed.
- Compared is all that an entry says of a decision, public and sealed, in the form in which it is written.
Left to others: reading the log (`services.replay`), suppositions (`services.supposed`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.decision import Evaluation, Principal, Request
from policy_engine.core.facts import Location
from policy_engine.errors import NotAuthenticated, VerificationFailed
from policy_engine.ledger.decisions import decision_public
from policy_engine.services.decide import judged
from policy_engine.services.drafts import public_members, sealed_members, tagged_facets
from policy_engine.services.evaluate import Evaluator
from policy_engine.services.factcache import FactCache
from policy_engine.services.keydocuments import read_key
from policy_engine.services.permissions import DRILL, LOCAL, alive
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.snapshot import Snapshot, Snapshots
from policy_engine.store.interfaces import Row
from policy_engine.store.registerinterfaces import RegisterReader

BELIEVED = frozenset(("location", "serving_region"))
"""Facts of a request that are recorded as they were believed, after the principal had bounded them."""

OUTCOME = ("outcome", "reasons", "missing")
"""The members that say what was answered."""

_OPTIONAL: Mapping[str, Any] = {"asked": None, "flags": ()}
_KEYLESS: Mapping[str, Principal] = {LOCAL.id: LOCAL, DRILL.id: DRILL}
_PLACE = frozenset(("id", "by", "clock_set"))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision entry, opened: its place, its public bytes and members, and its sealed members."""

    log_id: str
    seq: int
    data: bytes
    public: Mapping[str, Any]
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One member of an entry that came out otherwise: what is recorded, and what was found when decided again."""

    member: str
    recorded: Any
    found: Any


class Rejudge:
    """Decides again under registers that may move between two decisions."""

    def __init__(self, registers: RegisterReader, releases: ReleaseLoader, *, hints: bool = False) -> None:
        """`hints` also tries fallback models on a deny, for whoever asks what would still serve."""
        self._registers = registers
        self._snapshots = Snapshots(registers, releases)
        self._evaluator = Evaluator(FactCache(registers), serving_region=None, hints=hints)
        self._callers: dict[str, tuple[int, Principal]] = {}

    def __call__(self, recorded: Recorded) -> Evaluation:
        """Return what the decision is under the registers now. Writes nothing.

        Raises `VerificationFailed` when the log does not say who asked, and `LoadRefused` when the release of then
        cannot be loaded.
        """
        at = int(recorded.public["instant"])
        principal, ended = self._caller(str(recorded.public["by"]), at)
        request = request_of(recorded.body)
        flags = recorded.public.get("flags", ())
        return judged(self._evaluator, request, principal, self.snapshot(), at, alive=not ended, flags=flags)

    def snapshot(self) -> Snapshot:
        """Return the snapshot of the registers now."""
        return self._snapshots.refresh()

    def _caller(self, by: str, at: int) -> tuple[Principal, bool]:
        """Return the principal that a key was, and whether it had ended at an instant."""
        if by in _KEYLESS:
            return _KEYLESS[by], False
        row = self._registers.row("keys", by)
        if row is None:
            raise VerificationFailed("no entry before it made the key that asked")
        try:
            alive(row, at)
            ended = False
        except NotAuthenticated:
            ended = True
        kept = self._callers.get(by)
        if kept is None or kept[0] != row.revision:
            kept = self._callers[by] = (row.revision, _principal(row))
        return kept[1], ended


def _principal(row: Row) -> Principal:
    key = read_key(row)
    tenants = None if key.tenants is None else frozenset(key.tenants)
    return Principal(key.principal, key.kind, frozenset(key.scopes), tenants, BELIEVED.union(key.supplies), key.id)


def request_of(body: Mapping[str, Any]) -> Request:
    """Return the request as it was believed. Raises `VerificationFailed` for a body of another form."""
    try:
        location = body["location"]
        return Request(
            subject_id=body["subject"],
            action=body["action"],
            model=body["model"],
            tenant=body["tenant"],
            location=None if location is None else Location(**location),
            serving_region=body["serving_region"],
            subject_type=body["subject_type"],
            resource_type=body["resource_type"],
            raw=json.loads(body["raw"]) if "raw" in body else {},
        )
    except (KeyError, TypeError, ValueError):
        raise VerificationFailed("the sealed body is not that of a decision") from None


def differences(recorded: Recorded, found: Evaluation) -> tuple[Difference, ...]:
    """Return every member of the entry that would be written otherwise; none when the decision is the same."""
    return (*_public_differences(recorded, found), *_sealed_differences(recorded.body, found))


def _public_differences(recorded: Recorded, found: Evaluation) -> list[Difference]:
    """Compare the bytes as they would be written; only if they differ, member by member."""
    public = recorded.public
    members = public_members(found, public["id"], public["by"], clock_set="clock" in public)
    place = (recorded.log_id, recorded.seq, public["at"], public["commit"], public["sealed"])
    if decision_public(members, *place) == recorded.data:
        return []
    odd: list[Difference] = []
    for name, value in members._asdict().items():
        if name in _PLACE:
            continue
        was, now = public.get(name, _OPTIONAL.get(name)), _as_json(value)
        if _as_json(was) != now:
            odd.append(Difference(name, was, now))
    return odd


def _sealed_differences(body: Mapping[str, Any], found: Evaluation) -> list[Difference]:
    now = json.loads(sealed_members(found, tagged_facets(found.facets), body.get("raw")).encode())
    if now == body:
        return []
    names = sorted(name for name in now.keys() | body.keys() if body.get(name) != now.get(name))
    return [Difference(name, body.get(name), now.get(name)) for name in names]


def _as_json(value: Any) -> Any:
    """Return a member as JSON writes it: tuples as lists, whatever depth."""
    return [_as_json(item) for item in value] if isinstance(value, tuple | list) else value


def summary_of(public: Mapping[str, Any]) -> dict[str, Any]:
    """Return the public members by which a person recognises a decision."""
    names = ("id", "instant", "outcome", "model", "action", "tenant", "reasons", "release", "epoch")
    return {name: public.get(name) for name in names}


def answered_otherwise(found: tuple[Difference, ...]) -> bool:
    """Return whether the answer itself came out otherwise: its outcome, its reasons or the facts to bring."""
    return any(difference.member in OUTCOME for difference in found)
