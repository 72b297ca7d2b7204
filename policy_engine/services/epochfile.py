"""The file that remembers how far the database of this machine has come: its epoch, and an entry that it holds.

Rules: the file only ever moves on; it is replaced whole, so that a crash leaves the old one or the new one. It names
one entry by its place and leaf hash, so that a copy which was older, and has grown beyond the epoch since, is told
apart too. It lies outside the database, and does not belong in its backup: what is restored with it remembers nothing.
Left to others: what a difference means (`recovery`).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from policy_engine.errors import StartRefused
from policy_engine.services import newfile

VERSION: Final = 1
WHERE: Final = "epoch file"


@dataclass(frozen=True, slots=True)
class Remembered:
    """The farthest epoch, and the newest entry when it was written down."""

    epoch: int
    log: str
    seq: int
    leaf: str


class EpochFile:
    """The file at a path, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Remembered | None:
        """Return what is remembered, `None` without a file. Raises `StartRefused` for one that cannot be read."""
        try:
            document = json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except OSError as error:  # it may be whole: nobody is told to take it away
            reason = f"cannot be read ({error.strerror}); check its name, its rights and those of its folder"
            raise StartRefused(reason, where=WHERE) from None
        except ValueError:
            raise _damaged() from None
        return _read(document)

    def remember(self, newer: Remembered) -> None:
        """Write down a newer epoch; one that is not newer than what is there changes nothing.

        Raises `StartRefused` when it cannot be written, or what is there cannot be read.
        """
        text = json.dumps({"version": VERSION, **asdict(newer)}) + "\n"
        try:
            with newfile.alone(self.path):
                there = self.read()
                if there is None or there.epoch < newer.epoch:
                    _replace(self.path, text)
        except OSError:
            raise _not_written() from None


def _replace(path: Path, text: str) -> None:
    try:
        newfile.replace(path, text, WHERE)
    except StartRefused:
        raise _not_written() from None


def _not_written() -> StartRefused:
    return StartRefused(
        "cannot be written; check the folder and its space, or name another file in POLICY_ENGINE_EPOCH_FILE",
        where=WHERE,
    )


def _read(document: Any) -> Remembered:
    members = {"version": int, "epoch": int, "log": str, "seq": int, "leaf": str}
    if (
        not isinstance(document, dict)
        or set(document) != set(members)
        or any(type(document[name]) is not kind for name, kind in members.items())
        or document["version"] != VERSION
    ):
        raise _damaged()
    return Remembered(document["epoch"], document["log"], document["seq"], document["leaf"])


def _damaged() -> StartRefused:
    return StartRefused(
        "is damaged, or a newer program wrote it; put it back, or take it away if the database is the newest for sure",
        where=WHERE,
    )
