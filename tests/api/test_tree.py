"""The tree over HTTP: what a reader of C2SP's tlog-tiles gets proves what the checkpoint says, and receipts hold."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.errors import InputRefused
from policy_engine.ledger.canonical import canonical
from policy_engine.ledger.chain import Logs
from policy_engine.ledger.checkpoint import open_checkpoint
from policy_engine.ledger.leaves import Opened, parse_leaf
from policy_engine.ledger.merkle import leaf_hash, root
from policy_engine.ledger.note import parse_key
from policy_engine.ledger.receipts import check_receipt, parse_receipt
from policy_engine.services.publictree import read_place, write_place
from tests.api.served import ALICE, EVE, Served, serving

NOT_PLACES = [
    "",
    "0",
    "00",
    "0000",
    "x000/001",
    "x001",
    "x1/000",
    "000.p/0",
    "000.p/256",
    "000.p/01",
    "000.p/",
    "x001/x002",
]
NOT_PLACES += ["-01", "000/", "/000", "\u0660\u0660\u0660", "x001/000.p/1.p/1", "x001/" * 20 + "000"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Served]:
    """Offer a service of its own, whose tree nobody else grows."""
    with serving(tmp_path, serving_region="US") as running:
        yield running


def settled(served: Served, size: int) -> None:
    """Wait until the tree has as many leaves; a second is what is promised."""
    until = time.monotonic() + 10
    while served.engine.store.tree_state().size < size:
        assert time.monotonic() < until, "nothing was integrated"
        time.sleep(0.02)


def test_a_reader_of_tiles_proves_the_checkpoint(own: Served) -> None:
    """Key, checkpoint, tile and leaves fit: the leaves hash to the tile, and the tile to the root that was signed."""
    for _ in range(3):
        own.decide(ALICE)
    settled(own, 5)
    key = parse_key(own.get("/v1/log/key", key="auditor").text.strip())
    note = own.get("/v1/log/checkpoint", key="auditor")
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    checkpoint = open_checkpoint(note.content, key.name, (key,)).checkpoint
    size = checkpoint.size
    tile = own.get(f"/v1/log/tile/0/000.p/{size}", key="auditor")
    assert "immutable" in tile.headers["cache-control"]
    hashes = [tile.content[at : at + 32] for at in range(0, len(tile.content), 32)]
    assert len(hashes) == size
    assert root(hashes) == checkpoint.root
    bundle = own.get(f"/v1/log/tile/entries/000.p/{size}", key="auditor").content
    leaves = []
    while bundle:
        length = int.from_bytes(bundle[:2], "big")
        leaves.append(bundle[2 : 2 + length])
        bundle = bundle[2 + length :]
    assert [leaf_hash(leaf) for leaf in leaves] == hashes
    logs = Logs()
    for leaf in leaves:
        logs.add(leaf)


def test_what_the_tree_does_not_have_is_not_found(own: Served) -> None:
    """A full tile, a wider one, another level and an empty tree's checkpoint are 404; a misspelt number is 422."""
    settled(own, 2)
    for path in ("tile/0/000", "tile/0/000.p/200", "tile/1/000.p/1", "tile/0/001.p/1", "tile/entries/000"):
        assert own.get(f"/v1/log/{path}", key="auditor").status_code == 404
    for path in ("tile/0/0", "tile/0/x000/000", "tile/8/000", "tile/0/000.p/256", "tile/a/000"):
        assert own.get(f"/v1/log/{path}", key="auditor").status_code in (400, 422)


def test_an_allow_has_a_receipt_that_checks(own: Served) -> None:
    """The receipt in the context holds against the key of the log's `open` leaf and the entry; a deny has none."""
    context = own.decide(ALICE)["context"]
    assert "receipt" not in own.decide(EVE)["context"]
    settled(own, 3)
    store = own.engine.store
    opened = parse_leaf(next(store.scan_leaves()).data)
    assert isinstance(opened, Opened)
    assert opened.key is not None
    receipt = parse_receipt(canonical(context["receipt"]))
    entry = store.entry(opened.log_id, receipt.seq)
    checked = check_receipt(receipt, (parse_key(opened.key),), entry.public)
    assert checked.valid_for_ms == context["valid_for_ms"]
    assert context["id"].encode() in entry.public
    leaf = store.leaf_of(opened.log_id, receipt.seq)
    assert leaf is None or leaf.data == checked.header_bytes


def test_a_batch_has_receipts_when_it_asks(own: Served) -> None:
    """A lean batch stays lean; `options.receipts` adds one to each allow, with explanations or without."""
    asked = {**ALICE, "evaluations": [{}, {"subject": EVE["subject"]}]}
    lean = own.post("/access/v1/evaluations", asked).json()["evaluations"]
    assert lean == [{"decision": True}, {"decision": False}]
    options = {"receipts": True}
    allowed, denied = own.post("/access/v1/evaluations", {**asked, "options": options}).json()["evaluations"]
    assert set(allowed["context"]) == {"receipt"}
    assert denied == {"decision": False}
    options = {"receipts": True, "explain": True}
    allowed, denied = own.post("/access/v1/evaluations", {**asked, "options": options}).json()["evaluations"]
    assert "receipt" in allowed["context"]
    assert "receipt" not in denied["context"]
    refused = own.post("/access/v1/evaluations", {**asked, "options": {"receipts": 1}})
    assert refused.status_code == 400


def test_a_service_whose_tree_was_refused_is_not_ready(own: Served) -> None:
    """`/readyz` says so; what was signed before can still be read."""
    settled(own, 2)
    own.engine.sequencer.halt("it is smaller than it was")
    answer = own.get("/readyz")
    assert answer.status_code == 503
    assert [error["where"] for error in answer.json()["errors"]] == ["tree.refused"]
    assert own.get("/v1/log/checkpoint", key="auditor").status_code == 200


@pytest.mark.parametrize("number", [0, 1, 999, 1_000, 1_234_067, 10**9, 2**55 - 1])
def test_numbers_of_tiles_have_one_spelling(number: int) -> None:
    """What is written is read again, with a width or without."""
    text = write_place(number)
    assert read_place(text) == (number, 256)
    assert read_place(f"{text}.p/255") == (number, 255)


def test_a_number_of_c2sp_is_written_as_there() -> None:
    """The example of the specification."""
    assert write_place(1_234_067) == "x001/x234/067"


@pytest.mark.parametrize("text", NOT_PLACES)
def test_other_spellings_of_a_tile_are_refused(text: str) -> None:
    """A second spelling would be a second address of the same bytes."""
    with pytest.raises(InputRefused):
        read_place(text)
