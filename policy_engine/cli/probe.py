"""`policy-engine probe URL`: the bypass suite against a live gateway.

Credentials come from files or the environment, never from the command line, where every user of the machine sees them.
Left to others: the suite (`policy_engine.probe`), tables and forms (`probeshown`).
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import names_of, text_of
from policy_engine.cli.output import ProbeForm
from policy_engine.cli.session import read_settings
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from policy_engine.probe import Credentials, Report, Switching

    Lever = Callable[[], None]

CREDENTIAL: Final = "POLICY_ENGINE_PROBE_CREDENTIAL"


class ProbeDialect(StrEnum):
    """How the plain question is put."""

    AUTO = "auto"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"


Names = list[str] | None
UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Where the gateway is asked.")]
AllowedOption = Annotated[
    list[str], typer.Option("--allowed", metavar="MODEL", help="A model that the caller may use. Required.")
]
ForbiddenOption = Annotated[
    list[str], typer.Option("--forbidden", metavar="MODEL", help="A model that the caller may not use. Required.")
]
AliasOption = Annotated[Names, typer.Option("--alias", metavar="MODEL", help="Another name of a forbidden model.")]
DerivativeOption = Annotated[
    Names, typer.Option("--derivative", metavar="MODEL", help="A model made from a forbidden one.")
]
FailingOption = Annotated[
    str, typer.Option("--failing", metavar="MODEL", help="A model that the caller may use and whose upstream fails.")
]
PrivilegedOption = Annotated[
    Names,
    typer.Option("--privileged", metavar="ID", help="Who may use the forbidden model; tried in identity headers."),
]
CredentialOption = Annotated[
    Path | None,
    typer.Option("--credential-file", metavar="FILE", help=f"The caller's credential; by default ${CREDENTIAL}."),
]
HeaderOption = Annotated[
    str, typer.Option("--credential-header", metavar="NAME", help="The header that carries it, as a bearer token.")
]
ForeignOption = Annotated[
    Path | None, typer.Option("--foreign-file", metavar="FILE", help="A credential that is good elsewhere, not here.")
]
ExpiredOption = Annotated[
    Path | None, typer.Option("--expired-file", metavar="FILE", help="A credential that was good and has expired.")
]
DownOption = Annotated[
    str, typer.Option("--authorizer-down", metavar="CMD", help="Command or URL that takes the authorizer away.")
]
UpOption = Annotated[str, typer.Option("--authorizer-up", metavar="CMD", help="Command or URL that brings it back.")]
EngineOption = Annotated[str, typer.Option("--engine", metavar="URL", help="The engine at which to engage a switch.")]
OperatorOption = Annotated[
    Path | None,
    typer.Option("--operator-key", metavar="FILE", help="A key that may engage it; by default POLICY_ENGINE_KEY."),
]
SwitchModelOption = Annotated[
    str,
    typer.Option("--switch-model", metavar="MODEL", help="The model to switch, for a minute. The caller may use it."),
]
TokensOption = Annotated[int, typer.Option("--stream-tokens", min=2, help="Tokens of the stream that is to be cut.")]
OnlyOption = Annotated[Names, typer.Option("--only", metavar="CHECK", help="Run these checks alone, and `plain`.")]
SkipOption = Annotated[Names, typer.Option("--skip", metavar="CHECK", help="Leave these checks out.")]
RequestsOption = Annotated[int, typer.Option("--requests", min=4, help="The most requests that may be sent.")]
PauseOption = Annotated[float, typer.Option("--pause", min=0, help="Seconds between two requests.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that one answer may take.")]
CaOption = Annotated[Path | None, typer.Option("--ca-file", metavar="FILE", help="Certificates to trust, as PEM.")]
OutputOption = Annotated[
    ProbeForm | None,
    typer.Option("--output", "-o", help="table, json or junit; by default a table on a terminal, JSON when piped."),
]


def probe(
    url: UrlArgument,
    allowed: AllowedOption,
    forbidden: ForbiddenOption,
    alias: AliasOption = None,
    derivative: DerivativeOption = None,
    failing: FailingOption = "",
    privileged: PrivilegedOption = None,
    dialect: Annotated[ProbeDialect, typer.Option(help="How the plain question is put.")] = ProbeDialect.AUTO,
    credential_file: CredentialOption = None,
    credential_header: HeaderOption = "Authorization",
    foreign_file: ForeignOption = None,
    expired_file: ExpiredOption = None,
    authorizer_down: DownOption = "",
    authorizer_up: UpOption = "",
    engine: EngineOption = "",
    operator_key: OperatorOption = None,
    switch_model: SwitchModelOption = "",
    stream_tokens: TokensOption = LIMITS.probe_stream_tokens,
    only: OnlyOption = None,
    skip: SkipOption = None,
    requests: RequestsOption = LIMITS.probe_requests_count,
    pause: PauseOption = LIMITS.probe_pause_seconds,
    timeout: TimeoutOption = LIMITS.probe_answer_seconds,
    ca_file: CaOption = None,
    form: OutputOption = None,
) -> None:
    """Try to get past a live gateway to a model that the caller may not use; see docs/probe.md.

    Exits 9 when there is a hole, 7 when a check could not be carried out or says nothing, 0 when all passed.
    """
    from policy_engine.cli.probeshown import show
    from policy_engine.probe import PRIVILEGED, Models, Target, run

    models = Models(names_of(allowed), names_of(forbidden), names_of(alias), names_of(derivative), failing)
    levers = _levers(authorizer_down, authorizer_up)
    target = Target(
        url,
        models,
        _credentials(credential_file, credential_header, foreign_file, expired_file),
        dialect.value,
        names_of(privileged) or PRIVILEGED,
        *levers,
        _switching(engine, operator_key, switch_model),
        only=frozenset(names_of(only)),
        skip=frozenset(names_of(skip)),
        requests_count=requests,
        pause_seconds=pause,
        timeout_seconds=timeout,
        stream_tokens=stream_tokens,
        ca_file=None if ca_file is None else str(ca_file),
    )
    with output.progress("probe") as progress:
        report = run(target, progress)
    show(report, form)
    _note(report, form)
    _exit(report)


def _note(report: Report, form: ProbeForm | None) -> None:
    """Say on standard error why the run is worth nothing; and, where no table shows it, each hole and each doubt."""
    from policy_engine.probe import Outcome

    if report.problem:
        output.note(f"policy-engine: the probe could not be carried out: {report.problem}")
    if form is ProbeForm.TABLE or (form is None and sys.stdout.isatty()):
        return
    doubts = () if report.problem else (*report.of(Outcome.UNCLEAR), *report.of(Outcome.UNPROBED))
    for result in (*report.holes, *doubts):
        fix = f". Fix: {result.fix}" if result.fix else ""
        output.note(f"policy-engine: {result.outcome}: {result.check}: {result.finding}{fix}")


def _exit(report: Report) -> None:
    """End with the code of what was found."""
    if report.holes:
        raise typer.Exit(exits.Code.BYPASS_FOUND)
    if not report.complete:
        raise typer.Exit(exits.Code.UNREACHABLE)


def _credentials(own: Path | None, header: str, foreign: Path | None, expired: Path | None) -> Credentials:
    from policy_engine.probe import Credentials

    given = os.environ.get(CREDENTIAL, "").strip() if own is None else _secret(own, "--credential-file")
    return Credentials(given, _secret(foreign, "--foreign-file"), _secret(expired, "--expired-file"), header)


def _secret(file: Path | None, where: str) -> str:
    return "" if file is None else text_of(file, where).strip()


def _levers(down: str, up: str) -> tuple[Lever | None, Lever | None]:
    from policy_engine.probe.levers import lever

    given = ((down, "--authorizer-down"), (up, "--authorizer-up"))
    away, back = (lever(text, where) if text else None for text, where in given)
    return away, back


def _switching(engine: str, key: Path | None, model: str) -> Switching | None:
    """Return what may be switched, `None` without an engine. Raises `InputRefused` for a part without the rest."""
    from policy_engine.probe import Switching

    if not engine:
        if key is not None or model:
            raise InputRefused("is needed to engage a switch", where="--engine")
        return None
    if not model:
        raise InputRefused("is needed: the model that the switch stops, for a minute", where="--switch-model")
    if key is not None:
        return Switching(engine, _secret(key, "--operator-key"), model)
    own = read_settings().key
    if own is None or not own.get_secret_value():
        raise InputRefused("is needed, or POLICY_ENGINE_KEY: whoever may engage a switch", where="--operator-key")
    return Switching(engine, own.get_secret_value(), model)
