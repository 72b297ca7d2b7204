"""Log lines: every field that the product writes is on the closed list, for one that is not loses its value."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from policy_engine.logs import FIELDS

PRODUCT = Path(__file__).parents[2] / "policy_engine"
LEVELS = {"debug", "info", "warning", "error", "critical"}


def calls(text: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the event of each call that writes a log line, with the fields that it names."""
    for node in ast.walk(ast.parse(text)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS):
            continue
        if node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            yield node.args[0].value, {word.arg for word in node.keywords if word.arg not in (None, "exc_info")}


def test_every_field_of_a_log_line_is_on_the_list() -> None:
    """A field beside the list is dropped when the line is written, and what an operator needed is gone."""
    found = [(file, *call) for file in PRODUCT.rglob("*.py") for call in calls(file.read_text(encoding="utf-8"))]
    assert len(found) > 20
    assert [(file.name, event, fields - FIELDS) for file, event, fields in found if fields - FIELDS] == []


def test_a_field_beside_the_list_is_found() -> None:
    """The look above sees a call with such a field, and none in a call that writes no line."""
    text = 'log.warning("a.b", problem=1, exc_info=e)\nparser.error("usage")\nlog.info("c", **fields)'
    assert list(calls(text)) == [("a.b", {"problem"}), ("usage", set()), ("c", set())]
