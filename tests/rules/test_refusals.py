"""Everything that loading refuses: each with the file and line where it stands and a way to mend it."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.folder import read_folder as read_any_folder
from policy_engine.rules.lint import lint
from policy_engine.rules.release import load_release, read_folder, with_catalogue
from tests.rules.sample import FOLDER, changed, files, release, rule, with_rule

MODEL = "model.conf"
FACETS = "facets.toml"
EAR = "tables/ear_groups.csv"
P3 = "packs/sanctions.toml"
REASONS_LINE = files()[FACETS].decode().splitlines().index("[reasons]") + 1
EAR_SOURCE = next(line for line in files()["tables/editions.csv"].decode().splitlines() if "ear,2026-07-23" in line)


def refusal(changed_files: Mapping[str, bytes]) -> LoadRefused:
    """Return what loading these files raises."""
    with pytest.raises(LoadRefused) as caught:
        load_release(changed_files)
    return caught.value


def marked(path: str) -> dict[str, bytes]:
    """Return the sample's files with a byte order mark before one of them, as spreadsheets write it."""
    return {**files(), path: BOM_UTF8 + files()[path]}


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


FILES = {
    "a model with a byte order mark": (marked(MODEL), MODEL, "begins with a byte order mark"),
    "facets with a byte order mark": (marked(FACETS), FACETS, "begins with a byte order mark"),
    "a table with a byte order mark": (marked(EAR), EAR, "begins with a byte order mark"),
    "a pack with a byte order mark": (marked(P3), P3, "begins with a byte order mark"),
    "a definition that does not go on": (
        changed(MODEL, "unknown, \\\n    scr", "unknown,\n    scr"),
        f"{MODEL}:8",
        "backslash",
    ),
    "missing effect column": (changed(MODEL, "p = id, eft, ", "p = id, "), MODEL, "effect column `eft` is missing"),
    "missing id column": (changed(MODEL, "p = id, eft, ", "p = eft, "), MODEL, "column `id` is missing"),
    "column twice": (changed(MODEL, "p = id, eft, ", "p = id, eft, id, "), MODEL, "names a column twice"),
    "another effect": (changed(MODEL, " && !some(where (p.eft == deny))", ""), MODEL, "deny overrides"),
    "a pattern": (
        changed(MODEL, "has(r.action, p.action)", "regexMatch(r.action, p.action)"),
        MODEL,
        "unbounded pattern",
    ),
    "eval": (changed(MODEL, "has(r.action, p.action)", "eval(p.action)"), MODEL, "unbounded pattern"),
    "a function nobody published": (
        changed(MODEL, "has(r.action,", "like(r.action,"),
        MODEL,
        "`like` is not published",
    ),
    "wrong arity of a function": (
        changed(MODEL, "within(r.tier, p.tiers)", "within(r.tier)"),
        MODEL,
        "wrong arguments",
    ),
    "undefined token": (changed(MODEL, "has(r.action,", "has(r.acton,"), MODEL, "`r.acton`, which is not defined"),
    "undefined column": (changed(MODEL, "p.tiers)", "p.tier)"), MODEL, "`p.tier`, which is not defined"),
    "not a conjunction": (changed(MODEL, "p.action) && within", "p.action) || within"), MODEL, "is not supported"),
    "a negated term": (changed(MODEL, "has(r.action,", "!has(r.action,"), MODEL, "is not supported"),
    "a matcher that is no expression": (changed(MODEL, "has(r.action,", "has((r.action,"), MODEL, "no expression"),
    "a second matcher": (
        changed(MODEL, "m = has(", "m2 = r.tier == p.tiers\nm = has("),
        MODEL,
        "`m2` is not supported",
    ),
    "no matcher": (changed(MODEL, "[matchers]", "[matches]"), MODEL, "[matchers] is missing"),
    "no request": (changed(MODEL, "[request_definition]", "[requests]"), MODEL, "[request_definition] is missing"),
    "groups without domains": (changed(MODEL, "g = _, _, _", "g = _, _"), MODEL, "needs `g = _, _, _`"),
    "conditional roles": (changed(MODEL, "g = _, _, _", "g = _, _, (_, _)"), MODEL, "conditional roles"),
    "no Casbin model": ({**files(), MODEL: b"nonsense\n"}, MODEL, "Casbin cannot read"),
    "not UTF-8": ({**files(), MODEL: b"\xff"}, MODEL, "not UTF-8"),
    "a token without source": (changed(FACETS, "denied = {", "deny = {"), f"{FACETS}:", "`deny` is no request token"),
    "an unnamed token": (
        changed(FACETS, 'editions = { from = "derive:editions", kind = "set" }\n', ""),
        FACETS,
        "has no source",
    ),
    "an unknown derivation": (
        changed(FACETS, "derive:denied", "derive:refused"),
        f"{FACETS}:",
        "no derivation `refused`",
    ),
    "the wrong kind": (
        changed(FACETS, 'derive:home", kind = "scalar"', 'derive:home", kind = "set"'),
        FACETS,
        "gives a scalar",
    ),
    "a token of birth": (changed(FACETS, "derive:home", "subject.properties.birth_country"), FACETS, "birth country"),
    "a path that is none": (changed(FACETS, "derive:home", "properties.home"), FACETS, "a source is"),
    "an empty vocabulary": (changed(FACETS, 'values = ["restricted"]', "values = []"), FACETS, "vocabulary is empty"),
    "an unknown that nothing is": (
        changed(FACETS, '"end-customer"', '"end-custmer"'),
        FACETS,
        "ever named `end-custmer`",
    ),
    "an unknown setting": (changed(FACETS, "evidence_days", "evidence_day"), FACETS, "`reference.evidence_day"),
    "a share above the whole": (changed(FACETS, "percent = 50", "percent = 101"), FACETS, "0 to 100 percent"),
    "a list that is none": (changed(FACETS, '"MEU"', '"UVL"'), FACETS, "needs lists among"),
    "lists where none belong": (changed(FACETS, '"more-than" }', '"more-than", lists = ["SDN"] }'), FACETS, "no lists"),
    "no days of evidence": (changed(FACETS, "evidence_days = 365", "evidence_days = 0"), FACETS, "number of days"),
    "a home that is nowhere": (
        changed(FACETS, 'home_country = "US"', 'home_country = "ZZ"'),
        FACETS,
        "`ZZ` has no row",
    ),
    "a seat group that is none": (
        changed(FACETS, 'seat_group = "D:5', 'seat_group = "D:8'),
        FACETS,
        "no group or code `D:8`",
    ),
    "a reason of two lines": (
        changed(FACETS, '"There is no such model here."', '"There is no such model here.\\nAsk Jo."'),
        f"{FACETS}:{REASONS_LINE + 3}",
        "the message of `model.unknown` is one line",
    ),
    "a reason that is too long": (
        changed(FACETS, '"There is no such model here."', f'"{"x" * 1_025}"'),
        f"{FACETS}:{REASONS_LINE + 3}",
        "is one line of 1 to 1024 printable characters",
    ),
    "a reason without words": (
        changed(FACETS, '"There is no such model here."', '" "'),
        f"{FACETS}:{REASONS_LINE + 3}",
        "the message of `model.unknown`",
    ),
    "a label of two lines": (
        changed(FACETS, 'label = "P2"', 'label = "P2\\n"'),
        f"{FACETS}:{REASONS_LINE + 3}",
        "the label of `model.unknown` is one line",
    ),
    "open actions": (
        changed(FACETS, ', values = ["infer", "fine_tune", "download_weights", "list"]', ""),
        FACETS,
        "actions are not declared",
    ),
    "an unknown code": (changed(EAR, "\nAD,B", "\nYU,B"), f"{EAR}:2", "`YU` is in neither"),
    "a code in lower case": (changed(EAR, "\nAD,B", "\nad,B"), f"{EAR}:2", "`ad` is in neither"),
    "a row too short": (changed(EAR, "\nAD,B,2026-01-01,", "\nAD,B,2026-01-01"), f"{EAR}:2", "correct its arity"),
    "a repeated row": (
        changed(EAR, "\nAD,B,2026-01-01,", "\nAD,B,2026-01-01,\nAD,B,2026-01-01,"),
        f"{EAR}:3",
        "repeats line 2",
    ),
    "an overlapping row": (
        changed(EAR, "\nAD,B,2026-01-01,", "\nAD,B,2026-01-01,\nAD,B,2026-02-03,"),
        f"{EAR}:3",
        "overlaps another",
    ),
    "a row that ends before it starts": (
        changed(EAR, "\nAD,B,2026-01-01,", "\nAD,B,2026-02-03,2026-01-01"),
        f"{EAR}:2",
        "ends before it starts",
    ),
    "a bad date": (changed(EAR, "\nAD,B,2026-01-01,", "\nAD,B,01/01/2026,"), f"{EAR}:2", "YYYY-MM-DD"),
    "a space in a cell": (changed(EAR, "\nAD,B,", "\nAD, B,"), f"{EAR}:2", "space"),
    "a bad group name": (changed(EAR, "\nAD,B,", "\nAD,B-1,"), f"{EAR}:2", "a group's name"),
    "an open quote": (changed(EAR, "\nAD,B,", '\nAD,"B,'), EAR, "quotes of this row do not close"),
    "another header": (changed(EAR, "country,group", "code,group"), f"{EAR}:1", "the header must be"),
    "an empty table": (
        {**files(), "tables/more.csv": b"country,group,effective_from,effective_to\n"},
        "tables/more",
        "no rows",
    ),
    "a group in two tables": (
        changed("tables/embargo.csv", "CU,embargoed", "CU,D:5"),
        "tables/",
        "`D:5` is in the tables",
    ),
    "a group named like a country": (changed(EAR, "\nAD,B,", "\nAD,DE,"), "tables/", "name of a country"),
    "an edition without source": (
        changed(EAR, "\nAD,B,2026-01-01", "\nAD,B,2026-03-01"),
        "tables/editions.csv",
        "`ear@2026-03-01`",
    ),
    "a source without edition": (
        changed("tables/editions.csv", "ear,2026-02-03", "ear,2026-02-04"),
        "tables/editions.csv:",
        "no edition",
    ),
    "an empty source": (
        changed("tables/editions.csv", EAR_SOURCE, "ear,2026-07-23,"),
        "tables/editions.csv:",
        "source is empty",
    ),
    "two sources": (
        changed("tables/editions.csv", EAR_SOURCE, EAR_SOURCE + "\near,2026-07-23,x"),
        "tables/",
        "two sources",
    ),
    "a table that ends": (
        changed(
            "tables/embargo.csv",
            files()["tables/embargo.csv"].decode().partition("\n")[2],
            "CU,embargoed,2026-01-01,2026-02-01\n",
        ),
        "tables/embargo.csv:2",
        "would be empty",
    ),
    "a gap in a dated rule": (
        changed("tables/affiliates_rule.csv", "in_force,2026-11-10", "in_force,2026-11-11"),
        "tables/affiliates_rule.csv:4",
        "leave no gap",
    ),
    "a dated rule that ends": (
        changed("tables/affiliates_rule.csv", "in_force,2026-11-10,", "in_force,2026-11-10,2027-01-01"),
        "tables/affiliates_rule.csv:4",
        "must be open",
    ),
    "an unknown status": (
        changed("tables/affiliates_rule.csv", "in_force,2026-11-10", "paused,2026-11-10"),
        "tables/affiliates_rule.csv:4",
        "`in_force` or `suspended`",
    ),
    "two sovereigns": (
        changed("tables/sovereigns.csv", "AI,GB", "AI,GB\nAI,US"),
        "tables/sovereigns.csv:3",
        "two sovereigns",
    ),
    "a sovereign nobody lists": (
        changed("tables/sovereigns.csv", "AI,GB", "AI,CK"),
        "tables/sovereigns.csv:2",
        "`CK` has no row",
    ),
    "a territory with rows": (
        changed("tables/sovereigns.csv", "AI,GB", "AE,GB"),
        "tables/sovereigns.csv:2",
        "rows of its own",
    ),
    "a territory nobody knows": (
        changed("tables/sovereigns.csv", "AI,GB", "YY,GB"),
        "tables/sovereigns.csv:2",
        "`YY` is not in",
    ),
    "a bad country code": (changed("tables/countries.csv", "\nAD", "\nAND"), "tables/countries.csv:2", "alpha-2"),
    "a bad region code": (changed("tables/regions.csv", "\nAD-02", "\nAD02"), "tables/regions.csv:2", "ISO 3166-2"),
    "a file of another kind": ({**files(), "packs/readme.md": b""}, "packs/readme.md", "no part of a release"),
    "a path out of the folder": ({**files(), "packs/../x.toml": b""}, "packs/../x.toml", "no part of a release"),
    "no catalogue": ({path: text for path, text in files().items() if path != "models.toml"}, "models.toml", "missing"),
    "no rules": ({path: text for path, text in files().items() if not path.startswith("packs/")}, "packs/", "no rule"),
    "a pack that is no TOML": ({**files(), "packs/extra.toml": b"[pack]\nname = \n"}, "packs/extra.toml:2", "no TOML"),
    "a pack without owner": (changed(P3, 'owner = "sanctions officer"\n', ""), f"{P3}:", "`pack.owner` is missing"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_says_this_is_refused(case: str) -> None:
    """A release with this mistake is refused, with the file (and line, where there is one) and what to do."""
    bad, where, words = FILES[case]
    error = refusal(bad)
    assert (error.where or "").startswith(where)
    assert words in error.message


MODELS = {
    "an unknown key": ('id = "open-1"', 'id = "open-1"\ncolour = "red"', "`model.colour`"),
    "a tier out of range": ("tier = 5", "tier = 6", "a tier is 1 to 5"),
    "a tier that is a text": ("tier = 5", 'tier = "5"', "wrong type"),
    "an unknown status": ('status = "available"', 'status = "ready"', "the status must be one of"),
    "an unknown test": ('nationality_test = "EAR"', 'nationality_test = "ear"', "the test must be one of"),
    "a base nobody knows": ('id = "open-1"', 'id = "open-1"\nbase = ["open-0"]', "the base `open-0`"),
    "a circle": ('id = "open-1"', 'id = "open-1"\nbase = ["open-1"]', "derives from itself"),
    "a name for two models": ('aliases = ["fable-latest"]', 'aliases = ["open-1"]', "stands for two models"),
    "a name with a line break": ('id = "open-1"', 'id = "open\\n1"', "printable characters"),
    "a country without quotes": ('["US", "CA", "GB", "DE"]', "[US]", "no TOML"),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_catalogue_that_says_this_is_refused(case: str) -> None:
    """A catalogue with this mistake is refused, alone as well as with the release."""
    old, new, words = MODELS[case]
    bad = changed("models.toml", old, new)
    error = refusal(bad)
    assert (error.where or "").startswith("models.toml")
    assert words in error.message
    with pytest.raises(LoadRefused, match=r"models\.toml"):
        with_catalogue(release(), bad)


@pytest.mark.parametrize(
    ("name", "words"), [("release_bytes", "release_bytes"), ("pack_bytes", "bytes"), ("table_bytes", "bytes")]
)
def test_sizes_are_limited(name: str, words: str) -> None:
    """A release, pack or table one byte above its limit is refused by a sentence with the limit."""
    sizes = {path: len(content) for path, content in files().items()}
    tables = max(size for path, size in sizes.items() if path.startswith("tables/"))
    texts = max(size for path, size in sizes.items() if not path.startswith("tables/"))
    most = {"release_bytes": sum(sizes.values()), "pack_bytes": texts, "table_bytes": tables}[name]
    load_release(files(), limits=Limits(**{name: most}))
    with pytest.raises(LoadRefused, match=words):
        load_release(files(), limits=Limits(**{name: most - 1}))


def test_rules_are_limited() -> None:
    """As many lines as the limit load; one more is refused."""
    count = len(release().rules)
    load_release(files(), limits=Limits(rules_count=count))
    with pytest.raises(LoadRefused, match="rules_count"):
        load_release(files(), limits=Limits(rules_count=count - 1))


def test_a_folder_that_is_none_is_refused() -> None:
    """A path that is no folder is refused by its name."""
    with pytest.raises(LoadRefused, match="no such folder"):
        read_folder(FOLDER / "model.conf")


@pytest.mark.parametrize("name", ["packs/more.yaml", "packs/more.TOML", "packs/more/deny.toml", "tables/more.tsv"])
def test_nothing_in_the_folder_is_passed_over(name: str, tmp_path: Path) -> None:
    """A file or folder among packs or tables that would not be read is refused by its name, not left out."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "packs" / "README.md").write_text("Read me.")
    (tmp_path / "packs" / "a.toml").write_text("x")
    (tmp_path / "tables" / ".hidden").write_text("x")
    assert read_folder(tmp_path) == {"packs/a.toml": b"x"}
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("x")
    with pytest.raises(LoadRefused, match="files are read here") as caught:
        read_folder(tmp_path)
    assert caught.value.where in name


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A pack that is there and cannot be read is refused by its name: its rules must not silently vanish."""
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / "loop.toml").symlink_to(tmp_path / "packs" / "loop.toml")
    with pytest.raises(LoadRefused, match=r"packs/loop\.toml: the file cannot be read"):
        read_folder(tmp_path)


def test_a_folder_that_may_not_be_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that this process may not look into is a refusal that names the place, and no fault of ours."""

    def closed(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(LoadRefused, match=r"packs: the folder cannot be read \(PermissionError\)"):
        read_any_folder(FOLDER)


def test_with_catalogue_takes_no_other_change() -> None:
    """Sharing compiled rules is refused when anything but the catalogue differs."""
    with pytest.raises(LoadRefused, match="more than the catalogue"):
        with_catalogue(release(), rule())


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
    "a lift that nothing has": (changed(FACETS, '"seat", "dest"', '"seat", "house", "dest"'), "lifted by `house`"),
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


def test_a_lift_needs_a_column() -> None:
    """Where the model has no column for lift keys, a rule with one is refused."""
    text = files()[MODEL].decode().replace(" && unlifted(r.lifts, p.lift)", "")
    error = refusal({**files(), MODEL: text.encode()})
    assert "no column for `lift`" in error.message


def test_no_refusal_echoes_a_long_path() -> None:
    """A path of any length in a published release is cut in the refusal."""
    error = refusal({**files(), "x" * 10_000: b""})
    assert len(str(error)) < 1_000


def test_rules_in_a_pack_keep_their_lines() -> None:
    """Each compiled rule knows the pack and line that it comes from."""
    loaded = load_release(with_rule('id = "X1"\nlabel = "X"\neffect = "deny"\ncode = "x"\nmessage = "m"\n'))
    found = next(rule for rule in loaded.rules if rule.id == "X1")
    assert (found.pack, found.line) == ("packs/extra.toml", 6)
