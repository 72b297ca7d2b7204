"""`policy-engine who-can` and `what-can`: listings that agree with single decisions, and grant nothing.

Each search is one entry of the log. Whatever it lists must be asked for again, with `check`, to be used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from policy_engine.cli import output
from policy_engine.cli.check import LocationOption, ServingOption, TenantOption
from policy_engine.cli.output import Form, FormOption
from policy_engine.cli.session import opened

if TYPE_CHECKING:
    from policy_engine.services.queries import Found

_COLUMNS: output.Columns = (
    ("subject", "subject"),
    ("tenant", "tenant"),
    ("model", "model"),
    ("action", "action"),
)

ActionOption = Annotated[str | None, typer.Option(help="Only this action; else every one that the policy declares.")]


def who_can(
    model: Annotated[str, typer.Option(help="The id or alias of the model.")],
    action: ActionOption = None,
    tenant: TenantOption = None,
    location: LocationOption = None,
    serving_region: ServingOption = None,
    form: FormOption = None,
) -> None:
    """List who may use a model, each for each of their tenants, if they called from the location given."""
    from policy_engine.core.factparse import parse_location
    from policy_engine.services.queries import Query

    place = parse_location(location, "--location")
    query = Query(model=model, action=action, tenant=tenant, location=place, serving_region=serving_region)
    with opened() as session:
        found = session.engine.search.who_can(session.principal, query)
    _write(found, location, form)


def what_can(
    id: Annotated[str, typer.Argument(metavar="SUBJECT", help="The id of the person or service.")],
    action: ActionOption = None,
    tenant: TenantOption = None,
    location: LocationOption = None,
    serving_region: ServingOption = None,
    form: FormOption = None,
) -> None:
    """List what a subject may use, for each of their tenants, if they called from the location given."""
    from policy_engine.core.factparse import parse_location
    from policy_engine.services.queries import Query

    place = parse_location(location, "--location")
    query = Query(subject=id, action=action, tenant=tenant, location=place, serving_region=serving_region)
    with opened() as session:
        found = session.engine.search.what_can(session.principal, query)
    _write(found, location, form)


def _write(found: Found, location: str | None, form: Form | None) -> None:
    record = output.plain(found)
    output.emit(record, form, lambda: output.rows_table(record["hits"], _COLUMNS))
    if not found.complete:
        output.note(
            "There may be more: the search stopped at its limit, or a plain Casbin folder has no entities.jsonl to say "
            "who and what there is. Narrow it by tenant or action."
        )
    if location is None:
        output.note("No --location was given: what needs a known location is not listed.")
