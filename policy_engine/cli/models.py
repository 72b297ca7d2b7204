"""`policy-engine models`: the catalogue of the active release, to read. It is changed by publishing a release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import output
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened
from policy_engine.errors import NotFound

if TYPE_CHECKING:
    from policy_engine.core.facts import Model
    from policy_engine.core.release import Catalogue

app = typer.Typer(name="models", help="Read the model catalogue of the active release.", no_args_is_help=True)

_COLUMNS: output.Columns = (
    ("model", "id"),
    ("tier", lambda row: "unclassified" if row["tier"] is None else row["tier"]),
    ("status", "status"),
    ("weights", lambda row: "public" if row["weights_public"] else "closed"),
    ("may run in", "permitted_serving_regions"),
    ("test", "nationality_test"),
    ("aliases", "aliases"),
    ("derives from", "bases"),
    ("fallback", "fallback"),
)


@app.command("list")
def list_models(form: FormOption = None) -> None:
    """List the models of the active release."""
    with opened() as session:
        catalogue = session.release().catalogue
    rows = [_row(catalogue, model) for _, model in sorted(catalogue.models.items())]
    output.emit_rows(rows, form, _COLUMNS)


@app.command("show")
def show(
    id: Annotated[str, typer.Argument(metavar="MODEL", help="The id or an alias of the model.")],
    form: FormOption = None,
) -> None:
    """Show one model, and every name that an order on it, or on what it derives from, may use."""
    with opened() as session:
        catalogue = session.release().catalogue
    model = catalogue.find(id)
    if model is None:
        raise NotFound("the active release has no model of this id or alias; see `models list`")
    output.emit_record({**_row(catalogue, model), "reached_by": sorted(catalogue.names(model.id))}, form)


def _row(catalogue: Catalogue, model: Model) -> dict[str, Any]:
    found: dict[str, Any] = output.plain(model)
    return {**found, "aliases": sorted(model.aliases)}
