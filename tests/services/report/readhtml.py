"""Reading a page as a browser would: its elements, their texts, and whether every one is closed."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta"})
OURS = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "nav",
        "footer",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "ul",
        "ol",
        "li",
        "a",
        "dl",
        "dt",
        "dd",
        "div",
        "table",
        "caption",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "figure",
        "figcaption",
        "details",
        "summary",
        "strong",
        "code",
        "pre",
        "span",
        "svg",
        "desc",
        "defs",
        "pattern",
        "rect",
        "line",
        "circle",
        "text",
    ]
)
"""Every element that the report is made of."""

ATTRIBUTES = frozenset(
    [
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "id",
        "class",
        "href",
        "open",
        "scope",
        "tabindex",
        "role",
        "aria-label",
        "aria-labelledby",
        "aria-hidden",
        "xmlns",
        "viewbox",
        "width",
        "height",
        "x",
        "y",
        "x1",
        "y1",
        "x2",
        "y2",
        "cx",
        "cy",
        "r",
        "patternunits",
        "patterntransform",
    ]
)
"""Every attribute that the report uses: none runs anything, and `href` leads into the page."""


@dataclass
class Page(HTMLParser):
    """A page, read. `problems` are what a browser would have to guess about."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember an element."""
        if tag not in OURS:
            self.problems.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES:
                self.problems.append(f"<{tag} {name}>")
            self.attributes.append((tag, name, value or ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        """Object to a comment: the report has none."""
        self.problems.append("a comment")

    def handle_data(self, data: str) -> None:
        """Remember a text and the element it stands in."""
        self.texts.append((self.open[-1] if self.open else "", data))

    def said(self) -> str:
        """Return every text of the page, the style sheet left out."""
        return " ".join(text for tag, text in self.texts if tag != "style")

    def values(self, name: str) -> list[str]:
        """Return every value of an attribute."""
        return [value for _, found, value in self.attributes if found == name]


def read(text: str) -> Page:
    """Return a page, read to its end."""
    page = Page()
    page.feed(text)
    page.close()
    page.problems += [f"<{tag}> is not closed" for tag in page.open]
    return page
