"""The witness in a process of its own: every status of C2SP tlog-witness, and what stays over a restart."""

from __future__ import annotations

import http.client
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from policy_engine.ledger.merkle import EMPTY_ROOT
from policy_engine.ledger.note import Ed25519Signer, parse_key, parse_note
from policy_engine.ledger.witnessing import SIZE_TYPE, read_cosignature, read_size
from tests.witness.witnessed import LOG, NAME, ORIGIN, OTHER, Running, Tree, configure, running


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Running]:
    """Run a witness that knows two logs and has seen none."""
    configure(tmp_path)
    with running(tmp_path) as started:
        yield started


def key_of(folder: Path) -> str:
    """Return the witness's verifier key text."""
    return (folder / "witness.vkey").read_text().strip()


def test_a_log_grows_under_its_witness(witness: Running, tmp_path: Path) -> None:
    """First checkpoint, growth, the same again, and growth once more: each is cosigned, and the last one is shown."""
    key, tree, old = parse_key(key_of(tmp_path)), Tree(), 0
    for more in (1, 4, 0, 120):
        tree = tree.grown(more)
        status, type, body = witness.add(tree.submission(old))
        assert (status, type) == (200, "text/plain; charset=utf-8")
        read_cosignature(body, tree.checkpoint().text(), key)
        shown = witness.newest()
        assert (shown[0], shown[1]) == (200, "text/plain; charset=utf-8")
        opened = open_checkpoint(shown[2], ORIGIN, [LOG.key], [key], quorum=1)
        assert opened.checkpoint == tree.checkpoint()
        old = tree.size


def test_an_empty_tree_is_cosigned_too(witness: Running) -> None:
    """Size 0 with the hash of nothing is a first checkpoint, and the tree grows from it without a proof."""
    assert witness.add(Tree().submission(0))[0] == 200
    assert witness.add(Tree.of(3).submission(0))[0] == 200


def test_400_for_an_old_size_above_the_new_one(witness: Running) -> None:
    """A request that says it shrinks is malformed; the record stays."""
    assert witness.add(Tree.of(9).submission(0))[0] == 200
    assert witness.add(Tree.of(8).submission(9, proof=[]))[0] == 400
    assert open_size(witness) == 9


def open_size(witness: Running, origin: Ed25519Signer = LOG) -> int:
    """Return the size of the witness's record."""
    return open_checkpoint(witness.newest(origin.key.name)[2], origin.key.name, [origin.key]).checkpoint.size


def test_403_without_a_signature_that_is_trusted_for_the_log(witness: Running) -> None:
    """A stranger's key, another log's key, a bad signature of the right key: none is believed."""
    tree = Tree.of(5)
    stranger = Ed25519Signer(ORIGIN, bytes(32))
    good = tree.submission(0)
    for body in (
        b"old 0\n\n" + sign_checkpoint(tree.checkpoint(), [stranger]),
        b"old 0\n\n" + sign_checkpoint(tree.checkpoint(), [OTHER]),
        good.replace(b"\n5\n", b"\n6\n"),
        b"old 0\n\n" + tree.note() + b"".join(Tree.of(6).note().splitlines(keepends=True)[-1:]),
    ):
        assert witness.add(body)[0] == 403
    assert witness.newest()[0] == 404
    with_stranger = b"old 0\n\n" + sign_checkpoint(tree.checkpoint(), [stranger, LOG])
    assert witness.add(with_stranger)[0] == 200


def test_a_signature_that_is_repeated_is_kept_once(witness: Running) -> None:
    """Anybody can send a published checkpoint with its line 64 times; the record stays one that others can read."""
    text, gap, line = Tree.of(9).note().decode().rpartition("\n\n")
    for old in (0, 9):
        assert witness.add(f"old {old}\n\n{text}{gap}{line * 64}".encode())[0] == 200
        assert len(parse_note(witness.newest()[2]).signatures) == 2


def test_404_for_a_log_that_is_not_known(witness: Running) -> None:
    """Another origin, even under a known key, is not watched here; nor are other places and other hashes."""
    note = sign_checkpoint(Checkpoint("log.example/unknown", 5, bytes(32)), [LOG])
    assert witness.add(b"old 0\n\n" + note)[0] == 404
    assert witness.newest("log.example/unknown")[0] == 404
    assert witness.ask("POST", "/", Tree.of(1).submission(0))[0] == 404
    assert witness.ask("GET", "/add-checkpoint")[0] == 404
    assert witness.ask("GET", f"/{'A' * 64}/checkpoint")[0] == 404


def test_409_names_the_size_of_the_record(witness: Running) -> None:
    """Another old size than the record's is a conflict that says which one would do; 0 before the first."""
    tree = Tree.of(40)
    status, type, body = witness.add(tree.submission(7))
    assert (status, type, read_size(body)) == (409, SIZE_TYPE, 0)
    assert witness.add(Tree.of(9).submission(0))[0] == 200
    for old in (0, 8, 10, 40):
        status, type, body = witness.add(tree.submission(old))
        assert (status, type, read_size(body)) == (409, SIZE_TYPE, 9)
    assert witness.add(tree.submission(9))[0] == 200


def test_409_for_two_trees_of_one_size(witness: Running, tmp_path: Path) -> None:
    """A second root at the size of the record is a fork: a conflict, never a cosignature, and kept as evidence."""
    assert witness.add(Tree.of(9).submission(0))[0] == 200
    status, type, body = witness.add(Tree.of(9).forked(8, 1).submission(9))
    assert (status, type, read_size(body)) == (409, SIZE_TYPE, 9)
    query = "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT note FROM forks').fetchone()[0])"
    kept = subprocess.run(
        [sys.executable, "-c", query, str(tmp_path / "witness.db")], capture_output=True, text=True, check=True
    )
    assert str(Tree.of(9).forked(8, 1).note()) == kept.stdout.strip()
    assert "forked" in (tmp_path / "witness.log").read_text()


def test_422_for_a_proof_that_does_not_lead_there(witness: Running) -> None:
    """No proof, a short, long or foreign one, a proof with a first checkpoint, another empty root: nothing moves."""
    tree = Tree.of(40)
    assert witness.add(tree.submission(0, proof=[bytes(32)]))[0] == 422
    assert witness.add(Tree.of(9).submission(0))[0] == 200
    proof = tree.proof(9)
    for bad in ([], proof[:-1], [*proof, bytes(32)], proof[::-1], tree.proof(8), [bytes(32)] * 63):
        assert witness.add(tree.submission(9, proof=bad))[0] == 422
    assert witness.add(Tree.of(9).submission(9, proof=[bytes(32)]))[0] == 422
    assert witness.add(Tree.of(40, "other words").submission(9))[0] == 422
    empty = sign_checkpoint(Checkpoint(ORIGIN, 1, bytes(32)), [LOG]).replace(b"\n1\n", b"\n0\n")
    assert witness.add(b"old 0\n\n" + empty)[0] == 422
    assert Checkpoint(ORIGIN, 0, EMPTY_ROOT).text().encode() not in empty
    assert open_size(witness) == 9


def test_logs_do_not_meet(witness: Running) -> None:
    """Each log has a record of its own."""
    assert witness.add(Tree.of(9).submission(0))[0] == 200
    assert witness.add(Tree.of(3, signer=OTHER).submission(0))[0] == 200
    assert (open_size(witness), open_size(witness, OTHER)) == (9, 3)


def test_several_requests_on_one_connection(witness: Running) -> None:
    """The connection is kept for the next checkpoint, also behind a refusal."""
    connection = http.client.HTTPConnection("127.0.0.1", witness.port, timeout=20)
    found, socket = [], None
    for tree, old in ((Tree.of(1), 0), (Tree.of(2), 0), (Tree.of(2), 1), (Tree.of(5), 2)):
        connection.request("POST", "/add-checkpoint", tree.submission(old))
        answer = connection.getresponse()
        answer.read()
        found.append(answer.status)
        socket = socket or connection.sock
        assert connection.sock is socket
    connection.close()
    assert found == [200, 409, 200, 200]


def test_the_record_stays_over_a_restart(tmp_path: Path) -> None:
    """A witness that comes back remembers: the old size is known, and a fork of what it saw is refused."""
    configure(tmp_path)
    with running(tmp_path) as first:
        assert first.add(Tree.of(9).submission(0))[0] == 200
    with running(tmp_path) as second:
        assert read_size(second.add(Tree.of(12).submission(0))[2]) == 9
        assert second.add(Tree.of(12).forked(5, 7).submission(9))[0] == 422
        assert second.add(Tree.of(12).submission(9))[0] == 200
        text = second.newest()[2]
    open_checkpoint(text, ORIGIN, [LOG.key], [parse_key(key_of(tmp_path))], 1)


def program(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "policy_engine_witness", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_new_key_is_the_witness_s_own(tmp_path: Path) -> None:
    """The key file is for its owner alone, never overwritten, and what is printed is the public key."""
    file = tmp_path / "w.key"
    made = program("new-key", NAME, file)
    assert (made.returncode, made.stderr) == (0, "")
    assert parse_key(made.stdout.strip()).name == NAME
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("PRIVATE+KEY+") and "PRIVATE" not in made.stdout
    text = file.read_text()
    again = program("new-key", NAME, file)
    assert (again.returncode, file.read_text()) == (4, text)
    for odd in ("two words", "not\udcffutf-8"):
        refused = program("new-key", odd, tmp_path / "x")
        assert (refused.returncode, "Traceback" in refused.stderr) == (2, False)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('key = "witness.key"', 'key = "missing.key"'),
        ('key = "witness.key"', ""),
        ('key = "witness.key"', 'key = "witness.toml"'),
        ("database", "databases"),
        ("[[log]]", "[[logs]]"),
        ("origin", "origins"),
        (f'origin = "{ORIGIN}"', f'origin = "{OTHER.key.name}"'),
        ("keys = [", "keys = [], others = ["),
        (str(LOG.key), str(LOG.key)[:-1]),
        (str(LOG.key), LOG.text()),
        ("witness.db", "."),
        ("witness.db", "missing/witness.db"),
        ("witness.db", "witness.key"),
    ],
)
def test_a_configuration_that_is_not_understood_stops_the_start(tmp_path: Path, old: str, new: str) -> None:
    """A misspelt table, a missing key, a second log of one origin: exit 4 with the file's name, before any port."""
    configure(tmp_path)
    place = tmp_path / "witness.toml"
    place.write_text(place.read_text().replace(old, new))
    ended = program("--config", place, "--port", 0)
    assert ended.returncode == 4 and str(place) in ended.stderr
    assert "Traceback" not in ended.stderr and "PRIVATE" not in ended.stderr


def test_a_log_that_is_no_table_stops_the_start(tmp_path: Path) -> None:
    """A list of names in the place of tables is refused in one sentence."""
    configure(tmp_path)
    place = tmp_path / "witness.toml"
    place.write_text(f'key = "witness.key"\ndatabase = "witness.db"\nlog = ["{ORIGIN}"]\n')
    ended = program("--config", place, "--port", 0)
    assert ended.returncode == 4 and str(place) in ended.stderr and "Traceback" not in ended.stderr


def test_a_key_file_that_others_may_read_stops_the_start(tmp_path: Path) -> None:
    """The private key is the witness's word; a file that others may read is refused with what to do."""
    configure(tmp_path)
    (tmp_path / "witness.key").chmod(0o644)
    ended = program("--config", tmp_path / "witness.toml", "--port", 0)
    assert ended.returncode == 4 and "chmod 600" in ended.stderr


def test_the_witness_imports_nothing_of_the_engine() -> None:
    """Its process holds no module of the engine: the standard library and `cryptography` are all it needs."""
    code = (
        "import sys, policy_engine_witness.cli\n"
        "known = sys.stdlib_module_names | {'policy_engine_witness', 'cryptography'}\n"
        "known |= {'_cffi_backend', '_openssl', '__main__'}  # parts of cryptography\n"
        "sys.exit(' '.join(sorted({name.split('.')[0] for name in sys.modules} - known)) or 0)"
    )
    folder = Path(__file__).resolve().parents[2] / "witness"
    command = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {[str(folder), site()]!r}\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def site() -> str:
    """Return the folder that `cryptography` is installed in."""
    import cryptography

    return str(Path(cryptography.__file__).parents[1])
