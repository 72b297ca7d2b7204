"""`policy-engine check`: one decision, made and recorded like any other, and explained on request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policy_engine.cli import exits, output
from policy_engine.cli.options import SubjectType, instant_of
from policy_engine.cli.output import FormOption
from policy_engine.cli.session import Session, opened
from policy_engine.core.instants import format_instant
from policy_engine.errors import InputRefused

if TYPE_CHECKING:
    from policy_engine.core.decision import Decision, Reason, Request
    from policy_engine.core.plain import PlainRule
    from policy_engine.core.release import RuleMeta
    from policy_engine.services.drafts import NoteDraft
    from policy_engine.store.interfaces import State

MODEL_TYPE = "model"
AWAY = frozenset(("log.unavailable", "log.forked", "stale", "rollback.suspected", "replica.cut-off"))
"""Reason codes that say nothing of the policy: nothing could be recorded, or the state would not hold still."""

_REASONS: output.Columns = (
    ("rule", "rule"),
    ("code", "code"),
    ("orders", "orders"),
    ("authority", "authority"),
)
_MATCHING: output.Columns = (
    ("rule", "id"),
    ("effect", "effect"),
    ("lifted", "lifted"),
    ("code", "code"),
    ("authority", "authority"),
)
_FACTS: output.Columns = (
    ("register", "register"),
    ("fact", "fact"),
    ("age (days)", "age_days"),
    ("method", "method"),
    ("source", "source"),
    ("expires", "expires_at"),
)

LocationOption = Annotated[
    str | None, typer.Option(help="Where the subject is: a country, or a country and region, such as US or UA-65.")
]
ServingOption = Annotated[str | None, typer.Option(help="Where the model would run; else the configured region.")]
TenantOption = Annotated[str | None, typer.Option(help="The tenant the subject acts for.")]


def check(
    subject: Annotated[str, typer.Option(help="The id of the person or service.")],
    model: Annotated[str, typer.Option(help="The id or alias of the model.")],
    action: Annotated[str, typer.Option(help="infer, fine_tune, download_weights, list, or another declared one.")],
    tenant: TenantOption = None,
    location: LocationOption = None,
    serving_region: ServingOption = None,
    subject_type: Annotated[
        str, typer.Option(help="What the subject is: person or service; in a plain Casbin folder any type.")
    ] = str(SubjectType.PERSON),
    resource_type: Annotated[
        str, typer.Option(help="What the resource is: model; in a plain Casbin folder any type.")
    ] = MODEL_TYPE,
    at: Annotated[
        str | None, typer.Option(help="As it would be at this instant: marked hypothetical, needs audit:read.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every matching rule, lifts, facts and age.")] = False,
    form: FormOption = None,
) -> None:
    """Decide whether a subject may do an action on a model; the decision is recorded. Exits 0 on allow, 3 on deny."""
    from policy_engine.core.decision import Request
    from policy_engine.core.factparse import parse_location

    instant = instant_of(at, "--at")
    request = Request(
        subject_id=subject,
        action=action,
        model=model,
        tenant=tenant,
        location=parse_location(location, "--location"),
        serving_region=serving_region,
        subject_type=subject_type,
        resource_type=resource_type,
    )
    with opened() as session:
        _require_types(session, request)
        if instant is None:
            decision = session.engine.decider.decide(request, session.principal, explained=explain)
        else:
            decision = _supposed(session, request, instant, explain)
        rules = _rules(session, decision)
    answer = answer_of(decision)
    if instant is not None:
        answer["context"] |= {"hypothetical": True, "at": format_instant(instant)}
    if rules is not None:
        answer["context"]["explanation"] = {**output.plain(decision.explanation), "matching_rules": rules}
    output.emit(answer, form, lambda: _table(decision, answer))
    if not decision.allowed:
        away = any(reason.code in AWAY for reason in decision.reasons)
        raise typer.Exit(exits.Code.UNREACHABLE if away else exits.Code.DENY)


def _require_types(session: Session, request: Request) -> None:
    """Raise `InputRefused` for a type that no subject or resource has where packs decide."""
    from policy_engine.core.plain import PlainRelease

    if isinstance(session.engine.snapshots.current().release, PlainRelease):
        return
    if request.subject_type not in tuple(SubjectType):
        raise InputRefused(f"must be {' or '.join(SubjectType)}", where="--subject-type")
    if request.resource_type != MODEL_TYPE:
        raise InputRefused(f"must be {MODEL_TYPE}", where="--resource-type")


def _supposed(session: Session, request: Request, at: int, explain: bool) -> Decision:
    """Return what the decision would be at an instant, under the facts and orders of now, and record that it was asked.

    It grants nothing: it has no entry as a decision and no validity. Raises `NotPermitted` without `audit:read`.
    """
    from policy_engine.core.decision import Decision, Outcome
    from policy_engine.services.explain import explain as explained
    from policy_engine.services.factcache import FactCache
    from policy_engine.services.permissions import require

    engine = session.engine
    require(session.principal, "audit:read")
    found = engine.decider.evaluate(request, session.principal, at=at)
    allowed = found.outcome is Outcome.ALLOW
    members = {"search": "check", "count": int(allowed), "complete": True, "hypothetical": at}
    body = {"subject": request.subject_id, "tenant": request.tenant, "model": request.model, "action": request.action}
    ids: list[str] = []

    def draft(state: State) -> NoteDraft:
        note = engine.recorder.note(
            "search", members, session.principal, state, body=body, subject=request.subject_id, tenant=request.tenant
        )
        ids.append(note.id)
        return note

    engine.recorder.record(draft)
    return Decision(
        allowed=allowed,
        id=ids[-1],
        reasons=found.reasons,
        missing=found.missing,
        alternatives=found.alternatives,
        release=found.release,
        epoch=found.epoch,
        valid_for_ms=0,
        message="" if allowed or not found.reasons else found.reasons[0].message,
        explanation=explained(found, FactCache(engine.store)) if explain else None,
    )


def answer_of(decision: Decision) -> dict[str, Any]:
    """Return the answer as AuthZEN gives it: `decision` and `context`; the same over HTTP and here."""
    context: dict[str, Any] = {
        "id": decision.id,
        "reasons": [_reason(reason) for reason in decision.reasons],
        "missing": list(decision.missing),
        "alternatives": list(decision.alternatives),
        "release": decision.release,
        "epoch": decision.epoch,
        "valid_for_ms": decision.valid_for_ms,
    }
    if decision.message:
        context["message"] = decision.message
    return {"decision": decision.allowed, "context": context}


def _reason(reason: Reason) -> dict[str, Any]:
    members = {
        "code": reason.code,
        "rule": reason.rule,
        "rule_id": reason.rule_id,
        "message": reason.message,
        "authority": reason.authority,
        "orders": list(reason.orders),
    }
    return {name: value for name, value in members.items() if value}


def _rules(session: Session, decision: Decision) -> list[dict[str, Any]] | None:
    """Return every matching rule with what the release says of it, or `None` when no explanation was asked for."""
    if decision.explanation is None:
        return None
    lifted = set(decision.explanation.get("lifted", ()))
    matching = set(decision.explanation.get("matching_rules", ()))
    rules: Iterable[RuleMeta | PlainRule] = session.release().rules if matching else ()
    return [_rule(rule, rule.id in lifted) for rule in rules if rule.id in matching]


def _rule(rule: RuleMeta | PlainRule, lifted: bool) -> dict[str, Any]:
    """Return what is shown of a rule; of a row of a plain Casbin folder also its text."""
    shown: dict[str, Any] = {
        "id": rule.id,
        "label": rule.label,
        "effect": rule.effect,
        "code": rule.code,
        "authority": rule.authority,
        "lifted": lifted,
    }
    text = getattr(rule, "text", None)
    return shown if text is None else {**shown, "row": text}


def _table(decision: Decision, answer: Mapping[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    context = answer["context"]
    word = Text("ALLOW", style="bold green") if decision.allowed else Text("DENY", style="bold red")
    parts: list[Any] = [word, output.rows_table(context["reasons"], _REASONS)]
    names = ("hypothetical", "at", "missing", "alternatives", "id", "release", "epoch", "valid_for_ms", "message")
    parts.append(
        output.record_table({name: context[name] for name in names if context.get(name) not in (None, "", [])})
    )
    explanation = context.get("explanation")
    if explanation is not None:
        parts += [
            output.rows_table(explanation["matching_rules"], _MATCHING, title="Every rule that matched"),
            output.rows_table(explanation["facts"], _FACTS, title="Facts used"),
            output.record_table({n: v for n, v in explanation.items() if n not in ("matching_rules", "facts")}),
        ]
    return Group(*parts)
