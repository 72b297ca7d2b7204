"""Operational logs: one JSON object a line, and nothing personal whatever a caller or a developer does."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from policy_engine import logs
from policy_engine.errors import StoreUnavailable


@pytest.fixture
def lines() -> Iterator[Any]:
    """Configure the logs into a text buffer and offer its lines as objects; restore afterwards."""
    out = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    disabled = logging.getLogger("uvicorn.access").disabled
    root.handlers[:] = []  # the suite's own keeper would see what the libraries wrote before we cut it
    logs.configure(level="info", stream=out)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.getLogger("uvicorn.access").disabled = disabled
    structlog.reset_defaults()


def test_a_line_is_one_object_with_event_level_and_time(lines: Any) -> None:
    """Machines read the log without a pattern."""
    structlog.get_logger().info("request.answered", route="/healthz", status=200, milliseconds=1.5)
    (line,) = lines()
    assert line["event"] == "request.answered" and line["level"] == "info" and line["at"].endswith("Z")
    assert (line["route"], line["status"], line["milliseconds"]) == ("/healthz", 200, 1.5)


def test_an_unknown_field_is_left_out_and_its_name_is_told(lines: Any, planted_facts: Any) -> None:
    """A fact logged by mistake does not get out, and the mistake shows."""
    structlog.get_logger().info("request.answered", subject=planted_facts.person, tenant=planted_facts.tenant, epoch=7)
    (line,) = lines()
    assert line["dropped"] == ["subject", "tenant"] and line["epoch"] == 7
    assert planted_facts.person not in json.dumps(line)


def test_free_text_is_no_event_name(lines: Any, planted_facts: Any) -> None:
    """An event built from values is written without them."""
    structlog.get_logger().warning(f"denied {planted_facts.person} at {planted_facts.location}")
    assert [line["event"] for line in lines()] == ["event.unnamed"]
    assert planted_facts.person not in json.dumps(lines())


def test_an_exception_is_its_class_and_place(lines: Any, planted_facts: Any) -> None:
    """The text of a foreign exception may hold anything and stays out."""
    try:
        raise KeyError(planted_facts.nationality)
    except KeyError:
        structlog.get_logger().exception("request.failed")
    (line,) = lines()
    assert line["error"] == "KeyError" and line["where"].startswith("test_logs.py:")
    assert planted_facts.nationality not in json.dumps(line) and "Traceback" not in json.dumps(line)


def test_our_own_errors_keep_their_sentence(lines: Any) -> None:
    """The sentences of `errors.py` hold no personal fact and tell the operator what happened."""
    error = StoreUnavailable("the database is locked; find the other process")
    structlog.get_logger().error("log.unavailable", exc_info=error)
    (line,) = lines()
    assert line["code"] == "log.unavailable" and "locked" in line["message"] and line["where"] == "unknown"


def test_lines_of_other_libraries_lose_their_arguments(lines: Any, planted_facts: Any) -> None:
    """A library's line is written with its logger; its template only where we know the library, its values never."""
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s", planted_facts.location)
    logging.getLogger("elsewhere").error(f"bad value {planted_facts.key}")
    known, unknown = lines()
    assert known["message"] == "Uvicorn running on %s" and known["library"] == "uvicorn.error"
    assert "message" not in unknown and unknown["level"] == "error"
    assert planted_facts.location not in json.dumps(lines()) and planted_facts.key not in json.dumps(lines())


def test_a_library_exception_is_its_class(lines: Any, planted_facts: Any) -> None:
    """A traceback of a library is reduced in the same way."""
    try:
        raise ValueError(planted_facts.reference)
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    (line,) = lines()
    assert line["error"] == "ValueError" and planted_facts.reference not in json.dumps(line)


def test_access_lines_are_off(lines: Any) -> None:
    """They hold paths and addresses, which are nobody's business."""
    logging.getLogger("uvicorn.access").info("GET /v1/subjects/%s", "x")
    assert lines() == []


def test_lines_go_to_whatever_standard_error_is_now(lines: Any, capsys: Any) -> None:
    """A process that replaces its standard error keeps its log."""
    logs.configure()
    structlog.get_logger().info("service.started")
    assert json.loads(capsys.readouterr().err)["event"] == "service.started" and lines() == []


def test_values_are_short_scalars_or_lists_of_them(lines: Any) -> None:
    """Nothing long or structured gets into a line."""
    structlog.get_logger().info("start.done", folder="x" * 1_000, codes={"b", "a"}, status={"a": 1}, sample=None)
    (line,) = lines()
    assert len(line["folder"]) == 300 and line["codes"] == ["a", "b"] and line["status"] == "dict"
    assert line["sample"] is None


def test_levels_below_the_one_configured_are_not_written(lines: Any) -> None:
    """`debug` stays out of an `info` log, and a second configuration replaces the first."""
    structlog.get_logger().debug("cache.filled")
    assert lines() == []
    out = io.StringIO()
    logs.configure(level="error", stream=out)
    logging.getLogger("elsewhere").error("x")
    structlog.get_logger().warning("queue.full")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["library.message"]
    assert lines() == []


def test_an_embedding_program_says_where_the_lines_go(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed on its standard output; its own handlers get one JSON object a line, nothing personal."""
    structlog.reset_defaults()
    got: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: got.append(record.getMessage())  # type: ignore[method-assign]  # a handler of a test
    logger = logging.getLogger("policy_engine")
    logger.addHandler(handler)
    try:
        logs.configure_embedded()
        structlog.get_logger().warning("sample.served", host="127.0.0.1", subject="alice")
    finally:
        logger.removeHandler(handler)
        structlog.reset_defaults()
    (line,) = [json.loads(each) for each in got]
    assert line == {"event": "sample.served", "level": "warning", "host": "127.0.0.1", "dropped": ["subject"]}
    assert capfd.readouterr().out == ""


def test_a_program_that_configured_its_logs_keeps_them() -> None:
    """Embedding the engine does not take over the whole program's structlog."""
    structlog.reset_defaults()
    kept: list[Any] = []
    structlog.configure(processors=[lambda _, __, event: kept.append(dict(event)) or "x"])
    try:
        logs.configure_embedded()
        structlog.get_logger().warning("of.the-program")
    finally:
        structlog.reset_defaults()
    assert [each["event"] for each in kept] == ["of.the-program"]
