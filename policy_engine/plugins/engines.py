"""The engine that a plugin asks: over HTTP where an address is set, else embedded in the gateway's own process.

Rules of the room: a setting that cannot work is refused when the gateway starts. Over HTTP nothing is sent before the
first question, so a gateway starts without its engine, and denies until it is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from policy_engine.core.enforcing import Enforcing
from policy_engine.embed import PolicyEngine
from policy_engine.errors import InputRefused, StartRefused
from policy_engine.plugins.gatewaysettings import GatewaySettings


class GatewayEngine(Enforcing, Protocol):
    """What a plugin needs of an engine; `PolicyEngine` is one."""

    async def filter_models_async(
        self,
        models: Iterable[str],
        *,
        subject: str,
        action: str = ...,
        tenant: str | None,
        location: str | None,
        serving_region: str | None,
    ) -> list[str]:
        """Return those of a listing that the subject may use."""
        ...


def gateway_engine(settings: GatewaySettings) -> GatewayEngine:
    """Return the engine that the settings name. Raises `StartRefused`."""
    if settings.url is None or settings.key is None:
        return PolicyEngine.open(settings.policies, database=settings.database or "")
    try:
        return PolicyEngine.connect(
            settings.url, key=settings.key.get_secret_value(), cleartext=settings.gateway_cleartext
        )
    except InputRefused as refused:
        name = "POLICY_ENGINE_KEY" if refused.where == "key" else "POLICY_ENGINE_URL"
        raise StartRefused(refused.message, where=name) from None
