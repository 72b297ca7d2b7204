"""Lint: every refusal and warning of a folder's release, as far as they can be told apart, without serving it.

Rules of the room: what is refused here is what loading refuses, by the same code. Each pack and the catalogue are also
tried by themselves, so that one mistake does not hide those of another file.
Rules that change nothing are looked for here alone, so that loading a release to serve it does not wait for that.
Left to others: the checks (`rules.release`, `rules.advice`), the analysis (`rules.findings`), showing it all (`cli`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from policy_engine.core.plain import AnyRelease, PlainRelease
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.findings import analyse_release
from policy_engine.rules.folder import load_release
from policy_engine.rules.models import PATH as CATALOGUE_FILE
from policy_engine.rules.models import read_models
from policy_engine.rules.packs import FOLDER
from policy_engine.rules.plainlint import plain_warnings
from policy_engine.rules.release import read_parts


@dataclass(frozen=True, slots=True)
class Findings:
    """What lint found, one sentence each, and the release where nothing was refused."""

    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    release: AnyRelease | None


def lint(files: Mapping[str, bytes], *, limits: Limits = LIMITS) -> Findings:
    """Return the findings of a release's files. Raises nothing for what is wrong in them."""
    try:
        release = load_release(files, limits=limits)
    except LoadRefused as first:
        refusals = {str(first): None}
    else:
        if isinstance(release, PlainRelease):
            return Findings((), plain_warnings(release, limits=limits), release)
        idle = analyse_release(read_parts(files, limits, previous=release), release.reference.groups, limits=limits)
        return Findings((), (*release.warnings, *idle), release)
    packs = [path for path in files if path.startswith(FOLDER)]
    for pack in packs if len(packs) > 1 else ():
        alone = {path: content for path, content in files.items() if path == pack or path not in packs}
        refusals.update(dict.fromkeys(_refusal(partial(read_parts, alone, limits))))
    if CATALOGUE_FILE in files:
        refusals.update(dict.fromkeys(_refusal(partial(read_models, files[CATALOGUE_FILE], limits))))
    return Findings(tuple(refusals), (), None)


def _refusal(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except LoadRefused as error:
        return [str(error)]
    return []
