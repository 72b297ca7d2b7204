"""The page of the report: heading, numbers at a glance, table of contents, sections, and what it does not say. Pure.

Rules of the room: the page needs no network and no script, and its policy forbids both; it says when, by which key and
from which log it was made. Left to others: what is in the sections (`sections`), the file (`service`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policy_engine.core.instants import format_instant
from policy_engine.services.exports.tree import TreeFacts
from policy_engine.services.report import sections
from policy_engine.services.report.charts import HATCHING
from policy_engine.services.report.gathered import Gathered
from policy_engine.services.report.gone import Gone
from policy_engine.services.report.keyed import Keyed
from policy_engine.services.report.markup import Markup, Part, element, escaped, facts, joined, paragraph
from policy_engine.services.report.style import STYLE
from policy_engine.services.verify import Report

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_HEADING: Final = re.compile(r'<h2 id="([a-z]+)">([^<]*)</h2>')


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that a report shows. `sealed` says why keyed counts are missing, when they are.

    `ages_gone` is what the classes of age lack. `older` says why the database is taken for an older copy, if it is.
    """

    found: Gathered
    keyed: Keyed | None
    sealed: str
    ages: Sequence[tuple[str, int]] | None
    ages_gone: Gone
    verified: Report | None
    tree: TreeFacts
    made_at: int
    made_by: str
    tenants: Sequence[str] | None
    sample: bool
    older: str | None
    least: int


def page_of(content: Content) -> bytes:
    """Return the HTML of a report."""
    shown = _sections(content)
    body = joined([HATCHING, _header(content), _contents(shown), element("main", joined(shown)), _footer(content)])
    title = f"Audit report {content.found.period.name}"
    whole = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escaped(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body.text}\n</body>\n</html>\n"
    )
    return whole.encode()


def _sections(content: Content) -> list[Markup]:
    found = content.found
    return [
        sections.decisions(found),
        sections.reasons(found),
        sections.models(found),
        sections.groups(found, content.keyed, content.sealed, content.least),
        element(
            "section",
            element("h2", "Age of evidence", id="ages"),
            sections.ages(content.ages, content.ages_gone, content.least),
        ),
        sections.chain(content.verified, _tree(content.tree), content.tree.checkpoint),
        sections.eras(found),
        sections.governance(found),
        sections.gaps(found),
        sections.privacy(found),
    ]


def _tree(tree: TreeFacts) -> list[tuple[str, Part]]:
    return [
        ("origin", tree.origin or "none: there is no checkpoint yet"),
        ("key of the log", tree.key or "none"),
        ("leaves under the newest checkpoint", f"{tree.size:,}"),
    ]


def _header(content: Content) -> Markup:
    found = content.found
    cards = [
        ("decisions", f"{found.decisions:,}", ""),
        ("allowed", f"{found.outcomes['allow']:,}", ""),
        ("denied", f"{found.outcomes['deny']:,}", ""),
        ("log and registers", *_verdict(content.verified)),
        ("denies in gaps", f"{found.missed:,}", "bad" if found.missed else "good"),
        ("reads of what is sealed", f"{sum(found.readings.values()):,}", ""),
    ]
    glance = element(
        "ul",
        joined([element("li", element("strong", number, class_=kind), name) for name, number, kind in cards]),
        class_="cards",
    )
    about = facts(
        [
            ("period", found.period.text),
            ("entries read", f"{found.entries:,}, of {len(found.logs)} log{'' if len(found.logs) == 1 else 's'}"),
            ("of tenants", "all" if content.tenants is None else f"{', '.join(content.tenants)} only"),
            ("made", f"{format_instant(content.made_at)} by the key {content.made_by}"),
            ("log", content.tree.origin or "no checkpoint yet"),
        ]
    )
    notes = (
        [paragraph("This database was filled with a SAMPLE world; nothing in it is real.", kind="bad")]
        if content.sample
        else []
    )
    if content.older is not None:
        notes.append(
            paragraph(f"This database is NOT believed, and lacks what was written since: {content.older}.", kind="bad")
        )
    return element("header", joined([element("h1", f"Audit report {found.period.name}"), about, *notes, glance]))


def _verdict(report: Report | None) -> tuple[str, str]:
    if report is None:
        return "not verified", ""
    return ("agree", "good") if report.ok else ("do not agree", "bad")


def _contents(shown: Sequence[Markup]) -> Markup:
    """Return the table of contents; headings are our own words, escaped already."""
    items = [
        element("li", Markup(f'<a href="#{id}">{heading}</a>'))
        for part in shown
        for id, heading in _HEADING.findall(part.text)
    ]
    return element("nav", element("ol", joined(items)), aria_label="Contents")


def _footer(content: Content) -> Markup:
    limits = (
        f"Everything here was counted from the public parts of the log's entries in the period{_keyed(content)}. It "
        "holds no personal fact: whom decisions were about is sealed. Names of keys, orders, tenants and models are as "
        "the log has them.",
        "A report is no proof. That the log was not changed, an auditor checks with `policy-engine-verify` on an "
        "exported bundle, against a checkpoint that somebody else kept. Whether a fact was true, or an enforcement "
        "point obeyed, no log says.",
    )
    return element("footer", joined([paragraph(text) for text in limits]))


def _keyed(content: Content) -> str:
    return "" if content.keyed is None else ", and, where it says so, by keyed tags of their sealed parts"
