"""`switch preview` and `order preview`: forms, the page, refusals, and silence where nobody looks."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from policy_engine.cli.exits import Code
from tests.cli.conftest import Shell

Written = Callable[[str, str], Path]
LETTER = 'kind = "directive"\nid = "letter-1"\nmodels = ["fable-5"]\nblocks = ["foreign_person"]\n'


class Page(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down a tag."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Take down a text."""
        self.texts.append(data)


def test_a_preview_names_who_loses_and_a_release_who_gains(shell: Shell) -> None:
    """The operator sees persons; after engaging for real the release gives the same persons back, and has no end."""
    found = shell("switch", "preview", "--scope", "model=fable-5", key="operator").json
    losing = {(line["subject"], line["model"]) for line in found["registers"]["lines"]}
    assert ("alice", "fable-5") in losing and found["registers"]["counts"]["gains"] == 0
    assert shell("switch", "engage", "off", "--scope", "model=fable-5", "--reason", "r", key="operator").code == Code.OK
    back = shell("switch", "preview", "--release", "off", key="operator").json
    assert {(line["subject"], line["model"]) for line in back["registers"]["lines"]} == losing and back["waits"]
    endless = shell("switch", "preview", "--release", "off", "--until", "2031-01-01", key="operator")
    assert endless.code == Code.USAGE and "--until" in endless.err and not endless.out
    nothing = shell("switch", "preview", "--release", "off", "--at-once", key="operator")
    assert nothing.json["registers"]["counts"]["gains"] == 0 and "waits for a second person" in nothing.err


def test_local_gets_counts_on_a_sample_and_no_orders(shell: Shell) -> None:
    """Without a key nobody is named, and orders are not previewed at all."""
    ran = shell("switch", "preview", "--scope", "model=fable-5")
    assert ran.code == Code.OK and ran.json["registers"]["lines"] is None and "audit:read" in ran.err
    assert ran.json["registers"]["counts"]["loses"] > 0 and "alice" not in ran.out
    assert shell("order", "preview", "--end", "none").code == Code.USAGE


def test_the_tables_say_it_at_a_glance(shell: Shell, written: Written) -> None:
    """Counts, persons and the work list stand in tables of their own."""
    ran = shell("order", "preview", written("l.toml", LETTER), "-o", "table", key="operator")
    assert ran.code == Code.OK
    for words in ("persons losing", "still served by", "undetermined", "eve", "sofia", "person.nationality_evidence"):
        assert words in ran.out
    assert "previewing" not in ran.err


def test_the_page_is_whole_needs_nothing_and_escapes(shell: Shell, written: Written, tmp_path: Path) -> None:
    """One file with pictures and tables; ids that look like markup are text; no script and nothing from outside."""
    assert shell.asked().code == Code.OK
    odd = LETTER.replace("letter-1", "<script>alert(1)</script>")
    place = tmp_path / "page.html"
    words = ("order", "preview", written("l.toml", odd), "--html", place)
    assert shell(*words, key="operator").code == Code.OK
    text = place.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert page.tags.count("svg") >= 6 and page.tags.count("table") >= 6
    assert any("<script>" in words for words in page.texts) and "http-equiv" in text and "sofia" in text
    again = shell(*words, key="operator")
    assert again.code == Code.USAGE and "exists" in again.err
    assert shell(*words, "--force", key="operator").code == Code.OK


def test_a_page_for_whoever_may_not_see_persons_names_none(shell: Shell, tmp_path: Path) -> None:
    """Sealed is said, not left blank."""
    place = tmp_path / "page.html"
    assert shell("switch", "preview", "--scope", "tier=4", "--html", place).code == Code.OK
    text = place.read_text(encoding="utf-8")
    assert "sealed" in text and not any(name in text for name in ("alice", "sofia", "bruno"))


REFUSED = (
    "switch preview",
    "switch preview --scope model=fable-5 --release off",
    "switch preview --scope family=fabel",
    "switch preview --scope drill=true",
    "switch preview --release none",
    "switch preview --scope model=fable-5 --days 367",
    "switch preview --scope model=fable-5 --location Germany",
    "order preview",
    "order preview --end none",
    "order preview --amend a --end b",
    "order preview no-such-file.toml",
)


def test_what_cannot_be_meant_is_refused_and_not_logged(shell: Shell) -> None:
    """Each is a usage error with a sentence and no answer, and none leaves an entry."""
    for words in REFUSED:
        ran = shell(*words.split(), key="operator")
        assert ran.code == Code.USAGE and ran.err.strip() and not ran.out, words
    assert "1 entries" in next(one["found"] for one in shell("doctor").json["checks"] if one["name"] == "log")


def test_another_kind_is_not_amended(shell: Shell, written: Written) -> None:
    """The file of an amendment is of the order's own kind."""
    assert shell("order", "receive", written("l.toml", LETTER), key="operator").code == Code.OK
    other = written("o.toml", 'kind = "licence"\n' + LETTER.split("\n", 1)[1])
    ran = shell("order", "preview", "--amend", "letter-1", other, key="operator")
    assert ran.code == Code.USAGE and "must be directive" in ran.err
