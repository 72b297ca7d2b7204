"""Certificates for tests: authorities, and what they sign, in files."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Files:
    """A certificate and its key, in two files."""

    certificate: Path
    key: Path

    def put_at(self, place: Files) -> None:
        """Take the place of another pair, as a renewal does: the key first."""
        place.key.write_bytes(self.key.read_bytes())
        place.certificate.write_bytes(self.certificate.read_bytes())


class Authority:
    """Signs certificates for loopback addresses; its own is in `file`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        own = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.file.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(PEM))

    def signed(self, name: str, *, password: bytes | None = None) -> Files:
        """Write a certificate of a name for 127.0.0.1 and its key, locked where a password is given."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._builder(subject, key).add_extension(address, critical=False).sign(self._key, hashes.SHA256())
        files = Files(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        files.certificate.write_bytes(made.public_bytes(PEM))
        lock = serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
        files.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, lock))
        return files

    def trusted(self, own: Files | None = None) -> ssl.SSLContext:
        """Return the context of a client that trusts this authority, with a certificate of its own where it has one."""
        context = ssl.create_default_context(cafile=self.file)
        if own is not None:
            context.load_cert_chain(own.certificate, own.key)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
