"""AuthZEN 1.0 search bodies: a parsed object in, a listing out; a page in, bytes and headers out.

Rules of the room (OpenID AuthZEN Authorization API 1.0, sections on the three search APIs):
- A search is an evaluation with one id left open, and is read as one. What stands in the open place beside the type
  (a stray id, properties, the `action` of an action search) is ignored: an answer names its results by type and id, and
  they must be allowed when asked for just so.
- `page` comes first in an answer. It is there when it was asked for, when there is a next page, and when a listing
  cannot be complete (`page.properties.complete` is false then, and never there otherwise).
- Equal questions get equal bytes: epoch, release, validity and the id of the entry stand in headers.
Left to others: bytes (`parse`), evaluation bodies (`authzen`), pages and tokens (`services.listings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from policy_engine.api.authzen import read_evaluation
from policy_engine.api.problems import Headers
from policy_engine.core.decision import Request
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.queries import Listing, Page, Sought

_OPEN: Final = "-"
"""Stands for the id left open while a body is read; no candidate is asked about with it."""
_FIXED: Final = ("subject", "action", "resource", "context")


def read_search(sought: Sought, body: Mapping[str, Any], limits: Limits = LIMITS) -> Listing:
    """Return the listing that a search body asks for. Raises `InputRefused` naming the member that is wrong."""
    filled = {name: body[name] for name in _FIXED if name in body}
    if sought is Sought.ACTION:
        filled["action"] = {"name": _OPEN}
    elif type(filled.get(sought)) is dict:
        filled[str(sought)] = {**filled[sought], "id": _OPEN}
    request = read_evaluation(filled, limits)
    token, limit = _page(body)
    return Listing(sought, _without(request, sought), limit, token)


def search_body(listing: Listing, page: Page, *, paged: bool) -> bytes:
    """Return the body that answers a search; `paged` says that the caller asked for pages."""
    answer: dict[str, Any] = {}
    if paged or page.next_token or not page.complete:
        answer["page"] = {"next_token": page.next_token, "count": len(page.found)}
        if not page.complete:
            answer["page"]["properties"] = {"complete": False}
    answer["results"] = [_entity(listing, id) for id in page.found]
    return orjson.dumps(answer)


def search_headers(page: Page) -> Headers:
    """Return what the body leaves out: the id of the search's entry, epoch, release and validity."""
    headers = [
        (b"policy-engine-valid-for-ms", b"%d" % page.valid_for_ms),
        (b"policy-engine-decision-ids", page.id.encode("latin-1")),
        (b"policy-engine-epoch", b"%d" % page.epoch),
    ]
    if page.release:
        headers.append((b"policy-engine-release", page.release.encode("latin-1")))
    return headers


def _without(request: Request, sought: Sought) -> Request:
    raw = {name: member for name, member in request.raw.items() if name != sought}
    return Request(
        subject_id="" if sought is Sought.SUBJECT else request.subject_id,
        action="" if sought is Sought.ACTION else request.action,
        model="" if sought is Sought.RESOURCE else request.model,
        tenant=request.tenant,
        location=request.location,
        serving_region=request.serving_region,
        subject_type=request.subject_type,
        resource_type=request.resource_type,
        raw=raw,
    )


def _page(body: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Return token and limit; a member that is null is not there."""
    page = body.get("page")
    if page is None:
        return None, None
    if type(page) is not dict:
        raise InputRefused("must be an object", where="page")
    return _token(page.get("token")), _limit(page.get("limit"))


def _token(token: Any) -> str | None:
    if token is None:
        return None
    if type(token) is not str:
        raise InputRefused("must be a string", where="page.token")
    if not token:
        raise InputRefused("is empty: that listing has ended; leave it out to begin another", where="page.token")
    return token


def _limit(limit: Any) -> int | None:
    if type(limit) is float and limit.is_integer():
        limit = int(limit)  # JSON has one kind of number: 1e3 and 1000 are the same
    if limit is None or (type(limit) is int and limit >= 0):
        return limit
    raise InputRefused("must be a whole number, 0 or more", where="page.limit")


def _entity(listing: Listing, id: str) -> dict[str, str]:
    if listing.sought is Sought.ACTION:
        return {"name": id}
    request = listing.request
    return {"type": request.subject_type if listing.sought is Sought.SUBJECT else request.resource_type, "id": id}
