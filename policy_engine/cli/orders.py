"""`policy-engine order`: directives, licences, grants and overrides, from receipt to end.

The file is TOML: `kind` and, beside it, the members of the order as a decision case has them (`id`, `from`, `until`,
`models`, …); instants are TOML date-times with a zone, or texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import OrderKind, OrderStatus, text_of, toml_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.preview import AtOnceOption, DaysOption, ForceOption, FromOption, HtmlOption, show_preview
from policy_engine.cli.session import opened
from policy_engine.cli.withdrawing import Wait, WaitOption, require_reached, taken_hold
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.cli.session import Session
    from policy_engine.services.orders import Receipt
    from policy_engine.services.preview.answer import Preview
    from policy_engine.services.preview.service import Wanted

app = typer.Typer(name="order", help="Receive, amend and end directives, licences, grants.", no_args_is_help=True)

_COLUMNS: output.Columns = (
    ("order", "id"),
    ("kind", "kind"),
    ("status", "status"),
    ("from", lambda row: row["body"].get("from")),
    ("until", lambda row: row["body"].get("until")),
    ("models", lambda row: row["body"].get("models")),
    ("received by", "received_by"),
    ("received", "received_at"),
)

OrderArgument = Annotated[str, typer.Argument(metavar="ORDER", help="The id of the order.")]
FileArgument = Annotated[Path, typer.Argument(metavar="FILE.toml", help="The order as TOML; kind, id and its members.")]
TextOption = Annotated[Path | None, typer.Option("--text", help="File with the wording; its hash is kept.")]
ReferenceOption = Annotated[str, typer.Option(help="Where the instrument is filed.")]
ReasonOption = Annotated[str, typer.Option(help="Why it is entered.")]


@app.command("receive")
def receive(
    file: FileArgument,
    text: TextOption = None,
    reference: ReferenceOption = "",
    reason: ReasonOption = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Enter an order. A directive denies from now on; its exemptions, and a licence, wait for a second person."""
    kind, document = read_order(file)
    wording = None if text is None else text_of(text, "--text")
    with opened() as session:
        followed = session.engine.withdrawals.follow()
        receipt = session.engine.orders.receive(
            session.principal, kind, document, text=wording, reference=reference, reason=reason
        )
        held = taken_hold(followed, receipt.committed, wait)
    _finish(receipt, held, wait, form)


@app.command("amend")
def amend(
    id: OrderArgument,
    file: FileArgument,
    text: TextOption = None,
    reference: ReferenceOption = "",
    reason: ReasonOption = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Replace an order's body. What tightens holds at once, what loosens waits; a licence that widens waits whole."""
    kind, document = read_order(file)
    wording = None if text is None else text_of(text, "--text")
    with opened() as session:
        before = session.engine.orders.show(session.principal, id)
        if before.kind != kind:
            raise InputRefused(f"must be {before.kind}, as the order {id} is", where=f"{file}: kind")
        followed = session.engine.withdrawals.follow()
        receipt = session.engine.orders.amend(
            session.principal, id, document, text=wording, reference=reference, reason=reason
        )
        held = taken_hold(followed, receipt.committed, wait)
    _finish(receipt, held, wait, form)


@app.command("end")
def end(
    id: OrderArgument,
    reason: Annotated[str, typer.Option(help="Why; kept with the order.")],
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """End an order: a directive when a second person has approved, a licence (revoked), grant or override now."""
    with opened() as session:
        followed = session.engine.withdrawals.follow()
        receipt = session.engine.orders.end(session.principal, id, reason)
        held = taken_hold(followed, receipt.committed, wait)
    _finish(receipt, held, wait, form)


@app.command("preview")
def preview(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE.toml", help="The order to receive, or the new members of --amend.")
    ] = None,
    amended: Annotated[str | None, typer.Option("--amend", metavar="ORDER", help="Preview an amendment of it.")] = None,
    ended: Annotated[str | None, typer.Option("--end", metavar="ORDER", help="Preview its end or revocation.")] = None,
    days: DaysOption = 7,
    at_once: AtOnceOption = False,
    location: FromOption = None,
    html: HtmlOption = None,
    force: ForceOption = False,
    form: FormOption = None,
) -> None:
    """Show what an order, an amendment or an end would do to whom, and change nothing. The preview is logged."""
    if (file is None) != (ended is not None) or (amended is not None and ended is not None):
        raise InputRefused("give a file, a file with --amend ORDER, or --end ORDER", where="FILE.toml")
    kind, document = ("", {}) if file is None else read_order(file)

    def ask(session: Session, wanted: Wanted) -> Preview:
        previews, by = session.engine.foresight.previews, session.principal
        if ended is not None:
            return previews.end(by, ended, wanted=wanted)
        if amended is not None:
            return previews.amend(by, amended, document, kind=kind, wanted=wanted)
        return previews.receive(by, kind, document, wanted=wanted)

    show_preview(ask, days=days, at_once=at_once, location=location, html=html, force=force, form=form)


@app.command("list")
def list_orders(
    kind: Annotated[OrderKind | None, typer.Option(help="Only directive, licence, grant or override.")] = None,
    status: Annotated[OrderStatus | None, typer.Option(help="Only in_force, ended or revoked.")] = None,
    form: FormOption = None,
) -> None:
    """List orders, ended ones too."""
    with opened() as session:
        found = session.engine.orders.list(session.principal, kind=kind, status=status)
    output.emit_rows([output.plain(order) for order in found], form, _COLUMNS)


@app.command("show")
def show(id: OrderArgument, form: FormOption = None) -> None:
    """Show one order with its history."""
    with opened() as session:
        order = session.engine.orders.show(session.principal, id)
    output.emit_record(output.plain(order), form)


def read_order(file: Path) -> tuple[str, dict[str, Any]]:
    """Return kind and members of an order file. Raises `InputRefused` naming the file."""
    members = toml_of(file)
    kind = members.pop("kind", None)
    if not isinstance(kind, str):
        raise InputRefused('needs kind = "directive", "licence", "grant" or "override"', where=str(file))
    return kind, members


def _finish(receipt: Receipt, held: dict[str, Any], wait: Wait, form: FormOption) -> None:
    """Write what took effect and what waits; a change that waits exits 8, one that has not taken hold as asked 7."""
    done = {} if receipt.committed is None else output.entry(receipt.committed)
    status = "committed" if receipt.proposal is None else "waiting" if receipt.committed is None else "partly waiting"
    output.emit_record({"order": receipt.id, "status": status, **done, "proposal": receipt.proposal, **held}, form)
    require_reached(held, wait)
    if receipt.proposal is not None:
        output.note(f"What loosens waits until another person has approved {receipt.proposal}.")
        raise typer.Exit(exits.Code.APPROVAL_MISSING)
