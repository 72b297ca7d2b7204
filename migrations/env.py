"""Runs the migrations: on the connection that `policy_engine.store.migrate` hands over, or on `-x database=URL`."""

from __future__ import annotations

import os

from alembic import context
from sqlalchemy import Connection

from policy_engine.store.sessions import database_path, is_postgres, make_engine
from policy_engine.store.tables import metadata


def run(connection: Connection) -> None:
    """Run on a connection; whoever opened its transaction commits it."""
    schema = "policy_engine" if connection.dialect.name == "postgresql" else None
    context.configure(
        connection=connection, target_metadata=metadata, transactional_ddl=True, version_table_schema=schema
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if context.is_offline_mode():
    raise SystemExit("migrations run on a database; the offline mode is not supported")
if given is not None:
    run(given)
else:
    named = context.get_x_argument(as_dictionary=True).get("database") or os.environ.get("POLICY_ENGINE_DATABASE")
    if not named:
        raise SystemExit("name the database: alembic -x database=sqlite:///engine.db upgrade head")
    if is_postgres(named):
        from policy_engine.store import pgmigrate

        engine = pgmigrate.make_engine(named)
    else:
        engine = make_engine(database_path(named), create=True)
    with engine.connect() as connection:
        if is_postgres(named):
            pgmigrate.enter_schema(connection)
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        run(connection)
        connection.commit()
    engine.dispose()
