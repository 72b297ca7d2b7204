"""An issuer's endpoint for its keys: real TLS on loopback, with what it answers in the hands of the test."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.middleware.tokens import key, key_set


def certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for `localhost` and its key; return the two files."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder / "cert.pem", folder / "key.pem"


class Issuer:
    """What the endpoint answers, how often it was asked, and whether it answers yet."""

    def __init__(self) -> None:
        self.document: Any = key_set(key("one"))
        self.status = 200
        self.asked = 0
        self.port = 0
        self.open = threading.Event()
        self.open.set()

    @property
    def url(self) -> str:
        """Return where the keys are."""
        return f"https://localhost:{self.port}/jwks"


@contextmanager
def issuing(certified: tuple[Path, Path]) -> Iterator[Issuer]:
    """Run an endpoint; it answers while `open` is set, and otherwise when it is again."""
    own = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            own.asked += 1
            own.open.wait(10)
            body = json.dumps(own.document).encode()
            self.send_response(own.status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*certified)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    own.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield own
    finally:
        own.open.set()
        server.shutdown()
        server.server_close()
        thread.join()
