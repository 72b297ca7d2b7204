"""Both stores for the tests of this folder; whatever a test wrote must verify."""

from __future__ import annotations

from tests.store.conftest import clock, database, postgres_database, server, sqlite_database

__all__ = ["clock", "database", "postgres_database", "server", "sqlite_database"]
