"""TLS at the doors: who is served, what a renewal does, and which files are no good."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from http.client import HTTPSConnection
from pathlib import Path

import grpc as grpcio
import pytest
from envoy.service.auth.v3 import external_auth_pb2 as auth
from structlog.testing import capture_logs

from policy_engine import PolicyEngine
from policy_engine.api.certificate import HTTP_1, Certificate, certificate_of
from policy_engine.errors import StartRefused
from policy_engine.settings import Settings
from tests.api.certificates import Authority, Files
from tests.api.served import ALICE, Served, serving
from tests.proxies.standins import FACTS, check_request

CHECK = "/envoy.service.auth.v3.Authorization/Check"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for certificates."""
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    """Return who signs the certificates."""
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def shown(authority: Authority) -> Files:
    """Return the files that the server is started with."""
    return authority.signed("first")


@pytest.fixture(scope="module")
def encrypted(shown: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Offer an engine whose doors, HTTP and gRPC, speak TLS alone."""
    settings = {"tls_certificate": shown.certificate, "tls_key": shown.key, "grpc_port": 0}
    with serving(tmp_path_factory.mktemp("encrypted"), **settings) as running:
        yield running


def decided(served: Served, tls: ssl.SSLContext) -> bool:
    """Ask over HTTPS whether alice may."""
    connection = HTTPSConnection("127.0.0.1", served.port, timeout=10, context=tls)
    try:
        headers = {**served.headers, "Content-Type": "application/json"}
        connection.request("POST", "/access/v1/evaluation", json.dumps(ALICE), headers)
        return bool(json.load(connection.getresponse())["decision"])
    finally:
        connection.close()


def handshake(port: int, tls: ssl.SSLContext, server_name: str | None = "127.0.0.1") -> ssl.SSLSocket:
    """Return a connection to a port of this machine, shaken hands on."""
    return tls.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname=server_name)


def common_name(port: int, tls: ssl.SSLContext, server_name: str | None = "127.0.0.1") -> str:
    """Return whom the certificate that a port shows names."""
    with handshake(port, tls, server_name) as connection:
        found = connection.getpeercert()
    assert found is not None
    return str(dict(part[0] for part in found["subject"])["commonName"])  # type: ignore[misc, index]  # pairs of texts


def test_decisions_are_asked_over_https_and_nothing_is_answered_in_clear(
    encrypted: Served, authority: Authority
) -> None:
    """A client that trusts the authority is answered; one that speaks clear text hears nothing of HTTP."""
    assert decided(encrypted, authority.trusted())
    with socket.create_connection(("127.0.0.1", encrypted.port), timeout=10) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1_024)
    with pytest.raises(ssl.SSLCertVerificationError):
        decided(encrypted, ssl.create_default_context())


def test_a_remote_engine_decides_over_https(encrypted: Served, authority: Authority) -> None:
    """`PolicyEngine.connect` takes the authority as `tls`, for decisions and for the stream of revocations."""
    url, key = f"https://127.0.0.1:{encrypted.port}", encrypted.keys["gateway"]
    asked = {"subject": "alice", "model": "fable-5", "action": "infer", "tenant": "acme"}
    with PolicyEngine.connect(url, key=key, tls=authority.trusted()) as engine:
        decision = engine.decide(**asked, location="US", serving_region="US")
        assert decision.allowed
        with engine.hold(decision) as hold:
            assert hold.ended is None


def test_envoys_check_is_answered_over_tls(encrypted: Served, authority: Authority) -> None:
    """gRPC's own client, over HTTP/2 that TLS has negotiated."""
    credentials = grpcio.ssl_channel_credentials(authority.file.read_bytes())
    facts = {**FACTS, "x-policy-engine-location": "US", "x-policy-engine-serving-region": "US"}
    with grpcio.secure_channel(f"127.0.0.1:{encrypted.server.beside.port}", credentials) as channel:
        check = channel.unary_unary(
            CHECK,
            request_serializer=auth.CheckRequest.SerializeToString,
            response_deserializer=auth.CheckResponse.FromString,
        )
        answer = check(check_request(facts), timeout=10, metadata=[("policy-engine-key", encrypted.keys["gateway"])])
    assert answer.status.code == 0


def test_tls_older_than_1_2_is_not_spoken(encrypted: Served, authority: Authority) -> None:
    """A client that knows no newer one gets no connection."""
    old = authority.trusted()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is what this is about
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        common_name(encrypted.port, old)


def test_each_door_negotiates_its_own_protocol(encrypted: Served, authority: Authority) -> None:
    """HTTP/1.1 at the one, HTTP/2 at the other, whatever else a client offers."""
    for port, protocol in ((encrypted.port, "http/1.1"), (encrypted.server.beside.port, "h2")):
        tls = authority.trusted()
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with handshake(port, tls) as connection:
            assert connection.selected_alpn_protocol() == protocol


def test_a_renewed_certificate_is_shown_without_a_restart(
    encrypted: Served, authority: Authority, shown: Files
) -> None:
    """New connections see it, at both doors and whether or not they name the server; open ones are not cut."""
    unnamed = authority.trusted()
    unnamed.check_hostname = False
    open_ = HTTPSConnection("127.0.0.1", encrypted.port, timeout=10, context=authority.trusted())
    open_.request("GET", "/healthz")
    assert open_.getresponse().read() is not None
    assert common_name(encrypted.port, authority.trusted()) == "first"
    certificate = encrypted.server._certificate
    half = authority.signed("half")
    shown.certificate.write_bytes(half.certificate.read_bytes())  # and its key is not there yet
    with capture_logs() as said:
        certificate.look()
    assert [each["event"] for each in said] == ["certificate.not-read"]
    assert common_name(encrypted.port, authority.trusted()) == "first"
    authority.signed("second").put_at(shown)
    with capture_logs() as said:
        certificate.look()
        certificate.look()
    assert [each["event"] for each in said] == ["certificate.renewed"]
    for port in (encrypted.port, encrypted.server.beside.port):
        assert common_name(port, authority.trusted()) == "second"
        assert common_name(port, unnamed, None) == "second"
    open_.request("GET", "/healthz")
    assert open_.getresponse().status == 200
    open_.close()


def test_the_files_are_looked_at_while_it_serves(authority: Authority) -> None:
    """A task of the server does so, in another thread, until it ends."""
    files = authority.signed("kept")
    certificate = Certificate(files.certificate, files.key)
    looked: list[None] = []
    certificate.look = lambda: looked.append(None)  # type: ignore[method-assign]  # how often it looks is the question

    async def serve() -> None:
        keeping = asyncio.create_task(certificate.keep(0.01))
        while len(looked) < 3:
            await asyncio.sleep(0.01)
        keeping.cancel()

    asyncio.run(asyncio.wait_for(serve(), 10))


def test_where_clients_need_a_certificate_nobody_else_gets_in(
    authority: Authority, folder: Path, tmp_path: Path
) -> None:
    """One that the authority has signed is let in; none, and one of another authority, are not. After a renewal too."""
    files, other = authority.signed("mutual"), Authority(folder, "other")
    settings = {
        "tls_certificate": files.certificate,
        "tls_key": files.key,
        "tls_client_authorities": authority.file,
    }
    with serving(tmp_path, **settings) as running:
        for renewed in (False, True):
            if renewed:
                authority.signed("renewed").put_at(files)
                running.server._certificate.look()
            assert decided(running, authority.trusted(authority.signed("client")))
            for own in (None, other.signed("stranger")):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    decided(running, authority.trusted(own))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_before_does_not_outlive_its_authority(
    authority: Authority, folder: Path, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """Who was let in by an authority that was taken out since is not let in again by resuming."""
    files, trusted = authority.signed("resumed"), tmp_path / "trusted.pem"
    trusted.write_bytes(authority.file.read_bytes())
    client = authority.trusted(authority.signed("client"))
    client.maximum_version = version

    def asked(session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
        connection = socket.create_connection(("127.0.0.1", running.port), timeout=10)
        with client.wrap_socket(connection, server_hostname="127.0.0.1", session=session) as tls:
            tls.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            answer = tls.recv(100)
            if not answer:
                raise ConnectionError("closed without an answer")
            assert answer.startswith(b"HTTP/1.1 200")
            return tls.session

    settings = {"tls_certificate": files.certificate, "tls_key": files.key, "tls_client_authorities": trusted}
    with serving(tmp_path, **settings) as running:
        session = asked()
        trusted.write_bytes(Authority(folder, "successor").file.read_bytes())
        running.server._certificate.look()
        for brought in (session, None):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                asked(brought)


def _files(authority: Authority, folder: Path) -> dict[str, Path]:
    good, locked = authority.signed("good"), authority.signed("locked", password=b"made-up")
    noise = folder / "noise.pem"
    noise.write_text("-----BEGIN CERTIFICATE-----\nnoise\n-----END CERTIFICATE-----\n")
    return {
        "certificate": good.certificate,
        "key": good.key,
        "other key": authority.signed("another").key,
        "locked certificate": locked.certificate,
        "locked key": locked.key,
        "noise": noise,
        "authority": authority.file,
        "nothing": folder / "nothing.pem",
        "folder": folder,
    }


@pytest.mark.parametrize(
    ("chain", "key", "authorities", "where", "words"),
    [
        ("certificate", None, None, "KEY", "is needed too"),
        (None, "key", None, "CERTIFICATE", "is needed too"),
        (None, None, "authority", "CERTIFICATE", "is needed too"),
        ("nothing", "key", None, "CERTIFICATE", "no such file"),
        ("certificate", "nothing", None, "KEY", "no such file"),
        ("certificate", "key", "nothing", "CLIENT_AUTHORITIES", "no such file"),
        ("noise", "key", None, "CERTIFICATE", "certificate chain in PEM"),
        ("certificate", "noise", None, "CERTIFICATE", "its key in PEM"),
        ("folder", "key", None, "CERTIFICATE", "cannot be read"),
        ("certificate", "other key", None, "KEY", "is not the key of the certificate"),
        ("locked certificate", "locked key", None, "KEY", "locked with a password"),
        ("certificate", "key", "noise", "CLIENT_AUTHORITIES", "authorities in PEM"),
    ],
)
def test_files_that_are_no_good_are_named(
    authority: Authority,
    folder: Path,
    chain: str | None,
    key: str | None,
    authorities: str | None,
    where: str,
    words: str,
) -> None:
    """A missing half, a missing file, noise, another's key, a locked key: one sentence with the setting, no start."""
    files = _files(authority, folder)
    given: Callable[[str | None], Path | None] = lambda name: None if name is None else files[name]  # noqa: E731  short
    settings = Settings(tls_certificate=given(chain), tls_key=given(key), tls_client_authorities=given(authorities))
    with pytest.raises(StartRefused, match=words) as refused:
        certificate_of(settings)
    assert refused.value.where == f"POLICY_ENGINE_TLS_{where}"


def test_without_a_certificate_there_is_no_tls() -> None:
    """The settings name none, so there is none; with one, contexts listen with it."""
    assert certificate_of(Settings()) is None


def test_a_context_keeps_the_clients_it_must_not_take(authority: Authority) -> None:
    """The least version and the demand for a certificate stand in what listens itself, before any handshake."""
    files = authority.signed("context")
    context = Certificate(files.certificate, files.key, authority.file).context(HTTP_1)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
