"""The sections of the report: what is shown of what was counted, in words, tables and pictures. Pure.

Rules of the room: each picture has a table with the same numbers; what is not shown is said, with the reason.
Left to others: counting (`gathered`, `keyed`), HTML (`markup`), SVG (`charts`), the page around it (`page`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from policy_engine.core.instants import DAY, format_instant
from policy_engine.services.report.charts import Mark, beside_names, over_time, strip
from policy_engine.services.report.gathered import AT_THE_BEGINNING, Event, Gathered, Listed
from policy_engine.services.report.gone import Gone
from policy_engine.services.report.keyed import EVIDENCE_STATES, WITHHELD, Keyed, shown_row
from policy_engine.services.report.markup import Markup, Part, element, joined, paragraph, section, table
from policy_engine.services.verify import Report

ROWS_COUNT: Final = 40
BARS_COUNT: Final = 15
FINDINGS_COUNT: Final = 50
_OUTCOMES: Final = ("allow", "deny")
_LOOSENS: Final = ("switch.released", "order.ended", "order.amended")

KEY: Final = Markup(
    '<p class="key note"><span class="allow"></span>allow (solid) <span class="deny"></span>deny (hatched)</p>'
    '<p class="note">A solid line stands for what tightens, a dashed one for what loosens.</p>'
)


def decisions(found: Gathered) -> Markup:
    """Decisions over time, with the switches and directives that came and went."""
    period = found.period
    bars = [{outcome: found.bars[place, outcome] for outcome in _OUTCOMES} for place in range(period.bars_count)]
    length = period.until - period.since
    ticks = [(place * period.step / length, _day(period.since + place * period.step)) for place in _spread(len(bars))]
    marks = [
        Mark((event.at - period.since) / length, number, "loosens" if event.kind in _LOOSENS else "tightens")
        for number, event in enumerate(found.marks.events, start=1)
    ]
    most = max((sum(bar.values()) for bar in bars), default=0)
    picture = over_time(
        "over-time",
        f"Decisions by {period.step_name}, with switches and directives",
        f"{found.decisions:,} decisions in {len(bars)} bars; the tallest has {most:,}. {len(marks)} marks"
        f"{f' of {found.marks.count:,}' if found.marks.left else ''}; all numbers are in the tables below.",
        bars,
        ticks,
        marks,
    )
    rows = [
        (format_instant(period.since + place * period.step), bar["allow"], bar["deny"])
        for place, bar in enumerate(bars)
        if sum(bar.values())
    ]
    marked = [
        (str(number), _at(event.at), event.kind, event.about, event.entry)
        for number, event in enumerate(found.marks.events, start=1)
    ]
    return section(
        "decisions",
        "Decisions over time",
        picture,
        KEY,
        _with_left(
            table("Marks in the picture", ("mark", "at", "what", "id", "entry"), marked, numbers_from=9), found.marks
        ),
        _folded(
            f"The same by {period.step_name}", table(f"Decisions by {period.step_name}", ("from", *_OUTCOMES), rows)
        ),
    )


def reasons(found: Gathered) -> Markup:
    """Why decisions were denied."""
    ranked = found.reasons.most_common()
    bars = [(f"{rule} {code}", {"deny": count}) for (rule, code), count in ranked[:BARS_COUNT]]
    picture = [
        beside_names(
            "reasons", "Most frequent reasons of denies", f"The first {len(bars)} of {len(ranked)} reasons.", bars
        )
    ]
    rows = [(rule, code, count) for (rule, code), count in ranked]
    orders = [(order, count) for order, count in found.orders.most_common()]
    return section(
        "why",
        "Reasons of denies",
        *(picture if bars else []),
        _first(rows, lambda shown: table("Denies by reason", ("rule", "reason", "denies"), shown, numbers_from=2)),
        _first(orders, lambda shown: table("Decisions that an order is a reason of", ("order", "decisions"), shown)),
        paragraph("A deny may have several reasons, so the numbers add up to more than the denies.", kind="note"),
    )


def models(found: Gathered) -> Markup:
    """What was asked for: models with their tiers, actions, tenants, licences."""
    rows = [(*key, *counts) for key, counts in _by_outcome(found.models)]
    tenants = [(*key, *counts) for key, counts in _by_outcome(found.tenants)]
    actions = [(*key, *counts) for key, counts in _by_outcome(found.actions)]
    licences = list(found.licences.most_common())
    return section(
        "models",
        "Models, tiers and tenants",
        _first(rows, lambda shown: table("Decisions by model", ("model", "tier", *_OUTCOMES), shown, numbers_from=1)),
        _first(actions, lambda shown: table("Decisions by action", ("action", *_OUTCOMES), shown)),
        _first(tenants, lambda shown: table("Decisions by tenant", ("tenant", *_OUTCOMES), shown)),
        _first(licences, lambda shown: table("Decisions that used a licence", ("licence", "decisions"), shown)),
    )


def groups(found: Gathered, keyed: Keyed | None, sealed: str, least: int) -> Markup:
    """Tiers by country group of the persons, and the state of their evidence: counted by keyed tags, or said sealed."""
    heading = "Country groups and evidence"
    if keyed is None:
        return section("groups", heading, paragraph(element("strong", "Sealed. "), sealed))
    tiers = sorted({tier for tier, _ in found.tiers})
    shown: list[Sequence[Part]] = []
    small: list[str] = []
    for name in sorted({group for group, _ in keyed.groups}):
        row = shown_row(name, tiers, keyed.groups, least, keyed.withheld)
        if row is None:
            small.append(name)
        else:
            shown.append((name, *row[0], row[1]))
    headings = ("group", *(f"tier {tier}" for tier in tiers), "all")
    return section(
        "groups",
        heading,
        paragraph(
            "Counted by keyed tags, without opening any sealed part; that was a logged read. A person may count for "
            f"several groups. Numbers under {least} are withheld, and whatever they could be had from.",
            kind="note",
        ),
        table("Decisions by the country group of the person, and tier of the model", headings, shown),
        *([paragraph(f"Groups with under {least} decisions: ", ", ".join(small), ".")] if small else []),
        _evidence(keyed, least),
        _lacking(found, keyed),
    )


def _lacking(found: Gathered, keyed: Keyed) -> Markup:
    """Which decisions are in no keyed count."""
    gone = f"{_told(keyed.gone, f'the {found.decisions:,} decisions')}."
    if keyed.gone.told:
        gone += " What was sealed in them is in none of these numbers."
    if keyed.stateless:
        gone += (
            f" {keyed.stateless:,} more have no state of evidence: they did not reach the rules, or their tags are "
            "missing, which `audit verify` finds."
        )
    return paragraph(gone)


def _told(gone: Gone, which: str) -> str:
    """Return how many were erased or pruned, in words; none is a number too."""
    if not gone.told:
        return f"None of {which} was erased or pruned"
    were = "was" if gone.told == 1 else "were"
    return f"{gone.told:,} of {which} {were} erased or pruned ({gone.erased:,} erased, {gone.pruned:,} pruned)"


def _evidence(keyed: Keyed, least: int) -> Markup:
    rows: list[Sequence[Part]] = []
    bars: list[tuple[str, dict[str, int]]] = []
    for state in EVIDENCE_STATES:
        row = shown_row(state, _OUTCOMES, keyed.evidence, least, keyed.evidence_withheld)
        counts = {outcome: keyed.evidence.get((state, outcome), 0) for outcome in _OUTCOMES}
        if row is not None:
            rows.append((state, *row[0], row[1]))
            if row[1] != WITHHELD:
                bars.append((state, counts))
        elif sum(counts.values()):
            rows.append((state, f"under {least}", f"under {least}", f"under {least}"))
    picture = beside_names("evidence", "State of the evidence of nationality", f"{len(bars)} states.", bars)
    return joined(
        [
            *([picture] if bars else []),
            table("Decisions by the state of evidence", ("evidence", *_OUTCOMES, "all"), rows),
        ]
    )


def ages(counted: Sequence[tuple[str, int]] | None, gone: Gone, least: int) -> Markup:
    """How old the evidence was that decisions rested on: classes of age and what is in none, or why none is shown."""
    if counted is None:
        return paragraph(
            element("strong", "Sealed. "),
            "How old evidence was is in sealed parts. A person's key with audit:unseal gets it counted with ",
            element("code", "--ages"),
            ", which opens every decision of the period and is a logged read.",
        )
    large = sorted((count, name) for name, count in counted if count >= least)
    if 0 < sum(count for _, count in counted) - sum(count for count, _ in large) < least:
        del large[:1]  # classes add up to the decisions, so what is small would be what is left of them
    shown = {name for _, name in large}
    rows = [
        (name, f"{count:,}" if name in shown or not count else f"under {least}" if count < least else WITHHELD)
        for name, count in counted
    ]
    bars = [(name, {"decisions": count}) for name, count in counted if name in shown]
    picture = [beside_names("ages", "Age of the evidence at the decision", f"{len(bars)} classes of age.", bars)]
    lacking = f"{_told(gone, 'the decisions that reached the rules')}"
    if gone.unreadable:
        lacking += f", and {gone.unreadable:,} {'entry does' if gone.unreadable == 1 else 'entries do'} not open"
    lacking += ": no class has them." if gone.told or gone.unreadable else ", and all of them opened."
    classes = table("Decisions by the age of evidence", ("age", "decisions"), rows)
    return joined([*(picture if bars else []), classes, paragraph(lacking)])


def chain(report: Report | None, tree: Iterable[tuple[str, Part]], checkpoint: str | None) -> Markup:
    """Whether the log and the registers agree, and the newest checkpoint."""
    parts: list[Markup] = []
    if report is None:
        parts.append(
            paragraph(element("strong", "Not verified for this report. "), "Run ", element("code", "audit verify"), ".")
        )
    else:
        verdict = "The whole log and the registers agree." if report.ok else "They do NOT agree."
        parts.append(paragraph(element("strong", verdict, class_="good" if report.ok else "bad"), " ", report.note))
        parts.append(
            table("What was verified", ("what", "count"), [(name, count) for name, count in report.counts.items()])
        )
        places = [(finding.place, finding.message) for finding in report.findings[:FINDINGS_COUNT]]
        left = len(report.findings) + report.more - len(places)
        if places:
            parts.append(table("Places that do not agree", ("place", "what"), places, numbers_from=9))
        if left:
            parts.append(paragraph(f"{left:,} more are not listed; `audit verify` names them.", kind="note"))
    parts.append(table("The tree", ("what", "is"), list(tree), numbers_from=9))
    if checkpoint is not None:
        parts += [element("h3", "Newest checkpoint, as it was signed"), element("pre", checkpoint)]
    return section("chain", "The chain", *parts)


def eras(found: Gathered) -> Markup:
    """Which epochs and releases were in force, and since when."""
    period, length = found.period, found.period.until - found.period.since
    # Of too many to keep, it is not known how long the last that was kept was in force: then nothing is drawn.
    starts = [] if found.in_force.left else found.in_force.events
    ends = [*(era.at for era in starts[1:]), period.until][: len(starts)]
    parts = [
        (
            0.0 if era.kind == AT_THE_BEGINNING else (era.at - period.since) / length,
            (end - period.since) / length,
            era.release or "none",
        )
        for era, end in zip(starts, ends, strict=True)
    ]
    picture = strip("releases", "Releases in force", f"{len(parts)} stretches; the table names them.", parts)
    rows = [(str(era.epoch), _at(era.at), era.kind, _shortened(era.release)) for era in found.eras.events]
    used = [(release, count) for release, count in found.releases.most_common()]
    return section(
        "eras",
        "Epochs and releases",
        *([picture] if parts else []),
        *(
            [paragraph(f"{found.in_force.count:,} stretches: too many to draw.", kind="note")]
            if found.in_force.left
            else []
        ),
        _first(
            rows,
            lambda shown: table("Epochs", ("epoch", "since", "began by", "release"), shown, numbers_from=9),
            found.eras.left,
        ),
        _first(used, lambda shown: table("Decisions by release", ("release", "decisions"), shown)),
        _events(found, "releases", "Releases stored, published and activated"),
    )


def governance(found: Gathered) -> Markup:
    """Orders and switches, keys and approvals: every change of the period."""
    kinds = [(kind, count) for kind, count in sorted(found.kinds.items()) if kind != "decision"]
    return section(
        "governance",
        "Orders, keys and approvals",
        _events(found, "orders", "Switches and orders"),
        _events(found, "approvals", "Proposals, and what became of them"),
        _events(found, "keys", "Keys"),
        table("All other entries, by kind", ("kind", "entries"), kinds),
        paragraph("Keys stand for whoever held them; whose they were is in the register of keys.", kind="note"),
    )


def gaps(found: Gathered) -> Markup:
    """Times in which the log was away: denies were answered and counted, and nothing was allowed."""
    rows = [(code, count) for code, count in found.missed_reasons.most_common()]
    return section(
        "gaps",
        "Gaps",
        paragraph(
            f"{found.missed:,} denies were answered while the log was away. Nothing is allowed then; each gap says so "
            "in an entry when the log is back.",
        ),
        _events(found, "gaps", "Gaps that entries report"),
        table("Denies in gaps, by reason", ("reason", "denies"), rows),
    )


def privacy(found: Gathered) -> Markup:
    """Who read what is sealed, and what was erased, held and pruned."""
    rows = [(what, by, count) for (what, by), count in found.readings.most_common()]
    return section(
        "privacy",
        "Sealed readings, erasures and holds",
        _first(
            rows, lambda shown: table("Logged reads of what is sealed", ("what", "key", "reads"), shown, numbers_from=2)
        ),
        _events(found, "readings", "Readings and exports"),
        _events(found, "erasures", "Erasures, holds and prunings"),
    )


def _events(found: Gathered, sort: str, caption: str) -> Markup:
    listed: Listed[Event] = found.listed.get(sort, Listed())
    rows = [
        (_at(event.at), event.kind, event.about, event.by, event.remark or "-", event.entry) for event in listed.events
    ]
    return _with_left(table(caption, ("at", "what", "id", "key", "more", "entry"), rows, numbers_from=9), listed)


def _with_left(shown: Markup, listed: Listed[Event]) -> Markup:
    """Return a table of what was kept, and say how much was not."""
    note = f"The first {len(listed.events):,} of {listed.count:,}; `audit query` finds the rest."
    return joined([shown, paragraph(note, kind="note")]) if listed.left else shown


def _first(
    rows: Sequence[Sequence[Any]], shown: Callable[[Sequence[Sequence[Any]]], Markup], not_kept: int = 0
) -> Markup:
    """Return a table of the first rows, and say how many are left out; `not_kept` are those that are in no row."""
    left = len(rows) + not_kept - ROWS_COUNT
    if left <= 0:
        return shown(rows)
    return joined([shown(rows[:ROWS_COUNT]), paragraph(f"{left:,} more rows are not shown.", kind="note")])


def _by_outcome(counts: Counter[Any]) -> list[tuple[tuple[str, ...], tuple[int, int]]]:
    """Return `(key, (allows, denies))` of counters whose keys end with the outcome, the most frequent first."""
    keys = {key[:-1] for key in counts}
    found = [(key, (counts[(*key, "allow")], counts[(*key, "deny")])) for key in keys]
    return sorted(found, key=lambda item: (-sum(item[1]), item[0]))


def _folded(summary: str, content: Markup) -> Markup:
    """Return what a reader may fold away; it is open at first, so that it is printed."""
    return element("details", element("summary", summary), content, open="")


def _shortened(release: str | None) -> str:
    """Return the beginning of a hash; the whole of it stands in the table of decisions by release."""
    return "none" if release is None else release if len(release) <= 22 else f"{release[:19]}…"


def _spread(count: int) -> range:
    """Return the bars that get a tick: at most eight."""
    return range(0, count, max(1, -(-count // 8)))


def _day(at: int) -> str:
    text = format_instant(at)
    return text[5:10] if at % DAY == 0 else text[5:16].replace("T", " ")


def _at(at: int) -> str:
    return format_instant(at - at % 1_000_000)
