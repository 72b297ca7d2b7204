"""`policy-engine switch`: engage a kill switch at once, release one with a second person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.preview import AtOnceOption, DaysOption, ForceOption, FromOption, HtmlOption, show_preview
from policy_engine.cli.session import opened
from policy_engine.cli.withdrawing import Wait, WaitOption, record, require_reached, taken_hold
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.cli.session import Session
    from policy_engine.services.preview.answer import Preview
    from policy_engine.services.preview.service import Wanted
    from policy_engine.services.switches import Switch

app = typer.Typer(name="switch", help="Engage and release kill switches.", no_args_is_help=True)

_DIMENSIONS = {
    "model": "models",
    "family": "families",
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

_DRILLED: output.Columns = (
    ("kind", "kind"),
    ("status", "status"),
    ("scope", lambda row: ", ".join(_words(name, values) for name, values in row["scope"].items())),
    ("committed, us", "committed_microseconds"),
    ("in effect, us", "effect_microseconds"),
    ("allowed before", "allowed_before"),
    ("note", "note"),
)

_TIER = re.compile("[0-9]{1,9}")
"""What is read as a number; `str.isdigit` takes digits of other scripts, and exponents, which are none."""

SwitchArgument = Annotated[str, typer.Argument(metavar="SWITCH", help="The id of the switch.")]


@app.command("engage")
def engage(
    id: SwitchArgument,
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope",
            help="What it stops: model=M (derivatives too), family=F, tenant=T, tenant_type=X, tier=N, region=CC, "
            "action=A; several values separated by commas; all that are named must match. model=all stops everything.",
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


@app.command("preview")
def preview(
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="What a new switch would stop, as for `switch engage`.")
    ] = None,
    release: Annotated[
        str | None, typer.Option("--release", metavar="SWITCH", help="Preview a release instead.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="When the new switch would end by itself.")] = None,
    days: DaysOption = 7,
    at_once: AtOnceOption = False,
    location: FromOption = None,
    html: HtmlOption = None,
    force: ForceOption = False,
    form: FormOption = None,
) -> None:
    """Show what engaging (or releasing) a switch would do to whom, and change nothing. The preview is logged."""
    if (release is None) == (not scope):
        raise InputRefused("give the scope of a new switch, or the switch to release", where="--scope, --release")
    if release is not None and until is not None:
        raise InputRefused("is of a new switch, and a release has no end; leave one of the two out", where="--until")
    named, ends = parse_scope(scope or []), instant_of(until, "--until")

    def ask(session: Session, wanted: Wanted) -> Preview:
        previews = session.engine.foresight.previews
        if release is not None:
            return previews.release(session.principal, release, wanted=wanted)
        return previews.engage(session.principal, "preview", named, until=ends, wanted=wanted)

    show_preview(ask, days=days, at_once=at_once, location=location, html=html, force=force, form=form)


@app.command("drill")
def drill(
    reason: Annotated[str, typer.Option(help="Why; kept with each switch.")] = "drill",
    form: FormOption = None,
) -> None:
    """Engage and release a switch of every kind of selector, against nobody but the drill. Exits 1 when one fails."""
    with opened() as session:
        found = session.engine.foresight.drills.run(session.principal, reason)
    output.emit_rows([output.plain(one) for one in found], form, _DRILLED)
    if any(one.status == "failed" for one in found):
        output.note("policy-engine: a kill switch did not take hold; treat it as an incident")
        raise typer.Exit(exits.Code.INTERNAL)


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
            words = [int(word) if _TIER.fullmatch(word) else word for word in words]
        scope[dimension] = "all" if words == ["all"] else words
    return scope


def _row(switch: Switch, now: int) -> dict[str, Any]:
    ended = "ended" if switch.released_at is None else "released"
    status = "engaged" if switch.engaged(now) else ended
    plain: dict[str, Any] = output.plain(switch)
    return {"id": switch.id, "status": status, **plain}


def _words(name: str, values: Any) -> str:
    if isinstance(values, bool):
        return name
    return f"{name}={values if isinstance(values, str) else ','.join(str(value) for value in values)}"
