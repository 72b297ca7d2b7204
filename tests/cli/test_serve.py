"""`policy-engine serve` as a process: keys printed once, answers, ends on a signal, refuses what it cannot serve."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth

from policy_engine.cli.exits import Code
from tests.api.certificates import Authority
from tests.cli.conftest import LABELS, POLICIES, Shell
from tests.house import outputs

PROGRAM = Path(sys.executable).with_name("policy-engine")
SECONDS_MAX = 30.0


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without the developer's own settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("POLICY_ENGINE_")}
    return {**own, "POLICY_ENGINE_SERVING_REGION": "US", **settings}


@contextmanager
def served(
    database: Path, port: int, *more: str, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the server until the block ends; offer the process and the lines it printed before it was ready."""
    log = database.with_suffix(".log")
    command = [PROGRAM, "serve", "--port", str(port), "--database", f"sqlite:///{database}", "--policies", POLICIES]
    command += more
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment(), stdout=out, stderr=out, text=True)
    try:
        until = time.monotonic() + SECONDS_MAX
        while not ready(port, tls):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield process, log.read_text().splitlines()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        outputs.keep("logs", "\n".join(line for line in log.read_text().splitlines() if line.startswith("{")))


def ready(port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Say whether `/readyz` answers 200, over TLS where that is given."""
    scheme = "http" if tls is None else "https"
    try:
        with urlopen(f"{scheme}://127.0.0.1:{port}/readyz", timeout=2, context=tls) as answer:
            return bool(answer.status == 200)
    except (HTTPException, OSError):
        return False


def test_the_first_start_prints_the_keys_and_a_request_that_works(tmp_path: Path) -> None:
    """The printed request is pasted into a shell and allows; the second start prints no key; both end with 0."""
    port, database = free_port(), tmp_path / "engine.db"
    with served(database, port) as (process, lines):
        text = "\n".join(lines)
        keys = re.findall(r"^  (\w[\w ]*?) +(pe_[A-Za-z0-9_-]{43})$", text, re.MULTILINE)
        assert tuple(label for label, _ in keys) == LABELS
        (paste,) = [line for line in lines if "curl" in line]
        done = subprocess.run(["bash", "-c", paste], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["decision"] is True and keys[0][1] in paste
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    with served(database, port) as (process, lines):
        assert "pe_" not in "\n".join(lines)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) in (0, 130)


@pytest.mark.parametrize("kept", [True, False])
def test_a_service_ends_with_its_terminal_unless_nohup_keeps_it(kept: bool, tmp_path: Path) -> None:
    """SIGHUP ends it with 0, as SIGTERM does; ignored from the start, as `nohup` has it, it ends nothing."""
    port, before = free_port(), signal.getsignal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if kept else signal.SIG_DFL)
    try:
        with served(tmp_path / "engine.db", port) as (process, _):
            process.send_signal(signal.SIGHUP)
            if kept:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(timeout=2)
                assert ready(port, None)
            else:
                assert process.wait(timeout=20) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_envoy_is_answered_beside_http_until_the_end(tmp_path: Path) -> None:
    """With `--grpc-port` a line says where; a check is answered, and an open channel does not hold up the end."""
    port, beside = free_port(), free_port()
    with served(tmp_path / "engine.db", port, "--grpc-port", str(beside)) as (process, lines):
        assert f"Serving Envoy's checks over gRPC on 127.0.0.1 port {beside}." in lines
        key = re.findall(r"pe_[A-Za-z0-9_-]{43}", "\n".join(lines))[0]
        request = auth.CheckRequest()
        facts = {"subject": "alice", "tenant": "acme", "model": "fable-5", "location": "US"}
        request.attributes.context_extensions.update({f"policy-engine-{name}": fact for name, fact in facts.items()})
        with grpc.insecure_channel(f"127.0.0.1:{beside}") as channel:
            check = channel.unary_unary(
                "/envoy.service.auth.v3.Authorization/Check",
                request_serializer=auth.CheckRequest.SerializeToString,
                response_deserializer=auth.CheckResponse.FromString,
            )
            answer = check(request, metadata=[("policy-engine-key", key)], timeout=10)
            assert (answer.status.code, answer.WhichOneof("http_response")) == (0, "ok_response")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=20) == 0


def test_the_command_line_and_the_service_see_each_others_changes_at_once(tmp_path: Path) -> None:
    """A switch engaged beside the running service denies its next request."""
    port, database = free_port(), tmp_path / "engine.db"
    with served(database, port) as (_, lines):
        key = re.findall(r"pe_[A-Za-z0-9_-]{43}", "\n".join(lines))[0]
        body = json.dumps(
            {
                "subject": {"type": "person", "id": "alice"},
                "action": {"name": "infer"},
                "resource": {"type": "model", "id": "fable-5"},
                "context": {"tenant": "acme", "location": "US"},
            }
        ).encode()
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

        def decision() -> bool:
            url = f"http://127.0.0.1:{port}/access/v1/evaluation"
            with urlopen(Request(url, body, headers), timeout=5) as answer:
                return bool(json.load(answer)["decision"])

        assert decision() is True
        ran = Shell(database, {})("switch", "engage", "off", "--scope", "model=fable-5", "--reason", "drill")
        assert ran.code == Code.OK, ran.err
        assert decision() is False


def test_it_serves_over_tls_with_a_certificate(tmp_path: Path) -> None:
    """The line says https, a client that trusts the authority is answered, and one that does not is not."""
    authority = Authority(tmp_path, "authority")
    files, port = authority.signed("engine"), free_port()
    more = ("--tls-certificate", str(files.certificate), "--tls-key", str(files.key))
    with served(tmp_path / "engine.db", port, *more, tls=authority.trusted()) as (_, lines):
        assert lines[0].startswith(f"Serving on https://127.0.0.1:{port} ")
        assert ready(port, authority.trusted())
        assert not ready(port, ssl.create_default_context())
        assert not ready(port)


def test_what_cannot_be_served_is_refused_with_one_sentence(tmp_path: Path) -> None:
    """Several workers on SQLite, a port that is taken, a sample world for everybody: exit 2 or 4, nothing served."""
    shell = Shell(tmp_path / "engine.db", {})
    ran = shell("serve", "--workers", "2")
    assert ran.code == Code.USAGE and "PostgreSQL" in ran.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = shell("serve", "--port", str(taken.getsockname()[1]))
        assert ran.code == Code.REFUSED and "cannot listen" in ran.err
        ran = shell("serve", "--port", str(free_port()), "--grpc-port", str(taken.getsockname()[1]))
    assert ran.code == Code.REFUSED and "cannot listen" in ran.err
    ran = shell("serve", "--port", str(free_port()), "--grpc-port", str(free_port()), grpc_host="0.0.0.0")
    assert ran.code == Code.REFUSED and "POLICY_ENGINE_GRPC_PLAINTEXT" in ran.err
    ran = shell("serve", "--port", str(free_port()), "--tls-key", str(tmp_path / "engine.key"))
    assert ran.code == Code.REFUSED and "POLICY_ENGINE_TLS_CERTIFICATE" in ran.err
    ran = shell("serve", deny_statuses="directive=500")
    assert ran.code == Code.USAGE and "POLICY_ENGINE_DENY_STATUSES" in ran.err
    ran = shell("serve", "--host", "0.0.0.0", "--port", str(free_port()))
    assert ran.code == Code.REFUSED and "POLICY_ENGINE_SAMPLE_WORLD" in ran.err
    assert shell("serve", "--port", "nonsense").code == Code.USAGE
    ran = shell("serve", port="nonsense")
    assert ran.code == Code.USAGE and "POLICY_ENGINE_PORT" in ran.err and "nonsense" not in ran.err
    assert shell("serve", "--database", "oracle://x").code == Code.USAGE
    assert not shell.database.exists()


def test_without_the_extra_serving_says_what_to_install(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core installs without a web server."""
    monkeypatch.setitem(sys.modules, "policy_engine.api.server", None)
    ran = shell("serve")
    assert ran.code == Code.REFUSED and "policy-engine[server]" in ran.err


def test_a_folder_that_is_not_the_active_release_is_refused(shell: Shell, tmp_path: Path) -> None:
    """Which of the two is meant is a person's to say: exit 4."""
    folder = Path(shutil.copytree(POLICIES, tmp_path / "policies"))
    pack = folder / "packs" / "access.toml"
    pack.write_text(pack.read_text() + "\n# changed\n")
    ran = shell("serve", "--port", str(free_port()), "--policies", folder)
    assert ran.code == Code.REFUSED and "activate" in ran.err
