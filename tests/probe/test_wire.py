"""The wire: bytes as they are asked for, bounded in time and size, whatever the other side does."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from policy_engine.limits import LIMITS
from policy_engine.probe.asks import Ask, to_bytes
from policy_engine.probe.sender import Sender, Spent
from policy_engine.probe.target import Credentials, Models, Target, address
from policy_engine.probe.wire import Answer, Lack, Unanswered, Wire

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Behave = Callable[[socket.socket], None]


@contextmanager
def behaving(*behave: Behave) -> Iterator[int]:
    """Listen, and treat each connection in turn as one of these do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            for each in behave:
                with suppress(OSError):
                    connection, _ = listener.accept()
                    with connection:
                        connection.settimeout(5)
                        with suppress(OSError):
                            each(connection)

        thread = threading.Thread(target=serve, name="behaving")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(timeout=20)


def heard(connection: socket.socket) -> bytes:
    """Return the head of a request."""
    found = b""
    while b"\r\n\r\n" not in found:
        found += connection.recv(65_536)
    return found


def answering(data: bytes) -> Behave:
    """Read a head and send this."""

    def behave(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(data)

    return behave


def trickle(connection: socket.socket) -> None:
    """Send a head that never ends, a byte at a time."""
    heard(connection)
    while True:
        connection.sendall(b"H")
        time.sleep(0.05)


def endless(connection: socket.socket) -> None:
    """Send a body that never ends."""
    heard(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"x" * 65_536)


def early(connection: socket.socket) -> None:
    """Refuse a large body without reading it."""
    connection.recv(100)
    connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(65_536):
        pass


def exchange(port: int, timeout_seconds: float = 5.0, body: bytes = b"") -> Answer:
    """Send one request and return the answer."""
    to = address(f"http://127.0.0.1:{port}", "URL")
    request = to_bytes(Ask("", "/x", body), to.authority, "", ())
    return Wire(to).exchange(request, "POST", timeout_seconds)


def test_a_deadline_holds_for_the_whole_exchange() -> None:
    """A head that comes a byte at a time does not go on for as long as bytes come."""
    started = time.monotonic()
    with pytest.raises(Unanswered) as raised, behaving(trickle) as port:
        exchange(port, 0.4)
    assert raised.value.lack is Lack.SILENT and time.monotonic() - started < 5


def test_a_body_without_end_is_read_up_to_the_bound() -> None:
    """The answer says that it is not whole."""
    with behaving(endless) as port:
        answer = exchange(port)
    assert len(answer.body) <= LIMITS.probe_answer_bytes and not answer.whole


def test_a_refusal_before_the_body_is_read_counts() -> None:
    """A gateway that hangs up on a large body has answered all the same."""
    with behaving(early) as port:
        assert exchange(port, body=b" " * LIMITS.probe_body_bytes).status == 413


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x01\x00", b"HTTP/1.1 nonsense\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_what_is_no_answer_is_said_to_be_none(data: bytes) -> None:
    """A connection that is closed, and what is not HTTP, raise one kind of error."""
    with pytest.raises(Unanswered) as raised, behaving(answering(data)) as port:
        exchange(port)
    assert raised.value.lack is Lack.DROPPED


def test_nobody_there_is_unreachable() -> None:
    """A refused connection is told from an answer that does not come."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unanswered) as raised:
        exchange(port)
    assert raised.value.lack is Lack.UNREACHABLE


def sender(port: int, **changes: object) -> Sender:
    """Return a sender to a port of this machine."""
    given = {"models": Models(("a",), ("b",)), "pause_seconds": 0.0, "timeout_seconds": 2.0, **changes}
    return Sender(Target(f"http://127.0.0.1:{port}/base/v1", **given), "run-1")  # type: ignore[arg-type]  # mixed options


def test_each_request_says_that_it_is_the_probes() -> None:
    """The run's id is in a header and in the agent's name; path, odd characters and base come as they are asked for."""
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        seen.append(heard(connection))
        connection.sendall(OK)

    with behaving(behave) as port:
        sender(port, credentials=Credentials("secret")).ask(Ask("", "//v1/./%2e", b"{}"))
    head = seen[0].decode()
    assert head.startswith("POST /base//v1/./%2e HTTP/1.1\r\n")
    assert "\r\nPolicy-Engine-Probe: run-1\r\n" in head and "\r\nUser-Agent: policy-engine-probe (run-1)\r\n" in head
    assert "\r\nAuthorization: Bearer secret\r\n" in head and head.count("secret") == 1


@pytest.mark.parametrize("place", ["/base/v1/here", "http://127.0.0.1:{port}/base/v1/here"])
def test_a_redirect_within_the_gateway_is_followed_once(place: str) -> None:
    """A gateway that redirects to a guarded path guards nothing by it; a second redirect is the answer."""
    seen: list[bytes] = []

    def redirect(connection: socket.socket) -> None:
        seen.append(heard(connection))
        port = connection.getsockname()[1]
        to = place.format(port=port).encode()
        connection.sendall(b"HTTP/1.1 308 R\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % to)

    with behaving(redirect, redirect) as port:
        answer = sender(port).ask(Ask("", "/v1/there", b"{}"))
    assert isinstance(answer, Answer) and answer.status == 308
    assert [head.split(b" ")[:2] for head in seen] == [[b"POST", b"/base/v1/there"], [b"POST", b"/base/v1/here"]]


@pytest.mark.parametrize("place", ["http://elsewhere.invalid/x", "//elsewhere.invalid/x", "ftp://x/", "/else where"])
def test_no_redirect_leads_to_another_place(place: str) -> None:
    """Credentials go nowhere but to the gateway that was named."""
    data = f"HTTP/1.1 307 R\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n".encode()
    with behaving(answering(data)) as port:
        asking = sender(port)
        answer = asking.ask(Ask("", "/x", b"{}"))
    assert isinstance(answer, Answer) and answer.status == 307 and asking.count == 1


def test_no_more_requests_are_sent_than_agreed() -> None:
    """The bound is on what is sent, redirects included."""
    with behaving(answering(OK), answering(OK)) as port:
        asking = sender(port, requests_count=2)
        for _ in range(2):
            asking.ask(Ask("", "/x"))
        with pytest.raises(Spent):
            asking.ask(Ask("", "/x"))


def test_there_is_a_pause_between_requests() -> None:
    """The first is sent at once, each other after the pause."""
    rests: list[float] = []
    with behaving(answering(OK), answering(OK)) as port:
        target = Target(f"http://127.0.0.1:{port}", Models(("a",), ("b",)), pause_seconds=30.0)
        asking = Sender(target, "run-1", rest=rests.append)
        for _ in range(2):
            asking.ask(Ask("", "/x"))
    assert len(rests) == 1 and 29 < rests[0] <= 30


def test_a_body_in_pieces_is_sent_in_chunks() -> None:
    """Lengths are those of the pieces, and nothing says the whole length."""
    sent = to_bytes(Ask("", "/x", pieces=(b"abc", b"d")), "h", "", ())
    assert sent.endswith(b"\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n") and b"Content-Length" not in sent


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a key and a certificate of its own for this machine; return both files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    (folder / "key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    (folder / "certificate").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return folder / "key", folder / "certificate"


def test_a_gateway_is_believed_by_its_certificate_alone(tmp_path: Path) -> None:
    """With `--ca-file` it is reached; without it, nothing is sent to whoever answers there."""
    key, own = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            seen.append(heard(wrapped))
            wrapped.sendall(OK)

    with behaving(behave, behave) as port:
        to = address(f"https://127.0.0.1:{port}", "URL")
        request = to_bytes(Ask("", "/x"), to.authority, "", ())
        assert Wire(to, str(own)).exchange(request, "POST", 5).status == 200
        with pytest.raises(Unanswered) as raised:
            Wire(to).exchange(request, "POST", 5)
    assert raised.value.lack is Lack.UNREACHABLE and len(seen) == 1


def test_no_more_bytes_are_sent_than_agreed() -> None:
    """The bound on bytes holds for all requests together, before one is sent."""
    body = b" " * (LIMITS.probe_sent_bytes // 2)
    with behaving(answering(OK)) as port:
        asking = sender(port)
        asking.ask(Ask("", "/x", body))
        with pytest.raises(Spent):
            asking.ask(Ask("", "/x", body))
    assert asking.count == 1
