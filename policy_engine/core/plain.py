"""A plain Casbin folder as a release: the rows with their lines, the tokens and where they come from. Frozen.

Rules of the room:
- Like any release it is named by the hash of its files and never changes.
- The model's own effect decides. A value that the policy reads and nobody may vouch for is unknown, and unknown denies.
- `subject.id`, `resource.id`, `action.name` and `context.tenant` are read from every caller; anything else of a request
  only from a principal that supplies `*`, or, for a subject or resource, from `entities.jsonl`, whose attributes win.
- A rule is named by file and line, never by its text and never by a value of the request.
Left to others: reading and refusing files (`rules.plain`), switches and entries (`services`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, overload

from policy_engine.core.decision import Reason, Request
from policy_engine.core.facts import Model
from policy_engine.core.release import Catalogue, ReasonText, Release, Token
from policy_engine.core.views import OBJECT, SET, views

POLICY_FILE: Final = "policy.csv"
BASIC: Final = frozenset(("subject.id", "resource.id", "action.name", "context.tenant"))
"""What is read from every caller: a request is about nothing without it."""
_BASIC_MEMBERS: Final = {"subject.id": "subject_id", "action.name": "action", "context.tenant": "tenant"}
ALLOW: Final = "allow"
DENY: Final = "deny"

Row = tuple[str, ...]
"""A line of the policy: its kind (`p`, `g`, `g2`) and its values."""

REASONS: Final[Mapping[str, str]] = {
    "policy.allow": "A rule of the policy allows this.",
    "policy.deny": "A rule of the policy denies this.",
    "no-rule-allows": "No rule of the policy allows this.",
    "rules.error": "A rule of the policy cannot be evaluated for this request, so nothing is allowed.",
    "token.unknown": "The policy reads a value that is not known for this request.",
    "model.unknown": "The catalogue has no such model.",
    "tenant.not-permitted": "The caller may not ask for this tenant.",
    "switch.engaged": "This is withdrawn at the moment by a kill switch.",
    "key.ended": "The caller's key has ended.",
    "stale": "The state changed while this was decided. Try again.",
}
"""The engine's own sentences; `[reasons]` of facets.toml may say them otherwise."""


class Answering(Protocol):
    """What a compiled enforcer answers. Both raise where a rule errs."""

    def enforce_ex(self, *rvals: Any) -> tuple[bool, Sequence[str]]:
        """Return the outcome and the row that decided it, empty where none did."""
        ...

    def explain(self, *rvals: Any) -> Sequence[Sequence[str]]:
        """Return every matching row."""
        ...

    def updated(self, add: Iterable[Sequence[str]], remove: Iterable[Sequence[str]]) -> Answering:
        """Return an enforcer with rows, their kind first, taken out and added at the end."""
        ...


@dataclass(frozen=True, slots=True)
class PlainRule:
    """A `p` line as other rooms show rules: named by its place; `text` is for operators alone."""

    id: str
    label: str
    effect: str
    code: str
    text: str
    line: int
    authority: str = ""
    lift: str = ""


class PolicyRows:
    """The lines of policy.csv: what each says, and which line a row stands on.

    `entries` holds, by line, the row or `None` for a blank line or a comment. A row that stands on several lines is
    found on its first.
    """

    __slots__ = ("_eft", "_lines", "columns", "entries")

    def __init__(
        self,
        entries: Sequence[Row | None],
        columns: tuple[str, ...],
        lines: dict[Row, int] | None = None,
    ) -> None:
        self.entries = entries
        self.columns = columns
        self._eft = columns.index("eft") if "eft" in columns else None
        self._lines = _numbered(entries) if lines is None else lines

    @property
    def lines(self) -> dict[Row, int]:
        """Return the first line of each `p` row; for the loader, which must not change it."""
        return self._lines

    def rule(self, row: Sequence[str]) -> PlainRule:
        """Return the rule that a row is. Raises `KeyError` for a row that is not of this policy."""
        key = ("p", *row)
        return self.at(self._lines[key], key)

    def place(self, row: Sequence[str]) -> str:
        """Return file and line of a row. Raises `KeyError` for a row that is not of this policy."""
        return f"{POLICY_FILE}:{self._lines['p', *row]}"

    def at(self, line: int, key: Row) -> PlainRule:
        """Return the `p` row of a line as a rule."""
        effect = self.effect(key[1:])
        place = f"{POLICY_FILE}:{line}"
        return PlainRule(place, place, effect, f"policy.{effect}", ", ".join(key), line)

    def effect(self, row: Sequence[str]) -> str:
        """Return the effect of a `p` row: `allow` where the policy has no column for it."""
        return ALLOW if self._eft is None else row[self._eft]

    def rules(self) -> PlainRules:
        """Return the `p` rows as rules, made when looked at."""
        return PlainRules(self)


class PlainRules(Sequence[PlainRule]):
    """The `p` rows of a policy in order, as rules."""

    __slots__ = ("_places", "_rows")

    def __init__(self, rows: PolicyRows) -> None:
        self._rows = rows
        self._places = [at for at, entry in enumerate(rows.entries) if entry is not None and entry[0] == "p"]

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> PlainRule: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PlainRule]: ...
    def __getitem__(self, index: int | slice) -> PlainRule | Sequence[PlainRule]:
        if isinstance(index, slice):
            return [self._rule(at) for at in self._places[index]]
        return self._rule(self._places[index])

    def __iter__(self) -> Iterator[PlainRule]:
        return map(self._rule, self._places)

    def _rule(self, at: int) -> PlainRule:
        return self._rows.at(at + 1, self._rows.entries[at] or ())


class Use(NamedTuple):
    """How the matcher uses one of a request's ids, whichever tokens hold it.

    `columns` are those that it holds the id against and those named like its tokens, `roles` the definitions that it
    asks about the id, `domains` those that it asks in the id as a domain, `words` the texts that it compares it with.
    `bound`: no row allows an id that neither these columns nor a line of these roles name, unless one of the columns
    says `*`. `read`: it reads the id, however it does.
    """

    columns: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    domains: frozenset[str] = frozenset()
    words: frozenset[str] = frozenset()
    bound: bool = False
    read: bool = False


class FlatTuple(NamedTuple):
    """The values of the tokens, as they are recorded, and the sources of those that are unknown."""

    values: tuple[Any, ...]
    unknown: tuple[str, ...]


class Judged(NamedTuple):
    """What the policy says of a flat tuple: the outcome, the row that decided (if one did), and all that match."""

    allowed: bool
    deciding: PlainRule | None
    matching: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlainRelease:
    """A plain Casbin folder, ready to decide.

    `catalogue` is `None` without `models.toml`: then any resource id is itself. `named` says for `action.name` and
    `resource.id` which values the policy itself names; other values are a caller's and stay sealed. `uses` says how the
    matcher uses each id that it reads, by its path (`subject.id`). `basis` is what the loader keeps for the next load.
    """

    hash: str
    tokens: tuple[Token, ...]
    enforcer: Answering
    rows: PolicyRows
    allow_override: bool
    models: Catalogue | None
    entities: Mapping[tuple[str, str], Mapping[str, Any]]
    named: Mapping[str, frozenset[str]]
    uses: Mapping[str, Use]
    files: Mapping[str, bytes]
    engine_reasons: Mapping[str, ReasonText]
    advise: Callable[[], tuple[str, ...]] = field(repr=False, compare=False)
    basis: Any = field(repr=False, compare=False)
    _reads_objects: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reads_objects", any(token.kind == OBJECT for token in self.tokens))

    @property
    def catalogue(self) -> Catalogue:
        """Return the catalogue, an empty one where the folder has none."""
        return _NO_MODELS if self.models is None else self.models

    @property
    def rules(self) -> Sequence[PlainRule]:
        """Return the `p` rows as rules."""
        return self.rows.rules()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what lint finds and loading does not refuse; found when asked for."""
        return self.advise()

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Return the instants at which the release changes by itself: none."""
        return ()

    @property
    def instant_position(self) -> int | None:
        """Return where the instant stands in the flat tuple: nowhere."""
        return None

    @property
    def reads_paths(self) -> bool:
        """Return whether some token is read from more of a request than every caller's four basic values."""
        return any(token.source not in BASIC for token in self.tokens)

    def reason(self, code: str) -> Reason:
        """Return the reason that the engine gives under a code."""
        said = self.engine_reasons.get(code)
        return Reason(code, message=REASONS.get(code, "")) if said is None else Reason(code, said.label, said.message)

    def reason_of(self, rule: PlainRule) -> Reason:
        """Return the reason that a rule gives: its place, and nothing of its text."""
        said = self.engine_reasons.get(rule.code)
        return Reason(rule.code, rule.label, REASONS[rule.code] if said is None else said.message, rule_id=rule.id)

    def find(self, name: str) -> tuple[str, Model | None] | None:
        """Return the id that a resource id means, with its catalogue entry, or `None` where the catalogue lacks it."""
        if self.models is None:
            return name, None
        model = self.models.find(name)
        return None if model is None else (model.id, model)

    def flat(self, request: Request, resource_id: str, *, supplied: bool) -> FlatTuple:
        """Return the flat tuple of a request whose resource means `resource_id`.

        `supplied` says whether the caller is believed about the whole request.
        """
        reader = _Reader(request, resource_id, supplied, self.entities)
        values = tuple([reader.value(token) for token in self.tokens])
        if None not in values:
            return FlatTuple(values, ())
        unknown = [token.source for token, value in zip(self.tokens, values, strict=True) if value is None]
        return FlatTuple(values, tuple(dict.fromkeys(unknown)))

    def judge(self, values: Sequence[Any]) -> Judged:
        """Return what the policy says of a flat tuple. Raises whatever a rule raises: the caller denies."""
        read = views(self.tokens, values) if self._reads_objects else values
        matching = tuple([self.rows.place(row) for row in self.enforcer.explain(*read)])
        allowed, row = self.enforcer.enforce_ex(*read)
        rule = self.rows.rule(row) if row else None
        if rule is not None and (rule.effect != (ALLOW if allowed else DENY) or (self.allow_override and not allowed)):
            rule = None  # Casbin names the last row that matched, also where another effect decided
        return Judged(allowed is True, rule, matching)


AnyRelease = Release | PlainRelease
"""What may be active."""

_NO_MODELS: Final = Catalogue(())


class _Reader:
    """Reads the values of one request. What is not known is `None`; JSON's null is not known either."""

    def __init__(
        self,
        request: Request,
        resource_id: str,
        supplied: bool,
        entities: Mapping[tuple[str, str], Mapping[str, Any]],
    ) -> None:
        self._request = request
        self._resource_id = resource_id
        self._supplied = supplied
        self._entities = entities

    def value(self, token: Token) -> Any:
        source = token.source
        if source == "resource.id":
            return self._resource_id
        if source in _BASIC_MEMBERS:
            return getattr(self._request, _BASIC_MEMBERS[source])
        root, *path = source.split(".")
        found: Any = self._root(root)
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        if token.kind == OBJECT:
            return found if isinstance(found, Mapping) else None
        if token.kind == SET:
            texts = isinstance(found, list | tuple) and all(isinstance(item, str) for item in found)
            return frozenset(found) if texts else None
        return found if isinstance(found, str | int | float) else None

    def _root(self, root: str) -> Mapping[str, Any] | None:
        request = self._request
        if root == "subject":
            return self._entity(root, request.subject_type, request.subject_id)
        if root == "resource":
            return self._entity(root, request.resource_type, self._resource_id)
        if not self._supplied:
            return None
        if root == "action":
            return {"name": request.action, "properties": self._properties(root)}
        context = request.raw.get("context")
        tenant = {} if request.tenant is None else {"tenant": request.tenant}
        return context if isinstance(context, Mapping) else tenant

    def _entity(self, root: str, kind: str, id: str) -> Mapping[str, Any] | None:
        known = self._entities.get((kind, id))
        if known is None and not self._supplied:
            return None
        said = self._properties(root) if self._supplied else {}
        return {"type": kind, "id": id, "properties": {**said, **(known or {})}}

    def _properties(self, root: str) -> Mapping[str, Any]:
        entity = self._request.raw.get(root)
        properties = entity.get("properties") if isinstance(entity, Mapping) else None
        return properties if isinstance(properties, Mapping) else {}


def _numbered(entries: Sequence[Row | None]) -> dict[Row, int]:
    found: dict[Row, int] = {}
    for number, entry in enumerate(entries, 1):
        if entry is not None and entry[0] == "p":
            found.setdefault(entry, number)
    return found
