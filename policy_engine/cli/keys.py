"""`policy-engine keys`: make, list and revoke API keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import SubjectType, instant_of, names_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import opened
from policy_engine.cli.withdrawing import Wait, WaitOption, require_reached, taken_hold

if TYPE_CHECKING:
    from policy_engine.services.keys import TokenIdentity

app = typer.Typer(name="keys", help="Make, list and revoke API keys.", no_args_is_help=True)

_COLUMNS: output.Columns = (
    ("key", "id"),
    ("begins", "prefix"),
    ("principal", "principal"),
    ("kind", "kind"),
    ("scopes", "scopes"),
    ("tenants", lambda row: "all" if row["tenants"] is None else row["tenants"]),
    ("supplies", "supplies"),
    ("issuer", "issuer"),
    ("subject", "subject"),
    ("expires", "expires_at"),
    ("revoked", "revoked_at"),
)


@app.command("create")
def create(
    names: Annotated[list[str], typer.Argument(metavar="PRINCIPAL…", help="Whose key; with --first, two or more.")],
    first: Annotated[
        bool,
        typer.Option(
            "--first",
            help="Make the first keys, of at least two persons, while no person has one; --scopes alone goes with it.",
        ),
    ] = False,
    kind: Annotated[SubjectType, typer.Option(help="Whose key it is: person or service.")] = SubjectType.PERSON,
    scopes: Annotated[list[str] | None, typer.Option("--scopes", help="Scopes, separated by commas.")] = None,
    tenants: Annotated[
        list[str] | None, typer.Option("--tenants", help="Tenants it is bounded to, separated by commas; else all.")
    ] = None,
    supplies: Annotated[
        list[str] | None,
        typer.Option(
            "--supplies",
            help="Facts it may supply, separated by commas: location, serving_region; * for a plain Casbin folder.",
        ),
    ] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends, such as 2027-01-01T00:00:00Z.")] = None,
    key_hash: Annotated[
        str | None, typer.Option("--hash", help="SHA-256 of a key text its owner made; then none is printed.")
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(metavar="URL", help="With --subject: let in by tokens of this issuer, not by a key.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="ID", help="With --issuer: whom its tokens must be about, exactly.")
    ] = None,
    form: FormOption = None,
) -> None:
    """Make a key, or let in by tokens. A key is printed this once; it works when a second person has approved it."""
    from policy_engine.core.decision import PrincipalKind
    from policy_engine.errors import InputRefused
    from policy_engine.services.keys import KeyRequest

    if not first and len(names) != 1:
        raise InputRefused("name one principal, or several with --first", where="PRINCIPAL")
    identity = _identity(issuer, subject)
    if identity is not None and (first or key_hash is not None):
        raise InputRefused("makes no key, so it goes with neither --first nor --hash", where="--issuer")
    if first:
        service_asked = kind is SubjectType.SERVICE
        bounds = {"--kind": service_asked, "--tenants": tenants, "--supplies": supplies, "--expires": expires}
        _require_unbounded({**bounds, "--hash": key_hash})
    with opened() as session:
        service = session.engine.keys
        if first:
            chosen = {"scopes": names_of(scopes)} if scopes else {}
            made: Any = service.create_first(names, **chosen)
        else:
            request = KeyRequest(
                principal=names[0],
                kind=PrincipalKind(kind),
                scopes=names_of(scopes),
                tenants=names_of(tenants) if tenants else None,
                supplies=names_of(supplies),
                expires_at=instant_of(expires, "--expires"),
                identity=identity,
            )
            made = (service.create(session.principal, request, key_hash=key_hash),)
    rows = [output.plain(key) for key in made]
    output.emit_rows(rows, form, (("key", "id"), ("principal", "principal"), ("text", "secret"), ("waits", "proposal")))
    if not first:
        output.note(f"The key works when a second person has approved {made[0].proposal}.")
        raise typer.Exit(exits.Code.APPROVAL_MISSING)


def _require_unbounded(bounds: Mapping[str, Any]) -> None:
    """Raise `InputRefused` for an option that the first keys could not heed: they would be larger than was asked."""
    from policy_engine.errors import InputRefused

    for option, given in bounds.items():
        if given:
            message = "does not go with --first, whose keys are of persons, for every tenant and without an end"
            raise InputRefused(f"{message}; leave it out, and have a bounded key approved later", where=option)


def _identity(issuer: str | None, subject: str | None) -> TokenIdentity | None:
    """Return the token identity of the two options, `None` without either."""
    from policy_engine.errors import InputRefused
    from policy_engine.services.keys import TokenIdentity

    if issuer is None and subject is None:
        return None
    if issuer is None or subject is None:
        raise InputRefused("must be given together: a subject is somebody of one issuer", where="--issuer, --subject")
    return TokenIdentity(issuer, subject)


@app.command("list")
def list_keys(form: FormOption = None) -> None:
    """List keys: all of them with keys:write or audit:read, else your own. No key's text is kept."""
    with opened() as session:
        rows = [output.plain(key) for key in session.engine.keys.list(session.principal)]
    output.emit_rows(rows, form, _COLUMNS)


@app.command("revoke")
def revoke(
    id: Annotated[str, typer.Argument(metavar="KEY", help="The id of the key, such as key-1f0c9a3b5d7e.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the revocation.")] = "",
    wait: WaitOption = Wait.COMMITTED,
    form: FormOption = None,
) -> None:
    """Revoke a key at once."""
    with opened() as session:
        followed = session.engine.withdrawals.follow()
        committed = session.engine.keys.revoke(session.principal, id, reason)
        held = taken_hold(followed, committed, wait)
    output.emit_record({"key": id, "status": "revoked", **output.entry(committed), **held}, form)
    require_reached(held, wait)
