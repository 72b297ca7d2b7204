"""Filling an empty database, once, in one `genesis` entry.

Rules of the room: the folder's release becomes the active one; its `world/`, if there is one, comes with it, marked
`sample`, with fresh keys for its principals. Nobody approves it: law 11 starts after it.
Left to others: whether a database is empty and may be filled (`bootstrap`), what a world holds (`world`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from policy_engine.rules.folder import read_folder, readable
from policy_engine.services.keys import KeyRequest, Keys
from policy_engine.services.publish import Publish
from policy_engine.services.snapshot import Snapshots
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Change, Store, Write
from policy_engine.world import load_world

WORLD_FOLDER = "world"

Genesis = tuple[Mapping[str, bytes], tuple[Write, ...]]
"""Release files and register rows to fill an empty database with, instead of the folder's."""


@dataclass(frozen=True, slots=True)
class SampleKey:
    """A key made for a sample principal; the secret is shown once."""

    label: str
    principal: str
    secret: str


def has_world(settings: Settings) -> bool:
    """Return whether the policies folder holds a sample world. Raises `LoadRefused` where nobody may look."""
    with readable(settings.policies):
        return (settings.policies / WORLD_FOLDER).is_dir()


class Fillable(Protocol):
    """The part of an engine over an empty database that filling it needs."""

    @property
    def settings(self) -> Settings:
        """The settings, which name the folder."""
        ...

    @property
    def store(self) -> Store:
        """The empty store."""
        ...

    @property
    def keys(self) -> Keys:
        """The register of keys."""
        ...

    @property
    def publish(self) -> Publish:
        """The register of releases."""
        ...

    @property
    def snapshots(self) -> Snapshots:
        """What decides, and takes the first state in."""
        ...


def fill(engine: Fillable, genesis: Genesis | None) -> tuple[SampleKey, ...]:
    """Fill an empty database in one entry, with `genesis` or from the folder; return the keys that were made."""
    writes: list[Write] = []
    keys: tuple[SampleKey, ...] = ()
    sample = False
    if genesis is not None:
        files, given = genesis
        writes += given
    else:
        files = read_folder(engine.settings.policies)
        sample = has_world(engine.settings)
        if sample:
            rows, keys = _world(engine)
            writes += rows
    first = engine.publish.genesis_release(files)
    engine.store.change(
        Change(
            kind="genesis",
            public={},
            writes=(*first.writes, *writes),
            raises_epoch=True,
            activate=first.hash,
            blobs=first.blobs,
            mark_sample=sample,
        )
    )
    engine.snapshots.refresh()
    return keys


def _world(engine: Fillable) -> tuple[list[Write], tuple[SampleKey, ...]]:
    """Return the rows of the folder's world, and the keys that were made for its principals."""
    world = load_world(engine.settings.policies / WORLD_FOLDER, engine.store.now())
    writes = [Write("persons", id, document, 0) for id, document in world.persons.items()]
    writes += [Write("tenants", id, document, 0) for id, document in world.tenants.items()]
    requests = {
        f"sample-{key.id}": KeyRequest(key.id, key.kind, key.scopes, key.tenants, key.supplies) for key in world.keys
    }
    rows, issued = engine.keys.genesis(requests)
    made = zip(world.keys, issued, strict=True)
    return [*writes, *rows], tuple(SampleKey(key.label, key.id, found.secret or "") for key, found in made)
