"""Releases: stored when they load, published by two persons, activated by two.

Rules of the room:
- Files that `load_release` does not accept are refused with file, line and a fix, and nothing changes: the last good
  release keeps serving.
- Proposing to publish stores the content, which has no effect by being there; only a published release may be
  activated, and an activation that finds another release active than the one it was proposed under fails.
- No activation takes a model from a switch or directive that stands (`reach`), also one that comes meanwhile.
- The first release of an empty database is part of its genesis.
Left to others: what a release is (`rules`), compiled releases in memory (`releases`), when to change over (`decide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.decision import Principal
from policy_engine.core.instants import format_instant, parse_instant
from policy_engine.core.plain import AnyRelease
from policy_engine.errors import Conflict, LoadRefused, NotFound, TooLarge
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.release import digests_of
from policy_engine.services.approvals import Approvals, Effect
from policy_engine.services.permissions import Caller, acting_person, require_unbounded
from policy_engine.services.proposals import Proposal
from policy_engine.services.reach import require_reach
from policy_engine.services.releases import ReleaseLoader, read_files
from policy_engine.store.interfaces import Change, Row, Store, Write

STORED: Final = "stored"
PUBLISHED: Final = "published"


@dataclass(frozen=True, slots=True)
class Published:
    """A release in the register. `active` says whether it decides now; instants in microseconds."""

    hash: str
    status: str
    active: bool
    files: tuple[tuple[str, str], ...]
    note: str
    stored_at: int
    published_by: str | None
    approved_by: str | None


@dataclass(frozen=True, slots=True)
class FirstRelease:
    """The pieces of the genesis change that store, publish and activate the first release."""

    hash: str
    writes: tuple[Write, ...]
    blobs: Mapping[str, bytes]


class Publish:
    """The register of releases."""

    def __init__(self, store: Store, approvals: Approvals, releases: ReleaseLoader, *, limits: Limits = LIMITS) -> None:
        self._store = store
        self._approvals = approvals
        self._releases = releases
        self._limits = limits
        approvals.register("release.publish", self._published)
        approvals.register("release.activate", self._activated)

    def publish(self, principal: Principal, files: Mapping[str, bytes], note: str = "") -> Proposal:
        """Store the content of a release that loads, and propose to publish it.

        Raises `LoadRefused` for one that does not load, `Conflict` for one that is published already.
        """
        caller = acting_person(self._store, principal, "policy:write")
        require_unbounded(caller)
        if len(note) > self._limits.text_characters:
            raise TooLarge(f"is longer than {self._limits.text_characters} characters", where="note")
        release = self._load(files)
        hash = release.hash
        row = self._store.row("releases", hash)
        if row is not None and row.document["status"] == PUBLISHED:
            raise Conflict("this release is published already; activate it")
        if row is None:
            self._store_content(caller, release, note)
            row = self._row(hash)
        return self._approvals.propose(
            caller, "release.publish", {"hash": hash, "note": note}, (("releases", hash, row.revision),), note=note
        )

    def activate(self, principal: Principal, hash: str, note: str = "") -> Proposal:
        """Propose to make a published release the active one.

        Raises `NotFound` for a release that is not stored, `Conflict` for one that is not published, is active, or
        would open what a switch or directive stops.
        """
        caller = acting_person(self._store, principal, "policy:write")
        require_unbounded(caller)
        row = self._row(hash)
        if row.document["status"] != PUBLISHED:
            raise Conflict("this release is stored and not published yet; have its publication approved first")
        if self._store.state().release == hash:
            raise Conflict("this release is active already")
        self._require_reach(hash, caller.at)
        return self._approvals.propose(
            caller, "release.activate", {"hash": hash}, (("releases", hash, row.revision),), note=note
        )

    def list(self, principal: Principal) -> tuple[Published, ...]:
        """Return every stored release, oldest first. Any caller the engine knows may read them."""
        active = self._store.state().release
        found = [_release(row, active) for row in self._store.rows("releases")]
        return tuple(sorted(found, key=lambda release: (release.stored_at, release.hash)))

    def show(self, principal: Principal, hash: str) -> Published:
        """Return one release. Raises `NotFound`."""
        return _release(self._row(hash), self._store.state().release)

    def files(self, principal: Principal, hash: str) -> dict[str, bytes]:
        """Return the files of a stored release. Raises `NotFound`, and `LoadRefused` when content is missing."""
        self._row(hash)
        return read_files(self._store, hash)

    def genesis_release(self, files: Mapping[str, bytes], note: str = "") -> FirstRelease:
        """Return what a genesis change needs to store, publish and activate a release (`activate=` its hash)."""
        release = self._load(files)
        document = {**_document(release, note, self._store.now()), "status": PUBLISHED}
        return FirstRelease(release.hash, (Write("releases", release.hash, document, expect=0),), _blobs(release))

    def _load(self, files: Mapping[str, bytes]) -> AnyRelease:
        if sum(len(content) for content in files.values()) > self._limits.release_bytes:
            raise LoadRefused(f"the release is larger than {self._limits.release_bytes} bytes; split its tables")
        return self._releases.load(files)

    def _store_content(self, caller: Caller, release: AnyRelease, note: str) -> None:
        """Store a release without effect. Storing the same content twice is no conflict: it is the same release."""
        hash = release.hash
        change = Change(
            kind="release.stored",
            public={"by": caller.key_id, "stored": hash},
            writes=(Write("releases", hash, _document(release, note, caller.at), expect=0),),
            raises_epoch=False,
            expects=(caller.basis,),
            blobs=_blobs(release),
        )
        try:
            self._store.change(change)
        except Conflict:
            if self._store.row("releases", hash) is None:
                raise

    def _row(self, hash: str) -> Row:
        row = self._store.row("releases", hash)
        if row is None:
            raise NotFound("no release with this hash is stored; publish it first")
        return row

    def _published(self, proposal: Proposal, approver: Caller) -> Effect:
        hash = proposal.payload["hash"]
        row = self._row(hash)
        document = {
            **row.document,
            "status": PUBLISHED,
            "note": proposal.payload["note"],
            "published_by": proposal.proposed_by,
            "approved_by": approver.person,
        }
        return Effect("release.published", {"published": hash}, (Write("releases", hash, document, row.revision),))

    def _activated(self, proposal: Proposal, approver: Caller) -> Effect:
        hash = proposal.payload["hash"]
        epoch = self._store.state().epoch  # an order that comes behind it is looked at in the next attempt
        self._require_reach(hash, approver.at)
        return Effect("release.activated", {}, (), activate=hash, expect_epoch=epoch)

    def _require_reach(self, hash: str, at: int) -> None:
        """Refuse a release that does not load, or under which an order that stands would stop less."""
        release = self._releases.stored(self._store, hash)
        active = self._store.state().release
        if active is None:
            return
        try:
            old = self._releases.stored(self._store, active)
        except LoadRefused:
            return  # nothing is decided under a release that does not load, and another must be able to follow it
        require_reach(self._store, old, release, at)


def _document(release: AnyRelease, note: str, at: int) -> dict[str, Any]:
    return {
        "hash": release.hash,
        "status": STORED,
        "files": [[path, digest] for path, digest in sorted(digests_of(release).items())],
        "note": note,
        "stored_at": format_instant(at),
        "published_by": None,
        "approved_by": None,
    }


def _blobs(release: AnyRelease) -> dict[str, bytes]:
    return {digest: release.files[path] for path, digest in digests_of(release).items()}


def _release(row: Row, active: str | None) -> Published:
    document = row.document
    return Published(
        hash=row.id,
        status=document["status"],
        active=row.id == active,
        files=tuple((path, digest) for path, digest in document["files"]),
        note=document["note"],
        stored_at=parse_instant(document["stored_at"]),
        published_by=document["published_by"],
        approved_by=document["approved_by"],
    )
