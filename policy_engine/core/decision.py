"""The words of a decision: who asks, what is asked, what came out and why. Frozen, slotted, pure.

Left to others: making one (`services.decide`), recording one (`services.record`), showing one (the doors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple

from policy_engine.core.facts import Location


class Outcome(StrEnum):
    """What a decision says. There is no third outcome; unknown ends as deny with a reason."""

    ALLOW = "allow"
    DENY = "deny"


class PrincipalKind(StrEnum):
    """A person may approve and change; a service may not approve."""

    PERSON = "person"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls the engine: the owner of a key, bounded by scopes, tenants and the facts it may supply.

    `tenants=None` means every tenant. `supplies` names request facts that are believed (`location`,
    `serving_region`, or `*`); every other fact in a request counts as unknown.
    """

    id: str
    kind: PrincipalKind
    scopes: frozenset[str]
    tenants: frozenset[str] | None = None
    supplies: frozenset[str] = frozenset()
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One question: may this subject, for this tenant, from this place, do this action on this model?

    `raw` is the parsed AuthZEN body, read only by tokens that name a path.
    """

    subject_id: str
    action: str
    model: str
    tenant: str | None = None
    location: Location | None = None
    serving_region: str | None = None
    subject_type: str = "person"
    resource_type: str = "model"
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a stable code that names the rule and never a value, the rule's label, and one sentence for the end user.

    `rule_id` is the pack's own id of the row; `authority` the citation; `orders` ids of switches, directives or
    licences that are part of the reason.
    """

    code: str
    rule: str | None = None
    message: str = ""
    authority: str | None = None
    rule_id: str | None = None
    orders: tuple[str, ...] = ()


class Evaluation(NamedTuple):
    """Everything that steps 3 to 8 of a decision found, before its entry exists. It is not an answer.

    `until` is the next instant at which an order, rule, table or fact used may change the outcome.
    `values` is the flat tuple given to the rules, `None` when they were not reached.
    `revisions` are `(register, id, revision)` of the persons and tenants used (0: no such row).
    `shared` is where evaluations that differ in their instant alone keep what is the same in their entries.
    `action_known` says whether the policy itself names the action; what only a caller wrote stays sealed.
    """

    request: Request
    outcome: Outcome
    reasons: tuple[Reason, ...]
    missing: tuple[str, ...]
    alternatives: tuple[str, ...]
    release: str
    epoch: int
    at: int
    until: int
    model: str | None
    tier: int | None
    tenant_sealed: bool
    values: tuple[Any, ...] | None
    matched: tuple[str, ...]
    lifted: tuple[str, ...]
    licences: tuple[str, ...]
    revisions: tuple[tuple[str, str, int], ...]
    flags: tuple[str, ...] = ()
    obligations: tuple[Mapping[str, Any], ...] = ()
    facets: Mapping[str, Any] | None = None
    hypothetical: bool = False
    shared: dict[str, Any] | None = None
    action_known: bool = True


class DecisionDenied(Exception):
    """Raised by callers who want a deny as an exception: `raise decision.as_error()`."""

    def __init__(self, decision: Decision) -> None:
        self.decision = decision
        super().__init__(decision.message)

    def __reduce__(self) -> tuple[type[DecisionDenied], tuple[Decision]]:
        """Let another process raise it again, as pools of workers do."""
        return DecisionDenied, (self.decision,)


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, embedded and remote alike. Truthy only when allowed; deciding never raises for policy reasons.

    `proof` makes the receipt; nothing is signed for a caller who does not want one. `asked` is the question, for
    whoever holds the allow and must ask again; it is personal, and shown by no door. `grant` is what the engine that
    gave the allow knows of it: how long it may be used, for `hold`.

    It is its own copy, as whatever cannot change is. A pickle keeps what was answered, with the receipt, and neither
    `asked` nor `grant`: no other process can hold the allow.
    """

    allowed: bool
    id: str
    reasons: tuple[Reason, ...]
    missing: tuple[str, ...]
    alternatives: tuple[str, ...]
    release: str
    epoch: int
    valid_for_ms: int
    message: str = ""
    explanation: Mapping[str, Any] | None = field(default=None, hash=False)
    proof: Callable[[], Mapping[str, Any]] | None = field(default=None, repr=False, compare=False)
    asked: Request | None = field(default=None, repr=False, compare=False)
    grant: Any = field(default=None, repr=False, compare=False)

    @property
    def receipt(self) -> Mapping[str, Any] | None:
        """Return the receipt of an allow (`ledger.receipts`), `None` of a deny: keep it to prove a later deletion."""
        return None if self.proof is None else self.proof()

    def __bool__(self) -> bool:
        return self.allowed

    def __copy__(self) -> Decision:
        return self

    def __deepcopy__(self, memo: object) -> Decision:
        return self

    def __reduce__(self) -> tuple[Callable[..., Decision], tuple[Any, ...]]:
        return _answered, (*(getattr(self, name) for name in ANSWERED), self.receipt)

    def as_error(self) -> DecisionDenied:
        """Return the deny as an exception to raise. Raises `ValueError` on an allow, which is no error."""
        if self.allowed:
            raise ValueError("an allowed decision is no error")
        return DecisionDenied(self)


ANSWERED = tuple(each.name for each in fields(Decision) if each.name not in ("proof", "asked", "grant"))
"""What of a decision was answered, and so goes where the decision goes."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A receipt that was made before, as `proof` gives it."""

    receipt: Mapping[str, Any]

    def __call__(self) -> Mapping[str, Any]:
        return self.receipt


def _answered(*values: Any) -> Decision:
    """Return the decision that a pickle holds."""
    *answered, receipt = values
    members = dict(zip(ANSWERED, answered, strict=True))
    return Decision(**members, proof=None if receipt is None else _Kept(receipt))
