"""`/v1/revocations`: what changes, told to enforcement points as it happens (Server-Sent Events).

Left to others: who is told what and when (`api.feed`), the bytes (`api.eventstream`); `docs/revocations.md` has both.
"""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Header, Request, Response

from policy_engine.api import problems
from policy_engine.api.access import READING, Caller, Until, route_options
from policy_engine.api.eventstream import MEDIA_TYPE, EventStream
from policy_engine.api.feed import Feed, TooManyStreams

router = APIRouter(tags=["revocations"])

LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", pattern="^[0-9]{1,18}$")]


def _options() -> dict[str, Any]:
    options = route_options("decide", problems=READING)
    described = {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}
    options["responses"] = {**options["responses"], 200: described}
    return {**options, "response_class": Response}


@router.get("/v1/revocations", **_options())
async def follow_revocations(
    request: Request, principal: Caller, until: Until, last_event_id: LastEventId = None
) -> Response:
    """Follow changes of the epoch; with `Last-Event-ID`, from the epoch that was heard last."""
    feed = cast(Feed, request.app.state.feed)
    try:
        stream = await feed.open(principal, None if last_event_id is None else int(last_event_id), until)
    except TooManyStreams:
        problem = problems.busy()
        headers = {name.decode("ascii"): value.decode("ascii") for name, value in problem.headers}
        return Response(problem.body(), problem.status, headers, problems.MEDIA_TYPE)
    return EventStream(feed, stream)
