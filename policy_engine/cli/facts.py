"""`policy-engine facts`: state what is known of persons and tenants, with where it comes from.

A value on the command line is JSON where it reads as such (`true`, `null`, `[…]`, `{…}`), else text, so that a country
code is always text. An import is JSON Lines: one object a line with `register`, `id`, `provenance` and the facts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from policy_engine.cli import output
from policy_engine.cli.options import BYTE_ORDER_MARK, once_each, unreadable
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened
from policy_engine.errors import InputRefused, TooLarge
from policy_engine.limits import LIMITS
from policy_engine.world import strict_json

app = typer.Typer(name="facts", help="State and see facts of persons and tenants.", no_args_is_help=True)

_COLUMNS: output.Columns = (("register", "register"), ("id", "id"), ("fact", "field"), ("expires", "expires_at"))
_FACTS: output.Columns = (
    ("fact", "fact"),
    ("value", "value"),
    ("method", "method"),
    ("assurance", "assurance"),
    ("verified", "verified_at"),
    ("expires", "expires_at"),
    ("verifier", "verifier"),
    ("reference", "reference"),
)

RegisterArgument = Annotated[str, typer.Argument(metavar="REGISTER", help="persons or tenants.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The id of the person or tenant.")]


@app.command("import")
def import_facts(
    file: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="JSON Lines; `-` reads standard input.")],
    register: Annotated[
        str | None, typer.Option(help="persons or tenants, for lines that do not name their register.")
    ] = None,
    form: FormOption = None,
) -> None:
    """Import facts: all lines or none. Lines that say what is held already are passed over."""
    with opened() as session, output.progress("importing facts") as report:
        done = session.engine.facts.import_rows(session.principal, _rows(file), report, register=register)
    entry = {} if done.committed is None else output.entry(done.committed)
    output.emit_record({"changed": done.changed_count, "unchanged": done.unchanged_count, **entry}, form)


@app.command("set")
def set_facts(
    register: RegisterArgument,
    id: IdArgument,
    facts: Annotated[
        list[str], typer.Argument(metavar="FACT=VALUE…", help="Such as us_status=lpr or vetted_partner=true.")
    ],
    method: Annotated[str | None, typer.Option(help="How it was found out, such as document-check.")] = None,
    assurance: Annotated[str | None, typer.Option(help="How sure, such as IAL2.")] = None,
    verified_at: Annotated[str | None, typer.Option(help="When, such as 2026-06-01T10:00:00Z.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="Until when it counts.")] = None,
    reference: Annotated[str | None, typer.Option(help="Where the evidence is filed.")] = None,
    form: FormOption = None,
) -> None:
    """Set facts of one person or tenant; those not named stay. Source and verifier are stamped from your key."""
    given = {
        "method": method,
        "assurance": assurance,
        "verified_at": verified_at,
        "expires_at": expires_at,
        "reference": reference,
    }
    provenance = {name: value for name, value in given.items() if value is not None}
    fields = once_each(map(_fact, facts), "FACT=VALUE", "a fact has one value")
    with opened() as session:
        committed = session.engine.facts.set_facts(session.principal, register, id, fields, provenance=provenance)
    output.emit_record({"status": "committed", "facts": sorted(fields), **output.entry(committed)}, form)


@app.command("show")
def show(register: RegisterArgument, id: IdArgument, form: FormOption = None) -> None:
    """Show the facts of a person or tenant with their provenance. Reading a person's is itself recorded."""
    with opened() as session:
        row = session.engine.facts.show(session.principal, register, id)
    facts = [{"fact": name, **output.plain(fact)} for name, fact in sorted(row.facts.items())]
    output.emit(output.plain(row), form, lambda: output.rows_table(facts, _FACTS))


@app.command("expiring")
def expiring(
    days: Annotated[int, typer.Option(help="How many days ahead.")] = 30,
    form: FormOption = None,
) -> None:
    """List facts that have expired, or will soon, the soonest first. The reading is itself recorded."""
    with opened() as session:
        rows = [output.plain(item) for item in session.engine.facts.expiring(session.principal, days)]
    output.emit_rows(rows, form, _COLUMNS)


def _fact(argument: str) -> tuple[str, Any]:
    name, equals, text = argument.partition("=")
    if not equals or not name:
        raise InputRefused("must be FACT=VALUE, such as us_status=lpr", where="FACT=VALUE")
    return name, _value(text, name)


def _value(text: str, name: str) -> Any:
    if text[:1] not in ("[", "{") and text not in ("true", "false", "null"):
        return text
    try:
        return strict_json(text)
    except ValueError:
        raise InputRefused("begins as JSON and is none", where=name) from None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file one by one. Raises `InputRefused` with file and line."""
    try:
        with nullcontext(sys.stdin) if str(file) == "-" else file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if number == 1 and line.startswith(BYTE_ORDER_MARK):
                    raise InputRefused("begins with a byte order mark; save it as UTF-8 without one", where=str(file))
                if line.strip():
                    yield _row(line, f"{file}:{number}")
    except (OSError, UnicodeDecodeError) as error:
        raise InputRefused(unreadable(error), where=str(file)) from None


def _row(line: str, where: str) -> dict[str, Any]:
    if len(line) > LIMITS.document_bytes:
        raise TooLarge(f"is longer than {LIMITS.document_bytes} bytes", where=where)
    try:
        value = strict_json(line)
    except ValueError:
        raise InputRefused("is not one JSON object without duplicate names", where=where) from None
    if not isinstance(value, dict):
        raise InputRefused("must be an object", where=where)
    return value
