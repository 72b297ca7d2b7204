"""Which model a form asks for (`multipart/form-data`, as audio and images are sent): its one field `model`.

Rules of the room:
- Exact, or refused. Readers of forms differ in more than readers of JSON, so only the plain form that the providers'
  own clients send is accepted: no preamble and no epilogue, lines that end in CR LF, two headers at most in a part, a
  `Content-Disposition` with a plain name and file name, no transfer encodings. Whatever else a reader might take for a
  boundary, a header or a name is refused.
- One `model`, a short text that is no file. A second one, `Model`, `model[]`, or one with space around it are refused.
- A form is read whole: where it ends is known only at its end.
- Sentences never hold what the form says.
Left to others: JSON (`bodymodel`), reading the body (the doors).
"""

from __future__ import annotations

import re
from typing import Final

from policy_engine.core.bodyproblems import BodyProblem, BodyRefused
from policy_engine.limits import LIMITS, Limits

_MEDIA: Final = re.compile(r'multipart/form-data\s*;\s*boundary=("?)([0-9A-Za-z\'()+_,./:=?-]{1,70})\1', re.IGNORECASE)
_DISPOSITION: Final = re.compile(r'form-data; name="([^"\\%\x00-\x1f\x7f]*)"(; filename="[^"\\\x00-\x1f\x7f]*")?')
_HEADER: Final = re.compile(r"(content-disposition|content-type): ?([^\x00-\x1f\x7f]*)", re.IGNORECASE)
_TEXT: Final = re.compile(r'text/plain(; ?charset="?utf-8"?)?', re.IGNORECASE)


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a plain form, `None` when the media type is not one."""
    found = _MEDIA.fullmatch(content_type.strip())
    return None if found is None else found.group(2).encode("ascii")


def find_form_model(
    body: bytes,
    boundary: bytes,
    *,
    name: str = "model",
    refused: frozenset[str] = frozenset(),
    limits: Limits = LIMITS,
) -> str:
    """Return the model of a whole form. Raises `BodyRefused`; `NOT_A_FORM` for what is none, or no plain one."""
    model: str | None = None
    unwanted = frozenset(each.casefold() for each in refused)
    for part in _parts(body, boundary, limits):
        field, is_file, is_text, value = _part(part, limits)
        plain = field.strip().partition("[")[0].casefold()
        if plain == name.casefold():
            if field != name or is_file or not is_text:
                raise BodyRefused(BodyProblem.NAME_UNCLEAR)
            if model is not None:
                raise BodyRefused(BodyProblem.MODEL_TWICE)
            model = _model(value, limits)
        elif plain in unwanted:
            raise BodyRefused(BodyProblem.NAME_REFUSED)
    if model is None:
        raise BodyRefused(BodyProblem.MODEL_MISSING)
    return model


def _parts(body: bytes, boundary: bytes, limits: Limits) -> list[bytes]:
    """Return the parts between the boundaries. The mark of a boundary stands nowhere else, not even in a file."""
    mark = b"--" + boundary
    body = body.removesuffix(b"\r\n")
    if not body.startswith(mark + b"\r\n") or not body.endswith(b"\r\n" + mark + b"--"):
        raise BodyRefused(BodyProblem.NOT_A_FORM)
    inner = body[len(mark) + 2 : -len(mark) - 4]
    parts = inner.split(b"\r\n" + mark + b"\r\n")
    if body.count(mark) != len(parts) + 1 or len(parts) > limits.form_parts_count:
        raise BodyRefused(BodyProblem.NOT_A_FORM)
    return parts


def _part(part: bytes, limits: Limits) -> tuple[str, bool, bool, bytes]:
    """Return the name of a part, whether it is a file, whether it is said to be plain text, and its content."""
    head, separator, value = part.partition(b"\r\n\r\n")
    if not separator or len(head) > limits.form_head_bytes:
        raise BodyRefused(BodyProblem.NOT_A_FORM)
    kept: dict[str, str] = {}
    try:
        lines = head.decode("utf-8").split("\r\n")
    except UnicodeDecodeError:
        raise BodyRefused(BodyProblem.NOT_UTF8) from None
    for line in lines:
        found = _HEADER.fullmatch(line)
        if found is None or found.group(1).lower() in kept:
            raise BodyRefused(BodyProblem.NOT_A_FORM)
        kept[found.group(1).lower()] = found.group(2)
    named = _DISPOSITION.fullmatch(kept.get("content-disposition", ""))
    if named is None:
        raise BodyRefused(BodyProblem.NOT_A_FORM)
    media = kept.get("content-type")
    return named.group(1), named.group(2) is not None, media is None or _TEXT.fullmatch(media) is not None, value


def _model(value: bytes, limits: Limits) -> str:
    try:
        model = value.decode("utf-8")
    except UnicodeDecodeError:
        raise BodyRefused(BodyProblem.NOT_UTF8) from None
    if not model:
        raise BodyRefused(BodyProblem.MODEL_EMPTY)
    if len(model) > limits.id_characters:
        raise BodyRefused(BodyProblem.MODEL_TOO_LONG)
    if not model.isprintable() or model != model.strip():
        raise BodyRefused(BodyProblem.MODEL_NOT_TEXT)
    return model
