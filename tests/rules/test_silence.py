"""Casbin writes the values of denied requests to the log; nothing made here does, whatever a host configures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import pytest
from casbin.persist.adapters import StringAdapter
from casbin.util.log import DEFAULT_LOGGING

from policy_engine.errors import StartRefused
from policy_engine.rules import CompiledEnforcer, check_distribution, stock_enforcer
from policy_engine.rules.stock import read_model
from tests.rules.test_enforcer import MATCHERS, conf

SECRET = "a-personal-fact"


class Everything(logging.Handler):
    """Keeps every record it is given."""

    def __init__(self) -> None:
        super().__init__(level=0)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's text."""
        self.texts.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[Everything]:
    """Offer a handler on the root and on each of Casbin's loggers, with every level open."""
    handler = Everything()
    loggers = [logging.getLogger(name) for name in (None, *DEFAULT_LOGGING["loggers"])]
    before = [(logger.level, logger.disabled, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(1)
    yield handler
    for logger, (level, disabled, propagate) in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.disabled, logger.propagate = disabled, propagate


def open_up() -> None:
    """Do what a careless host does: switch Casbin's loggers on again."""
    for name in DEFAULT_LOGGING["loggers"]:
        logger = logging.getLogger(name)
        logger.disabled, logger.propagate = False, True
        logger.setLevel(1)


@pytest.mark.parametrize("make", [stock_enforcer, CompiledEnforcer])
def test_no_request_reaches_a_log(make: Any, heard: Everything) -> None:
    """Denied, allowed and unreadable requests leave no record, even when a host opens Casbin's loggers again."""
    open_up()
    lines = StringAdapter(f"p, {SECRET}, data, read, allow\ng, {SECRET}, role, data")
    enforcer = make(read_model(conf(MATCHERS[0]), "model"), lines)
    open_up()
    assert enforcer.enforce(SECRET, "data", "read")
    assert not enforcer.enforce(SECRET, "other", "read")
    assert not enforcer.enforce([SECRET], "data", "read")
    assert heard.texts == []
    logging.getLogger("host").info("heard")
    assert heard.texts == ["heard"]


def test_the_older_distribution_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the distribution `casbin` is installed beside `pycasbin` the engine does not start; without it, it does."""
    check_distribution()
    monkeypatch.setattr(metadata, "version", lambda name: {"casbin": "1.43.0"}[name])
    with pytest.raises(StartRefused, match=r"`casbin` 1\.43\.0"):
        check_distribution()
