"""Compiled releases in memory: what a publication and an activation read and compile, here and in another process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policy_engine.core.release import Release
from policy_engine.errors import LoadRefused
from policy_engine.rules import packs
from policy_engine.services.releases import ReleaseLoader, read_files
from policy_engine.services.snapshot import Snapshots
from policy_engine.store.interfaces import Change
from tests.rules.plainfolders import folder
from tests.rules.sample import changed, files, rule
from tests.services.governed import House, open_house

NEW = rule()
"""The sample with one more pack of one rule."""


class Reading:
    """Which packs were parsed, and how many contents were read from the store."""

    def __init__(self) -> None:
        self.packs: list[str] = []
        self.contents = 0


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Reading:
    """Watch what is parsed."""
    seen = Reading()
    real = packs.read_toml

    def read(path: str, content: bytes, most: int) -> Any:
        seen.packs.append(path)
        return real(path, content, most)

    monkeypatch.setattr(packs, "read_toml", read)
    return seen


@pytest.fixture
def loader() -> ReleaseLoader:
    """Offer the loader of one process."""
    return ReleaseLoader()


@pytest.fixture
def house(tmp_path: Path, loader: ReleaseLoader) -> Iterator[House]:
    """Offer the services on a database whose genesis activated the sample release."""
    house = open_house(tmp_path, release=False, releases=loader)
    first = house.publish.genesis_release(files())
    house.store.change(Change("genesis", {}, first.writes, raises_epoch=True, activate=first.hash, blobs=first.blobs))
    yield house
    house.close()


def activated(house: House, wanted: dict[str, bytes]) -> str:
    """Publish and activate a release, each approved by a second person; return its hash."""
    published = house.publish.publish(house["olga"], wanted)
    house.approvals.approve(house["paul"], published.id)
    hash: str = published.payload["hash"]
    house.approvals.approve(house["paul"], house.publish.activate(house["olga"], hash).id)
    return hash


def test_publishing_and_activating_read_the_changed_pack_once(
    house: House, loader: ReleaseLoader, reading: Reading
) -> None:
    """From the proposal to the snapshot that decides, the new pack is parsed once and no other at all."""
    snapshots = Snapshots(house.store, loader)
    before = snapshots.refresh().release
    hash = activated(house, NEW)
    after = snapshots.refresh().release
    assert reading.packs == ["packs/extra.toml"]
    assert isinstance(before, Release) and isinstance(after, Release) and after.hash == hash
    assert after.reference is before.reference
    assert len(after.rules) == len(before.rules) + 1


def test_another_process_reads_what_it_does_not_hold(
    house: House, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that decides under the release before takes one content from the store and parses one pack."""
    snapshots = Snapshots(house.store, ReleaseLoader())
    snapshots.refresh()
    hash = activated(house, NEW)
    reading.packs.clear()
    real = type(house.store).blob

    def blob(store: Any, digest: str) -> bytes | None:
        reading.contents += 1
        return real(store, digest)

    monkeypatch.setattr(type(house.store), "blob", blob)
    found = snapshots.refresh().release
    assert (reading.packs, reading.contents) == (["packs/extra.toml"], 1)
    assert found is not None and found.hash == hash and found.files == NEW


def test_known_content_is_taken_by_its_hash_alone(house: House) -> None:
    """Content that is held under another hash is not taken for a file: it is read from the store."""
    hash = house.store.state().release
    assert hash is not None
    assert read_files(house.store, hash, {"0" * 64: b"anything"}) == files()


def test_a_catalogue_shares_the_rules_that_it_was_loaded_with(loader: ReleaseLoader, reading: Reading) -> None:
    """Among several sets of rules, another catalogue reads no pack, and has the warnings of its own catalogue."""
    first = loader.load(files())
    loader.load(NEW)
    reading.packs.clear()
    other = loader.load(changed("models.toml", 'status = "available"', ""))
    assert reading.packs == []
    assert isinstance(first, Release) and isinstance(other, Release)
    assert other.index is first.index
    assert set(other.warnings) - set(first.warnings) == {
        f"models.toml: `{next(iter(first.catalogue.models))}` has no status and is denied"
    }


def test_each_kind_of_release_follows_the_other(loader: ReleaseLoader) -> None:
    """A plain folder between two releases of packs, and a refused one, leave the next as it is by itself."""
    first = loader.load(files())
    plain = loader.load(folder())
    with pytest.raises(LoadRefused):
        loader.load(rule(effect='"Deny"'))
    again = loader.load(files())
    assert (again.hash, again.rules) == (first.hash, first.rules)
    assert loader.load(folder()).hash == plain.hash != first.hash
