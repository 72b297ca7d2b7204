"""The file of token issuers: whose tokens are taken, for which audience, and where each issuer's keys are.

Rules of the room:
- The text is read strictly: a JSON list of objects, no member twice, none that is not known, each issuer once. An
  anchor that is misspelt must not widen what is believed in silence.
- What is wrong is said by the number of the anchor and its member; no value is repeated.
- A pinned key set is read here, so that one which could verify nothing refuses the start; a URL is not asked yet.
Left to others: verifying a token (`verifying`), fetching keys (`keysets`), choosing among issuers (`issuers`).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from policy_engine.errors import InputRefused, StartRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.tokens.identity import is_issuer
from policy_engine.tokens.keysets import KeySource, key_source, require_extra
from policy_engine.tokens.verifying import ALGORITHMS, LEEWAY_SECONDS_MAX, TYPES

MEMBERS: Final = ("issuer", "audience", "jwks", "algorithms", "claim", "types", "leeway_seconds")
_NEEDED: Final = frozenset(("issuer", "audience", "jwks"))
_DEFAULTS: Final[dict[str, Any]] = {
    "algorithms": ["RS256"],
    "claim": "sub",
    "types": sorted(TYPES),
    "leeway_seconds": 0,
}


@dataclass(frozen=True, slots=True)
class Anchor:
    """One issuer that is believed: for this audience, by these keys, about the subject that `claim` names."""

    issuer: str
    audience: str
    keys: KeySource
    algorithms: tuple[str, ...]
    claim: str
    types: tuple[str, ...]
    leeway_seconds: float


def read_anchors(path: Path, limits: Limits = LIMITS) -> tuple[Anchor, ...]:
    """Return the anchors of a file; a relative `jwks` lies beside it.

    Raises `StartRefused` with the anchor and member that is wrong, or the file when it is wrong as a whole.
    """
    where = str(path)
    require_extra(where)
    try:
        with path.open("rb") as file:
            data = file.read(limits.document_bytes + 1)
        if len(data) > limits.document_bytes:
            raise StartRefused(f"the file of issuers is larger than {limits.document_bytes} bytes", where=where)
        listed = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except OSError:
        raise StartRefused("the file of issuers cannot be read", where=where) from None
    except (ValueError, RecursionError):
        raise StartRefused("the file of issuers is not JSON in UTF-8 whose members stand once", where=where) from None
    if not isinstance(listed, list) or not 0 < len(listed) <= limits.token_issuers_count:
        raise StartRefused(
            f"the file of issuers holds a list of 1 to {limits.token_issuers_count} objects", where=where
        )
    found = tuple(_anchor(each, path.parent, f"{where}: issuer {number}") for number, each in enumerate(listed, 1))
    if len({anchor.issuer for anchor in found}) < len(found):
        raise StartRefused("an issuer stands twice in the file; name each once", where=where)
    return found


def _anchor(given: Any, folder: Path, where: str) -> Anchor:
    if not isinstance(given, dict) or not set(given) <= set(MEMBERS) or not set(given) >= _NEEDED:
        raise StartRefused(
            f"must be an object with issuer, audience and jwks; it may hold {', '.join(MEMBERS[3:])}, and nothing else",
            where=where,
        )
    told = {**_DEFAULTS, **given}
    for member in ("issuer", "audience", "jwks", "claim"):
        if not is_issuer(told[member]):
            raise StartRefused(
                "must be a text of 1 to 256 characters without control characters", where=f"{where}: {member}"
            )
    leeway = told["leeway_seconds"]
    if isinstance(leeway, bool) or not isinstance(leeway, int | float) or not 0 <= leeway <= LEEWAY_SECONDS_MAX:
        raise StartRefused(f"must be a number from 0 to {LEEWAY_SECONDS_MAX}", where=f"{where}: leeway_seconds")
    return Anchor(
        issuer=told["issuer"],
        audience=told["audience"],
        keys=_keys(told["jwks"], folder, f"{where}: jwks"),
        algorithms=_words(told["algorithms"], ALGORITHMS, f"{where}: algorithms"),
        claim=told["claim"],
        types=_words(told["types"], None, f"{where}: types"),
        leeway_seconds=float(leeway),
    )


def _keys(jwks: str, folder: Path, where: str) -> KeySource:
    try:
        return key_source(jwks if "://" in jwks else folder / jwks)
    except InputRefused as refused:
        raise StartRefused(refused.message, where=where) from None


def _words(given: Any, known: Collection[str] | None, where: str) -> tuple[str, ...]:
    """Return a list of words, each once; `known` are those there are, where that is settled."""
    if not isinstance(given, list) or not given or not all(isinstance(each, str) and each for each in given):
        raise StartRefused("must be a list of texts, at least one", where=where)
    if known is not None and not set(given) <= set(known):
        raise StartRefused(f"must be among {', '.join(sorted(known))}", where=where)
    return tuple(dict.fromkeys(given))


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members
