"""The run of the suite: see how the gateway answers, ask every check, see that it still answers, report.

The order is safety for the result:
1. The allowed model is asked for plainly. Without its answer nothing else would mean anything: the run ends.
2. The forbidden model is asked for plainly. If it answers, that is the hole, and what rests on it is not asked.
3. The checks, one after another. 4. The allowed model again: a gateway that went away meanwhile has refused nothing.
5. The checks that take something away.

Left to others: the checks (`catalogue`), sending (`sender`), showing (`cli.probeshown`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from policy_engine.probe.asks import OPENAI, Ask, Form, forms_of
from policy_engine.probe.catalogue import CHECKS, LAST, known
from policy_engine.probe.checking import PLAIN, Check, Scene, Verdict, skipped, unprobed, withheld
from policy_engine.probe.names import plain
from policy_engine.probe.outcomes import EVIDENCE_COUNT, SCHEMA, Outcome, Report, Result
from policy_engine.probe.reading import Kind, Reading, read
from policy_engine.probe.sender import Sender, Spent
from policy_engine.probe.standing import Names, Standing
from policy_engine.probe.target import Target
from policy_engine.probe.wire import Answer, Lack

Progress = Callable[[int, int], None]

PLAIN_FIX = "ask for a decision on every request before it is sent on, and deny without one"
_GENERIC = frozenset({"content-length", "content-type", "date", "connection", "transfer-encoding", "vary"})
_EDGE = frozenset({
    "server", "via", "strict-transport-security", "alt-svc", "cache-control", "content-security-policy",
    "permissions-policy", "referrer-policy", "x-content-type-options", "x-frame-options", "x-request-id",
    "x-xss-protection",
})  # fmt: skip
"""What proxies write themselves; nginx's `add_header` leaves it off a refusal, so it is no mark of the upstream."""
_CORS = "access-control-"
_NAMELESS = "answers do not name their model, so nobody can tell which one answers"
_SPENT = "the number of requests that was agreed (--requests), or of bytes, is used up"


def run(target: Target, progress: Progress = lambda done, total: None) -> Report:
    """Probe a gateway and return what was found. Raises `InputRefused` for checks that do not exist."""
    known(target.only, "--only")
    known(target.skip, "--skip")
    return _Run(target, progress).report()


class _Run:
    def __init__(self, target: Target, progress: Progress) -> None:
        self.target = target
        self.progress = progress
        self.id = secrets.token_hex(4)
        self.started = datetime.now(UTC)
        self.clock = time.monotonic()
        self.sender = Sender(target, self.id)
        self.scene = Scene(target, self.sender, Names(target.models), OPENAI, self.id)
        self.results: list[Result] = []

    def report(self) -> Report:
        """Run everything and return the report."""
        try:
            problem = self._baseline() or self._all()
        except Spent:
            problem = _SPENT
        if not self.results:
            self._plain(unprobed(problem), 0)
        for check in (*CHECKS, *LAST):  # whatever was not come to is said to be so, never left out
            if not any(result.check == check.name for result in self.results):
                self._note(check, self._unwanted(check) or unprobed(problem))
        return Report(
            schema=SCHEMA,
            target=f"{self.sender.to.origin}{self.sender.to.prefix}",
            run=self.id,
            dialect=self.scene.form.dialect,
            started_at=self.started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(time.monotonic() - self.clock, 3),
            requests=self.sender.count,
            sent_bytes=self.sender.sent_bytes,
            problem=problem,
            results=tuple(self.results),
        )

    def _baseline(self) -> str:
        """Ask plainly for both models, and learn how this gateway answers; return why nothing else can be asked."""
        scene = self.scene
        found = self._served()
        if isinstance(found, str):
            self._plain(unprobed(found), 0)
            return found
        ask, answer, reading = found
        if reading.standing is Standing.FORBIDDEN:
            shown = scene.put(ask)[1]
            self._plain(Verdict(Outcome.HOLE, f"asked for the allowed model: {shown.found}", (shown,)), 2)
            return "the allowed model is answered by the forbidden one"
        count = self.sender.count
        refusal = self.sender.ask(scene.form.ask(scene.forbidden, "the plain question"))
        scene.names.learn(reading.said, read(refusal, scene.names).said)
        scene.marks = _marks(answer, refusal)
        verdict = withheld(plain)(scene)
        self._plain(verdict, self.sender.count - count)
        return ""

    def _served(self) -> tuple[Ask, Answer, Reading] | str:
        """Return the plain answer of the allowed model, in the first form in which there is one, or why."""
        told = []
        for form in forms_of(self.target.dialect):
            ask = form.ask(self.scene.allowed, "the plain question")
            answer = self.sender.ask(ask)
            reading = read(answer, self.scene.names)
            if answer is Lack.UNREACHABLE:
                return "the gateway could not be reached"
            if isinstance(answer, Answer) and reading.kind is Kind.SERVED:
                self.scene.form = form
                named = reading.standing is not Standing.UNSAID
                return (ask, answer, reading) if named else _NAMELESS
            told.append(f"{_called(form)}: {reading.found}")
        return f"the allowed model is not served ({'; '.join(told)}): check its name, the credential and the address"

    def _all(self) -> str:
        """Ask every check; return what makes the whole run doubtful."""
        wanted = (*CHECKS, *LAST)
        for number, check in enumerate(CHECKS):
            self.progress(number, len(wanted))
            self._check(check)
        reading, _ = self.scene.put(self.scene.form.ask(self.scene.allowed, "the plain question, at the end"))
        if reading.kind is not Kind.SERVED:
            self.results = [_doubted(result) for result in self.results]
            return f"the allowed model was served at the start and not at the end ({reading.found})"
        for number, check in enumerate(LAST, start=len(CHECKS)):
            self.progress(number, len(wanted))
            self._check(check)
        self.progress(len(wanted), len(wanted))
        return ""

    def _check(self, check: Check) -> None:
        before = self.sender.count
        verdict = self._unwanted(check)
        open_ones = [each.check for each in self.results if each.outcome is Outcome.HOLE and each.check in check.rests]
        if verdict is None and open_ones:
            verdict = unprobed(f"it says nothing while `{open_ones[0]}` is a hole: mend that first")
        if verdict is None:
            verdict = check.run(self.scene)
        self._note(check, verdict, self.sender.count - before)

    def _unwanted(self, check: Check) -> Verdict | None:
        if check.name in self.target.skip:
            return skipped("left out by --skip")
        return skipped("left out by --only") if self.target.only and check.name not in self.target.only else None

    def _plain(self, verdict: Verdict, requests: int) -> None:
        self._note(Check(PLAIN, "names", PLAIN_FIX, lambda scene: verdict), verdict, requests)

    def _note(self, check: Check, verdict: Verdict, requests: int = 0) -> None:
        fix = check.fix if verdict.outcome is Outcome.HOLE else ""
        found = Result(check.name, check.group, verdict.outcome, verdict.finding, fix)
        shown = verdict.evidence[:EVIDENCE_COUNT]
        measured = verdict.measured_milliseconds
        self.results.append(replace(found, requests=requests, measured_milliseconds=measured, evidence=shown))


def _doubted(result: Result) -> Result:
    """Return a result of a gateway that went away: what it refused meanwhile may be nothing but its absence."""
    if result.outcome is not Outcome.PASSED:
        return result
    return replace(result, outcome=Outcome.UNCLEAR, finding=f"{result.finding}; but the gateway went away meanwhile")


def _called(form: Form) -> str:
    return f"{form.path} with {form.tokens_member}"


def _marks(answer: Answer, refusal: Answer | Lack) -> frozenset[str]:
    """Return the headers that an answer of the upstream has and a refusal has not."""
    if not isinstance(refusal, Answer) or refusal.status < 400:
        return frozenset()
    served, refused = ({name for name, _ in each.headers} for each in (answer, refusal))
    own = served - refused - _GENERIC - _EDGE
    return frozenset(name for name in own if not name.startswith(_CORS))
