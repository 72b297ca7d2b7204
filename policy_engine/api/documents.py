"""Bodies of the management routes: strict pydantic models in, plain documents out.

Rules of the room: an unknown member is refused, nothing is coerced; text is bounded; instants are RFC 3339 text with a
zone, in and out. A member that is not there is left out, not null.
Left to others: members of orders and facts, whose own parsers say more than a model could.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from policy_engine.core.instants import ENDLESS, format_instant, parse_instant
from policy_engine.limits import LIMITS
from policy_engine.store.interfaces import Committed

INSTANTS: Final = ("at", "from", "until")
"""Names of members that are instants, beside those that end in `_at`."""


class Strict(BaseModel):
    """A body as a caller must write it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Shown(BaseModel):
    """A document as it is answered."""

    model_config = ConfigDict(extra="forbid")


def _instant(text: str) -> str:
    try:
        parse_instant(text)
    except ValueError:
        raise ValueError("must be an RFC 3339 instant with a zone, such as 2026-07-01T00:00:00Z") from None
    return text


Id = Annotated[str, Field(min_length=1, max_length=LIMITS.id_characters)]
Words = Annotated[str, Field(max_length=LIMITS.text_characters)]
Instant = Annotated[str, Field(max_length=35), AfterValidator(_instant)]


Reached = Literal["committed", "drained", "settled"]
"""How far a change has taken hold."""


class WithdrawalShown(Shown):
    """How far a change has taken hold: what each stage took, in milliseconds, and which replicas it waits for.

    A stage without a time is not reached, or nobody saw when it was; `stage` is the last one reached.
    """

    epoch: int
    stage: Reached
    committed_at: str
    committed_ms: float | None = None
    drained_ms: float | None = None
    settled_ms: float | None = None
    settles_after_ms: float
    replicas: int
    slowest: str | None = None
    waits_for: list[str]


class Done(Shown):
    """Where a change stands in the log. Without `log`, `seq` and `at` nothing has taken effect yet.

    `status` is `committed`, `waiting` (for a second person, who approves `proposal`), or `partly waiting`. `withdrawal`
    says how far what is committed has taken hold.
    """

    id: str
    status: str
    log: str | None = None
    seq: int | None = None
    at: str | None = None
    proposal: str | None = None
    hash: str | None = None
    withdrawal: WithdrawalShown | None = None


def done(id: str, committed: Committed | None, proposal: str | None = None, hash: str | None = None) -> Done:
    """Return what became of a change: committed, waiting for a second person, or in part each."""
    if committed is None:
        return Done(id=id, status="waiting", proposal=proposal, hash=hash)
    status = "committed" if proposal is None else "partly waiting"
    at = format_instant(committed.at)
    return Done(id=id, status=status, log=committed.log_id, seq=committed.seqs[-1], at=at, proposal=proposal, hash=hash)


def plain(value: Any) -> Any:
    """Return a service's frozen value as a document: dataclasses as objects, instants as text, nulls left out."""
    if is_dataclass(value) and not isinstance(value, type):
        members = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: _member(name, member) for name, member in members.items() if member is not None}
    if isinstance(value, Mapping):
        return {str(name): plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item) for item in items]
    return value


def _member(name: str, value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and (name.endswith("_at") or name in INSTANTS):
        return format_instant(value) if -ENDLESS < value < ENDLESS else None
    return plain(value)
