"""Four gateways before one engine: Envoy over gRPC and over HTTP, nginx and Caddy, each run from its printed snippet.

Whom a client is, each gateway finds out in its own way (a token or a password); what a test says is the same for all.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.api.served import Served
from tests.client.proxy import Proxy
from tests.proxies import programs, wire
from tests.proxies.upstream import Upstream
from tests.proxies.wire import Reply

PEOPLE = ("alice", "eve", "bruno", "nobody")
"""Allowed; denied for a legal reason (451 here); denied (403); unknown (404 here)."""

PASSWORD = "made-up"
HASHED = "$2a$04$a2haryNcvZFN3TWT2W1fiu4IEpE90f6NXr6T4iwIcJisxrlFB0rtS"
"""The same for Caddy, hashed at the least cost."""

KEY = "pe_THE_KEY_OF_THIS_PROXY"
NAMES = ("envoy", "envoy-http", "nginx", "caddy")


@dataclass
class Gateway:
    """A running gateway. `engine` is the network between it and the engine."""

    name: str
    port: int
    upstream: Upstream
    engine: Proxy
    prove: Callable[[str], tuple[str, str]] = field(repr=False, default=lambda person: ("", ""))
    changes: Mapping[str, str] = field(default_factory=dict)
    """What else is one's own in the configuration."""

    @property
    def sees_bodies(self) -> bool:
        """Return whether the gateway shows bodies to the engine."""
        return self.name.startswith("envoy")

    def path(self, path: str = "/v1/chat/completions") -> str:
        """Return a path of the model that is asked for, as this gateway has it."""
        return path if self.sees_bodies else f"/fable-5{path}"

    def raw(
        self,
        person: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str = "/v1/chat/completions",
        headers: Sequence[wire.Header] = (),
        version: str = "1.1",
        close: bool = True,
    ) -> Reply:
        """Send a request of a person (of a stranger, without one) with a body as it is, and return the answer."""
        own: list[wire.Header] = [*([self.prove(person)] if person else []), *headers]
        names = {name.lower() for name, _ in own}
        if body and "transfer-encoding" not in names:
            own.append(("Content-Length", str(len(body))))
        if body and "content-type" not in names:
            own.append(("Content-Type", "application/json"))
        data = wire.head(method, self.path(path), own, version=version, close=close) + body
        return wire.send(self.port, data, method=method)

    def ask(self, person: str, model: str = "fable-5", **options: Any) -> Reply:
        """Ask for an answer of a model."""
        return self.raw(person, json.dumps({"model": model, "messages": []}).encode(), **options)

    def served(self, person: str = "alice", **options: Any) -> bool:
        """Ask, and say whether it reached the upstream, which must agree with what the client was told."""
        before = len(self.upstream.arrived)
        reply = self.ask(person, **options)
        assert (reply.status == 200) == (len(self.upstream.arrived) == before + 1), reply
        return reply.status == 200


def tokens() -> tuple[Callable[..., str], str]:
    """Return what makes tokens, and the key set that they verify with."""
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    x, y = (_encoded(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    jwks = {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1", "x": x, "y": y}]}

    def token(person: str, *, alg: str = "ES256", **claims: Any) -> str:
        head = _encoded(json.dumps({"alg": alg, "kid": "k1", "typ": "JWT"}).encode())
        said = {"iss": "https://id.example", "aud": "models", "sub": person, "tenant": "acme"}
        body = _encoded(json.dumps({**said, "exp": int(time.time()) + 600, **claims}).encode())
        r, s = decode_dss_signature(key.sign(f"{head}.{body}".encode(), ec.ECDSA(hashes.SHA256())))
        signature = "" if alg == "none" else _encoded(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        return f"{head}.{body}.{signature}"

    return token, json.dumps(jwks)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _password(person: str) -> tuple[str, str]:
    return ("Authorization", f"Basic {base64.b64encode(f'{person}:{PASSWORD}'.encode()).decode()}")


TOKEN, JWKS = tokens()


def _token(person: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {TOKEN(person)}")


@contextmanager
def gateway(
    name: str, served: Served, upstream: Upstream, folder: Path, changes: Mapping[str, str] | None = None
) -> Iterator[Gateway]:
    """Run a gateway before the engine, with changes to its configuration where there are any."""
    with ExitStack() as ending:
        target = served.server.beside.port if name == "envoy" else served.port
        engine = Proxy(target)
        ending.callback(engine.close)
        prove = _token if name.startswith("envoy") else _password
        made = Gateway(name, programs.free_port(), upstream, engine, prove, changes or {})
        command = _COMMANDS[name](made, served.keys["gateway"], folder)
        ending.enter_context(programs.running(command, made.port, folder))
        yield made


def _envoy(made: Gateway, key: str, folder: Path) -> list[str]:
    envoy = programs.envoy()
    jwks = folder / "jwks.json"
    jwks.write_text(JWKS)
    engine_port = "9191" if made.name == "envoy" else "8181"
    text = programs.configured(
        made.name,
        {
            "port_value: 8080": f"port_value: {made.port}",
            f"port_value: {engine_port}": f"port_value: {made.engine.port}",
            "port_value: 8000": f"port_value: {made.upstream.port}",
            "/etc/envoy/jwks.json": str(jwks),
            KEY: key,
            **made.changes,
        },
    )
    place = folder / "envoy.yaml"
    place.write_text(text)
    return envoy_command(envoy, place)


def envoy_command(envoy: str, place: Path) -> list[str]:
    """Return how Envoy is run beside others: one worker, no shared memory between old and new."""
    return [envoy, "-c", str(place), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]


def _nginx(made: Gateway, key: str, folder: Path) -> list[str]:
    nginx = programs.program("nginx")
    passwords = folder / "models.htpasswd"
    passwords.write_text("".join(f"{person}:{{PLAIN}}{PASSWORD}\n" for person in PEOPLE))
    passwords.chmod(0o644)
    text = programs.configured(
        "nginx",
        {
            "127.0.0.1:8080": f"127.0.0.1:{made.port}",
            "127.0.0.1:8000": f"127.0.0.1:{made.upstream.port}",
            "127.0.0.1:8181": f"127.0.0.1:{made.engine.port}",
            "/etc/nginx/models.htpasswd": str(passwords),
            KEY: key,
        },
    )
    (folder / "models.conf").write_text(text)
    user = "user root;\n" if os.geteuid() == 0 else ""  # its folder is a test's own
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("proxy", "client_body", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"{user}daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}include {folder}/models.conf;\n}}\n"
    )
    return [nginx, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]


def _caddy(made: Gateway, key: str, folder: Path) -> list[str]:
    caddy = programs.program("caddy")
    text = programs.configured(
        "caddy",
        {
            ":8080 {": f":{made.port} {{",
            "127.0.0.1:8000": f"127.0.0.1:{made.upstream.port}",
            "127.0.0.1:8181": f"127.0.0.1:{made.engine.port}",
            "alice PASSWORD_HASH_OF_ALICE": "\n".join(f"{person} {HASHED}" for person in PEOPLE),
            KEY: key,
        },
    )
    place = folder / "Caddyfile"
    place.write_text("{\n\tadmin off\n\tauto_https off\n}\n" + text)
    return [caddy, "run", "--config", str(place), "--adapter", "caddyfile"]


_COMMANDS: dict[str, Callable[[Gateway, str, Path], list[str]]] = {
    "envoy": _envoy,
    "envoy-http": _envoy,
    "nginx": _nginx,
    "caddy": _caddy,
}
