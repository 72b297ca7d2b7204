"""Honest logs: several writers, restarts, erasures and prunings raise no alarm, whatever form the bundle has."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from policy_engine_verify.check import Check
from policy_engine_verify.formats import key
from policy_engine_verify.report import Given, Report
from policy_engine_verify.source import Source
from tests.verifier import honest

LOGS = [(range(24), 400), pytest.param(range(1_000), 1_000, marks=pytest.mark.nightly)]


def given(made: honest.Honest, since: int | None = None) -> Given:
    """Return what an auditor of a log has: its key, a witness, an earlier checkpoint and some receipts."""
    receipts = {f"receipt {number}": data for number, data in enumerate(made.receipts)}
    earlier = None if since is None else made.note(since)
    return Given(key(made.key), [key(made.witness_key)], 1, earlier, receipts)


def checked(path: Path, vouched: Given) -> Report:
    """Return what the verifier finds in a bundle."""
    with Source(path) as source:
        return Check(source, vouched).run()


@pytest.mark.parametrize(("seeds", "entries"), LOGS)
def test_no_false_alarm(tmp_path: Path, seeds: range, entries: int) -> None:
    """Every honest log verifies whole, with ciphertexts, opened bodies, receipts and an earlier checkpoint."""
    for seed in seeds:
        made = honest.make(seed, entries, writers=1 + seed % 4)
        files = made.files(sealed=seed % 3 > 0, bodies=seed % 2 > 0)
        path = tmp_path / f"{seed}.zip"
        bundle = honest.write_zip(files, path) if seed % 5 == 0 else honest.write_folder(files, tmp_path / str(seed))
        report = checked(bundle, given(made, since=1 + seed * 7 % len(made.leaves)))
        assert (report.findings, report.partial) == ([], False), f"seed {seed}"
        assert report.counts["entries"] == sum(len(log.entries) for log in made.logs.values()) >= entries
        assert report.counts["receipts"] == len(made.receipts) > 0


def test_the_honest_logs_are_worth_verifying() -> None:
    """Among the honest logs there are restarts, both ways to end, erased and pruned bodies, and erased rows."""
    logs = [honest.make(seed, 400, writers=1 + seed % 4) for seed in range(24)]
    leaves = b"".join(leaf for made in logs for leaf in made.leaves)
    entries = b"".join(entry for made in logs for log in made.logs.values() for entry in log.entries)
    bodies = [body for made in logs for log in made.logs.values() for body in log.bodies.values()]
    assert all(word in leaves for word in (b'"close"', b'"abandoned"'))
    assert all(word in entries for word in (b'"erases"', b'"prunes"', b'"rows"', b'"search"', b'\\"quoted\\"'))
    assert any(len(made.logs) > 4 for made in logs)
    assert sum(not body.sealed for body in bodies) > 100
    assert any(body.sealed and any(text is None for _, text in body.texts) for body in bodies)


def test_a_log_that_was_read_is_not_kept(tmp_path: Path) -> None:
    """A database whose processes come and go has thousands of logs: the verifier keeps no piece of each."""
    maker = honest.Maker(3, 1, 4)
    for _ in range(40):
        log = maker.opened("writer.example.org/again")
        maker.commit(log, ["decision"] * 100)
        maker.end(log)
    folder = honest.write_folder(maker.made.files(), tmp_path / "b")
    with Source(folder) as source:
        check = Check(source, given(maker.made))
        tracemalloc.start()
        try:
            report, kept = check.run(), tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
    assert (report.findings, report.counts["entries"]) == ([], 4_000)
    assert kept < 1_000_000
