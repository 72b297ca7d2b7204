"""A listing in pages, as Anthropic's `/v1/models` has it: behind which model, before which one, and how many."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

ALL = ("mythos-5", "summit-4", "never-heard-of", "open-1", "fable-5", "unknown/one & another", "opus-4-8", "mythos-6")
"""The whole listing, in the order in which it is listed; some of it is for nobody."""


def page(query: str, models: tuple[str, ...] = ALL) -> dict[str, Any]:
    """Return the page that a query asks for."""
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    limit = int(asked.get("limit", "2"))
    if "before_id" in asked:
        left = models[: models.index(asked["before_id"])]
        found, more = left[-limit:], len(left) > limit
    else:
        left = models[models.index(asked["after_id"]) + 1 :] if "after_id" in asked else models
        found, more = left[:limit], len(left) > limit
    return {
        "data": [{"id": id, "type": "model", "display_name": id, "created_at": "2026-01-01T00:00:00Z"} for id in found],
        "has_more": more,
        "first_id": found[0] if found else None,
        "last_id": found[-1] if found else None,
    }
