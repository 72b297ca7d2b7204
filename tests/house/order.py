"""The order of the tests: each of two workers begins with long ones, so that both are busy to the end.

`--dist worksteal` gives each worker a half of the list, and whoever is done takes over from the end of the other's.
What is short stands last, so nobody waits for a long test that began late. Files stay whole, and in their own order.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

FIRST_HALF = (
    "tests/services/test_auditor_questions.py",  # makes the long history where it is asked for
    "tests/services/test_replay_long.py",  # and this one reads it, in the same process
    "tests/cases/test_law_6_cases.py",
    "tests/store/test_tree.py",
    "tests/durability/test_disk_errors.py",
)
SECOND_HALF = (
    "tests/attacks/test_kill9_http.py",
    "tests/house/test_controls.py",
    "tests/attacks/test_postgres_kills.py",
    "tests/cli/test_postgres.py",
    "tests/verifier/test_tamper.py",
    "tests/attacks/test_kill9.py",
    "tests/docs/test_witness_page.py",
)


def ordered(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the same tests, the long files at the beginning of the list and at its middle."""
    first, second = (_of(files, items) for files in (FIRST_HALF, SECOND_HALF))
    long = {*map(id, first), *map(id, second)}
    rest = [item for item in items if id(item) not in long]
    between = max(0, len(items) // 2 - len(first))
    return [*first, *rest[:between], *second, *rest[between:]]


def _of(files: Sequence[str], items: Sequence[pytest.Item]) -> list[pytest.Item]:
    return [item for file in files for item in items if item.nodeid.partition("::")[0] == file]
