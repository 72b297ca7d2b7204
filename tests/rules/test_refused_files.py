"""What loading refuses in the other files of a release, and in the folder: each with its place and a way to mend it."""

from __future__ import annotations

import time
import tracemalloc
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from policy_engine.errors import LoadRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.rules.folder import read_folder as read_any_folder
from policy_engine.rules.release import load_release, read_folder, with_catalogue
from policy_engine.rules.sources import read_toml
from tests.rules.sample import FOLDER, changed, files, refusal, release, rule

MODEL = "model.conf"
FACETS = "facets.toml"
EAR = "tables/ear_groups.csv"
P3 = "packs/sanctions.toml"
REASONS_LINE = files()[FACETS].decode().splitlines().index("[reasons]") + 1
EAR_SOURCE = next(line for line in files()["tables/editions.csv"].decode().splitlines() if "ear,2026-07-23" in line)


def marked(path: str) -> dict[str, bytes]:
    """Return the sample's files with a byte order mark before one of them, as spreadsheets write it."""
    return {**files(), path: BOM_UTF8 + files()[path]}


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
    "a pack that is nested": ({**files(), "packs/x.toml": b"a = " + b"[" * 3_000}, "packs/x.toml:1", "too deeply"),
    "a long number": ({**files(), "packs/x.toml": b"a = " + b"1" * 5_000}, "packs/x.toml:1", "a number in it is too"),
    "a long dotted key": ({**files(), "packs/x.toml": b"[x]\n" + b"a." * 16 + b"a = 1"}, "packs/x.toml:2", "16 parts"),
    "a long key of a table": ({**files(), "packs/x.toml": b"[" + b"'a' . " * 16 + b"a]"}, "packs/x.toml:1", "16 parts"),
    "a pack without owner": (changed(P3, 'owner = "sanctions officer"\n', ""), f"{P3}:", "`pack.owner` is missing"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_says_this_is_refused(case: str) -> None:
    """A release with this mistake is refused, with the file (and line, where there is one) and what to do."""
    bad, where, words = FILES[case]
    error = refusal(bad)
    assert (error.where or "").startswith(where)
    assert words in error.message


@pytest.mark.parametrize(
    "text",
    [
        "a." * 20_000 + "a = 1",
        "x = {" + "a . " * 20_000 + "a = 1}",
        "x = '''\n[ a" + " " * 40_000 + "!\n'''",
        "x = '''\n[ " + " " * 40_000 + "!\n'''",
        "x = '''" + ',"' * 20_000 + "'''",
        'x = "' + ',\\"' * 20_000 + '"',
    ],
    ids=["key", "inner", "header", "spaces", "quotes", "escapes"],
)
def test_reading_a_pack_costs_no_more_than_its_length(text: str) -> None:
    """A key with `policy:write` sends such a text before anybody approves: one dotted key of 40 KB had taken 2 GB."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        with suppress(LoadRefused):
            read_toml("packs/x.toml", text.encode(), LIMITS.pack_bytes)
    finally:
        took, (_, most) = time.process_time() - begun, tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert took < 1
    assert most < 20 * len(text) + 1_000_000


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


def test_a_lift_needs_a_column() -> None:
    """Where the model has no column for lift keys, a rule with one is refused."""
    text = files()[MODEL].decode().replace(" && unlifted(r.lifts, p.lift)", "")
    error = refusal({**files(), MODEL: text.encode()})
    assert "no column for `lift`" in error.message


def test_no_refusal_echoes_a_long_path() -> None:
    """A path of any length in a published release is cut in the refusal."""
    error = refusal({**files(), "x" * 10_000: b""})
    assert len(str(error)) < 1_000
