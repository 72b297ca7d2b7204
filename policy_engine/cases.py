"""Decision cases: data in, each decided through the real registers, orders and decider, on an engine of its own.

Rules of the room: there is no second path. A case is laid as genesis in a copy of a migrated database at the case's
own time, asked through `services.decide`, and its entry is written like any other (marked `clock: set`). A case that
is malformed is refused with its id. Releases that differ in the catalogue only share their compiled rules.
Left to others: the form and meaning of a case (reference policy, last section), printing (`cli`).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policy_engine.bootstrap import Engine, Template
from policy_engine.core.decision import Decision, Principal, PrincipalKind, Reason, Request
from policy_engine.core.factparse import (
    choice,
    flag,
    instant,
    items,
    members,
    optional_text,
    parse_location,
    parse_person,
    parse_tenant,
    storable,
    text,
)
from policy_engine.core.facts import ModelStatus, NationalityTest, TenantType
from policy_engine.core.orderparse import (
    parse_directive,
    parse_grant,
    parse_licence,
    parse_override,
    parse_switch_scope,
)
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.ledger.canonical import INTEGER_MAX
from policy_engine.limits import LIMITS
from policy_engine.rules.folder import require_packs
from policy_engine.rules.models import read_models
from policy_engine.services.releases import CATALOGUE_FILE, ReleaseLoader
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Write

AFFILIATES_FILE = "tables/affiliates_rule.csv"
EDITIONS_FILE = "tables/editions.csv"
MEMORY_FOLDER = "/dev/shm"
NOBODY = "service"
"""Id of the service that asks when a case has no person."""

_CASE = frozenset(("id", "given", "model", "action", "time", "state", "expect", "rule", "because", "also"))
_GIVEN = frozenset(("person", "tenant", "location", "serving_region"))
_STATE = frozenset(
    (
        "directives",
        "kill_switches",
        "licences",
        "grants",
        "overrides",
        "bis_affiliates_rule",
        "registry_reachable",
    )
)
_MODEL = frozenset(
    (
        "id",
        "tier",
        "weights_public",
        "status",
        "permitted_serving_regions",
        "nationality_test",
        "base",
        "resolved_from",
        "fallback",
        "superseded_by",
    )
)
ASKER = Principal(
    "cases", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("location", "serving_region"))
)
"""Who asks in every case."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case, checked: what to lay, what to ask, what to expect."""

    id: str
    at: int
    request: Request
    registers: tuple[Write, ...]
    catalogue: bytes
    affiliates: str | None
    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case. `rules` are the labels of the reasons found."""

    case: Case
    passed: bool
    allowed: bool
    rules: tuple[str, ...]
    codes: tuple[str, ...]
    decision: Decision


def read_cases(path: Path) -> list[Case]:
    """Return the cases of a JSON Lines file. Raises `InputRefused` naming case and field, also for an id twice."""
    cases: dict[str, Case] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if len(line) > LIMITS.document_bytes:
                raise InputRefused(
                    f"the line is longer than {LIMITS.document_bytes} bytes", where=f"{path.name}:{number}"
                )
            try:
                value = json.loads(line, object_pairs_hook=_unique)
                json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair: no row or entry can hold it
            except (ValueError, RecursionError):
                raise InputRefused(
                    "the line is no JSON object with unique names and whole characters", where=f"{path.name}:{number}"
                ) from None
            case = read_case(value, f"{path.name}:{number}")
            if case.id in cases:
                raise InputRefused(f"has the id of an earlier case, {case.id}", where=f"{path.name}:{number}")
            cases[case.id] = case
    return list(cases.values())


def read_case(value: Any, where: str) -> Case:
    """Return one case, checked. Raises `InputRefused` naming the case and the field."""
    if not isinstance(value, Mapping):
        raise InputRefused("must be an object", where=where)
    id = text(value.get("id"), f"{where}.id")
    where = f"case {id}"
    known = members(value, _CASE, where)
    for name in ("given", "model", "action", "time", "expect"):
        if name not in known:
            raise InputRefused(f"lacks the member {name}", where=where)
    if known["expect"] not in ("allow", "deny"):
        raise InputRefused("must be allow or deny", where=f"{where}.expect")
    given = members(known["given"], _GIVEN, f"{where}.given")
    state = members(_present(known.get("state"), {}), _STATE, f"{where}.state")
    model = members(known["model"], _MODEL, f"{where}.model")
    at = instant(known["time"], f"{where}.time")
    if abs(at) > INTEGER_MAX:  # an entry holds the instant as a whole number of microseconds
        raise InputRefused("must lie between the years 1685 and 2255, which an entry can hold", where=f"{where}.time")
    subject, tenant, facts = _facts(given, f"{where}.given")
    asked = optional_text(model.get("resolved_from"), f"{where}.model.resolved_from")
    request = Request(
        subject_id=subject,
        subject_type="person" if given.get("person") is not None else "service",
        action=text(known["action"], f"{where}.action"),
        model=asked or text(model.get("id"), f"{where}.model.id"),
        tenant=tenant,
        location=parse_location(given.get("location"), f"{where}.given.location"),
        serving_region=optional_text(given.get("serving_region"), f"{where}.given.serving_region"),
    )
    affiliates = state.get("bis_affiliates_rule")
    if affiliates not in (None, "in_force", "suspended"):
        raise InputRefused("must be in_force or suspended", where=f"{where}.state.bis_affiliates_rule")
    return Case(
        id=id,
        at=at,
        request=request,
        registers=(*facts, *_orders(state, f"{where}.state")),
        catalogue=_catalogue(model, f"{where}.model"),
        affiliates=affiliates,
        allowed=known["expect"] == "allow",
        rule=text(known.get("rule", "-"), f"{where}.rule"),
    )


def run_cases(cases: Iterable[Case], files: Mapping[str, bytes]) -> Iterator[Result]:
    """Decide each case on a clean engine under the release of these files, with the case's model as the catalogue."""
    for case, engine in open_cases(cases, files):
        yield judge(case, engine.decider.decide(case.request, ASKER))


def open_cases(cases: Iterable[Case], files: Mapping[str, bytes]) -> Iterator[tuple[Case, Engine]]:
    """Yield each case with an engine at its time that holds only its state; the next step closes that engine."""
    require_packs(files, "decision cases")
    loader = ReleaseLoader()
    with tempfile.TemporaryDirectory(prefix="policy-cases-", dir=_memory_folder()) as folder:
        template = Template.create(Path(folder) / "template.db")
        place = Path(folder) / "case.db"
        settings = Settings(database=f"sqlite:///{place}", keys=None, serving_region=None, valid_for_ms=2_000)
        for case in cases:
            genesis = (_release_files(case, files), case.registers)
            engine = template.open_copy(settings, clock=_stopped(case.at), releases=loader, genesis=genesis)
            try:
                yield case, engine
            finally:
                engine.close()


def _memory_folder() -> str | None:
    """Return a folder in memory, where there is one: a case's database is thrown away, so no disk need turn."""
    return MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK | os.X_OK) else None


def judge(case: Case, decision: Decision) -> Result:
    """Return whether the decision is what the case expects: the outcome, and on a deny the rule among the reasons'."""
    rules = rules_of(decision.reasons)
    codes = tuple(dict.fromkeys(reason.code for reason in decision.reasons))
    return Result(case, as_expected(case, decision.allowed, rules), decision.allowed, rules, codes, decision)


def rules_of(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Return the labels of the reasons' rules, each once."""
    return tuple(dict.fromkeys(reason.rule or "-" for reason in reasons))


def as_expected(case: Case, allowed: bool, rules: Iterable[str]) -> bool:
    """Return whether an outcome and the labels of its rules are what the case expects."""
    return allowed is case.allowed and (case.allowed or case.rule in rules)


def _stopped(at: int) -> Callable[[], int]:
    return lambda: at


def _release_files(case: Case, files: Mapping[str, bytes]) -> dict[str, bytes]:
    changed = {**files, CATALOGUE_FILE: case.catalogue}
    if case.affiliates is not None:  # the operator's register of the rule's status says so, not the calendar
        changed[AFFILIATES_FILE] = f"status,effective_from,effective_to\n{case.affiliates},1970-01-01,\n".encode()
        editions = files.get(EDITIONS_FILE, b"table,effective_from,source\n").splitlines(keepends=True)
        others = b"".join(line for line in editions if not line.startswith(b"affiliates_rule,"))
        changed[EDITIONS_FILE] = others + b"affiliates_rule,1970-01-01,the case\n"
    return changed


def _facts(given: Mapping[str, Any], where: str) -> tuple[str, str | None, list[Write]]:
    """Return subject id, tenant id and the register rows of a case's person and tenant, members of each other."""
    writes: list[Write] = []
    tenant = given.get("tenant")
    tenant_id = None
    if tenant is not None:
        if not isinstance(tenant, Mapping):
            raise InputRefused("must be an object or null", where=f"{where}.tenant")
        tenant_id = text(tenant.get("id"), f"{where}.tenant.id")
        values = _with_owners({name: item for name, item in tenant.items() if name != "id"})
        parse_tenant(tenant_id, values, f"{where}.tenant")
        writes.append(Write("tenants", tenant_id, _document(values), 0))
    person = given.get("person")
    if person is None:
        subject, values = NOBODY, {"subject_type": "service"}
    elif isinstance(person, Mapping):
        subject = text(person.get("id"), f"{where}.person.id")
        values = {name: item for name, item in person.items() if name != "id"}
        if "tenants" in values or "subject_type" in values:
            raise InputRefused("has a member that a case's person does not have", where=f"{where}.person")
        values = {"citizenships": [], "permanent_residencies": [], **values}
        parse_person(subject, values, f"{where}.person")
    else:
        raise InputRefused("must be an object or null", where=f"{where}.person")
    if tenant_id is not None:
        values["tenants"] = [tenant_id]
    writes.append(Write("persons", subject, _document(values), 0))
    return subject, tenant_id, writes


def _with_owners(values: dict[str, Any]) -> dict[str, Any]:
    """In a case an absent list is empty; in the registers absent owners are unknown."""
    values = {"owners": [], **values}
    customer = values.get("end_customer")
    if isinstance(customer, Mapping):
        values["end_customer"] = _with_owners(dict(customer))
    return values


def _document(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"facts": {name: {"value": storable(value)} for name, value in values.items()}}


def _orders(state: Mapping[str, Any], where: str) -> list[Write]:
    """Return the register rows of a case's orders, an id that another row has already with a number behind it.

    Each list of a case has ids of its own, and one may stand twice; all of the orders are in force all the same.
    """
    writes: list[Write] = []
    parsers = {
        "directives": ("directive", parse_directive),
        "licences": ("licence", parse_licence),
        "grants": ("grant", parse_grant),
        "overrides": ("override", parse_override),
    }
    for name, (kind, parse) in parsers.items():
        for number, body in enumerate(_list(state.get(name), f"{where}.{name}")):
            parse(body, f"{where}.{name}[{number}]", strict=False)
            document = {"kind": kind, "body": {k: v for k, v in body.items() if k != "id"}}
            writes.append(Write("orders", _free_id(writes, "orders", body["id"]), document, 0))
    for number, body in enumerate(_list(state.get("kill_switches"), f"{where}.kill_switches")):
        scope = parse_switch_scope(body, f"{where}.kill_switches[{number}]", strict=False)
        for kind in _list(_unless_all(body.get("tenant_types")), f"{where}.kill_switches[{number}].tenant_types"):
            choice(TenantType, kind, f"{where}.kill_switches[{number}].tenant_types")
        id = text(body.get("id"), f"{where}.kill_switches[{number}].id")
        document = {"scope": scope, "from": body.get("from"), "until": body.get("until")}
        writes.append(Write("switches", _free_id(writes, "switches", id), document, 0))
    reachable = state.get("registry_reachable")
    if reachable is not None and not flag(reachable, f"{where}.registry_reachable"):
        # An order of a kind that nobody knows makes the register unreadable, as a lost or foreign one would be.
        writes.append(Write("orders", _free_id(writes, "orders", "unreadable"), {"kind": "unreadable"}, 0))
    return writes


def _free_id(writes: Iterable[Write], register: str, id: str) -> str:
    """Return the id, or where a row of the register has it, the first of `ID (2)`, `ID (3)`, … that none has."""
    taken = {write.id for write in writes if write.register == register}
    names = (id, *(f"{id} ({number})" for number in range(2, len(taken) + 2)))
    return next(name for name in names if name not in taken)


def _catalogue(model: Mapping[str, Any], where: str) -> bytes:
    """Return the catalogue file that holds the case's model, and its bases by name only (unclassified)."""
    id = text(model.get("id"), f"{where}.id")
    lines = ["[[model]]", f"id = {_quoted(id)}"]
    tier = model.get("tier")
    if tier is not None:
        if isinstance(tier, bool) or not isinstance(tier, int) or not 1 <= tier <= 5:
            raise InputRefused("must be a tier from 1 to 5, or null", where=f"{where}.tier")
        lines.append(f"tier = {tier}")
    public = model.get("weights_public")
    if public is not None:
        lines.append(f"weights_public = {str(flag(public, f'{where}.weights_public')).lower()}")
    for name, kind in (("status", ModelStatus), ("nationality_test", NationalityTest)):
        value = model.get(name)
        if value is not None:
            if value not in tuple(kind):
                raise InputRefused(f"must be one of {', '.join(kind)}", where=f"{where}.{name}")
            lines.append(f"{name} = {_quoted(value)}")
    regions = items(_present(model.get("permitted_serving_regions"), ()), text, f"{where}.permitted_serving_regions")
    lines.append(f"permitted_serving_regions = [{', '.join(map(_quoted, regions))}]")
    base = _present(model.get("base"), ())
    bases = items((base,) if isinstance(base, str) else base, text, f"{where}.base")
    if bases:
        lines.append(f"base = [{', '.join(map(_quoted, bases))}]")
    alias = optional_text(model.get("resolved_from"), f"{where}.resolved_from")
    if alias is not None and alias != id:
        lines.append(f"aliases = [{_quoted(alias)}]")
    for name in ("fallback", "superseded_by"):
        optional_text(model.get(name), f"{where}.{name}")  # hints only: the models they name are not in the case
    for name in dict.fromkeys(bases):
        lines += ["[[model]]", f"id = {_quoted(name)}"]
    content = ("\n".join(lines) + "\n").encode()
    try:
        read_models(content, LIMITS)
    except LoadRefused as refused:  # of a catalogue that nobody wrote: the case is what has to be mended
        raise InputRefused(refused.message, where=where) from None
    return content


def _unless_all(value: Any) -> Any:
    return None if value == "all" else value


def _list(value: Any, where: str) -> tuple[Any, ...]:
    return items(_present(value, ()), lambda item, _: item, where)


def _present(value: Any, otherwise: Any) -> Any:
    """Null is absent; anything else, an empty text too, is what was said."""
    return otherwise if value is None else value


def _quoted(value: str) -> str:
    return json.dumps(value)  # a JSON string is a TOML basic string


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate member name")
    return found
