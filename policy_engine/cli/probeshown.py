"""How a report of the probe is written: a table with a line per check, JSON with stable names, or JUnit's XML.

The forms hold the same facts. JSON is documented in `docs/probe.md`; JUnit counts a hole as a failure, and what is in
doubt or could not be asked as an error, so that a build server never shows it as passed.
Left to others: what was found (`policy_engine.probe`), exit codes (`probe`).
"""

from __future__ import annotations

import sys
from typing import Any
from xml.etree import ElementTree

from policy_engine.cli import output
from policy_engine.cli.output import Form, ProbeForm, printable
from policy_engine.probe import Outcome, Report, Result

_COLUMNS: output.Columns = (
    ("", "outcome"),
    ("check", "check"),
    ("found", lambda row: f"{row['finding']}\nFix: {row['fix']}" if row["fix"] else row["finding"]),
    ("requests", "requests"),
)


def show(report: Report, form: ProbeForm | None) -> None:
    """Write a report in the form asked for."""
    if form is ProbeForm.JUNIT:
        sys.stdout.write(junit(report))
        sys.stdout.flush()
        return
    rows = [output.plain(result) for result in report.ordered]
    output.emit(document(report), None if form is None else Form(form.value), lambda: table(report, rows))


def document(report: Report) -> dict[str, Any]:
    """Return a report as the JSON that is written."""
    results = [output.plain(result) for result in report.results]
    return {
        **{name: value for name, value in output.plain(report).items() if name != "results"},
        "holes": [result.check for result in report.holes],
        "complete": report.complete,
        "counts": {outcome.value: len(report.of(outcome)) for outcome in Outcome},
        "checks": results,
    }


def table(report: Report, rows: list[dict[str, Any]]) -> Any:
    """Return a report as Rich tables: what was found first, and the sum below."""
    from rich.console import Group
    from rich.text import Text

    counts = ", ".join(f"{len(report.of(outcome))} {outcome.value}" for outcome in Outcome)
    title = f"{report.target} ({report.dialect}), run {report.run}"
    sum_line = f"{counts}; {report.requests} requests in {report.seconds:.1f} s"
    return Group(output.rows_table(rows, _COLUMNS, title=printable(title)), Text(sum_line))


def junit(report: Report) -> str:
    """Return a report as the XML that build servers read."""
    failures, errors = len(report.holes), len(report.of(Outcome.UNCLEAR)) + len(report.of(Outcome.UNPROBED))
    suite = ElementTree.Element(
        "testsuite",
        name="policy-engine probe",
        tests=str(len(report.results)),
        failures=str(failures),
        errors=str(errors),
        skipped=str(len(report.of(Outcome.SKIPPED))),
        time=f"{report.seconds:.3f}",
        timestamp=report.started_at.removesuffix("Z"),
    )
    for result in report.results:
        _case(suite, result)
    return f"{ElementTree.tostring(suite, encoding='unicode', xml_declaration=True)}\n"


def _case(suite: ElementTree.Element, result: Result) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=f"probe.{result.group}", name=result.check)
    tags = {Outcome.HOLE: "failure", Outcome.SKIPPED: "skipped", Outcome.UNCLEAR: "error", Outcome.UNPROBED: "error"}
    if result.outcome in tags:
        said = ElementTree.SubElement(case, tags[result.outcome], message=printable(result.finding))
        said.set("type", result.outcome.value)
        said.text = f"Fix: {result.fix}" if result.fix else None
