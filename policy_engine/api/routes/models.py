"""`/v1/models`: the catalogue of the active release, read only; it is changed by publishing a release.

Left to others: who may use a model (the decision endpoints).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from policy_engine.api.access import READING, READING_ONE, Caller, OpenEngine, route_options
from policy_engine.api.documents import Id, Shown, Strict, plain
from policy_engine.core.facts import Model
from policy_engine.core.plain import AnyRelease
from policy_engine.errors import NotFound

router = APIRouter(prefix="/v1/models", tags=["models"])


class ModelShown(Shown):
    """A catalogue entry. Without `tier` it is unclassified; `bases` are the models it derives from."""

    id: str
    tier: int | None = None
    status: str | None = None
    weights_public: bool
    permitted_serving_regions: list[str]
    nationality_test: str | None = None
    bases: list[str]
    aliases: list[str]
    fallback: str | None = None
    superseded_by: str | None = None
    family: str | None = None


class ModelsShown(Shown):
    """Models in order of id, and the release whose catalogue this is."""

    release: str
    models: list[ModelShown]


class OnlyModels(Strict):
    """Which models to list."""

    tier: Annotated[int | None, Query(ge=1, le=5, strict=False)] = None


@router.get("", **route_options(problems=READING))
def list_models(engine: OpenEngine, principal: Caller, only: Annotated[OnlyModels, Query()]) -> ModelsShown:
    """List the models of the active release."""
    release = _active(engine)
    found = [model for _, model in sorted(release.catalogue.models.items()) if only.tier in (None, model.tier)]
    return ModelsShown(release=release.hash, models=[_shown(model) for model in found])


@router.get("/{id:path}", **route_options(problems=READING_ONE))
def show_model(engine: OpenEngine, principal: Caller, id: Id) -> ModelShown:
    """Show the model that an id or an alias names."""
    model = _active(engine).catalogue.find(id)
    if model is None:
        raise NotFound("the catalogue of the active release has no such model or alias")
    return _shown(model)


def _active(engine: OpenEngine) -> AnyRelease:
    release = engine.snapshots.refresh().release
    if release is None:
        raise NotFound("no release is active, so there is no catalogue")
    return release


def _shown(model: Model) -> ModelShown:
    return ModelShown(**plain(model))
