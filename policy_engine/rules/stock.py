"""The unmodified `casbin.Enforcer`: made here alone, silenced, and only beside the right distribution.

Rules of the room: Casbin writes the values of each denied request to the log; no enforcer made here can. Whatever
Casbin raises while reading a model or a policy becomes `LoadRefused`.
Left to others: what the lines mean (`rules.compile`), which lines there are (`rules.adapter`).
"""

from __future__ import annotations

import logging
import re
from importlib import metadata
from typing import Any, Final

import casbin
from casbin.persist import Adapter
from casbin.util.log import DEFAULT_LOGGING

from policy_engine.errors import LoadRefused, StartRefused
from policy_engine.rules.functions import add_functions
from policy_engine.rules.stumbles import definition_among, refuse_missing, refuse_unread

LEGACY_DISTRIBUTION: Final = "casbin"
_RETURN_ALONE: Final = re.compile(r"\r(?!\n)")
_UNREAD: Final = re.compile(r"parse the content error : line (\d+)")


class _Deaf(logging.Filter):
    """Lets no record through, whatever level or handler a host sets later."""

    def filter(self, record: logging.LogRecord) -> bool:
        return False


_DEAF = _Deaf()


def silence() -> None:
    """Make every logger of Casbin drop what it is given, for the whole process; calling it again changes nothing."""
    for name in DEFAULT_LOGGING["loggers"]:
        logging.getLogger(name).addFilter(_DEAF)


def stock_enforcer(model: Any, policy: Any = None) -> Any:
    """Return `casbin.Enforcer(model, policy)` with the published functions, which logs nothing.

    Raises what Casbin raises.
    """
    silence()
    enforcer = casbin.Enforcer(model, policy, enable_log=False)
    add_functions(enforcer)
    return enforcer


def read_model(text: str, where: str) -> Any:
    """Return the Casbin model that a text describes. Raises `LoadRefused` for what Casbin cannot read."""
    silence()
    if alone := _RETURN_ALONE.search(text):  # a file is read with a new line there, a text is not
        message = "the line holds a carriage return that ends no line; save the file with ordinary line ends"
        raise LoadRefused(message, where=f"{where}:{text.count(chr(10), 0, alone.start()) + 1}")
    model = casbin.Model()
    try:
        model.load_model_from_text(text)
    except Exception as error:  # noqa: BLE001  Casbin raises bare RuntimeError, IndexError and others
        if found := _UNREAD.match(str(error)):
            message = (
                "Casbin cannot read this line; write `name = ...`, each line of it but the last with a backslash behind"
            )
            raise LoadRefused(message, where=f"{where}:{found.group(1)}") from None
        message = f"Casbin cannot read this model ({type(error).__name__}); compare it with the sample's model.conf"
        raise LoadRefused(message, where=where) from None
    refuse_missing(model, where, lambda title, key: definition_among(text.split("\n"), where, title, key))
    refuse_unread(model, text, where)
    return model


def fill(model: Any, adapter: Adapter) -> Any:
    """Return the model with the adapter's lines in it."""
    adapter.load_policy(model)
    return model


def check_distribution() -> None:
    """Raise `StartRefused` when the older distribution `casbin` is installed beside `pycasbin`.

    Both install the package `casbin`, so that either may have overwritten the other.
    """
    try:
        version = metadata.version(LEGACY_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return
    raise StartRefused(
        f"the distribution `casbin` {version} is installed beside `pycasbin` and overwrites it; "
        "run `pip uninstall casbin` and reinstall pycasbin"
    )
