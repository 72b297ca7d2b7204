"""What a PostgreSQL server and a role must be like before anything is promised on them.

Rules of the room: the start is refused, with the setting and how to mend it, unless commits are durable (`fsync`,
`full_page_writes`, `synchronous_commit`), the server is a primary of a version that we know, and the role can do what
it is for and nothing beside: a writer that could edit entries, or make changes, is refused. Whoever has no synchronous
standby is warned: a lost disk is a lost log. Each new connection is checked, because settings change under us; the
functions check the settings of durability again at every batch.
Left to others: granting (`migrations`), reading these sentences (`docs/operations.md` lists them).
"""

from __future__ import annotations

from typing import Any, LiteralString

import structlog

from policy_engine.errors import StartRefused
from policy_engine.store.pgsessions import SCHEMA_NAME, Connection

VERSION_MIN = 140_000
"""PostgreSQL 14, the oldest that its makers still mend."""

WRITER = "policy_engine_writer"
OPERATOR = "policy_engine_operator"
SEQUENCER = "policy_engine_sequencer"

_FOR = {
    WRITER: ("append", "POLICY_ENGINE_DATABASE"),
    OPERATOR: ("change", "POLICY_ENGINE_OPERATOR_DATABASE"),
    SEQUENCER: ("integrate", "POLICY_ENGINE_SEQUENCER_DATABASE"),
}
"""What each role is for, and the setting that names its login."""

_NO_STANDBY = "synchronous_standby_names is empty: a lost disk is a lost log; name a synchronous standby"

log = structlog.get_logger(__name__)

_SETTINGS: LiteralString = (
    "SELECT current_setting('server_version_num')::int, current_setting('fsync'), current_setting('full_page_writes'),"
    " current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),"
    " pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('default_transaction_isolation')"
)

_ALMIGHTY: LiteralString = (
    "SELECT bool_or(r.rolsuper OR r.rolname IN ('pg_write_server_files', 'pg_execute_server_program')"
    # Before PostgreSQL 16 whoever makes roles makes itself a member of any.
    " OR (r.rolcreaterole AND current_setting('server_version_num')::int < 160000))"
    " FROM pg_roles r WHERE pg_has_role(r.oid, 'MEMBER')"
)
_FORBIDDEN: LiteralString = (
    # Each is read once: a new session reads slowly of what a database holds, and everybody waits for it.
    "WITH roles AS MATERIALIZED (SELECT oid FROM pg_roles WHERE pg_has_role(oid, 'MEMBER')),"
    " relations AS MATERIALIZED (SELECT oid, relname FROM pg_class"
    " WHERE relnamespace = to_regnamespace(%(schema)s) AND relkind IN ('r', 'p', 'v', 'm', 'f')),"
    " functions AS MATERIALIZED (SELECT oid, proname FROM pg_proc WHERE pronamespace = to_regnamespace(%(schema)s)),"
    " callable AS MATERIALIZED (SELECT f.oid, f.proname FROM functions f CROSS JOIN roles r"
    " WHERE has_function_privilege(r.oid, f.oid, 'EXECUTE'))"
    " SELECT has_schema_privilege(%(schema)s, 'USAGE'),"
    " (SELECT min(c.relname::text) FROM relations c CROSS JOIN roles r"
    " WHERE has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
    " OR has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE, REFERENCES')),"
    " (SELECT bool_or(has_schema_privilege(r.oid, %(schema)s, 'CREATE')) FROM roles r),"
    " (SELECT bool_or(has_function_privilege(oid, 'EXECUTE')) FROM functions WHERE proname = %(own)s),"
    " (SELECT coalesce(array_agg(DISTINCT proname::text), '{}') FROM callable),"
    " (SELECT min(proname::text) FROM callable WHERE NOT has_function_privilege(%(role)s::name, oid, 'EXECUTE'))"
)


def check_server(connection: Connection) -> bool:
    """Raise `StartRefused` unless commits on this connection are durable; return whether a standby has them too."""
    row = connection.execute(_SETTINGS).fetchone()
    version, fsync, full_pages, commit, standbys, replica, read_only, isolation = row or (0,) * 8
    if version < VERSION_MIN:
        raise _refused("the server is older than PostgreSQL 14; upgrade it", "server_version")
    if replica:
        raise _refused("the server is a read replica; name the primary in POLICY_ENGINE_DATABASE", "pg_is_in_recovery")
    if read_only != "off":
        raise _refused(
            "transactions are read-only; set default_transaction_read_only = off", "default_transaction_read_only"
        )
    if fsync != "on":
        raise _refused("fsync is off, so a commit may be lost with the power; set fsync = on", "fsync")
    if full_pages != "on":
        raise _refused(
            "full_page_writes is off, so a crash may tear pages; set full_page_writes = on", "full_page_writes"
        )
    if commit not in ("on", "remote_apply"):
        raise _refused(
            f"synchronous_commit is {commit}, so a commit returns before it is durable; set synchronous_commit = on "
            "(or remote_apply) for the server, the database and the role",
            "synchronous_commit",
        )
    if isolation != "read committed":
        raise _refused(
            "the fence needs default_transaction_isolation = 'read committed'; set it for the role",
            "default_transaction_isolation",
        )
    return bool(standbys)


def warn_without_standby(standby: bool) -> None:
    """Warn, once per start, that one lost disk would be a lost log."""
    if not standby:
        log.warning("postgresql.no-synchronous-standby", message=_NO_STANDBY)


def check_role(connection: Connection, role: str) -> None:
    """Raise `StartRefused` unless the login may do what `role` is for, and cannot write past its functions.

    What counts is what it may do as any role that it can become, inherited or not.
    """
    own, setting = _FOR[role]
    if _one(connection, _ALMIGHTY):
        raise StartRefused(
            "the login is a superuser, or can become one or a member of any role, and may edit the log; make a login "
            f"with `GRANT {role} TO` it",
            where=setting,
        )
    if _one(connection, "SELECT pg_has_role('policy_engine_owner', 'MEMBER')"):
        raise StartRefused(
            f"the login is a member of policy_engine_owner, who may edit the log; grant it {role} instead",
            where=setting,
        )
    names = {"schema": SCHEMA_NAME, "own": own, "role": role}
    row = connection.execute(_FORBIDDEN, names).fetchone()
    enters, writable, makes, may_own, callable_, beside = row or (False, None, None, False, (), None)
    if not enters:
        raise _lacking(role, setting)
    if writable:
        raise StartRefused(
            f"the login may write to the table {writable} past the functions; revoke everything but SELECT from it",
            where=setting,
        )
    if makes:
        raise StartRefused(
            f"the login may make objects in the schema {SCHEMA_NAME}; revoke CREATE on it", where=setting
        )
    if not may_own:
        raise _lacking(role, setting)
    _check_functions(frozenset(callable_), role, setting)
    if beside:
        raise StartRefused(
            f"the login may call {SCHEMA_NAME}.{beside}, which {role} may not; revoke EXECUTE on it", where=setting
        )


def _check_functions(may: frozenset[str], role: str, setting: str) -> None:
    """Raise `StartRefused` when the login may call what only another role is for."""
    if "integrate" in may and (role != SEQUENCER or "append" in may or "change" in may):
        raise StartRefused(
            "the login may integrate the tree and write to the log; keep policy_engine_sequencer for the login in "
            "POLICY_ENGINE_SEQUENCER_DATABASE, and grant that one nothing else",
            where=setting,
        )
    if role == WRITER and "change" in may:
        raise StartRefused(
            "the login may also change orders, facts and keys; keep policy_engine_operator for the login in "
            "POLICY_ENGINE_OPERATOR_DATABASE",
            where=setting,
        )
    if role == OPERATOR and "append" in may:
        raise StartRefused(
            "the login may also append decisions; keep policy_engine_writer for the login in POLICY_ENGINE_DATABASE",
            where=setting,
        )


def _lacking(role: str, setting: str) -> StartRefused:
    return StartRefused(f"the login lacks the role it is for; GRANT {role} TO it", where=setting)


def _one(connection: Connection, query: LiteralString) -> Any:
    row = connection.execute(query).fetchone()
    return None if row is None else row[0]


def _refused(message: str, where: str) -> StartRefused:
    return StartRefused(message, where=where)
