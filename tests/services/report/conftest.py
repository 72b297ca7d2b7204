"""The office of the tests in this folder."""

from __future__ import annotations

from tests.services.exports.conftest import office

__all__ = ["office"]
