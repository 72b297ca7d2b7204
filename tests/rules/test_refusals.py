"""What loading refuses in a pack, each with its file, line and a way to mend it; and what lint warns of."""

from __future__ import annotations

import pytest

from policy_engine.rules.lint import lint
from policy_engine.rules.release import load_release
from tests.rules.sample import changed, files, refusal, release, rule, with_rule

P3 = "packs/sanctions.toml"

RULES = {
    "unknown effect word": (rule(effect='"Deny"'), 9, 'the effect is "allow" or "deny"'),
    "unknown key": (rule(efect='"deny"'), 14, "`rule.efect`"),
    "missing effect": (rule(effect=None), 6, "`rule.effect` is missing"),
    "missing code": (rule(code=None), 6, "`rule.code` is missing"),
    "code in capitals": (rule(code='"Extra"'), 10, "lower-case"),
    "unknown facet": (rule(when='{ tyers = "3+" }'), 13, "`tyers` is no condition"),
    "a column that is not a condition": (rule(when='{ id = "X1" }'), 13, "`id` is no condition"),
    "birth country": (rule(when='{ birth_country_in = "IR" }'), 13, "birth country decides nothing"),
    "unknown value": (rule(when='{ evidence = "vallid" }'), 13, "`vallid` is no value of `evidence`"),
    "unknown name of the unknown": (rule(when='{ unknown = "birth" }'), 13, "`birth` is no value"),
    "unknown tier": (rule(when='{ tiers = "6" }'), 13, 'tiers are written "3+"'),
    "tiers the wrong way round": (rule(when='{ tiers = "4-2" }'), 13, 'tiers are written "3+"'),
    "unknown group": (rule(when='{ location_in = "D:9" }'), 13, "no group or code `D:9`"),
    "bad group expression": (rule(when='{ location_in = "D:5+MO" }'), 13, "no group expression"),
    "group of two tables": (rule(when='{ location_in = "D:5 + embargoed" }'), 13, "mixes the tables"),
    "group that is empty": (rule(when='{ location_in = "E:2 - E:2" }'), 13, "empty set"),
    "empty alternatives": (rule(when="{ evidence = [] }"), 13, "empty set"),
    "repeated alternative": (rule(when='{ evidence = ["none", "none"] }'), 13, "twice"),
    "star as a value": (rule(when='{ evidence = "*" }'), 13, "out instead of"),
    "comma in a value": (rule(when='{ location_in = "D:5,MO" }'), 13, "no comma"),
    "interval backwards": (rule(valid='"2026-07-01/2026-06-01"'), 14, "ends before it starts"),
    "interval of no length": (rule(valid='"2026-07-01/2026-07-01"'), 14, "ends before it starts"),
    "interval without slash": (rule(valid='"2026-07-01"'), 14, "FROM/UNTIL"),
    "interval without sides": (rule(valid='"/"'), 14, "one side may be empty"),
    "valid inside when": (rule(when='{ valid = "2026-07-01/" }'), 13, "beside `when`"),
    "unknown lift key": (rule(lift='"seats"'), 14, "`seats` is no value of `lifts`"),
    "lift of what is unknown": (
        rule(when='{ tiers = "3+", unknown = "location" }', lift='"dest"'),
        14,
        "never lifts what is unknown",
    ),
    "lift of a value that says unknown": (rule(when='{ in_us = "unknown" }', lift='"weights"'), 14, "never lifts"),
    "allow without action": (rule(effect='"allow"'), 13, "condition on action"),
    "allow without tier": (rule(effect='"allow"', when='{ action = "infer" }'), 13, "condition on tier"),
    "allow without any condition": (rule(effect='"allow"', when=None), 6, "names its actions"),
    "allow with a lift": (
        rule(effect='"allow"', when='{ action = "infer", tiers = "1" }', lift='"seat"'),
        14,
        "only a deny",
    ),
    "empty requires": (rule(requires="[]"), 14, "empty set"),
    "unknown requires": (rule(requires='["location", "birthplace"]'), 14, "`birthplace` is no value"),
    "nationality without authority": (rule(when='{ counted_in = "D:5" }', authority=None), 6, "cites no authority"),
    "us_person without authority": (
        rule(when='{ us_person = "no" }', authority='" "'),
        12,
        "the authority is one line",
    ),
    "unknown nationality without authority": (rule(when='{ unknown = "counted" }', authority='""'), 12, "no authority"),
    "duplicate id": (rule(id='"P7.nationality-restricted"'), None, "is taken at packs/export_controls.toml:"),
    "id with a space": (rule(id='"X 1"'), 7, "an id is letters"),
    "id that looks like an alternative": (rule(id='"X#2"'), 7, "an id is letters"),
    "empty message": (rule(message='""'), 11, "the message is one line"),
    "message of two lines": (rule(message='"one\\ntwo"'), 11, "the message is one line"),
    "a message that is too long": (rule(message=f'"{"x" * 1_025}"'), 11, "the message is one line of 1 to 1024"),
    "a label with a tab": (rule(label='"X\\tY"'), 8, "the label is one line"),
    "an authority of two lines": (rule(authority='"""a citation;\nanother"""'), 12, "the authority is one line"),
    "an authority that is a line break": (rule(authority='"\\n"'), 12, "the authority is one line"),
    "an authority that is too long": (rule(authority=f'"{"x" * 1_025}"'), 12, "the authority is one line of 1 to 1024"),
    "an authority with a line separator": (rule(authority='"a\\u2028b"'), 12, "the authority is one line"),
    "a code that is too long": (rule(code=f'"{"x" * 257}"'), 10, "of at most 256 characters"),
    "a number where a text belongs": (rule(when="{ tiers = 3 }"), 13, "wrong type"),
    "a date where a text belongs": (rule(valid="2026-07-01"), 14, "wrong type"),
    "a boolean where a text belongs": (rule(when="{ denied = true }"), 13, "wrong type"),
    "a bare word": (rule(when="{ location_in = NO }"), 13, '"NO" is Norway'),
}


@pytest.mark.parametrize("case", RULES)
def test_a_pack_that_says_this_is_refused(case: str) -> None:
    """A pack with this mistake is refused, with the line of the mistake and what to write instead."""
    bad, line, words = RULES[case]
    error = refusal(bad)
    assert words in error.message
    if line is None:
        assert (error.where or "").startswith("packs/")
    else:
        assert error.where == f"packs/extra.toml:{line}"


def test_the_good_rule_of_these_tests_loads() -> None:
    """The rule that each case above changes is accepted, so that only the change is refused."""
    assert [found.id for found in load_release(rule()).rules][-1] == "P4.owners-unknown"
    assert "X1" in [found.id for found in load_release(rule()).rules]
    longest = rule(message=f'"{"é" * 1_024}"', authority=f'"{"§" * 1_024}"', code=f'"{"x" * 256}"')
    assert "X1" in [found.id for found in load_release(longest).rules]
    assert "X1" in [found.id for found in load_release(rule(authority='""')).rules]


def test_lint_names_one_refusal_a_file() -> None:
    """Lint goes on after the first refusal: mistakes in two packs and in the catalogue are all named."""
    bad = {
        **rule(effect='"Deny"'),
        P3: changed(P3, 'when = { location_in = "embargoed" }', 'when = { location_in = "embargo" }')[P3],
        "models.toml": changed("models.toml", "tier = 5", "tier = 6")["models.toml"],
    }
    found = lint(bad)
    assert found.release is None
    assert sorted(text.split(":")[0] for text in found.refusals) == ["models.toml", "packs/extra.toml", P3]


def test_lint_of_the_sample_finds_denies_that_only_explain_and_nothing_else() -> None:
    """The sample has no refusals; its warnings are denies that add a reason, each proven in `test_findings`."""
    found = lint(files())
    assert found.refusals == () and found.warnings
    assert all("they only add their reasons" in text or "it only adds its reason" in text for text in found.warnings)
    assert found.release is not None and found.release.warnings == ()
    assert found.release.hash == release().hash


WARNINGS = {
    "a rule that adds nothing": (
        rule(when='{ evidence = "none", tiers = "3+" }'),
        "`X1` is a duplicate of `P8.none` (packs/catalogue.toml:109)",
    ),
    "an allow that forgets a fact": (
        rule(effect='"allow"', when='{ action = "infer", tiers = "1" }', requires='["action", "tier", "serving"]'),
        "does not require status",
    ),
    "an allow without evidence": (
        rule(effect='"allow"', when='{ action = "infer", tiers = "3" }'),
        "without evidence",
    ),
    "a lift that nothing has": (
        changed("facets.toml", '"seat", "dest"', '"seat", "house", "dest"'),
        "lifted by `house`",
    ),
    "a model without tier": (changed("models.toml", "tier = 5\n", ""), "`mythos-5` has no tier"),
    "a model without status": (changed("models.toml", 'status = "available"\n', ""), "`fable-5` has no status"),
    "a model served nowhere": (changed("models.toml", '["US", "CA", "GB", "DE"]', "[]"), "served nowhere"),
    "a model without test": (changed("models.toml", 'nationality_test = "EAR"\n', ""), "no nationality test"),
    "a model served where nobody is": (changed("models.toml", '["US", "CA"', '["US", "UK"'), "`fable-5` names serving"),
    "no models": ({**files(), "models.toml": b""}, "there is no model"),
    "a fallback nobody knows": (
        changed("models.toml", 'fallback = "open-1"', 'fallback = "open-2"'),
        "the fallback of `opus-4-8`",
    ),
}


@pytest.mark.parametrize("case", WARNINGS)
def test_what_is_doubtful_loads_with_a_warning(case: str) -> None:
    """What closes but cannot open is served, and lint says so."""
    doubtful, words = WARNINGS[case]
    found = lint(doubtful)
    assert found.refusals == ()
    assert any(words in text for text in found.warnings)


def test_rules_in_a_pack_keep_their_lines() -> None:
    """Each compiled rule knows the pack and line that it comes from."""
    loaded = load_release(with_rule('id = "X1"\nlabel = "X"\neffect = "deny"\ncode = "x"\nmessage = "m"\n'))
    found = next(rule for rule in loaded.rules if rule.id == "X1")
    assert (found.pack, found.line) == ("packs/extra.toml", 6)
