"""The command line in this process, as a shell runs it; what never changes between two commands is made once.

Typer makes every command of every group anew at each call, and each command loads the release that is in force: in a
shell both happen once a process. Nothing else is shared: each command opens and closes the database by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from typer import testing

from policy_engine.core.plain import AnyRelease
from policy_engine.services import releases

testing._get_command = functools.cache(testing._get_command)

CliRunner = testing.CliRunner

_LOADED: dict[frozenset[tuple[str, bytes]], AnyRelease] = {}


@contextmanager
def releases_loaded_once() -> Iterator[None]:
    """Give the same files the same release for a while. What is refused is refused each time."""
    load = releases.load_release

    def loaded(files: Mapping[str, bytes], **how: Any) -> AnyRelease:
        content = frozenset(files.items())
        if content not in _LOADED:
            _LOADED[content] = load(files, **how)
        return _LOADED[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases, "load_release", loaded)
        yield
