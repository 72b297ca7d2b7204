"""The printed lines for vLLM, run as they are by a shell, with addresses of this machine in them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import httpx2

from tests.api.served import serving
from tests.middleware.tokens import claims, key, key_set, token

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = ROOT / "policy_engine/cli/snippets/vllm.sh"


def test_the_printed_lines_guard_a_server(tmp_path: Path) -> None:
    """Who may use the model behind the served name reaches it on every route; nobody else does, on none."""
    stub = tmp_path / "vllm"
    stub.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("vllm_stub.py")} "$@"\n')
    stub.chmod(0o755)
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(key_set(key("one"))))
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with serving(tmp_path) as served, httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        text = SNIPPET.read_text()
        for shown, own in (
            ("https://pdp.example:8181", f"http://127.0.0.1:{served.port}"),
            ("pe_THE_KEY_OF_THIS_PROXY", served.keys["gateway"]),
            ("https://login.example/jwks.json", str(keys)),
            ("https://login.example\n", f"{claims()['iss']}\n"),
        ):
            assert shown in text
            text = text.replace(shown, own)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "STUB_PORT": str(port)}
        process = subprocess.Popen(["bash", "-euc", text], env=environment, stderr=subprocess.PIPE)
        try:
            until = time.monotonic() + 60
            while not answers(client):
                assert process.poll() is None, process.communicate()[1].decode()
                assert time.monotonic() < until, "the server did not start"
                time.sleep(0.05)
            people = {"alice": 200, "eve": 403}
            for path in ("/v1/chat/completions", "/v1/responses", "/invocations"):
                for person, status in people.items():
                    sent = {"Authorization": f"Bearer {token(claims(sub=person))}"}
                    answer = client.post(path, json={"model": "our-model"}, headers=sent)
                    assert answer.status_code == status, (path, person, answer.text)
                assert client.post(path, json={"model": "our-model"}).status_code == 401
                assert client.post(path, json={"model": "mythos-5"}, headers=sent).status_code == 403
        finally:
            process.kill()
            process.communicate(timeout=10)


def answers(client: httpx2.Client) -> bool:
    """Say whether the server is there."""
    try:
        return client.get("/health").status_code == 200
    except httpx2.HTTPError:
        return False
