"""Objects in a plain Casbin folder: what rules read of an entity, what is recorded of it, and what a replay reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Decision, Outcome, Principal, PrincipalKind, Request
from policy_engine.core.plain import PlainRelease
from policy_engine.ledger.decisions import flat_text, flat_values
from policy_engine.ledger.encoding import parse_public
from policy_engine.services.permissions import LOCAL
from policy_engine.services.unseal import Unsealer
from policy_engine.settings import Settings
from tests.house.witness import Witness
from tests.rules.plainfolders import folder, loaded

TRUSTED = Principal("gateway", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("*",)))
FACETS = """[tokens]
sub = { from = "subject", kind = "object" }
obj = { from = "resource", kind = "object" }
ctx = { from = "context", kind = "object" }
"""
HEAD = """[request_definition]
r = sub, obj, act, ctx
[policy_definition]
p = rule, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
"""
MODEL = HEAD + "m = r.act == p.act && eval(p.rule)\n"
PROPERTIES = st.dictionaries(
    st.sampled_from(("role", "items", "keys", "id", "type", "properties", "__class__", "age")),
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2),
)
RULES = (
    'r.sub.role == "admin"',
    "r.sub.age > 17",
    'r.sub.id == r.obj.id || r.sub.type == "robot"',
    '"x" in r.sub.items',
    'r.sub.properties.id == "root"',
    "r.sub.properties == r.obj.properties",
)
Asks = Callable[..., Decision]


def policy(*rules: str) -> str:
    """Return a policy of rules for reading."""
    return "".join(f"p, {rule}, read\n" for rule in rules)


def asking(subject: Any = None, resource: Any = None, context: Any = None) -> Request:
    """Return a request to read whose entities have these properties."""
    raw = {"subject": {"properties": subject or {}}, "resource": {"properties": resource or {}}}
    if context is not None:
        raw["context"] = context
    return Request("alice", "read", "doc", subject_type="user", resource_type="document", raw=raw)


@pytest.fixture
def engine_of(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Offer `engine_of(*rules)`: an engine whose rules read objects."""
    engines: list[Engine] = []

    def opened(*rules: str, **others: str) -> Engine:
        settings = Settings(database=f"sqlite:///{tmp_path / f'{len(engines)}.db'}")
        files = folder(policy(*rules), MODEL, **{"facets_toml": FACETS, **others})
        engines.append(open_engine(settings, genesis=(files, ())))
        return engines[-1]

    yield opened
    for engine in engines:
        engine.close()


def newest_body(engine: Engine) -> Any:
    """Return the sealed part of the newest entry."""
    with engine.store.view() as view:
        entry = list(view.scan_entries())[-1]
        return Unsealer(engine.evidence._vault, view.data_key).body(entry, parse_public(entry.public))


@pytest.mark.parametrize(
    ("rule", "properties", "allowed"),
    [
        ('r.sub.role == "admin"', {"role": "admin"}, True),
        ('r.sub.role == "admin"', {"role": "user"}, False),
        ("r.sub.age > 17", {"age": 18}, True),
        ("r.sub.age > 17", {"age": 17.5}, True),
        ("r.sub.age > 17", {"age": 17}, False),
        ('"x" in r.sub.items', {"items": ["x"]}, True),
        ('r.sub.keys == "k"', {"keys": "k"}, True),
        ('r.sub.get == "g"', {"get": "g"}, True),
        ('r.sub.id == "root"', {"id": "root"}, False),
        ('r.sub.properties.id == "root"', {"id": "root"}, True),
        ('r.sub.type == "user"', {"type": "admin"}, True),
        ('r.sub.address.country == "US"', {"address": {"country": "US"}}, True),
        ('"role" in r.sub && r.sub.role == "admin"', {}, False),
    ],
)
def test_how_a_rule_reads_a_subject(
    engine_of: Callable[..., Engine], rule: str, properties: dict[str, Any], allowed: bool
) -> None:
    """Own members come before properties; keys that are method names are read like any other."""
    decision = engine_of(rule).decider.decide(asking(properties), TRUSTED)
    assert decision.allowed is allowed
    assert decision.reasons[0].code == ("policy.allow" if allowed else "no-rule-allows")


@pytest.mark.parametrize(
    ("rule", "properties"),
    [
        ('r.sub.role == "admin"', {}),
        ("r.sub.age > 17", {"age": "18"}),
        ("r.sub.age > 17", {"age": None}),
        ('r.sub.address.country == "US"', {"address": "US"}),
        ('"x" in r.sub.items', {"items": 5}),
    ],
)
def test_a_rule_that_cannot_read_denies(
    engine_of: Callable[..., Engine], rule: str, properties: dict[str, Any]
) -> None:
    """A missing attribute and one of another kind are errors of the rule; another rule that allows does not help."""
    for rules in ((rule,), (rule, "True"), ("True", rule)):
        decision = engine_of(*rules).decider.decide(asking(properties), TRUSTED)
        assert (decision.allowed, decision.reasons[0].code) == (False, "rules.error")


def test_the_context_is_an_object(engine_of: Callable[..., Engine]) -> None:
    """A token from the context reads it as it was sent."""
    engine = engine_of('r.ctx.ip == "::1"')
    assert engine.decider.decide(asking(context={"ip": "::1"}), TRUSTED).allowed
    assert not engine.decider.decide(asking(context={"ip": "::2"}), TRUSTED).allowed
    assert engine.decider.decide(asking(), TRUSTED).reasons[0].code == "rules.error"


def test_objects_are_unknown_for_a_key_that_is_not_believed(engine_of: Callable[..., Engine]) -> None:
    """Without `*` an entity that entities.jsonl does not know is unknown as a whole, and each missing path is named."""
    decision = engine_of('r.sub.role == "admin"').decider.decide(asking({"role": "admin"}), LOCAL)
    assert (decision.reasons[0].code, decision.missing) == ("token.unknown", ("subject", "resource", "context"))


def test_objects_are_recorded_canonically(engine_of: Callable[..., Engine]) -> None:
    """The sealed tuple holds each object as canonical JSON, with the attributes that decided."""
    entity = '{"type": "user", "id": "alice", "properties": {"role": "admin"}}'
    engine = engine_of('r.sub.role == "admin"', entities_jsonl=entity)
    assert engine.decider.decide(asking({"role": "user", "b": 1, "a": 2}), TRUSTED).allowed
    body = newest_body(engine)
    text = '{"id":"alice","properties":{"a":2,"b":1,"role":"admin"},"type":"user"}'
    assert body["values"][0] == {"json": text}
    assert body["values"][2] == "read"
    assert json.loads(body["raw"])["subject"]["properties"]["role"] == "user"


@pytest.mark.parametrize("role", ["admin", "user"])
def test_the_witness_of_law_6_objects_to_a_forged_entry(engine_of: Callable[..., Engine], role: str) -> None:
    """Stock Casbin agrees with a recorded tuple that holds objects, and disagrees when its outcome is turned round."""
    engine = engine_of('r.sub.role == "admin"')
    evaluation = engine.decider.evaluate(asking({"role": role}), TRUSTED)
    release = engine.snapshots.current().release
    assert isinstance(release, PlainRelease)
    honest, forged = (Witness(releases={release.hash: release}) for _ in range(2))
    honest.saw(evaluation)
    assert (len(honest.answers), honest.disagreements()) == (1, [])
    other = Outcome.DENY if evaluation.outcome is Outcome.ALLOW else Outcome.ALLOW
    forged.saw(evaluation._replace(outcome=other))
    assert len(forged.disagreements()) == 1


@given(PROPERTIES, PROPERTIES, st.lists(st.sampled_from(RULES), min_size=1, max_size=3))
def test_a_replay_of_what_was_recorded_decides_the_same(
    subject: dict[str, Any], resource: dict[str, Any], rules: list[str]
) -> None:
    """Law 5: from the recorded text of the tuple alone, the policy says what it said, or errs where it erred."""
    release = loaded(folder(policy(*rules), MODEL, facets_toml=FACETS))
    flat = release.flat(asking(subject, resource), "doc", supplied=True)
    assert flat.unknown == ()
    assert judged(release, flat.values) == judged(release, flat_values(json.loads(flat_text(flat.values))))


def judged(release: PlainRelease, values: tuple[Any, ...]) -> Any:
    """Return what the policy says, or that it erred."""
    try:
        return release.judge(values)
    except Exception:  # noqa: BLE001  whatever a rule raises is the same deny
        return "error"
