"""Loading a release: from files to tokens, rules, compiled index, reference data and catalogue, or one refusal.

Rules of the room: a release is `model.conf`, `facets.toml`, `models.toml`, `packs/*.toml` and `tables/*.csv`; cases and
worlds are not part of it. Its hash is SHA-256 over the canonical list of paths and content hashes. Everything is
checked before anything is returned, so that a refused folder leaves the last good release serving.
Left to others: storing and activating releases (`services.publish`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from policy_engine.core.instants import ENDLESS
from policy_engine.core.places import GroupTables
from policy_engine.core.release import Release
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules import models
from policy_engine.rules.adapter import ReleaseAdapter
from policy_engine.rules.advice import warnings_of
from policy_engine.rules.compile import compile_index
from policy_engine.rules.conditions import Columns
from policy_engine.rules.facets import PATH as FACETS_FILE
from policy_engine.rules.facets import Facets, read_facets
from policy_engine.rules.groups import group_lines
from policy_engine.rules.matcher import policy_columns, request_tokens, split_matcher
from policy_engine.rules.packs import PackRule, read_packs
from policy_engine.rules.reference import build_reference
from policy_engine.rules.sources import decode, read_within, release_hash
from policy_engine.rules.stock import fill, read_model
from policy_engine.rules.tables import Tables, read_tables

MODEL_FILE: Final = "model.conf"
CATALOGUE_FILE: Final = models.PATH
NEEDED: Final = (MODEL_FILE, FACETS_FILE, CATALOGUE_FILE)
EFFECT: Final = "some(where (p_eft == allow)) && !some(where (p_eft == deny))"
_MEMBER = re.compile(r"(model\.conf|facets\.toml|models\.toml|packs/[A-Za-z0-9._-]+\.toml|tables/[A-Za-z0-9._-]+\.csv)")


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


def load_release(files: Mapping[str, bytes], *, limits: Limits = LIMITS) -> Release:
    """Return the release that these files make. Raises `LoadRefused` with file, line and a fix."""
    parts = read_parts(files, limits)
    reference = build_reference(parts.facets, parts.tables, parts.columns.groups)
    catalogue = models.read_models(files[CATALOGUE_FILE], limits)
    lifting = parts.columns.read_by("unlifted")
    index = compile_index(parts.model, MODEL_FILE, without=("unlifted",), editions=_edition_sets(reference.groups))
    bounds = {*parts.columns.bounds, *reference.groups.boundaries, *reference.affiliates.boundaries}
    rules = tuple(rule.meta for rule in parts.rules)
    return Release(
        hash=release_hash(files),
        tokens=parts.facets.tokens,
        rules=rules,
        index=index,
        reference=reference,
        catalogue=catalogue,
        files=dict(files),
        boundaries=tuple(sorted(bound for bound in bounds if -ENDLESS < bound < ENDLESS)),
        engine_reasons=parts.facets.reasons,
        lift_keys=frozenset(rule.lift for rule in rules if rule.lift) if lifting else frozenset(),
        warnings=warnings_of(parts.rules, parts.columns, parts.facets, catalogue),
    )


def with_catalogue(release: Release, files: Mapping[str, bytes], *, limits: Limits = LIMITS) -> Release:
    """Return a release that differs in `models.toml` only, sharing the compiled rules.

    `files` may be the whole release or `models.toml` alone. Raises `LoadRefused`, also when another file differs.
    """
    changed = {path: content for path, content in files.items() if release.files.get(path) != content}
    if changed.keys() - {CATALOGUE_FILE} or CATALOGUE_FILE not in files:
        raise LoadRefused("more than the catalogue differs; load the release as a whole", where=CATALOGUE_FILE)
    catalogue = models.read_models(files[CATALOGUE_FILE], limits)
    together = {**release.files, **changed}
    return replace(release, catalogue=catalogue, files=together, hash=release_hash(together))


def read_parts(files: Mapping[str, bytes], limits: Limits = LIMITS) -> Parts:
    """Return what the files hold, with every refusal made, before it is compiled."""
    _check_files(files, limits)
    model = read_model(decode(MODEL_FILE, files[MODEL_FILE], limits.pack_bytes), MODEL_FILE)
    conjuncts = split_matcher(model, MODEL_FILE)
    _check_model(model)
    facets = read_facets(files[FACETS_FILE], request_tokens(model), limits)
    tables = read_tables(files, limits)
    columns = Columns(conjuncts, policy_columns(model), facets, tables)
    rules = read_packs(files, columns, limits)
    columns.group(facets.reference.seat_group, facets.file.where("reference", None, "seat_group"))
    lines = group_lines(columns.groups, tables)
    fill(model, ReleaseAdapter(rules, lines, columns.read_by("unlifted")))
    return Parts(model, facets, tables, columns, rules)


def _check_files(files: Mapping[str, bytes], limits: Limits) -> None:
    for path in files:
        if not _MEMBER.fullmatch(path):
            raise LoadRefused("the file is no part of a release; remove it", where=path[: limits.id_characters])
    for path in NEEDED:
        if path not in files:
            raise LoadRefused("the file is missing; add it (compare the sample release)", where=path)
    if sum(map(len, files.values())) > limits.release_bytes:
        raise LoadRefused(f"the release is longer than {limits.release_bytes} bytes (release_bytes)", where=MODEL_FILE)


def _check_model(model: Any) -> None:
    columns = policy_columns(model)
    if "eft" not in columns:
        raise LoadRefused(
            "the effect column `eft` is missing from `p = ...`, so every rule would allow; add it", where=MODEL_FILE
        )
    if "id" not in columns:
        raise LoadRefused("the column `id` is missing from `p = ...`; add it", where=MODEL_FILE)
    if len(set(columns)) != len(columns):
        raise LoadRefused("`p = ...` names a column twice; remove one", where=MODEL_FILE)
    if model["e"]["e"].value != EFFECT:
        message = "the effect must be default deny with deny overrides; write e = "
        raise LoadRefused(message + EFFECT.replace("p_eft", "p.eft"), where=MODEL_FILE)


def _edition_sets(groups: GroupTables) -> list[frozenset[str]]:
    return [groups.at(instant).domains for instant in (-ENDLESS, *groups.boundaries)]
