"""The engine in this process, behind the calls that a program makes (`embed`); its twin from afar is `remote`.

The embedding process is a trusted caller: it acts as the service principal `local`, which decides and supplies
location and serving region. Same path, same evidence, same refusals as the service.
Left to others: opening (`bootstrap`), checking questions (`core.questions`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from weakref import WeakSet

from pydantic import ValidationError

from policy_engine.bootstrap import Engine, open_engine
from policy_engine.core.decision import Decision, Reason, Request
from policy_engine.core.enforcing import Hold
from policy_engine.core.listed import Listed
from policy_engine.errors import InputRefused, StoreUnavailable
from policy_engine.limits import LIMITS
from policy_engine.logs import configure_embedded
from policy_engine.services.decide import Given
from policy_engine.services.permissions import LOCAL
from policy_engine.services.queries import Listing, Page, Sought
from policy_engine.settings import Settings

FORKED: Final = "engine.forked"
_FORKED: Final = "This process was forked after its engine was opened, so it cannot decide: open one in each process."

_OPEN: Final[WeakSet[InProcess]] = WeakSet()
"""The engines that this process has open, for whoever is forked from it."""


class InProcess:
    """An open engine of this process. Safe to use from several threads and event loops.

    Neither its threads nor its connections survive a fork: in a forked process it denies, what it held has ended, and
    closing does nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        engine.decider.giver = self
        self._process = os.getpid()
        _OPEN.add(self)

    @classmethod
    def open(cls, policies: str | Path, database: str, settings: dict[str, Any]) -> InProcess:
        """Open a database with a policies folder, as one of the replicas on it. Raises what opening raises, and
        `InputRefused` for a setting that is not known or wrong: a misspelt one would open another engine."""
        configure_embedded()
        return cls(
            open_engine(_settings({"policies": Path(policies), "database": database, **settings}), embedded=True)
        )

    def __deepcopy__(self, memo: object) -> InProcess:
        """Return the engine itself: a decision that is copied or made a mapping is still of this one."""
        return self

    def decide(self, request: Request, *, explained: bool = False) -> Decision:
        """Return the decision once its entry is durable."""
        if self._process != os.getpid():
            return _forked(request)
        return self.engine.decider.decide(request, LOCAL, explained=explained)

    async def decide_async(self, request: Request, *, explained: bool = False) -> Decision:
        """The same, waiting on the running event loop."""
        if self._process != os.getpid():
            return _forked(request)
        return await self.engine.decider.decide_async(request, LOCAL, explained=explained)

    def decide_many(self, requests: Sequence[Request]) -> list[Decision]:
        """Return one decision a request, in order."""
        if self._process != os.getpid():
            return [_forked(request) for request in requests]
        return [each for part in _parts(requests) for each in self.engine.decider.decide_many(part, LOCAL)]

    async def decide_many_async(self, requests: Sequence[Request]) -> list[Decision]:
        """The same, waiting on the running event loop."""
        if self._process != os.getpid():
            return [_forked(request) for request in requests]
        decider = self.engine.decider
        return [each for part in _parts(requests) for each in await decider.decide_many_async(part, LOCAL)]

    def who_can(self, request: Request) -> Listed:
        """Return the subjects of the request's type that may. Raises `StoreUnavailable`."""
        return self._listed(Sought.SUBJECT, request)

    async def who_can_async(self, request: Request) -> Listed:
        """The same, waiting on the running event loop."""
        return await self._listed_async(Sought.SUBJECT, request)

    def what_can(self, request: Request) -> Listed:
        """Return the models that the subject may use. Raises `StoreUnavailable`."""
        return self._listed(Sought.RESOURCE, request)

    async def what_can_async(self, request: Request) -> Listed:
        """The same, waiting on the running event loop."""
        return await self._listed_async(Sought.RESOURCE, request)

    def hold(self, decision: Decision) -> Hold:
        """Watch an allow from now on; one whose budget is spent, or that something overtook, is asked for again first.

        Raises `ValueError` for a deny, or for a decision of another engine.
        """
        grant: object = decision.grant
        if not isinstance(grant, Given) or grant.engine is not self or self._process != os.getpid():
            raise ValueError("only an allow that this engine gave can be held")
        return self.engine.uses.hold(decision)

    def close(self) -> None:
        """Write what is queued and close the database, unless that is another process's to do."""
        if self._process == os.getpid():
            self.engine.close()

    def _require_own(self) -> None:
        """Raise `StoreUnavailable` in a forked process: a listing cannot deny."""
        if self._process != os.getpid():
            raise StoreUnavailable(_FORKED, where="engine")

    def _listed(self, sought: Sought, request: Request) -> Listed:
        self._require_own()
        listing = Listing(sought, request)
        pages: list[Page] = []
        while not pages or pages[-1].next_token:
            pages.append(self.engine.listings.page(LOCAL, listing))
            listing = replace(listing, token=pages[-1].next_token)
        return _whole(pages)

    async def _listed_async(self, sought: Sought, request: Request) -> Listed:
        self._require_own()
        listing = Listing(sought, request)
        pages: list[Page] = []
        while not pages or pages[-1].next_token:
            async with self.engine.listings.page_async(LOCAL, listing) as page:
                pages.append(page)
            listing = replace(listing, token=page.next_token)
        return _whole(pages)


def _whole(pages: Sequence[Page]) -> Listed:
    """Return what pages list together: all that there is only where each says so, as the release may have changed."""
    return Listed(tuple(id for page in pages for id in page.found), all(page.complete for page in pages))


def _parts(requests: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """Split requests as an engine asked from afar does: together, more than the log lets wait would all be denied."""
    size = LIMITS.evaluations_count
    return (requests[start : start + size] for start in range(0, len(requests), size))


def _settings(given: dict[str, Any]) -> Settings:
    unknown = sorted(given.keys() - Settings.model_fields.keys())
    if unknown:
        known = ", ".join(sorted(Settings.model_fields))
        raise InputRefused(f"is no setting of the engine; these are: {known}", where=unknown[0])
    try:
        return Settings(**given)
    except ValidationError as refused:
        first = refused.errors(include_url=False, include_input=False, include_context=False)[0]
        named = "_".join(str(part) for part in first["loc"]) or "settings"
        raise InputRefused(str(first["msg"]).removeprefix("Value error, "), where=named) from None


def _leave_behind() -> None:
    """End, in a forked process, what its parent's engines hold: nobody here would hear of a withdrawal."""
    for each in list(_OPEN):
        each.engine.uses.abandon(_forked)


os.register_at_fork(after_in_child=_leave_behind)


def _forked(request: Request) -> Decision:
    return Decision(False, "", (Reason(FORKED, "engine", _FORKED),), (), (), "", 0, 0, _FORKED, asked=request)
