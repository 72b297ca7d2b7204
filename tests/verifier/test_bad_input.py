"""Bad bundles: each gets one clear sentence and exit code 6; a wrong call gets 2; nothing is ever written."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from policy_engine_verify import cli, limits
from tests.verifier import honest

MADE = honest.make(21, 120)
FILES = MADE.files(bodies=True)


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every file under a folder with its time of change and its content."""
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def run(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str | Path) -> tuple[int, str]:
    """Return the exit code and what was said, after checking that nothing was written."""
    before = tree_of(folder)
    code = cli.main([str(argument) for argument in arguments])
    assert tree_of(folder) == before
    said = capsys.readouterr()
    return code, said.out + said.err


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str | Path) -> str:
    """Return the one sentence with which a bundle is refused."""
    code, said = run(capsys, folder, *arguments)
    assert (code, said.count("\n")) == (6, 1), said
    assert said.startswith("NOT VERIFIED. ") and said.endswith(".\n") and len(said) < 200
    return said.removeprefix("NOT VERIFIED. ").strip()


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    """Write a .zip of these members in this order, over those of an honest bundle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in [*FILES.items(), *members]:
            archive.writestr(name, data)
    return path


KEY = ("--key", MADE.key)


def test_foreign(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no bundle is called foreign: nothing there, a text, an empty folder, another format, another .zip."""
    assert "no such bundle" in refused(capsys, tmp_path, tmp_path / "absent", *KEY)
    (tmp_path / "text.zip").write_text("hello")
    assert "foreign" in refused(capsys, tmp_path, tmp_path / "text.zip", *KEY)
    (tmp_path / "empty").mkdir()
    assert "no manifest.json" in refused(capsys, tmp_path, tmp_path / "empty", *KEY)
    for number, manifest in enumerate(
        (b"{}", b"[1]", b"no json", b'{"format":"policy-engine-bundle/v2"}', b"[" * 9_000)
    ):
        folder = honest.write_folder(FILES | {"manifest.json": manifest}, tmp_path / str(number))
        assert "foreign" in refused(capsys, tmp_path, folder, *KEY)
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    assert "a name that no bundle has" in refused(capsys, tmp_path, tmp_path / "other.zip", *KEY)


@pytest.mark.parametrize("shown", ["[[1e999,2]]", "[[NaN,2]]", "[1]", "1", '[["a",2]]', "[[0,1,2]]"])
def test_a_manifest_that_shows_what_is_no_range(tmp_path: Path, capsys: pytest.CaptureFixture[str], shown: str) -> None:
    """Whatever stands in the place of a range, numbers beyond every float too, is refused in one sentence."""
    manifest = json.loads(FILES["manifest.json"])
    logs = [each | {"shown": "ODD"} for each in manifest["logs"]]
    odd = json.dumps(manifest | {"logs": logs}).replace('"ODD"', shown)
    folder = honest.write_folder(FILES | {"manifest.json": odd.encode()}, tmp_path / "odd")
    assert "does not say which entries are shown" in refused(capsys, tmp_path, folder, *KEY)


def test_truncated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A cut .zip is refused wherever it is cut; a cut member of a folder is refused or found at its place."""
    whole = honest.write_zip(FILES, tmp_path / "whole.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    for part in range(1, 20):
        cut.write_bytes(whole[: len(whole) * part // 20])
        assert "cut off" in refused(capsys, tmp_path, cut, *KEY)
    for name, data in FILES.items():
        if name.endswith(".jsonl") and data:
            folder = honest.write_folder(FILES | {name: data[: len(data) // 2]}, tmp_path / "cut")
            code, said = run(capsys, tmp_path, folder, *KEY)
            assert code == 6 and "NOT VERIFIED" in said
            honest.write_folder(FILES, tmp_path / "cut")
    folder = honest.write_folder(FILES | {"leaves.jsonl": FILES["leaves.jsonl"][:-1]}, tmp_path / "cut")
    assert "its last line has no end" in refused(capsys, tmp_path, folder, *KEY)


def test_damaged_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A .zip with other bytes inside is refused, or found, or says what was said before: never an error of ours."""
    whole = honest.write_zip(FILES, tmp_path / "whole.zip").read_bytes()
    damaged = tmp_path / "damaged.zip"
    for place in range(0, len(whole), max(len(whole) // 150, 1)):
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        code, said = run(capsys, tmp_path, damaged, *KEY)
        assert code == 6 or said.endswith("VERIFIED.\n")


def test_wrong_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bundle of another log, and one that a stranger signed, are refused in one sentence."""
    folder = honest.write_folder(FILES, tmp_path / "b")
    stranger = str(honest.signer("elsewhere.example").key)
    assert "not signed by the key that was given" in refused(capsys, tmp_path, folder, "--key", stranger)
    name, _, rest = MADE.key.partition("+")
    same_name = honest.Ed25519Signer(name, bytes(32)).key
    assert "not signed by the key that was given" in refused(capsys, tmp_path, folder, "--key", str(same_name))
    witness = str(honest.signer("w.example", 4).key)
    assert "fewer than 1" in refused(capsys, tmp_path, folder, *KEY, "--witness", witness)
    assert rest in MADE.key


def test_without_a_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key the bundle's own is taken, and the answer says plainly that nobody vouched for it."""
    folder = honest.write_folder(FILES, tmp_path / "b")
    code, said = run(capsys, tmp_path, folder)
    assert code == 0 and cli.UNVOUCHED in said
    code, said = run(capsys, tmp_path, folder, "--json")
    assert (code, json.loads(said)["key"]) == (0, "from the bundle")
    code, said = run(capsys, tmp_path, folder, *KEY)
    assert code == 0 and cli.UNVOUCHED not in said


def test_rolled_back_and_forked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An older copy and a second history are told apart, and each is said in one sentence."""
    folder = honest.write_folder(FILES, tmp_path / "b")
    grown = honest.Honest(leaves=[*MADE.leaves, MADE.leaves[0]])
    (tmp_path / "newer").write_bytes(grown.note())
    (tmp_path / "forked").write_bytes(honest.make(22, 120).note(9))
    for name, word in (("newer", "rolled back"), ("forked", "forked")):
        code, said = run(capsys, tmp_path, folder, *KEY, "--since", tmp_path / name)
        assert code == 6 and word in said and "NOT VERIFIED: 1 findings" in said
    (tmp_path / "note").write_text("no note")
    assert "signed note" in refused(capsys, tmp_path, folder, *KEY, "--since", tmp_path / "note")


def test_links_and_special_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link in a bundle is refused whatever it points to; so is a pipe, which would make a reader wait."""
    secret = tmp_path / "secret"
    secret.write_text("x")
    folder = honest.write_folder(FILES, tmp_path / "b")
    for name, target in (("leaves.jsonl", secret), ("checkpoint", folder / "manifest.json"), ("receipts", tmp_path)):
        place = folder / name
        held = place.read_bytes() if place.exists() else None
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        assert "link" in refused(capsys, tmp_path, folder, *KEY)
        place.unlink()
        if held is not None:
            place.write_bytes(held)
    os.mkfifo(folder / "blobs" / ("0" * 64))
    assert "special file" in refused(capsys, tmp_path, folder, *KEY)
    linked = zipfile.ZipInfo("receipts/a.json")
    linked.external_attr = 0o120777 << 16
    assert "link" in refused(capsys, tmp_path, zipped(tmp_path / "linked.zip", (linked, b"/etc/passwd")), *KEY)


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "entries/../../evil.jsonl", "entries/a/b.jsonl", "C:\\evil", "receipts/.hidden.json",
     "entries/\u00e9.jsonl", "blobs/" + "A" * 64, "manifest.json/x", "code.py", "entries/" + "a" * 65 + ".jsonl"],
)  # fmt: skip
def test_names_that_lead_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """A member with any name but those of a bundle is refused, so no path leads anywhere."""
    assert "a name that no bundle has" in refused(capsys, tmp_path, zipped(tmp_path / "b.zip", (name, b"x")), *KEY)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two members of one name nobody can say which is meant."""
    path = zipped(tmp_path / "b.zip", ("checkpoint", FILES["checkpoint"]))
    assert "two members of one name" in refused(capsys, tmp_path, path, *KEY)


def test_zip_bombs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What unpacks to absurd sizes, overlaps, is encrypted or packed in another way is refused before it is read."""
    bomb = zipped(tmp_path / "bomb.zip", ("receipts/a.json", bytes(100_000_000)))
    assert "unpacks to over 200 times" in refused(capsys, tmp_path, bomb, *KEY)
    whole = honest.write_zip(FILES, tmp_path / "whole.zip").read_bytes()
    start = whole.index(b"PK\x01\x02")
    second = whole.index(b"PK\x01\x02", start + 4)
    overlapping = whole[: second + 42] + bytes(4) + whole[second + 46 :]  # the second begins where the first does
    (tmp_path / "overlap.zip").write_bytes(overlapping)
    assert refused(capsys, tmp_path, tmp_path / "overlap.zip", *KEY)
    encrypted = bytearray(whole)
    encrypted[start + 8] |= 1
    (tmp_path / "encrypted.zip").write_bytes(bytes(encrypted))
    assert "encrypted" in refused(capsys, tmp_path, tmp_path / "encrypted.zip", *KEY)
    with zipfile.ZipFile(tmp_path / "bzip.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("checkpoint", b"x")
    assert "compressed in a way" in refused(capsys, tmp_path, tmp_path / "bzip.zip", *KEY)


def test_more_members_than_a_bundle_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A .zip with too many members, or too long a directory, is refused by its limit."""
    path = honest.write_zip(FILES, tmp_path / "b.zip")
    monkeypatch.setattr(limits, "MEMBERS_COUNT", len(FILES) - 1)
    assert f"over {len(FILES) - 1} members" in refused(capsys, tmp_path, path, *KEY)
    monkeypatch.setattr(limits, "MEMBERS_COUNT", len(FILES))
    assert run(capsys, tmp_path, path, *KEY)[0] == 0
    monkeypatch.setattr(limits, "DIRECTORY_BYTES", 100)
    assert "longer than 100 bytes" in refused(capsys, tmp_path, path, *KEY)


def test_no_other_end_of_a_zip_speaks_for_its_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a .zip has two ends, the one that names a short directory does not open the way for the long one."""
    whole = honest.write_zip(FILES, tmp_path / "b.zip").read_bytes()
    end = whole[-22:]
    size, offset = (int.from_bytes(end[at : at + 4], "little") for at in (12, 16))
    count = len(FILES)
    large = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(whole) - 22, 1)
    less = large[:40] + bytes(16)
    marked = end[:8] + b"\xff" * 12
    plain = whole[:-22] + large + locator + marked + b"\0\0"
    (tmp_path / "large.zip").write_bytes(plain)
    (tmp_path / "two.zip").write_bytes(plain[:-2] + len(less).to_bytes(2, "little") + less)
    assert run(capsys, tmp_path, tmp_path / "large.zip", *KEY)[0] == 0
    monkeypatch.setattr(limits, "DIRECTORY_BYTES", 100)
    assert "longer than 100 bytes" in refused(capsys, tmp_path, tmp_path / "large.zip", *KEY)
    assert "neither a folder nor a .zip" in refused(capsys, tmp_path, tmp_path / "two.zip", *KEY)


def test_receipts_and_proofs_have_a_size_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A small .zip of very many that are each within their limit is refused: all of them are held in memory at once."""
    papers = [(f"receipts/{number}.json", bytes(limits.RECEIPT_BYTES)) for number in range(4_097)]
    bomb = zipped(tmp_path / "bomb.zip", *papers)
    assert bomb.stat().st_size < 2_000_000
    assert f"longer than {limits.KEPT_BYTES} bytes together" in refused(capsys, tmp_path, bomb, *KEY)
    fewer = zipped(tmp_path / "fewer.zip", *papers[:10])
    assert "together" not in run(capsys, tmp_path, fewer, *KEY)[1]


def test_oversized(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A member, a line, a batch or a leaf over its limit is refused; a leaf and a note at the limit are read."""
    for name, most in (("checkpoint", limits.NOTE_BYTES), ("manifest.json", limits.SMALL_BYTES)):
        folder = honest.write_folder(FILES | {name: bytes(most + 1)}, tmp_path / name.split(".")[0])
        assert f"longer than {most} bytes" in refused(capsys, tmp_path, folder, *KEY)
    folder = honest.write_folder(FILES, tmp_path / "b")
    monkeypatch.setattr(limits, "LINE_BYTES", 300_000)
    log = max(MADE.logs.values(), key=lambda log: len(log.entries)).id
    (folder / f"entries/{log}.jsonl").write_bytes(b"x" * 600_000 + b"\n")
    assert "longer than 300000 bytes" in refused(capsys, tmp_path, folder, *KEY)
    honest.write_folder(FILES, folder)
    monkeypatch.setattr(limits, "BATCH_ENTRIES_COUNT", 3)
    assert "over 3 entries" in refused(capsys, tmp_path, folder, *KEY)


def test_a_proof_of_ten_million_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A proof that would never end is refused by its size before it is read, alone and within a bundle."""
    line = b"A" * 43 + b"=\n"
    endless = b"c2sp.org/tlog-proof@v1\nindex 5\n" + line * 10_000_000 + b"\n"
    (tmp_path / "endless.tlog-proof").write_bytes(endless)
    most = f"longer than {limits.PROOF_BYTES} bytes"
    code = cli.main([str(tmp_path / "endless.tlog-proof"), *KEY])
    assert code == 6 and most in capsys.readouterr().out
    (tmp_path / "endless.tlog-proof").unlink()
    short = b"c2sp.org/tlog-proof@v1\nindex 5\n" + line * 65 + b"\n" + FILES["checkpoint"]
    (tmp_path / "long.tlog-proof").write_bytes(short)
    assert "over 64 hashes" in refused(capsys, tmp_path, tmp_path / "long.tlog-proof", *KEY)
    folder = honest.write_folder(FILES | {"proofs/a.tlog-proof": short}, tmp_path / "b")
    code, said = run(capsys, tmp_path, folder, *KEY)
    assert code == 6 and "proofs/a.tlog-proof" in said


def test_more_leaves_and_entries_than_were_signed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines behind the last one that was signed are not read on and on: one finding says that they are there."""
    for name in ("leaves.jsonl", next(name for name in FILES if name.startswith("entries/"))):
        folder = honest.write_folder(FILES | {name: FILES[name] + b"\n" * 3_000_000}, tmp_path / name.replace("/", "_"))
        code, said = run(capsys, tmp_path, folder, *KEY)
        assert code == 6 and said.count("\n- ") == 1 and "there are more" in said


def test_findings_have_an_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle in which everything is wrong is not listed for ever."""
    monkeypatch.setattr(limits, "FINDINGS_COUNT", 10)
    noise = b"x\n" * 5_000
    folder = honest.write_folder({name: noise if "/" in name else data for name, data in FILES.items()}, tmp_path / "b")
    code, said = run(capsys, tmp_path, folder, *KEY)
    assert code == 6 and "checking stopped here" in said and said.count("\n- ") <= 12


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--key", "no key"], "no key cannot be read"),
        (["--key", "a+00000000+AAAA"], "33 bytes"),
        (["--key", MADE.witness_key], "not that of a witness"),
        (["--witness", MADE.key], "the key of a witness"),
        ([*KEY, "--quorum", "1"], "more witnesses than are given"),
        ([*KEY, "--since", "absent"], "absent cannot be read"),
        ([*KEY, "--receipt", "absent"], "absent cannot be read"),
    ],
)
def test_wrong_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], word: str) -> None:
    """A key that is none, a quorum that cannot be, and a file that is not there end with 2."""
    code, said = run(capsys, tmp_path, honest.write_folder(FILES, tmp_path / "b"), *arguments)
    assert (code, said.count("\n")) == (2, 1) and word in said


@pytest.mark.parametrize(
    ("redirected", "key", "expected"),
    [
        (
            ">/dev/full",
            MADE.key,
            (2, "policy-engine-verify: the result could not be written (No space left on device)\n"),
        ),
        (">/dev/full", "", (6, "policy-engine-verify: the result could not be written (No space left on device)\n")),
        ("| true; exit ${PIPESTATUS[0]}", MADE.key, (2, "")),
        (">&-", MADE.key, (0, "")),
    ],
)
def test_a_result_that_nobody_can_read_is_no_exit_0(
    tmp_path: Path, redirected: str, key: str, expected: tuple[int, str]
) -> None:
    """A full disk and a closed pipe end with 2, or with 6 for a bad bundle; who wants the exit code alone gets it."""
    place = honest.write_folder(FILES, tmp_path / "b") if key else tmp_path / "none"
    line = f"{sys.executable} -m policy_engine_verify {place} {f'--key {key}' if key else ''} {redirected}"
    done = subprocess.run(["bash", "-c", line], stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == expected


def test_ctrl_c_ends_it_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long check may be broken off: 130, and not a word."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_check", interrupted)
    assert cli.main(["bundle.zip"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_result_is_shown_in_any_encoding(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the terminal has no letter for is escaped."""
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(cli, "_check", lambda *_: {"ok": False, "refused": "ключ is missing"})
    assert cli.main(["bundle.zip"]) == 6
    terminal.seek(0)
    assert "\\u044e\\u0447 is missing." in terminal.read() and capsys.readouterr().err == ""


def test_bad_receipts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A receipt that is spoiled, forged or of another log is a finding that names it."""
    folder = honest.write_folder(FILES, tmp_path / "b")
    members = json.loads(MADE.receipts[0])
    forged = {**members, "seq": members["seq"] + 1}
    other = json.loads(honest.make(5, 50).receipts[0])
    for number, text in enumerate(("{}", "[]", "x", *map(honest.canonical, (forged, other)))):
        place = tmp_path / f"receipt{number}"
        place.write_bytes(text if isinstance(text, bytes) else text.encode())
        code, said = run(capsys, tmp_path, folder, *KEY, "--receipt", place)
        assert code == 6 and f"receipt{number}: " in said and "NOT VERIFIED: 1 findings" in said


def test_replay_needs_an_unsealed_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a sealed bundle, `--replay` says what it needs."""
    folder = honest.write_folder(MADE.files(), tmp_path / "b")
    assert "needs an unsealed export" in refused(capsys, tmp_path, folder, *KEY, "--replay")


def test_nothing_of_a_bundle_is_obeyed_by_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A log whose name would clear the screen, move the cursor or turn the text round is shown harmless."""
    made = honest.make(3, 20, gone=False)
    evil = "\u001b[2J\u009b1A\u202e"
    leaf = honest.Opened(evil, "boot", None, 1, None, honest.START).encode()
    made.leaves += [leaf, leaf]
    code, said = run(capsys, tmp_path, honest.write_folder(made.files(), tmp_path / "b"), "--key", made.key)
    assert code == 6 and "?[2J?1A?" in said
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    code, said = run(capsys, tmp_path, tmp_path / "b", "--key", made.key, "--json")
    assert code == 6 and said.isascii() and json.loads(said)["findings"][0]["log"] == evil


def test_a_part_may_not_pass_for_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Entries that the manifest does not claim to show are said to be left out; with `--complete` that fails."""
    log = max(MADE.logs.values(), key=lambda log: len(log.entries))
    cut = log.headers[-1].first
    manifest = json.loads(FILES["manifest.json"])
    next(each for each in manifest["logs"] if each["log"] == log.id)["shown"] = [[0, cut]]
    members = FILES | {"manifest.json": json.dumps(manifest).encode()}
    for name in (f"entries/{log.id}.jsonl", f"sealed/{log.id}.jsonl", f"bodies/{log.id}.jsonl"):
        lines = [line for line in FILES[name].splitlines(True) if json.loads(line)["seq"] < cut]
        members[name] = b"".join(lines)
    members[f"hashes/{log.id}"] = FILES[f"hashes/{log.id}"][: 32 * cut]
    folder = honest.write_folder(members, tmp_path / "b")
    code, said = run(capsys, tmp_path, folder, *KEY)
    assert code == 0 and cli.PARTIAL in said
    code, said = run(capsys, tmp_path, folder, *KEY, "--complete")
    assert code == 6 and cli.PARTIAL in said and said.endswith("NOT VERIFIED.\n")
    honest.write_folder(FILES, folder)
    assert run(capsys, tmp_path, folder, *KEY, "--complete")[0] == 0
