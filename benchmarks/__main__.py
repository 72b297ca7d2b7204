"""`python -m benchmarks [--quick] [--only NAME]`: run, print the table, write `out/bench.json`, judge.

Ends with 0 when every line is met, 1 when one is missed, 2 when a line could not be measured at all.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from benchmarks import (
    apart,
    casbin_shapes,
    cut,
    environments,
    envoy_checks,
    exports,
    in_process,
    middleware,
    orders_in_force,
    over_http,
    policy_cases,
    questions,
    releases,
    report,
    servers,
    side_by_side,
    tree_cost,
    verify_rate,
    wrk,
)
from benchmarks.progress import Live

OUT = servers.ROOT / "out"
POLICIES = servers.ROOT / "policies"
IMAGES = servers.ROOT / "docs" / "images"
PARTS = (
    "in-process",
    "orders",
    "http",
    "middleware",
    "cut",
    "envoy",
    "cases",
    "tree",
    "releases",
    "exports",
    "questions",
    "verify",
    "casbin",
)
STOPS = (
    wrk.LoadFailed,
    servers.NotStarted,
    in_process.TooManyRules,
    policy_cases.CasesFailed,
    side_by_side.AnswersDiffer,
    apart.ProcessDied,
    verify_rate.NotVerified,
    exports.NotExported,
    questions.NotFoundWhole,
    middleware.NotServed,
    cut.NotCut,
    environments.NotMade,
)


def main() -> int:
    """Run the chosen parts and return the exit code."""
    arguments = _arguments()
    OUT.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=arguments.folder))
    about = report.machine(folder)
    began, started = monotonic(), datetime.now(UTC)
    lines: list[report.Line] = []
    failures: list[str] = []
    left_out: list[str] = []
    with Live() as say:
        for part in arguments.only or PARTS:
            try:
                if part == "casbin":
                    found = casbin_shapes.measure(folder, OUT, about, quick=arguments.quick, say=say)
                    lines += found.lines
                    failures += [f"{part}: {sentence}" for sentence in found.unmeasured]
                    left_out += [f"{part}: {sentence}" for sentence in found.left_out]
                    _picture(casbin_shapes.PICTURE, arguments.docs)
                elif part == "cut":
                    lines += cut.measure(folder, POLICIES, OUT, about, quick=arguments.quick, say=say)
                    _picture(cut.PICTURE, arguments.docs)
                else:
                    lines += _measure(part, folder, quick=arguments.quick, say=say)
            except STOPS as error:
                failures.append(f"{part}: {error}")
            about["pace_ns"].append(report.pace())
    about |= {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(monotonic() - began, 1),
        "quick": arguments.quick,
        "seed": "none: the same questions in the same order every time",
        "failures": failures,
        "left_out": left_out,
    }
    shutil.rmtree(folder)
    report.save(OUT / "bench.json", lines, about)
    print(
        f"{about['processor']}, {about['cores']} cores, Python {about['python']}, {about['file_system']}, "
        f"fdatasync {about['fdatasync_us']['p50']:,} us, a turn of a loop "
        f"{min(about['pace_ns'])} to {max(about['pace_ns'])} ns"
    )
    print(report.table(lines))
    print(f"All figures: {(OUT / 'bench.json').relative_to(servers.ROOT)}")
    warning = report.busy(about)
    if warning:
        print(warning, file=sys.stderr)
    for sentence in left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return 2 if failures else 0 if all(line.met for line in lines) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: a smoke test, not a figure")
    parser.add_argument("--folder", type=Path, default=OUT, help="where the databases lie, so which disk (out/)")
    parser.add_argument("--docs", action="store_true", help=f"copy the pictures to {IMAGES.name}/ in docs/")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part; may be given again")
    return parser.parse_args()


def _measure(part: str, folder: Path, *, quick: bool, say: Live) -> list[report.Line]:
    if part == "in-process":
        turns = in_process.TURNS_QUICK if quick else in_process.TURNS
        return in_process.measure(folder, POLICIES, turns, say)
    if part == "orders":
        turns = in_process.TURNS_QUICK if quick else in_process.TURNS
        return orders_in_force.measure(folder, POLICIES, turns, say)
    if part == "http":
        return over_http.measure(folder, over_http.QUICK if quick else over_http.FULL, say)
    if part == "middleware":
        return middleware.measure(folder, POLICIES, quick=quick, say=say)
    if part == "envoy":
        return envoy_checks.measure(folder, over_http.QUICK if quick else over_http.FULL, say)
    if part == "tree":
        return tree_cost.measure(folder, over_http.QUICK if quick else over_http.FULL, say)
    if part == "releases":
        return releases.measure(POLICIES, 3 if quick else 15, say)
    if part == "questions":
        entries = questions.ENTRIES_QUICK if quick else questions.ENTRIES
        return questions.measure(POLICIES, folder, entries, questions.ROUNDS_QUICK if quick else questions.ROUNDS, say)
    if part == "exports":
        entries = exports.ENTRIES_QUICK if quick else exports.ENTRIES
        return exports.measure(POLICIES, folder, entries, 1 if quick else 3, say)
    if part == "verify":
        entries = verify_rate.ENTRIES_QUICK if quick else verify_rate.ENTRIES
        return verify_rate.measure(folder, entries, 1 if quick else 3, say)
    return policy_cases.measure(POLICIES, 1 if quick else 3, say)


def _picture(name: str, wanted: bool) -> None:
    """Put the picture of this run where the docs show it."""
    if wanted:
        IMAGES.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(OUT / name, IMAGES / name)


if __name__ == "__main__":
    sys.exit(main())
