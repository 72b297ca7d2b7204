"""`policy-engine doctor`."""

from __future__ import annotations


def doctor() -> None:
    """Look at everything."""
