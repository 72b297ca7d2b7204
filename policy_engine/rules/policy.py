"""A Casbin model with its policy, read as `casbin.Enforcer` reads them: the same rows, order and errors.

Rules of the room: whatever `casbin.Enforcer(model, policy)` takes is taken, and what it raises while loading is raised;
a policy file is read line by line as Casbin's file adapter reads it, only faster, and within limits. What cannot be
compiled (contexts, conditional roles) is refused by name.
Left to others: what a served folder is refused beyond that (`rules.plain`), the matcher (`rules.expressions`).
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from casbin.core_enforcer import CoreEnforcer
from casbin.effect import get_effector
from casbin.model import Model
from casbin.persist import Adapter
from casbin.persist.adapter import _extract_tokens

from policy_engine.core.roles import NO_DOMAIN, Link
from policy_engine.errors import TooLarge
from policy_engine.limits import Limits
from policy_engine.rules.matcher import refuse_contexts
from policy_engine.rules.stock import silence
from policy_engine.rules.stumbles import (
    IndexRefused,
    RuntimeRefused,
    TypeRefused,
    definition_place,
    model_unread,
    refuse_missing,
    row_unread,
    unsorted,
)

Row = Sequence[Any]
SUBJECT_PRIORITY = "subjectPriority(p_eft) || deny"
"""The effect under which Casbin sorts rows by the roles of `g`."""
_SIMPLE = re.compile(r"(?:[^\[\]()]|[\[(][^\[\](),]*[\])])*")
"""A line whose brackets hold no comma and no brackets: every comma of it parts two cells."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A model and its rows in the order of Casbin's scan; `lines` are the rows of each role definition, as written.

    `written` is each row's place in the order written, `None` where that is the order of the scan. Rows that come
    later are written behind. It is kept because a change may sort anew, and Casbin leaves ties as they were written.
    """

    model: Any
    where: str
    rows: list[Row]
    lines: dict[str, list[Row]]
    path: str | None = None
    written: Sequence[int] | None = None

    def place(self, row: Row, kind: str = "p") -> str:
        """Return where a row stands: file and line, or what it says where no file is known."""
        if self.path is not None:
            with open(self.path, "rb") as file:
                for number, raw in enumerate(file, 1):
                    if split(raw.decode().strip()) == [kind, *row]:
                        return f"{self.path}:{number}"
        return f"policy row {', '.join(map(str, row))[:80]}"

    @property
    def tokens(self) -> tuple[str, ...]:
        """The request tokens as matchers name them, `r_sub`."""
        return tuple(self.model["r"]["r"].tokens)

    @property
    def columns(self) -> tuple[str, ...]:
        """The policy columns as matchers name them, `p_sub`."""
        return tuple(self.model["p"]["p"].tokens)

    @property
    def effect(self) -> str:
        """The effect as Casbin holds it."""
        text: str = self.model["e"]["e"].value
        return text

    @property
    def matcher(self) -> str:
        """The matcher as Casbin holds it, with `r.` and `p.` escaped."""
        text: str = self.model["m"]["m"].value
        return text

    @property
    def places(self) -> dict[str, int]:
        """How many places `_` each role definition has."""
        return {key: roles.value.count("_") for key, roles in (self.model["g"] or {}).items()}

    def links(self, key: str) -> list[Link]:
        """Return the links of a role definition. Raises `RuntimeError` as Casbin does for a line that is too short."""
        return [link_of(line, self.places[key]) for line in self.lines.get(key, ())]

    @property
    def matcher_place(self) -> str:
        """Where the matcher stands: file and line, where a file is known."""
        return definition_place(self.where, "matchers", "m")

    @property
    def sorts(self) -> bool:
        """Whether Casbin sorts the rows after reading them."""
        return self.effect == SUBJECT_PRIORITY or "p_priority" in self.columns

    def as_written(self, held: Sequence[tuple[int, Row]]) -> list[Row]:
        """Return rows, given with their slots, in the order in which they were written."""
        written = self.written
        if written is None:
            return [row for _, row in held]
        return [row for _, row in sorted(held, key=lambda at: written[at[0]] if at[0] < len(written) else at[0])]

    def with_rows(self, rows: list[Row]) -> Policy:
        """Return the policy with these rows, given as they were written, in the order of Casbin's scan."""
        ordered = self.ordered(rows, self.lines)
        if all(first is second for first, second in zip(rows, ordered, strict=True)):
            return replace(self, rows=ordered, written=None)
        place_of = {id(row): place for place, row in enumerate(rows)}
        return replace(self, rows=ordered, written=[place_of[id(row)] for row in ordered])

    def ordered(self, rows: Sequence[Row], lines: dict[str, list[Row]]) -> list[Row]:
        """Return rows in the order of Casbin's scan; the very row objects, so that each can be told from its equals.

        Raises `LoadRefused`, which is an error of Casbin's kind too, for rows that Casbin cannot put in order.
        """
        if not self.sorts:
            return list(rows)
        if self.effect == SUBJECT_PRIORITY and "g" not in self.places:
            message = "this effect sorts rows by the roles of `g`, which is not defined; add it under [role_definition]"
            raise TypeRefused(message, where=definition_place(self.where, "policy_effect", "e"))
        model = copy.deepcopy(self.model)
        model.clear_policy()
        model["p"]["p"].policy = list(rows)
        for key, held in lines.items():
            model["g"][key].policy = held
        try:
            model.sort_policies_by_subject_hierarchy()
            model.sort_policies_by_priority()
        except Exception as error:
            columns = [column.removeprefix("p_") for column in self.columns]
            refusal = unsorted(error, rows, columns, lines, self.place)
            if refusal is None:
                raise
            raise refusal from None
        return list(model["p"]["p"].policy)


def link_of(line: Row, places: int) -> Link:
    """Return the link that a line of a role definition makes. Raises `RuntimeError`, as Casbin does, if it is short."""
    if len(line) < places:
        raise RuntimeError("grouping policy elements do not meet role definition")
    return line[0], line[1], line[2] if places > 2 else NO_DOMAIN


def load(model: Any, policy: Any, limits: Limits) -> Policy:
    """Return model and policy. Raises `LoadRefused` for what cannot be compiled or read, else what Casbin raises."""
    silence()
    if not _taken(model, policy):
        message = "Invalid parameters for enforcer: pass two paths as text, or a casbin.Model and an adapter"
        raise RuntimeRefused(message)
    where = model if isinstance(model, str) else "model"
    held = _model(model) if isinstance(model, str) else model
    _check(held, where)
    held = copy.deepcopy(held)
    if policy is None or (not isinstance(policy, str) and hasattr(policy, "is_filtered") and policy.is_filtered()):
        return Policy(held, where, list(held["p"]["p"].policy), {})
    held.clear_policy()
    if isinstance(policy, str):
        _read(policy, held, limits)
    else:
        policy.load_policy(held)
    # An adapter may keep its rows and change them later; those of a file are nobody else's.
    rows = held["p"]["p"].policy if isinstance(policy, str) else [row[:] for row in held["p"]["p"].policy]
    path = policy if isinstance(policy, str) else None
    if len(rows) > limits.rules_count:
        message = f"the policy has more than {limits.rules_count} rules (rules_count); split it"
        raise TooLarge(message, where=path or where)
    lines = {key: list(roles.policy) for key, roles in (held["g"] or {}).items()}
    found = Policy(held, where, rows, lines, path).with_rows(rows)
    _check_links(found)
    return found


def _taken(model: Any, policy: Any) -> bool:
    """Return whether `casbin.Enforcer` takes the two: a path with a path or an adapter, or a model with an adapter."""
    if isinstance(model, str):
        return policy is None or isinstance(policy, str | Adapter)
    return isinstance(model, Model) and (policy is None or isinstance(policy, Adapter))


def _model(path: str) -> Any:
    try:
        return CoreEnforcer.new_model(path)
    except (UnicodeDecodeError, RuntimeError) as error:
        raise model_unread(error, path) from None


def _check_links(policy: Policy) -> None:
    for key, places in policy.places.items():
        for line in policy.lines[key]:
            if len(line) < places:
                message = (
                    f"grouping policy elements do not meet role definition: the `{key}` line has {len(line)} values "
                    f"where the model defines {places}; correct it"
                )
                raise RuntimeRefused(message, where=policy.place(line, key))


def _check(model: Any, where: str) -> None:
    place = partial(definition_place, where)
    refuse_missing(model, where, place)
    refuse_contexts(model, where, place)
    effect = model["e"]["e"].value
    try:
        get_effector(effect)
    except RuntimeError as error:
        message = f"{error}: {effect[:80]} is none of Casbin's; write e = some(where (p.eft == allow))"
        raise RuntimeRefused(message, where=definition_place(where, "policy_effect", "e")) from None


def split(line: str) -> list[str] | None:
    """Return the cells of a line as Casbin splits them, `None` for a blank line or a comment."""
    if not line or line[0] == "#":
        return None
    if any(map(line.__contains__, "()[]")) and _SIMPLE.fullmatch(line) is None:
        tokens: list[str] | None = _extract_tokens(line)
        return tokens
    plain = line.replace(", ", ",")
    if " " not in plain and plain.isprintable():  # no other white space is printable, so there is none to strip
        return plain.split(",")
    return [cell.strip() for cell in line.split(",")]


def _read(path: str, model: Any, limits: Limits) -> None:
    """Append the lines of a file as Casbin's file adapter does; a line without brackets is simply split at commas."""
    if not os.path.isfile(path):
        raise RuntimeRefused("invalid file path: there is no such policy file; correct the path", where=path)
    if os.stat(path).st_size > limits.policy_bytes:
        message = f"the policy is longer than {limits.policy_bytes} bytes (policy_bytes); split it"
        raise TooLarge(message, where=path)
    known = {key: held.policy for section in ("p", "g") for key, held in (model[section] or {}).items()}
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            try:
                tokens = split(raw.decode().strip())
            except (UnicodeDecodeError, IndexError) as error:
                raise row_unread(error, f"{path}:{number}") from None
            if tokens is None:
                continue
            rows = known.get(tokens[0])
            if rows is not None:
                rows.append(tokens[1:])
            elif not tokens[0]:
                message = "the line has no kind, such as `p`, before its first comma; correct it"
                raise IndexRefused(message, where=f"{path}:{number}")
