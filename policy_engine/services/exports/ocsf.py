"""Exports as OCSF 1.8 events: each entry one API Activity (class 6003), as JSON lines for a SIEM.

A decision is the event of a control that worked: status Success with the action Allowed or Denied; status Failure is
for decisions that an error made. The actor is the key that asked or changed, never the person: whom a decision was
about is sealed and stays so. Whatever has no attribute in OCSF is in `unmapped` under its own name: none is lost.
Of the profiles, `security_control` is used; `ai_operation` is not, since it needs a provider that entries do not name:
the model is a resource of the type `ai_model`.
Left to others: which entries (`source`), whole files (`files`). What OCSF requires is data of the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from policy_engine.services.exports.source import Entry

VERSION: Final = "1.8.0"
CLASS_UID: Final = 6003
CATEGORY_UID: Final = 6
PRODUCT: Final = "policy_engine"

_ACTIVITIES: Final[Mapping[int, str]] = {1: "Create", 2: "Read", 3: "Update", 4: "Delete", 99: "Other"}

_ACTIONS: Final[Mapping[str, int]] = {"list": 2, "download_weights": 2, "fine_tune": 1}
"""Activities of the actions that are one of OCSF's four; `infer` is none of them."""

_KINDS: Final[Mapping[str, int]] = {
    "genesis": 1,
    "proposal.made": 1,
    "key.created": 1,
    "order.received": 1,
    "order.recorded": 1,
    "release.stored": 1,
    "read": 2,
    "search": 2,
    "gap": 99,
}
"""Activities of the kinds of entry; every other change is an update."""

_FAULTS: Final = frozenset({"rules.error", "log.unavailable", "stale", "orders.unreadable", "cell.unconfirmed"})
"""Reasons that say that the engine could not decide, not that the policy denied."""

_USED: Final = frozenset({"kind", "id", "log", "seq", "at", "by"})
_USED_BY_DECISION: Final = _USED | {"outcome", "action", "model", "tier", "release", "rules", "reasons"}


def write_ocsf(part: Path, pages: Iterable[Sequence[Entry]], product_version: str) -> None:
    """Write one event a line."""
    with part.open("wb") as file:
        for page in pages:
            events = [orjson.dumps(event_of(orjson.loads(public), product_version)) for _, _, public in page]
            file.write(b"\n".join(events))
            file.write(b"\n")


def event_of(public: Mapping[str, Any], product_version: str) -> dict[str, Any]:
    """Return the event of an entry."""
    decision = public["kind"] == "decision"
    activity = _ACTIONS.get(public["action"] or "", 99) if decision else _KINDS.get(public["kind"], 3)
    operation = (public["action"] or "unknown") if decision else public["kind"]
    by = str(public.get("by") or PRODUCT)
    time = public["at"] // 1_000
    event = {
        "category_uid": CATEGORY_UID,
        "category_name": "Application Activity",
        "class_uid": CLASS_UID,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": operation if activity == 99 else _ACTIVITIES[activity],
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"API Activity: {_ACTIVITIES[activity]}",
        "severity_id": 3 if public["kind"] == "gap" else 1,
        "severity": "Medium" if public["kind"] == "gap" else "Informational",
        "time": time,
        "metadata": _metadata(public, product_version, ["security_control"] if decision else []),
        "actor": {"app_uid": by},
        "api": {"operation": operation, "service": {"name": PRODUCT}},
        "src_endpoint": {"svc_name": by},
    }
    used = _USED
    if decision:
        event |= _outcome(public)
        used = _USED_BY_DECISION
    else:
        event |= {"status_id": 1, "status": "Success"}
    event["unmapped"] = {name: value for name, value in public.items() if name not in used}
    return event


def _metadata(public: Mapping[str, Any], product_version: str, profiles: list[str]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "product": {"name": PRODUCT, "vendor_name": PRODUCT, "version": product_version},
        "profiles": profiles,
        "event_code": public["kind"],
        "uid": public["id"],
        "log_name": public["log"],
        "sequence": public["seq"],
        "logged_time": public["at"] // 1_000,
        "original_time": str(public["at"]),
    }


def _outcome(public: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a decision: status, action, disposition, resource and the rules behind it."""
    allowed = public["outcome"] == "allow"
    codes = [str(reason[1]) for reason in public["reasons"]]
    failed = not _FAULTS.isdisjoint(codes)
    verdict: dict[str, Any] = {
        "status_id": 2 if failed else 1,
        "status": "Failure" if failed else "Success",
        "status_code": codes[0] if codes else public["outcome"],
        "status_detail": ", ".join(codes),
        "action_id": 1 if allowed else 2,
        "action": "Allowed" if allowed else "Denied",
        "disposition_id": 1 if allowed else 27 if failed else 2,
        "disposition": "Allowed" if allowed else "Error" if failed else "Blocked",
        "message": f"{public['outcome']} {public['action'] or 'unknown'} {public['model'] or 'unknown'}",
        "authorizations": _authorizations(public),
        "policy": {"uid": public["release"] or "none", "name": "release"},
    }
    if public["model"] is not None:
        tier = [] if public["tier"] is None else [f"tier:{public['tier']}"]
        verdict["resources"] = [{"uid": public["model"], "type": "ai_model", "labels": tier}]
    elif public["tier"] is not None:
        verdict["resources"] = [{"name": "unknown", "type": "ai_model", "labels": [f"tier:{public['tier']}"]}]
    return verdict


def _authorizations(public: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one authorization a rule that matched, and one a reason, with the rule's label as the policy's name."""
    outcome = public["outcome"]
    reasons: list[dict[str, Any]] = []
    for rule, code, orders in public["reasons"]:
        named = {"desc": ", ".join(orders)} if orders else {}
        policy = {"uid": str(code), "name": rule or "engine", "group": {"name": "reason"}, **named}
        reasons.append({"decision": outcome, "policy": policy})
    rules = [
        {"decision": outcome, "policy": {"uid": rule, "name": rule, "group": {"name": "rule"}}}
        for rule in public["rules"]
    ]
    return [*reasons, *rules]
