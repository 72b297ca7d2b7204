"""A release built from the one before it: the same as one loaded anew, for work in the packs that differ alone."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.core.index import Index, positions
from policy_engine.core.release import Release, RuleMeta
from policy_engine.core.segments import Segments
from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules import basis, packs, segments
from policy_engine.rules.export import export
from policy_engine.rules.lint import lint
from policy_engine.rules.release import load_release, read_parts
from tests.rules.sample import INSTANTS, changed, facets_at, files, flat, release, some_facets

HEAD = '[pack]\nname = "generated"\nowner = "tests"\nversion = "1"\n'
PATHS = tuple(f"packs/{name}.toml" for name in ("a", "export_controls", "m", "z"))
WHEN = {
    "tiers": ("3+", "1-2", "5", "5", "3+", "6"),
    "location_in": ("embargoed", "D:5 + MO + E:1 + E:2", "D:5", "US"),
    "home_outside": ("A:5 + US",),
    "unknown": ("counted", "screening", "location"),
    "evidence": ("none", "expired"),
    "action": ("infer", "list"),
}
GROUND = {
    "the catalogue": changed("models.toml", "tier = 5", "tier = 4"),
    "the facets": changed("facets.toml", 'seat_group = "D:5', 'seat_group = "E:1 + D:5'),
    "a table": changed("tables/regions.csv", "code\n", "code\nUS-ZZ\n"),
}


@st.composite
def rules(draw: st.DrawFn) -> str:
    """Draw a rule; some are refused, and some ids come twice."""
    allow = draw(st.integers(0, 4)) == 0
    names = draw(st.lists(st.sampled_from(sorted(WHEN)), min_size=1, max_size=3, unique=True))
    names = [*dict.fromkeys((*names, "action", "tiers"))] if allow else names
    when = {name: draw(st.sampled_from(WHEN[name])) for name in names}
    said = [f'{name} = "{value}"' for name, value in when.items()]
    if "action" in when:
        said = [*(text for text in said if not text.startswith("action")), 'action = ["infer", "list"]']
    lines = [
        f'id = "R{draw(st.integers(0, 200))}"',
        f'label = "{draw(st.sampled_from("LM"))}"',
        f'effect = "{"allow" if allow else "deny"}"',
        'code = "generated.rule"',
        'message = "Generated."',
        'authority = "tests"',
        f"when = {{ {', '.join(said)} }}",
    ]
    if allow and draw(st.booleans()):
        lines.append('requires = ["counted"]')
    if draw(st.integers(0, 4)) == 0:
        lines.append('valid = "2026-01-01/2026-09-01"')
    if draw(st.integers(0, 4)) == 0:
        lines.append('lift = "dest"')
    return "\n[[rule]]\n" + "\n".join(lines) + "\n"


PACKS = st.lists(rules(), max_size=5).map(lambda found: ("" if found else "rule = []\n") + HEAD + "".join(found))
STEPS = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(PATHS), PACKS | st.none(), min_size=1, max_size=2),
        st.none() | st.sampled_from([*GROUND]),
    ),
    min_size=1,
    max_size=4,
)
"""Packs written or taken away, and what else is changed, one release after the other."""


@contextmanager
def small_segments() -> Iterator[None]:
    """Let a few rules make a segment, so that generated releases have several."""
    with patch.object(segments, "OWN_SEGMENT_RULES", 4), patch.object(segments, "SHARED_SEGMENT_RULES", 6):
        yield


def outcome(wanted: Mapping[str, bytes], previous: Release | None = None, limits: Limits = LIMITS) -> Release | str:
    """Return the release, or the sentence of its refusal."""
    try:
        return load_release(wanted, previous=previous, limits=limits)
    except LoadRefused as refused:
        return str(refused)


def plain(held: Release) -> dict[str, Any]:
    """Return all of a release that can be compared."""
    names = ("hash", "tokens", "rules", "files", "boundaries", "engine_reasons", "lift_keys", "warnings", "required")
    own = {name: getattr(held, name) for name in names}
    reference = {name: getattr(held.reference, name) for name in ("actions", "seat_group", "seat", "sdn")}
    return {
        **own,
        **reference,
        "groups": held.reference.groups.tables,
        "listed": [held.reference.gazetteer.resolve("US", region).known for region in ("US-ZZ", "US-CA")],
        "models": dict(held.catalogue.models),
        "segments": [places for _, places in parts(held)],
    }


def parts(held: Release) -> Sequence[tuple[Index, Sequence[int]]]:
    """Return the segments of a release's index, with the positions of their rules."""
    index = held.index
    return index.parts if isinstance(index, Segments) else ((index, range(index.rule_count)),)


def said_by_segments(held: Release) -> dict[int, RuleMeta]:
    """Return the rules of the packs in each segment at the positions that the index gives them."""
    dealt = held.basis.segments
    assert len(dealt) == len(parts(held))
    return {
        place: meta
        for segment, (_, places) in zip(dealt, parts(held), strict=True)
        for place, meta in zip(places, (meta for pack in segment.packs for meta in pack.metas), strict=True)
    }


def same(built: Release, fresh: Release, asked: Sequence[Mapping[str, Any]]) -> None:
    """Hold two releases against each other: what they say, and what they answer."""
    assert plain(built) == plain(fresh)
    assert said_by_segments(built) == dict(enumerate(built.rules))
    for facets in asked:
        values = flat(facets)
        assert built.index.places(values) == fresh.index.places(values)
        assert positions(built.index.matching(values)) == built.index.places(values)
        assert built.index.readable(values) is fresh.index.readable(values) is True


@settings(max_examples=max(15, settings.default.max_examples // 8))
@given(STEPS, st.lists(some_facets(), min_size=1, max_size=8))
def test_a_release_built_from_another_is_the_one_loaded_anew(
    steps: list[tuple[dict[str, str | None], str | None]], asked: list[dict[str, Any]]
) -> None:
    """Whatever packs come, change and go, rules, order, bounds, warnings, keys and answers are those of the files.

    A release that is refused is refused in the same words, and the next is built from the last good one.
    """
    held = release()
    wanted = dict(files())
    with small_segments():
        for packs_changed, ground in steps:
            wanted.update({} if ground is None else GROUND[ground])
            for path, content in packs_changed.items():
                wanted.pop(path, None)
                if content is not None:
                    wanted[path] = content.encode()
            built, fresh = outcome(wanted, held), outcome(wanted)
            if isinstance(built, str) or isinstance(fresh, str):
                assert built == fresh
                continue
            same(built, fresh, asked)
            held = built


@given(st.lists(some_facets(), min_size=1, max_size=8))
def test_segments_answer_as_one_index(asked: list[dict[str, Any]]) -> None:
    """However the rules of the sample lie in segments, the same rules match at the same positions."""
    with small_segments():
        dealt = _sample_in_segments()
    assert isinstance(release().index, Index)
    assert len(parts(dealt)) > 2
    assert said_by_segments(dealt) == dict(enumerate(release().rules))
    same_but_for_segments = [{**plain(held), "segments": None} for held in (dealt, release())]
    assert same_but_for_segments[0] == same_but_for_segments[1]
    for facets in asked:
        values = flat(facets)
        assert dealt.index.places(values) == release().index.places(values)
        assert dealt.index.matching(values) == release().index.matching(values)


_DEALT: list[Release] = []


def _sample_in_segments() -> Release:
    """Return the sample release in small segments, loaded once."""
    if not _DEALT:
        _DEALT.append(load_release(files()))
    return _DEALT[0]


def generated(name: str, count: int, first: int = 0) -> bytes:
    """Return a pack of so many denies for places and states of evidence; each request matches few of them."""
    columns = ("location_in", "residence_in", "entity_in", "seat_in", "counted_in")
    places = sorted(release().reference.groups.at(INSTANTS[-1]).groups["D:5 + MO + E:1 + E:2"])
    evidence = ("declared", "expired", "none", "conflict")
    rule = (
        '\n[[rule]]\nid = "{name}-{at}"\nlabel = "G"\neffect = "deny"\ncode = "generated.{at}"\n'
        'message = "Generated."\nauthority = "tests"\n'
        'when = {{ home_outside = "A:5 + US", {column} = "{place}", evidence = "{evidence}" }}\n'
    )
    texts = [
        rule.format(
            name=name,
            at=at,
            column=columns[at % len(columns)],
            place=places[at // len(columns) % len(places)],
            evidence=evidence[at // (len(columns) * len(places)) % len(evidence)],
        )
        for at in range(first, first + count)
    ]
    return (HEAD + "".join(texts)).encode()


def copied(wanted: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the same files in other bytes objects, as a store or a folder would give them."""
    return {path: bytes(bytearray(content)) for path, content in wanted.items()}


def test_only_the_changed_pack_is_read_and_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many packs only the new one is parsed; segments, packs and contents of the others are the same objects."""
    many = {**files(), "packs/g.toml": generated("g", 2_000), "packs/zz.toml": generated("zz", 2_100)}
    before = load_release(many)
    read: list[str] = []
    real = packs.read_toml

    def reading(path: str, content: bytes, most: int) -> Any:
        read.append(path)
        return real(path, content, most)

    monkeypatch.setattr(packs, "read_toml", reading)
    after = load_release({**copied(many), "packs/new.toml": generated("new", 1)}, previous=before)
    assert read == ["packs/new.toml"]
    assert after.basis.read.ground is before.basis.read.ground
    assert after.reference is before.reference and after.catalogue is before.catalogue
    kept = {id(index) for index, _ in parts(before)} & {id(index) for index, _ in parts(after)}
    assert (len(parts(before)), len(parts(after)), len(kept)) == (3, 3, 2)
    assert said_by_segments(after) == dict(enumerate(after.rules))
    assert any(isinstance(places, tuple) for _, places in parts(after)), "small packs lie on both sides of a large one"
    assert all(after.files[path] is before.files[path] for path in many)
    assert len(after.rules) == len(before.rules) + 1


def test_other_ground_is_read_anew() -> None:
    """With another facet, table, model or limit, every pack is read and checked again."""
    for wanted in (GROUND["the facets"], GROUND["a table"], changed("model.conf", "# An", "# Still an")):
        after = load_release(wanted, previous=release())
        assert set(after.basis.read.packs).isdisjoint(release().basis.read.packs)
    few = Limits(rules_count=len(release().rules) - 1)
    assert outcome(files(), release(), few) == outcome(files(), None, few) != outcome(files(), release())
    short = Limits(text_characters=20)
    assert outcome(files(), release(), short) == outcome(files(), None, short) != outcome(files(), release())


def test_an_id_of_an_unchanged_pack_is_still_taken() -> None:
    """A new pack before or behind an unchanged one that uses its id is refused in the words of a full load."""
    rule = generated("P3", 1)
    id = next(rule.id for rule in release().rules if rule.pack == "packs/export_controls.toml")
    for path in ("packs/a.toml", "packs/zz.toml"):
        wanted = {**files(), path: rule.replace(b"P3-0", id.encode())}
        sentence = outcome(wanted, release())
        assert sentence == outcome(wanted)
        assert isinstance(sentence, str) and f"the id `{id}` is taken at packs/" in sentence


def test_unchanged_packs_may_be_too_many_together() -> None:
    """A new pack before unchanged ones that makes the last of them one rule too many is refused as in a full load."""
    most = Limits(rules_count=len(release().rules))
    full = load_release(files(), limits=most)
    wanted = {**files(), "packs/a.toml": generated("new", 1)}
    sentence = outcome(wanted, full, most)
    assert sentence == outcome(wanted, None, most)
    assert isinstance(sentence, str) and sentence.startswith("packs/sanctions.toml") and "rules_count" in sentence


def test_an_id_twice_in_rules_written_on_one_line_is_refused() -> None:
    """Where rules stand in one array, two of them with one id are refused like any others."""
    one = '{ id = "X", label = "L", effect = "deny", code = "c", message = "m", when = { tiers = "3+" } }'
    array = f'rule = [{one}, {one}]\n[pack]\nname = "n"\nowner = "o"\nversion = "1"\n'
    assert "the id `X` is taken" in str(outcome({**files(), "packs/x.toml": array.encode()}))


def test_too_many_alternatives_are_refused_before_they_are_laid_out() -> None:
    """A rule whose lists multiply to far more rows than may be is refused by the limit's name, at once."""
    actions = sorted(release().reference.actions)
    names = ("location_in", "residence_in", "entity_in", "seat_in", "counted_in")
    places = sorted(release().reference.groups.at(INSTANTS[-1]).groups["D:5 + MO + E:1 + E:2"])
    when = ", ".join(f"{name} = {places}" for name in names) + f", action = {actions}"
    pack = generated("x", 1).decode()
    wanted = {**files(), "packs/x.toml": (pack[: pack.index("when")] + f"when = {{ {when} }}\n").encode()}
    assert "rules_count" in str(outcome(wanted))


OWN_MODEL = """
[request_definition]
r = home, place, action, tier, editions, edition

[policy_definition]
p = id, eft, action, tiers, home_role, place_in

[role_definition]
g = _, _, _

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = has(r.action, p.action) && within(r.tier, p.tiers) && g(r.home, p.home_role, r.edition) && \\
    grouped(r.place, p.place_in, r.editions)
"""


def own_files(**packs_named: str) -> dict[str, bytes]:
    """Return a release whose matcher reads a role definition as itself, with packs of one rule each."""
    actions = "values = " + str(sorted(release().reference.actions))
    sources = {"home": "home", "place": "location", "action": "action", "tier": "tier", "editions": "editions"}
    kinds = {"place": "set", "editions": "set"}
    tokens = [
        f'{name} = {{ from = "derive:{source}", kind = "{kinds.get(name, "scalar")}"'
        f"{', ' + actions if name == 'action' else ''} }}"
        for name, source in sources.items()
    ]
    tokens.append('edition = { from = "context.properties.edition", kind = "scalar" }')
    settings_text = files()["facets.toml"].decode()
    settings_text = settings_text[settings_text.index("[reference]") :]
    kept = {path: content for path, content in files().items() if not path.startswith("packs/")}
    facets = "[tokens]\n" + "\n".join(tokens) + "\n\n" + settings_text
    rule = '\n[[rule]]\nid = "{name}"\nlabel = "L"\neffect = "deny"\ncode = "c"\nmessage = "m"\nwhen = {{ {when} }}\n'
    written = {
        f"packs/{name}.toml": (HEAD + rule.format(name=name, when=when)).encode() for name, when in packs_named.items()
    }
    return {**kept, "model.conf": OWN_MODEL.encode(), "facets.toml": facets.encode(), **written}


def test_where_roles_are_asked_directly_groups_of_other_packs_count() -> None:
    """A rule that names a group as a role matches its members once another pack's rule brings the group's lines."""
    group = "D:5 + E:1"
    with patch.object(segments, "OWN_SEGMENT_RULES", 1):
        alone = load_release(own_files(a=f'home_role = "{group}"'))
        wanted = own_files(a=f'home_role = "{group}"', b=f'home_role = "IR", place_in = "{group}"')
        built, fresh = load_release(wanted, previous=alone), load_release(wanted)
    edition = next(name for name in release().reference.groups.at(INSTANTS[-1]).domains if name.startswith("ear"))
    values = ("CU", frozenset(("US",)), "infer", "4", frozenset((edition,)), edition)
    assert len(parts(built)) == 2
    assert alone.index.places(values) == ()
    assert built.index.places(values) == fresh.index.places(values) == (0,)


def test_a_deny_for_one_kind_of_weights_meets_an_allow_for_any() -> None:
    """An allow for any weights should require what is denied as unknown for some; one for others need not."""
    head = '\n[[rule]]\nid = "{id}"\nlabel = "L"\neffect = "{effect}"\ncode = "c"\nmessage = "m"\nwhen = {{ {when} }}\n'
    deny = head.format(id="D", effect="deny", when='tiers = "1", weights = "closed", unknown = "location"')
    warned = {}
    for name, more in {"any": "", "closed": ', weights = "closed"', "public": ', weights = "public"'}.items():
        allow = head.format(id="A", effect="allow", when=f'action = "infer", tiers = "1"{more}')
        found = load_release({**files(), "packs/n.toml": (HEAD + allow + deny).encode()}, previous=release())
        warned[name] = any("location" in warning and "`A`" in warning for warning in found.warnings)
    assert warned == {"any": True, "closed": True, "public": False}


def test_export_and_lint_are_the_same_after_a_change() -> None:
    """Lines for stock Casbin and findings do not depend on what was loaded before."""
    wanted = {**files(), "packs/new.toml": generated("new", 3)}
    built, fresh = load_release(wanted, previous=release()), load_release(wanted)
    assert export(built) == export(fresh)
    assert export(built)["policy.csv"].count(b"p, new-") == 3
    assert read_parts(wanted, previous=built).rules == read_parts(wanted).rules
    found = lint(wanted)
    assert found.release is not None and found.release.hash == built.hash


def seconds(wanted: Mapping[str, bytes], previous: Release | None = None) -> float:
    """Return how long loading takes."""
    start = time.perf_counter()
    load_release(wanted, previous=previous)
    return time.perf_counter() - start


def faster(packs_count: int, each: int) -> float:
    """Return how many times faster one more small pack, and one more rule in one, load than everything."""
    wanted = {**files(), **{f"packs/g{at}.toml": generated(f"g{at}", each) for at in range(packs_count)}}
    start = time.perf_counter()
    before = load_release(wanted)
    full = time.perf_counter() - start
    more = {**wanted, "packs/new.toml": generated("new", 1)}
    longer = {**wanted, "packs/access.toml": wanted["packs/access.toml"] + generated("new", 1)[len(HEAD) :]}
    slowest = max(min(seconds(copied(changed), before) for _ in range(3)) for changed in (more, longer))
    return full / slowest


def test_one_more_rule_loads_far_faster_than_all() -> None:
    """One rule more among 20,000 in several packs loads at least twenty times faster than all of them."""
    assert faster(4, 5_000) > 20


@pytest.mark.nightly
def test_one_more_rule_to_100_000_takes_milliseconds() -> None:
    """One rule more among 100,000 loads at least fifty times faster than all of them."""
    assert faster(7, 14_500) > 50


def test_cost_grows_little_with_segments() -> None:
    """A request over five segments of 2,000 rules takes no more than four times what it takes over the sample."""
    many = load_release({**files(), **{f"packs/g{at}.toml": generated(f"g{at}", 2_000) for at in range(4)}})
    assert len(parts(many)) == 5
    asked = [flat(facets_at(INSTANTS[-1]))] * 300

    def least(held: Release) -> float:
        rounds = []
        for _ in range(7):
            start = time.perf_counter()
            for values in asked:
                held.index.places(values)
            rounds.append(time.perf_counter() - start)
        return min(rounds)

    assert least(many) < 4 * least(release())


def test_the_basis_is_what_the_loader_made() -> None:
    """Something else in its place is never taken over."""
    assert basis.basis_of(None) is None
    assert isinstance(basis.basis_of(release()), basis.Basis)
