"""`/v1/log/checkpoint`, `/v1/log/key`, `/v1/log/tile/...`: the tree over the log, in C2SP's tlog-tiles layout.

Leaves, hashes and signatures only: nothing personal. A tile of a given width never changes and may be kept for ever.
Left to others: what they prove (`ledger`), proofs of single entries.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from policy_engine.api.access import READING_ONE, Caller, OpenEngine, route_options
from policy_engine.services.publictree import LEVELS_COUNT, PublicTree

router = APIRouter(prefix="/v1/log", tags=["log"])

TEXT: Final = "text/plain; charset=utf-8"
BYTES: Final = "application/octet-stream"
_FOR_EVER: Final = {"Cache-Control": "private, max-age=31536000, immutable"}
_NOT_KEPT: Final = {"Cache-Control": "no-store"}

Level = Annotated[int, Path(ge=0, lt=LEVELS_COUNT)]
Place = Annotated[str, Path(max_length=64)]


def _options(media_type: str) -> dict[str, Any]:
    options = route_options("audit:read", problems=READING_ONE)
    shown = {"schema": {"type": "string"}}
    options["responses"] = {**options["responses"], 200: {"content": {media_type.partition(";")[0]: shown}}}
    return {**options, "response_class": Response}


@router.get("/checkpoint", **_options(TEXT))
def show_checkpoint(engine: OpenEngine, principal: Caller) -> Response:
    """Show the newest checkpoint, a signed note with the cosignatures of witnesses."""
    return Response(PublicTree(engine.store).checkpoint(), media_type=TEXT, headers=_NOT_KEPT)


@router.get("/key", **_options(TEXT))
def show_key(engine: OpenEngine, principal: Caller) -> Response:
    """Show the verifier key of the log."""
    return Response(PublicTree(engine.store).key() + "\n", media_type=TEXT, headers=_NOT_KEPT)


@router.get("/tile/entries/{place:path}", **_options(BYTES))
def show_leaves(engine: OpenEngine, principal: Caller, place: Place) -> Response:
    """Show the leaves under a tile of the lowest level, each behind its length in two bytes."""
    return Response(PublicTree(engine.store).entries(place), media_type=BYTES, headers=_FOR_EVER)


@router.get("/tile/{level}/{place:path}", **_options(BYTES))
def show_tile(engine: OpenEngine, principal: Caller, level: Level, place: Place) -> Response:
    """Show the hashes of a tile; the number is written as 000, x001/234, or x001/234.p/5 for the first 5."""
    return Response(PublicTree(engine.store).tile(level, place), media_type=BYTES, headers=_FOR_EVER)
