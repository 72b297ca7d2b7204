"""Where the LiteLLM tests are: a proxy with the plugin, a real engine, the network between them, and a provider behind.

What the proxy calls models, and what they are at the provider, is in `deployments`. The proxy runs in an environment of
its own, so its tests are part of `make campaigns` (`MARKS`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.api.served import Served, serving
from tests.client.proxy import Proxy as Network
from tests.plugins import litellm_proxy
from tests.plugins.litellm_proxy import Proxy
from tests.plugins.upstream import Provider, providing

MARKS = [pytest.mark.campaign]

PROMPT = "planted-prompt"
CHAT = {"messages": [{"role": "user", "content": PROMPT}]}
ROUTES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"prompt": PROMPT},
    "/v1/embeddings": {"input": PROMPT},
    "/v1/responses": {"input": PROMPT},
    "/v1/messages": {**CHAT, "max_tokens": 9},
}
SETTINGS = {
    "router_settings": {
        "num_retries": 1,
        "fallbacks": [{"opus-4-8": ["mythos-5"]}, {"summit-4": ["mythos-5", "fable-5"]}],
    },
}


@dataclass(frozen=True)
class Place:
    """What a test has: the proxy, the engine behind it, the network between them, and the provider behind all."""

    proxy: Proxy
    served: Served
    network: Network
    provider: Provider

    def reached(self) -> list[str]:
        """Return the models that the provider was asked for since the last time."""
        models = [model for _, model in self.provider.reached]
        self.provider.reached.clear()
        return models

    def decided(self, answer: httpx2.Response) -> dict[str, Any]:
        """Return the entry of the decision that an answer names."""
        found = self.served.get(f"/v1/decisions/{answer.headers['policy-engine-decision-id']}", key="auditor")
        assert found.status_code == 200, found.text
        entry: dict[str, Any] = found.json()
        return entry

    def withdraw(self, id: str, model: str, tenant: str) -> float:
        """Engage a switch and return when it was committed."""
        body = {"id": id, "scope": {"models": [model], "tenants": [tenant]}, "reason": "why"}
        answer = self.served.post("/v1/switches", body, key="operator")
        assert answer.status_code == 201, answer.text
        return time.monotonic()

    def restore(self, id: str) -> None:
        """Release a switch, by two persons."""
        asked = self.served.post(f"/v1/switches/{id}/release", {"reason": "over"}, key="operator").json()
        path = f"/v1/approvals/{asked['proposal']}/approve"
        approved = self.served.post(path, {"hash": asked["hash"]}, key="approver")
        assert approved.is_success, approved.text


def deployments(port: int) -> list[dict[str, Any]]:
    """Return the proxy's models: some are called otherwise at the provider, some are not what their name says."""

    def one(name: str, model: str, **info: Any) -> dict[str, Any]:
        provider, _, _ = model.partition("/")
        base = f"http://127.0.0.1:{port}" + ("" if provider == "anthropic" else "/v1")
        params = {"model": model, "api_base": base, "api_key": "sk-none"}
        return {"model_name": name, "litellm_params": params, "model_info": info}

    return [
        one("fable-5", "openai/our-deployment-17", policy_engine_model="fable-5"),
        one("mythos-5", "openai/mythos-5"),
        one("fable-latest", "openai/mythos-5"),
        one("fable-5-1", "openai/mythos-5"),
        one("fable-5-1", "openai/fable-5-1"),
        one("opus-4-8", "openai/broken-opus", policy_engine_model="opus-4-8"),
        one("summit-4", "openai/broken-summit", policy_engine_model="summit-4"),
        one("open-1", "openai/quiet", policy_engine_model="open-1"),
    ]


@contextmanager
def placed(folder: Path) -> Iterator[Place]:
    """Start all of it, with files in a folder."""
    (folder / "served").mkdir()
    with serving(folder / "served", replica=True) as served, providing() as provider:
        network = Network(served.port)
        network.sent = bytearray()
        variables = {
            **litellm_proxy.exported(),
            "POLICY_ENGINE_URL": f"http://127.0.0.1:{network.port}",
            "POLICY_ENGINE_KEY": served.keys["gateway"],
            "POLICY_ENGINE_GATEWAY_STATUSES": "evidence=451,tenant=404",
            "POLICY_ENGINE_GATEWAY_BLOCKED_BY": "https://authority.example/order-7",
        }
        text = litellm_proxy.configuration(deployments(provider.port), SETTINGS)
        with litellm_proxy.started(folder, text, variables) as proxy:
            assert litellm_proxy.ready(proxy), proxy.log.read_text()[-4_000:]
            yield Place(proxy, served, network, provider)
        network.close()
