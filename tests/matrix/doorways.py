"""Both doors for the tests of permissions: the whole HTTP application and the real commands, on one open engine."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policy_engine import bootstrap
from policy_engine.api.app import Door
from policy_engine.bootstrap import Engine
from policy_engine.cli.app import app
from policy_engine.rules.release import read_folder
from tests.api.doors import ask
from tests.commandline import CliRunner
from tests.conftest import POLICIES

TAKEN = ("✓", "2", "✓2")
REFUSED = "✗"
CONFLICT = "!"
"""Signs of what came of an attempt: taken (in part, by a second person); not permitted; the state is another."""

REFUSALS = re.compile(
    r"this needs|the key (?:is unknown|is revoked|has expired)|reaches beyond the tenants|does not cover"
    r"|(?:another|a third) person|nobody (?:erases|sets facts)|a person's key exists already"
)
"""What a refusal of permission says on the command line, whose exit code is the one of every wrong use."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One change: what is sent over HTTP, and the words of the command. `None`: that door has no such change.

    In texts, `@door` stands for the door, `@me` for the persona, `@{name}` for what was prepared under a name.
    """

    http: tuple[str, Any] | None
    cli: tuple[Any, ...] | None


class Kept:
    """An open engine that a command may open and close as often as it likes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        """Leave it open."""


def other_release(comment: str) -> dict[str, bytes]:
    """Return the sample release with a comment of its own."""
    files = read_folder(POLICIES)
    return {**files, "models.toml": files["models.toml"] + f"\n# {comment}\n".encode()}


def filled(value: Any, door: str, me: str, names: Mapping[str, str]) -> Any:
    """Return a value with every `@` word of it filled in."""
    if value == "@release":
        return {path: data.decode() for path, data in other_release("published over HTTP").items()}
    if isinstance(value, str):
        plain = value.replace("@door", door).replace("@me", me)
        return re.sub(r"@\{([^}]*)\}", lambda found: names[found[1]], plain)
    if isinstance(value, dict):
        return {name: filled(member, door, me, names) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(filled(member, door, me, names) for member in value)
    return value


Try = Callable[[Attempt], tuple[str, str]]
"""Tries a change through a door; returns its sign and, when it was refused, the sentence."""


def over_http(engine: Engine, secret: str | None, me: str, names: Mapping[str, str]) -> Try:
    """Return what sends attempts to the whole HTTP application."""
    door = Door(engine)

    def attempt(change: Attempt) -> tuple[str, str]:
        if change.http is None:
            return "·", ""
        path, body = filled(change.http, "http", me, names)
        reply = ask(door, body, path=path, key=secret)
        said = reply.json()
        if reply.status in (401, 403, 409):
            return CONFLICT if reply.status == 409 else REFUSED, str(said["detail"])
        assert reply.status in (200, 201, 202), (path, said)
        return sign(reply.status == 202 or said.get("status") == "waiting", said.get("status") == "partly waiting"), ""

    return attempt


def on_the_command_line(
    engine: Engine, secret: str | None, me: str, names: Mapping[str, str], folder: Path, patch: pytest.MonkeyPatch
) -> Try:
    """Return what runs commands of the real program on the open engine."""
    patch.setattr(bootstrap, "open_engine", lambda *given, **more: Kept(engine))
    settings = {"DATABASE": engine.settings.database, "POLICIES": str(POLICIES)} | ({"KEY": secret} if secret else {})
    environment = {f"POLICY_ENGINE_{name}": value for name, value in settings.items()}

    def word(each: Any) -> str:
        if isinstance(each, dict):
            return str(written(folder / "order.toml", toml(each)))
        if isinstance(each, list):
            return str(written(folder / "facts.jsonl", "\n".join(json.dumps(line) for line in each)))
        return str(each)

    def attempt(change: Attempt) -> tuple[str, str]:
        if change.cli is None:
            return "·", ""
        words = [word(each) for each in filled(change.cli, "cli", me, names)]
        ran = CliRunner().invoke(app, words, env=environment, prog_name="policy-engine")
        if ran.exit_code == 2:
            sentence = ran.stderr.removeprefix("policy-engine: ").strip()
            return REFUSED if REFUSALS.search(sentence) else CONFLICT, sentence
        assert ran.exit_code in (0, 8), (words, ran.stderr, ran.exception)
        said = json.loads(ran.stdout)
        status = said.get("status") if isinstance(said, dict) else None
        return sign(ran.exit_code == 8, status == "partly waiting"), ""

    return attempt


def sign(waits: bool, partly: bool) -> str:
    """Return the sign of a change that was taken."""
    return "✓2" if partly else "2" if waits else "✓"


def written(file: Path, text: str) -> Path:
    """Write a file and return it."""
    file.write_text(text, encoding="utf-8")
    return file


def toml(document: Mapping[str, Any]) -> str:
    """Return an order as TOML; JSON's texts, lists and inline tables are TOML's, but for the colons."""
    lines = []
    for name, value in document.items():
        if name == "exempts":
            tables = ", ".join(
                "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in each.items()) + "}" for each in value
            )
            lines.append(f"exempts = [{tables}]")
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join(lines) + "\n"


def trace(engine: Engine) -> tuple[Any, ...]:
    """Return what any change would move."""
    head = engine.store.head()
    return (engine.store.state(), None if head is None else head.next_seq)
