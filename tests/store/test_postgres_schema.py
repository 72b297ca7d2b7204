"""The schema on PostgreSQL: what the migrations build is what the metadata says, and installing is the owner's."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import inspect, text

from policy_engine.errors import InputRefused, StartRefused
from policy_engine.store.migrate import SCHEMA, install, migrations_folder, prepare
from policy_engine.store.pgmigrate import enter_schema, make_engine
from policy_engine.store.pgreading import looked_at
from policy_engine.store.tables import metadata
from tests.postgresql import Server
from tests.store.samples import Clock, PostgresDatabase, genesis

ROOT = Path(__file__).parents[2]
ONLY_HERE = {"fence", "alembic_version"}
"""Tables that SQLite has no need of."""


def tables_of(database: str, schema: str) -> dict[str, Any]:
    """Return every table of a schema: columns with type, collation and nullability, keys and constraints."""
    engine = make_engine(database)
    try:
        with engine.connect() as connection:
            looking = inspect(connection)
            return {
                name: {
                    "columns": [
                        (column["name"], str(column["type"]), column["nullable"])
                        for column in looking.get_columns(name, schema)
                    ],
                    "collations": connection.execute(
                        text(
                            "SELECT column_name, collation_name FROM information_schema.columns"
                            " WHERE table_schema = :schema AND table_name = :name ORDER BY 1"
                        ),
                        {"schema": schema, "name": name},
                    ).all(),
                    "key": looking.get_pk_constraint(name, schema)["constrained_columns"],
                    "unique": sorted(
                        (found["name"] or "", found["column_names"])
                        for found in looking.get_unique_constraints(name, schema)
                    ),
                    "checks": sorted(
                        (found["name"] or "", found["sqltext"]) for found in looking.get_check_constraints(name, schema)
                    ),
                }
                for name in looking.get_table_names(schema)
            }
    finally:
        engine.dispose()


def test_migrations_build_what_the_metadata_says(postgres_database: PostgresDatabase) -> None:
    """Tables, columns, types, collations, keys and constraints are the same in both; drift fails here."""
    url = postgres_database.server.url(postgres_database.name)
    engine = make_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE SCHEMA created"))
        connection.execute(text("SET LOCAL search_path = created"))
        metadata.create_all(connection)
    engine.dispose()
    migrated = tables_of(url, "policy_engine")
    assert migrated.keys() >= ONLY_HERE
    assert {name: table for name, table in migrated.items() if name not in ONLY_HERE} == tables_of(url, "created")


def test_only_the_owner_installs_and_a_start_never_does(server: Server) -> None:
    """A start on a database without the schema is refused with the command; the engine's logins cannot install it."""
    name = server.new_database("template1")
    try:
        with pytest.raises(StartRefused, match=r"policy_engine\.store\.install"):
            prepare(server.url(name, "pe_writer"))
        with pytest.raises(StartRefused):
            install(server.url(name, "pe_writer"))
        install(server.url(name))
        install(server.url(name))
        assert prepare(server.url(name, "pe_writer")) is True
    finally:
        server.drop_database(name)


def test_a_schema_of_somebody_else_is_not_taken(server: Server) -> None:
    """A schema of the same name that another role owns is refused by a sentence that says so, and not touched."""
    name = server.new_database("template1")
    try:
        with server.admin(name) as admin:
            admin.execute("CREATE SCHEMA policy_engine; CREATE TABLE policy_engine.entries (mine int)")
            with pytest.raises(StartRefused, match="belongs to another role"):
                install(server.url(name))
            tables = admin.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'policy_engine'").fetchall()
        assert tables == [("entries",)]
    finally:
        server.drop_database(name)


def test_the_commands_that_install(server: Server) -> None:
    """The module and Alembic's own command line install; a file and a missing word are refused with a sentence."""
    for command in (["-m", "policy_engine.store.install"], ["-m", "alembic", "upgrade", "head"]):
        name = server.new_database("template1")
        url = server.url(name)
        try:
            words = [*command, url] if "alembic" not in command else command
            environment = {**os.environ, "POLICY_ENGINE_DATABASE": url}
            subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, capture_output=True)
            assert prepare(server.url(name, "pe_writer")) is True
        finally:
            server.drop_database(name)
    for words in ([], ["sqlite:///x.db"]):
        command = [sys.executable, "-m", "policy_engine.store.install", *words]
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert refused.returncode == 2
        assert "postgresql://" in refused.stderr or "PostgreSQL" in refused.stderr
    with pytest.raises(InputRefused):
        install("sqlite:///x.db")


def test_a_database_is_told_by_its_migration(postgres_database: PostgresDatabase) -> None:
    """An empty database is told from one with entries; an older and a newer schema are refused."""
    assert prepare(postgres_database.writer) is True
    genesis(postgres_database.open(Clock()))
    assert prepare(postgres_database.writer) is False
    with postgres_database.server.admin(postgres_database.name) as connection:
        for version, words in (("9999", "newer program"), ("0001", "must be migrated")):
            connection.execute("UPDATE policy_engine.alembic_version SET version_num = %s", (version,))
            with pytest.raises(StartRefused, match=words):
                prepare(postgres_database.writer)
            if version > SCHEMA:
                with pytest.raises(StartRefused, match=words):
                    install(postgres_database.server.url(postgres_database.name))
        connection.execute("UPDATE policy_engine.alembic_version SET version_num = %s", (SCHEMA,))


@pytest.mark.parametrize(("version", "words"), [("0004", "older program made"), ("9999", "newer program"), ("", "")])
def test_a_database_of_another_program_is_not_called_whole_or_changed(server: Server, version: str, words: str) -> None:
    """Who looks at it without opening it is told which program it is for, and not what its tables seem to say."""
    name = server.new_database("template1")
    engine = make_engine(server.url(name))
    try:
        with engine.connect() as connection:
            enter_schema(connection)
            config = Config()
            config.set_main_option("script_location", str(migrations_folder()))
            config.attributes["connection"] = connection
            alembic.upgrade(config, "0004" if version == "0004" else "head")
            connection.commit()
        with server.admin(name) as admin:
            if version == "9999":
                admin.execute("UPDATE policy_engine.alembic_version SET version_num = '9999'")
        for login in ("pe_writer", "pe_auditor"):
            refused = pytest.raises(StartRefused, match=words) if words else nullcontext()
            with refused, looked_at(server.url(name, login)) as (view, _):
                assert list(view.heads()) == []
    finally:
        engine.dispose()
        server.drop_database(name)
