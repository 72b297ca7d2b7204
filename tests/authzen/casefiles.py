"""The case files of others (`cases/README.md`), as parameters for tests.

A status is a list everywhere, and every case of a suite has a method; nothing else is changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parent / "cases"
CERTIFICATION = "certification-scenario.json"
SUITE = "conformance-suite.json"
Case = dict[str, Any]


def document(file: str) -> Any:
    """Return what a file holds."""
    return json.loads((CASES / file).read_text(encoding="utf-8"))


def is_evaluation(case: Case) -> bool:
    """Say whether a case asks for decisions, and not for a search."""
    return "/search/" not in case["endpoint"]


def suite_cases(file: str, wanted: Callable[[Case], bool] = lambda case: True) -> list[Any]:
    """Return the cases of the certification scenario or of the conformance suite as parameters."""
    found = []
    for case in filter(wanted, document(file)["cases"]):
        status = case["expected_status"]
        whole = {"method": "POST", **case, "expected_status": status if isinstance(status, list) else [status]}
        found.append(pytest.param(whole, id=case.get("name") or f"{case['section']} {case['case']}"))
    return found


def interop_cases(folder: str, file: str, paths: dict[str, str]) -> list[Any]:
    """Return `(folder, path, request, expected)` for each case; `paths` says where a list of the file is sent."""
    return [
        pytest.param(folder, path, case["request"], case["expected"], id=f"{file} {name} {number}")
        for name, path in paths.items()
        for number, case in enumerate(document(file).get(name, ()))
    ]
