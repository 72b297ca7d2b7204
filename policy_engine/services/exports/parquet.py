"""Exports as Parquet, through DuckDB: typed columns, real lists, instants as timestamps.

Rules of the room: rows go to DuckDB as a file of JSON lines of its own, read with the types named here, so that nothing
is guessed; memory is bounded; DuckDB may load nothing from anywhere, and works in a folder of its owner alone.
Left to others: which entries (`source`), whole files (`files`). DuckDB is the extra `reports`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from policy_engine.errors import StartRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.exports.columns import COLUMNS, Kind, row_of
from policy_engine.services.exports.files import MODE
from policy_engine.services.exports.source import Entry

_READ_AS: Final = {
    Kind.TEXT: "VARCHAR",
    Kind.NUMBER: "BIGINT",
    Kind.INSTANT: "BIGINT",
    Kind.FLAG: "BOOLEAN",
    Kind.TEXTS: "VARCHAR[]",
    Kind.REASONS: 'STRUCT("rule" VARCHAR, "code" VARCHAR, "orders" VARCHAR[])[]',
}
_NAMES: Final = [column.name for column in COLUMNS]


def require_duckdb() -> Any:
    """Return the module. Raises `StartRefused` with how to get it when the extra is not installed."""
    try:
        import duckdb
    except ImportError:
        raise StartRefused(
            "Parquet is written by DuckDB, which is not installed; install policy-engine with its extra: "
            "pip install 'policy-engine[reports]'",
            where="--format parquet",
        ) from None
    return duckdb


def write_parquet(part: Path, pages: Iterable[Sequence[Entry]], limits: Limits = LIMITS) -> None:
    """Write a Parquet file with the columns of `columns`, zstd-compressed."""
    duckdb = require_duckdb()
    with tempfile.TemporaryDirectory(prefix=f"{part.name}.", dir=part.parent) as scratch:
        rows, made = Path(scratch) / "rows.jsonl", Path(scratch) / "made.parquet"
        _write_rows(rows, pages)
        settings = {
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "memory_limit": f"{limits.analytics_memory_bytes // 2**20}MiB",
            "temp_directory": scratch,
            "threads": "1",
        }
        with duckdb.connect(":memory:", config=settings) as connection:
            connection.execute(_copy(rows, made, limits))
        made.chmod(MODE)
        made.replace(part)


def _write_rows(rows: Path, pages: Iterable[Sequence[Entry]]) -> None:
    with rows.open("wb") as file:
        for page in pages:
            lines = [
                orjson.dumps(dict(zip(_NAMES, _typed(orjson.loads(public)), strict=True))) for _, _, public in page
            ]
            file.write(b"\n".join(lines))
            file.write(b"\n")


def _typed(public: dict[str, Any]) -> list[Any]:
    row = row_of(public)
    return [
        [{"rule": rule, "code": code, "orders": orders} for rule, code, orders in value]
        if value is not None and column.kind is Kind.REASONS
        else value
        for column, value in zip(COLUMNS, row, strict=True)
    ]


def _copy(rows: Path, part: Path, limits: Limits) -> str:
    types = ", ".join(f"{_quoted(column.name)}: {_quoted(_READ_AS[column.kind])}" for column in COLUMNS)
    shown = ", ".join(
        f'make_timestamptz("{column.name}") AS "{column.name}"' if column.kind is Kind.INSTANT else f'"{column.name}"'
        for column in COLUMNS
    )
    source = (
        f"read_json({_quoted(str(rows))}, format = 'newline_delimited', columns = {{{types}}}, "
        f"maximum_object_size = {limits.document_bytes * 4})"
    )
    return f"COPY (SELECT {shown} FROM {source}) TO {_quoted(str(part))} (FORMAT parquet, COMPRESSION zstd)"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
