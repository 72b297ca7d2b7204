"""Decisions as AuthZEN answers: bytes and headers, nothing personal in either.

Rules of the room:
- `decision` is true only for a decision that is allowed; whatever else was found, it is false.
- A single answer explains itself in `context`. A batch is lean: its body holds no id, instant or timing, so that equal
  questions give equal bytes; those stand in headers. `options.explain` asks for the contexts, `options.receipts` for
  the receipts of its allows.
- A null member is left out; `reasons`, `missing` and `alternatives` are always there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from policy_engine.api.problems import Headers
from policy_engine.core.decision import Decision, Reason
from policy_engine.errors import InputRefused

LOG_UNAVAILABLE: Final = "log.unavailable"
NO_ID: Final = "-"
"""Stands in `Policy-Engine-Decision-Ids` for an item that was refused and so has no decision."""

Answer = Decision | InputRefused

UNAVAILABLE: Final = Decision(
    allowed=False,
    id="",
    reasons=(Reason(LOG_UNAVAILABLE, message="Decisions cannot be recorded at the moment, so none is allowed."),),
    missing=(),
    alternatives=(),
    release="",
    epoch=0,
    valid_for_ms=0,
    message="This cannot be allowed at the moment. Please try again later.",
)
"""The deny that answers while the log is away: it rests on no release and no epoch, and has no entry and no id."""


def single(decision: Decision) -> bytes:
    """Return the body that answers one evaluation."""
    return orjson.dumps({"decision": decision.allowed is True, "context": context(decision, receipt=True)})


def context(decision: Decision, *, receipt: bool = False) -> dict[str, Any]:
    """Return the `context` of an answer: why, under which release and epoch, and for how long it holds.

    With `receipt` an allow carries its receipt, where this engine signs receipts.
    """
    members: dict[str, Any] = {
        "id": decision.id,
        "reasons": [_reason(reason) for reason in decision.reasons],
        "missing": decision.missing,
        "alternatives": decision.alternatives,
        "release": decision.release,
        "epoch": decision.epoch,
        "valid_for_ms": decision.valid_for_ms,
    }
    if not decision.id:
        del members["id"]
    if not decision.release:
        del members["release"], members["epoch"]
    if decision.message:
        members["message"] = decision.message
    proof = decision.receipt if receipt and decision.allowed is True else None
    if proof is not None:
        members["receipt"] = proof
    return members


def batch(answers: Sequence[Answer], explain: bool, receipts: bool = False) -> bytes:
    """Return the body that answers a batch, item by item in the order asked.

    `explain` asks for the context of each answer, `receipts` for the receipt of each allow in it.
    """
    if explain or receipts:
        return orjson.dumps({"evaluations": [_explained(answer, explain, receipts) for answer in answers]})
    return b'{"evaluations":[' + b",".join([_lean(answer) for answer in answers]) + b"]}"


def batch_headers(answers: Sequence[Answer]) -> Headers:
    """Return what a lean body leaves out: epoch, release, the shortest validity, and the id of each decision.

    A batch of which nothing was decided names no epoch and no release.
    """
    decisions = [answer for answer in answers if isinstance(answer, Decision)]
    ids = ",".join([(answer.id or NO_ID) if isinstance(answer, Decision) else NO_ID for answer in answers])
    shortest = min([decision.valid_for_ms for decision in decisions], default=0)
    headers = [
        (b"policy-engine-valid-for-ms", b"%d" % shortest),
        (b"policy-engine-decision-ids", ids.encode("latin-1")),
    ]
    placed = [decision for decision in decisions if decision.release]
    if placed:
        # The oldest of them: whoever compares epochs must not take the batch for newer than any part of it is.
        oldest = min(placed, key=lambda decision: decision.epoch)
        headers.append((b"policy-engine-epoch", b"%d" % oldest.epoch))
        headers.append((b"policy-engine-release", oldest.release.encode("latin-1")))
    return headers


def _reason(reason: Reason) -> dict[str, Any]:
    members: dict[str, Any] = {"code": reason.code}
    if reason.rule is not None:
        members["rule"] = reason.rule
    if reason.rule_id is not None:
        members["rule_id"] = reason.rule_id
    if reason.message:
        members["message"] = reason.message
    if reason.authority:
        members["authority"] = reason.authority
    if reason.orders:
        members["orders"] = reason.orders
    return members


def _lean(answer: Answer) -> bytes:
    if isinstance(answer, Decision):
        return b'{"decision":true}' if answer.allowed is True else b'{"decision":false}'
    return orjson.dumps(_refused(answer))


def _explained(answer: Answer, explain: bool, receipts: bool) -> dict[str, Any]:
    if not isinstance(answer, Decision):
        return _refused(answer)
    shown: dict[str, Any] = {"decision": answer.allowed is True}
    if explain:
        shown["context"] = context(answer, receipt=receipts)
    elif answer.allowed is True and answer.receipt is not None:
        shown["context"] = {"receipt": answer.receipt}
    return shown


def _refused(refusal: InputRefused) -> dict[str, Any]:
    return {"decision": False, "context": {"error": {"status": 400, "message": str(refusal)}}}
