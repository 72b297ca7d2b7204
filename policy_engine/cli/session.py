"""One run of a command: its settings, the opened engine, and whom it acts as.

Rules of the room: the command acts as the key in POLICY_ENGINE_KEY, without one as the service principal `local`;
the key is never printed. Keys made while an empty database was filled are printed once, on standard error. The
engine is closed, and what it queued written, before the command ends. Left to others: what may be done (`services`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policy_engine.cli import output
from policy_engine.errors import InputRefused, NotAuthenticated, NotFound

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.core.decision import Principal
    from policy_engine.core.plain import AnyRelease
    from policy_engine.settings import Settings

_KEY = "POLICY_ENGINE_KEY"


@dataclass(frozen=True, slots=True)
class Session:
    """An open engine and the principal that the command acts as."""

    engine: Engine
    principal: Principal

    def release(self) -> AnyRelease:
        """Return the active release. Raises `NotFound` while none is active."""
        release = self.engine.snapshots.refresh().release
        if release is None:
            raise NotFound("no release is active yet; publish one and have it approved")
        return release


def read_settings(**given: Any) -> Settings:
    """Return the settings of the environment, with what the command line gave over them.

    Raises `InputRefused` naming the setting, never its value.
    """
    from pydantic import ValidationError

    from policy_engine.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as refused:
        first = refused.errors(include_url=False, include_input=False)[0]
        name = "_".join(str(part) for part in first["loc"]) or "BLOCKED_BY, POLICY_ENGINE_DOCS_URL"
        raise InputRefused(
            str(first["msg"]).removeprefix("Value error, "), where=f"POLICY_ENGINE_{name.upper()}"
        ) from None


@contextmanager
def opened(*, clock: Callable[[], int] | None = None, **given: Any) -> Iterator[Session]:
    """Open the engine on the configured database and policies folder, and close it at the end."""
    from policy_engine import logs
    from policy_engine.bootstrap import open_engine

    settings = read_settings(**given)
    logs.configure(level="error")
    engine = open_engine(settings, clock=clock)
    try:
        announce_keys(engine)
        yield Session(engine, acting_principal(engine, settings))
    finally:
        engine.close()


def acting_principal(engine: Engine, settings: Settings) -> Principal:
    """Return the principal of POLICY_ENGINE_KEY, or `local` without one. Raises `NotAuthenticated` for a bad key."""
    if settings.key is None or not settings.key.get_secret_value():
        from policy_engine.services.permissions import LOCAL

        return LOCAL
    key = settings.key.get_secret_value()
    if key.count(".") == 2:
        raise NotAuthenticated("is a token (JWT); the command line acts as a key, which begins with pe_", where=_KEY)
    return engine.keys.authenticate(key, engine.store.now())


def announce_keys(engine: Engine) -> None:
    """Print, once, the keys that were made when this process filled an empty database."""
    for key in engine.sample_keys:
        output.note(f"{key.label}: {key.secret}")
