"""The key and the answer over TLS: only a server whose certificate holds for its name is asked, and nothing else is."""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from policy_engine import PolicyEngine
from tests.remote.hostile import answer, hostile, sending
from tests.remote.test_hostile import ASKED, KEY, yes


def certificate(folder: Path, address: str, *, days: int = 1) -> tuple[Path, Path]:
    """Write a certificate for an address that signs itself, and its key; return both files."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def serving(files: tuple[Path, Path]) -> ssl.SSLContext:
    """Return the context of a server with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


def test_a_server_that_is_trusted_is_believed(tmp_path: Path) -> None:
    """`tls` names the authorities, for the questions and for the stream of revocations."""
    files = certificate(tmp_path, "127.0.0.1")
    trusting = ssl.create_default_context(cafile=files[0])
    with hostile(sending(answer(yes())), serving(files)) as server:
        with PolicyEngine.connect(server.url, key=KEY, tls=trusting) as engine:
            assert engine.decide(**ASKED)
        assert b"authorization: bearer" in server.asked[0].lower()


@pytest.mark.parametrize(
    ("address", "days", "trusted"),
    [("127.0.0.1", 1, False), ("127.0.0.2", 1, True), ("127.0.0.1", -1, True)],
    ids=["an unknown authority", "another name", "a certificate that ran out"],
)
def test_whoever_is_not_trusted_gets_no_key_and_allows_nothing(
    tmp_path: Path, address: str, days: int, trusted: bool
) -> None:
    """A certificate of nobody known, of another name, or out of time: a deny, and the key was not sent."""
    files = certificate(tmp_path, address, days=days)
    tls = ssl.create_default_context(cafile=files[0]) if trusted else None
    with hostile(sending(answer(yes())), serving(files)) as server:
        with PolicyEngine.connect(server.url, key=KEY, tls=tls) as engine:
            assert engine.decide(**ASKED).reasons[0].code == "engine.unreachable"
        assert server.asked == []


def test_clear_text_in_the_place_of_tls_allows_nothing() -> None:
    """Somebody in between who strips the encryption is not spoken to."""
    with hostile(sending(answer(yes()))) as server:
        with PolicyEngine.connect(server.url.replace("http:", "https:"), key=KEY, timeout_seconds=0.5) as engine:
            assert engine.decide(**ASKED).reasons[0].code == "engine.unreachable"
        assert not any(b"bearer" in asked.lower() for asked in server.asked)
