"""Who calls: what a second look at a key finds, beyond what the decision endpoints show."""

from __future__ import annotations

import pytest

from policy_engine.api.callers import Authenticated, identify_again, identify_now
from policy_engine.core.decision import Principal, PrincipalKind
from policy_engine.errors import NotAuthenticated, StoreUnavailable
from tests.api import doors

HEADER = b"Bearer " + doors.KEY.encode()


def test_a_key_that_is_what_it_was_passes_the_second_look() -> None:
    """Nothing is raised while key and principal stay, whatever the epoch."""
    before = identify_now(doors.TwoKeys(epoch=6), HEADER)
    identify_again(doors.TwoKeys(epoch=7), HEADER, before)


def test_a_key_that_now_belongs_to_another_principal_does_not() -> None:
    """Scopes or tenants that changed meanwhile are a new caller, who has to ask again."""
    wider = Principal("gateway", PrincipalKind.SERVICE, frozenset(["decide", "audit:read"]), key_id="k1")
    with pytest.raises(NotAuthenticated, match="changed"):
        identify_again(doors.TwoKeys(), HEADER, Authenticated(wider, 6))


def test_a_register_that_cannot_be_read_authenticates_nobody() -> None:
    """Unreadable keys are an outage, not an answer about the key."""

    class Away(doors.TwoKeys):
        """Keys whose register is gone."""

        def authenticate(self, token: str, *, fresh: bool) -> Authenticated:
            """Say that nothing is known."""
            raise StoreUnavailable("the database cannot be read")

    reply = doors.ask(doors.door(keys=Away()), {})
    assert (reply.status, reply.header("retry-after")) == (503, "1")
