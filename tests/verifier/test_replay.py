"""`--replay`: the pinned functions are the published ones, and no model runs that is neither known nor vouched for."""

from __future__ import annotations

import hashlib
import itertools
import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import casbin
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.instants import parse_instant
from policy_engine.rules.functions import published
from policy_engine_verify import cli
from policy_engine_verify.functions import pinned
from policy_engine_verify.replay import is_known
from tests.docs import pages
from tests.verifier import honest

SAMPLE = (pages.ROOT / "policies" / "model.conf").read_text(encoding="utf-8")
LINKS = {("IR", "E:1", "a"), ("RU", "A:5", "a"), ("RU", "A:5", "b")}
WORDS = st.sampled_from(["", "*", "-", "IR", "RU", "E:1", "A:5", "a", "b", "x|y", "x", "y", "US"])
SETS = st.one_of(st.frozensets(WORDS, max_size=3), st.lists(WORDS, max_size=3).map(tuple))
TIERS = st.sampled_from(
    ["1", "3", "5", "unclassified", "6", "3+", "1-2", "2-1", "5+", "0-9", "*", "", "1-", "+", "33", "1-2-3"]
)
INTERVALS = st.sampled_from(
    ["*", "/", "2026-06-01/", "/2026-06-01T00:00:00Z", "2026-06-01/2026-07-01", "2026-07-01/2026-06-01", "2026-06-01",
     "2026-06-01T12:30:00+02:00/", "2026-06-01T00:00:00.5Z/2027-01-01", "x/", "2026-13-01/"]
)  # fmt: skip
INSTANTS = st.one_of(
    st.sampled_from([parse_instant("2026-06-01"), parse_instant("2026-06-15")]), st.integers(), st.none()
)
VALUES = st.one_of(WORDS, SETS, st.none(), st.integers(), TIERS, INSTANTS)


def outcome(function: Any, *arguments: Any) -> Any:
    """Return what a function answers, or that it raises."""
    try:
        return bool(function(*arguments))
    except Exception:  # noqa: BLE001  whatever it is, Casbin denies
        return "raises"


@given(VALUES, st.one_of(WORDS, TIERS, INTERVALS), VALUES)
def test_the_functions_are_the_published_ones(value: Any, text: str, editions: Any) -> None:
    """Both sets of functions answer, and raise, alike for whatever they are given."""
    ours, theirs = (make(lambda *link: link in LINKS) for make in (pinned, published))
    assert ours.keys() == theirs.keys()
    for name in ours:
        arguments = (value, text, editions) if name in ("grouped", "outside") else (value, text)
        assert outcome(ours[name], *arguments) == outcome(theirs[name], *arguments), name


def test_the_functions_are_alike_where_it_matters() -> None:
    """Every tier against every tier range, and every instant against every interval, one by one."""
    ours, theirs = (make(lambda *link: link in LINKS) for make in (pinned, published))
    words = [
        "1",
        "2",
        "3",
        "4",
        "5",
        "unclassified",
        "3+",
        "1-2",
        "2-1",
        "5+",
        "0-9",
        "*",
        "",
        "1-",
        "+",
        "33",
        "1-2-3",
    ]
    for one, two in itertools.product(words, words):
        assert outcome(ours["within"], one, two) == outcome(theirs["within"], one, two), (one, two)


def test_the_sample_model_is_known() -> None:
    """The model of the sample release may be run, whatever spaces it holds."""
    assert is_known(SAMPLE)
    assert is_known(SAMPLE.replace("\\\n    ", ""))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("has(r.action, p.action)", "__import__('os').system('id')"),
        ("has(r.action, p.action)", "eval(p.action)"),
        ("has(r.action, p.action)", "r.action.__class__.__mro__"),
        ("has(r.action, p.action)", "has(r.action.__class__, p.action)"),
        ("has(r.action, p.action)", "keyMatch(r.action, p.action)"),
        ("has(r.action, p.action)", 'has("x", p.action)'),
        ("has(r.action, p.action)", "has(has(r.action, p.action), p.action)"),
        ("has(r.action, p.action)", "r.action == p.action"),
        ("has(r.action, p.action) && ", "has(r.action, p.action) || "),
        ("has(r.action, p.action) && ", "(has(r.action, p.action)) && "),
        ("has(r.action, p.action)", "[x for x in ()]"),
        ("m = ", "m2 = "),
        ("[matchers]", "[matchers]\nm2 = true\n"),
        ("g = _, _, _", "g = _, _, _\ng2 = _, _"),
        ("some(where (p.eft == allow)) && !some(where (p.eft == deny))", "priority(p.eft) || deny"),
        ("[policy_effect]", "[policy_effects]"),
        ("lifts\n", "lifts, __class__\n"),
    ],
)
def test_no_other_model_is_known(old: str, new: str) -> None:
    """A matcher, a definition or an effect that is anything else is not run."""
    assert old in SAMPLE
    assert not is_known(SAMPLE.replace(old, new, 1))


@pytest.mark.parametrize(
    "hidden", ["# no more \\\nm = 1 == 1\n", "# no more \\\n[matchers]\nm = 1 == 1\n", "#\\\nm2 = 1 == 1\n"]
)
def test_no_matcher_hides_behind_a_comment(hidden: str) -> None:
    """A comment that ends in a backslash goes on for some readers and not for Casbin, whose reading counts."""
    text = SAMPLE.rstrip("\n") + "\n" + hidden
    model = casbin.Model()
    model.load_model_from_text(text)
    assert "1 == 1" in {each.value for each in model.model["m"].values()}
    assert not is_known(text)
    assert is_known(SAMPLE.replace("[matchers]\n", "; here\n# and here \\\n[matchers]\n"))


def bundle(
    folder: Path,
    model: str,
    policy: str,
    outcome: str,
    reached: bool = True,
    listed: tuple[str, ...] = ("model.conf", "policy.csv"),
    body: bytes = honest.canonical({"values": ["alice", "data1", "read"]}),
) -> tuple[Path, str]:
    """Return an unsealed bundle of one decision about one value, and the log's key. `listed`: the release's files."""
    files = {"model.conf": model.encode(), "policy.csv": policy.encode()}
    names = [name for name in files if name in listed]
    listing = sorted([name, hashlib.sha256(files[name]).hexdigest()] for name in names)
    text = json.dumps(listing, ensure_ascii=False, separators=(",", ":"))
    release = hashlib.sha256(text.encode()).hexdigest()
    made = honest.Maker(1, 1, 8)
    log = made.writers[0]
    text_of_body = b'{"body":' + body + b',"salt":"' + b"ab" * 32 + b'"}'
    commit = hashlib.sha256(bytes.fromhex("ab" * 32) + body).hexdigest()
    entry = made.decision("0" * 32)._replace(outcome=outcome, release=f"sha256:{release}", reached=reached)
    log.entries.append(honest.decision_public(entry, log.id, 0, made.at, commit, "cd" * 32))
    leaf = honest.leaf_hash(log.entries[0])
    header = honest.Header(log.id, 0, 0, 1, leaf.hex(), log.head, made.epoch, f"sha256:{release}", made.at)
    log.headers.append(header)
    made.made.leaves.append(header.encode())
    line = {"keys": [None], "seq": 0, "texts": [b64encode(text_of_body).decode()]}
    members = made.made.files(sealed=False) | {f"bodies/{log.id}.jsonl": honest.canonical(line) + b"\n"}
    members |= {f"releases/{release}/{name}": data for name, data in files.items()}
    members[f"releases/{release}/files.json"] = json.dumps(listing).encode()
    return honest.write_folder(members, folder), made.made.key


PLAIN = """[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && keyMatch(r.obj, p.obj) && r.act == p.act
"""
POLICY = "p, alice, data*, read\n"


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Return the exit code and what replay said."""
    code = cli.main([*map(str, arguments), "--replay", "--json"])
    return code, json.loads(capsys.readouterr().out)["replay"]


def test_a_model_that_is_not_known_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its decisions are counted as left out, with the reason, until the caller vouches for it by its hash."""
    folder, key = bundle(tmp_path / "b", PLAIN, POLICY, "allow")
    code, found = replayed(capsys, folder, "--key", key)
    assert (code, found["left_out"], found["same"]) == (0, 1, 0)
    assert "--model-sha256" in next(iter(found["reasons"]))
    vouched = hashlib.sha256(PLAIN.encode()).hexdigest()
    code, found = replayed(capsys, folder, "--key", key, "--model-sha256", vouched)
    assert (code, found["left_out"], found["same"]) == (0, 0, 1)
    assert list(found["releases"].values()) == ["its policy is that of the release"]


def test_an_outcome_that_the_policy_does_not_give(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A decision that was recorded otherwise than the policy of its release decides is found, with its place."""
    folder, key = bundle(tmp_path / "b", PLAIN, POLICY, "deny")
    vouched = hashlib.sha256(PLAIN.encode()).hexdigest()
    code, found = replayed(capsys, folder, "--key", key, "--model-sha256", vouched)
    assert (code, found["differ"], len(found["places"])) == (6, 1, 1)
    assert "entry 0: recorded deny, stock Casbin says allow" in found["places"][0]


def test_an_allow_that_never_reached_the_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only rules allow: an allow that says it never reached them differs, where a deny is left out."""
    for outcome, (code, differ, left_out) in {"allow": (6, 1, 0), "deny": (0, 0, 1)}.items():
        folder, key = bundle(tmp_path / outcome, PLAIN, POLICY, outcome, reached=False)
        ended, found = replayed(capsys, folder, "--key", key)
        assert (ended, found["differ"], found["left_out"]) == (code, differ, left_out)
        assert len(found["places"]) == differ


@pytest.mark.parametrize("member", ["reached", "outcome"])
def test_a_decision_that_lacks_what_every_one_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    """It was signed, and nothing can be decided again of it: it differs, at its place, and the program goes on."""
    whole = honest.decision_public

    def lacking(*given: Any) -> bytes:
        members = json.loads(whole(*given))
        del members[member]
        return honest.canonical(members)

    monkeypatch.setattr(honest, "decision_public", lacking)
    folder, key = bundle(tmp_path / "b", PLAIN, POLICY, "allow")
    vouched = hashlib.sha256(PLAIN.encode()).hexdigest()
    code, found = replayed(capsys, folder, "--key", key, "--model-sha256", vouched)
    assert (code, found["differ"]) == (6, 1) and "cannot be read" in found["places"][0]


@pytest.mark.parametrize(
    "value", [b"[" * 20_000 + b"]" * 20_000, b'{"json":"' + b"[" * 20_000 + b'"}'], ids=["nested", "inner"]
)
def test_a_body_that_is_nested_too_deeply(tmp_path: Path, capsys: pytest.CaptureFixture[str], value: bytes) -> None:
    """Whoever wrote the log wrote it, and the program goes on: it had ended in a traceback, and not by its code."""
    folder, key = bundle(tmp_path / "b", PLAIN, POLICY, "allow", body=b'{"values":[' + value + b',"data1","read"]}')
    vouched = hashlib.sha256(PLAIN.encode()).hexdigest()
    code, found = replayed(capsys, folder, "--key", key, "--model-sha256", vouched)
    assert (code, found["differ"]) == (6, 1)


@pytest.mark.parametrize("name", ["model.conf", "files.json", "policy.csv"])
@pytest.mark.parametrize("arguments", [[], ["--replay"]])
def test_files_that_are_not_those_of_the_release(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, arguments: list[str]
) -> None:
    """Another model, policy or list than the release has is a finding, and nothing is decided by it."""
    folder, key = bundle(tmp_path / "b", PLAIN, POLICY, "allow")
    (path,) = folder.glob(f"releases/*/{name}")
    path.write_bytes(path.read_bytes() + (b"\n" if name != "files.json" else b" "))
    if name == "files.json":
        path.write_text("[]")
    vouched = ["--model-sha256", hashlib.sha256(PLAIN.encode()).hexdigest()] if arguments else []
    code = cli.main([str(folder), "--key", key, "--json", *arguments, *vouched])
    found = json.loads(capsys.readouterr().out)
    assert (code, len(found["findings"]), "replay" in found) == (6, 1, False)
    assert "that of the release" in found["findings"][0]["message"]


def test_a_policy_that_no_list_names_is_said_not_to_be_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policy of a release that was written as packs is what the exporter made of them, and that is said."""
    folder, key = bundle(tmp_path / "b", PLAIN, POLICY, "allow", listed=("model.conf",))
    vouched = hashlib.sha256(PLAIN.encode()).hexdigest()
    code, found = replayed(capsys, folder, "--key", key, "--model-sha256", vouched)
    assert (code, found["same"]) == (0, 1)
    assert list(found["releases"].values()) == ["its policy is what the exporter made of it"]
