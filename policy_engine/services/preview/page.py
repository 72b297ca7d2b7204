"""A preview as one HTML page with pictures and tables. Pure.

Rules of the room: drawn and written by the rooms of the audit report, so nothing that was written by somebody becomes
markup and the page needs no network and no script. What may not be shown is said to be sealed. Long lists are cut at
`LISTED_COUNT`, and the page says so; the JSON form has them whole.
Left to others: finding out (`service`), the file (`cli`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from policy_engine.core.instants import ENDLESS, format_instant
from policy_engine.services.preview.answer import ByRecord, ByRegisters, Counts, EntryLine, Preview
from policy_engine.services.preview.standing import Line
from policy_engine.services.preview.tallies import DIMENSIONS, Share
from policy_engine.services.report.charts import HATCHING, beside_names, over_time
from policy_engine.services.report.markup import Markup, element, escaped, facts, joined, paragraph, section, table
from policy_engine.services.report.style import STYLE

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
LISTED_COUNT: Final = 500
BARS_COUNT: Final = 20

_KEY: Final = '<p class="key"><span class="deny"></span>loses (hatched) <span class="allow"></span>gains (plain)</p>'
_KEY_OF_DAYS: Final = (
    '<p class="key"><span class="deny"></span>denied (hatched) <span class="allow"></span>allowed (plain)</p>'
)


def page_of(preview: Preview, *, made_at: int, made_by: str, sample: bool) -> bytes:
    """Return the HTML of a preview."""
    sections = [_registers(preview.registers), _work(preview.registers), _served(preview.registers)]
    if preview.recorded is not None:
        sections.append(_recorded(preview.recorded))
    sections.append(section("limits", "What this does not say", _notes(preview.notes)))
    header = _header(preview, made_at, made_by, sample=sample)
    body = joined([HATCHING, header, element("main", joined(sections))])
    title = f"Preview: {preview.what} {preview.change}"
    whole = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body.text}\n</body>\n</html>\n"
    )
    return whole.encode()


def _header(preview: Preview, made_at: int, made_by: str, *, sample: bool) -> Markup:
    found = preview.registers.counts
    cards = (
        ("persons who lose", found.persons_losing, "bad" if found.persons_losing else "good"),
        ("persons who gain", found.persons_gaining, ""),
        ("combinations that lose", found.loses, ""),
        ("combinations that keep access", found.keeps, ""),
        ("undetermined", preview.registers.undetermined_count, "bad" if preview.registers.undetermined_count else ""),
        ("complete", "yes" if preview.complete else "no", "good" if preview.complete else "bad"),
    )
    glance = element(
        "ul",
        joined([element("li", element("strong", number, class_=kind), name) for name, number, kind in cards]),
        class_="cards",
    )
    about = facts(
        [
            ("change", f"{preview.what} of {preview.change}"),
            ("stage", preview.stage.replace("_", " ") + ("; a second person must approve" if preview.waits else "")),
            ("as of", format_instant(preview.at)),
            ("under", f"epoch {preview.epoch}, release {preview.release[:19]}…"),
            ("made", f"{format_instant(made_at)} by the key {made_by}; entry {preview.id}"),
        ]
    )
    lead = paragraph(
        "Nothing was changed. This is what the change would do, as the engine itself decides.", kind="lead"
    )
    notes = [paragraph("This database was filled with a SAMPLE world.", kind="bad")] if sample else []
    return element("header", joined([element("h1", f"Preview of {preview.change}"), lead, about, *notes, glance]))


def _registers(found: ByRegisters) -> Markup:
    parts = [
        paragraph(
            f"Asked: {found.asked_count:,} combinations of person, tenant, model and action, on the models ",
            f"{', '.join(found.models) or 'none'}, once as things stand and once with the change.",
        ),
        *_shares("registers", found.counts),
    ]
    headings = ("person", "tenant", "model", "action", "from", "effect", "reasons", "facts missing", "still served by")
    if found.lines is None:
        parts.append(paragraph("Persons are sealed: a key with audit:read sees them.", kind="note"))
    else:
        parts.append(table("Who loses and gains", headings, map(_line, found.lines[:LISTED_COUNT]), numbers_from=9))
        parts += _cut(len(found.lines))
    return section("registers", "Who could use it, by the registers", *parts)


def _line(line: Line) -> Sequence[str]:
    return (
        line.subject,
        line.tenant,
        line.model,
        line.action,
        line.region or "unknown",
        line.effect,
        ", ".join(line.reasons),
        ", ".join(line.missing) or "-",
        ", ".join(line.fallbacks) or "-",
    )


def _shares(id: str, counts: Counts) -> Iterable[Markup]:
    """Return a picture and a table for each dimension in which something changes."""
    if not counts.loses and not counts.gains:
        yield paragraph("Nobody loses and nobody gains anything.", kind="empty")
        return
    yield Markup(_KEY)
    for name in DIMENSIONS:
        shares = counts.by.get(name)
        if not shares:
            continue
        bars = [(share.value, {"deny": share.loses, "allow": share.gains}) for share in shares[:BARS_COUNT]]
        title = f"Combinations that lose or gain, by {name}"
        yield beside_names(f"{id}-{name}", title, f"Bars beside each {name}; the table has the numbers.", bars)
        headings = (name, "lose", "gain", "persons who lose", "persons who gain")
        yield table(title, headings, map(_share, shares[:LISTED_COUNT]))


def _share(share: Share) -> Sequence[str | int]:
    return (share.value, share.loses, share.gains, share.persons_losing, share.persons_gaining)


def _work(found: ByRegisters) -> Markup:
    counted = ("fact", "persons and tenants")
    parts = [
        paragraph("Denied after the change for want of a fact: the engine cannot tell whether it means them."),
        table("Undetermined, by the fact to bring", counted, found.undetermined_by_fact.items()),
    ]
    if found.undetermined is None:
        parts.append(paragraph("Persons are sealed: a key with audit:read sees them.", kind="note"))
    else:
        rows = (
            (one.subject, one.tenant, ", ".join(one.missing), ", ".join(one.models), one.loses)
            for one in found.undetermined[:LISTED_COUNT]
        )
        headings = ("person", "tenant", "facts to bring", "models", "loses")
        parts += [table("Work list", headings, rows, numbers_from=4), *_cut(len(found.undetermined))]
    return section("work", "Undetermined for want of evidence", *parts)


def _served(found: ByRegisters) -> Markup:
    rows = [(one.model, one.serves) for one in found.fallbacks]
    unserved = "unknown: the list stopped at its limit" if found.unserved is None else f"{found.unserved:,}"
    return section(
        "fallbacks",
        "Models that would still serve",
        table("Fallbacks of whoever loses", ("model", "person, tenant and action"), rows),
        paragraph(f"Combinations that lose and have no fallback: {unserved}."),
    )


def _recorded(found: ByRecord) -> Markup:
    since, until = format_instant(found.since_at), format_instant(min(found.until_at, ENDLESS - 1))
    days = found.days
    ticks = [(place / max(1, len(days)), day.day[5:]) for place, day in enumerate(days) if place % _every(days) == 0]
    was = [{"allow": day.allow, "deny": day.deny} for day in days]
    would = [{"allow": day.would_allow, "deny": day.would_deny} for day in days]
    parts = [
        paragraph(
            f"{found.decisions_count:,} decisions from {since} to {until}; {found.replayed_count:,} decided again."
        ),
        Markup(_KEY_OF_DAYS),
        over_time("was", "Decisions by day, as recorded", "Allowed and denied.", was, ticks, ()),
        over_time("would", "The same, had the change been in force", "Allowed and denied.", would, ticks, ()),
        table(
            "Decisions by day",
            ("day", "allowed", "denied", "would be allowed", "would be denied"),
            ((day.day, day.allow, day.deny, day.would_allow, day.would_deny) for day in days),
        ),
        *_shares("recorded", found.counts),
    ]
    if found.closed_count:
        parts.append(paragraph(f"Could not be decided again: {found.closed_count:,}.", kind="bad"))
    if found.lines is not None:
        headings = ("entry", "person", "tenant", "model", "action", "from", "effect", "reasons", "still served by")
        lines = map(_entry, found.lines[:LISTED_COUNT])
        parts += [table("Decisions that would differ", headings, lines, numbers_from=9), *_cut(len(found.lines))]
    return section("recorded", "The recorded decisions, had it been in force", *parts)


def _entry(line: EntryLine) -> Sequence[str]:
    reasons, fallbacks = ", ".join(line.reasons), ", ".join(line.fallbacks) or "-"
    where = (line.entry, line.subject, line.tenant, line.model, line.action, line.region or "unknown")
    return (*where, line.effect, reasons, fallbacks)


def _every(days: Sequence[object]) -> int:
    return max(1, len(days) // 10)


def _cut(count: int) -> list[Markup]:
    if count <= LISTED_COUNT:
        return []
    return [paragraph(f"The first {LISTED_COUNT:,} of {count:,} are shown; the JSON form has all.", kind="note")]


def _notes(notes: Sequence[str]) -> Markup:
    return element("ul", joined([element("li", note) for note in notes]))
