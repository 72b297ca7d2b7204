"""The search endpoints as one raw ASGI application: `/access/v1/search/subject`, `.../resource` and `.../action`.

The steps of an exchange, after 1. to 5. of `posted`, numbered in `_answer`: 6. listing, 7. page, 8. answer.
A search that cannot be made is a problem document, whatever the reason: an empty listing would say that nothing is
allowed. Searches are work; few may wait for their turn, and whoever comes beyond those is told so at once.
Left to others: bodies and headers (`authzensearch`), pages and entries (`services.listings`).
"""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from policy_engine.api import problems
from policy_engine.api.authzensearch import read_search, search_body, search_headers
from policy_engine.api.callers import Keys
from policy_engine.api.exchange import JSON, NO_STORE, Send, answer, answer_problem
from policy_engine.api.metrics import Metrics
from policy_engine.api.posted import Posted, PostedApp
from policy_engine.core.decision import Principal
from policy_engine.limits import LIMITS, Limits
from policy_engine.services.queries import Listing, Page, Sought

SEARCH: Final = "/access/v1/search/"
PATHS: Final = {SEARCH + str(sought): sought for sought in Sought}


class Lister(Protocol):
    """The part of the listing service that these endpoints need."""

    def page_async(self, principal: Principal, listing: Listing, /) -> AbstractAsyncContextManager[Page]:
        """Offer a page after its entry is durable; it is on its way until the context ends."""
        ...


class SearchApp(PostedApp):
    """The raw ASGI application of the three endpoints. The caller routes `PATHS`, and nothing else, to it."""

    failed = "search.failed"

    def __init__(self, lister: Lister, keys: Keys, metrics: Metrics, limits: Limits = LIMITS) -> None:
        super().__init__(keys, metrics, limits)
        self._lister = lister
        self._under_way = 0

    async def _answer(self, posted: Posted, send: Send) -> None:
        listing = read_search(PATHS[posted.path], posted.body, self._limits)  # 6
        if self._under_way >= self._limits.searches_count:
            self._metrics.refused(503)
            return await answer_problem(send, problems.busy(), posted.head.request_id)
        self._under_way += 1
        try:
            async with self._lister.page_async(posted.caller.principal, listing) as page:  # 7
                if page.epoch != posted.caller.epoch:
                    self._check_caller(posted)
                body = search_body(listing, page, paged=posted.body.get("page") is not None)
                headers = [JSON, NO_STORE, *search_headers(page)]
                self._metrics.searched(str(listing.sought), time.perf_counter() - posted.began)
                await answer(send, 200, body, headers, posted.head.request_id)  # 8
        finally:
            self._under_way -= 1
