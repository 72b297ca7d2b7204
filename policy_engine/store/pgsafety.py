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
_WRITABLE: LiteralString = (
    "SELECT min(c.relname::text) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN pg_roles r"
    " WHERE n.nspname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_has_role(r.oid, 'MEMBER')"
    " AND (has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
    " OR has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE, REFERENCES'))"
)
_MAKING: LiteralString = (
    "SELECT bool_or(has_schema_privilege(r.oid, %s, 'CREATE')) FROM pg_roles r WHERE pg_has_role(r.oid, 'MEMBER')"
)
_FUNCTIONS: LiteralString = " FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
_ITSELF: LiteralString = (
    "SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE'))" + _FUNCTIONS + " WHERE n.nspname = %s AND p.proname = %s"
)
_BECOME: LiteralString = (
    "SELECT bool_or(has_function_privilege(r.oid, p.oid, 'EXECUTE'))"
    + _FUNCTIONS
    + " CROSS JOIN pg_roles r WHERE n.nspname = %s AND p.proname = %s AND pg_has_role(r.oid, 'MEMBER')"
)
_BESIDE: LiteralString = (
    "SELECT min(p.proname::text)" + _FUNCTIONS + " CROSS JOIN pg_roles r WHERE n.nspname = %s"
    " AND pg_has_role(r.oid, 'MEMBER') AND has_function_privilege(r.oid, p.oid, 'EXECUTE')"
    " AND NOT has_function_privilege(%s, p.oid, 'EXECUTE')"
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
    lacking = StartRefused(f"the login lacks the role it is for; GRANT {role} TO it", where=setting)
    if not _one(connection, "SELECT has_schema_privilege(%s, 'USAGE')", (SCHEMA_NAME,)):
        raise lacking
    writable = _one(connection, _WRITABLE, (SCHEMA_NAME,))
    if writable:
        raise StartRefused(
            f"the login may write to the table {writable} past the functions; revoke everything but SELECT from it",
            where=setting,
        )
    if _one(connection, _MAKING, (SCHEMA_NAME,)):
        raise StartRefused(
            f"the login may make objects in the schema {SCHEMA_NAME}; revoke CREATE on it", where=setting
        )
    if not _one(connection, _ITSELF, (SCHEMA_NAME, own)):
        raise lacking
    _check_functions(connection, role, setting)


def _check_functions(connection: Connection, role: str, setting: str) -> None:
    """Raise `StartRefused` when the login may call what its role may not."""
    may_append, may_change = _may(connection, "append"), _may(connection, "change")
    may_integrate = _may(connection, "integrate")
    if may_integrate and (role != SEQUENCER or may_append or may_change):
        raise StartRefused(
            "the login may integrate the tree and write to the log; keep policy_engine_sequencer for the login in "
            "POLICY_ENGINE_SEQUENCER_DATABASE, and grant that one nothing else",
            where=setting,
        )
    if role == WRITER and may_change:
        raise StartRefused(
            "the login may also change orders, facts and keys; keep policy_engine_operator for the login in "
            "POLICY_ENGINE_OPERATOR_DATABASE",
            where=setting,
        )
    if role == OPERATOR and may_append:
        raise StartRefused(
            "the login may also append decisions; keep policy_engine_writer for the login in POLICY_ENGINE_DATABASE",
            where=setting,
        )
    beside = _one(connection, _BESIDE, (SCHEMA_NAME, role))
    if beside:
        raise StartRefused(
            f"the login may call {SCHEMA_NAME}.{beside}, which {role} may not; revoke EXECUTE on it", where=setting
        )


def _may(connection: Connection, function: str) -> bool:
    return bool(_one(connection, _BECOME, (SCHEMA_NAME, function)))


def _one(connection: Connection, query: LiteralString, parameters: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(query, parameters or None).fetchone()
    return None if row is None else row[0]


def _refused(message: str, where: str) -> StartRefused:
    return StartRefused(message, where=where)
