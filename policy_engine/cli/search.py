"""`policy-engine who-can` and `what-can`: searches that agree with single decisions."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.output import FormOption


def who_can(
    model: Annotated[str, typer.Option(help="The id or alias of the model.")],
    form: FormOption = None,
) -> None:
    """List who may use a model."""


def what_can(
    id: Annotated[str, typer.Argument(metavar="SUBJECT", help="The id of the person or service.")],
    form: FormOption = None,
) -> None:
    """List what a subject may use."""
