"""`policy-engine audit`: read the log, and verify it."""

from __future__ import annotations

import typer

app = typer.Typer(name="audit", help="Read and verify the log.", no_args_is_help=True)
