"""Which model a JSON body asks for: its one top-level `model`, found while the body streams through, never kept.

Rules of the room:
- Exact, or refused. A body passes only if every reader of JSON finds the same model in it: one `model` at the top, a
  string; a second one is refused wherever it stands, however it is spelled (escapes; upper case, which Go's reader
  takes for the same name), and so is a name that readers disagree about (a NUL, half a surrogate pair).
- A later `model` would win at most upstreams, so the scan goes on to the end of the body. Whoever has handed a
  beginning on must not hand on the piece in which `feed` raises: what went before is no whole object and no reader
  takes it for one.
- Time is bounded by the length: of top-level members, each of which is looked at by itself, there may be only so many.
- Memory is bounded whatever is sent: the scan keeps its place, open brackets, and the raw text of a name or of the
  model while it is short enough to matter.
- The top level is checked whole. Inside nested values the scan checks what decides where they end: UTF-8, strings and
  their escapes, brackets, and that nothing but JSON's own characters stands outside strings. Commas, colons and line
  breaks there are left to the upstream's reader.
- Sentences never hold what the body says.
Left to others: reading the body (the doors), forms (`formmodel`), what the model may be used for (`services.decide`).
"""

from __future__ import annotations

import codecs
import json
import re
from enum import Enum
from typing import Final

from policy_engine.core.bodyproblems import BodyProblem, BodyRefused
from policy_engine.limits import LIMITS, Limits

__all__ = ["BodyProblem", "BodyRefused", "ModelScan", "find_model"]

SLICE_CHARACTERS: Final = 65_536
"""A piece is scanned in slices of so many characters, so that no expression has more than that to remember."""

SPELLED_CHARACTERS: Final = 12
"""The longest spelling of one character in JSON: a surrogate pair of two escapes."""

SCALAR_CHARACTERS: Final = 1_024


class _At(Enum):
    """Where in the text the scan stands."""

    START = 1
    NAME_OR_END = 2
    NAME = 3
    COLON = 4
    VALUE = 5
    COMMA_OR_END = 6
    NESTED = 7
    DONE = 8


_SPACE: Final = re.compile(r"[ \t\n\r]*")
_SCALAR: Final = re.compile(r"[-+.0-9a-zA-Z]*")
_WHOLE_SCALAR: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_BETWEEN: Final = re.compile(r"[ \t\n\r,:\-+.0-9eEtrufalsn]*")
_CONTROL: Final = bytes(sorted({*range(0x20)} - {*b"\t\n\r"}))
_NO_ESCAPE: Final = re.compile(r"\\(?![/bfnrt]|u[0-9a-fA-F]{4})")
_BEGUN_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_DROPPED: Final = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_CLOSES: Final = {"}": "{", "]": "["}


class ModelScan:
    """One pass over one body. Feed it every piece in order, then `end` it; `model` is there as soon as it is known.

    `name` is the member that names the model. `refused` are further top-level members that no body may have: names
    under which an upstream would take another model. Both are compared without regard to case.
    """

    __slots__ = (
        "_at",
        "_decoder",
        "_depth_max",
        "_in_string",
        "_is_model",
        "_kept",
        "_kept_max",
        "_limits",
        "_members",
        "_name",
        "_open",
        "_refused",
        "_rest",
        "_scalar",
        "model",
    )

    def __init__(self, name: str = "model", *, refused: frozenset[str] = frozenset(), limits: Limits = LIMITS) -> None:
        self.model: str | None = None
        """The model, `None` while it is not known. It stays in doubt until `end` has returned."""
        self._name = name
        self._refused = frozenset(each.casefold() for each in refused)
        self._limits = limits
        self._depth_max = limits.guarded_depth_levels
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._at = _At.START
        self._open: list[str] = []
        self._in_string = self._is_model = False
        self._kept: str | None = None
        self._kept_max = SPELLED_CHARACTERS * max(len(each) for each in (name, *refused)) + SPELLED_CHARACTERS
        self._rest = self._scalar = ""
        self._members = 0

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body. Raises `BodyRefused`; nothing of the piece may be handed on then."""
        if len(piece.translate(None, _CONTROL)) != len(piece):
            raise BodyRefused(BodyProblem.NOT_JSON)
        try:
            text = self._decoder.decode(piece)
        except UnicodeDecodeError:
            raise BodyRefused(BodyProblem.NOT_UTF8) from None
        for start in range(0, len(text), SLICE_CHARACTERS):
            self._slice(self._rest + text[start : start + SLICE_CHARACTERS])

    def _slice(self, text: str) -> None:
        """Scan some of the text. In `marked`, of the same length, every quotation mark begins or ends a string."""
        marked, self._rest = text, ""
        if "\\" in text:
            marked = text.replace("\\\\", "__").replace('\\"', "__")
            begun = _BEGUN_ESCAPE.search(marked, max(0, len(marked) - 6))
            if begun is not None:
                self._rest = text[begun.start() :]
                text, marked = text[: begun.start()], marked[: begun.start()]
            if _NO_ESCAPE.search(marked) is not None:
                raise BodyRefused(BodyProblem.NOT_JSON)
        place, length = 0, len(text)
        while place < length:
            if self._in_string:
                place = self._string(text, marked, place)
            elif self._at is _At.NESTED:
                place = self._nested(marked, place)
            else:
                place = self._outside(marked, place)

    def end(self) -> str:
        """Return the model, now that the body has ended. Raises `BodyRefused` when it ended too early or has none."""
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            raise BodyRefused(BodyProblem.NOT_UTF8) from None
        if self._at is not _At.DONE:
            raise BodyRefused(BodyProblem.NOT_JSON)
        if self.model is None:
            raise BodyRefused(BodyProblem.MODEL_MISSING)
        return self.model

    def _outside(self, text: str, place: int) -> int:
        """Scan what is outside of strings, and return where to go on."""
        if not self._scalar:
            found = _SPACE.match(text, place)
            place = place if found is None else found.end()
            if place == len(text):
                return place
        if self._at is _At.VALUE:
            return self._value(text, place)
        self._mark(text[place])
        return place + 1

    def _mark(self, mark: str) -> None:
        """Take one character that is neither white space nor the beginning of a value, at the top level."""
        at = self._at
        if at is _At.START:
            if mark != "{":
                raise BodyRefused(BodyProblem.NOT_AN_OBJECT if mark in '["-0123456789tfn' else BodyProblem.NOT_JSON)
            self._at = _At.NAME_OR_END
        elif mark == '"' and at in (_At.NAME_OR_END, _At.NAME):
            self._at, self._in_string, self._kept = _At.NAME, True, ""
        elif mark == ":" and at is _At.COLON:
            self._at = _At.VALUE
        elif mark == "," and at is _At.COMMA_OR_END:
            self._at = _At.NAME
        elif mark == "}" and at in (_At.NAME_OR_END, _At.COMMA_OR_END):
            self._at = _At.DONE
        else:
            raise BodyRefused(BodyProblem.NOT_JSON)

    def _value(self, text: str, place: int) -> int:
        """Take the beginning of a top-level value, or more of a number or word that a piece before broke off."""
        mark = text[place]
        if not self._scalar and mark in '"{[':
            if mark != '"' and self._is_model:
                raise BodyRefused(BodyProblem.MODEL_NOT_TEXT)
            if mark == '"':
                self._in_string, self._kept = True, "" if self._is_model else None
            else:
                self._at = _At.NESTED
                return self._nested(text, place)
            return place + 1
        found = _SCALAR.match(text, place)
        end = place if found is None else found.end()
        self._scalar += text[place:end]
        if len(self._scalar) > SCALAR_CHARACTERS:
            raise BodyRefused(BodyProblem.NOT_JSON)
        if end < len(text):
            if _WHOLE_SCALAR.fullmatch(self._scalar) is None:
                raise BodyRefused(BodyProblem.NOT_JSON)
            if self._is_model:
                raise BodyRefused(BodyProblem.MODEL_NOT_TEXT)
            self._scalar = ""
            self._at = _At.COMMA_OR_END
        return end

    def _nested(self, text: str, place: int) -> int:
        """Go from bracket to bracket of a nested value, up to its end, the text's, or a string that breaks off."""
        opened, between, find, length = self._open, _BETWEEN.match, text.find, len(text)
        while True:
            found = between(text, place)
            place = place if found is None else found.end()
            if place == length:
                return place
            mark = text[place]
            place += 1
            if mark == '"':
                end = find('"', place)
                if end < 0:
                    self._in_string, self._kept = True, None
                    return length
                place = end + 1
            elif mark in "{[":
                opened.append(mark)
                if len(opened) >= self._depth_max:  # the object itself is the first level
                    raise BodyRefused(BodyProblem.TOO_DEEP)
            elif mark in "}]" and opened[-1] == _CLOSES[mark]:
                opened.pop()
                if not opened:
                    self._at = _At.COMMA_OR_END
                    return place
            else:
                raise BodyRefused(BodyProblem.NOT_JSON)

    def _string(self, text: str, marked: str, place: int) -> int:
        """Go to the end of a string, or of the text."""
        end = marked.find('"', place)
        if self._kept is not None:
            self._kept = self._keeping(self._kept + text[place : len(text) if end < 0 else end])
        if end < 0:
            return len(text)
        self._in_string = False
        if self._at is not _At.NESTED:
            self._ended()
        return end + 1

    def _keeping(self, raw: str) -> str:
        """Return what to keep of the raw text: all of the model while it is not too long, as much of a name as matters.

        A name that is cut off is longer than any that matters."""
        if self._at is _At.NAME:
            return raw[: self._kept_max]
        if len(raw) > SPELLED_CHARACTERS * self._limits.id_characters:
            raise BodyRefused(BodyProblem.MODEL_TOO_LONG)
        return raw

    def _ended(self) -> None:
        """Take a name, or the model, whose text has ended."""
        raw = self._kept or ""
        self._kept = None
        if self._at is _At.NAME:
            self._named(raw)
        else:
            if self._is_model:
                self.model = self._chosen(raw)
            self._at = _At.COMMA_OR_END

    def _named(self, raw: str) -> None:
        """Take a top-level name: is it the model's, or one that is refused?"""
        self._at, self._is_model = _At.COLON, False
        self._members += 1
        if self._members > self._limits.guarded_members_count:
            raise BodyRefused(BodyProblem.TOO_MANY)
        if len(raw) == self._kept_max:  # too long to matter, but for readers that drop or stop at what is no character
            if _DROPPED.search(raw) is not None:
                raise BodyRefused(BodyProblem.NAME_UNCLEAR)
            return
        name = _unescaped(raw)
        if name is None or "\0" in name:
            raise BodyRefused(BodyProblem.NAME_UNCLEAR)
        if name == self._name:
            if self.model is not None:
                raise BodyRefused(BodyProblem.MODEL_TWICE)
            self._is_model = True
            return
        folded = name.casefold()
        if folded == self._name.casefold():
            raise BodyRefused(BodyProblem.NAME_UNCLEAR if self.model is None else BodyProblem.MODEL_TWICE)
        if folded in self._refused:
            raise BodyRefused(BodyProblem.NAME_REFUSED)

    def _chosen(self, raw: str) -> str:
        model = _unescaped(raw)
        if model is None:
            raise BodyRefused(BodyProblem.MODEL_NOT_TEXT)
        if not model:
            raise BodyRefused(BodyProblem.MODEL_EMPTY)
        if len(model) > self._limits.id_characters:
            raise BodyRefused(BodyProblem.MODEL_TOO_LONG)
        return model


def find_model(
    body: bytes,
    *,
    complete: bool = True,
    name: str = "model",
    refused: frozenset[str] = frozenset(),
    limits: Limits = LIMITS,
) -> str:
    """Return the model of a body that is here as a whole. Raises `BodyRefused`.

    A body of which only a beginning is here (`complete=False`) is always refused, for a later `model` could win:
    `MODEL_NOT_REACHED` when none was in it, `INCOMPLETE` when one was. Whoever sees the rest pass uses `ModelScan`.
    """
    if complete and len(body) <= SLICE_CHARACTERS:
        found = _plainly(body, name, refused, limits)
        if found is not None:
            return found
    scan = ModelScan(name, refused=refused, limits=limits)
    scan.feed(body)
    if complete:
        return scan.end()
    raise BodyRefused(BodyProblem.MODEL_NOT_REACHED if scan.model is None else BodyProblem.INCOMPLETE)


def _plainly(body: bytes, name: str, refused: frozenset[str], limits: Limits) -> str | None:
    """Return the model of a short, whole and plain body, read at once; `None`: let it be scanned.

    Nothing is refused here. Every top-level name is plain ASCII and every bracket might nest, or it is not plain.
    """
    if body[:1] != b"{" or body.count(b"{") + body.count(b"[") > limits.guarded_depth_levels:
        return None
    try:
        text = body.decode("utf-8")
        members, end = _read(text)
    except ValueError:
        return None
    names = [key for key, _ in members]
    lowered, spelled = [key.lower() for key in names], "".join(names)
    if len(names) > limits.guarded_members_count:
        return None
    if name not in names or lowered.count(name.lower()) != 1 or not spelled.isascii() or not spelled.isprintable():
        return None
    if text[end:].strip(" \t\n\r") or (refused and not {each.lower() for each in refused}.isdisjoint(lowered)):
        return None
    model = members[names.index(name)][1]
    plain = type(model) is str and model.isascii() and 0 < len(model) <= limits.id_characters
    return model if plain else None


def _short(number: str) -> None:
    """Take a number that nobody reads. Raises `ValueError` for one too long, and for what is no number."""
    if len(number) > SCALAR_CHARACTERS or number[-1:] in "Ny":
        raise ValueError("no plain number")


_read: Final = json.JSONDecoder(object_pairs_hook=list, parse_int=_short, parse_constant=_short).raw_decode


def _unescaped(raw: str) -> str | None:
    """Return the text of a JSON string between its quotation marks, `None` when it holds half a surrogate pair."""
    if raw.isascii() and "\\" not in raw and raw.isprintable():
        return raw
    try:
        text: str = json.loads(f'"{raw}"')
    except json.JSONDecodeError:
        raise BodyRefused(BodyProblem.NOT_JSON) from None  # a line break
    return None if any("\ud800" <= character <= "\udfff" for character in text) else text
