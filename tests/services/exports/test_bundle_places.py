"""Where a bundle may go: what `--force` replaces and what it leaves, and places that take none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policy_engine.errors import InputRefused
from policy_engine.services import bundleplace
from policy_engine.services.bundle import write_bundle
from policy_engine.services.exports.bundles import measured
from policy_engine.services.exports.service import Form, Target
from tests.services.exports.office import Office
from tests.services.exports.test_bundles import bundle_proposed, integrate, signed

__all__ = ["signed"]


def no_manifest(folder: Path) -> None:
    """Take the manifest away."""
    (folder / "manifest.json").unlink()


def other_manifest(folder: Path) -> None:
    """Let the manifest be that of something else."""
    (folder / "manifest.json").write_text('{"format": "something-else/v1"}')


def no_json(folder: Path) -> None:
    """Let the manifest be none."""
    (folder / "manifest.json").write_text("mine")


def manifest_elsewhere(folder: Path) -> None:
    """Let the manifest be a link to one."""
    (folder / "manifest.json").rename(folder.parent / "elsewhere.json")
    (folder / "manifest.json").symlink_to(folder.parent / "elsewhere.json")


def a_note(folder: Path) -> None:
    """Lay a file of one's own into it."""
    (folder / "notes.txt").write_text("mine")


def a_note_below(folder: Path) -> None:
    """Lay a file of one's own beside the entries."""
    (folder / "entries" / "notes.txt").write_text("mine")


def a_folder(folder: Path) -> None:
    """Make a folder in it, even an empty one."""
    (folder / "mine").mkdir()


def a_link(folder: Path) -> None:
    """Let a member be a link."""
    (folder / "leaves.jsonl").unlink()
    (folder / "leaves.jsonl").symlink_to(folder / "checkpoint")


def held(folder: Path) -> dict[str, bytes | None]:
    """Return everything below a folder, folders without content."""
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "spoil", [no_manifest, other_manifest, no_json, manifest_elsewhere, a_note, a_note_below, a_folder, a_link]
)
def test_force_replaces_a_bundle_and_no_other_folder(signed: Office, tmp_path: Path, spoil: Any) -> None:
    """Whoever names the wrong folder loses nothing: what is no bundle, or holds more than one, stays as it is."""
    place = tmp_path / "b"
    signed.export(place, Form.BUNDLE)
    spoil(place)
    before = held(tmp_path)
    with pytest.raises(InputRefused, match="no bundle"):
        signed.export(place, Form.BUNDLE, force=True)
    with signed.house.store.view() as view, pytest.raises(InputRefused, match="no bundle"):
        write_bundle(view, place, force=True)
    assert held(tmp_path).keys() - before.keys() <= {"office/engine.db-shm", "office/engine.db-wal"}
    assert {name: content for name, content in held(tmp_path).items() if not name.startswith("office")} == {
        name: content for name, content in before.items() if not name.startswith("office")
    }


def test_force_replaces_neither_a_file_nor_a_link_by_a_folder(signed: Office, tmp_path: Path) -> None:
    """A bundle that is a folder takes the place of a folder alone, and not of one that lies elsewhere."""
    signed.export(tmp_path / "b", Form.BUNDLE)
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "file").write_text("mine")
    for name in ("link", "file"):
        with pytest.raises(InputRefused, match="is no folder"):
            signed.export(tmp_path / name, Form.BUNDLE, force=True)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("written_by", ["export", "write_bundle"])
def test_the_old_bundle_goes_when_the_new_one_stands(
    signed: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_by: str
) -> None:
    """A disk that fails at the last step leaves the old one in its place; when it works, only the new one is left."""
    out = tmp_path / "out"
    out.mkdir()

    def replace() -> None:
        if written_by == "export":
            signed.export(out / "b", Form.BUNDLE, force=True)
            return
        with signed.house.store.view() as view:
            write_bundle(view, out / "b", force=True)

    replace()
    integrate(signed)
    old, real, manifest = held(out), bundleplace.sync, (out / "b" / "manifest.json").read_bytes()

    def fail(path: Path) -> None:
        if path == out and (out / "b" / "manifest.json").read_bytes() != manifest:
            raise OSError(5, "Input/output error")
        real(path)

    monkeypatch.setattr(bundleplace, "sync", fail)
    with pytest.raises(InputRefused, match="Input/output error"):
        replace()
    assert held(out) == old
    monkeypatch.undo()
    replace()
    assert held(out).keys() == old.keys() and held(out) != old


def test_what_came_into_the_old_one_meanwhile_is_not_lost(
    signed: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file laid into the folder while the new bundle was written stops the replacing, and both stay as they were."""
    place = tmp_path / "b"
    signed.export(place, Form.BUNDLE)

    def lay(part: Path) -> Any:
        a_note(place)
        return measured(part)

    monkeypatch.setattr("policy_engine.services.exports.service.measured", lay)
    with pytest.raises(InputRefused, match="holds something that no bundle has"):
        signed.export(place, Form.BUNDLE, force=True)
    assert (place / "notes.txt").read_text() == "mine" and (place / "checkpoint").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "b.proof.json", "b.proof.txt", "office"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["", ".", "..", "/", "absent/b", "b/..", "note/b"])
def test_a_place_that_takes_no_bundle_uses_no_approval(
    signed: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, force: bool
) -> None:
    """No name, no folder, or none to write in: one sentence, nothing is written, and the approval is still there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "note").write_text("mine")
    id = bundle_proposed(signed)
    before = signed.house.kinds()
    with pytest.raises(InputRefused, match=r"names no place for a bundle|cannot be written"):
        signed.exports.export_unsealed(signed.house["una"], id, None, None, Target(Path(name), force))
    with pytest.raises(InputRefused, match=r"names no place for a bundle|cannot be written"):
        signed.export(Path(name), Form.BUNDLE, force=force)
    assert signed.house.kinds() == before and sorted(path.name for path in tmp_path.iterdir()) == ["note", "office"]
    assert signed.exports.export_unsealed(signed.house["una"], id, None, None, Target(Path("b"))).unsealed
