"""`policy-engine-witness --config FILE` serves; `policy-engine-witness new-key NAME FILE` makes the witness's key."""

from __future__ import annotations

import argparse
import logging
import os
import secrets
import signal
import sqlite3
import sys
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from policy_engine_witness.notes import LOG_KEY, Cosigner, Key, is_name, read_cosigner, read_key
from policy_engine_witness.record import Record
from policy_engine_witness.server import Server, Witness

USAGE = 2
REFUSED = 4


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. Exits 2 for wrong usage and 4 when the witness cannot start as it is configured."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["new-key"]:
        parser = argparse.ArgumentParser("policy-engine-witness new-key", description="Make the witness's key.")
        parser.add_argument("name", metavar="NAME", help="as a URL without scheme, such as witness.example/one")
        parser.add_argument("file", metavar="FILE", type=Path, help="new file for the private key, mode 0600")
        named = parser.parse_args(given[1:])
        _new_key(named.name, named.file)
        return
    parser = argparse.ArgumentParser(
        "policy-engine-witness",
        description="Cosign checkpoints of transparency logs. `policy-engine-witness new-key NAME FILE` makes a key.",
    )
    parser.add_argument("--config", required=True, type=Path, metavar="FILE", help="TOML: key, database, [[log]]")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=8182, type=int)
    _serve(parser.parse_args(given))


def read_config(path: Path) -> Witness:
    """Return the witness that a file configures; paths in it are beside it.

    Raises `ValueError`, `OSError`, and `sqlite3.Error` for a database that cannot be used.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    logs: dict[str, list[Key]] = {}
    entries = document.get("log", [])
    if set(document) != {"key", "database", "log"} or not isinstance(entries, list):
        raise ValueError("the file has `key`, `database` and at least one [[log]], and nothing else")
    for entry in entries:
        if not isinstance(entry, dict):
            raise ValueError("each log is a table [[log]]")
        origin, keys = entry.get("origin"), entry.get("keys")
        if set(entry) != {"origin", "keys"} or not isinstance(origin, str) or not isinstance(keys, list) or not keys:
            raise ValueError("each [[log]] has an `origin` and a list of `keys`, and nothing else")
        if not origin or "\n" in origin or origin in logs:
            raise ValueError("each [[log]] has another origin, of one line")
        logs[origin] = [read_key(str(key)) for key in keys]
        if any(key.type != LOG_KEY for key in logs[origin]):
            raise ValueError("the key of a log is of type 1 (Ed25519)")
    if not logs or not all(isinstance(document[name], str) for name in ("key", "database")):
        raise ValueError("`key` and `database` are file names, and there is at least one [[log]]")
    return Witness(logs, _read_key_file(path.parent / document["key"]), Record(path.parent / document["database"]))


def _read_key_file(path: Path) -> Cosigner:
    if path.stat().st_mode & 0o077:
        raise ValueError("others may read the key file: chmod 600")
    return read_cosigner(path.read_text(encoding="utf-8").strip())


def _new_key(name: str, path: Path) -> None:
    if not is_name(name):
        _stop(USAGE, "a name is not empty and holds no space and no plus")
    cosigner = Cosigner(name, secrets.token_bytes(32))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(cosigner.private_text() + "\n")
            file.flush()
            os.fsync(descriptor)
    except OSError as failed:
        _stop(REFUSED, f"{path}: {failed.strerror}")
    sys.stdout.write(f"{cosigner.key}\n")


def _serve(named: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    try:
        witness = read_config(named.config)
    except sqlite3.Error as failed:
        _stop(REFUSED, f"{named.config}: the database cannot be used: {failed}")
    except (ValueError, OSError) as failed:
        _stop(REFUSED, f"{named.config}: {failed}")
    try:
        server = Server(named.host, named.port, witness)
    except (OSError, OverflowError) as failed:
        _stop(REFUSED, f"cannot listen on {named.host} port {named.port}: {failed}")
    shown = f"[{named.host}]" if ":" in named.host else named.host
    sys.stdout.write(f"witness {witness.key} on http://{shown}:{server.server_address[1]}\n")
    sys.stdout.flush()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    with server:
        server.serve_forever(poll_interval=0.1)


def _stop(code: int, sentence: str) -> NoReturn:
    sys.stderr.write(f"policy-engine-witness: {sentence}\n")
    raise SystemExit(code)
