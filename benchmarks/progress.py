"""What a long run says of itself: one live line on stderr where that is a terminal, nothing where it is piped."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Live:
    """The line. Calling it names the work at hand, and how far it is where that is known."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._shown.add_task("starting", total=None)

    def __enter__(self) -> Live:
        self._shown.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shown.stop()

    def __call__(self, text: str, done: float | None = None, total: float | None = None) -> None:
        """Show the text, and a bar of `done` out of `total` (a moving one without them)."""
        self._shown.update(self._task, description=text, completed=done or 0, total=total)
