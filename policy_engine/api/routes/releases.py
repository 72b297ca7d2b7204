"""`/v1/releases`: releases as stored, published by two persons, activated by two.

A release that does not load is a 422 whose `where` names file and line; nothing of it is kept.
Left to others: what a release is (`rules`), what publishing means (`services.publish`).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from policy_engine.api.access import CHANGING, READING, READING_ONE, Caller, Costly, OpenEngine, route_options
from policy_engine.api.documents import Done, Id, Shown, Strict, Words, done, plain
from policy_engine.services.proposals import Proposal

router = APIRouter(prefix="/v1/releases", tags=["releases"])


class ReleaseFiles(Strict):
    """The files of a release as text, by their path in the policies folder (`model.conf`, `packs/sample.toml`, …)."""

    files: Annotated[dict[Id, str], Field(min_length=1)]
    note: Words = ""


class Note(Strict):
    """Why; kept with the proposal."""

    note: Words = ""


class ReleaseShown(Shown):
    """A release: hash, `stored` or `published`, whether it decides now, and its files with their SHA-256."""

    hash: str
    status: str
    active: bool
    files: list[list[str]]
    note: str
    stored_at: str
    published_by: str | None = None
    approved_by: str | None = None


class ReleasesShown(Shown):
    """Releases, oldest first."""

    releases: list[ReleaseShown]


@router.get("", **route_options(problems=READING))
def list_releases(engine: OpenEngine, principal: Caller) -> ReleasesShown:
    """List every stored release and say which one is active."""
    found = engine.publish.list(principal)
    return ReleasesShown(releases=[ReleaseShown(**plain(release)) for release in found])


@router.get("/{hash}", **route_options(problems=READING_ONE))
def show_release(engine: OpenEngine, principal: Caller, hash: Id) -> ReleaseShown:
    """Show one release."""
    return ReleaseShown(**plain(engine.publish.show(principal, hash)))


@router.post("", status_code=202, **route_options("policy:write", problems=CHANGING))
def publish_release(engine: OpenEngine, principal: Caller, few: Costly, body: ReleaseFiles, response: Response) -> Done:
    """Store a release that loads, and propose to publish it."""
    files = {path: text.encode() for path, text in body.files.items()}
    with few:
        return _waiting(engine.publish.publish(principal, files, body.note), response)


@router.post("/{hash}/activate", status_code=202, **route_options("policy:write", problems=CHANGING))
def activate_release(engine: OpenEngine, principal: Caller, hash: Id, body: Note, response: Response) -> Done:
    """Propose to make a published release the active one."""
    return _waiting(engine.publish.activate(principal, hash, body.note), response)


def _waiting(proposal: Proposal, response: Response) -> Done:
    response.headers["Location"] = f"/v1/approvals/{proposal.id}"
    return done(str(proposal.payload["hash"]), None, proposal.id, proposal.hash)
