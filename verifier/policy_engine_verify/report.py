"""What a check is given, and what it reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from policy_engine_verify.formats import Checkpoint, Key
from policy_engine_verify.logs import Tip


class Place(NamedTuple):
    """Where something was found: as much of it as is known."""

    log: str | None = None
    batch: int | None = None
    seq: int | None = None
    leaf: int | None = None

    def __str__(self) -> str:
        parts = (("leaf", self.leaf), ("log", self.log), ("batch", self.batch), ("entry", self.seq))
        return ", ".join(f"{name} {value}" for name, value in parts if value is not None)


@dataclass
class Given:
    """What the caller vouches for."""

    key: Key | None = None
    witnesses: list[Key] = field(default_factory=list)
    quorum: int = 0
    since: bytes | None = None
    receipts: dict[str, bytes] = field(default_factory=dict)
    ids: dict[str, Any] = field(default_factory=dict)
    """The id of the decision that an answer named beside its receipt, by the name of the receipt."""


@dataclass
class Report:
    """What was found, and what was looked at."""

    stated: Checkpoint
    since: Checkpoint | None = None
    findings: list[tuple[str, Place]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    tips: dict[str, Tip] = field(default_factory=dict)
    partial: bool = False
