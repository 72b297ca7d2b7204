"""What pydantic found wrong, in words that name our members and never a caller's.

Rules of the room: a place is made of the names of our models and of positions; a name that a caller made up (an unknown
member, a key of a free object) is written as `*`, for it may be a person's. Sentences are pydantic's own, which hold no
input, or ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from fastapi.exceptions import RequestValidationError

from policy_engine.api.documents import Strict

ERRORS_MAX: Final = 20
_SOURCES: Final = ("body", "query", "path", "header", "id", "hash")


def places_of(error: RequestValidationError) -> list[dict[str, str]]:
    """Return up to `ERRORS_MAX` places with one sentence each."""
    return [
        {"where": ".".join(_part(part) for part in each["loc"]), "detail": str(each["msg"])}
        for each in error.errors()[:ERRORS_MAX]
    ]


def _part(part: int | str) -> str:
    return str(part) if isinstance(part, int) or part in _our_names() else "*"


@cache
def _our_names() -> frozenset[str]:
    """Return the member names of all our models; they are all defined before the first request comes."""
    return frozenset(_SOURCES).union(*(model.model_fields for model in _models(Strict)))


def _models(kind: type[Strict]) -> Iterator[type[Strict]]:
    for each in kind.__subclasses__():
        yield each
        yield from _models(each)
