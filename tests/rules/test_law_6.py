"""Law 6: an exported release in an unmodified `casbin.Enforcer` gives the outcome that the compiled release gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import casbin
import pytest
from hypothesis import given

from policy_engine.core.authorizer import authorize
from policy_engine.core.decision import Outcome
from policy_engine.core.index import positions
from policy_engine.core.release import Release
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.rules.export import _line as export_line
from policy_engine.rules.export import export
from policy_engine.rules.functions import add_functions
from policy_engine.rules.release import load_release
from tests.rules.sample import GOOD_FACETS, INSTANTS, PLACES, changed, facets_at, flat, release, rule, some_facets

UNREADABLE = {"location": None, "unknown": "location", "tier": "9", "home": frozenset(("US",))}
MIX_COUNT = 300


def stock(held: Release, folder: Path) -> Any:
    """Return an unmodified enforcer on the exported files, with the published functions added and nothing else."""
    for name, content in export(held).items():
        (folder / name).write_bytes(content)
    enforcer = casbin.Enforcer(str(folder / "model.conf"), str(folder / "policy.csv"))
    add_functions(enforcer)
    return enforcer


@pytest.fixture(scope="module")
def enforcer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Offer the sample release in stock Casbin."""
    return stock(release(), tmp_path_factory.mktemp("exported"))


def outcome(held: Release, values: tuple[Any, ...], lifts: frozenset[str]) -> Outcome:
    """Return the outcome that the compiled release gives."""
    return authorize(held.rules, positions(held.index.matching(values)), lifts).outcome


def random_facets(random: Random) -> Mapping[str, Any]:
    """Return facets of good standing with a few of them changed, as often allowed as not."""
    changes: dict[str, Any] = {}
    tokens = {token.name: token for token in release().tokens}
    for name in random.sample(sorted(GOOD_FACETS), random.choice((0, 0, 1, 1, 2, 3))):
        words = sorted(tokens[name].values or PLACES)
        kind = tokens[name].kind
        changes[name] = random.choice(words) if kind == "scalar" else frozenset(random.sample(words, 1))
    return facets_at(random.choice(INSTANTS), **changes)


def test_stock_casbin_agrees_on_a_mix_of_outcomes(enforcer: Any) -> None:
    """Over a mix with enough allows and denies, stock Casbin gives each outcome; the unreadable never allows here.

    Control: policy_engine/core/postings.py: `found |= more`
    """
    random = Random(7)
    counts: Counter[str] = Counter()
    for _ in range(MIX_COUNT):
        facets = dict(random_facets(random))
        if random.random() < 0.08:
            name = random.choice(sorted(UNREADABLE))
            facets[name] = UNREADABLE[name]
            counts["error"] += 1
            assert not release().index.readable(flat(facets))
            with suppress(InputRefused):  # or nothing matches before the value is read
                assert release().index.matching(flat(facets)) == 0
            continue
        found = outcome(release(), flat(facets), facets["lifts"])
        counts[found] += 1
        assert enforcer.enforce(*flat(facets)) == (found is Outcome.ALLOW)
    assert counts["allow"] >= 0.2 * MIX_COUNT
    assert counts["deny"] >= 0.2 * MIX_COUNT
    assert counts["error"] >= 0.05 * MIX_COUNT


@given(some_facets())
def test_stock_casbin_agrees_on_any_facets(enforcer: Any, facets: dict[str, Any]) -> None:
    """For any facets, lifts included, stock Casbin and the compiled release give the same outcome."""
    found = outcome(release(), flat(facets), facets["lifts"])
    assert enforcer.enforce(*flat(facets)) == (found is Outcome.ALLOW)


def test_sets_may_come_back_from_an_entry_as_sorted_lists(enforcer: Any) -> None:
    """A replayed flat tuple holds lists where the decision held sets, and both sides read it the same."""
    facets = facets_at(INSTANTS[-1], location=frozenset(("US", "US-CA")), counted=frozenset(("CN", "DE")))
    listed = tuple(sorted(value) if isinstance(value, frozenset) else value for value in flat(facets))
    assert release().index.matching(listed) == release().index.matching(flat(facets))
    assert enforcer.enforce(*listed) == enforcer.enforce(*flat(facets)) is False


def test_an_interval_is_kept_by_the_export(tmp_path: Path) -> None:
    """A rule with an interval denies from its start until before its end, compiled and in stock Casbin."""
    held = load_release(rule(valid='"2026-03-01/2026-04-01T12:00:00Z"'))
    enforcer = stock(held, tmp_path)
    start, end = sorted(set(held.boundaries) - set(release().boundaries))
    for instant, allowed in ((start - 1, True), (start, False), (end - 1, False), (end, True)):
        facets = facets_at(instant)
        assert (outcome(held, flat(facets), frozenset()) is Outcome.ALLOW) == allowed
        assert enforcer.enforce(*flat(facets)) == allowed


def test_an_interval_without_a_beginning_is_kept_by_the_export(tmp_path: Path) -> None:
    """A rule that was always in force denies until its end and not after, compiled and in stock Casbin."""
    held = load_release(rule(valid='"/2026-04-01"'))
    enforcer = stock(held, tmp_path)
    (end,) = set(held.boundaries) - set(release().boundaries)
    for instant, allowed in ((end - 1, False), (end, True)):
        facets = facets_at(instant)
        assert (outcome(held, flat(facets), frozenset()) is Outcome.ALLOW) == allowed
        assert enforcer.enforce(*flat(facets)) == allowed


def test_export_gives_the_model_as_it_is_and_lines_that_casbin_reads_back(enforcer: Any) -> None:
    """The exported model is the release's own file, and Casbin reads as many lines as the release has."""
    assert export(release())["model.conf"] == release().files["model.conf"]
    assert [line[0] for line in enforcer.get_policy()] == [found.id for found in release().rules]
    assert all(len(line) == 28 for line in enforcer.get_policy())
    assert len(enforcer.get_grouping_policy()) == len(set(map(tuple, enforcer.get_grouping_policy())))


def test_what_casbin_would_read_otherwise_is_not_exported() -> None:
    """A cell that Casbin's reader would split or strip is refused by the export, never written changed."""
    for cell in ("a,b", "a ", "(a", "a)", "a\nb", "[", "x]y"):
        with pytest.raises(LoadRefused, match="Casbin's form cannot hold"):
            export_line("p", ["X1", cell, "*"])
    assert export_line("p", ["X1", "D:5 + MO", "a(b, c)"]) == "p, X1, D:5 + MO, a(b, c)"


def test_a_changed_rule_changes_both(tmp_path: Path) -> None:
    """When one row is taken out, stock Casbin and the compiled release change together."""
    pack = "packs/catalogue.toml"
    held = load_release(changed(pack, 'when = { denied = "yes" }', 'when = { denied = "yes", tiers = "5" }'))
    enforcer = stock(held, tmp_path)
    facets = facets_at(INSTANTS[-1], denied="yes")
    assert outcome(held, flat(facets), frozenset()) is Outcome.ALLOW
    assert enforcer.enforce(*flat(facets))
    assert outcome(release(), flat(facets), frozenset()) is Outcome.DENY
