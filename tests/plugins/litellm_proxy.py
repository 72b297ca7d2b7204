"""A real LiteLLM proxy for tests: an environment of its own, made on first use, and a process on loopback.

The environment lies in `.venv-litellm` beside `.venv`, with the versions of `litellm.txt`, and is made anew when that
changes. Where it cannot be made tests skip; where `CI` is true they fail instead.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from benchmarks import environments

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "litellm.txt"
SNIPPET = ROOT / "policy_engine/cli/snippets/litellm.yaml"
MASTER_KEY = "sk-made-up-and-long-enough-0123456789"
START_SECONDS = 240.0  # importing LiteLLM alone takes a minute on a machine that is busy with all tests


def environment() -> Path:
    """Return the Python of the environment, which is made first where it is missing or has other versions."""
    try:
        return environments.environment("litellm", REQUIREMENTS) / "bin" / "python"
    except environments.NotMade as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@dataclass
class Proxy:
    """A running proxy, or one that ended: its process, its port, and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        """Return where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def post(self, path: str, body: Mapping[str, Any], *, key: str = "sk-alice", **headers: str) -> httpx2.Response:
        """Send a body with the key of a person."""
        sent = {"Authorization": f"Bearer {key}", **headers}
        return httpx2.post(self.url + path, json=dict(body), headers=sent, timeout=30)

    def get(self, path: str, *, key: str = "sk-alice") -> httpx2.Response:
        """Ask for a path with the key of a person."""
        return httpx2.get(self.url + path, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def exported() -> dict[str, str]:
    """Return the variables that the printed configuration tells to export."""
    lines = [line.partition("export ")[2] for line in SNIPPET.read_text().splitlines() if "# " in line]
    return dict(line.split("=", 1) for line in lines if line)


def configuration(models: list[dict[str, Any]], settings: Mapping[str, Any]) -> str:
    """Return the proxy's configuration: the printed one, included as it is, and what belongs to the tests."""
    mine = {
        "include": [str(SNIPPET)],
        "model_list": models,
        "general_settings": {
            "master_key": MASTER_KEY,
            "custom_auth": "litellm_auth.authenticate",
            "allow_client_side_credentials": True,  # or LiteLLM itself refuses some of what the plugin must refuse
        },
        **settings,
    }
    return json.dumps(mine, indent=1)  # which is YAML too


@contextmanager
def started(folder: Path, text: str, variables: Mapping[str, str]) -> Iterator[Proxy]:
    """Start a proxy with a configuration and variables; it may end by itself, which `ready` tells."""
    python = environment()
    (folder / "config.yaml").write_text(text)
    (folder / "litellm_auth.py").write_text((HERE / "litellm_auth.py").read_text())
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    own = {
        "INITIAL_RETRY_DELAY": "0.05",  # else it waits a second or two before each try on a deployment that failed
        "JITTER": "0.05",
        "PYTHONPATH": str(ROOT),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_TELEMETRY": "False",
        "NO_PROXY": "127.0.0.1",
    }
    command = [str(python), "-m", "litellm.proxy.proxy_cli", "--config", str(folder / "config.yaml")]
    log = folder / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**kept, **own, **variables},
        )
        try:
            yield Proxy(process, port, log)
        finally:
            process.kill()  # it keeps nothing that would have to be put away
            process.wait(timeout=30)


def ready(proxy: Proxy) -> bool:
    """Say whether a proxy that was started answers; false once it has ended by itself."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if proxy.process.poll() is not None:
            return False
        try:
            if httpx2.get(f"{proxy.url}/health/liveliness", timeout=5).status_code == 200:
                return True
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"the proxy did not start in {START_SECONDS:.0f} s: {proxy.log.read_text()[-4_000:]}")


if __name__ == "__main__":
    environment()
