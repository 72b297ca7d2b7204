"""Listings over plain Casbin folders: which ids there are, what is unknown, and search equals check (law 9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from policy_engine.bootstrap import Engine, Template, open_engine
from policy_engine.core.decision import Outcome, Principal, PrincipalKind, Request
from policy_engine.services.plainsearch import PlainIds
from policy_engine.services.queries import Listing, Page, Sought
from policy_engine.services.releases import ReleaseLoader
from policy_engine.settings import Settings
from tests.rules.plainfolders import MODEL, folder, loaded

GATEWAY = Principal("gateway", PrincipalKind.SERVICE, frozenset(("decide",)), None, frozenset(("*",)))
ANYONE = MODEL.replace("g(r.sub, p.sub)", '(p.sub == "*" || g(r.sub, p.sub))')
ENTITIES = """{"type": "user", "id": "alice"}
{"type": "user", "id": "bob", "properties": {"role": "admin"}}
{"type": "document", "id": "doc"}
"""
Opened = Callable[..., Engine]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Offer `opened(files)`: an engine on a new database with a folder as its release."""
    engines: list[Engine] = []

    def open_on(files: Mapping[str, bytes]) -> Engine:
        place = Settings(database=f"sqlite:///{tmp_path / f'{len(engines)}.db'}", serving_region=None)
        engines.append(open_engine(place, genesis=(files, ())))
        return engines[-1]

    yield open_on
    for engine in engines:
        engine.close()


def page(engine: Engine, sought: Sought, request: Request) -> Page:
    """Return the first page of a listing of everything."""
    return engine.listings.page(GATEWAY, Listing(sought, request))


def ask(subject: str = "alice", action: str = "read", resource: str = "doc", **more: Any) -> Request:
    """Return a request about a user and a document."""
    types = {"subject_type": "user", "resource_type": "document", **more}
    return Request(subject, action, resource, **types)


def test_entities_say_who_and_what_there_is(opened: Opened) -> None:
    """The users and documents described are asked about, and ids that rows name beside them; then all was asked."""
    rows = "p, *, doc, read, allow\np, bob, memo, read, allow\np, zoe, doc, write, allow\ng, zoe, crew\n"
    engine = opened(folder(rows, ANYONE, entities_jsonl=ENTITIES))
    who = page(engine, Sought.SUBJECT, ask())
    assert (who.found, who.complete) == (("alice", "bob", "zoe"), True)
    what = page(engine, Sought.RESOURCE, ask("bob"))
    assert (what.found, what.complete) == (("doc", "memo"), True)
    deeds = page(engine, Sought.ACTION, ask("zoe"))
    assert (deeds.found, deeds.complete) == (("read", "write"), True)


@pytest.mark.parametrize(
    ("sought", "request_"),
    [
        (Sought.SUBJECT, ask(subject_type="spaceship")),
        (Sought.SUBJECT, ask(resource="no-such")),
        (Sought.RESOURCE, ask("no-such")),
        (Sought.ACTION, ask("no-such")),
        (Sought.ACTION, ask(resource="no-such")),
    ],
)
def test_what_the_folder_does_not_know_has_an_empty_listing_that_says_so(
    opened: Opened, sought: Sought, request_: Request
) -> None:
    """Nothing is listed, though a rule for everybody would allow it when asked: so it is not called complete."""
    engine = opened(folder("p, *, doc, read, allow\n", ANYONE, entities_jsonl=ENTITIES))
    found = page(engine, sought, request_)
    assert (found.found, found.complete, found.next_token) == ((), False, "")


def test_without_entities_the_rows_say_what_to_ask_about(opened: Opened) -> None:
    """Members of roles and ids of rows under whatever type is asked for, no role itself; and never complete."""
    rows = "p, reader, doc, read, allow\np, *, memo, read, allow\ng, alice, reader\ng, reader, staff\n"
    engine = opened(folder(rows, ANYONE))
    for kind in ("user", "robot"):
        who = page(engine, Sought.SUBJECT, ask(subject_type=kind))
        assert (who.found, who.complete) == (("alice",), False)
    what = page(engine, Sought.RESOURCE, ask("alice"))
    assert (what.found, what.complete) == (("doc", "memo"), False)
    assert page(engine, Sought.RESOURCE, ask("stranger")).found == ("memo",)


def test_a_catalogue_says_which_resources_there_are(opened: Opened) -> None:
    """With models.toml the resources are its entries, by id and not by alias, whatever the rows name."""
    catalogue = '[[model]]\nid = "doc"\naliases = ["the-doc"]\n[[model]]\nid = "other"\n'
    engine = opened(folder("p, *, doc, read, allow\np, *, memo, read, allow\n", ANYONE, models_toml=catalogue))
    what = page(engine, Sought.RESOURCE, ask())
    assert (what.found, what.complete) == (("doc",), True)
    assert page(engine, Sought.ACTION, ask(resource="the-doc")).found == ("read",)


def test_actions_are_those_that_rows_name() -> None:
    """With `*` among them, or no column for them, others may be allowed as well."""
    some, any_ = (loaded(folder(f"p, alice, doc, {act}, allow\n", ANYONE)) for act in ("read", "*"))
    listing = Listing(Sought.ACTION, ask())
    assert PlainIds(some).candidates(listing) == (["read"], True)
    assert PlainIds(any_).candidates(listing) == ([], False)


TWO = MODEL.replace("g = _, _\n", "g = _, _\ng2 = _, _\n")
BESIDE = "r.sub == p.sub && r.obj == p.obj"


@pytest.mark.parametrize(
    ("matcher", "rows", "sought", "there", "whole"),
    [
        (
            f"{BESIDE} && regexMatch(r.act, p.act)",
            "p, alice, doc, (read)|(write), allow\n",
            Sought.ACTION,
            "read",
            False,
        ),
        (f"{BESIDE} && keyMatch(r.act, p.act)", "p, alice, doc, re*, allow\n", Sought.ACTION, "read", False),
        (f"{BESIDE} && g2(r.act, p.act)", "p, alice, doc, all, allow\ng2, read, all\n", Sought.ACTION, "read", True),
        (
            f"{BESIDE} && (r.act == p.act || g2(r.act, p.act))",
            "p, alice, doc, read, allow\n",
            Sought.ACTION,
            "read",
            True,
        ),
        (
            f'r.sub == "alice" || {BESIDE} && r.act == p.act',
            "p, bob, doc, write, allow\n",
            Sought.ACTION,
            "read",
            False,
        ),
        (f'{BESIDE} && r.act in ("read", p.act)', "p, alice, doc, write, allow\n", Sought.ACTION, "read", False),
        (
            "r.sub == p.sub && g2(r.obj, p.obj)",
            "p, alice, all, -, allow\ng2, memo, all\n",
            Sought.RESOURCE,
            "memo",
            True,
        ),
        ("r.sub == p.sub && g(r.obj, p.obj)", "p, alice, all, -, allow\ng, memo, all\n", Sought.RESOURCE, "memo", True),
        ("r.sub == p.sub && keyMatch(r.obj, p.obj)", "p, alice, m*, -, allow\n", Sought.RESOURCE, "memo", False),
        (
            "g2(r.sub, p.sub) && r.obj == p.obj",
            "p, staff, doc, -, allow\ng2, zoe, staff\n",
            Sought.SUBJECT,
            "zoe",
            True,
        ),
        (f'r.sub == "zoe" || {BESIDE}', "p, alice, doc, -, allow\n", Sought.SUBJECT, "zoe", False),
    ],
)
def test_what_a_matcher_allows_beyond_a_column_is_listed_or_said_to_be_left_out(
    opened: Opened, matcher: str, rows: str, sought: Sought, there: str, whole: bool
) -> None:
    """An id that is reached by a role, a pattern or a text of the matcher: listed, or the listing is not complete."""
    model = TWO[: TWO.index("m = ")] + f"m = {matcher}\n"
    engine = opened(folder(rows, model, entities_jsonl=ENTITIES))
    assert is_allowed(engine, sought, ask(), there)
    found = page(engine, sought, ask())
    assert found.complete is whole
    assert there in found.found or not found.complete


READ = """[request_definition]
r = sub, obj, act
[policy_definition]
p = owner, deputy, rule
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = """
OBJECTS = """[tokens]
sub = { from = "subject", kind = "object" }
obj = { from = "resource", kind = "object" }
"""


@pytest.mark.parametrize(
    ("matcher", "rows", "sought", "there", "whole"),
    [
        ('r.sub["id"] == p.owner', "p, zoe, -, True\n", Sought.SUBJECT, "zoe", True),
        ("r.sub.id in (p.owner, p.deputy)", "p, bob, zoe, True\n", Sought.SUBJECT, "zoe", False),
        ("keyMatch(p.owner, r.sub.id)", "p, zoe, -, True\n", Sought.SUBJECT, "zoe", False),
        ("r.sub.id.startswith(p.owner)", "p, zo, -, True\n", Sought.SUBJECT, "zoe", False),
        ("eval(p.rule)", "p, -, -, r.sub.id == 'zoe'\n", Sought.SUBJECT, "zoe", False),
        ("eval(p.rule)", "p, -, -, r.\uff53ub.id == 'zoe'\n", Sought.SUBJECT, "zoe", False),
        ("eval(p.rule)", 'p, zoe, -, r.sub["id"] == p.owner\n', Sought.SUBJECT, "zoe", False),
        ("eval(p.rule)", 'p, -, -, "team" in r.sub || True\n', Sought.SUBJECT, "alice", True),
        ("g(r.sub.id, p.owner, r.obj.id)", "p, crew, -, True\ng, bob, crew, memo\n", Sought.RESOURCE, "memo", False),
        ("eval(p.rule) && r.sub.id == p.owner", "p, bob, -, r.act == 'fly'\n", Sought.ACTION, "fly", False),
    ],
)
def test_however_a_matcher_reads_an_id_what_rows_name_is_listed_or_said_to_be_left_out(
    opened: Opened, matcher: str, rows: str, sought: Sought, there: str, whole: bool
) -> None:
    """By a key of an object, in a tuple, in another place of a function, in a text of a row, as a domain of roles."""
    engine = opened(folder(rows, f"{READ}{matcher}\n", entities_jsonl=ENTITIES, facets_toml=OBJECTS))
    request = replace(ask("bob"), raw={"subject": {"type": "user", "id": "bob"}})
    assert is_allowed(engine, sought, request, there)
    found = page(engine, sought, request)
    assert found.complete is whole
    assert there in found.found or not found.complete


ELSEWHERE = """[request_definition]
r = sub, who, obj, act
[policy_definition]
p = owner, where, what, verb
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.who.id, p.owner, p.where) && r.obj == p.what && (p.verb == "*" || r.act == p.verb)
"""
WHO = '[tokens]\nwho = { from = "subject", kind = "object" }\n'


def test_a_column_is_found_by_what_the_matcher_holds_it_against(opened: Opened) -> None:
    """Not by its name alone, and whichever of two tokens holds the id: what rows name there is listed; no domain is."""
    rows = "p, alice, here, doc, read\np, crew, there, memo, read\ng, zoe, crew, there\n"
    engine = opened(folder(rows, ELSEWHERE, entities_jsonl=ENTITIES, facets_toml=WHO))
    who = page(engine, Sought.SUBJECT, ask(resource="memo"))
    assert (who.found, who.complete) == (("zoe",), True)
    what = page(engine, Sought.RESOURCE, ask("zoe"))
    assert (what.found, what.complete) == (("memo",), True)
    deeds = page(engine, Sought.ACTION, ask("alice"))
    assert (deeds.found, deeds.complete) == (("read",), True)
    starred = loaded(folder(rows + "p, alice, here, doc, *\n", ELSEWHERE, entities_jsonl=ENTITIES, facets_toml=WHO))
    assert PlainIds(starred).candidates(Listing(Sought.ACTION, ask())) == (["read"], False)
    assert PlainIds(starred).candidates(Listing(Sought.SUBJECT, ask())) == (["alice", "bob", "zoe"], True)


def test_what_nobody_could_ask_about_is_no_candidate() -> None:
    """Ids that the door refuses are left out: too long, or with control characters."""
    entities = "".join(
        json.dumps({"type": "user", "id": id}) + "\n" for id in ("alice", "a\nb", "x\u2028y", "n" * 256, "tab\t")
    )
    rows = f"p, alice, {'m' * 257}, read, allow\np, alice, {'m' * 256}, read, allow\n"
    ids = PlainIds(loaded(folder(rows, entities_jsonl=entities)))
    assert ids.candidates(Listing(Sought.SUBJECT, ask())) == (["alice", "n" * 256], True)
    assert ids.candidates(Listing(Sought.RESOURCE, ask())) == (["m" * 256], False)


SUBJECTS = ("alice", "bob", "zoe", "crew")
RESOURCES = ("doc", "memo", "plan")
ACTIONS = ("read", "write")
ROLE = 'm = (p.sub == "*" || r.sub.id == p.sub || "role" in r.sub && r.sub.role == p.sub) && r.obj == p.obj'
OBJECT = MODEL[: MODEL.index("m = ")] + ROLE + ' && (p.act == "*" || r.act == p.act)\n'
FACETS = '[tokens]\nsub = { from = "subject", kind = "object" }\n'
row = st.tuples(
    st.sampled_from((*SUBJECTS, "admin", "*")),
    st.sampled_from(RESOURCES),
    st.sampled_from((*ACTIONS, "*")),
    st.sampled_from(("allow", "allow", "deny")),
)
entity = st.tuples(
    st.sampled_from(("user", "user", "document")), st.sampled_from(SUBJECTS + RESOURCES), st.sampled_from(("admin", ""))
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Offer an empty migrated database to copy."""
    return Template.create(tmp_path_factory.mktemp("template") / "engine.db")


ANYBODY = [("*", "doc", "read", "allow")]
ADMINS = [("admin", "doc", "read", "allow")]
USERS = [("user", "alice", ""), ("document", "doc", "")]


@example(rows=ANYBODY, entities=[], sought=Sought.SUBJECT, request=ask(), role=None, limit=None)
@example(rows=ADMINS, entities=[], sought=Sought.SUBJECT, request=ask(), role="admin", limit=None)
@example(rows=ANYBODY, entities=USERS, sought=Sought.ACTION, request=ask("nobody"), role=None, limit=None)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(row, min_size=1, max_size=8, unique=True),
    entities=st.lists(entity, max_size=5, unique_by=lambda each: each[:2]),
    sought=st.sampled_from(Sought),
    request=st.builds(
        ask, st.sampled_from((*SUBJECTS, "nobody")), st.sampled_from(ACTIONS), st.sampled_from((*RESOURCES, "nothing"))
    ),
    role=st.sampled_from((None, "admin")),
    limit=st.sampled_from((None, 1, 2)),
)
def test_search_equals_check_over_any_folder(
    rows: list[tuple[str, ...]],
    entities: list[tuple[str, str, str]],
    sought: Sought,
    request: Request,
    role: str | None,
    limit: int | None,
    template: Template,
    tmp_path: Path,
) -> None:
    """All pages together list what is allowed of all that the folder has; where more is allowed, none is complete.

    Whatever the request says of the entity that is sought counts for nothing, and what it says of the others is
    believed unless the folder knows better: in the listing as in the decision.

    Control: policy_engine/services/plainsearch.py: `return self._by_type.get(kind, (self._named, False))`
    """
    lines = "".join(f"p, {', '.join(each)}\n" for each in rows)
    known = "".join(
        json.dumps({"type": kind, "id": id, "properties": {"role": of} if of else {}}) + "\n"
        for kind, id, of in entities
    )
    files = folder(lines, OBJECT, facets_toml=FACETS, **({"entities_jsonl": known} if known else {}))
    said = {} if role is None else {"properties": {"role": role}}
    raw = {"subject": {"type": "user", "id": request.subject_id, **said}}
    request = replace(request, raw=raw)
    place = Settings(database=f"sqlite:///{tmp_path / 'engine.db'}", serving_region=None)
    engine = template.open_copy(place, clock=lambda: 1_800_000_000_000_000, releases=LOADER, genesis=(files, ()))
    try:
        listing, shown, complete = Listing(sought, request, limit), [], set()
        while True:
            each = engine.listings.page(GATEWAY, listing)
            shown += each.found
            complete.add(each.complete)
            if not each.next_token:
                break
            listing = replace(listing, token=each.next_token)
        assert shown == sorted(set(shown)) and len(complete) == 1
        allowed = {id for id in universe(sought, rows, entities) if is_allowed(engine, sought, request, id)}
        assert set(shown) <= allowed
        if complete == {True}:
            assert set(shown) == allowed
        event(f"{sought}: {'all of them' if complete == {True} else 'perhaps more'}, {min(len(shown), 2)}")
    finally:
        engine.close()


LOADER = ReleaseLoader()


def universe(sought: Sought, rows: Any, entities: Any) -> set[str]:
    """Return the ids there are: of a type that the folder describes its own and those that no entity has."""
    described = {id for _, id, _ in entities}
    if sought is Sought.ACTION:
        actions = {act for _, _, act, _ in rows}
        return {*ACTIONS, "fly"} if "*" in actions else actions
    column, kind = (0, "user") if sought is Sought.SUBJECT else (1, "document")
    named = {row[column] for row in rows}
    own = {id for type_, id, _ in entities if type_ == kind}
    return own | (named - described - {"*"}) | (set() if own else {"nobody", "nothing"})


def is_allowed(engine: Engine, sought: Sought, request: Request, id: str) -> bool:
    """Return what the deciding evaluator says of one candidate, asked as an answer would name it."""
    if sought is Sought.SUBJECT:
        asked = replace(request, subject_id=id, raw={"subject": {"type": "user", "id": id}})
    elif sought is Sought.RESOURCE:
        asked = replace(request, model=id)
    else:
        asked = replace(request, action=id)
    snapshot, at = engine.snapshots.refresh(), engine.store.now()
    return engine.decider._evaluator.evaluate(asked, GATEWAY, snapshot, at).outcome is Outcome.ALLOW
