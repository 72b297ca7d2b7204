"""Cosignatures on every store: kept once under their checkpoint, shown with it, and fetched from a real witness."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from policy_engine.errors import LogForked
from policy_engine.ledger.checkpoint import cosign, open_checkpoint
from policy_engine.ledger.note import COSIGNATURE, Ed25519Signer, parse_key, parse_note
from policy_engine.limits import LIMITS
from policy_engine.services.witness import OwnLog, Witnesses
from policy_engine.services.witnessclient import WitnessAddress
from tests.store.samples import AnyStore, Clock, Database, genesis
from tests.store.trees import ORIGIN, SIGNER, append, check_tree, retire, sequencer
from tests.witness.witnessed import configure, configure_keys, running

COSIGNERS = [Ed25519Signer(f"w{n}.example", sha256(b"witness %d" % n).digest(), COSIGNATURE) for n in range(2)]
QUICK = replace(LIMITS, witness_seconds=2.0, witness_check_seconds=0.2, witness_retry_seconds=0.2)


def test_lines_are_kept_under_their_checkpoint(store: AnyStore, database: Database, clock: Clock) -> None:
    """A line of each witness and checkpoint is kept, the first one for good; the note shows all of its own size."""
    genesis(store)
    made = sequencer(database, clock)
    first = made.integrate()
    append(store, 1, clock)
    second = made.integrate()
    assert first is not None and second is not None
    lines = {}
    for number, (stored, cosigner) in enumerate(
        [(first, COSIGNERS[0]), (second, COSIGNERS[0]), (second, COSIGNERS[1])]
    ):
        text = parse_note(stored.note).text
        lines[number] = cosign(text, cosigner, 100 + number).line()
        made.cosign(stored.size, str(cosigner.key), lines[number])
        made.cosign(stored.size, str(cosigner.key), cosign(text, cosigner, 200).line())
    keys = [cosigner.key for cosigner in COSIGNERS]
    for size, times in ((first.size, [100]), (second.size, [101, 102])):
        note = store.checkpoint(size)
        assert note is not None
        opened = open_checkpoint(note.note, ORIGIN, [SIGNER.key], keys, len(times))
        assert sorted(each.time_seconds for each in opened.cosignatures) == times
    with store.view() as view:
        assert view.last_cosignature(str(keys[0])) == (second.size, lines[1])
        assert view.last_cosignature(str(keys[1])) == (second.size, lines[2])
        assert view.last_cosignature("nobody") is None
    check_tree(store)


def test_a_real_witness_follows_the_sequencer(
    store: AnyStore, database: Database, clock: Clock, tmp_path: Path
) -> None:
    """Each checkpoint of the store is offered as it is signed, cosigned, and kept through the sequencer's login."""
    folder = tmp_path / "witness"
    folder.mkdir()
    key = parse_key(configure(folder))
    configure_keys(folder, SIGNER.key)
    genesis(store)
    made, told = sequencer(database, clock), list[LogForked]()
    with running(folder) as started:
        witnesses = Witnesses([WitnessAddress(started.url + "/", key)], OwnLog(store, made.cosign), told.append, QUICK)
        made.published = witnesses.offer
        try:
            for count in (1, 2, 280):
                for _ in range(count):
                    append(store, 1, clock)
                newest = made.integrate()
                assert newest is not None
                until = time.monotonic() + 20
                while not cosigned(store, newest.size, key):
                    assert time.monotonic() < until, witnesses.states()
                    time.sleep(0.02)
            assert (told, witnesses.states()[0].problem) == ([], "")
        finally:
            witnesses.close()
        retire(database)
    check_tree(store)


def cosigned(store: AnyStore, size: int, key: object) -> bool:
    """Return whether the checkpoint of a size has the witness's cosignature."""
    note = store.checkpoint(size)
    keys = [parse_key(str(key))]
    return note is not None and len(open_checkpoint(note.note, ORIGIN, [SIGNER.key], keys).cosignatures) == 1
