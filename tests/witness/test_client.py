"""The engine's side of one exchange: the file of witnesses, and answers that are slow, endless or rubbish."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from policy_engine.errors import InputRefused, StartRefused
from policy_engine.ledger.note import COSIGNATURE, Ed25519Signer, parse_key
from policy_engine.ledger.refusals import EvidenceRefused, Reason
from policy_engine.ledger.witnessing import read_cosignature, read_size, write_submission
from policy_engine.limits import LIMITS
from policy_engine.services.witnessclient import WitnessAddress, WitnessClient, WitnessSilent, read_witnesses
from policy_engine_witness.notes import Cosigner
from tests.witness.witnessed import LOG, NAME, ORIGIN, Tree, configure, running

KEY = Ed25519Signer(NAME, bytes(32), COSIGNATURE).key
IMPATIENT = replace(LIMITS, witness_seconds=0.6, witness_answer_bytes=1_000)

Talk = Callable[[socket.socket], None]


@contextmanager
def server(talk: Talk) -> Iterator[WitnessAddress]:
    """Listen, and let `talk` do what it likes with each connection whose request has come."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.settimeout(10)
                talk(connection)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    threads.append(threading.Thread(target=serve, args=(connection,)))
                    threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield WitnessAddress(f"http://127.0.0.1:{listening.getsockname()[1]}/", KEY)
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            acceptor.join()
            for thread in threads:
                thread.join()


def request_of(connection: socket.socket) -> bytes:
    """Read a request with its body; `b""` when there is none any more."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65_536)
        if not part:
            return b""
        data += part
    named = re.search(rb"Content-Length: ([0-9]+)", data)
    whole = data.index(b"\r\n\r\n") + 4 + (int(named[1]) if named else 0)
    while len(data) < whole and (part := connection.recv(65_536)):
        data += part
    return data


def answering(*answers: bytes) -> Talk:
    """Answer one request after another with these bytes, then close."""

    def talk(connection: socket.socket) -> None:
        for answer in answers:
            if not request_of(connection):
                return
            connection.sendall(answer)

    return talk


def head(length: int, status: str = "200 OK", *more: str) -> bytes:
    """Return the head of an answer."""
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *more, "", ""]).encode()


def test_an_answer_comes_back_as_it_is(tmp_path: Path) -> None:
    """Status, type and body of a real witness arrive, on one connection for several questions, also by name."""
    configure(tmp_path)
    with running(tmp_path) as witness:
        client = WitnessClient(WitnessAddress(witness.url.replace("127.0.0.1", "localhost") + "/", KEY))
        assert client.newest(ORIGIN).status == 404
        assert client.submit(Tree.of(3).submission(0)).status == 200
        conflict = client.submit(Tree.of(9).submission(0))
        assert (conflict.status, read_size(conflict.body)) == (409, 3)
        assert client.newest(ORIGIN).body.startswith(Tree.of(3).note())
        client.close()
        with pytest.raises(WitnessSilent):
            client.newest(ORIGIN)


def test_a_path_in_front_is_kept() -> None:
    """The url of the file is a prefix: a witness may live under a path."""
    seen = []

    def talk(connection: socket.socket) -> None:
        seen.append(request_of(connection).split(b"\r\n")[0])
        connection.sendall(head(2) + b"ok")

    with server(talk) as address:
        client = WitnessClient(replace(address, url=address.url + "some/where/"))
        assert client.submit(b"x").body == b"ok"
        client.close()
    assert seen == [b"POST /some/where/add-checkpoint HTTP/1.1"]


def test_a_kept_connection_that_is_gone_is_opened_again() -> None:
    """A witness that was started again is asked once more, at once; asking twice does no harm."""
    with server(answering(head(2) + b"ok")) as address:
        client = WitnessClient(address, IMPATIENT)
        for _ in range(3):
            assert client.submit(b"x").body == b"ok"
            time.sleep(0.05)
        client.close()


def test_a_redirect_is_not_followed() -> None:
    """An answer that points elsewhere is an answer with that status; nobody else is asked."""
    with server(answering(head(0, "307 Temporary Redirect", "Location: http://127.0.0.1:1/"))) as address:
        client = WitnessClient(address, IMPATIENT)
        assert client.submit(b"x").status == 307
        client.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH\r\n",
        head(1_001) + b"x" * 1_001,
        head(10**12) + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n" + b"x" * 2_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        head(100) + b"half",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1_000,
        b"HTTP/1.1 200 " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + b"x" * 2_000,
    ],
)
def test_rubbish_and_endless_answers_end(answer: bytes) -> None:
    """Nothing, another protocol, over the limit, half of it: the witness is silent, within its time."""
    begun = time.monotonic()
    with server(answering(answer)) as address:
        client = WitnessClient(address, IMPATIENT)
        with pytest.raises(WitnessSilent):
            client.submit(b"x")
        client.close()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", head(900), b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_witness_that_trickles_has_its_time_and_no_more(first: bytes) -> None:
    """A byte now and then resets no clock: one exchange has its seconds, also where the answer has no length."""

    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(first)
        for _ in range(200):
            connection.sendall(b"a")
            time.sleep(0.05)

    begun = time.monotonic()
    with server(talk) as address:
        client = WitnessClient(address, IMPATIENT)
        with pytest.raises(WitnessSilent):
            client.submit(b"x")
        assert 0.4 < time.monotonic() - begun < 3
        client.close()


def test_nobody_there_is_silence() -> None:
    """A port that nothing listens on, and a name that does not resolve here, are a silent witness."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(WitnessSilent):
        WitnessClient(WitnessAddress(f"http://127.0.0.1:{port}/", KEY), IMPATIENT).submit(b"x")


def test_https_is_checked() -> None:
    """A witness that answers https with anything else than a trusted certificate is silent."""
    with server(answering(b"HTTP/1.1 200 OK\r\n\r\n")) as address:
        client = WitnessClient(replace(address, url=address.url.replace("http:", "https:")), IMPATIENT)
        with pytest.raises(WitnessSilent):
            client.submit(b"x")
        client.close()


def certificate(folder: Path, name: str) -> Path:
    """Make a certificate for a host, signed by itself, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    place = folder / f"{name}.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    place.write_bytes(made.public_bytes(pem) + private)
    return place


@pytest.mark.parametrize(("name", "trusted"), [("localhost", True), ("localhost", False), ("other.example", True)])
def test_a_certificate_counts_when_it_is_trusted_and_of_that_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, trusted: bool
) -> None:
    """The witness is heard by https under the system's authorities and its own name, and else is silent."""
    place = certificate(tmp_path, name)
    monkeypatch.setenv("SSL_CERT_FILE", str(place if trusted else certificate(tmp_path, "somebody.example")))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            answering(head(2) + b"ok")(encrypted)

    with server(talk) as address:
        port = address.url.rsplit(":", 1)[1]
        client = WitnessClient(replace(address, url=f"https://localhost:{port}"), IMPATIENT)
        if trusted and name == "localhost":
            assert client.submit(b"x").body == b"ok"
        else:
            with pytest.raises(WitnessSilent):
                client.submit(b"x")
        client.close()


def test_closing_breaks_off_what_is_under_way() -> None:
    """An engine that closes does not wait for a witness that hangs."""

    def talk(connection: socket.socket) -> None:
        request_of(connection)
        connection.recv(1)

    with server(talk) as address:
        client = WitnessClient(address)
        ended = []

        def ask() -> None:
            with suppress(WitnessSilent):
                ended.append(client.submit(b"x"))

        asked = threading.Thread(target=ask)
        asked.start()
        time.sleep(0.2)
        begun = time.monotonic()
        client.close()
        asked.join()
        assert time.monotonic() - begun < 2 and ended == []


# The file


def test_the_file_names_each_witness(tmp_path: Path) -> None:
    """Addresses come back in order, each ending in a slash."""
    file = tmp_path / "witnesses.toml"
    other = Ed25519Signer("witness.example/two", bytes(32), COSIGNATURE).key
    file.write_text(
        f'[[witness]]\nurl = "https://w.example:8182"\nkey = "{KEY}"\n'
        f'[[witness]]\nurl = "http://127.0.0.1/x/"\nkey = "{other}"\n'
    )
    assert read_witnesses(file) == (
        WitnessAddress("https://w.example:8182/", KEY),
        WitnessAddress("http://127.0.0.1/x/", other),
    )


def table(url: str = "https://w.example", key: object = KEY, more: str = "") -> str:
    """Return one table of the file."""
    return f'[[witness]]\nurl = "{url}"\nkey = "{key}"\n{more}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "witness = 3",
        "[witness]\n",
        "witness = []",
        "not toml",
        "[[witnesses]]\n",
        table() + "[other]\n",
        table(more='name = "x"\n'),
        '[[witness]]\nurl = "https://w.example"\n',
        "[[witness]]\nurl = 3\nkey = 4\n",
        table("ftp://w.example"),
        table("file:///etc/passwd"),
        table("w.example"),
        table("https://"),
        table("https://user:secret@w.example"),
        table("https://w.example/?a=b"),
        table("https://w.example/#a"),
        table("https://w.example:99999"),
        table("https://w.example:x"),
        table("https://w.example/\\r\\nHost: evil"),
        table(key=LOG.key),
        table(key=str(KEY)[:-2]),
        table(key="none"),
        table() + table(),
        "".join(table(key=Ed25519Signer(f"w{n}", bytes(32), COSIGNATURE).key) for n in range(17)),
        "# " + "x" * LIMITS.document_bytes,
    ],
)
def test_a_file_that_is_not_understood_stops_the_start(tmp_path: Path, text: str) -> None:
    """A misspelt witness must not go missing in silence: the start is refused, with the file, and without its text."""
    file = tmp_path / "witnesses.toml"
    file.write_text(text)
    with pytest.raises(StartRefused) as caught:
        read_witnesses(file)
    assert str(file) in str(caught.value) and "secret" not in str(caught.value)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    """A file that the settings name is there."""
    with pytest.raises(StartRefused):
        read_witnesses(tmp_path / "none.toml")


# What is said


def test_answers_are_read_strictly() -> None:
    """Only the asked witness's own good line counts; sizes have one spelling; long proofs are not sent."""
    text = Tree.of(3).checkpoint().text()
    own, stranger = Cosigner(NAME, bytes(32)), Cosigner("witness.example/two", bytes([1]) * 32)
    good = own.cosign(text, 5)
    key = parse_key(str(own.key))
    assert read_cosignature((stranger.cosign(text, 4) + good).encode(), text, key)[1] == 5
    for body, reason in (
        (stranger.cosign(text, 5), Reason.NOT_SIGNED),
        (own.cosign(text + "more\n", 5), Reason.BAD_SIGNATURE),
        (good[:-1], Reason.MALFORMED),
        (good * 65, Reason.MALFORMED),
        ("\n", Reason.MALFORMED),
        ("", Reason.MALFORMED),
        ("<html>\n", Reason.MALFORMED),
    ):
        with pytest.raises(EvidenceRefused) as caught:
            read_cosignature(body.encode(), text, key)
        assert caught.value.reason == reason
    for size in (b"", b"5", b"05\n", b"5\n\n", b"-5\n", b"9223372036854775808\n", b"\xff\n"):
        with pytest.raises(EvidenceRefused):
            read_size(size)
    with pytest.raises(InputRefused):
        write_submission(1, [bytes(32)] * 64, b"")
