"""What a release is made of, read and checked; kept with the release, so that the next one reads only what differs.

Rules of the room:
- A pack with the same content is taken over as it was read, where model, facets, tables and limits are the same too;
  where one of those differs, everything is read anew.
- What packs say together (an id used twice, the number of rules) is checked every time.
- Whatever was read before, the basis of the same files is the same, and so is each refusal.
Left to others: reading each kind of file, the index (`rules.segments`), the release itself (`rules.release`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from policy_engine.core.derive import Reference
from policy_engine.core.index import Index
from policy_engine.core.instants import ENDLESS
from policy_engine.core.places import GroupTables
from policy_engine.core.release import Catalogue, Release
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules import models
from policy_engine.rules.adapter import ReleaseAdapter
from policy_engine.rules.advice import Advised, advised
from policy_engine.rules.compile import compile_index
from policy_engine.rules.conditions import Columns
from policy_engine.rules.facets import PATH as FACETS_FILE
from policy_engine.rules.facets import Facets, read_facets
from policy_engine.rules.groups import CompiledGroup, group_lines
from policy_engine.rules.matcher import Conjunct, policy_columns, request_tokens, split_matcher
from policy_engine.rules.packs import Pack, PackRule, read_packs
from policy_engine.rules.reference import build_reference
from policy_engine.rules.segments import Segment, compile_segments
from policy_engine.rules.sources import decode, digests
from policy_engine.rules.stock import fill, read_model
from policy_engine.rules.tables import FOLDER as TABLES_FOLDER
from policy_engine.rules.tables import Tables, read_tables

MODEL_FILE: Final = "model.conf"
CATALOGUE_FILE: Final = models.PATH
NEEDED: Final = (MODEL_FILE, FACETS_FILE, CATALOGUE_FILE)
EFFECT: Final = "some(where (p_eft == allow)) && !some(where (p_eft == deny))"
_MEMBER = re.compile(r"(model\.conf|facets\.toml|models\.toml|packs/[A-Za-z0-9._-]+\.toml|tables/[A-Za-z0-9._-]+\.csv)")


@dataclass(frozen=True, slots=True)
class Ground:
    """What packs are read against: the model's conjuncts and columns, the facets and the tables."""

    conjuncts: tuple[Conjunct, ...]
    names: tuple[str, ...]
    roles: frozenset[str]
    facets: Facets
    tables: Tables


@dataclass(frozen=True, slots=True)
class Read:
    """The rules of a release, read and checked, before anything is compiled; `files` share what did not change."""

    files: Mapping[str, bytes]
    limits: Limits
    ground: Ground
    columns: Columns
    packs: tuple[Pack, ...]

    def lines(self, packs: Sequence[Pack], groups: Mapping[str, CompiledGroup]) -> Any:
        """Return a Casbin model of its own that holds the lines of some packs and groups."""
        model = read_model(decode(MODEL_FILE, self.files[MODEL_FILE], self.limits.pack_bytes), MODEL_FILE)
        rules: list[PackRule] = [rule for pack in packs for rule in pack.rules]
        lines = group_lines(groups, self.ground.tables)
        return fill(model, ReleaseAdapter(rules, lines, self.columns.read_by("unlifted")))


@dataclass(frozen=True, slots=True)
class Basis:
    """Everything that a release holds, by what it depends on, and the digest of each file."""

    read: Read
    digests: Mapping[str, str]
    catalogue: Catalogue
    reference: Reference
    segments: tuple[Segment, ...]
    advised: Mapping[Pack, Advised]


def read_basis(files: Mapping[str, bytes], limits: Limits, previous: Release | None) -> Basis:
    """Return the basis of a release's files, built from that of a previous release. Raises `LoadRefused`."""
    old = basis_of(previous)
    read = read_rules(files, limits, old)
    kept = old if old is not None and old.read.ground is read.ground else None
    groups = read.columns.groups
    if kept is not None and kept.read.columns.groups == groups:
        reference = kept.reference
    else:
        reference = build_reference(read.ground.facets, read.ground.tables, groups)
    known = {} if kept is None else kept.advised
    return Basis(
        read=read,
        digests=_digests(read.files, old),
        catalogue=_catalogue(read.files, limits, old),
        reference=reference,
        segments=_segments(read, reference.groups, kept),
        advised={pack: known.get(pack) or advised(pack.rules, read.columns) for pack in read.packs},
    )


def basis_of(release: Release | None) -> Basis | None:
    """Return what a release was made of, where it was loaded here."""
    return release.basis if release is not None and isinstance(release.basis, Basis) else None


def read_rules(files: Mapping[str, bytes], limits: Limits, old: Basis | None) -> Read:
    """Return the rules that the files hold, with every refusal made, before anything is compiled."""
    _check_files(files, limits)
    before = {} if old is None else old.read.files
    files = {path: before[path] if before.get(path) == content else content for path, content in files.items()}
    packs: Mapping[str, Pack] = {}
    if old is not None and old.read.limits == limits and _ground_files(before) == _ground_files(files):
        ground = old.read.ground
        packs = {pack.path: pack for pack in old.read.packs}
    else:
        ground = _ground(files, limits)
    facets = ground.facets
    columns = Columns(ground.conjuncts, ground.names, facets, ground.tables)
    found = read_packs(files, columns, limits, packs)
    columns.collect()  # what the settings name is no pack's
    columns.group(facets.reference.seat_group, partial(facets.file.where, "reference", None, "seat_group"))
    return Read(files, limits, ground, columns, found)


def _check_files(files: Mapping[str, bytes], limits: Limits) -> None:
    for path in files:
        if not _MEMBER.fullmatch(path):
            raise LoadRefused("the file is no part of a release; remove it", where=path[: limits.id_characters])
    for path in NEEDED:
        if path not in files:
            raise LoadRefused("the file is missing; add it (compare the sample release)", where=path)
    if sum(map(len, files.values())) > limits.release_bytes:
        raise LoadRefused(f"the release is longer than {limits.release_bytes} bytes (release_bytes)", where=MODEL_FILE)


def _ground_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    own = (MODEL_FILE, FACETS_FILE)
    return {path: content for path, content in files.items() if path in own or path.startswith(TABLES_FOLDER)}


def _ground(files: Mapping[str, bytes], limits: Limits) -> Ground:
    model = read_model(decode(MODEL_FILE, files[MODEL_FILE], limits.pack_bytes), MODEL_FILE)
    conjuncts = split_matcher(model, MODEL_FILE)
    _check_model(model)
    facets = read_facets(files[FACETS_FILE], request_tokens(model), limits)
    tables = read_tables(files, limits)
    return Ground(conjuncts, policy_columns(model), frozenset(model["g"] or {}), facets, tables)


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


def _segments(read: Read, tables: GroupTables, kept: Basis | None) -> tuple[Segment, ...]:
    """Return the segments of the index; `kept` was read against the same model, facets and tables."""
    editions = [tables.at(instant).domains for instant in (-ENDLESS, *tables.boundaries)]
    groups = read.columns.groups
    whole = any(part.function in read.ground.roles for part in read.ground.conjuncts)
    old: Sequence[Segment] = ()
    if kept is not None and not (whole and kept.read.columns.groups != groups):
        old = kept.segments

    def build(packs: Sequence[Pack], named: Mapping[str, CompiledGroup]) -> Index:
        model = read.lines(packs, groups if whole else named)
        return compile_index(model, MODEL_FILE, without=("unlifted",), editions=editions)

    return compile_segments(read.packs, build, old)


def _digests(files: Mapping[str, bytes], old: Basis | None) -> dict[str, str]:
    if old is None:
        return digests(files)
    before, known = old.read.files, old.digests
    fresh = digests({path: content for path, content in files.items() if before.get(path) is not content})
    return {path: fresh[path] if path in fresh else known[path] for path in files}


def _catalogue(files: Mapping[str, bytes], limits: Limits, old: Basis | None) -> Catalogue:
    content = files[CATALOGUE_FILE]
    if old is not None and old.read.limits == limits and old.read.files[CATALOGUE_FILE] is content:
        return old.catalogue
    return models.read_models(content, limits)
