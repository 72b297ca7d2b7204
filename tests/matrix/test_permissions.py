"""The permission matrix: who may do what, tried for real, and compared with the reviewed file beside this one.

Each cell is one call of one person or service on a database of its own. `permissions.txt` is what people review: when a
permission changes, its diff shows it. Nothing rewrites that file; a failing test prints what it would have to hold.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.core.instants import DAY, SECOND
from policy_engine.errors import Conflict, NotAuthenticated, NotFound, NotPermitted
from policy_engine.rules.release import read_folder
from policy_engine.services.asof import AsOf
from policy_engine.services.cells.standing import Standings
from policy_engine.services.evidence import Filters
from policy_engine.services.exports.service import Exports, Form, Target
from policy_engine.services.holdrules import Cover
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import LOCAL, SCOPES, Caller
from policy_engine.services.preview.service import Previews
from policy_engine.services.questions import EVERYTHING
from policy_engine.services.questiontext import parse_question
from policy_engine.services.releases import ReleaseLoader
from policy_engine.services.replay import Replay
from policy_engine.services.report.period import parse_period
from policy_engine.services.report.service import Reports
from policy_engine.store.interfaces import Change
from tests.services.governed import RETENTION_DAYS, START, Clock, House, open_house, person, wire

REVIEWED = Path(__file__).with_name("permissions.txt")
POLICIES = Path(__file__).parents[2] / "policies"
RELEASES = ReleaseLoader()

PERSONAS: Mapping[str, KeyRequest | None] = {
    "local": None,
    "local, sample database": None,
    "service: decide": KeyRequest("gateway", PrincipalKind.SERVICE, ("decide",)),
    "service: audit:read": KeyRequest("exporter", PrincipalKind.SERVICE, ("audit:read",)),
    **{f"person: {scope}": person(scope.replace(":", "-"), scope) for scope in SCOPES},
    "person: everything": person("everybody", *SCOPES),
    "person: everything, acme only": person("bounded", *SCOPES, tenants=("acme",)),
    "person: everything, expired": person("expired", *SCOPES, until=START + SECOND),
    "person: everything, revoked": person("revoked", *SCOPES),
}
FOUNDERS = {
    "founder": person("founder", *SCOPES),
    "second": person("second", *SCOPES),
    "third": person("third", "approve"),
}

DIRECTIVE = {"id": "new", "models": ["fable-5"], "blocks": ["foreign_person"]}
EXEMPT = {"models": ["fable-5"], "who": "lab_foreign_national_employees"}
LICENCE = {
    "id": "l",
    "from": "2026-01-01",
    "person_id": "ines",
    "models": ["fable-5", "mythos-5"],
    "actions": ["infer"],
    "lifts": ["seat"],
}
FACTS = {"residence_country": "DE"}

Attempt = Callable[[House, Principal], object]


def own_proposal(house: House, principal: Principal) -> str:
    """Return a proposal that looks as if the principal had made it, whatever its scopes."""
    key = principal.key_id or "local"
    row = house.store.row("keys", key)
    revision = 0 if row is None else row.revision
    caller = Caller(principal.id, key, None, house.clock(), ("keys", key, revision))
    switch = house.store.row("switches", "s").revision
    payload = {"id": "s", "reason": "over"}
    return house.approvals.propose(caller, "switch.release", payload, (("switches", "s", switch),)).id


def proposal(house: House) -> str:
    """Return the founder's waiting proposal."""
    return house.approvals.list(house["second"], status="waiting")[0].id


def first_keys(house: House, principal: Principal) -> None:
    """Try to make first keys. That there are some already is no accident of this database but the refusal itself."""
    try:
        house.keys.create_first(["ada", "ben"])
    except Conflict:
        raise NotPermitted("there are first keys already") from None


def sealed_body(house: House, principal: Principal) -> None:
    """Try to read the body of a change. Who may not see an entry is told that there is none."""
    try:
        house.evidence.read_body(principal, 2)
    except NotFound:
        raise NotPermitted("the entry is not shown") from None


def exports(house: House) -> Exports:
    """Return exports over a house."""
    return Exports(house.store, house.evidence, house.recorder, house.approvals, house.vault, RELEASES)


def previews(house: House) -> Previews:
    """Return previews over a house."""
    return Previews(
        house.store, house.switches, house.orders, house.recorder, house.vault, RELEASES, serving_region="US"
    )


def preview_persons(house: House, principal: Principal) -> None:
    """Preview a switch and look at the persons. Counts without persons are no sight of them."""
    found = previews(house).engage(principal, "new", {"models": ["fable-5"]})
    if found.registers.lines is None:
        raise NotPermitted("the persons are not shown")


def release_drill(house: House, principal: Principal, switch: str) -> None:
    """Try to release a switch at once; that of a drill was engaged by the founder a moment ago."""
    if switch == "drill":
        house.switches.engage_drill(house["founder"], "drill", {"models": "all"}, "drill")
    house.switches.release_drill(principal, switch, {})


def propose_export(house: House, principal: Principal) -> None:
    """Propose an export of everything that is sealed."""
    service = exports(house)
    service.propose_unsealed(principal, service.ask(""), Form.JSONL, "why")


def export_of_another(house: House, principal: Principal) -> None:
    """Try to make the export of sealed bodies that the founder proposed and the second approved."""
    service = exports(house)
    approved = house.approvals.list(house["second"], status="approved")
    (id,) = (found.id for found in approved if found.kind == "export.unsealed")
    with TemporaryDirectory() as folder:
        service.export_unsealed(principal, id, service.ask(""), None, Target(Path(folder) / "f"))


def replay(house: House) -> Replay:
    """Return replays over a house."""
    return Replay(house.store, house.recorder, house.vault, RELEASES)


def export_public(house: House, principal: Principal) -> None:
    """Export the public part of the log."""
    service = exports(house)
    with TemporaryDirectory() as folder:
        service.export(principal, service.ask(""), Form.JSONL, Target(Path(folder) / "f"))


def report(house: House, principal: Principal) -> None:
    """Write the audit report of a month."""
    service = Reports(house.store, house.evidence, house.recorder, house.vault, RELEASES)
    with TemporaryDirectory() as folder:
        service.write(principal, parse_period("2026-06"), Path(folder) / "f", verify=False)


def prune_old(house: House, principal: Principal) -> object:
    """Propose to prune what was there days ago, which is beyond the retention limit of these tests."""
    house.clock.at += (RETENTION_DAYS + 1) * DAY
    return house.disposal.retention.propose(principal, START + SECOND, "old")


def release_of(house: House, *, active: bool) -> str:
    """Return the hash of the release that is, or is not, active."""
    return next(release.hash for release in house.publish.list(LOCAL) if release.active is active)


def other_release(number: int) -> dict[str, bytes]:
    """Return the sample release with another comment."""
    files = read_folder(POLICIES)
    return {**files, "models.toml": files["models.toml"] + b"\n# %d\n" % number}


CHANGES: Mapping[str, Attempt] = {
    "set facts of a person of acme": lambda h, p: h.facts.set_facts(p, "persons", "ines", FACTS),
    "set facts of a person of lab": lambda h, p: h.facts.set_facts(p, "persons", "greg", FACTS),
    "set facts of the company acme": lambda h, p: h.facts.set_facts(p, "tenants", "acme", {"headquarters": "US"}),
    "set facts of the company lab": lambda h, p: h.facts.set_facts(p, "tenants", "lab", {"headquarters": "US"}),
    "set facts about oneself": lambda h, p: h.facts.set_facts(p, "persons", p.id, {**FACTS, "tenants": ["acme"]}),
    "import facts of persons of acme": lambda h, p: h.facts.import_rows(
        p, [{"register": "persons", "id": "new", "tenants": ["acme"]}]
    ),
    "receive a directive": lambda h, p: h.orders.receive(p, "directive", DIRECTIVE),
    "receive a directive with an exemption": lambda h, p: h.orders.receive(
        p, "directive", {**DIRECTIVE, "exempts": [EXEMPT]}
    ),
    "receive a licence": lambda h, p: h.orders.receive(p, "licence", {**LICENCE, "id": "new"}),
    "receive a grant": lambda h, p: h.orders.receive(p, "grant", {"id": "new", "person_id": "ines"}),
    "receive an override": lambda h, p: h.orders.receive(p, "override", {"id": "new", "reason": "drill"}),
    "amend a directive: wider": lambda h, p: h.orders.amend(p, "d", {**DIRECTIVE, "id": "d", "models": "all"}),
    "amend a directive: an exemption": lambda h, p: h.orders.amend(
        p, "d", {**DIRECTIVE, "id": "d", "models": ["fable-5", "mythos-5"], "exempts": [EXEMPT]}
    ),
    "amend a directive: fewer models": lambda h, p: h.orders.amend(p, "d", {**DIRECTIVE, "id": "d"}),
    "amend a licence: narrower": lambda h, p: h.orders.amend(p, "l", {**LICENCE, "models": ["fable-5"]}),
    "amend a licence: wider": lambda h, p: h.orders.amend(p, "l", {**LICENCE, "actions": ["infer", "fine_tune"]}),
    "end a directive": lambda h, p: h.orders.end(p, "d", "over"),
    "revoke a licence": lambda h, p: h.orders.end(p, "l", "over"),
    "engage a switch for a model": lambda h, p: h.switches.engage(p, "new", {"models": ["fable-5"]}, "why"),
    "engage a switch for the tenant acme": lambda h, p: h.switches.engage(p, "new", {"tenants": ["acme"]}, "why"),
    "engage a switch of a drill": lambda h, p: h.switches.engage_drill(p, "new", {"models": "all"}, "drill"),
    "release a switch of a drill": lambda h, p: release_drill(h, p, "drill"),
    "release a real switch as if of a drill": lambda h, p: release_drill(h, p, "s"),
    "release a switch": lambda h, p: h.switches.release(p, "s", "over"),
    "publish a release": lambda h, p: h.publish.publish(p, other_release(2)),
    "activate a release": lambda h, p: h.publish.activate(p, release_of(h, active=False)),
    "erase a person": lambda h, p: h.disposal.erasures.propose(p, "greg", "case 7"),
    "erase oneself": lambda h, p: h.disposal.erasures.propose(p, p.id, "case 7"),
    "prune old sealed parts": prune_old,
    "place a legal hold": lambda h, p: h.disposal.holds.place(p, "new", Cover(subject="ines"), "why"),
    "release a legal hold": lambda h, p: h.disposal.holds.release(p, "k", "over"),
    "recover an older database": lambda h, p: h.recovery.propose(p, "lost", beyond=99),
    "make first keys when there are some": first_keys,
    "create a key": lambda h, p: h.keys.create(p, person("rita", "approve")),
    "revoke a key of another": lambda h, p: h.keys.revoke(p, "third"),
    "revoke a key of one's own": lambda h, p: h.keys.revoke(p, p.key_id or "none"),
    "approve what another proposed": lambda h, p: h.approvals.approve(p, proposal(h)),
    "approve what one proposed oneself": lambda h, p: h.approvals.approve(p, own_proposal(h, p)),
    "refuse what another proposed": lambda h, p: h.approvals.refuse(p, proposal(h), "no"),
    "withdraw what one proposed oneself": lambda h, p: h.approvals.refuse(p, own_proposal(h, p), "no"),
    "export sealed bodies": propose_export,
    "make the approved export of another": export_of_another,
}
READS: Mapping[str, Attempt] = {
    "show facts of a person of acme": lambda h, p: h.facts.show(p, "persons", "ines"),
    "show facts of a person of lab": lambda h, p: h.facts.show(p, "persons", "greg"),
    "show facts of the company acme": lambda h, p: h.facts.show(p, "tenants", "acme"),
    "list facts that expire": lambda h, p: h.facts.expiring(p, 30),
    "list orders": lambda h, p: h.orders.list(p),
    "list legal holds": lambda h, p: h.disposal.holds.list(p),
    "list what is in force, as another cell": lambda h, p: Standings(h.store).shown(p),
    "list switches": lambda h, p: h.switches.list(p),
    "preview a switch": lambda h, p: previews(h).engage(p, "new", {"models": ["fable-5"]}),
    "preview the release of a switch": lambda h, p: previews(h).release(p, "s"),
    "preview a directive": lambda h, p: previews(h).receive(p, "directive", DIRECTIVE),
    "preview the end of a licence": lambda h, p: previews(h).end(p, "l"),
    "see persons in a preview": preview_persons,
    "list releases": lambda h, p: h.publish.list(p),
    "list proposals": lambda h, p: h.approvals.list(p),
    "list keys": lambda h, p: h.keys.list(p),
    "query the public log": lambda h, p: h.evidence.query(p, Filters()),
    "query the log by a person": lambda h, p: h.evidence.query(p, Filters(sealed={"subject": "ines"})),
    "count entries of the public log": lambda h, p: h.evidence.count(p, EVERYTHING),
    "stream the log by a person": lambda h, p: list(h.evidence.scan(p, parse_question("subject:ines", START))),
    "read a sealed body": sealed_body,
    "replay decisions": lambda h, p: list(replay(h).all(p)),
    "ask what decisions rested on": lambda h, p: AsOf(replay(h)).evidence(p, EVERYTHING),
    "read the history of the policy": lambda h, p: AsOf(replay(h)).releases(p),
    "export the public log": export_public,
    "write the audit report": report,
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared database and the closed house that made it, whose vault and people are its own."""

    database: Path
    house: House


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Mapping[bool, Prepared]:
    """Offer two prepared databases, the second marked as a sample."""
    return {sample: prepare(tmp_path_factory.mktemp("matrix"), sample=sample) for sample in (False, True)}


def prepare(folder: Path, *, sample: bool) -> Prepared:
    """Return a database in which there is something for every attempt."""
    people = {**FOUNDERS, **{request.principal: request for request in PERSONAS.values() if request is not None}}
    house = open_house(folder, people, release=False, sample=sample, releases=RELEASES)
    first = house.publish.genesis_release(read_folder(POLICIES))
    house.store.change(Change("genesis", {}, first.writes, raises_epoch=True, activate=first.hash, blobs=first.blobs))
    founder, second = house["founder"], house["second"]
    house.facts.set_facts(founder, "persons", "ines", {"tenants": ["acme"]})
    house.facts.set_facts(founder, "persons", "greg", {"tenants": ["lab"]})
    house.orders.receive(founder, "directive", {**DIRECTIVE, "id": "d", "models": ["fable-5", "mythos-5"]})
    for waiting in (
        house.orders.receive(founder, "licence", LICENCE).proposal,
        house.publish.publish(founder, other_release(1)).id,
    ):
        house.approvals.approve(second, waiting)
    house.switches.engage(founder, "s", {"models": ["open-1"]}, "why")
    house.switches.engage(founder, "t", {"models": ["open-1"]}, "why")
    house.switches.release(founder, "t", "over")
    house.disposal.holds.place(founder, "k", Cover(model="open-1"), "why")
    house.facts.show(founder, "persons", "greg")
    house.keys.revoke(founder, "revoked")
    service = exports(house)
    house.approvals.approve(second, service.propose_unsealed(founder, service.ask(""), Form.JSONL, "why").id)
    house.close()
    return Prepared(folder / "engine.db", house)


def tried(prepared: Prepared, folder: Path, persona: str, attempt: Attempt) -> str:
    """Return what came of an attempt on a copy of the prepared database, as one sign.

    Any refusal but of permission is an error of this test: a cross must not stand for something else.
    """
    shutil.copy(prepared.database, folder / "engine.db")
    house = wire(folder, Clock(), prepared.house.vault, RELEASES, prepared.house.people)
    try:
        request = PERSONAS[persona]
        principal = LOCAL if request is None else house[request.principal]
        if "expired" in persona:
            house.clock.at += SECOND
        before = snapshot(house)
        try:
            attempt(house, principal)
        except (NotPermitted, NotAuthenticated):
            return "✗"
        after = snapshot(house)
        made = len(after["waiting"]) - len(before["waiting"])
        effect = after["rest"] != before["rest"]
        return {(True, False): "✓", (False, False): "✓", (False, True): "2", (True, True): "✓2"}[effect, made > 0]
    finally:
        house.close()


def snapshot(house: House) -> dict[str, Any]:
    """Return the waiting proposals, and the registers without them and without releases that are only stored."""
    rows = {
        (register, row.id): row.revision
        for register in ("persons", "tenants", "orders", "switches", "keys")
        for row in house.store.rows(register)
    }
    waiting = [row.id for row in house.store.rows("approvals") if row.document["status"] == "waiting"]
    return {"waiting": waiting, "rest": (rows, house.store.state().release)}


def rendered(prepared: Mapping[bool, Prepared], folder: Path) -> str:
    """Return the matrix as text: a line a change, a column a persona, named in the lines above."""
    lines = ["✓ at once   2 waits for a second person   ✓2 part at once, part waits   ✗ refused", ""]
    for number, persona in enumerate(PERSONAS):
        lines.append("  ".join(["", *["|"] * number, persona]).rstrip())
    for title, attempts in (("Changes", CHANGES), ("Reads", READS)):
        lines += ["", f"{title}"]
        for name, attempt in attempts.items():
            cells = []
            for number, persona in enumerate(PERSONAS):
                place = folder / f"{title}-{len(lines)}-{number}"
                place.mkdir()
                cells.append(tried(prepared["sample" in persona], place, persona, attempt))
                shutil.rmtree(place)
            lines.append("  " + " ".join(f"{cell:2}" for cell in cells) + f"  {name}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def test_who_may_do_what(prepared: Mapping[bool, Prepared], tmp_path: Path) -> None:
    """Every persona's every attempt comes out as the reviewed file says."""
    assert REVIEWED.read_text() == rendered(prepared, tmp_path)
