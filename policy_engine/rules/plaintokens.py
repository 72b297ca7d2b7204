"""Where the request tokens of a plain Casbin folder come from: `[tokens]` of facets.toml, else their usual names.

Rules of the room: `sub`, `dom`, `obj` and `act` need no source; every other token does. A source is a path into the
request, whole entities included; derivations belong to packs. `[reasons]` may put the engine's sentences otherwise,
each in one printable line.
Left to others: reading the values (`core.plain`), views of entities (`core.views`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from policy_engine.core.plain import BASIC, REASONS
from policy_engine.core.release import DERIVED, ReasonText, Token
from policy_engine.core.views import OBJECT, SCALAR
from policy_engine.errors import LoadRefused
from policy_engine.limits import Limits
from policy_engine.rules.facets import PATH as FACETS_FILE
from policy_engine.rules.facets import reason_text
from policy_engine.rules.plainmodel import PlainModel
from policy_engine.rules.sources import Strict, TomlFile, read_strict, read_toml

USUAL: Final[Mapping[str, str]] = {
    "sub": "subject.id",
    "dom": "context.tenant",
    "obj": "resource.id",
    "act": "action.name",
}
"""The sources of tokens that facets.toml does not name."""
_NAME = "[A-Za-z_][A-Za-z0-9_]*"
_PATH = re.compile(
    "subject|resource|action|context|(subject|resource)[.](type|id)|action[.]name"
    f"|(subject|resource|action)[.]properties([.]{_NAME})*|context([.]{_NAME})+"
)
_OBJECTS = re.compile("(subject|resource|action)([.]properties)?|context")


class _Token(Strict):
    from_: str = Field(alias="from")
    kind: Literal["scalar", "set", "object"]


class _Reason(Strict):
    label: str | None = None
    message: str


class _Facets(Strict):
    tokens: dict[str, _Token] = Field(default_factory=dict)
    reasons: dict[str, _Reason] = Field(default_factory=dict)


def read_tokens(
    content: bytes | None, model: PlainModel, limits: Limits
) -> tuple[tuple[Token, ...], Mapping[str, ReasonText]]:
    """Return the tokens in order of the flat tuple, and the sentences said otherwise. Raises `LoadRefused`."""
    read, file = _Facets(), None
    if content is not None:
        file = read_toml(FACETS_FILE, content, limits.pack_bytes)
        named = file.data.get("tokens")
        for name, entry in named.items() if isinstance(named, dict) else ():
            if not isinstance(entry, dict):
                message = f'a source is written {name} = {{ from = "context.{name}", kind = "scalar" }}; correct it'
                raise LoadRefused(message, where=file.where("tokens", None, name))
        read = read_strict(file, file.data, _Facets)
        for name in read.tokens:
            if name not in model.tokens:
                message = f"`{name}` is no request token of model.conf; add it to `r = ...` or remove it here"
                raise LoadRefused(message, where=file.where("tokens", None, name))
        for code in read.reasons:
            if code not in REASONS:
                message = f"`{code}` is no reason that the engine gives here; it gives {', '.join(REASONS)}"
                raise LoadRefused(message, where=file.where("reasons", None, code))
    tokens = tuple(_token(name, read.tokens.get(name), file, model, limits) for name in model.tokens)
    if file is None:
        return tokens, {}
    found = read.reasons.items()
    return tokens, {code: reason_text(code, said.label or code, said.message, file, limits) for code, said in found}


def _token(name: str, entry: _Token | None, file: TomlFile | None, model: PlainModel, limits: Limits) -> Token:
    if entry is None or file is None:
        if name not in USUAL:
            message = f"the request token `{name}` has no source; give it one under [tokens] of facets.toml, such as "
            example = f'{name} = {{ from = "context.{name}", kind = "scalar" }}'
            raise LoadRefused(message + example, where=model.where("r"))
        return Token(name, USUAL[name], SCALAR)
    where = file.where("tokens", None, name)
    source = entry.from_
    if source.startswith(DERIVED):
        message = "derivations read the registers, which a plain folder does not consult; name a path of the request"
        raise LoadRefused(message, where=where)
    if not _PATH.fullmatch(source):
        message = 'a source is a path of the request, such as "subject", "subject.properties.role" or "context.ip"'
        raise LoadRefused(message, where=where)
    if len(source) > limits.text_characters:  # what is missing is named by its source, in answers and entries
        message = f"the source is longer than {limits.text_characters} characters (text_characters); shorten the path"
        raise LoadRefused(message, where=where)
    if source in BASIC and entry.kind != SCALAR:
        raise LoadRefused(f'`{source}` is a text; write kind = "scalar"', where=where)
    if _OBJECTS.fullmatch(source) and entry.kind != OBJECT:
        raise LoadRefused(f'`{source}` is an object; write kind = "object"', where=where)
    return Token(name, source, entry.kind)
