"""What every door of this room does: who asks, for which model, is it allowed, and what is said when it is not.

Rules of the room:
- Every route is guarded unless it is exempted by its exact path; no method is special. A path that could end earlier
  in an address made of it is refused, and a listing is for GET and HEAD, which show it filtered.
- Nothing is handed on before an allow. Whatever fails before one is a refusal: 400 for what cannot be read, 401 for
  nobody, 503 for an engine that cannot be asked, and for any fault of ours, without detail.
- The decision is on the model that will serve: aliases of this deployment are resolved first (`resolve`), those of the
  catalogue by the engine.
- Nothing personal is logged, and no value of a request is.
Left to others: sockets and bodies (`asgi`, `wsgi`), the words (`core.dialects`), deciding (the engine).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Required, TypedDict
from urllib.parse import unquote

import structlog

from policy_engine.core.decision import Decision
from policy_engine.core.dialects import (
    Dialect,
    Refusal,
    Wording,
    dialect_of,
    malformed,
    refusal,
    unauthenticated,
    unavailable,
)
from policy_engine.core.enforcing import Enforcing
from policy_engine.core.pathreading import loosely
from policy_engine.core.questions import ANY, Question, request_of
from policy_engine.errors import InputRefused, NotAuthenticated, PolicyEngineError
from policy_engine.limits import LIMITS, Limits
from policy_engine.middleware.head import Head
from policy_engine.middleware.models import ModelSource, from_body
from policy_engine.middleware.subjects import Subject, Subjects

log = structlog.get_logger(__name__)

Place = str | Mapping[str, Any] | None
_BODY = from_body()
LISTINGS = ("/v1/models",)
"""Where gateways and model servers list their models."""
READING = ("GET", "HEAD")
"""The methods by which a listing is read."""


class Engine(Enforcing, Protocol):
    """An engine as a door asks it: one question, or those of a whole listing together."""

    def decide_many(self, questions: Iterable[Question]) -> list[Decision]:
        """Return one decision a question, in order; otherwise as `decide`."""
        ...

    async def decide_many_async(self, questions: Iterable[Question]) -> list[Decision]:
        """The same, waiting on the running event loop."""
        ...


class Asked(NamedTuple):
    """One question to the engine, ready to be asked again for another model."""

    subject: Subject
    action: str
    tenant: str | None
    location: Place
    serving_region: str | None

    def of(self, model: str) -> Question:
        """Return the question about a model, as `Enforcing.decide` takes it."""
        return {
            "subject": self.subject.id,
            "subject_type": self.subject.type,
            "model": model,
            "action": self.action,
            "tenant": self.tenant,
            "location": self.location,
            "serving_region": self.serving_region,
        }


class Settings(TypedDict, total=False):
    """The settings of a door, as its constructor takes them: the fields of `Guard`."""

    engine: Required[Engine]
    subject: Required[Subjects]
    model: ModelSource
    action: str | Mapping[str, str]
    tenant: str | None
    location: Place | Callable[[Head], Place]
    serving_region: str | None
    resolve: Mapping[str, str] | Callable[[str], str] | None
    exempt: Collection[str]
    listings: Collection[str]
    dialect: Dialect | None
    wording: Wording
    limits: Limits


@dataclass(frozen=True, slots=True)
class Guard:
    """The settings of a door, and the steps that need no socket.

    `model` is the top-level `model` of a JSON body unless told otherwise. `action` is one for all routes, or by exact
    path with `"*"` for the others. `tenant` and `location` are used where the subject brings none; a function of the
    head may give the location. `listings` are the exact paths whose answers are filtered. `dialect` fixes whose words a
    refusal is in; without it the path and headers tell.
    """

    engine: Engine
    subject: Subjects
    model: ModelSource = _BODY
    action: str | Mapping[str, str] = "infer"
    tenant: str | None = None
    location: Place | Callable[[Head], Place] = None
    serving_region: str | None = None
    resolve: Mapping[str, str] | Callable[[str], str] | None = None
    exempt: Collection[str] = ()
    listings: Collection[str] = LISTINGS
    dialect: Dialect | None = None
    wording: Wording = field(default_factory=Wording)
    limits: Limits = LIMITS
    _entries: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _open: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _alike: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)
    _routes: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for paths in (self.exempt, self.listings):
            if isinstance(paths, str) or not all(path.startswith("/") for path in paths):
                raise InputRefused("must be exact paths that begin with a slash", where="exempt and listings")
        _check_kinds(self)
        object.__setattr__(self, "_entries", tuple(f"{path}/" for path in self.listings))
        object.__setattr__(self, "_open", tuple(path for path in self.listings if path.endswith("/")))
        read = {loosely(path) for path in self.listings} - {"/"}
        object.__setattr__(self, "_alike", tuple((path.rpartition("/")[2], f"{path}/") for path in read))
        actions = () if isinstance(self.action, str) else self.action.keys() - {"*"}
        object.__setattr__(self, "_routes", frozenset(map(loosely, actions)))

    def is_exempt(self, path: str) -> bool:
        """Return whether a path is handed on unasked."""
        return path in self.exempt

    def dialect_of(self, head: Head) -> Dialect:
        """Return whose words the client understands."""
        return self.dialect if self.dialect is not None else dialect_of(head.path, head.media)

    def is_listing(self, head: Head) -> bool:
        """Return whether a request reads a listing, which is asked about model by model and shown filtered."""
        return head.path in self.listings and head.method in READING

    def named(self, head: Head) -> str | None:
        """Return the model that the head names; the path of one entry of a listing names it too.

        Raises `InputRefused` for a path that need not stay what it is, and for a listing that is not just read:
        whatever answers it could show all of it to whoever may use one model.
        """
        head.require_whole()
        if head.path in self.listings:
            raise InputRefused("lists models, and is shown filtered, to GET and HEAD alone", where="the path")
        found = self.model.in_head(head)
        if not head.path.startswith(self._entries):
            self._refuse_alike(head.path)
            return found
        if head.method not in READING:
            raise InputRefused("must be GET or HEAD below a listing of models", where="the method")
        entry = next(each for each in self._entries if head.path.startswith(each))
        return self.model.agreed(found, head.plain_path[len(entry) :], self.limits)

    def _refuse_alike(self, path: str) -> None:
        """Raise `InputRefused` for a path that is no listing here and may be one upstream, which then shows all."""
        plain = (unquote(path) if "%" in path else path).casefold()
        if not any(word in plain for word, _ in self._alike) or path in self.listings:
            return
        read = loosely(path) + "/"
        if any(read.startswith(listing) for _, listing in self._alike) and not path.startswith(self._open):
            raise InputRefused("is spelled otherwise than the listing that it is like", where="the path")

    def asked(self, head: Head, subject: Subject) -> Asked:
        """Return the question that this request asks, whatever its model. Raises `NotAuthenticated`, `InputRefused`."""
        location = subject.location
        if location is None:
            location = self.location(head) if callable(self.location) else self.location
        action = self.action if isinstance(self.action, str) else self._action(self.action, head)
        tenant = self.tenant if subject.tenant is None else subject.tenant
        return Asked(subject, action, tenant, location, self.serving_region)

    def _action(self, actions: Mapping[str, str], head: Head) -> str:
        """Return the action of a route. Raises `InputRefused` where none is known, and for a path that an upstream may
        take for one that has an action of its own."""
        action = actions.get(head.path)
        if action is not None:
            return action
        if loosely(head.plain_path) in self._routes:
            raise InputRefused("is spelled otherwise than the route that it is like", where="the path")
        if "*" not in actions:
            raise InputRefused("this route is guarded, and no action is known for it")
        return actions["*"]

    def resolved(self, model: str) -> str:
        """Return the model that will serve a name of this deployment."""
        if self.resolve is None:
            return model
        return self.resolve(model) if callable(self.resolve) else self.resolve.get(model, model)

    def denied(self, decision: Decision, head: Head) -> Refusal:
        """Return the answer to a denied request."""
        return refusal(decision, self.dialect_of(head), self.wording)

    def failed(self, error: Exception, head: Head) -> Refusal:
        """Return the answer to a request that could not be asked about."""
        dialect = self.dialect_of(head)
        if isinstance(error, NotAuthenticated):
            return unauthenticated(dialect, f"{error.message}.")
        if isinstance(error, InputRefused):
            return malformed(dialect, _sentence(error))
        code = error.code if isinstance(error, PolicyEngineError) else "internal"
        log.error("guard.failed", cause=type(error).__name__, code=code)
        return unavailable(dialect)


def _check_kinds(guard: Any) -> None:
    """Raise `InputRefused` for a setting of another kind: requests would only be told that nobody could decide them."""
    if not all(hasattr(guard.engine, call) for call in ("decide_async", "decide_many_async", "hold")):
        raise InputRefused("must be an engine: PolicyEngine.open(…) or PolicyEngine.connect(…)", where="engine")
    if not hasattr(guard.subject, "identify"):
        raise InputRefused("must say who asks: from_jwt(…) or from_header(…)", where="subject")
    if not isinstance(guard.model, ModelSource):
        raise InputRefused("must say where a model is named: from_body(), constant(…) and the like", where="model")
    if not isinstance(guard.action, str | Mapping):
        raise InputRefused("must be a text, or a mapping of paths", where="action")
    if not (guard.resolve is None or callable(guard.resolve) or isinstance(guard.resolve, Mapping)):
        raise InputRefused("must be a mapping of names, or a function", where="resolve")
    if not isinstance(guard.wording, Wording) or not isinstance(guard.dialect, Dialect | None):
        raise InputRefused("must be a Wording and a Dialect", where="wording and dialect")
    location = None if callable(guard.location) else guard.location
    for action in (guard.action,) if isinstance(guard.action, str) else guard.action.values():
        request_of(  # what every request has in common, asked about nobody
            subject=ANY,
            model=ANY,
            action=action,
            tenant=guard.tenant,
            location=location,
            serving_region=guard.serving_region,
        )


def _sentence(error: InputRefused) -> str:
    return f"{error.message}." if error.where is None else f"{error.where} {error.message}."
