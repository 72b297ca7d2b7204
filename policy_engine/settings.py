"""Settings: every `POLICY_ENGINE_*` variable, read once at the edge and passed down.

Rules of the room: settings are passed, not imported; an unknown value is refused with the variable's name. Secrets are
file names here, never the secret, except the caller's own key (`POLICY_ENGINE_KEY`) which is never printed.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from policy_engine.core.wording import Detail, Wording
from policy_engine.errors import StartRefused
from policy_engine.limits import LIMITS

_EMPTY_SAYS: Final = frozenset(("key", "serving_region", "deny_statuses", "sample_world", "grpc_plaintext"))
"""Settings that may be empty: nobody's key, a region that is unknown, no status, and no leave."""

_URLS: Final = frozenset(("database", "operator_database", "sequencer_database", "public_url"))
"""Settings that refuse an empty text by themselves, and say what is to stand there."""

_POSTGRES = ("postgresql://", "postgresql+psycopg://")


def _sqlite_or_postgres(url: str) -> str:
    if not url.startswith(("sqlite:///", *_POSTGRES)):
        raise ValueError("must be a URL such as sqlite:///engine.db or postgresql://WRITER@HOST/DATABASE")
    return url


def _postgres(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(_POSTGRES):
        raise ValueError("must be a URL such as postgresql://OPERATOR@HOST/DATABASE")
    return url


def _statuses(text: str) -> str:
    _read_statuses(text)
    return text


def _identifier(url: str) -> str:
    """Refuse what cannot identify a decision point in the metadata (AuthZEN 1.0 section 9.1: https, no query)."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme == "https" and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # brackets without an end, a port that is no number
        sound = False
    if not sound or not url.isprintable() or any(mark in url for mark in '?#@ <>"{}|\\^`'):
        raise ValueError("must be an https URL without user, query and fragment, such as https://pdp.example")
    return url


def _read_statuses(text: str) -> tuple[tuple[str, int], ...]:
    """Return reason codes with their statuses. Raises `ValueError` for what a deny may not be."""
    lines = [line.partition("=") for line in text.split(",") if line.strip()]
    if not all(code.strip() and number.strip() in ("403", "404", "451") for code, _, number in lines):
        raise ValueError("must be reason codes with 403, 404 or 451, such as directive=451, model.unknown=404")
    return tuple((code.strip(), int(number)) for code, _, number in lines)


class Settings(BaseSettings):
    """All settings with their defaults; names are the field's in upper case behind `POLICY_ENGINE_`."""

    model_config = SettingsConfigDict(
        env_prefix="POLICY_ENGINE_", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    database: Annotated[str, AfterValidator(_sqlite_or_postgres)] = "sqlite:///engine.db"
    operator_database: Annotated[SecretStr, AfterValidator(_postgres)] | None = None
    """On PostgreSQL, the login through which orders, facts, keys, approvals and releases are changed."""
    sequencer_database: Annotated[SecretStr, AfterValidator(_postgres)] | None = None
    """On PostgreSQL, the login through which this process integrates the tree; on one or two machines, not on all."""
    log_key: Path | None = None
    """Where this process integrates on PostgreSQL, the file with the key that signs checkpoints."""
    log_origin: str | None = None
    """The name of the log in its checkpoints; made with the first one where nobody named it."""
    policies: Path = Path("policies")
    keys: Path | None = None
    """The key file; by default `<database>.keys` beside an SQLite database."""
    epoch_file: Path | None = None
    """Where the farthest epoch is remembered; by default beside the key file of an SQLite database, else nowhere."""
    witnesses: Path | None = None
    """The file of witnesses that cosign our checkpoints; without one nobody outside remembers our tree."""
    cells: Path | None = None
    """The file of the other cells; without one, orders of other cells are nothing that this process knows of."""
    cells_tier: int = Field(default=4, ge=1, le=5)
    """From this tier on, nothing is allowed while another cell has not confirmed what is in force there."""
    tokens: Path | None = None
    """The file of issuers whose tokens (JWT) are taken from callers over HTTP; without one none is."""
    key: SecretStr | None = None
    """The API key the command line acts as; without one it is the service principal `local`."""
    serving_region: str | None = None
    """Used where a request names no serving region."""
    host: str = "127.0.0.1"
    port: int = Field(default=8181, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    grpc_port: int | None = Field(default=None, ge=0, le=65_535)
    """Where Envoy's ext_authz is served over gRPC, beside HTTP; not at all without one. Needs the extra `envoy`."""
    grpc_host: str = "127.0.0.1"
    grpc_plaintext: str = ""
    """`yes` lets gRPC listen beyond loopback without TLS: the network between is private then."""
    tls_certificate: Path | None = None
    """The certificate chain (PEM) with which HTTP and gRPC are served over TLS; without one both are in clear."""
    tls_key: Path | None = None
    """Its key (PEM, without a password)."""
    tls_client_authorities: Path | None = None
    """The authorities (PEM) one of which must have signed a client's certificate; without them none is asked for."""
    deny_statuses: Annotated[str, AfterValidator(_statuses)] = ""
    """What clients behind proxies are shown for a deny, by reason code or its beginning: `directive=451, model=404`."""
    deny_detail: Detail = Detail.CLASS
    """How much such a deny says: `reference`, `class` or `codes`."""
    blocked_by: str | None = None
    """The address of who blocks, for the `Link` of a 451."""
    docs_url: str | None = None
    """Where somebody who was denied can read what to do."""
    public_url: Annotated[str, AfterValidator(_identifier)] = "https://127.0.0.1:8181"
    """The https identifier of this decision point in the AuthZEN metadata."""
    valid_for_ms: int = Field(default=LIMITS.valid_for_milliseconds, ge=0, le=60_000)
    retention_days: int = Field(default=3_653, ge=1, le=36_525)
    """Sealed parts younger than so many days are never pruned; ten years by default."""
    sample_world: str = ""
    """`yes` lets a sample world run on a host that is not loopback; it warns."""
    docs: bool = False
    """Serve the interactive API documentation."""

    @field_validator("*", mode="before")
    @classmethod
    def _text(cls, value: Any, setting: ValidationInfo) -> Any:
        """Refuse what is empty, unless that says something, and bytes that are no text: no entry could hold them.

        An empty host would be every address of the machine, and an empty file the folder that somebody stands in.
        """
        if value == "" and setting.field_name not in _EMPTY_SAYS | _URLS:
            raise ValueError("is empty; give it a value, or take the variable away")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # as halves of surrogate pairs bytes arrive that are no UTF-8
                raise ValueError("is not UTF-8 text; write it in UTF-8") from None
        return value

    @model_validator(mode="after")
    def _worded(self) -> Settings:
        """Refuse an address that could not stand in a header: making the wording raises."""
        _ = self.wording
        return self

    @property
    def wording(self) -> Wording:
        """Return how denies are worded for clients behind proxies."""
        return Wording(_read_statuses(self.deny_statuses), self.blocked_by, self.docs_url, self.deny_detail)

    @property
    def on_postgres(self) -> bool:
        """Return whether the database is PostgreSQL."""
        return self.database.startswith(_POSTGRES)

    @property
    def may_change(self) -> bool:
        """Return whether this process has a login that may change orders, facts, keys, approvals and releases."""
        return not self.on_postgres or self.operator_database is not None

    @property
    def shown_database(self) -> str:
        """Return the database's URL without user, password and parameters."""
        if not self.on_postgres:
            return self.database
        scheme, _, rest = self.database.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"

    @property
    def database_path(self) -> Path:
        """Return the SQLite file of the database URL."""
        return Path(self.database.removeprefix("sqlite:///"))

    @property
    def remembered(self) -> Path | None:
        """Return the file that remembers the farthest epoch, `None` on PostgreSQL where no setting names one."""
        if self.epoch_file is not None or self.on_postgres:
            return self.epoch_file
        return Path(f"{self.key_file}.epoch")

    @property
    def key_file(self) -> Path:
        """Return the key file's path. Raises `StartRefused` where only a setting can name it."""
        if self.keys is None and self.on_postgres:
            raise StartRefused(
                "a PostgreSQL database has no key file beside it: name one, the same on every machine that serves it",
                where="POLICY_ENGINE_KEYS",
            )
        return self.keys if self.keys is not None else Path(f"{self.database_path}.keys")


_READ_ELSEWHERE: Final = ("URL", "PROBE_CREDENTIAL")
_BEGINNINGS_READ_ELSEWHERE: Final = ("GUARD_", "GATEWAY_")
"""What doors of their own read: the client, the probe, model servers and gateways; they refuse others."""


def unread_variables(environment: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return the variables that begin as settings do and are none, each with the setting that is spelt most alike."""
    prefix = str(Settings.model_config["env_prefix"])
    known = [*map(str.upper, Settings.model_fields), *_READ_ELSEWHERE]
    unread = []
    for variable in sorted(each for each in environment if each.upper().startswith(prefix)):
        name = variable.upper().removeprefix(prefix)
        if name not in known and not name.startswith(_BEGINNINGS_READ_ELSEWHERE):
            near = get_close_matches(name, known, 1)
            unread.append((variable, f"{prefix}{near[0]}" if near else None))
    return unread
