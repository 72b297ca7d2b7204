"""One line for servers that take a class by its import path, as `vllm serve --middleware` does: `vllm.Guard`.

Rules of the room: all settings are `POLICY_ENGINE_*` variables; one of this room (`POLICY_ENGINE_GUARD_*`) that is not
known is refused, for a misspelt one would guard otherwise than whoever wrote it thinks. Nothing is guarded by less than
what is named: without a way to know the caller the server does not start.
Left to others: the door (`asgi`), where the settings of the engine itself are read (`PolicyEngine.open`, `.connect`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policy_engine.errors import StartRefused
from policy_engine.middleware.asgi import PolicyEngineMiddleware
from policy_engine.middleware.bodies import App, Message, Receive, Scope, Send
from policy_engine.middleware.models import from_body, from_query
from policy_engine.middleware.subjects import Subjects, TrustedProxy, from_header
from policy_engine.middleware.tokens import from_jwt

PREFIX = "POLICY_ENGINE_GUARD_"
BY_TOKEN = ("AUDIENCE", "JWKS", "ALGORITHMS", "TENANT_CLAIM")
BY_PROXY = ("TENANT_HEADER", "LOCATION_HEADER", "PROXY_SECRET_FILE", "PROXY_ADDRESSES", "PROXY_UNIX_SOCKET")
NAMES = frozenset(
    (*("ISSUER", "USER_HEADER"), *BY_TOKEN, *BY_PROXY, *("TENANT", "LOCATION", "MODELS", "EXEMPT", "FORMS"))
)


class Guard:
    """The door with all its settings from the environment, around whatever server loads it."""

    def __init__(self, app: App) -> None:
        """Open or reach the engine. Raises `StartRefused` for settings that are missing or not known."""
        settings = settings_of(os.environ)
        self._engine = open_engine(os.environ)
        self._door = PolicyEngineMiddleware(app, engine=self._engine, **settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Guard; when the server has shut down, close the engine."""
        if scope["type"] != "lifespan":
            return await self._door(scope, receive, send)

        async def closing(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                self._engine.close()
            await send(message)

        return await self._door(scope, receive, closing)


def open_engine(environment: Mapping[str, str]) -> Any:
    """Return the engine that the environment names: a remote one at `POLICY_ENGINE_URL`, else one in this process."""
    from policy_engine import PolicyEngine

    url = environment.get("POLICY_ENGINE_URL")
    if url:
        key = environment.get("POLICY_ENGINE_KEY")
        if not key:
            raise StartRefused("names no key for the engine at POLICY_ENGINE_URL", where="POLICY_ENGINE_KEY")
        return PolicyEngine.connect(url, key=key)
    policies, database = environment.get("POLICY_ENGINE_POLICIES"), environment.get("POLICY_ENGINE_DATABASE")
    if not policies or not database:
        raise StartRefused(
            "name POLICY_ENGINE_URL, or POLICY_ENGINE_POLICIES and POLICY_ENGINE_DATABASE", where="guard"
        )
    return PolicyEngine.open(policies, database=database)


def settings_of(environment: Mapping[str, str]) -> Any:
    """Return the settings of the door. Raises `StartRefused`, naming the variable."""
    own = {name[len(PREFIX) :]: value for name, value in environment.items() if name.startswith(PREFIX) and value}
    unknown = sorted(own.keys() - NAMES)
    if unknown:
        raise StartRefused("is no setting of the guard", where=PREFIX + unknown[0])
    settings: dict[str, Any] = {
        "subject": _subjects(own),
        "model": from_body(forms=_is_set(own, "FORMS")) & from_query(),
        "exempt": frozenset(_listed(own.get("EXEMPT", "/health"))),
        "resolve": _pairs(own.get("MODELS", "")),
        "tenant": own.get("TENANT"),
        "location": own.get("LOCATION"),
    }
    region = environment.get("POLICY_ENGINE_SERVING_REGION")
    return {**settings, "serving_region": region} if region else settings


def _subjects(own: Mapping[str, str]) -> Subjects:
    """Return how callers are known: by tokens, or by a proxy; one of the two."""
    if ("ISSUER" in own) == ("USER_HEADER" in own):
        raise StartRefused("name either the issuer of tokens or the user header of a proxy", where=f"{PREFIX}ISSUER")
    if "ISSUER" in own:
        _require_unset(own, BY_PROXY, "by tokens")
        for name in ("AUDIENCE", "JWKS"):
            if name not in own:
                raise StartRefused("is needed beside the issuer of tokens", where=PREFIX + name)
        algorithms = _listed(own.get("ALGORITHMS", "RS256"))
        return from_jwt(
            issuer=own["ISSUER"],
            audience=own["AUDIENCE"],
            jwks=own["JWKS"],
            algorithms=algorithms,
            tenant=own.get("TENANT_CLAIM"),
        )
    proxy = TrustedProxy(
        secret=_secret(own.get("PROXY_SECRET_FILE")),
        addresses=_listed(own.get("PROXY_ADDRESSES", "")),
        unix_socket=_is_set(own, "PROXY_UNIX_SOCKET"),
    )
    _require_unset(own, BY_TOKEN, "by a proxy")
    return from_header(
        own["USER_HEADER"], proxy=proxy, tenant=own.get("TENANT_HEADER"), location=own.get("LOCATION_HEADER")
    )


def _require_unset(own: Mapping[str, str], names: tuple[str, ...], known: str) -> None:
    """Raise `StartRefused` for a setting that would not be looked at: whoever set it counts on it."""
    for name in names:
        if name in own:
            raise StartRefused(f"guards nothing where callers are known {known}; leave it out", where=PREFIX + name)


def _is_set(own: Mapping[str, str], name: str) -> bool:
    """Return whether a setting is `yes`. Raises `StartRefused` for any other word, which may have meant it."""
    if own.get(name, "yes") != "yes":
        raise StartRefused("must be yes, or not be set", where=PREFIX + name)
    return name in own


def _secret(file: str | None) -> str | None:
    if file is None:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise StartRefused("cannot be read", where=f"{PREFIX}PROXY_SECRET_FILE") from None


def _listed(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(",") if each.strip())


def _pairs(text: str) -> dict[str, str]:
    """Return `served=catalogue` pairs: under which name of the catalogue a served model is decided."""
    found = {}
    for each in _listed(text):
        served, separator, known = (part.strip() for part in each.partition("="))
        if not separator or not served or not known or served in found:
            raise StartRefused(
                "must be pairs such as served-name=catalogue-id, each name once", where=f"{PREFIX}MODELS"
            )
        found[served] = known
    return found
