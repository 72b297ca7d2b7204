"""Deciding under a plain Casbin folder: the entry, kill switches, what is unknown, and who is believed about what."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from policy_engine import PolicyEngine
from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Decision, Principal, PrincipalKind, Request
from policy_engine.core.facts import Location
from policy_engine.core.instants import parse_instant
from policy_engine.core.plain import PlainRelease
from policy_engine.core.switches import DIMENSIONS
from policy_engine.errors import InputRefused
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.evidence import Filters
from policy_engine.services.permissions import LOCAL
from policy_engine.services.queries import Query
from policy_engine.services.unseal import Unsealer
from policy_engine.settings import Settings
from policy_engine.store.interfaces import Write
from tests.rules.plainfolders import MODEL, POLICY, folder

GATEWAY = Principal("gateway", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("*",)))
BOUNDED = Principal("pep", PrincipalKind.SERVICE, frozenset(("decide",)), frozenset(("acme",)), frozenset())
AUDITOR = Principal("auditor", PrincipalKind.PERSON, frozenset(("audit:read", "audit:unseal")))
ALICE = Request("alice", "read", "doc", subject_type="user", resource_type="document")
CATALOGUE = """
[[model]]
id = "doc"
aliases = ["the-doc"]
base = ["base"]
tier = 2
[[model]]
id = "base"
"""
Opened = Callable[..., Engine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Offer `opened(files, **switches)`: an engine on a new database with a folder and switches in its genesis."""
    engines: list[Engine] = []

    def open_on(files: Mapping[str, bytes], **switches: Any) -> Engine:
        settings = Settings(database=f"sqlite:///{tmp_path / f'{len(engines)}.db'}", serving_region=None)
        writes = tuple(Write("switches", id, document, 0) for id, document in switches.items())
        engines.append(open_engine(settings, genesis=(files, writes)))
        return engines[-1]

    yield open_on
    for engine in engines:
        engine.close()


def asked(engine: Engine, request: Request = ALICE, principal: Principal = GATEWAY, **more: Any) -> Decision:
    """Return the decision on a request."""
    return engine.decider.decide(request, principal, **more)


def codes(decision: Decision) -> list[str]:
    """Return the codes of a decision's reasons."""
    return [reason.code for reason in decision.reasons]


def entry(engine: Engine) -> dict[str, Any]:
    """Return the public part of the newest entry."""
    (found,) = engine.evidence.query(AUDITOR, Filters(kind="decision", limit=1)).entries
    return dict(found)


def test_an_allow_and_its_entry(opened: Opened) -> None:
    """An allow names the row by file and line; its entry is there first, names the row, and seals who asked."""
    engine = opened(folder())
    decision = asked(engine)
    assert decision.allowed and codes(decision) == ["policy.allow"]
    assert [reason.rule for reason in decision.reasons] == ["policy.csv:2"]
    found = entry(engine)
    assert (found["id"], found["outcome"], found["rules"]) == (decision.id, "allow", ["policy.csv:2"])
    assert (found["action"], found["model"], found["tenant"], found["reached"]) == ("read", "doc", None, True)
    assert "alice" not in json.dumps(found)
    assert engine.evidence.verify().findings == ()


def test_a_deny_rule_and_no_rule(opened: Opened) -> None:
    """The model's own effect decides: a deny row is the reason; without any row there is a reason as well."""
    engine = opened(folder())
    mallory, eve = (asked(engine, Request(id, "read", "doc", subject_type="user")) for id in ("mallory", "eve"))
    assert (mallory.allowed, codes(mallory), mallory.reasons[0].rule) == (False, ["policy.deny"], "policy.csv:5")
    assert (eve.allowed, codes(eve), eve.message) == (False, ["no-rule-allows"], "No rule of the policy allows this.")


def test_no_row_and_no_word_of_a_caller_leaves(opened: Opened) -> None:
    """Reasons and the public entry hold no value of a request: an action and a resource that only a caller named."""
    engine = opened(folder())
    decision = asked(engine, Request("planted-subject", "planted-action", "planted-resource", tenant="planted-tenant"))
    said = json.dumps([entry(engine), str(decision.reasons), decision.message])
    assert not decision.allowed and "planted" not in said
    assert (entry(engine)["action"], entry(engine)["model"]) == (None, None)
    assert "reader" not in str(asked(engine).reasons)


def test_members_and_types_are_not_asked_for(opened: Opened) -> None:
    """Nobody is in a register: any type of subject and resource is decided by the rows alone, for any tenant."""
    engine = opened(folder())
    for kind in ("person", "user", "robot"):
        for resource in ("model", "document"):
            request = Request("alice", "read", "doc", "nobody", subject_type=kind, resource_type=resource)
            assert asked(engine, request).allowed


def test_a_bounded_key_asks_for_its_tenants_alone(opened: Opened) -> None:
    """A key that is bound to tenants is denied for another tenant and for none."""
    engine = opened(folder())
    assert asked(engine, Request("alice", "read", "doc", "acme"), BOUNDED).allowed
    for tenant in ("other", None):
        assert codes(asked(engine, Request("alice", "read", "doc", tenant), BOUNDED)) == ["tenant.not-permitted"]


PLACED = {"location": Location("US", "US-CA"), "serving_region": "DE"}


@pytest.mark.parametrize(
    ("scope", "request_more", "covered"),
    [
        ({"models": ["doc"]}, {}, True),
        ({"models": ["other"]}, {}, False),
        ({"actions": ["read"]}, {}, True),
        ({"actions": ["write"]}, {}, False),
        ({"tenants": ["acme"]}, {"tenant": "acme"}, True),
        ({"tenants": ["acme"]}, {"tenant": "other"}, False),
        ({"tenants": ["acme"]}, {}, True),
        ({"regions": ["US"]}, PLACED, True),
        ({"regions": ["US-CA"]}, PLACED, True),
        ({"regions": ["DE"]}, PLACED, True),
        ({"regions": ["FR"]}, PLACED, False),
        ({"regions": ["FR"]}, {}, True),
        ({"regions": ["FR"]}, {"location": Location("US")}, True),
        ({"regions": ["FR"]}, {**PLACED, "location": Location("US", anonymiser=True)}, True),
        ({"regions": ["FR"]}, {**PLACED, "location": Location("fr")}, True),
        ({"regions": ["FR"]}, {**PLACED, "location": Location("US", "FR-75")}, True),
        ({"regions": ["US-CA"]}, {**PLACED, "location": Location("US")}, True),
        ({"regions": ["UA-43"]}, {**PLACED, "location": Location("US")}, False),
        ({"tiers": [4]}, {}, True),
        ({"tenant_types": ["lab"]}, {"tenant": "acme"}, True),
        ({}, {}, True),
        (None, {}, True),
        ("unreadable", {}, True),
    ],
)
def test_kill_switches_cover(opened: Opened, scope: Any, request_more: Any, covered: bool) -> None:
    """A switch denies what it names, and what is unknown about a request; one that cannot be read covers all.

    Control: policy_engine/services/plain.py: `if ids:`
    """
    engine = opened(folder(), stop={"scope": scope, "from": None, "until": None})
    decision = asked(engine, Request("alice", "read", "doc", **request_more))
    assert decision.allowed is not covered
    assert codes(decision) == (["switch.engaged"] if covered else ["policy.allow"])
    if covered:
        assert decision.reasons[0].orders == ("stop",)
        assert entry(engine)["reached"] is False


def test_a_switch_that_has_ended_covers_nothing(opened: Opened) -> None:
    """An ended switch and one that has not begun do not deny; the answer holds no longer than until it begins."""
    engine = opened(
        folder(),
        past={"scope": {name: [] for name in DIMENSIONS}, "until": "2001-01-01T00:00:00Z"},
        later={"scope": {}, "from": "2199-01-01T00:00:00Z"},
    )
    assert asked(engine).allowed
    assert entry(engine)["until"] == parse_instant("2199-01-01T00:00:00Z")


def test_a_catalogue_resolves_aliases_and_reaches_bases(opened: Opened) -> None:
    """With models.toml an alias is its model, an unknown one is denied, and a switch on a base reaches what derives."""
    engine = opened(folder(models_toml=CATALOGUE))
    decision = asked(engine, Request("alice", "read", "the-doc", subject_type="user"))
    assert decision.allowed
    assert (entry(engine)["model"], entry(engine)["asked"], entry(engine)["tier"]) == ("doc", "the-doc", 2)
    unknown = asked(engine, Request("alice", "read", "other"))
    assert (codes(unknown), unknown.missing) == (["model.unknown"], ("resource.id",))
    stopped = opened(folder(models_toml=CATALOGUE), stop={"scope": {"models": ["base"]}})
    assert codes(asked(stopped)) == ["switch.engaged"]
    tiered = opened(folder(models_toml=CATALOGUE), stop={"scope": {"tiers": [4]}})
    assert asked(tiered).allowed


def test_an_empty_catalogue_knows_no_model(opened: Opened) -> None:
    """A models.toml without models is a catalogue: every resource is unknown, none is itself."""
    assert codes(asked(opened(folder(models_toml="")))) == ["model.unknown"]


DOMAINS = MODEL.replace("r = sub,", "r = sub, dom,").replace("p = sub,", "p = sub, dom,")
DOMAINS = DOMAINS.replace("r.obj ==", "r.dom == p.dom && r.obj ==")


def test_an_absent_tenant_is_unknown(opened: Opened) -> None:
    """A token that the request does not hold is unknown and denies; the missing path is named, no value.

    Control: policy_engine/services/plain.py: `if flat.unknown:`
    """
    engine = opened(folder("p, alice, acme, doc, read, allow\n", DOMAINS))
    assert asked(engine, Request("alice", "read", "doc", "acme"), LOCAL).allowed
    decision = asked(engine)
    assert (codes(decision), decision.missing) == (["token.unknown"], ("context.tenant",))


ROLE = '[tokens]\nsub = { from = "subject.properties.role", kind = "scalar" }\n'
BOB = '{"type": "user", "id": "bob", "properties": {"role": "reader"}}'


def with_role(subject: str, role: Any) -> Request:
    """Return a request that says which role its subject has."""
    raw = {"subject": {"type": "user", "id": subject, "properties": {"role": role}}}
    return Request(subject, "read", "doc", subject_type="user", raw=raw)


def test_only_a_trusted_key_is_believed_about_the_request(opened: Opened) -> None:
    """A token that reads more of a request than ids works for keys with `*` alone; for others it is unknown.

    Control: policy_engine/services/plain.py:
    `flat = release.flat(asked.request, asked.resource_id or "", supplied="*" in asked.principal.supplies)`
    """
    engine = opened(folder(facets_toml=ROLE))
    assert asked(engine, with_role("alice", "reader")).allowed
    decision = asked(engine, with_role("alice", "reader"), LOCAL)
    assert (codes(decision), decision.missing) == (["token.unknown"], ("subject.properties.role",))
    for role in (None, ["reader"], {"name": "reader"}):
        assert codes(asked(engine, with_role("alice", role))) == ["token.unknown"]
    assert codes(asked(engine, ALICE)) == ["token.unknown"]


def test_entities_win_and_are_known_for_every_key(opened: Opened) -> None:
    """What entities.jsonl says of a subject is a fact of the release: it wins, and needs nobody's word."""
    engine = opened(folder(facets_toml=ROLE, entities_jsonl=BOB))
    assert asked(engine, with_role("bob", "mallory"), LOCAL).allowed
    assert asked(engine, with_role("bob", "mallory")).allowed
    assert codes(asked(engine, with_role("alice", "reader"), LOCAL)) == ["token.unknown"]
    other = Request("bob", "read", "doc", subject_type="robot")
    assert codes(asked(engine, other, LOCAL)) == ["token.unknown"]


class _Errs:
    """An enforcer whose every rule errs, with the request's value in the error."""

    def enforce_ex(self, *rvals: Any) -> Any:
        """Raise."""
        raise ValueError(f"bad value {rvals}")

    explain = enforce_ex


class _Opens:
    """An enforcer that allows without naming a row."""

    def enforce_ex(self, *rvals: Any) -> Any:
        """Return an allow that no row gives."""
        return True, []

    def explain(self, *rvals: Any) -> Any:
        """Return no row."""
        return []


@pytest.mark.parametrize("enforcer", [_Errs(), _Opens()])
def test_a_rule_that_errs_denies(opened: Opened, enforcer: Any) -> None:
    """An error of a rule, and an allow that no rule gives, are denies with a reason of their own and an entry.

    Control: policy_engine/services/plain.py: `if judged.allowed and rule is None:`
    """
    engine = opened(folder())
    release = engine.snapshots.current().release
    assert isinstance(release, PlainRelease)
    object.__setattr__(release, "enforcer", enforcer)
    decision = asked(engine)
    assert (decision.allowed, codes(decision)) == (False, ["rules.error"])
    assert decision.id and entry(engine)["reached"] is False
    assert "alice" not in str(decision)


def test_reasons_may_be_said_otherwise(opened: Opened) -> None:
    """`[reasons]` of facets.toml replaces the engine's sentences, for its own reasons and for those of rules."""
    facets = '[reasons]\n"no-rule-allows" = { message = "Ask Jo." }\n"policy.deny" = { message = "Jo says no." }\n'
    engine = opened(folder(facets_toml=facets))
    assert asked(engine, Request("eve", "read", "doc")).message == "Ask Jo."
    denied = asked(engine, Request("mallory", "read", "doc"))
    assert (denied.message, denied.reasons[0].rule) == ("Jo says no.", "policy.csv:5")


def test_the_flat_tuple_is_sealed_with_the_entry(opened: Opened) -> None:
    """The sealed part holds the tuple that the rules read, in order of the tokens; the public part holds none of it."""
    engine = opened(folder())
    asked(engine)
    with engine.store.view() as view:
        newest = list(view.scan_entries())[-1]
        body = Unsealer(engine.evidence._vault, view.data_key).body(newest, parse_public(newest.public))
    assert body["values"] == ["alice", "doc", "read"]
    assert "reader" not in str(newest.public)


def test_another_policy_is_published_and_decides(opened: Opened, tmp_path: Path) -> None:
    """A plain folder is loaded from the store by its hash, and one kind of release can follow the other."""
    engine = opened(folder())
    more = folder(POLICY + "p, eve, doc, read, allow\n")
    first = engine.publish.genesis_release(more)
    loaded = engine.releases.load(more)
    assert loaded.hash == first.hash and isinstance(loaded, PlainRelease)
    assert loaded.judge(("eve", "doc", "read")).allowed


ENTITIES = """{"type": "user", "id": "alice", "properties": {"role": "reader"}}
{"type": "robot", "id": "alice", "properties": {"role": "none"}}
{"type": "user", "id": "carol", "properties": {"role": "writer"}}
{"type": "document", "id": "doc"}
"""


def test_a_search_lists_entities_by_type(opened: Opened) -> None:
    """With entities.jsonl exactly the entities that are allowed are listed, each with its type, and nobody else."""
    engine = opened(folder(facets_toml=ROLE, entities_jsonl=ENTITIES))
    found = engine.search.who_can(LOCAL, Query(model="doc"))
    assert found.complete
    shown = {(hit.subject_type, hit.subject, hit.resource_type, hit.action) for hit in found.hits}
    assert shown == {
        ("user", "alice", "document", "read"),
        ("user", "carol", "document", "read"),
        ("user", "carol", "document", "write"),
    }
    for kind, id in (("user", "alice"), ("robot", "alice"), ("user", "carol"), ("document", "doc")):
        for action in ("read", "write"):
            request = Request(id, action, "doc", subject_type=kind, resource_type="document")
            assert asked(engine, request, LOCAL).allowed == ((kind, id, "document", action) in shown)


@pytest.mark.parametrize(
    ("line", "query", "complete"),
    [
        ("", Query(model="doc"), True),
        ("g, bob, reader\n", Query(model="doc"), False),
        ("g, bob, reader\n", Query(model="doc", subject="alice"), True),
        ("p, bob, doc, read, allow\n", Query(model="doc"), False),
        ("p, alice, doc, *, allow\n", Query(subject="alice"), False),
        ("p, alice, doc, *, allow\n", Query(subject="alice", action="read"), True),
    ],
)
def test_a_search_that_leaves_out_what_rows_name_is_not_complete(
    opened: Opened, line: str, query: Query, complete: bool
) -> None:
    """Beside entities somebody whom rows name may be allowed, and an action that none names: a search says so."""
    entities = "".join(f'{{"type": "person", "id": "{id}"}}\n' for id in ("alice", "mallory", "writer"))
    engine = opened(folder(POLICY + line, entities_jsonl=entities))
    assert engine.search.who_can(LOCAL, query).complete is complete


IN_DOMAINS = """[request_definition]
r = sub, dom, obj, act
[policy_definition]
p = sub, dom, obj, act
[role_definition]
g = _, _
g2 = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && """
EQUAL = "r.dom == p.dom && r.obj == p.obj && r.act == p.act"


@pytest.mark.parametrize(
    ("matcher", "row", "whole"),
    [
        (EQUAL, "p, alice, acme, doc, read", True),
        (EQUAL.replace("r.dom == p.dom", 'p.dom == "*"'), "p, alice, *, doc, read", False),
        (EQUAL.replace("r.dom == p.dom", "keyMatch(r.dom, p.dom)"), "p, alice, ac*, doc, read", False),
        (EQUAL.replace("r.act == p.act", "regexMatch(r.act, p.act)"), "p, alice, acme, doc, .*", False),
        (EQUAL.replace("r.act == p.act", "g2(r.act, p.act)"), "p, alice, acme, doc, rw\ng2, read, rw", True),
        (EQUAL.replace("r.obj == p.obj", "keyMatch(r.obj, p.obj)"), "p, alice, acme, d*, read", False),
        (EQUAL.replace("r.obj == p.obj", "p.obj == '*'"), "p, alice, acme, *, read", False),
        (EQUAL.replace("r.obj == p.obj", "g2(r.obj, p.obj)"), "p, alice, acme, docs, read\ng2, doc, docs", True),
    ],
)
def test_a_search_finds_what_it_could_ask_or_is_not_complete(
    opened: Opened, matcher: str, row: str, whole: bool
) -> None:
    """Actions, resources and tenants that rows allow by a pattern, a role or `*` are found, or said to be left out."""
    entities = '{"type": "person", "id": "alice"}\n'
    engine = opened(folder(row + "\n", IN_DOMAINS + matcher + "\n", entities_jsonl=entities))
    assert asked(engine, Request("alice", "read", "doc", "acme"), LOCAL).allowed
    found = engine.search.what_can(LOCAL, Query(subject="alice"))
    assert found.complete is whole
    assert whole is any((hit.tenant, hit.model, hit.action) == ("acme", "doc", "read") for hit in found.hits)


@pytest.mark.parametrize(
    "reading", ['r.ctx["tenant"] == p.dom', "keyMatch(p.dom, r.ctx.tenant)", "r.ctx.tenant in (p.dom, p.dom)"]
)
def test_a_search_tries_the_tenants_however_the_matcher_reads_one(opened: Opened, reading: str) -> None:
    """By a key of the context, or in any place of a function: the tenant of a row is tried, or said to be left out."""
    model = IN_DOMAINS.replace("r = sub, dom", "r = sub, ctx") + EQUAL.replace("r.dom == p.dom", reading) + "\n"
    facets = '[tokens]\nctx = { from = "context", kind = "object" }\n'
    entities = '{"type": "person", "id": "alice"}\n'
    engine = opened(folder("p, alice, acme, doc, read\n", model, entities_jsonl=entities, facets_toml=facets))
    found = engine.search.what_can(GATEWAY, Query(subject="alice"))
    assert [(hit.tenant, hit.model) for hit in found.hits] == [("acme", "doc")]
    assert found.complete is ("==" in reading)


def test_a_search_asks_about_the_models_of_a_catalogue(opened: Opened) -> None:
    """With models.toml its entries are the resources, also those that no row names."""
    rows = "p, alice, *, read, allow\np, alice, gone, read, allow\n"
    model = MODEL.replace("r.obj == p.obj", '(p.obj == "*" || r.obj == p.obj)')
    catalogue = '[[model]]\nid = "doc"\n[[model]]\nid = "memo"\n'
    entities = '{"type": "person", "id": "alice"}\n'
    engine = opened(folder(rows, model, entities_jsonl=entities, models_toml=catalogue))
    found = engine.search.what_can(LOCAL, Query(subject="alice"))
    assert ([hit.model for hit in found.hits], found.complete) == (["doc", "memo"], True)


def test_a_search_asks_about_an_alias_as_about_its_entry(opened: Opened) -> None:
    """Whoever may use an entity of the catalogue is found under its alias too: an alias has the type of its entry."""
    model = MODEL.replace("r.obj == p.obj", "r.obj.id == p.obj && r.obj.owner == 'alice'")
    facets = '[tokens]\nobj = { from = "resource", kind = "object" }\n'
    owned = '{"type": "user", "id": "alice"}\n{"type": "document", "id": "doc", "properties": {"owner": "alice"}}\n'
    catalogue = '[[model]]\nid = "doc"\naliases = ["the-doc"]\n'
    engine = opened(folder(model=model, facets_toml=facets, entities_jsonl=owned, models_toml=catalogue))
    for name in ("doc", "the-doc"):
        found = engine.search.who_can(LOCAL, Query(model=name))
        assert [(hit.subject, hit.resource_type, hit.model) for hit in found.hits] == [("alice", "document", name)]
        request = Request("alice", "read", name, subject_type="user", resource_type="document")
        assert asked(engine, request, LOCAL).allowed


def test_a_search_is_one_entry_without_words_of_the_caller(opened: Opened) -> None:
    """A search writes one entry; what only the caller named is not in its public part."""
    engine = opened(folder())
    before = engine.store.head()
    found = engine.search.who_can(LOCAL, Query(model="planted-model", action="planted-action"))
    after = engine.store.head()
    assert found.hits == () and after is not None and before is not None and after.next_seq == before.next_seq + 1
    (newest,) = engine.evidence.query(AUDITOR, Filters(kind="search", limit=1)).entries
    assert "planted" not in json.dumps(newest)


def test_a_search_tries_the_domains_that_the_policy_names(opened: Opened) -> None:
    """Where the policy reads a tenant, each domain of its rows is tried; the policy without actions needs one named."""
    engine = opened(folder("p, alice, acme, doc, read, allow\np, alice, other, doc, read, deny\n", DOMAINS))
    hits = engine.search.what_can(LOCAL, Query(subject="alice")).hits
    assert [(hit.tenant, hit.model, hit.action) for hit in hits] == [("acme", "doc", "read")]
    renamed = DOMAINS.replace("p = sub, dom, obj, act", "p = sub, dom, obj, verb").replace("p.act", "p.verb")
    named = opened(folder("p, alice, acme, doc, read, allow\n", renamed)).search
    assert [hit.action for hit in named.what_can(LOCAL, Query(subject="alice")).hits] == ["read"]
    nameless = opened(folder("p, alice, acme, doc, read, allow\n", renamed.replace(" && r.act == p.verb", "")))
    with pytest.raises(InputRefused, match="--action"):
        nameless.search.what_can(LOCAL, Query(subject="alice"))
    assert len(nameless.search.what_can(LOCAL, Query(subject="alice", action="read")).hits) == 1


def test_the_embedded_engine_serves_a_plain_folder(tmp_path: Path) -> None:
    """`PolicyEngine.open` takes a plain folder as it takes packs, and asks about entities by their types."""
    place = tmp_path / "plain"
    place.mkdir()
    for name, content in folder(facets_toml=ROLE, entities_jsonl=ENTITIES).items():
        (place / name).write_bytes(content)
    with PolicyEngine.open(place, database=f"sqlite:///{tmp_path / 'embedded.db'}") as engine:
        about = {"subject": "alice", "model": "doc", "action": "read", "resource_type": "document"}
        assert engine.decide(**about, subject_type="user")
        assert not engine.decide(**about, subject_type="robot")
        assert engine.decide(**about).missing == ("subject.properties.role",)
