"""The documentation as data: pages, fenced blocks, links and named paths; and how a shown answer is compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
NAMED_PATH = re.compile(r"`((?:policy_engine|policies|docs|tests|benchmarks|migrations|\.ci)/[\w./*<>-]*)`")
VARYING = frozenset({"epoch", "seq", "valid_for_ms"})
"""Members of an answer whose number differs from run to run; their kind is compared."""


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language, its text, and the line it starts on."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return every page of the documentation, the README first."""
    return [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the fenced blocks of a page in the named languages (all when none is named), in order."""
    text = page.read_text(encoding="utf-8")
    found = [
        Block(match.group(1), match.group(2), text.count("\n", 0, match.start()) + 1) for match in FENCE.finditer(text)
    ]
    return [block for block in found if not languages or block.language in languages]


def section(page: Path, heading: str) -> str:
    """Return the text under a second-level heading, up to the next one."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def commands(block: Block) -> list[str]:
    """Return the commands of a shell block, one string each, continued lines joined."""
    joined = block.text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def differences(shown: Any, found: Any, where: str = "$") -> list[str]:
    """Return where an answer differs from the one that a page shows.

    A shown text ending in `…` stands for any text that begins like it. Numbers named in `VARYING` may differ.
    """
    if isinstance(shown, dict) and isinstance(found, dict):
        odd = [f"{where}.{name}: only on one side" for name in sorted(shown.keys() ^ found.keys())]
        for name in shown.keys() & found.keys():
            if name in VARYING and type(shown[name]) is type(found[name]):
                continue
            odd += differences(shown[name], found[name], f"{where}.{name}")
        return odd
    if isinstance(shown, list) and isinstance(found, list) and len(shown) == len(found):
        pairs = enumerate(zip(shown, found, strict=True))
        return [odd for place, (one, other) in pairs for odd in differences(one, other, f"{where}[{place}]")]
    if isinstance(shown, str) and isinstance(found, str) and shown.endswith("…"):
        return [] if found.startswith(shown[:-1]) else [f"{where}: begins otherwise"]
    return [] if shown == found and type(shown) is type(found) else [f"{where}: {shown!r} is shown, {found!r} came"]
