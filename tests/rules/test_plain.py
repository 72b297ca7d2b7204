"""Loading a plain Casbin folder: what is refused, with file and line, what is a warning, and where tokens come from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from policy_engine.core.plain import PlainRelease
from policy_engine.errors import InputRefused, LoadRefused
from policy_engine.limits import LIMITS
from policy_engine.rules.folder import is_plain, load_release, read_folder, require_packs
from policy_engine.rules.lint import lint
from policy_engine.rules.plain import load_plain, read_plain_folder
from policy_engine.rules.plainmodel import read_plain_model
from policy_engine.rules.plaintokens import read_tokens
from policy_engine.rules.sources import release_hash
from policy_engine.rules.stock import stock_enforcer
from tests.rules.plainfolders import MODEL, POLICY, folder, loaded, with_effect, with_line, with_matcher
from tests.rules.sample import files as sample_files

PRIORITY = MODEL.replace("p = sub, obj", "p = priority, obj").replace("g(r.sub, p.sub) && ", "")
ENTITY = '{"type": "user", "id": "alice", "properties": {"role": "admin"}}'


def refused(files: Mapping[str, bytes], **limits: int) -> str:
    """Return the sentence with which files are refused."""
    with pytest.raises(LoadRefused) as caught:
        load_plain(files, limits=replace(LIMITS, **limits))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("files", "where", "sentence"),
    [
        (with_line("p, bob, doc, read, Allow"), "policy.csv:9", "the effect is `Allow`; write allow or deny"),
        (with_line("p, bob, doc, read"), "policy.csv:9", "has 3 values where model.conf defines 4"),
        (with_line("p, bob, doc, read, allow, x"), "policy.csv:9", "has 5 values where model.conf defines 4"),
        (with_line("g, bob"), "policy.csv:9", "the `g` line has 1 values where model.conf defines 2"),
        (with_line("g, bob, reader, here"), "policy.csv:9", "the `g` line has 3 values"),
        (with_line("g2, bob, reader"), "policy.csv:9", "no role definition `g2`"),
        (with_line("p2, bob, doc, read, allow"), "policy.csv:9", "Casbin would skip this one in silence"),
        (with_line("P, bob, doc, read, allow"), "policy.csv:9", "Casbin would skip this one in silence"),
        (with_line(", bob, doc, read, allow"), "policy.csv:9", "Casbin would skip this one in silence"),
        (with_line("m, bob"), "policy.csv:9", "Casbin would skip this one in silence"),
        (with_line("p, bob), doc, read, allow"), "policy.csv:9", "brackets of the line do not match"),
        (with_line("p, bob, doc, read, allow("), "policy.csv:9", "brackets of the line do not match"),
        (with_line("g, reader, alice"), "policy.csv:9", "makes a role its own member"),
        (with_line("g, bob, bob"), "policy.csv:9", "makes a role its own member"),
        (folder("# nothing\n\n"), "policy.csv", "has no `p` line"),
        (folder(""), "policy.csv", "has no `p` line"),
        (folder("g, alice, reader\n"), "policy.csv", "has no `p` line"),
        (folder("\ufeff" + POLICY.split("\n", 1)[1]), "policy.csv:1", "byte order mark"),
        (with_effect("!some(where (p.eft == deny))"), "model.conf:11", "allows without a matching allow"),
        (with_effect("some(where (p.eft == deny))"), "model.conf:11", "not one of Casbin's own"),
        (with_effect("some(where(p.eft==allow))"), "model.conf:11", "write e = some(where (p.eft == allow))"),
        (with_effect("priority(p.eft)||deny"), "model.conf:11", "write e = priority(p.eft) || deny"),
        (with_matcher("r.sub = p.sub"), "model.conf:14", "the matcher is no expression"),
        (with_matcher("g(r.sub, p.sub) &&"), "model.conf:14", "the matcher is no expression"),
        (with_matcher("(r.sub == p.sub"), "model.conf:14", "the matcher is no expression"),
        (with_matcher("like(r.sub, p.sub)"), "model.conf:14", "calls `like`, which is no function here"),
        (with_matcher("r.sub == p.sub && r.dom == p.obj"), "model.conf:14", "reads `r.dom`, which is not defined"),
        (with_matcher("r.sub == p.owner"), "model.conf:14", "reads `p.owner`, which is not defined"),
        (with_matcher("r.sub.__class__ == p.sub"), "model.conf:14", "a name that begins with `_`"),
        (with_matcher("eval(r.sub)"), "model.conf:14", "`eval()` reads one column of the policy"),
        (folder(model=MODEL.replace("[matchers]", "[matcher]")), "model.conf:14", "in no section that Casbin reads"),
        (folder(model=MODEL + "nonsense\n"), "model.conf:15", "no section and no `name = value`"),
        (folder(model="x = 1\n" + MODEL), "model.conf:1", "in no section that Casbin reads"),
        (folder(model=MODEL.replace("m = ", "m2 = ")), "model.conf", "[matchers] is missing"),
        (folder(model=MODEL + "m3 = r.sub == 'x'\n"), "model.conf:15", "Casbin does not read `m3`"),
        (folder(model=MODEL.replace("g = _, _", "g = _, _\ng3 = _, _")), "model.conf:9", "Casbin does not read `g3`"),
        (with_matcher("r.sub == p.sub # who \\\n && r.act == p.act # what"), "model.conf:15", "part of the comment"),
        (folder(model=MODEL.replace("g = _, _", "g = _, (_, _)")), "model.conf:8", "conditional roles"),
        (folder(model=MODEL.replace("g = _, _", "g = _")), "model.conf:8", "a role definition is"),
        (folder(model=MODEL.replace("sub, obj, act\n", "sub, obj, obj\n")), "model.conf:2", "names `obj` twice"),
        (folder(model=MODEL.replace("r = sub", "r2 = sub, obj\nr = sub")), "model.conf:2", "second definition `r2`"),
        (folder(model=""), "model.conf", "section [request_definition] is missing"),
        (folder(model=MODEL.replace("r = sub, obj, act", "r =")), "model.conf:2", "`r = ...` has no value"),
        (folder(model=MODEL[: MODEL.rindex("m = ")] + "m = \n"), "model.conf:14", "`m = ...` has no value"),
        (folder("p, 1, a, b, allow\np, x, a, b, allow\n", PRIORITY), "policy.csv:2", "priorities are whole numbers in"),
        (
            folder("p, 1, a, b, allow\np, ²9, a, b, allow\n", PRIORITY),
            "policy.csv:2",
            "priorities are whole numbers in",
        ),
    ],
)
def test_what_is_refused(files: Mapping[str, bytes], where: str, sentence: str) -> None:
    """Each is refused by one sentence with the file and the line."""
    found = refused(files)
    assert found.startswith(f"{where}: ")
    assert sentence in found


def test_a_wrong_arity_is_named_by_its_line_in_a_long_policy() -> None:
    """Line 73,211 of a long policy.csv is named, and in reasonable time."""
    lines = [f"p, user{number}, doc{number}, read, allow" for number in range(1, 100_001)]
    lines[73_210] = "p, user73211, doc73211, read"
    began = perf_counter()
    assert refused(folder("\n".join(lines))).startswith("policy.csv:73211: the `p` line has 3 values")
    assert perf_counter() - began < 5


def test_the_line_that_closes_a_circle_is_named() -> None:
    """Of many links in a row, the one that leads back is named, per domain; a name in two domains is two names."""
    chain = "".join(f"g, role{at}, role{at + 1}\n" for at in range(500))
    policy = f"{POLICY}{chain}g, role400, role3\ng, other, role1\n"
    assert refused(folder(policy)).startswith("policy.csv:509: ")
    model = MODEL.replace("g = _, _", "g = _, _, _").replace("r = sub,", "r = sub, dom,")
    model = model.replace("g(r.sub, p.sub)", "g(r.sub, p.sub, r.dom)")
    fine = "p, a, doc, read, allow\ng, a, b, one\ng, b, a, two\n"
    assert len(loaded(folder(fine, model)).rules) == 1
    assert refused(folder(fine + "g, b, a, one\n", model)).startswith("policy.csv:4: ")


def test_a_file_that_is_not_utf8_is_refused() -> None:
    """Bytes that are no UTF-8 are refused, in either file."""
    for name in ("policy.csv", "model.conf"):
        sentence = "the line is not UTF-8; save the file as UTF-8"
        assert refused({**folder(), name: b"p, \xff"}) == f"{name}:1: {sentence}"
        assert refused({**folder(), name: b"# \xc3\xa9\n\np, \xff\n"}) == f"{name}:3: {sentence}"


def test_sizes_are_bounded_at_the_edge() -> None:
    """A line or a file as long as its limit is read, and one longer by one is refused by the limit's name."""
    longest = max(map(len, POLICY.splitlines()))
    size = len(POLICY.encode())
    edge = replace(LIMITS, policy_bytes=size)
    assert load_plain(folder(), limits=edge)
    assert refused(folder(), policy_bytes=size - 1).startswith("policy.csv: the file is longer than")
    model_longest = max(map(len, MODEL.splitlines()))
    assert load_plain(folder(), limits=replace(LIMITS, policy_line_characters=model_longest))
    found = refused(folder(), policy_line_characters=model_longest - 1)
    assert found.startswith("model.conf:11: ") and "(policy_line_characters)" in found
    line = "p, " + "x" * model_longest + ", doc, read, allow"
    found = refused(with_line(line), policy_line_characters=len(line) - 1)
    assert found.startswith("policy.csv:9: ") and longest < len(line)
    assert refused(folder(), rules_count=2).startswith("policy.csv: the policy has more than 2 rules")


def test_a_gigabyte_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy.csv of 1 GB is refused by its size; nothing of it is read."""
    write(tmp_path, folder())
    os.truncate(tmp_path / "policy.csv", 2**30)
    opened: list[str] = []
    real = Path.open

    def opening(self: Path, *more: Any, **named: Any) -> Any:
        opened.append(self.name)
        return real(self, *more, **named)

    monkeypatch.setattr(Path, "open", opening)
    with pytest.raises(LoadRefused, match=r"^policy.csv: the file is longer than 33554432 bytes"):
        read_folder(tmp_path)
    assert "policy.csv" not in opened


def test_a_pipe_is_no_policy(tmp_path: Path) -> None:
    """A named pipe in place of a file is refused instead of waited for."""
    write(tmp_path, folder())
    (tmp_path / "policy.csv").unlink()
    os.mkfifo(tmp_path / "policy.csv")
    with pytest.raises(LoadRefused, match="no ordinary file"):
        read_folder(tmp_path)


def write(place: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder."""
    for name, content in files.items():
        (place / name).write_bytes(content)


def test_a_folder_is_plain_without_packs(tmp_path: Path) -> None:
    """`policy.csv` without packs makes a plain folder; with packs beside it, the packs are the release."""
    write(tmp_path, folder(readme_md="not read"))
    assert set(read_folder(tmp_path)) == {"model.conf", "policy.csv"}
    assert is_plain(read_folder(tmp_path)) and not is_plain(sample_files())
    assert isinstance(load_release(read_folder(tmp_path)), PlainRelease)
    (tmp_path / "packs").mkdir()
    assert "policy.csv" not in read_folder(tmp_path)
    (tmp_path / "packs").rmdir()
    (tmp_path / "model.conf").unlink()
    with pytest.raises(LoadRefused, match=r"^model.conf: the file cannot be read \(FileNotFoundError\)"):
        read_plain_folder(tmp_path)


@pytest.mark.parametrize("name", ["models.toml", "entities.jsonl", "facets.toml", "packs"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, name: str) -> None:
    """A file that a folder means to have and that is not there is not passed over: less would be asked without it."""
    for file, content in folder().items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / name).symlink_to(tmp_path / "nowhere")
    with pytest.raises(LoadRefused):
        load_release(read_folder(tmp_path))


def test_a_carriage_return_that_ends_no_line_is_refused(tmp_path: Path) -> None:
    """A file is read with a new line there and a text is not: what is a comment here would be a matcher for Casbin."""
    text = MODEL + "# the old one was\rm = r.obj == p.obj\n"
    (tmp_path / "model.conf").write_bytes(text.encode())
    (tmp_path / "policy.csv").write_text(POLICY)
    stock = stock_enforcer(str(tmp_path / "model.conf"), str(tmp_path / "policy.csv"))
    assert not stock.enforce("alice", "doc", "read") and loaded().judge(("alice", "doc", "read")).allowed
    found = refused(folder(model=text))
    assert found.startswith("model.conf:15: ") and "carriage return that ends no line" in found
    ended = loaded(folder(model=MODEL.replace("\n", "\r\n")))
    assert ended.judge(("alice", "doc", "read")).allowed


def test_a_foreign_file_is_no_part_of_it() -> None:
    """Files that are given by name, over HTTP too, are those of a plain folder and no others."""
    assert refused(folder(x_txt="y")).startswith("x.txt: the file is no part of a plain Casbin folder")
    assert refused({"policy.csv": b"p"}) == "model.conf: the file is missing; add it"
    with pytest.raises(LoadRefused, match=r"^policy.csv: there are no rules: add policy.csv, which makes this a plain"):
        load_release({"model.conf": MODEL.encode()})


def test_the_hash_is_over_all_its_files() -> None:
    """Each file of the folder is part of its name; two loads of the same files have the same name."""
    whole = folder(entities_jsonl=ENTITY, models_toml='[[model]]\nid = "doc"\n', facets_toml="")
    hashes = {loaded(whole).hash, *(loaded({**whole, name: whole[name] + b"\n"}).hash for name in whole)}
    assert len(hashes) == 6
    assert loaded(whole).hash == release_hash(whole) == loaded(dict(reversed(whole.items()))).hash


def test_rules_are_named_by_their_lines() -> None:
    """Comments and blank lines count; a row that stands twice is named by its first line."""
    release = loaded(with_line("p, reader, doc, read, allow"))
    assert [rule.id for rule in release.rules] == ["policy.csv:2", "policy.csv:3", "policy.csv:5", "policy.csv:9"]
    assert release.rules[0].text == "p, reader, doc, read, allow"
    assert [rule.line for rule in release.rules[1:3]] == [3, 5]
    judged = release.judge(("alice", "doc", "read"))
    assert judged.allowed and judged.deciding is not None
    assert (judged.deciding.id, judged.matching) == ("policy.csv:2", ("policy.csv:2", "policy.csv:2"))


def test_a_deny_is_named_and_no_match_names_nothing() -> None:
    """A deny names its row; without a matching row none is named; all matching rows are listed."""
    release = loaded()
    judged = release.judge(("mallory", "doc", "read"))
    assert not judged.allowed and judged.deciding is not None
    assert (judged.deciding.code, judged.matching) == ("policy.deny", ("policy.csv:2", "policy.csv:5"))
    assert release.judge(("eve", "doc", "read")) == (False, None, ())


def test_under_allow_override_a_deny_row_is_no_reason() -> None:
    """Where a deny row changes nothing, a deny is because no rule allows."""
    release = loaded(with_effect("some(where (p.eft == allow))"))
    judged = release.judge(("mallory", "doc", "read"))
    assert judged.allowed and judged.deciding is not None and judged.deciding.line == 2
    only_deny = folder("p, mallory, doc, read, deny\np, x, y, z, allow\n", with_effect_text("allow-override"))
    assert loaded(only_deny).judge(("mallory", "doc", "read")).deciding is None


EVALUATED = with_effect("some(where (p.eft == allow))")["model.conf"].decode().replace("g(r.sub, p.sub)", "eval(p.sub)")


def with_effect_text(name: str) -> str:
    """Return the model text under another effect."""
    effects = {"allow-override": "some(where (p.eft == allow))"}
    return with_effect(effects[name])["model.conf"].decode()


@pytest.mark.parametrize(
    ("files", "warning"),
    [
        (with_line("g, alice, reader"), "policy.csv:9: repeats line 6 and adds nothing"),
        (with_line("p, *, *, *, allow"), "policy.csv:9: an allow rule with nothing but `*`"),
        (with_line('p, "bob", doc, read, allow'), "policy.csv:9: Casbin's policy file knows no quotes"),
        (with_line("g, mallory, banned # since May"), "policy.csv:9: Casbin's policy file has comments on lines of"),
        (folder("p, a, doc, read, deny\n"), "policy.csv: no rule allows, so everything is denied"),
        (
            with_matcher("regexMatch(r.sub, p.sub)", "p, a.*, x, y, allow\np, *a, x, y, allow\n"),
            "policy.csv:2: the pattern is no regular expression",
        ),
        (with_matcher("regexMatch(r.sub, p.sub)"), "model.conf:14: `regexMatch` is an unbounded pattern"),
        (with_effect("some(where (p.eft == allow))"), "policy.csv:5: this row never changes an outcome"),
        (
            folder("p, r.obj == 'y', doc, read, deny\np, r.obj == 'x', doc, read, allow\n", EVALUATED),
            "policy.csv:1: under this effect a deny rule changes nothing",
        ),
        (folder(model=MODEL + "m = g(r.sub, p.sub)\n"), "model.conf:14: `m` is defined again further down"),
        (
            folder("p, a, doc, read\n", MODEL.replace(", eft\n", "\n")),
            "model.conf:5: there is no column `eft`, so every rule allows",
        ),
    ],
)
def test_what_is_a_warning(files: Mapping[str, bytes], warning: str) -> None:
    """What Casbin's users are used to is warned of with file and line, and does not stop the folder."""
    found = lint(files)
    assert found.refusals == ()
    assert any(each.startswith(warning) for each in found.warnings), found.warnings


def test_an_expression_may_begin_and_end_with_quotes() -> None:
    """A rule that `eval()` reads may hold texts; it is warned of only where the whole of it is one text."""
    fine = '"d" == r.obj || r.act == "read"'
    found = lint(folder(f'p, {fine}, doc, read, allow\np, "r.obj", doc, read, allow\n', EVALUATED)).warnings
    assert [each.partition(": ")[0] for each in found if "quotes" in each] == ["policy.csv:2"]


def test_a_good_folder_has_no_warnings() -> None:
    """Lint has nothing to say against the small folder."""
    assert lint(folder()).warnings == ()


def test_many_warnings_of_one_kind_are_counted() -> None:
    """Of 100 repeated lines the first 20 are listed."""
    found = lint(folder("p, a, doc, read, allow\n" + "g, a, b\n" * 101)).warnings
    assert len(found) == 21 and found[-1] == "policy.csv: and 80 more lines that repeat another"


def test_lint_finds_rules_that_change_nothing() -> None:
    """What the analysis finds is said with its line, and not once more in plainer words."""
    found = lint(with_line("p, writer, doc, read, allow\np, reader, doc, read, allow")).warnings
    assert [warning.split(":")[1] for warning in found] == ["9", "10"]
    assert "never changes an outcome: line 2 allows whatever it allows" in found[0]
    assert "is a duplicate of line 2" in found[1]


def test_what_the_analysis_cannot_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matcher that is not analysed gives one sentence beside the other warnings, and so does a fault of ours."""
    files = with_matcher("r.sub == p.sub && r.obj == p.obj && (r.act == p.act || p.act == p.obj)")
    assert [warning for warning in lint(files).warnings if "not analysed" in warning]

    def failing(*_: Any, **__: Any) -> Any:
        raise KeyError("value")

    monkeypatch.setattr("policy_engine.rules.plainlint.analyse_model", failing)
    assert lint(folder()).warnings == ("policy.csv: not analysed: the analysis failed (KeyError)",)


def test_lint_says_what_loading_refuses() -> None:
    """A refused folder has the one refusal that loading gives, and no release."""
    found = lint(with_line("g, bob"))
    assert (found.refusals, found.release) == ((refused(with_line("g, bob")),), None)


TOKENS_MODEL = MODEL.replace("r = sub, obj, act", "r = sub, obj, act, ip").replace(
    "&& r.act", "&& r.ip == p.obj && r.act"
)


@pytest.mark.parametrize(
    ("facets", "where", "sentence"),
    [
        (None, "model.conf:2", "the request token `ip` has no source; give it one under [tokens] of facets.toml"),
        ("", "model.conf:2", "the request token `ip` has no source"),
        ('[tokens]\nip = { from = "derive:now", kind = "scalar" }', "facets.toml:2", "derivations read the registers"),
        ('[tokens]\nip = { from = "request.ip", kind = "scalar" }', "facets.toml:2", "a source is a path"),
        ('[tokens]\nip = { from = "subject.role", kind = "scalar" }', "facets.toml:2", "a source is a path"),
        ('[tokens]\nip = { from = "context", kind = "scalar" }', "facets.toml:2", "is an object"),
        ('[tokens]\nip = { from = "subject.id", kind = "object" }', "facets.toml:2", "is a text"),
        ('[tokens]\nip = { from = "context.ip", kind = "list" }', "facets.toml:2", "`tokens.ip.kind` is not accepted"),
        ('[tokens]\nip = { from = "context.ip" }', "facets.toml:2", "`tokens.ip.kind` is missing"),
        ('[tokens]\nip = { from = 1, kind = "scalar" }', "facets.toml:2", "`tokens.ip.from` has the wrong type"),
        ('[tokens]\nip = { from_ = "context.ip", kind = "set" }', "facets.toml:2", "`tokens.ip.from` is missing"),
        ('[tokens]\nip = "context.ip"', "facets.toml:2", 'is written ip = { from = "context.ip", kind = "scalar" }'),
        (
            '[tokens]\nsub = { from = "subject.id", kind = "scalar" }\nip = { from = "context.ip", kind = "list" }',
            "facets.toml:3",
            "`tokens.ip.kind` is not accepted",
        ),
        ("[tokens]\nip", "facets.toml:2", "this is no TOML"),
        ('[tokens]\n[reasons]\n"rules.error" = "no"', "facets.toml:3", "`reasons.rules.error` is no table"),
        (
            '[reasons]\n"rules.error" = { message = "No." }\n"rules.eror" = { message = "No." }',
            "facets.toml:3",
            "`rules.eror` is no reason that the engine gives here; it gives policy.allow, policy.deny, no-rule-allows",
        ),
        (
            '[tokens]\nip = { from = "context.' + "x" * 1_017 + '", kind = "scalar" }',
            "facets.toml:2",
            "the source is longer than 1024 characters (text_characters)",
        ),
        ('[tokens]\nport = { from = "context.ip", kind = "scalar" }', "facets.toml:2", "`port` is no request token"),
        ("[reference]\nx = 1", "facets.toml:1", "`reference` is no key"),
    ],
)
def test_a_token_without_a_good_source_is_refused(facets: str | None, where: str, sentence: str) -> None:
    """A token that is neither one of the usual four nor named with a path of the request is refused by name."""
    others = {} if facets is None else {"facets_toml": facets}
    found = refused(folder(model=TOKENS_MODEL, **others))
    assert sentence in found
    assert found.startswith(f"{where}: ")


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ('message = "No.\\nAsk Jo."', "the message of `rules.error` is one line of 1 to 1024 printable characters"),
        (f'message = "{"x" * 1_025}"', "the message of `rules.error` is one line"),
        ('message = " "', "the message of `rules.error` is one line"),
        ('label = "a\\tb", message = "No."', "the label of `rules.error` is one line"),
    ],
    ids=["two lines", "too long", "blank", "a tab in the label"],
)
def test_a_reason_that_is_not_one_line_is_refused(reason: str, sentence: str) -> None:
    """Decisions carry these texts, and whoever reads one from afar takes nothing else."""
    facets = f'[reasons]\n"stale" = {{ message = "Again." }}\n"rules.error" = {{ {reason} }}\n'
    found = refused(folder(facets_toml=facets))
    assert sentence in found
    assert found.startswith("facets.toml:3: ")


def test_a_reason_of_one_line_is_taken() -> None:
    """Up to the limit; a label that is left out, or empty, is the code."""
    facets = f'[reasons]\n"stale" = {{ label = "", message = "{"x" * 1_024}" }}\n"rules.error" = {{ message = "é" }}\n'
    reasons = load_plain(folder(facets_toml=facets)).engine_reasons
    assert {code: (said.label, len(said.message)) for code, said in reasons.items()} == {
        "stale": ("stale", 1_024),
        "rules.error": ("rules.error", 1),
    }


def test_tokens_map_to_their_usual_sources() -> None:
    """Unnamed tokens are read from the usual places; named ones from where facets.toml says."""
    facets = '[tokens]\nip = { from = "context.ip", kind = "scalar" }\nsub = { from = "subject", kind = "object" }\n'
    model = TOKENS_MODEL.replace("r = sub, obj", "r = sub, dom, obj").replace("g(r.sub, p.sub)", "r.sub.role == p.sub")
    tokens, reasons = read_tokens(facets.encode(), read_plain_model(model.encode(), LIMITS), LIMITS)
    assert reasons == {}
    assert [(token.name, token.source, token.kind) for token in tokens] == [
        ("sub", "subject", "object"),
        ("dom", "context.tenant", "scalar"),
        ("obj", "resource.id", "scalar"),
        ("act", "action.name", "scalar"),
        ("ip", "context.ip", "scalar"),
    ]


@pytest.mark.parametrize(
    ("lines", "where", "sentence"),
    [
        ("not json", "entities.jsonl:1", "no JSON object"),
        (f"{ENTITY}\n{ENTITY}", "entities.jsonl:2", "stands on an earlier line"),
        ('{"type": "user", "type": "x", "id": "a"}', "entities.jsonl:1", "no JSON object with unique names"),
        ('{"type": "user", "id": "a", "role": "x"}', "entities.jsonl:1", "an object of type, id and properties"),
        ('{"type": "user", "id": 5}', "entities.jsonl:1", "type and id are texts"),
        ('{"type": "", "id": "a"}', "entities.jsonl:1", "type and id are texts"),
        ('{"type": "user", "id": "a", "properties": []}', "entities.jsonl:1", "the properties are an object"),
        ('{"type": "user", "id": "a", "properties": {"x": NaN}}', "entities.jsonl:1", "no JSON object"),
        ('{"type": "user", "id": "a", "properties": {"x": [-1e999]}}', "entities.jsonl:1", "number is larger than"),
        ('{"type": "user", "id": "\\ud800"}', "entities.jsonl:1", "no JSON object"),
        ("[" * 2_000, "entities.jsonl:1", "no JSON object"),
    ],
)
def test_entities_are_read_strictly(lines: str, where: str, sentence: str) -> None:
    """A line that is no entity is refused with its line."""
    found = refused(folder(entities_jsonl=lines))
    assert found.startswith(f"{where}: ") and sentence in found


def test_entities_are_kept_in_order() -> None:
    """Entities are found by type and id, in the order of the file, blank lines passed over."""
    release = loaded(folder(entities_jsonl=f'{ENTITY}\n\n{{"type": "doc", "id": "alice"}}\n'))
    assert list(release.entities.items()) == [(("user", "alice"), {"role": "admin"}), (("doc", "alice"), {})]


def test_decision_cases_need_packs() -> None:
    """What lays persons and orders is refused for a plain folder by a sentence, and passes for packs."""
    with pytest.raises(InputRefused, match=r"^policy.csv: decision cases need packs"):
        require_packs(folder(), "decision cases")
    require_packs(sample_files(), "decision cases")


def test_what_the_enforcer_refuses_names_the_matcher() -> None:
    """A function that Casbin knows and the engine refuses is refused by name, with the matcher's line."""
    found = refused(with_matcher("timeMatch(r.sub, p.sub)"))
    assert found.startswith("model.conf:14: ") and "timeMatch" in found


def names(release: PlainRelease) -> Any:
    """Return what the policy itself names."""
    return {source: sorted(found) for source, found in release.named.items()}


def test_what_the_policy_names_is_public() -> None:
    """Actions and resource ids that stand in the policy's own columns are known; others are a caller's words."""
    assert names(loaded()) == {"action.name": ["read", "write"], "resource.id": ["doc"]}
    renamed = MODEL.replace("p = sub, obj, act", "p = sub, thing, verb").replace("p.obj", "p.thing")
    assert names(loaded(folder(model=renamed.replace("p.act", "p.verb")))) == {}
