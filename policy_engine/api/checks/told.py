"""What a proxy tells of a request of its client, made into the question that is decided.

Rules of the room:
- A fact is believed because the proxy's own key came with it. So the proxy must set or strip every header named here;
  the printed configurations do (`pep snippet`).
- A fact stands once. Two headers, or two places that say different things, are two readings: refused, not chosen from.
- The model is what the proxy names or what the body names; where both do they must agree, and so must a `model` in the
  query, and, where the body alone names it, a model in the path. A body that was seen is read to its end; one that
  cannot be read is refused, whatever the headers say.
- An unknown `X-Policy-Engine-` header is refused: a misspelt fact must not be a missing one.
- What was sent is never said back.
Left to others: the key (`checking`), the scan of a body (`core.bodymodel`), what is answered (`table`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from policy_engine.api.authzen import read_evaluation
from policy_engine.core.bodymodel import BodyProblem, BodyRefused, find_model
from policy_engine.core.decision import Request
from policy_engine.core.pathreading import is_plain, loosely
from policy_engine.core.querymodel import named_in_query
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS, Limits

KEY_HEADER: Final = "policy-engine-key"
PREFIX: Final = "x-policy-engine-"
FACTS: Final = (
    "subject",
    "subject-type",
    "tenant",
    "model",
    "action",
    "location",
    "anonymiser",
    "serving-region",
)
FACT_HEADERS: Final = tuple(PREFIX + name for name in FACTS)
PARTIAL_HEADER: Final = "x-envoy-auth-partial-body"
INFER: Final = "infer"

OTHER_MODELS: Final = frozenset(
    (
        *("models", "fallbacks", "fallback_models", "context_window_fallbacks", "content_policy_fallbacks"),
        *("deployment_id", "model_id", "model_list", "extra_body"),
        *("preset", "router_settings_override", "user_config"),
    )
)
"""Members of a body by which gateways behind a proxy are told of further models, or of another one than `model`; nobody
has decided on those."""

READ: Final = frozenset((KEY_HEADER, "content-type", "content-encoding", PARTIAL_HEADER))
"""Headers that are read beside the facts."""

_JSON_IN_UTF8: Final = re.compile(r'application/(?:[a-z0-9.+-]+\+)?json\s*(?:;\s*charset\s*=\s*"?utf-?8"?\s*)?', re.I)
_DEPLOYED: Final = re.compile(r"/(?:deployments|engines)/+(?=[^/])", re.I)
_MODELS: Final = re.compile(r"/(?:tuned)?models/", re.I)
_INVOKED: Final = re.compile(r"/(?:models?|(?:serving-)?endpoints)/+", re.I)
_VERB: Final = re.compile(r"/(?:invoke|invocations|converse|infer|generate|predict|v1/)", re.I)
"""Where Azure, Gemini, Bedrock and servers of one model a path, and those who speak like them, take a model from the
path. A client writes it as long as it likes, so no expression has two pieces that may share the same text: it would be
tried in every way."""
_YES_OR_NO: Final = {"true": True, "false": False}


@dataclass(slots=True)
class Told:
    """What one check was told: facts by name, the client's path, what was seen of its body, and the proxy's key.

    `shown` are the client's headers by which the dialect of an answer is chosen; they decide nothing else.
    """

    facts: dict[str, str] = field(default_factory=dict)
    key: str | None = None
    path: str = "/"
    shown: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = True
    content_type: str | None = None
    content_encoding: str | None = None

    def tell(self, name: str, value: str) -> None:
        """Add a fact. Raises `InputRefused` for a name that is none, and for a second value that differs."""
        if name not in FACTS:
            raise InputRefused(f"there is no fact of this name; there are {', '.join(FACTS)}", where=f"{PREFIX}…")
        if self.facts.setdefault(name, value) != value:
            raise InputRefused("is told twice, differently", where=PREFIX + name)

    def take(self, headers: Iterable[tuple[str, str]]) -> None:
        """Take what matters from the headers of a check. Raises `InputRefused` for a header that stands twice."""
        seen: dict[str, str] = {}
        partial = False
        for name, value in headers:
            if name == PARTIAL_HEADER:
                partial = partial or value.strip().lower() != "false"
            elif name in READ or name.startswith(PREFIX):
                if name in seen:
                    raise InputRefused("must be sent once", where=name if name in READ else f"{PREFIX}…")
                seen[name] = value
        self.complete = self.complete and not partial
        self.key = seen.pop(KEY_HEADER, self.key)
        self.content_type = seen.pop("content-type", None)
        self.content_encoding = seen.pop("content-encoding", None)
        for name, value in seen.items():
            self.tell(name.removeprefix(PREFIX), value)


def question(told: Told, limits: Limits = LIMITS) -> Request:
    """Return the question that was told. Raises `InputRefused` naming what is missing, malformed or in disagreement."""
    facts = told.facts
    if "subject" not in facts:
        raise InputRefused("is missing: the proxy must name whom it has authenticated", where=PREFIX + "subject")
    context: dict[str, Any] = {}
    if "tenant" in facts:
        context["tenant"] = facts["tenant"]
    if "serving-region" in facts:
        context["serving_region"] = facts["serving-region"]
    if "location" in facts or "anonymiser" in facts:
        context["location"] = _location(facts)
    return read_evaluation(
        {
            "subject": {"type": facts.get("subject-type", "person"), "id": facts["subject"]},
            "action": {"name": facts.get("action", INFER)},
            "resource": {"type": "model", "id": _model(told, limits)},
            "context": context,
        },
        limits,
    )


def _location(facts: Mapping[str, str]) -> dict[str, Any]:
    said = facts.get("anonymiser", "false").lower()
    if said not in _YES_OR_NO:
        raise InputRefused("must be true or false", where=PREFIX + "anonymiser")
    place: dict[str, Any] = {"anonymiser": _YES_OR_NO[said]}
    if "location" in facts:
        country, dash, _ = facts["location"].partition("-")
        place["country"] = country
        if dash:
            place["region"] = facts["location"]
    return place


def _model(told: Told, limits: Limits) -> str:
    """Return the one model that headers, body and query agree on."""
    named = told.facts.get("model")
    found = _model_of_body(told, limits) if told.body or not told.complete else None
    if named is None and found is None:
        raise InputRefused(
            "no model is named, neither by the proxy nor in a body that it showed", where=PREFIX + "model"
        )
    if named is not None and found is not None and named != found:
        raise InputRefused("the proxy and the body name different models", where=PREFIX + "model")
    model = named if named is not None else found
    if len(told.path) > limits.checked_path_characters:
        raise InputRefused(f"is longer than {limits.checked_path_characters} characters", where="path")
    path, _, query = told.path.partition("?")
    if named is None and _names_another_somewhere(unquote(path), str(model)):
        raise InputRefused("the path names another model than the body", where="path")
    for asked in named_in_query(query):
        if asked != model:
            raise InputRefused("the query names another model", where="query")
    return str(model)


def _names_another_somewhere(path: str, model: str) -> bool:
    """Say whether a path names another model as it stands, or to whoever reads paths least strictly."""
    return _names_another(path, model) or (
        not is_plain(path) and _names_another(loosely(path), loosely(model).removeprefix("/"))
    )


def _names_another(path: str, model: str) -> bool:
    """Say whether a path names a model, as some interfaces do, and not this one."""
    whole, begun = f"{path}/", f"{model}/"
    deployed = all(whole.startswith(begun, found.end()) for found in _DEPLOYED.finditer(path))
    return not deployed or any(name != model for name in _called(path))


def _called(path: str) -> Iterator[str]:
    """Yield the models that a path calls by a verb, as `/models/NAME:verb` and `/model/NAME/verb` do, in one pass."""
    before, _, verb = path.rstrip("/").rpartition(":")
    listed = _MODELS.search(before)
    if listed is not None and verb and "/" not in verb and listed.end() < len(before):
        yield before[listed.end() :].lstrip("/")
    begun = _INVOKED.search(path)
    while begun is not None:
        ended = _VERB.search(path, begun.end())
        if ended is None:
            return
        yield path[begun.end() : ended.start()].rstrip("/")
        begun = _INVOKED.search(path, ended.end())


def _model_of_body(told: Told, limits: Limits) -> str | None:
    """Return the model that the body names, `None` when it was read to its end and names none."""
    encoding = (told.content_encoding or "identity").strip().lower()
    media = told.content_type
    if encoding not in ("identity", "") or (media is not None and _JSON_IN_UTF8.fullmatch(media.strip()) is None):
        raise BodyRefused(BodyProblem.MEDIA_TYPE)
    try:
        return find_model(told.body, complete=told.complete, refused=OTHER_MODELS, limits=limits)
    except BodyRefused as refused:
        if refused.reason is BodyProblem.MODEL_MISSING:
            return None
        raise
