"""Which models a query names, to every reader: at `&` and at `;`, whatever its case, as a list, beside what is no
character.

Rules of the room: a name that only some readers take for the one sought is refused, never passed over. Sentences hold
nothing of the query.
Left to others: where the query stands (the doors), what must agree with it (`middleware.models`, `api.checks.told`).
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS

_NO_NAME: Final = re.compile(r"\[.*|\0.*|[\s\x00-\x1f\x7f]", re.DOTALL)
"""What some readers leave out of the name of a parameter, or take for the beginning of a list."""


def named_in_query(query: str, name: str = "model") -> list[str]:
    """Return every value that a parameter has, in order. Raises `InputRefused` for a query that cannot be read, and
    where another reader would find one more."""
    if not query:
        return []
    try:
        pairs, split = _pairs(query), _pairs(query.replace(";", "&"))
    except ValueError:
        raise InputRefused("cannot be read", where="the query") from None
    wanted = name.casefold()
    found = [value for key, value in pairs if key.casefold() == wanted]
    if len(found) < sum(_NO_NAME.sub("", key).casefold() == wanted for key, _ in split):
        raise InputRefused("must stand plainly in the query, between & signs", where=name)
    return found


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=LIMITS.query_parameters_count)
