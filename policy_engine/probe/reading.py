"""What an answer means: a model answered, it was refused, or nobody can tell; and which model said so.

Rules of the room:
- That a model answered is read from the answer itself, in a form that is known: a completion, a message, a response,
  an embedding, a stream of these. What the answer calls its model is the evidence, unless a header that only routers
  write says that the forbidden one answered: some write the name that was asked for over the answer's.
- A refusal is a 4xx, an error in a known form, or 501 and 505. Too many requests (429), a timeout (408, 425) and every
  other 5xx say nothing about the policy and are unclear; so is a 200 in no known form.
Left to others: which model a name means (`standing`), what follows for a check (`checking`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from policy_engine.probe.standing import Names, Standing
from policy_engine.probe.wire import Answer, Lack

SAID_CHARACTERS: Final = 80
MODEL_HEADERS: Final = ("x-litellm-model-name", "x-litellm-model-group", "openai-model")
"""Headers in which those who route requests say which model has answered."""
UNTOLD_STATUSES: Final = frozenset({408, 425, 429})
NOT_OFFERED: Final = frozenset({501, 505})

_COMPLETIONS: Final = (
    "chat.completion",
    "chat.completion.chunk",
    "text_completion",
    "response",
    "message",
    "realtime.session",
)
_MARKS: Final = ("choices", "candidates", "embeddings", "completion", "generated_text")
_NESTED: Final = ("response", "message", "session")
NESTED_LEVELS: Final = 4
"""How deep an answer is looked for: known ones lie one or two objects down, and a hostile one may be deep."""


class Kind(StrEnum):
    """What an answer is."""

    SERVED = "served"
    REFUSED = "refused"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer, read. `found` is a few words for a person; `failed` says that the gateway or what is behind it did."""

    kind: Kind
    standing: Standing = Standing.UNSAID
    said: str = ""
    found: str = ""
    status: int | None = None
    failed: bool = False
    routed: bool = False  # a router's header names the forbidden model
    beside: str = ""  # the header that names the allowed model, where the answer itself names another
    doubt: str = ""  # why the name that the answer gives is evidence of neither model

    @property
    def forbidden(self) -> bool:
        """Say whether the forbidden model answered, by its own word."""
        return self.kind is Kind.SERVED and self.standing is Standing.FORBIDDEN


def read(answer: Answer | Lack, names: Names) -> Reading:
    """Return what an answer means."""
    if isinstance(answer, Lack):
        return _lacking(answer)
    status = answer.status
    if 200 <= status < 300:
        return _successful(answer, names)
    error = error_of(answer.body)
    found = f"{status}{f', {error}' if error else ''}"
    if status in UNTOLD_STATUSES or (status >= 500 and status not in NOT_OFFERED):
        return Reading(Kind.UNCLEAR, found=f"{found}: it says nothing about the model", status=status, failed=True)
    if 300 <= status < 400:
        return Reading(Kind.UNCLEAR, found=f"{found}: it sends the caller elsewhere", status=status)
    return Reading(Kind.REFUSED, found=found, status=status)


def _lacking(lack: Lack) -> Reading:
    if lack is Lack.DROPPED:
        return Reading(Kind.REFUSED, found="the connection was closed without an answer", failed=True)
    why = "no answer in time" if lack is Lack.SILENT else "it could not be reached"
    return Reading(Kind.UNCLEAR, found=why, failed=True)


def _successful(answer: Answer, names: Names) -> Reading:
    status = answer.status
    documents = list(documents_of(answer.body))
    served = [document for document in documents if is_completion(document)]
    if served:
        said = next((model for document in served if (model := model_of(document))), "")
        return _routed(answer, names, _served(said, names, status, ""))
    for document in documents:
        if error := error_in(document):
            return Reading(Kind.REFUSED, found=f"{status} with an error: {error}", status=status)
    for name, value in answer.headers:  # an answer without a body, as that to HEAD, may still name its model
        if not answer.body and names.standing(value) is Standing.FORBIDDEN:
            return _served(value, names, status, f" in the header {name}")
    return Reading(Kind.UNCLEAR, found=f"{status}, and no form that is known", status=status)


def _routed(answer: Answer, names: Names, reading: Reading) -> Reading:
    """Return an answer as its router tells it: the forbidden model by its header, or what is said beside the answer."""
    told = {name: (value, names.standing(value)) for name, value in answer.headers if name in MODEL_HEADERS}
    for name, (value, standing) in told.items():
        if standing is Standing.FORBIDDEN:
            own = reading.forbidden
            return replace(
                reading if own else _served(value, names, answer.status, f" in the header {name}"), routed=True
            )
    beside = next((name for name, (_, standing) in told.items() if standing is Standing.ALLOWED), "")
    return replace(reading, beside=beside)


def _served(said: str, names: Names, status: int, where: str) -> Reading:
    standing, shown = names.standing(said), said[:SAID_CHARACTERS]
    found = f"{status}, answered by `{shown}`{where}" if said else f"{status}, answered by a model that is not named"
    return Reading(Kind.SERVED, standing, shown, found, status, doubt=names.doubt(said))


def documents_of(body: bytes) -> Iterator[Mapping[str, Any]]:
    """Yield the JSON objects of an answer: the body itself, the data of its events, or its lines."""
    text = body.decode("utf-8", "replace")
    whole = _object(text)
    if whole is not None:
        yield whole
        return
    for line in text.splitlines():
        found = _object(line.removeprefix("data:"))
        if found is not None:
            yield found


def _object(text: str) -> Mapping[str, Any] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_completion(document: Mapping[str, Any], levels: int = NESTED_LEVELS) -> bool:
    """Say whether an object is what a model answers, in a form that is known, so many levels down."""
    if document.get("object") in _COMPLETIONS or document.get("type") in ("message", "completion"):
        return True
    if any(isinstance(document.get(mark), (list, str)) for mark in _MARKS):
        return True
    if document.get("object") == "list" and isinstance(document.get("data"), list):
        return any(isinstance(item, dict) and "embedding" in item for item in document["data"])
    if "model" in document and ("response" in document or "message" in document):
        return True
    inner = [document[name] for name in _NESTED if isinstance(document.get(name), dict)]
    return any("model" in each or (levels > 0 and is_completion(each, levels - 1)) for each in inner)


def model_of(document: Mapping[str, Any], levels: int = NESTED_LEVELS) -> str:
    """Return what an answer calls its model, so many levels down, empty when it does not say."""
    for name in ("model", "modelVersion", "model_id"):
        if isinstance(document.get(name), str) and document[name]:
            return str(document[name])
    if levels == 0:
        return ""
    inner = (document[name] for name in _NESTED if isinstance(document.get(name), dict))
    return next((model for each in inner if (model := model_of(each, levels - 1))), "")


def error_of(body: bytes) -> str:
    """Return the kind of error of a body in a known form, empty for another."""
    return next((error for document in documents_of(body) if (error := error_in(document))), "")


def error_in(document: Mapping[str, Any]) -> str:
    """Return the form and the code of an error: its words stay unread, they may name persons."""
    error = document.get("error")
    if isinstance(error, dict):
        form = "anthropic" if document.get("type") == "error" else "openai"
        return _coded(form, error.get("code"), error.get("type"))
    if isinstance(error, str) and error:
        return "error"
    if isinstance(document.get("status"), int) and isinstance(document.get("title"), str):
        return _coded("problem", document.get("code"), document.get("type"))
    return "detail" if isinstance(document.get("detail"), (str, list)) else ""


def _coded(form: str, *codes: Any) -> str:
    for code in codes:
        if isinstance(code, str) and re.fullmatch(r"[\w.:/-]{1,60}", code):
            return f"{form} error {code}"
    return f"{form} error"
