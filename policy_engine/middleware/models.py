"""Where a request names its model: in its body, a header, the path, the query, or nowhere because there is only one.

Rules of the room: every place that is looked at and names a model must name the same one; where none does, the request
is refused. A source that looks at the body wants it to be JSON in UTF-8 (or a form, where forms are wanted), and not
compressed, whatever else names the model. A path that an upstream could read otherwise is refused where path or query
name the model, and so is one that names a model to a less strict reader alone.
Left to others: finding it in a body (`core.bodymodel`), reading the body (`bodies`, the doors).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from policy_engine.core.bodymodel import BodyProblem, BodyRefused, ModelScan, find_model
from policy_engine.core.formmodel import boundary_of, find_form_model
from policy_engine.core.pathreading import is_plain, loosely
from policy_engine.errors import InputRefused
from policy_engine.limits import LIMITS, Limits
from policy_engine.middleware.head import Head, check_header_name

_JSON = re.compile(r'application/json(?:\s*;\s*charset="?utf-8"?)?', re.IGNORECASE)
NO_MODEL = "the request names no model, and this route is guarded; name one"


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A path with `{model}` for one segment and `*` for any text: as it is written, and as the least strict of readers
    takes it (`loosely`)."""

    strict: re.Pattern[str]
    loose: re.Pattern[str]

    def model(self, head: Head) -> str | None:
        """Return the model that the path names, `None` for the path of another route. Raises `InputRefused` for one
        that is another route here and may be this one upstream, or may name another model there."""
        matched = self.strict.fullmatch(head.plain_path)
        if matched is None and self._is_like(head.path):
            raise InputRefused("is spelled otherwise than the route that it is like", where="the path")
        joined = head.joined_path
        if joined is not None and self._is_like(joined):
            raise InputRefused("must not hold encoded slashes where it names a model", where="the path")
        return None if matched is None else matched["model"]

    def _is_like(self, path: str) -> bool:
        read = loosely(path)
        return self.loose.fullmatch(read) is not None or self.loose.fullmatch(f"{read}/") is not None


def _compiled(pattern: str) -> re.Pattern[str]:
    written = re.escape(pattern).replace(re.escape("{model}"), "(?P<model>[^/]+)").replace(re.escape("*"), ".*")
    return re.compile(written, re.DOTALL)


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where the model of a request is named. Combine sources with `&`: all that name one must agree."""

    body: str | None = None
    header: str | None = None
    query: str | None = None
    path: PathPattern | None = None
    constant: str | None = None
    refused: frozenset[str] = frozenset()
    forms: bool = False

    def __and__(self, other: ModelSource) -> ModelSource:
        """Return what looks in both. Raises `InputRefused` when both look in the same kind of place."""
        found = {}
        for name in ("body", "header", "query", "path", "constant"):
            own, its = getattr(self, name), getattr(other, name)
            if own is not None and its is not None:
                raise InputRefused("is named by two sources of the same kind", where="the model")
            found[name] = its if own is None else own
        return replace(self, **found, refused=self.refused | other.refused, forms=self.forms or other.forms)

    def in_head(self, head: Head) -> str | None:
        """Return the model that the head names, `None` when it names none. Raises `InputRefused` where it names two."""
        if self.header is None and self.query is None and self.path is None:
            return self.constant
        named = {self.constant} - {None}
        if self.header is not None:
            named |= {head.header(self.header)} - {None}
        if self.query is not None:
            head.require_plain()  # or there may be another query upstream than the one that is looked at
            named |= {head.parameter(self.query)} - {None}
        if self.path is not None:
            named |= {self.path.model(head)} - {None}
        if len(named) > 1:
            raise InputRefused("the request names two different models")
        return named.pop() if named else None

    def agreed(self, in_head: str | None, in_body: str | None, limits: Limits = LIMITS) -> str:
        """Return the model. Raises `InputRefused` when there is none, or head and body disagree."""
        found = in_head if in_body is None else in_body
        if in_head is not None and found != in_head:
            raise InputRefused("the header or path of the request and its body name different models")
        if not found or len(found) > limits.id_characters:
            raise InputRefused(NO_MODEL)
        return found

    def check_media(self, head: Head) -> bytes | None:
        """Return the boundary of a form, `None` for JSON in UTF-8. Raises `BodyRefused` for anything else, and for what
        is compressed."""
        media = head.header("content-type")
        encoding = head.header("content-encoding")
        if media is None or encoding not in (None, "identity"):
            raise BodyRefused(BodyProblem.MEDIA_TYPE)
        if media == "application/json" or _JSON.fullmatch(media.strip()) is not None:
            return None
        boundary = boundary_of(media) if self.forms else None
        if boundary is None:
            raise BodyRefused(BodyProblem.MEDIA_TYPE)
        return boundary

    def in_whole_body(self, body: bytes, boundary: bytes | None, limits: Limits = LIMITS) -> str:
        """Return the model of a whole body, a form's where a boundary is given. Raises `BodyRefused`."""
        if boundary is not None:
            return find_form_model(body, boundary, name=self.body or "", refused=self.refused, limits=limits)
        return find_model(body, name=self.body or "", refused=self.refused, limits=limits)

    def scan(self, limits: Limits = LIMITS) -> ModelScan:
        """Return what finds the model of a body that streams through."""
        return ModelScan(self.body or "", refused=self.refused, limits=limits)


def from_body(name: str = "model", *, refused: frozenset[str] = frozenset(), forms: bool = False) -> ModelSource:
    """Take the model from a top-level member of a JSON body, or with `forms` also from a field of a form, as audio is
    sent; `refused` are members and fields that no body may have. Raises `InputRefused` for no name."""
    _check_text(name, "the member of the model")
    return ModelSource(body=name, refused=refused, forms=forms)


def from_model_header(name: str) -> ModelSource:
    """Take the model from a header."""
    check_header_name(name, "the header of the model")
    return ModelSource(header=name)


def from_query(name: str = "model") -> ModelSource:
    """Take the model from a parameter of the query, as WebSocket clients send it. Raises `InputRefused` for no name."""
    _check_text(name, "the parameter of the model")
    return ModelSource(query=name)


def from_path(pattern: str) -> ModelSource:
    """Take the model from the path, which matches as a whole; `{model}` stands for one segment and `*`, of which there
    may be one, for any text.

    Raises `InputRefused` for a pattern that no path could match that names a model.
    """
    if pattern.count("{model}") != 1 or not pattern.startswith("/"):
        raise InputRefused("must be a path with {model} in one place", where="the path of the model")
    if pattern.count("*") > 1:  # or a path could name two models, and be looked at as often as it has pairs of letters
        raise InputRefused("must have one * at most", where="the path of the model")
    if not is_plain(pattern):
        raise InputRefused("must be written as it is decoded, and stay so", where="the path of the model")
    return ModelSource(path=PathPattern(_compiled(pattern), _compiled(loosely(pattern))))


def constant(model: str) -> ModelSource:
    """Say that every guarded request is for this model, whatever it says. Raises `InputRefused` for no model."""
    _check_text(model, "the model")
    return ModelSource(constant=model)


def _check_text(value: object, where: str) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= LIMITS.id_characters:
        raise InputRefused(f"must be a text of 1 to {LIMITS.id_characters} characters", where=where)
