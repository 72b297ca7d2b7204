"""What a gateway plugin is told by `POLICY_ENGINE_*` variables: which engine it asks, and where it reads who asks.

Rules of the room:
- A setting that cannot be used is refused when the gateway starts, with the variable's name; nothing has a default that
  would open a door.
- A field names what the gateway itself established about a caller. What a body can choose (the end user of a request)
  is no field.
Left to others: reading a caller by these fields (`callers`), the engine's own settings (`policy_engine.settings`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from policy_engine.core.wording import Detail, Wording
from policy_engine.errors import StartRefused

PREFIX: Final = "POLICY_ENGINE_GATEWAY_"
IDENTITIES: Final = ("user_id", "team_id", "org_id", "project_id", "agent_id")
"""What LiteLLM keeps of a key by itself. The key's alias is not among them: whoever makes a key names it."""
BUCKETS: Final = ("metadata", "team_metadata", "project_metadata", "organization_metadata")
_FIELD: Final = re.compile(rf"(?:{'|'.join(IDENTITIES)}|(?:{'|'.join(BUCKETS)})\.[A-Za-z0-9_-]{{1,64}})?")
_STATUS: Final = re.compile(r"([A-Za-z0-9._-]{1,64})=(403|404|451)")


def _field(value: str) -> str:
    if not _FIELD.fullmatch(value):
        raise ValueError(
            f"must be one of {', '.join(IDENTITIES)}, or NAME behind one of {', '.join(BUCKETS)} and a dot"
        )
    return value


def _statuses(value: str) -> str:
    if any(not _STATUS.fullmatch(part) for part in _listed(value)):
        raise ValueError("must be pairs such as directive=451,switch=404")
    return value


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",") if part.strip())


GatewayField = Annotated[str, AfterValidator(_field)]


class GatewaySettings(BaseSettings):
    """The settings; a name is the field's in upper case behind `POLICY_ENGINE_`."""

    model_config = SettingsConfigDict(
        env_prefix="POLICY_ENGINE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    url: str | None = None
    """Where the engine answers. Without it the plugin opens `database` itself, embedded in the gateway's process."""
    key: SecretStr | None = None
    """The API key of this enforcement point."""
    gateway_cleartext: bool = False
    """Send the key over http to another machine; only where the network itself is encrypted."""
    database: str | None = None
    policies: Path = Path("policies")
    gateway_subject: GatewayField = Field(default="user_id", min_length=1)
    gateway_tenant: GatewayField = Field(default="team_id", min_length=1)
    gateway_location: GatewayField = ""
    """Where the operator wrote down the caller's place; empty: the place is unknown."""
    gateway_unguarded: str = ""
    """Call types, separated by commas, that pass without a decision; for calls that reach no model."""
    gateway_statuses: Annotated[str, AfterValidator(_statuses)] = ""
    """Statuses of denies by reason code or the beginning of one: `directive=451,switch=404`."""
    gateway_blocked_by: str | None = None
    """Who demands what is denied with 451, as an address for the `Link` header."""
    gateway_docs_url: str | None = None
    """Where denied users read what can be done."""
    gateway_detail: Detail = Detail.CLASS
    serving_region: str | None = None
    """Where a deployment answers that does not say it itself."""

    @property
    def wording(self) -> Wording:
        """Return how denies are worded. Raises `ValueError` for an address that could not stand in a header."""
        found = [_STATUS.fullmatch(part) for part in _listed(self.gateway_statuses)]
        statuses = tuple((match[1], int(match[2])) for match in found if match is not None)
        return Wording(statuses, self.gateway_blocked_by, self.gateway_docs_url, self.gateway_detail)

    @property
    def unguarded(self) -> frozenset[str]:
        """Return the call types that pass without a decision."""
        return frozenset(_listed(self.gateway_unguarded))


def gateway_settings() -> GatewaySettings:
    """Return the settings of the environment. Raises `StartRefused` for what cannot work, naming the variable.

    A variable of this room that is not known is refused: a misspelt one would guard otherwise than its writer thinks.
    """
    own = {name for name in os.environ if name.upper().startswith(PREFIX)}
    unknown = sorted(own - {f"POLICY_ENGINE_{name.upper()}" for name in GatewaySettings.model_fields})
    if unknown:
        raise StartRefused("is no setting of a gateway plugin", where=unknown[0])
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise StartRefused(
            str(first["msg"]).removeprefix("Value error, ").lower(), where=f"POLICY_ENGINE_{name}"
        ) from None
    try:
        _ = settings.wording
    except ValueError as error:
        raise StartRefused(str(error), where=f"{PREFIX}BLOCKED_BY, {PREFIX}DOCS_URL") from None
    if settings.url is not None and settings.key is None:
        raise StartRefused("name the key of this enforcement point", where="POLICY_ENGINE_KEY")
    if settings.url is None and settings.database is None:
        raise StartRefused(
            "name the engine to ask, or a database to open one on in POLICY_ENGINE_DATABASE", where="POLICY_ENGINE_URL"
        )
    return settings
