"""`policy-engine-verify BUNDLE`: reads a bundle or one proof, says what agrees, and names each place that does not.

Ends with 0 when everything that is shown agrees, with 6 when something does not or the bundle is bad, and with 2 for a
wrong call, or when what it found could not be written. It writes to the terminal only.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from policy_engine_verify import __version__, limits
from policy_engine_verify.check import Check
from policy_engine_verify.formats import WITNESS, Key, Refused, key, written
from policy_engine_verify.proofs import HEADER, check_entry
from policy_engine_verify.report import Given, Place, Report
from policy_engine_verify.source import Source

FAILED, USAGE, INTERRUPTED = 6, 2, 130
UNVOUCHED = "The key is the one that came with the evidence: nobody vouched for it. Give the log's key with --key."
PARTIAL = "Only a part of the entries is shown; of the others, the headers are proved and the content is not."


def main(arguments: list[str] | None = None) -> int:
    """Run the program, and return its exit code."""
    try:
        return _run(_parser().parse_args(arguments))
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(chosen: argparse.Namespace) -> int:
    try:
        given = _given(chosen)
    except (Refused, OSError) as refused:
        print(f"policy-engine-verify: {_sentence(refused)}", file=sys.stderr)
        return USAGE
    try:
        found = _prove(chosen, given) if _is_proof(chosen.bundle) else _check(chosen, given)
    except (Refused, OSError) as refused:
        found = {"ok": False, "refused": _sentence(refused)}
    found["key"] = "given" if given.key else "from the bundle"
    text = json.dumps(found, indent=1) if chosen.json else "\n".join(_printable(line) for line in _said(found))
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as lost:
        return _lost(lost, FAILED if not found["ok"] else USAGE)
    return 0 if found["ok"] else FAILED


def _lost(error: OSError, code: int) -> int:
    """Say that the result could not be written, and return an exit code that is not 0: nobody has read it."""
    sys.stdout = None  # or the interpreter tries once more at its end, and ends with 120
    if error.errno != errno.EPIPE:  # a reader that has seen enough is told nothing
        print(f"policy-engine-verify: the result could not be written ({error.strerror})", file=sys.stderr)
    return code


def _sentence(error: Refused | OSError) -> str:
    return (
        str(error) if isinstance(error, Refused) else f"{error.filename or 'a file'} cannot be read ({error.strerror})"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="policy-engine-verify", description=__doc__)
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle (folder or .zip), or a .tlog-proof file")
    parser.add_argument("--key", help="the key of the log, text or file; not from the bundle")
    parser.add_argument("--since", type=Path, metavar="FILE", help="a checkpoint of the log that you kept")
    parser.add_argument(
        "--witness", action="append", default=[], metavar="KEY", help="the key of a witness, text or file"
    )
    parser.add_argument("--quorum", type=int, metavar="N", help="how many witnesses must have cosigned (all given)")
    parser.add_argument("--receipt", action="append", type=Path, default=[], metavar="FILE", help="a receipt you kept")
    parser.add_argument("--complete", action="store_true", help="fail unless every entry of the log is shown")
    parser.add_argument("--replay", action="store_true", help="decide again with stock Casbin (needs the extra replay)")
    parser.add_argument("--model-sha256", action="append", default=[], metavar="HEX", help="a model to replay")
    parser.add_argument("--json", action="store_true", help="say it as JSON")
    parser.add_argument("--version", action="version", version=__version__)
    return parser


def _given(chosen: argparse.Namespace) -> Given:
    """Read what the caller vouches for. Raises `Refused` for what is no key, and `OSError`."""
    witnesses = [_key(text) for text in chosen.witness]
    if any(witness.kind != WITNESS for witness in witnesses):
        raise Refused("--witness needs the key of a witness, of the type that cosigns")
    log = None if chosen.key is None else _key(chosen.key)
    if log is not None and log.kind == WITNESS:
        raise Refused("--key needs the key of a log, not that of a witness")
    quorum = len(witnesses) if chosen.quorum is None else chosen.quorum
    if not 0 <= quorum <= len(witnesses):
        raise Refused("--quorum asks for more witnesses than are given")
    since = None if chosen.since is None else _read(chosen.since, limits.NOTE_BYTES)
    kept = {str(path): _receipt(_read(path, limits.ANSWER_BYTES)) for path in chosen.receipt}
    receipts, ids = ({path: each[part] for path, each in kept.items()} for part in (0, 1))
    return Given(log, witnesses, quorum, since, receipts, ids)


def _key(text: str) -> Key:
    """Return the key that a text is, or that a file of this name holds."""
    if "+" in text and not text.startswith((".", "/")):
        return key(text)
    return key(_read(Path(text), limits.NOTE_BYTES).decode(errors="replace").strip())


def _receipt(data: bytes) -> tuple[bytes, Any]:
    """Return the canonical bytes of a receipt that was kept as it came: by itself, or in the whole answer.

    With it comes the id of the decision that the answer named, if it did.
    """
    told = None
    try:
        found = json.loads(data)
        while isinstance(found, dict) and (inner := found.get("context") or found.get("receipt")):
            found, told = inner, found.get("id", told)
        return written(found), told
    except (ValueError, RecursionError):
        return data, None  # refused where it is read


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise Refused(f"{path.name} is longer than {most} bytes")
    return data


def _is_proof(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return path.suffix == ".tlog-proof" or file.read(len(HEADER)) == HEADER


def _prove(chosen: argparse.Namespace, given: Given) -> dict[str, Any]:
    data = _read(chosen.bundle, limits.PROOF_BYTES)
    entry, header, _, _, stated = check_entry(data, given.key, given.witnesses, given.quorum)
    if given.since or given.receipts or chosen.complete or chosen.replay:
        raise Refused("--since, --receipt, --complete and --replay need a bundle; a single proof says nothing of them")
    place = {"log": header.log, "batch": header.batch, "seq": entry["seq"]}
    return {"ok": True, "proved": place, **_stated(stated), "entry": entry}


def _check(chosen: argparse.Namespace, given: Given) -> dict[str, Any]:
    if not chosen.bundle.is_dir() and not chosen.bundle.is_file():
        raise Refused("there is no such bundle")
    with Source(chosen.bundle) as source:
        report = Check(source, given).run()
        found = _report(report)
        found["ok"] = found["ok"] and not (chosen.complete and report.partial)
        if chosen.replay and not report.findings:
            try:
                from policy_engine_verify.replay import replay
            except ImportError:
                raise Refused("--replay needs the extra: pip install 'policy-engine-verify[replay]'") from None
            found["replay"] = replay(source, frozenset(chosen.model_sha256))
            found["ok"] = found["ok"] and not found["replay"]["differ"]
    return found


def _stated(stated: Any) -> dict[str, Any]:
    witnesses = [{"name": name, "time": time} for name, time in stated.witnesses]
    return {"origin": stated.origin, "size": stated.size, "root": stated.root.hex(), "witnesses": witnesses}


def _report(report: Report) -> dict[str, Any]:
    logs = [
        {"log": tip.log, "batches": tip.batches, "entries": tip.entries, "shown": tip.shown, "ended": tip.ended}
        for tip in report.tips.values()
    ]
    return {
        "ok": not report.findings,
        **_stated(report.stated),
        "since": None if report.since is None else report.since.size,
        "partial": report.partial,
        "counts": dict(sorted(report.counts.items())),
        "logs": logs,
        "findings": [{"message": message, **place._asdict()} for message, place in report.findings],
    }


def _printable(text: str) -> str:
    """Return a line without anything that a terminal would obey: names in a bundle may be an enemy's."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _said(found: dict[str, Any]) -> Iterator[str]:
    """Yield the result in sentences, the verdict last."""
    if "refused" in found:
        yield f"NOT VERIFIED. {found['refused'][0].upper()}{found['refused'][1:]}."
        return
    yield f"log {found['origin']}, {found['size']} leaves, root {found['root']}"
    for witness in found["witnesses"]:
        yield f"cosigned by {witness['name']} at POSIX time {witness['time']}"
    if "proved" in found:
        yield "entry {seq} of log {log}, in batch {batch}, is in this tree:".format(**found["proved"])
        yield from json.dumps(found["entry"], ensure_ascii=False, indent=1).splitlines()
    for name, count in found.get("counts", {}).items():
        yield f"{name}: {count}"
    if found.get("since") is not None and found["ok"]:
        yield f"the log continues the earlier checkpoint of {found['since']} leaves"
    if "replay" in found:
        yield "replayed with stock Casbin: {same} the same, {differ} differ, {left_out} left out".format(
            **found["replay"]
        )
        yield from (f"left out: {reason} ({count})" for reason, count in found["replay"]["reasons"].items())
        yield from (f"{release}: {said}" for release, said in found["replay"]["releases"].items())
        yield from (f"- {place}" for place in found["replay"]["places"])
    for finding in found.get("findings", ()):
        place = Place(*(finding[name] for name in Place._fields))
        yield f"- {place}{': ' if str(place) else ''}{finding['message']}"
    if found.get("partial"):
        yield PARTIAL
    if found["key"] != "given":
        yield UNVOUCHED
    findings = len(found.get("findings", ()))
    yield "VERIFIED." if found["ok"] else f"NOT VERIFIED: {findings} findings." if findings else "NOT VERIFIED."


if __name__ == "__main__":
    sys.exit(main())
