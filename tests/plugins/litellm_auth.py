"""Who calls the LiteLLM proxy of the tests: its `custom_auth`, which knows a key of each person it needs."""

from __future__ import annotations

from fastapi import HTTPException, Request
from litellm.proxy._types import UserAPIKeyAuth


def person(user: str, team: str, location: str) -> UserAPIKeyAuth:
    """Return the record of a person's key, as LiteLLM has it from its database."""
    return UserAPIKeyAuth(user_id=user, team_id=team, team_metadata={"location": location})


PEOPLE = {
    "sk-alice": person("alice", "acme", "US"),
    "sk-bruno": person("bruno", "acme-de", "DE"),
    "sk-chen": person("chen", "lab", "US"),
    "sk-eve": person("eve", "acme", "US"),
    "sk-greg": person("greg", "lab", "US"),
    "sk-ines": person("ines", "annexco", "US"),
    "sk-nobody": UserAPIKeyAuth(team_id="acme", team_metadata={"location": "US"}),
    "sk-placeless": UserAPIKeyAuth(user_id="alice", team_id="acme"),
    "sk-routed": person("alice", "acme", "US").model_copy(
        update={"router_settings": {"num_retries": 1}, "allowed_model_region": "us"}
    ),
    "sk-teamless": UserAPIKeyAuth(user_id="alice", metadata={"location": "US"}),
}


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    """Return the record of a key. Raises 401 for any other."""
    if api_key not in PEOPLE:
        raise HTTPException(401, "unknown key")
    return PEOPLE[api_key].model_copy(update={"api_key": api_key})
