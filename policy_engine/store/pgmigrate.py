"""Making the schema and the roles on PostgreSQL, and telling what state a database is in.

Rules: only `install` makes anything, and only its owner runs it: the engine's own logins may not. Roles belong to the
whole server; making one that is there is no error. Two installations at once wait for each other.
Left to others: what the migrations make (`migrations`), what a login may do (`pgsafety`).
"""

from __future__ import annotations

from sqlalchemy import Connection, Engine, NullPool, create_engine

from policy_engine.errors import StartRefused, StoreUnavailable
from policy_engine.store.migrate import SCHEMA, lacks_tables
from policy_engine.store.pgdriver import psycopg
from policy_engine.store.pgfaults import is_away, sentence, state_of
from policy_engine.store.pgsessions import SCHEMA_NAME, connect

OWNER = "policy_engine_owner"
ROLES = (OWNER, "policy_engine_writer", "policy_engine_operator", "policy_engine_sequencer", "policy_engine_auditor")
"""All without login: whoever runs the server grants them to logins."""

INSTALL = "python -m policy_engine.store.install postgresql://ADMIN@HOST/DATABASE"
"""The command that makes or migrates the schema."""

_PATIENCE_SECONDS = 60.0

_MAKE_ROLES = f"""
DO $$
DECLARE
    v_role text;
BEGIN
    FOREACH v_role IN ARRAY ARRAY{list(ROLES)!r} LOOP
        BEGIN
            IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = v_role) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', v_role);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another installation on this server was first
        END;
    END LOOP;
    IF NOT pg_has_role('{OWNER}', 'MEMBER') THEN
        EXECUTE format('GRANT {OWNER} TO %I', current_user);
    END IF;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO {OWNER}', current_database());
END $$;
SET LOCAL ROLE {OWNER};
CREATE SCHEMA IF NOT EXISTS {SCHEMA_NAME};
SET LOCAL search_path = {SCHEMA_NAME}, pg_temp;
"""


def make_engine(database: str) -> Engine:
    """Return an engine for whoever installs."""

    def begin() -> psycopg.Connection[tuple[object, ...]]:
        connection = connect(database, _PATIENCE_SECONDS)
        connection.autocommit = False
        return connection

    return create_engine("postgresql+psycopg://", creator=begin, poolclass=NullPool)


def enter_schema(connection: Connection) -> None:
    """Make the roles and the schema if they are not there, and go on as the owner, inside the transaction."""
    driver: psycopg.Connection[tuple[object, ...]] = connection.connection.driver_connection  # type: ignore[assignment]  # it is psycopg's
    driver.execute("SELECT pg_advisory_xact_lock(28773, 2)")
    driver.execute(_MAKE_ROLES.encode())


def check_ours(connection: Connection, newest: str) -> None:
    """Raise `StartRefused` when the schema that was entered belongs to somebody else, or a newer program made it."""
    driver: psycopg.Connection[tuple[object, ...]] = connection.connection.driver_connection  # type: ignore[assignment]  # it is psycopg's
    owned = driver.execute(
        "SELECT pg_get_userbyid(nspowner) = %s FROM pg_namespace WHERE nspname = %s", (OWNER, SCHEMA_NAME)
    ).fetchone()
    if owned != (True,):
        raise StartRefused(
            f"the schema {SCHEMA_NAME} belongs to another role; name another database, or make {OWNER} its owner "
            "if it is this program's",
            where="database",
        )
    if driver.execute("SELECT to_regclass('policy_engine.alembic_version') IS NULL").fetchone() != (True,):
        check_not_newer(driver, newest)


def check_not_newer(driver: psycopg.Connection[tuple[object, ...]], newest: str) -> str:
    """Return the migration that a database is at. Raises `StartRefused` when this program does not know it."""
    found = driver.execute("SELECT max(version_num) FROM policy_engine.alembic_version").fetchone()
    version = "" if found is None or found[0] is None else str(found[0])
    if version > newest:
        raise StartRefused("a newer program migrated this database; use that program", where="database")
    return version


def require_known(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Raise `StartRefused` for a database of a newer or much older program; write nothing.

    For whoever looks at it without opening a store. What somebody took out of it is said elsewhere.
    """
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (SCHEMA_NAME,)).fetchall()
    tables = {str(name) for (name,) in found}
    if "alembic_version" in tables and lacks_tables(tables, check_not_newer(connection, SCHEMA)):
        raise StartRefused(
            f"an older program made this database, and it is not migrated yet; its owner does: {INSTALL}",
            where="database",
        )


def refusal(error: Exception) -> StartRefused:
    """Return why an installation failed, as a refusal."""
    if state_of(error) == "42501":
        return StartRefused(
            "the login may not install; run this as an administrator of the server or a member of policy_engine_owner",
            where="database",
        )
    return StartRefused(sentence(error), where="database")


def read_schema(database: str, newest: str) -> bool:
    """Return whether the database is empty (no entry was ever written).

    Raises `StartRefused` when it is not at the schema of this program, `StoreUnavailable` when it cannot be reached.
    """
    try:
        with connect(database, _PATIENCE_SECONDS) as connection:
            there = connection.execute("SELECT to_regclass('policy_engine.alembic_version') IS NOT NULL").fetchone()
            if there != (True,):
                raise StartRefused(f"the database has no schema yet; its owner makes it: {INSTALL}", where="database")
            if check_not_newer(connection, newest) < newest:
                raise StartRefused(f"the database must be migrated; its owner does: {INSTALL}", where="database")
            empty = connection.execute("SELECT NOT EXISTS (SELECT 1 FROM policy_engine.heads)").fetchone()
            return empty == (True,)
    except psycopg.Error as error:
        refused = StoreUnavailable if is_away(error) else StartRefused
        raise refused(sentence(error), where="database") from error
