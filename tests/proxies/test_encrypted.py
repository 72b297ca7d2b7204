"""The real Envoy before gRPC over TLS, and with a health check, configured as the page on proxies says."""

from __future__ import annotations

import re
from pathlib import Path
from time import sleep

import pytest

from tests.api.certificates import Authority
from tests.api.served import serving
from tests.proxies.gateways import gateway
from tests.proxies.upstream import Upstream

PAGE = Path(__file__).resolve().parents[2] / "docs" / "proxies.md"
CLUSTER = "  - name: policy-engine\n    type: STATIC\n"


def socket_of(authority: Path) -> str:
    """Return what the page adds to the cluster, with our authority and address."""
    (text,) = re.findall(r"```yaml\n( {4}transport_socket:.*?)```", PAGE.read_text(), re.DOTALL)
    changes = {
        "/etc/envoy/engine-authority.pem": str(authority),
        "{san_type: DNS, matcher: {exact: engine.internal}}": "{san_type: IP_ADDRESS, matcher: {exact: 127.0.0.1}}",
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return str(text)


def test_envoy_asks_those_that_say_that_they_can_decide(tmp_path: Path, behind: Upstream) -> None:
    """The health check that the page shows, without which Envoy would ask nobody: it takes no engine on trust."""
    (text,) = re.findall(r"```yaml\n( {4}health_checks:.*?)```", PAGE.read_text(), re.DOTALL)
    changes = {CLUSTER: CLUSTER + text}
    with serving(tmp_path, grpc_port=0) as engine, gateway("envoy", engine, behind, tmp_path, changes) as envoy:
        assert any(envoy.served("alice") or sleep(0.2) for _ in range(50))
        assert not envoy.served("eve")


@pytest.mark.parametrize("trusted", [True, False], ids=["its authority", "another authority"])
def test_envoy_asks_over_tls_whom_it_trusts(tmp_path: Path, behind: Upstream, trusted: bool) -> None:
    """Allowed and denied as ever; behind a certificate of somebody else nothing is served, for nobody was asked."""
    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    files = authority.signed("engine")
    settings = {"tls_certificate": files.certificate, "tls_key": files.key, "grpc_port": 0}
    changes = {CLUSTER: CLUSTER + socket_of((authority if trusted else other).file)}
    with serving(tmp_path, **settings) as engine, gateway("envoy", engine, behind, tmp_path, changes) as envoy:
        assert envoy.served("alice") is trusted
        assert not envoy.served("eve")
        assert envoy.ask("eve").status == (403 if trusted else 503)
