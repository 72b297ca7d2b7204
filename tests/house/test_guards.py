"""The guards of the suite itself: the network is closed, and a planted fact that gets out is found."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.house import outputs


@pytest.mark.parametrize("address", [("192.0.2.1", 9), ("2001:db8::1", 9)])
def test_connecting_beyond_loopback_is_refused(address: tuple[str, int]) -> None:
    """A test cannot reach an address outside this machine, not even one that would never answer."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as outside, pytest.raises(RuntimeError, match="beyond loopback"):
        outside.connect(address)


def test_resolving_a_foreign_name_is_refused() -> None:
    """Looking up a name is network traffic as well."""
    with pytest.raises(RuntimeError, match="beyond loopback"):
        socket.getaddrinfo("pdp.example", 443)


def test_connecting_to_loopback_works() -> None:
    """The guard leaves servers on this machine alone."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert client.getpeername() == server.getsockname()


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("logs", '{"event": "decision", "subject": "planted-person-5e0c1b"}'),
        ("errors", '{"detail": "no person planted-person-5e0c1b"}'),
        ("logs", '{"event": "decision", "subject": "alice"}'),
        ("metrics", 'decisions_total{subject="bruno"} 1'),
    ],
)
def test_a_planted_fact_in_an_output_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind, line: str) -> None:
    """The search at the session's end sees a planted fact in any output, and a sample person in logs and metrics."""
    monkeypatch.setenv(outputs.FOLDER_VARIABLE, str(tmp_path))
    outputs.keep(kind, line)
    assert len(outputs.leaks(tmp_path)) == 1


def test_ordinary_outputs_are_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that merely contain a sample person's name, and names in a caller's own error body, are left alone."""
    monkeypatch.setenv(outputs.FOLDER_VARIABLE, str(tmp_path))
    outputs.keep("logs", '{"event": "eve-ning", "word": "unbrunoed"}')
    outputs.keep("errors", '{"detail": "alice is on the path that the caller wrote"}')
    assert outputs.leaks(tmp_path) == []
    assert outputs.counted(tmp_path) == {"logs": 1, "metrics": 0, "errors": 1}
