"""The page about witnesses, executed: its commands make a key and start a witness, both sides take its files."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from urllib.request import urlopen

from policy_engine.ledger.note import parse_key
from tests.docs import pages
from tests.docs.test_examples import free_port

PAGE = pages.ROOT / "docs" / "witness.md"
BIN = Path(sys.executable).parent


def environment(folder: Path, **own: str) -> dict[str, str]:
    """Return what a reader's terminal holds."""
    spared = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    return {
        **spared,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "POLICY_ENGINE_DATABASE": f"sqlite:///{folder / 'engine.db'}",
        "POLICY_ENGINE_POLICIES": str(pages.ROOT / "policies"),
        **own,
    }


def run(command: str, folder: Path, **own: str) -> str:
    """Run a command of the page in the reader's folder; return what it prints."""
    arguments = shlex.split(command)
    done = subprocess.run(
        arguments, cwd=folder, env=environment(folder, **own), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def started(command: str, folder: Path) -> Iterator[None]:
    """Run the page's witness until the block ends."""
    process = subprocess.Popen(
        shlex.split(command), cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None and process.stdout.readline().startswith(b"witness ")
        yield
    finally:
        process.terminate()
        process.wait(timeout=20)
        if process.stdout is not None:
            process.stdout.close()


def checks(folder: Path, **own: str) -> dict[str, str]:
    """Return what `doctor` found, by the name of each check."""
    shown = json.loads(run("policy-engine doctor -o json", folder, **own))
    return {check["name"]: check["found"] for check in shown["checks"]}


def test_the_page_leads_from_a_new_key_to_a_cosigned_log(tmp_path: Path) -> None:
    """Key, configuration, witness, the engine's file: pasted in this order, and `doctor` shows the cosignature."""
    new_key, serve = (pages.commands(block)[0] for block in pages.blocks(PAGE, "sh"))
    configuration, witnesses = (block.text for block in pages.blocks(PAGE, "toml"))
    port = free_port()
    public = parse_key(run(new_key, tmp_path).strip())
    run("policy-engine models list", tmp_path)
    log = parse_key(checks(tmp_path)["log key"])
    shown = (tmp_path, str(port), str(public), str(log))
    (tmp_path / "witness.toml").write_text(
        configuration.replace("log.example/models+…", shown[3]).replace("log.example/models", log.name)
    )
    (tmp_path / "witnesses.toml").write_text(
        witnesses.replace("witness.example/one+…", shown[2]).replace("https://witness.example/", address(port))
    )
    setting = re.search(r"`(POLICY_ENGINE_WITNESSES)` names this file", PAGE.read_text())
    assert setting is not None
    own = {setting[1]: "witnesses.toml"}
    with started(serve.replace("8182", str(port)), tmp_path):
        assert "nothing yet" in checks(tmp_path, **own)[f"witness {public.name}"]
        (tmp_path / "decide.py").write_text(EMBEDDED)
        assert run(f"{sys.executable} decide.py", tmp_path, **own).strip() == "True"
        assert "cosigned a tree of" in checks(tmp_path, **own)[f"witness {public.name}"]
        record = address(port) + f"{sha256(log.name.encode()).hexdigest()}/checkpoint"
        with urlopen(record, timeout=10) as answer:
            assert answer.read().decode().startswith(log.name + "\n")


def address(port: int) -> str:
    """Return where the test's witness listens."""
    return f"http://127.0.0.1:{port}/"


EMBEDDED = """
import os, time
from policy_engine import PolicyEngine

with PolicyEngine.open(os.environ["POLICY_ENGINE_POLICIES"], database=os.environ["POLICY_ENGINE_DATABASE"]) as engine:
    decision = engine.decide(
        subject="alice", model="fable-5", action="infer", tenant="acme", location="US", serving_region="US"
    )
    time.sleep(3)
    print(decision.allowed)
"""


def test_every_status_of_the_page_is_one_of_the_protocol() -> None:
    """The table names each status that the tests of the witness see."""
    rows = re.findall(r"^\| ([\d, ]+) \|", pages.section(PAGE, "What it answers"), flags=re.MULTILINE)
    found = {int(status) for row in rows for status in row.split(",")}
    assert found == {200, 400, 403, 404, 409, 411, 413, 422, 503}
