"""The usual forms of a batch header and of a decision, each as one expression. They are here for speed alone.

Only canonical bytes without any escape match them, so whatever matches need not be parsed and written again. Without
this module the verifier finds the same and takes five times as long.
"""

from __future__ import annotations

import re

from policy_engine_verify.source import is_plain

_INTEGER, _TEXT = rb"[1-8][0-9]{0,15}+|9[0-9]{0,14}+|0", rb'"[^"]*+"'
_TEXTS = rb"\[(?:\]|%b(?:,%b)*\])" % (_TEXT, _TEXT)
_REASON = rb"\[(?:%b|null),%b,%b\]" % (_TEXT, _TEXT, _TEXTS)
_PARTS = {
    b"S": _TEXT,
    b"N": rb"(?:%b|null)" % _TEXT,
    b"I": rb"(?:%b)" % _INTEGER,
    b"M": rb"(?:%b|null)" % _INTEGER,
    b"H": rb"[0-9a-f]{64}",
    b"L": _TEXTS,
    b"R": rb"\[(?:\]|%b(?:,%b)*\])" % (_REASON, _REASON),
}
"""Never going back (`*+`) costs nothing within a text: what follows it is a quote, and it holds none.

Groups are not repeated so: before Python 3.11.5 one that is may match what it does not (gh-106052). An atomic group
(`(?>`) that captures nothing has no such fault, and spares the whole batch the memory of where each line could go back.
"""


def _form(text: bytes) -> re.Pattern[bytes]:
    """Return the expression of a form in which `<S>` is a text, `<N>` a text or null, `<I>` a whole number, ..."""
    return re.compile(re.sub(rb"<([A-Z])>", lambda part: _PARTS[part[1]], text))


HEADER = _form(
    rb'\{"at":(<I>),"batch":(<I>),"epoch":(<I>),"first":(<I>),"log":"([^"]+)","n":([1-9][0-9]{0,14}),"prev":"(<H>)",'
    rb'"release":(<N>),"root":"(<H>)","v":1\}'
)
_DECISION = (
    rb'\{"action":<N>,(?:"asked":<S>,|)"at":%b,"by":<S>,(?:"clock":"set",|)"commit":"%b","epoch":%b,'
    rb'(?:"flags":<L>,|)"id":<S>,"instant":<I>,"kind":"decision","licences":<L>,"lifted":<L>,"log":"%b",'
    rb'"missing":<L>,"model":<N>,"outcome":"(?:allow|deny)","reached":(?:true|false),"reasons":<R>,"release":%b,'
    rb'"rules":<L>,"sealed":"%b","seq":%b,"tenant":<N>,"tier":<M>,"until":<M>,"v":1\}'
)
_NAME = rb'([^"]*+)'
DECISION = _form(_DECISION % (rb"(<I>)", _NAME, rb"(<I>)", _NAME, rb"(<N>)", _NAME, rb"(<I>)"))
_DECISIONS = _form(
    rb'([0-9]+)\n([0-9]+)\n([^"\n]+)\n(<N>)(?:\n"([0-9]+)\n"(?>%b))+'
    % (_DECISION % (rb"\1", rb'[^"]*+', rb"\2", rb"\3", rb"\4", rb'[^"]*+', rb"\5"))
)
"""A batch at once: the time, epoch, log and release that all its decisions have, then each behind its number.

A text that had no end in its line would end at the quote before the next number, and no number follows a text. Nothing
within a line passes for what stands between two, since no line holds a newline.
"""


def all_decisions(lines: list[bytes], first: int, at: int, epoch: int, log: bytes, release: bytes) -> bool:
    """Return whether plain lines are decisions of the usual form with these members, numbered from `first` on."""
    if not lines:
        return False
    parts = [b"%d\n%d\n%b\n%b" % (at, epoch, log, release)] * (2 * len(lines) + 1)
    parts[1::2] = str(list(range(first, first + len(lines)))).encode()[1:-1].split(b", ")
    parts[2::2] = lines
    return _DECISIONS.fullmatch(b'\n"'.join(parts)) is not None


def matched(form: re.Pattern[bytes], data: bytes, plain: bool) -> re.Match[bytes] | None:
    """Return how bytes match a form. `plain`: they are known to need no escape."""
    return form.fullmatch(data) if plain or is_plain(data) else None
