"""Loading a release: from files to tokens, rules, compiled index, reference data and catalogue, or one refusal.

Rules of the room: a release is `model.conf`, `facets.toml`, `models.toml`, `packs/*.toml` and `tables/*.csv`; cases and
worlds are not part of it. Its hash is SHA-256 over the canonical list of paths and content hashes. Everything is
checked before anything is returned, so that a refused folder leaves the last good release serving.
Left to others: reading the files and what is taken over from the release before (`rules.basis`), storing and activating
releases (`services.publish`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from policy_engine.core.instants import ENDLESS
from policy_engine.core.plain import AnyRelease
from policy_engine.core.release import Release
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.advice import warnings_of
from policy_engine.rules.basis import CATALOGUE_FILE, MODEL_FILE, NEEDED, basis_of, read_basis, read_rules
from policy_engine.rules.conditions import Columns
from policy_engine.rules.facets import Facets
from policy_engine.rules.packs import PackRule
from policy_engine.rules.segments import joined
from policy_engine.rules.sources import digests, hash_of, read_within
from policy_engine.rules.tables import Tables

__all__ = [
    "CATALOGUE_FILE",
    "MODEL_FILE",
    "Parts",
    "digests_of",
    "load_release",
    "read_folder",
    "read_parts",
    "with_catalogue",
]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the files of a release hold, read and checked; `model` is the Casbin model with its lines."""

    model: Any
    facets: Facets
    tables: Tables
    columns: Columns
    rules: tuple[PackRule, ...]


def read_folder(path: Path | str) -> dict[str, bytes]:
    """Return the files of a policies folder that make its release.

    Raises `LoadRefused` when there is no such folder, a file cannot be read, or something in `packs` or `tables` would
    be passed over in silence (hidden files and `*.md` excepted).
    """
    root = Path(path)
    if not root.is_dir():
        raise LoadRefused("there is no such folder; name the folder that holds model.conf", where=str(path))
    found = [root / name for name in NEEDED if (root / name).exists()]
    for folder, ending in (("packs", ".toml"), ("tables", ".csv")):
        for file in sorted((root / folder).iterdir()) if (root / folder).is_dir() else ():
            if file.suffix == ending:
                found.append(file)
            elif not file.name.startswith(".") and file.suffix != ".md":
                message = f"only {ending} files are read here; move it out, or rename it"
                raise LoadRefused(message, where=file.relative_to(root).as_posix())
    return {file.relative_to(root).as_posix(): _content(file, root) for file in found}


def _content(file: Path, root: Path) -> bytes:
    most = LIMITS.table_bytes if file.suffix == ".csv" else LIMITS.pack_bytes
    return read_within(file, file.relative_to(root).as_posix(), most)


def load_release(files: Mapping[str, bytes], *, previous: Release | None = None, limits: Limits = LIMITS) -> Release:
    """Return the release that these files make. Raises `LoadRefused` with file, line and a fix.

    `previous` makes it cheaper when few packs differ; the release, or the refusal, is the same without it.
    """
    basis = read_basis(files, limits, previous)
    read, reference = basis.read, basis.reference
    facets = read.ground.facets
    packs = [basis.advised[pack] for pack in read.packs]
    bounds = {*read.columns.bounds, *reference.groups.boundaries, *reference.affiliates.boundaries}
    lifts = frozenset[str]().union(*(pack.lifts for pack in packs)) if read.columns.read_by("unlifted") else frozenset()
    return Release(
        hash=hash_of(basis.digests),
        tokens=facets.tokens,
        rules=tuple(chain.from_iterable(pack.metas for pack in read.packs)),
        index=joined(read.packs, basis.segments),
        reference=reference,
        catalogue=basis.catalogue,
        files=read.files,
        boundaries=tuple(sorted(bound for bound in bounds if -ENDLESS < bound < ENDLESS)),
        engine_reasons=facets.reasons,
        lift_keys=lifts - {""},
        warnings=warnings_of(packs, facets, basis.catalogue, read.ground.tables.codes),
        basis=basis,
    )


def with_catalogue(release: Release, files: Mapping[str, bytes], *, limits: Limits = LIMITS) -> Release:
    """Return a release that differs in `models.toml` only, sharing the compiled rules.

    `files` may be the whole release or `models.toml` alone. Raises `LoadRefused`, also when another file differs.
    """
    changed = {path: content for path, content in files.items() if release.files.get(path) != content}
    if changed.keys() - {CATALOGUE_FILE} or CATALOGUE_FILE not in files:
        raise LoadRefused("more than the catalogue differs; load the release as a whole", where=CATALOGUE_FILE)
    return load_release({**release.files, **changed}, previous=release, limits=limits)


def digests_of(release: AnyRelease) -> Mapping[str, str]:
    """Return the hex SHA-256 of each file of a release, those known from loading packs as they are."""
    basis = basis_of(release) if isinstance(release, Release) else None
    return digests(release.files) if basis is None else basis.digests


def read_parts(files: Mapping[str, bytes], limits: Limits = LIMITS, *, previous: Release | None = None) -> Parts:
    """Return what the files hold, with every refusal made, and its lines in a Casbin model; nothing is compiled.

    `previous` makes it cheaper, as for `load_release`.
    """
    read = read_rules(files, limits, basis_of(previous))
    model = read.lines(read.packs, read.columns.groups)
    rules = tuple(chain.from_iterable(pack.rules for pack in read.packs))
    return Parts(model, read.ground.facets, read.ground.tables, read.columns, rules)
