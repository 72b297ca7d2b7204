"""The command `policy-engine`: its verbs, and the one place where an error becomes an exit code.

Rules of the room: verb groups are light to import; the engine and its libraries are imported inside a command, so
that help and usage errors answer at once. Left to others: what each verb does (the module of its group).
"""

from __future__ import annotations

import gc
import re
import sys
from typing import Any, Final

import typer
from typer.core import TyperGroup

from policy_engine.cli import (  # noqa: F401  these put their commands on `audit.app`: audit*
    approvals,
    audit,
    auditerasure,
    auditexport,
    auditprove,
    auditquery,
    auditquestions,
    auditrecover,
    auditreplay,
    auditreport,
    audittimeline,
    cells,
    check,
    demo,
    doctor,
    facts,
    keys,
    models,
    orders,
    pep,
    policy,
    probe,
    process,
    search,
    serve,
    switches,
)

GARBAGE_OBJECTS: Final = 50_000
"""New objects between two looks of the collector: a seventh of a start went to looking at modules that stay."""

_HALVES: Final = re.compile("[\ud800-\udfff]")
"""Halves of surrogate pairs: as these the bytes of an argument arrive that are no UTF-8."""


class Guarded(TyperGroup):
    """The root of the commands: an error leaves as one sentence and its exit code, never as a traceback."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of a command. Bytes that are no text name nobody, and could be neither asked nor recorded."""
        for place, word in enumerate(args, start=1):
            if _HALVES.search(word):
                raise typer.BadParameter(f"word {place} of the command is not UTF-8 text; write it in UTF-8", ctx=ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, it leaves as a sentence and a code
            raise typer.Exit(process.failed(error)) from None


def make_app() -> typer.Typer:
    """Return the command line with every verb."""
    app = typer.Typer(
        cls=Guarded,
        name="policy-engine",
        help="Decides who may use which restricted AI model, and proves afterwards what it decided and why.",
        epilog=(
            "Exit codes: 0 ok or allow, 1 internal, 2 usage, 3 deny, 4 lint or load refused, 5 policy case failed, "
            "6 audit verification failed, 7 unreachable or stale, 8 approval missing, 9 bypass found. "
            "Settings are POLICY_ENGINE_DATABASE, _POLICIES, _KEY, _SERVING_REGION and others; see the reference."
        ),
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in (serve.serve, demo.demo, doctor.doctor, check.check, search.who_can, search.what_can, probe.probe):
        app.command()(command)
    for group in (policy, facts, models, keys, approvals, switches, orders, cells, audit, pep):
        app.add_typer(group.app)
    return app


app = make_app()


def main() -> None:
    """Run the command line of this process."""
    gc.set_threshold(GARBAGE_OBJECTS)
    process.begin()
    try:
        code = app()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:  # help, or what is wrong with the words, that could not be written
        code = process.failed(error)
    sys.exit(process.finished(code))


if __name__ == "__main__":
    main()
