"""What a plain Casbin matcher reads of a request: texts, and read-only views of AuthZEN entities.

Rules of the room:
- `r.sub.type`, `r.sub.id` and `r.sub.properties` (of an action: `name` and `properties`) are the entity's own members
  and win over properties of the same name; every other name is a property. `r.sub.properties.x` reaches them all.
- A name that is not there raises, so that the rule errs and the request is denied; it is never an empty value.
- A view has no attribute and no method that a request's key could shadow or reach (`items`, `keys`, `__class__`): the
  only way in is `view[name]`, which Casbin's evaluator takes when an attribute does not exist.
- What is recorded is the JSON value; views are made of it again for a replay and for stock Casbin.
Left to others: which tokens there are (`rules`), who may supply what they read (`core.plain`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

OBJECT: Final = "object"
SET: Final = "set"
SCALAR: Final = "scalar"
OWN_MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    "subject": ("type", "id", "properties"),
    "resource": ("type", "id", "properties"),
    "action": ("name", "properties"),
}
"""The entity's own members, by the source of a token."""


class ViewedToken(Protocol):
    """What a view needs to know of a token."""

    @property
    def source(self) -> str: ...

    @property
    def kind(self) -> str: ...


class View:
    """A JSON object that can be read and nothing else: `view[name]`, `name in view`, and equality."""

    __slots__ = ("__members",)

    def __init__(self, members: Mapping[str, Any]) -> None:
        self.__members = members

    def __getitem__(self, name: str) -> Any:
        return _wrapped(self.__members[name])

    def __contains__(self, name: object) -> bool:
        return name in self.__members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and self.__members == other.__members

    __hash__ = None  # type: ignore[assignment]  # like the JSON object that it shows, it names no role and no key
    __iter__ = None

    def __repr__(self) -> str:
        return "<view>"  # never the values: a traceback must not hold them


def views(tokens: Sequence[ViewedToken], values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the flat tuple as rules read it: each object, as it is recorded, becomes a view."""
    return tuple(
        _view(token.source, value) if token.kind == OBJECT else value
        for token, value in zip(tokens, values, strict=True)
    )


def _view(source: str, value: Any) -> Any:
    own = OWN_MEMBERS.get(source)
    if own is None or not isinstance(value, Mapping):
        return _wrapped(value)
    properties = value.get("properties", {})
    return View({**properties, **{name: value[name] for name in own if name in value}})


def _wrapped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return View(value)
    if isinstance(value, list | tuple):
        return tuple(_wrapped(item) for item in value)
    return value
