"""Loading a plain Casbin folder: from `model.conf` and `policy.csv` to a release that decides, or one refusal.

Rules of the room:
- The release is `model.conf`, `policy.csv` and, where they stand there, `facets.toml` (sources of tokens),
  `models.toml` (a catalogue) and `entities.jsonl` (attributes). Nothing else in the folder is part of it.
- The files are what stock Casbin reads: the same rows in the same order. What stock would forgive and a decision point
  must not is refused; what is merely doubtful is a warning.
- A release that differs from the previous one by a few policy lines is built from it.
Left to others: packs (`rules.release`), which of both a folder is (`rules.folder`), answering (`rules.enforcer`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from casbin.persist import Adapter

from policy_engine.core.plain import POLICY_FILE, Answering, PlainRelease, PolicyRows
from policy_engine.core.release import Token
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules import models
from policy_engine.rules.binding import Uses
from policy_engine.rules.enforcer import CompiledEnforcer
from policy_engine.rules.entities import ENTITIES_FILE, read_entities
from policy_engine.rules.facets import PATH as FACETS_FILE
from policy_engine.rules.plainadvice import warnings_of
from policy_engine.rules.plainmodel import ALLOW_OVERRIDE, MODEL_FILE, PlainModel, read_plain_model
from policy_engine.rules.plainpolicy import Change, PolicyText, read_policy
from policy_engine.rules.plaintokens import read_tokens
from policy_engine.rules.rowgroups import RowRefused
from policy_engine.rules.sources import read_within, release_hash

NEEDED: Final = (MODEL_FILE, POLICY_FILE)
OPTIONAL: Final = (FACETS_FILE, models.PATH, ENTITIES_FILE)
_ENTITY_OF: Final = {"action.name": "action", "resource.id": "resource"}


@dataclass(frozen=True, slots=True)
class Basis:
    """What a loaded release keeps for the next load of a folder that differs little."""

    model: PlainModel
    policy: PolicyText


class RowsAdapter(Adapter):  # type: ignore[misc]  # casbin has no types
    """Gives a Casbin model the rows of a policy, in order, as the file adapter would."""

    def __init__(self, rows: PolicyRows) -> None:
        self._rows = rows

    def load_policy(self, model: Any) -> None:
        """Append every row to the definition that its kind names."""
        held = {"p": model["p"]["p"].policy, **{key: roles.policy for key, roles in (model["g"] or {}).items()}}
        for row in self._rows.entries:
            if row is not None:
                held[row[0]].append(list(row[1:]))


def read_plain_folder(root: Path, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Return the files of a plain folder. Raises `LoadRefused` for a file that is missing, unreadable or too large.

    A file's size is asked for before it is read. A link that leads nowhere is no file that is absent: without its
    catalogue or entities a folder would decide otherwise.
    """
    most = {POLICY_FILE: limits.policy_bytes, ENTITIES_FILE: limits.policy_bytes}
    found = [name for name in (*NEEDED, *OPTIONAL) if name in NEEDED or os.path.lexists(root / name)]
    return {name: read_within(root / name, name, most.get(name, limits.pack_bytes)) for name in found}


def load_plain(
    files: Mapping[str, bytes], *, previous: PlainRelease | None = None, limits: Limits = LIMITS
) -> PlainRelease:
    """Return the release that these files make. Raises `LoadRefused` with file, line and a fix.

    `previous` makes it cheaper when few lines of the policy differ; the release is the same without it.
    """
    _check_files(files, limits)
    basis = None if previous is None or not isinstance(previous.basis, Basis) else previous.basis
    if basis is not None and previous is not None and previous.files[MODEL_FILE] == files[MODEL_FILE]:
        model = basis.model
    else:
        model, basis, previous = read_plain_model(files[MODEL_FILE], limits), None, None
    tokens, reasons = read_tokens(files.get(FACETS_FILE), model, limits)
    policy, change = read_policy(files[POLICY_FILE], model, limits, None if basis is None else basis.policy)
    catalogue = files.get(models.PATH)
    entities = files.get(ENTITIES_FILE)
    return PlainRelease(
        hash=release_hash(files),
        tokens=tokens,
        enforcer=_enforcer(model, policy.rows, change, previous),
        rows=policy.rows,
        allow_override=model.effect == ALLOW_OVERRIDE,
        models=None if catalogue is None else models.read_models(catalogue, limits),
        entities={} if entities is None else read_entities(entities, limits),
        named=_named(tokens, policy.rows, change, previous),
        uses=Uses(model, tokens, policy.rows),
        files=dict(files),
        engine_reasons=reasons,
        advise=lambda: warnings_of(model, policy.rows),
        basis=Basis(model, policy),
    )


def _check_files(files: Mapping[str, bytes], limits: Limits) -> None:
    for path in files:
        if path not in (*NEEDED, *OPTIONAL):
            known = ", ".join((*NEEDED, *OPTIONAL))
            message = f"the file is no part of a plain Casbin folder ({known}); remove it"
            raise LoadRefused(message, where=path[: limits.id_characters])
    for path in NEEDED:
        if path not in files:
            raise LoadRefused("the file is missing; add it", where=path)
    if sum(map(len, files.values())) > limits.release_bytes:
        raise LoadRefused(f"the release is longer than {limits.release_bytes} bytes (release_bytes)", where=MODEL_FILE)


def _enforcer(model: PlainModel, rows: PolicyRows, change: Change | None, previous: PlainRelease | None) -> Answering:
    """Return the enforcer: the previous one where nothing changed, a changed one, or a new one."""
    if previous is not None and change is not None:
        if not change.added and not change.removed:
            return previous.enforcer
        # Where order decides, Casbin sorts the rows by itself; those policies are always read as a whole.
        if change.appended and "priority" not in model.effect.lower():
            with suppress(LoadRefused, InputRefused):  # what cannot be changed is built anew, and refused there
                return previous.enforcer.updated(add=_listed(change.added), remove=_listed(change.removed))
    try:
        return CompiledEnforcer(model.casbin(), RowsAdapter(rows))
    except RowRefused as refused:
        raise LoadRefused(refused.message, where=rows.place(refused.row)) from None
    except LoadRefused as refused:
        where = refused.where if refused.where and ":" in refused.where else model.where("m")
        raise LoadRefused(refused.message, where=where) from None
    except Exception as error:  # noqa: BLE001  Casbin raises bare RuntimeError, KeyError and others
        message = f"Casbin cannot load this policy under this model ({type(error).__name__}); compare both"
        raise LoadRefused(message, where=model.where("m")) from None


def _listed(rows: Sequence[tuple[str, ...]]) -> list[list[str]]:
    return [list(row) for row in rows]


def _named(
    tokens: Sequence[Token], rows: PolicyRows, change: Change | None, previous: PlainRelease | None
) -> dict[str, frozenset[str]]:
    """Return the actions and resource ids that the policy itself names, in the column named like their token."""
    found: dict[str, frozenset[str]] = {}
    for source, entity in _ENTITY_OF.items():
        name = next((token.name for token in tokens if token.source in (source, entity)), None)
        if name not in rows.columns:
            continue
        place = rows.columns.index(name) + 1
        known: frozenset[str] | None = None
        if previous is not None and change is not None and not change.removed:
            known = previous.named.get(source) if previous.tokens == tuple(tokens) else None
        if known is None:
            found[source] = frozenset(row[place] for row in rows.lines)
        else:
            added = {row[place] for row in change.added if row[0] == "p"} if change is not None else set()
            found[source] = known if added <= known else known | added
    return found
