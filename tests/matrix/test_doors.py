"""The approval matrix at the doors: every persona, every change, over HTTP and on the command line, tried for real.

`doors.txt` is what people review; nothing rewrites it. `permissions.txt` beside it says the same of the services: a
door may refuse more and must not allow more. Every refusal is one sentence that names no person and no key, and leaves
neither an entry nor another epoch behind.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policy_engine.bootstrap import Engine, copy_template, open_engine
from policy_engine.core.decision import PrincipalKind
from policy_engine.core.instants import SECOND
from policy_engine.services.holdrules import Cover
from policy_engine.services.keys import KeyRequest
from policy_engine.services.permissions import SCOPES, Caller
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from tests.conftest import POLICIES, SampleDatabase
from tests.matrix.doorways import (
    CONFLICT,
    REFUSED,
    Attempt,
    Try,
    on_the_command_line,
    other_release,
    over_http,
    trace,
)
from tests.services.governed import person

REVIEWED = Path(__file__).with_name("doors.txt")
EXPIRES_SECONDS = 1.5
PERSONAS: Mapping[str, KeyRequest | None] = {
    "no key (command line: local, sample database)": None,
    "service: decide": KeyRequest("p-gateway", PrincipalKind.SERVICE, ("decide",)),
    "service: audit:read": KeyRequest("p-exporter", PrincipalKind.SERVICE, ("audit:read",)),
    **{f"person: {scope}": person(f"p-{scope.replace(':', '-')}", scope) for scope in SCOPES},
    "person: everything": person("p-everybody", *SCOPES),
    "person: everything, acme only": person("p-bounded", *SCOPES, tenants=("acme",)),
    "person: everything, expired": person("p-expired", *SCOPES),
    "person: everything, revoked": person("p-revoked", *SCOPES),
}
DOORS = ("http", "cli")

DIRECTIVE = {"models": ["open-1"], "blocks": ["foreign_person"]}
EXEMPT = {"exempts": [{"models": ["open-1"], "who": "lab_foreign_national_employees"}]}
LICENCE = {
    "from": "2026-01-01T00:00:00Z", "person_id": "chen", "models": ["open-1", "fable-5"], "actions": ["infer"],
    "nationalities": ["CN"], "destinations": ["US"], "lifts": ["nat"],
}  # fmt: skip


def order(verb: str, body: Mapping[str, Any], id: str = "new-@door", kind: str = "directive") -> Attempt:
    """Return the attempt to receive or amend an order."""
    document = {"id": id, **body}
    if verb == "receive":
        return Attempt(
            ("/v1/orders", {"kind": kind, "document": document}), ("order", verb, {"kind": kind, **document})
        )
    words = ("order", verb, id, {"kind": kind, **document})
    return Attempt((f"/v1/orders/{id}/amend", {"document": document}), words)


def facts(register: str, http: tuple[str, Any], cli: tuple[str, str], name: str = "lab_employee") -> Attempt:
    """Return the attempt to set a fact: of whom, and to what, over HTTP and on the command line."""
    route = "/v1/subjects" if register == "persons" else "/v1/tenants"
    words = ("facts", "set", register, cli[0], f"{name}={cli[1]}")
    return Attempt((route, {"id": http[0], "facts": {name: http[1]}}), words)


def ruling(what: str, proposal: str) -> Attempt:
    """Return the attempt to approve or refuse a proposal."""
    if what == "approve":
        body = {"hash": f"@{{hash of {proposal}}}"}
        return Attempt((f"/v1/approvals/@{{{proposal}}}/approve", body), ("approvals", "approve", f"@{{{proposal}}}"))
    words = ("approvals", "refuse", f"@{{{proposal}}}", "--reason", "no")
    return Attempt((f"/v1/approvals/@{{{proposal}}}/refuse", {"reason": "no"}), words)


def reasoned(route: str, *words: str, body: Mapping[str, Any] | None = None) -> Attempt:
    """Return an attempt whose body is its reason, perhaps with more."""
    return Attempt((route, {"reason": "case 7", **(body or {})}), (*words, "--reason", "case 7"))


CHANGES: Mapping[str, Attempt] = {
    "set facts of a person of acme": facts("persons", ("alice", False), ("mina", "false")),
    "set facts of a person of lab": facts("persons", ("greg", False), ("chen", "false")),
    "set facts of the company acme": facts("tenants", ("acme", "DE"), ("acme", "GB"), "headquarters"),
    "set facts about oneself": facts("persons", ("@me", False), ("@me", "false")),
    "import facts of a person of acme": Attempt(
        None, ("facts", "import", [{"register": "persons", "id": "new", "tenants": ["acme"], "lab_employee": False}])
    ),
    "receive a directive": order("receive", DIRECTIVE),
    "receive a directive with an exemption": order("receive", {**DIRECTIVE, **EXEMPT}, "new-e-@door"),
    "receive a licence": order("receive", LICENCE, "new-l-@door", "licence"),
    "receive a grant": order("receive", {"person_id": "chen"}, "new-g-@door", "grant"),
    "receive an override": order("receive", {"reason": "drill"}, "new-o-@door", "override"),
    "amend a directive: wider": order("amend", {**DIRECTIVE, "models": "all"}, "d1-@door"),
    "amend a directive: an exemption": order("amend", {**DIRECTIVE, **EXEMPT}, "d2-@door"),
    "amend a licence: narrower": order("amend", {**LICENCE, "models": ["open-1"]}, "l1-@door", "licence"),
    "amend a licence: wider": order("amend", {**LICENCE, "actions": ["infer", "list"]}, "l2-@door", "licence"),
    "end a directive": reasoned("/v1/orders/d3-@door/end", "order", "end", "d3-@door"),
    "revoke a licence": reasoned("/v1/orders/l3-@door/end", "order", "end", "l3-@door"),
    "engage a switch for a model": Attempt(
        ("/v1/switches", {"id": "new-@door", "scope": {"models": ["open-1"]}, "reason": "r"}),
        ("switch", "engage", "new-@door", "--scope", "model=open-1", "--reason", "r"),
    ),
    "engage a switch for the tenant acme": Attempt(
        ("/v1/switches", {"id": "new-t-@door", "scope": {"tenants": ["acme"]}, "reason": "r"}),
        ("switch", "engage", "new-t-@door", "--scope", "tenant=acme", "--reason", "r"),
    ),
    "release a switch": reasoned("/v1/switches/s1-@door/release", "switch", "release", "s1-@door"),
    "publish a release": Attempt(("/v1/releases", {"files": "@release"}), ("policy", "publish", "@{folder}")),
    "activate a release": Attempt(("/v1/releases/@{release}/activate", {}), ("policy", "activate", "@{release}")),
    "erase a person": reasoned("/v1/log/erase", "audit", "erase", "bruno", body={"id": "bruno"}),
    "erase oneself": reasoned("/v1/log/erase", "audit", "erase", "@me", body={"id": "@me"}),
    "place a legal hold": reasoned(
        "/v1/log/holds", "audit", "hold", "add", "new-h-@door", "--subject", "mina",
        body={"id": "new-h-@door", "subject": "mina"},
    ),
    "release a legal hold": reasoned("/v1/log/holds/h-@door/release", "audit", "hold", "release", "h-@door"),
    "recover an older database": Attempt(None, ("audit", "recover", "--beyond", "99", "--reason", "lost")),
    "make first keys when there are some": Attempt(None, ("keys", "create", "--first", "ada", "ben")),
    "create a key": Attempt(None, ("keys", "create", "rita-@door", "--scopes", "approve")),
    "let a subject of an issuer in": Attempt(
        None,
        ("keys", "create", "sub-@door", "--scopes", "approve", "--issuer", "https://issuer.example", "--subject", "s"),
    ),
    "approve what another proposed": ruling("approve", "approve-@door"),
    "approve what one proposed oneself": ruling("approve", "own-@me-@door"),
    "refuse what another proposed": ruling("refuse", "refuse-@door"),
    "withdraw what one proposed oneself": ruling("refuse", "own-@me-@door"),
    "revoke a key of another": Attempt(None, ("keys", "revoke", "@{key}")),
    "revoke a key of one's own": Attempt(None, ("keys", "revoke", "@{key of @me}")),
}  # fmt: skip


@dataclass
class Scene:
    """A closed database in which there is something for every attempt, and the names of what was prepared."""

    place: Path
    secrets: dict[str, str]
    names: dict[str, str]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, sample_database: SampleDatabase, compiled: ReleaseLoader) -> Scene:
    """Prepare the database once."""
    place = tmp_path_factory.mktemp("doors") / "engine.db"
    copy_template(sample_database.place, place)
    engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=compiled)
    try:
        secrets, names = prepare(engine, sample_database.keys)
    finally:
        engine.close()
    names["folder"] = str(place.parent / "policies")
    shutil.copytree(POLICIES, names["folder"])
    (Path(names["folder"]) / "models.toml").write_bytes(other_release("published by command")["models.toml"])
    return Scene(place, secrets, names)


def prepare(engine: Engine, keys: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Fill the database with personas and with what they will try to change; return secrets and names."""
    operator, approver = (engine.keys.authenticate(keys[name], engine.store.now()) for name in ("operator", "approver"))
    secrets: dict[str, str] = {}
    names: dict[str, str] = {}
    expires = engine.store.now() + round(EXPIRES_SECONDS * SECOND)
    for persona, request in {**PERSONAS, "spare": person("p-spare", "decide")}.items():
        if request is None:
            continue
        ends = expires if "expired" in persona else None
        asked = KeyRequest(request.principal, request.kind, request.scopes, request.tenants, expires_at=ends)
        issued = engine.keys.create(operator, asked)
        engine.approvals.approve(approver, issued.proposal)
        secrets[persona] = issued.secret or ""
        names[f"key of {request.principal}"] = issued.id
    names["key"], names["key of local"] = names["key of p-spare"], "none"
    engine.keys.revoke(operator, names["key of p-revoked"])
    other = engine.publish.publish(operator, other_release("prepared"))
    engine.approvals.approve(approver, other.id)
    names["release"] = str(other.payload["hash"])
    for door in DOORS:
        prepare_door(engine, operator, approver, door, names)
    while engine.store.now() <= expires:
        time.sleep(0.01)
    return secrets, names


def prepare_door(engine: Engine, operator: Any, approver: Any, door: str, names: dict[str, str]) -> None:
    """Prepare what is tried through one door."""
    for number in (1, 2, 3):
        engine.orders.receive(operator, "directive", {"id": f"d{number}-{door}", **DIRECTIVE})
        licence = engine.orders.receive(operator, "licence", {"id": f"l{number}-{door}", **LICENCE})
        engine.approvals.approve(approver, licence.proposal or "")
    engine.disposal.holds.place(operator, f"h-{door}", Cover(model="open-1"), "why")
    for switch in ("s1", "s2", "s3", "s4"):
        engine.switches.engage(operator, f"{switch}-{door}", {"models": ["open-1"]}, "why")
    for what, switch in (("approve", "s2"), ("refuse", "s3")):
        waiting = engine.switches.release(operator, f"{switch}-{door}", "over")
        names[f"{what}-{door}"], names[f"hash of {what}-{door}"] = waiting.id, waiting.hash
    switch = engine.store.row("switches", f"s4-{door}")
    assert switch is not None
    for request in PERSONAS.values():
        me = "local" if request is None else request.principal
        key = engine.store.row("keys", names[f"key of {me}"])
        caller = Caller(me, names[f"key of {me}"], None, engine.store.now(),
                        ("keys", names[f"key of {me}"], 0 if key is None else key.revision))  # fmt: skip
        payload = {"id": f"s4-{door}", "reason": "over"}
        own = engine.approvals.propose(
            caller, "switch.release", payload, (("switches", f"s4-{door}", switch.revision),)
        )
        names[f"own-{me}-{door}"], names[f"hash of own-{me}-{door}"] = own.id, own.hash


@pytest.fixture
def column(
    scene: Scene, tmp_path: Path, compiled: ReleaseLoader, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], list[str]]]:
    """Offer what tries every change as one persona, through both doors, on a copy of the database."""
    opened: list[Engine] = []

    def tried(persona: str) -> list[str]:
        request = PERSONAS[persona]
        place = tmp_path / f"{len(opened)}.db"
        copy_template(scene.place, place)
        engine = open_engine(Settings(database=f"sqlite:///{place}", policies=POLICIES), releases=compiled)
        opened.append(engine)
        me, secret = "local" if request is None else request.principal, scene.secrets.get(persona)
        with monkeypatch.context() as patch:
            doors = (
                over_http(engine, secret, me, scene.names),
                on_the_command_line(engine, secret, me, scene.names, tmp_path, patch),
            )
            return [
                " ".join(f"{judged(engine, name, door, change):2}" for door in doors)
                for name, change in CHANGES.items()
            ]

    yield tried
    for engine in opened:
        engine.close()


def judged(engine: Engine, name: str, door: Try, change: Attempt) -> str:
    """Return the sign of an attempt. A refused one left nothing behind, and is one sentence that names nobody."""
    before = trace(engine)
    cell, sentence = door(change)
    assert cell != CONFLICT, (name, sentence)
    if cell == REFUSED:
        assert trace(engine) == before, f"{name}: refused, and something changed"
        assert re.fullmatch(r"[^\n]{10,300}", sentence), (name, sentence)
        assert not re.search(r"\bp-|pe_|key-[0-9a-f]|alice|greg|bruno", sentence), (name, sentence)
    return cell


def rendered(column: Callable[[str], list[str]]) -> str:
    """Return the matrix as text: a line a change, two signs a persona."""
    lines = ["✓ at once   2 waits for a second person   ✓2 part at once, part waits   ✗ refused   · no such door"]
    lines += ["Two signs for each persona: over HTTP, on the command line.", ""]
    for number, persona in enumerate(PERSONAS):
        lines.append("      ".join(["", *["|"] * number, persona]).rstrip())
    columns = [column(persona) for persona in PERSONAS]
    lines.append("")
    for place, name in enumerate(CHANGES):
        lines.append("      " + "  ".join(cells[place] for cells in columns) + f"  {name}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def test_who_may_do_what_through_which_door(column: Callable[[str], list[str]]) -> None:
    """Every persona's every attempt, through both doors, comes out as the reviewed file says."""
    assert REVIEWED.read_text() == rendered(column)


def signs(text: str, count: int) -> dict[str, list[str]]:
    """Return the signs of each line of a reviewed file, by the change it is about."""
    lines = [line.split() for line in text.splitlines()]
    return {
        " ".join(words[count:]): words[:count]
        for words in lines
        if len(words) > count and set(words[:count]) <= {"✓", "2", "✓2", "✗", "·"}
    }


def test_a_door_allows_no_more_than_its_service() -> None:
    """Where both reviewed files have a line, each sign at a door is the service's, or a refusal, or no such door."""
    services = signs((REVIEWED.parent / "permissions.txt").read_text(), len(PERSONAS) + 1)
    doors = signs(REVIEWED.read_text(), 2 * len(PERSONAS))
    both = services.keys() & doors.keys()
    assert len(doors) == len(CHANGES) and len(both) >= len(CHANGES) - 2
    for name in both:
        local, sample, *rest = services[name]
        assert doors[name][0] in ("✗", "·") and doors[name][1] in ("✗", "·", sample), name
        assert local in ("✗", sample)
        for place, sign in enumerate(rest, start=1):
            assert set(doors[name][2 * place : 2 * place + 2]) <= {"✗", "·", sign}, (name, place)
