"""The picture of the cut: how many streams had ended how long after the switch was committed.

Rules of the room: the same figures give the same bytes (fixed ids, no date), and the picture names the class of
machine, never the machine. It has a ground of its own, so that it reads on a light page and on a dark one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.plot import FAINT, GROUND, INK, OURS_COLOUR

TITLE = "Streams cut by one switch"
BINS = 50


def draw(milliseconds: list[float], machine: str, path: Path) -> None:
    """Write the histogram as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {"svg.hashsalt": "stream-cut", "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK}
    found = sorted(milliseconds)
    p99 = found[min(len(found) - 1, round(len(found) * 0.99))]
    with pyplot.rc_context(style):
        figure, panel = pyplot.subplots(figsize=(8.2, 3.8), facecolor=GROUND)
        panel.set_facecolor(GROUND)
        panel.hist(found, bins=BINS, color=OURS_COLOUR)
        panel.axvline(p99, color=INK, linestyle="--", linewidth=1)
        panel.text(p99, panel.get_ylim()[1] * 0.95, f" 99% by {p99:.0f} ms ", ha="right", va="top")
        panel.set_xlim(0, max(1_000.0, found[-1] * 1.05))
        panel.set_xlabel("milliseconds after the switch was committed")
        panel.set_ylabel("streams that ended")
        panel.grid(axis="y", color=FAINT, linewidth=0.7)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        figure.suptitle(TITLE, x=0.02, y=0.98, ha="left", fontsize=13, weight="bold")
        note = f"{len(found):,} open streams, half of them silent, one server process. {machine}."
        figure.text(0.02, 0.88, note, fontsize=9, va="center")
        figure.subplots_adjust(left=0.09, right=0.97, top=0.82, bottom=0.14)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, facecolor=GROUND, metadata={"Date": None, "Creator": None, "Title": TITLE})
        pyplot.close(figure)
