"""`models.toml`: the model catalogue.

Rules of the room: a base must be an entry, because an order on it has to reach; a model without tier or status is
read, and denied by the rules; nothing is filled in. Left to others: lineage and names (`core.release.Catalogue`).
"""

from __future__ import annotations

from typing import Final

from pydantic import Field

from policy_engine.core.facts import Model, ModelStatus, NationalityTest
from policy_engine.core.release import Catalogue
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.sources import Strict, TomlFile, read_strict, read_toml

PATH: Final = "models.toml"


class _Model(Strict):
    id: str
    tier: int | None = None
    status: str | None = None
    weights_public: bool = False
    permitted_serving_regions: list[str] = Field(default_factory=list)
    nationality_test: str | None = None
    base: list[str] = Field(default_factory=list)
    aliases: list[str] = Field(default_factory=list)
    fallback: str | None = None
    superseded_by: str | None = None
    family: str | None = None


class _Models(Strict):
    model: list[_Model] = Field(default_factory=list)


def read_models(content: bytes, limits: Limits) -> Catalogue:
    """Return the catalogue. Raises `LoadRefused` with file, line and a fix."""
    file = read_toml(PATH, content, limits.pack_bytes)
    read = read_strict(file, file.data, _Models)
    models = [_model(entry, at, file, limits) for at, entry in enumerate(read.model)]
    ids = {model.id for model in models}
    for at, model in enumerate(models):
        for base in model.bases:
            if base not in ids:
                message = f"the base `{base}` of `{model.id}` is no entry of the catalogue; add or correct it"
                raise LoadRefused(message, where=file.where("model", at, "base"))
    return Catalogue(models, limits=limits)


def _model(entry: _Model, at: int, file: TomlFile, limits: Limits) -> Model:
    def refuse(key: str, message: str) -> LoadRefused:
        return LoadRefused(message, where=file.where("model", at, key))

    if entry.tier is not None and not 1 <= entry.tier <= 5:
        raise refuse("tier", "a tier is 1 to 5; leave it out for an unclassified model")
    if entry.status is not None and entry.status not in tuple(ModelStatus):
        raise refuse("status", f"the status must be one of {', '.join(ModelStatus)}")
    if entry.nationality_test is not None and entry.nationality_test not in tuple(NationalityTest):
        raise refuse("nationality_test", f"the test must be one of {', '.join(NationalityTest)}, or left out")
    for name in (entry.id, *entry.aliases):
        if not name or len(name) > limits.id_characters or name != name.strip() or not name.isprintable():
            raise refuse("id", f"a model's name is 1 to {limits.id_characters} printable characters")
    return Model(
        id=entry.id,
        tier=entry.tier,
        status=None if entry.status is None else ModelStatus(entry.status),
        weights_public=entry.weights_public,
        permitted_serving_regions=frozenset(entry.permitted_serving_regions),
        nationality_test=None if entry.nationality_test is None else NationalityTest(entry.nationality_test),
        bases=tuple(entry.base),
        aliases=tuple(entry.aliases),
        fallback=entry.fallback,
        superseded_by=entry.superseded_by,
        family=entry.family,
    )
