"""The driver of PostgreSQL, psycopg 3: imported here alone.

So whichever room of PostgreSQL is asked for first, a missing extra `postgres` is one sentence with the command that
installs it, and never an internal error. Left to others: connections (`pgsessions`), what its errors mean (`pgfaults`).
"""

from __future__ import annotations

from policy_engine.errors import StartRefused

try:
    import psycopg
    from psycopg.abc import PQGen
    from psycopg.conninfo import conninfo_to_dict
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
except ImportError:
    raise StartRefused(
        "PostgreSQL needs the extra `postgres`: pip install 'policy-engine[postgres]'", where="POLICY_ENGINE_DATABASE"
    ) from None

__all__ = ["PGDialect_psycopg", "PQGen", "conninfo_to_dict", "psycopg"]
