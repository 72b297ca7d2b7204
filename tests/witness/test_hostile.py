"""What an attacker on the network tries on the witness: bodies, heads, patience, numbers."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from policy_engine.ledger.spelling import write_base64
from tests.witness.witnessed import ORIGIN, Running, Tree, configure, running

BODY_BYTES_MAX = 65_536
IMPATIENT = "import policy_engine_witness.server as s; s.REQUEST_SECONDS = 1.0; s.CONNECTIONS_MAX = 8"
"""The limits in small, so that the tests need not wait for those of the product."""


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Run a witness that has seen a tree of nine leaves."""
    folder = tmp_path_factory.mktemp("hostile")
    configure(folder)
    with running(folder) as started:
        assert started.add(Tree.of(9).submission(0))[0] == 200
        yield started


@pytest.fixture(autouse=True)
def unmoved(witness: Running) -> Iterator[None]:
    """After each attack the witness answers, and its record is what it was."""
    yield
    assert Tree.of(9).checkpoint().text().encode() in witness.newest()[2]


def raw(port: int, data: bytes) -> bytes:
    """Send bytes as they are, and return all that comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
    return answer


def test_a_body_over_the_limit_is_refused_unread(witness: Running) -> None:
    """One byte too many is 413; at the limit it is read, and refused for what it says."""
    assert witness.add(b"x" * BODY_BYTES_MAX)[0] == 400
    assert witness.add(b"x" * (BODY_BYTES_MAX + 1))[0] == 413
    assert b" 413 " in raw(witness.port, b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n")


def test_63_proof_lines_are_read_and_64_are_not(witness: Running) -> None:
    """The most that the standard allows gets its answer about the proof, one more is malformed."""
    line = write_base64(bytes(32)) + "\n"
    tree = Tree.of(20)
    for count, status in ((63, 422), (64, 400)):
        body = b"old 9\n" + line.encode() * count + b"\n" + tree.note()
        assert witness.add(body)[0] == status


@pytest.mark.parametrize(
    "body", [b"\xff\xfe", b"old 9\n\n\xff\n1\n", b"\x00" * 100, "old 9\n\n\N{MATHEMATICAL BOLD DIGIT NINE}\n".encode()]
)
def test_bytes_that_are_no_text_are_refused(witness: Running, body: bytes) -> None:
    """Bad UTF-8, control characters and digits of other scripts are 400."""
    assert witness.add(body)[0] == 400


@pytest.mark.parametrize(
    "head",
    [
        b"POST /add-checkpoint HTTP/1.1\r\n\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: +5\r\n\r\nxxxxx",
        b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 0x5\r\n\r\nxxxxx",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
        b"BREW / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_a_head_that_two_programs_might_read_differently_is_refused(witness: Running, head: bytes) -> None:
    """No length, two, a chunked body, endless heads: one refusal, and the connection ends with it."""
    answer = raw(witness.port, head)
    status = answer.removeprefix(b"HTTP/1.1 ")
    assert status == b"" or status.startswith((b"4", b"5"))
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize(
    "head", [b"Content-Length: %d", b"Transfer-Encoding: chunked", b"Content-Length: 0\r\nContent-Length: %d"]
)
def test_what_follows_a_question_is_not_read_as_another(witness: Running, head: bytes) -> None:
    """A proxy that hands on a body with a GET takes it for that request's; one that it hides there gets no answer."""
    hidden = b"GET /hidden HTTP/1.1\r\n\r\n"
    place = sha256(ORIGIN.encode()).hexdigest().encode()
    head = head % len(hidden) if b"%" in head else head
    answer = raw(witness.port, b"GET /" + place + b"/checkpoint HTTP/1.1\r\n" + head + b"\r\n\r\n" + hidden)
    assert answer.startswith(b"HTTP/1.1 200") and answer.count(b"HTTP/1.1 ") == 1
    assert b"Connection: close" in answer


def test_a_body_that_ends_early_is_no_request(witness: Running) -> None:
    """Half a submission gets no answer, and moves nothing."""
    body = Tree.of(20).submission(9)
    head = b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert raw(witness.port, head + body[:-1]) == b""
    assert Tree.of(9).checkpoint().text().encode() in witness.newest()[2]


def test_a_caller_that_trickles_is_cut_off(tmp_path: Path) -> None:
    """A byte now and then does not keep a connection open: a request has its time, and then it is over."""
    configure(tmp_path)
    with (
        running(tmp_path, program=IMPATIENT) as started,
        socket.create_connection(("127.0.0.1", started.port), timeout=20) as slow,
    ):
        begun = time.monotonic()
        with pytest.raises(OSError):
            for byte in b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000:
                slow.sendall(bytes([byte]))
                time.sleep(0.05)
        assert 0.9 < time.monotonic() - begun < 10


def test_callers_beyond_the_number_are_turned_away_and_the_place_is_free_again(tmp_path: Path) -> None:
    """As many silent connections as there is room for keep others out only until their time is up."""
    configure(tmp_path)
    program = IMPATIENT.replace("1.0", "2.0")
    with running(tmp_path, program=program) as started:
        silent = [socket.create_connection(("127.0.0.1", started.port), timeout=20) for _ in range(8)]
        time.sleep(0.3)
        with pytest.raises(OSError):
            started.add(Tree.of(9).submission(0))
        for connection in silent:
            assert connection.recv(100) == b""
            connection.close()
        time.sleep(0.2)
        assert started.add(Tree.of(9).submission(0))[0] == 200
