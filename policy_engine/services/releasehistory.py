"""The history of the policy: each release stored, published and activated, by whom, approved by whom, in force when.

Rules of the room: all of it is read from the log; persons are those of the proposals that the changes carry. What a
release decided while it was active is counted from the entries themselves. The engine records no results of tests of
a release: `note` is where its author may say so.
Left to others: the walk, who may ask (`services.asof`), the content of a release (`services.publish`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Outcome
from policy_engine.services.past import is_decision
from policy_engine.services.walk import Changed, Walk
from policy_engine.store.interfaces import StoredEntry

STORED: Final = "stored"
PUBLISHED: Final = "published"
ACTIVATED: Final = "activated"


@dataclass(slots=True)
class ReleaseChange:
    """One step of a release. `until` is when another became active (`None`: it is active still, or never was).

    `allows_count` and `denies_count` are decisions recorded while it was active.
    """

    entry: str
    at: int
    change: str
    release: str
    author: str | None
    approver: str | None
    note: str
    until: int | None = None
    allows_count: int = 0
    denies_count: int = 0


def release_history(walk: Walk) -> list[ReleaseChange]:
    """Return every step of every release, in the order in which they happened."""
    found: list[ReleaseChange] = []
    active: ReleaseChange | None = None

    def count(entry: StoredEntry) -> bool:
        """Count a decision under the release that is active; none of them is opened."""
        if active is not None and is_decision(entry):
            if _ALLOWED in entry.public:
                active.allows_count += 1
            else:
                active.denies_count += 1
        return False

    for step in walk.whole(lambda public: False, may=count):
        if not isinstance(step, Changed):
            continue
        for change, release in _changes(step.public):
            made = _made(walk, step, change, release)
            found.append(made)
            if change == ACTIVATED:
                if active is not None:
                    active.until = made.at
                active = made
    return found


_ALLOWED: Final = f'"outcome":"{Outcome.ALLOW}"'.encode()


def _changes(public: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a change does to releases: the kind of step and the release, none for any other change."""
    steps = ((STORED, public.get("stored")), (PUBLISHED, public.get("published")), (ACTIVATED, public.get("activates")))
    return [(change, str(release)) for change, release in steps if release is not None]


def _made(walk: Walk, step: Changed, change: str, release: str) -> ReleaseChange:
    public = step.public
    row = walk.past.row("releases", release)
    proposal = walk.past.row("approvals", str(public.get("proposal")))
    author, approver, note = None, None, "" if row is None else str(row.document.get("note", ""))
    if proposal is not None:
        author, approver = proposal.document["proposed_by"], proposal.document["decided_by"]
        note = proposal.document["note"]
    elif public.get("by") is not None:
        key = walk.past.row("keys", str(public["by"]))
        author = None if key is None else key.document["principal"]["id"]
    return ReleaseChange(walk.name(step), public["at"], change, release, author, approver, note)
