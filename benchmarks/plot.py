"""The picture of a side-by-side run: cost of one decision against the number of rules, a panel for each shape.

Rules of the room: the same points give the same bytes (fixed ids, no date), and the picture names the class of machine,
never the machine. It has a ground of its own, so that it reads on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.enforcers import CEDAR, ENGINES, OURS, STOCK
from benchmarks.shapes import SHAPES
from benchmarks.side_by_side import FIRST_SEEN, FLOWS, REPEATED, SIZES, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by brightness and by mark as well as by hue (Okabe and Ito's palette, for readers who see fewer hues).
OURS_COLOUR = "#0072b2"
COLOURS = {OURS: OURS_COLOUR, STOCK: "#d55e00", CEDAR: "#5a5a5a"}
MARKS = {OURS: "o", STOCK: "s", CEDAR: "^"}
STROKES: dict[str, Any] = {REPEATED: "-", FIRST_SEEN: (0, (2.2, 1.6))}
GROUND, INK, FAINT = "#fbfbf9", "#1d1d1f", "#d9d9d4"
TITLE = "Cost of one decision against the number of rules"
LOWEST, HIGHEST = 0.2, 1e7
TICKS = {1.0: "1 µs", 10.0: "10 µs", 100.0: "100 µs", 1e3: "1 ms", 1e4: "10 ms", 1e5: "100 ms", 1e6: "1 s"}


def draw(points: Iterable[Point], versions: dict[str, str | None], machine: str, path: Path) -> None:
    """Write the picture as SVG (or as what the path's ending names)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = list(points)
    style: Any = {
        "svg.hashsalt": "cost-against-rules",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": "#8a8a86",
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with pyplot.rc_context(style):
        figure, grid = pyplot.subplots(2, 4, figsize=(12.4, 6.9), sharex=True, sharey=True, facecolor=GROUND)
        panels = list(grid.flat)
        for panel, shape in zip(panels, SHAPES, strict=False):
            _panel(panel, [each for each in found if each.shape == shape.name])
            panel.set_title(shape.title, fontsize=10, loc="left", fontweight="bold")
        _axes(grid)
        _legend(panels[len(SHAPES)], versions)
        figure.suptitle(TITLE, x=0.012, y=0.985, ha="left", fontsize=14, weight="bold")
        names = ", ".join(f"{name} {versions[name]}" if versions.get(name) else name for name in ENGINES)
        figure.text(0.012, 0.926, f"{names}, in turn in one run.\n{machine}.", fontsize=9, va="center", linespacing=1.5)
        figure.subplots_adjust(left=0.075, right=0.972, top=0.845, bottom=0.085, wspace=0.13, hspace=0.27)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None, "Creator": None, "Title": TITLE} if path.suffix == ".svg" else None
        figure.savefig(path, facecolor=GROUND, metadata=metadata)
        pyplot.close(figure)


def _panel(panel: Axes, points: list[Point]) -> None:
    panel.set_facecolor(GROUND)
    for engine in (STOCK, CEDAR, OURS):
        for flow in FLOWS:
            own = sorted((each.size, each.cost) for each in points if (each.engine, each.flow) == (engine, flow))
            if not own:
                continue
            filled = flow == REPEATED
            panel.plot(
                [size for size, _ in own],
                [cost for _, cost in own],
                color=COLOURS[engine],
                linestyle=STROKES[flow],
                marker=MARKS[engine],
                markersize=4.5 if filled else 6.5,
                markerfacecolor=COLOURS[engine] if filled else "none",
                linewidth=1.6,
                zorder=3 if engine == OURS else 2,
            )


def _axes(grid: Any) -> None:
    """Scale and label the axes; the panel above the legend carries the rules' axis of its column."""
    for panel in grid.flat:
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlim(SIZES[0] / 1.5, SIZES[-1] * 1.5)
        panel.set_ylim(LOWEST, HIGHEST)
        panel.set_xticks(SIZES, [f"{size:,}" for size in SIZES])
        panel.set_yticks(list(TICKS), list(TICKS.values()))
        panel.minorticks_off()
        panel.grid(color=FAINT, linewidth=0.7, zorder=0)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in (*grid[-1][:-1], grid[0][-1]):
        panel.set_xlabel("rules")
        panel.tick_params(labelbottom=True)
    for panel in grid[:, 0]:
        panel.set_ylabel("time for one decision")


def _legend(panel: Axes, versions: dict[str, str | None]) -> None:
    from matplotlib.lines import Line2D

    panel.set_axis_off()
    handles = [
        Line2D([], [], color=COLOURS[name], marker=MARKS[name], linewidth=1.6, markersize=5, label=name)
        for name in (STOCK, CEDAR, OURS)
    ]
    handles.append(Line2D([], [], color=INK, marker="o", markersize=4.5, label="values asked again"))
    handles.append(
        Line2D(
            [],
            [],
            color=INK,
            linestyle=STROKES[FIRST_SEEN],
            marker="o",
            markersize=6.5,
            markerfacecolor="none",
            label="values never seen before",
        )
    )
    panel.legend(handles=handles, loc="upper left", frameon=False, fontsize=10, labelspacing=0.8, borderaxespad=0)
    note = (
        "Both axes are logarithmic. Each point is\nthe dearer of two medians: of requests\n"
        "allowed and of requests denied.\n"
        "A line ends where its engine was too\nslow to build or to ask, or was refused."
    )
    panel.text(0.02, 0.02, note, transform=panel.transAxes, fontsize=8.5, va="bottom", linespacing=1.45)
