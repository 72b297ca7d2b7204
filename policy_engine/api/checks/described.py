"""The doors for proxies as the OpenAPI document shows them: a check has any method, so one stands for all.

Left to others: answering (`doors`, `data`), the document (`openapi`).
"""

from __future__ import annotations

from typing import Any, Final

from policy_engine.api.access import SCOPES_MEMBER, problem_responses
from policy_engine.api.checks.table import REMOVED, Proxy
from policy_engine.api.checks.told import FACT_HEADERS

DATA: Final = "/v1/data/{path}"
ENVOY: Final = f"{Proxy.ENVOY.value}/{{path}}"
PROXY_KEY: Final = {"type": "apiKey", "in": "header", "name": REMOVED[0], "description": "The proxy's own key."}

_HEADERS: Final = ("Policy-Engine-Decision-Id", "Policy-Engine-Epoch", "Policy-Engine-Release")
_DENIES: Final = {
    400: "What the proxy told cannot be decided.",
    401: "The proxy has no good key.",
    403: "Denied. To nginx: every deny, the status for its client in Policy-Engine-Status.",
    404: "Denied, where a setting says so.",
    451: "Denied for a legal reason, where a setting says so.",
    500: "To nginx: no decision can be made.",
    503: "No decision can be made.",
}
_PATH: Final = {"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}


def check_paths() -> dict[str, Any]:
    """Return the paths of the document."""
    shown = {ENVOY: "Envoy's HTTP service", Proxy.NGINX.value: "nginx", Proxy.FORWARD.value: "Caddy and Traefik"}
    found: dict[str, Any] = {path: {"get": _check(path, proxy)} for path, proxy in shown.items()}
    found[DATA] = {"post": _data()}
    return found


def _check(path: str, proxy: str) -> dict[str, Any]:
    allowed = {
        "description": "Exactly this lets the request pass.",
        "headers": {name: {"schema": {"type": "string"}} for name in _HEADERS},
    }
    facts = [{"name": name, "in": "header", "required": False, "schema": {"type": "string"}} for name in FACT_HEADERS]
    return {
        "tags": ["proxies"],
        "summary": f"May this request pass? As {proxy} asks, with any method",
        "operationId": f"check_{path.split('/')[2].replace('-', '_')}",
        SCOPES_MEMBER: ["decide"],
        "security": [{"proxy": []}],
        "parameters": [*([_PATH] if "{path}" in path else []), *facts],
        "responses": {"200": allowed, **{str(status): {"description": text} for status, text in _DENIES.items()}},
    }


def _data() -> dict[str, Any]:
    denied = {"allow": {"type": "boolean"}, "reason": {"type": "string"}, "status_code": {"type": "integer"}}
    whole = {"type": "object", "required": ["allow"], "properties": {**denied, "headers": {"type": "object"}}}
    result = {
        "type": "object",
        "required": ["result"],
        "properties": {"result": {"anyOf": [{"type": "boolean"}, whole]}},
    }
    asked = {"type": "object", "required": ["input"], "properties": {"input": {"type": "object"}}}
    return {
        "tags": ["proxies"],
        "summary": "A question as plugins for Open Policy Agent ask it; a path that ends in /allow is a bare boolean",
        "operationId": "data",
        SCOPES_MEMBER: ["decide"],
        "security": [{"key": []}, {"proxy": []}],
        "parameters": [_PATH],
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {
            "200": {"description": "The decision.", "content": {"application/json": {"schema": result}}},
            **{str(status): answer for status, answer in problem_responses(400, 401, 403, 405, 413, 500, 503).items()},
        },
    }
