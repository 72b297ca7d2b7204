"""`policy-engine switch`: engage a kill switch at once, release one with a second person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened
from policy_engine.cli.withdrawing import Wait, WaitOption, record, require_reached, taken_hold
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.services.switches import Switch

app = typer.Typer(name="switch", help="Engage and release kill switches.", no_args_is_help=True)

_DIMENSIONS = {
    "model": "models",
    "tenant": "tenants",
    "tenant_type": "tenant_types",
    "tier": "tiers",
    "region": "regions",
    "action": "actions",
}
_COLUMNS: output.Columns = (
    ("switch", "id"),
    ("status", "status"),
    ("scope", lambda row: ", ".join(_words(name, values) for name, values in row["scope"].items())),
    ("reason", "reason"),
    ("engaged by", "engaged_by"),
    ("engaged", "engaged_at"),
    ("until", "until"),
    ("released", "released_at"),
)

SwitchArgument = Annotated[str, typer.Argument(metavar="SWITCH", help="The id of the switch.")]


@app.command("engage")
def engage(
    id: SwitchArgument,
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="What it stops: model=M, tenant=T, tenant_type=X, tier=N, region=CC, action=A; several values "
            "separated by commas; all that are named must match. model=all stops everything.",
        ),
    ],
    reason: Annotated[str, typer.Option(help="Why; shown to every reader of the register.")],
    until: Annotated[str | None, typer.Option(help="When it ends by itself, such as 2026-07-01T00:00:00Z.")] = None,
    reference: Annotated[str, typer.Option(help="Ticket, letter or call that it rests on.")] = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Engage a kill switch. When the command returns, the change is committed: no new allow passes it."""
    named = parse_scope(scope)
    ends = instant_of(until, "--until")
    with opened() as session:
        followed = session.engine.withdrawals.follow()
        made = session.engine.switches.engage(session.principal, id, named, reason, reference=reference, until=ends)
        held = taken_hold(followed, made.committed, wait)
    output.emit_record({"switch": id, "status": "committed", **output.entry(made.committed), **held}, form)
    require_reached(held, wait)


@app.command("release")
def release(
    id: SwitchArgument,
    reason: Annotated[str, typer.Option(help="Why; kept with the proposal.")],
    form: FormOption = None,
) -> None:
    """Propose to release a switch. It stays engaged until another person has approved."""
    with opened() as session:
        proposal = session.engine.switches.release(session.principal, id, reason)
    output.emit_record({"switch": id, "status": "waiting", "proposal": proposal.id, "hash": proposal.hash}, form)
    output.note(f"The switch stays engaged until another person has approved {proposal.id}.")
    raise typer.Exit(exits.Code.APPROVAL_MISSING)


@app.command("list")
def list_switches(form: FormOption = None) -> None:
    """List every switch, released ones too."""
    with opened() as session:
        now = session.engine.store.now()
        rows = [_row(switch, now) for switch in session.engine.switches.list(session.principal)]
    output.emit_rows(rows, form, _COLUMNS)


@app.command("show")
def show(id: SwitchArgument, form: FormOption = None) -> None:
    """Show one switch, with how far its last change has taken hold and which replica is the slowest."""
    with opened() as session:
        row = _row(session.engine.switches.show(session.principal, id), session.engine.store.now())
        row["withdrawal"] = record(session.engine.withdrawals.of_row("switches", id))
    output.emit_record(row, form)


def parse_scope(given: list[str]) -> dict[str, Any]:
    """Return the scope that `dimension=value,value` arguments name. Raises `InputRefused` for an unknown dimension."""
    scope: dict[str, Any] = {}
    for argument in given:
        name, equals, values = argument.partition("=")
        dimension = name if name in _DIMENSIONS.values() else _DIMENSIONS.get(name)
        if dimension is None or not equals:
            raise InputRefused(
                f"must be one of {', '.join(_DIMENSIONS)} with its values, such as model=M", where="--scope"
            )
        if dimension in scope:
            raise InputRefused(f"names {name} twice; separate the values by commas", where="--scope")
        words: list[Any] = [word.strip() for word in values.split(",")]
        if dimension == "tiers":
            words = [int(word) if word.isdigit() else word for word in words]
        scope[dimension] = "all" if words == ["all"] else words
    return scope


def _row(switch: Switch, now: int) -> dict[str, Any]:
    ended = "ended" if switch.released_at is None else "released"
    status = "engaged" if switch.engaged(now) else ended
    plain: dict[str, Any] = output.plain(switch)
    return {"id": switch.id, "status": status, **plain}


def _words(name: str, values: Any) -> str:
    return f"{name}={values if isinstance(values, str) else ','.join(str(value) for value in values)}"
