"""Law 6 on the decision cases: every entry that reached the rules, put to stock Casbin, gives the outcome it holds.

What is asked is what the log holds: the flat tuple out of the opened entry, sets as the sorted lists they are written
as, under the release that the entry names. Entries with one tuple under one set of rules are one question.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import casbin
import pytest

from policy_engine.bootstrap import Engine
from policy_engine.cases import ASKER, open_cases, read_cases
from policy_engine.core.release import Release
from policy_engine.ledger.encoding import parse_public
from policy_engine.rules.export import export
from policy_engine.rules.functions import add_functions
from policy_engine.rules.release import read_folder
from policy_engine.rules.stock import silence
from policy_engine.services.unseal import Unsealer

POLICIES = Path(__file__).parents[2] / "policies"
FILES = tuple(sorted((POLICIES / "cases").glob("*.jsonl")))


def stock(release: Release, folder: Path) -> Any:
    """Return an unmodified enforcer on the exported release, with the published functions and nothing else."""
    silence()
    for name, content in export(release).items():
        (folder / name).write_bytes(content)
    enforcer = casbin.Enforcer(str(folder / "model.conf"), str(folder / "policy.csv"))
    add_functions(enforcer)
    return enforcer


def last_entry(engine: Engine) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return public part and opened body of the newest entry."""
    with engine.store.view() as view:
        *_, entry = view.scan_entries()
        public = parse_public(entry.public)
        return public, Unsealer(engine.evidence._vault, view.data_key).body(entry, public)


@pytest.mark.campaign
def test_stock_casbin_gives_the_outcome_of_every_recorded_case(tmp_path: Path) -> None:
    """An unmodified `casbin.Enforcer` on the exported release agrees with every case entry that reached the rules."""
    enforcers: dict[int, Any] = {}
    asked: dict[tuple[int, str], str] = {}
    counts: Counter[str] = Counter()
    cases = [case for file in FILES for case in read_cases(file)]
    for case, engine in open_cases(cases, read_folder(POLICIES)):
        engine.decider.decide(case.request, ASKER)
        public, body = last_entry(engine)
        assert public["kind"] == "decision"
        counts["reached" if public["reached"] else "not reached"] += 1
        if not public["reached"]:
            continue
        release = engine.snapshots.current().release
        assert release is not None and public["release"] == release.hash
        rules = id(release.index)  # shared by releases that differ in the catalogue alone
        if rules not in enforcers:
            enforcers[rules] = stock(release, tmp_path), release
        question = rules, repr(body["values"])
        if question not in asked:
            asked[question] = "allow" if enforcers[rules][0].enforce(*body["values"]) else "deny"
        counts[public["outcome"]] += 1
        assert asked[question] == public["outcome"], case.id
    assert counts["reached"] > 700 and counts["allow"] > 200 and counts["deny"] > 400
