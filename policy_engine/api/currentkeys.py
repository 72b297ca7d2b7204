"""The callers of an open engine: its keys, and the tokens of the issuers that its settings name.

Rules of the room: a token is verified before anything is asked of the store, by code that never waits; it lets in as
the row that was registered for its issuer and subject, and as nothing else. Without issuers a token is an unknown key.
Left to others: the header (`callers`), the register (`services.keys`), verifying and fetching (`tokens`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from policy_engine.api.callers import Authenticated
from policy_engine.errors import NotAuthenticated

if TYPE_CHECKING:
    from policy_engine.bootstrap import Engine
    from policy_engine.tokens.issuers import Vouched


class CurrentKeys:
    """Authentication by the keys and issuers of the engine, at the store's own clock."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._issuers = engine.issuers

    def authenticate(self, token: str, *, fresh: bool) -> Authenticated:
        """Return the principal of a living key or a good token; raise `NotAuthenticated` otherwise.

        A key that the epoch of the decisions does not know may have been made since: then the store is asked.
        """
        vouched = self._vouched(token)
        if not fresh:
            epoch = self._engine.snapshots.current().state.epoch
            try:
                return self._under(token, vouched, epoch)
            except NotAuthenticated:
                if self._engine.store.state().epoch == epoch:
                    raise
        return self._under(token, vouched, self._engine.store.state().epoch)

    async def ready(self, token: str) -> None:
        """Wait, bounded, for the keys that a token may need."""
        if self._issuers is not None and _is_token(token):
            await self._issuers.ready(token)

    def now(self) -> int:
        """Return the store's clock."""
        return self._engine.store.now()

    def begin(self) -> None:
        """Begin to fetch the keys of issuers, so that the first token finds them."""
        if self._issuers is not None:
            self._issuers.begin()

    def _vouched(self, token: str) -> Vouched | None:
        """Return whom a token is about, `None` for what is a key or nothing. Raises as `vouch` does."""
        if self._issuers is None or not _is_token(token):
            return None
        return self._issuers.vouch(token)

    def _under(self, token: str, vouched: Vouched | None, epoch: int) -> Authenticated:
        keys, now = self._engine.keys, self._engine.store.now()
        if vouched is None:
            return Authenticated(keys.authenticate(token, now, epoch=epoch), epoch)
        principal = keys.authenticate_identity(vouched.identity, now, epoch=epoch)
        return Authenticated(principal, epoch, vouched.until)


def _is_token(text: str) -> bool:
    """Return whether a text has the form of a token: three parts with points between them."""
    return text.count(".") == 2
