"""The live board: how a training stands, redrawn in place in a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from drivetrain.progress import Snapshot, clock, number, spark
from drivetrain.usage import DeviceUse

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = ["LiveBoard", "sparkline"]

INTERVAL = 0.2  # s between pictures
WIDEST, BAR, NAME = 92, 40, 14
LINE = 30  # characters of the curve
LABELS = {
    "loss/policy": "policy loss",
    "loss/value": "value loss",
    "loss/entropy": "entropy",
    "loss/anchor": "anchor",
    "loss/q": "loss",
    "loss/imitation": "imitation loss",
    "loss/situation": "situation loss",
    "diag/approx_kl": "KL",
    "diag/clip_fraction": "clipped",
    "diag/td_error": "TD error",
    "diag/q_mean": "mean Q",
    "diag/epsilon": "epsilon",
    "diag/teacher_share": "teacher's share",
    "diag/learning_rate": "learning rate",
    "diag/replay_size": "replay",
}


class LiveBoard:
    """A board that is redrawn in place.

    Args:
        title: what is trained, where.
        device: whose use is shown.
    """

    def __init__(self, title: str, device: str = "cpu") -> None:
        from rich.console import Console
        from rich.live import Live

        self._title, self._use = title, DeviceUse(device)
        self._started = self._shown = time.monotonic()
        self._last = Snapshot(0, 1, 0.0)
        self._returns: list[float] = []
        self._console = Console(file=sys.stdout)
        self._live: Live = Live(self._draw(), console=self._console, auto_refresh=False, redirect_stderr=False)
        self._is_gone = False
        self._write(lambda: self._live.start(refresh=True))

    def show(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        score = snapshot.metrics.get("train/return")
        if isinstance(score, (int, float)):
            self._returns.append(float(score))
            if len(self._returns) > 32 * LINE:
                self._returns = self._returns[1::2]
        now = time.monotonic()
        if now - self._shown >= INTERVAL:
            self._shown = now
            self._write(lambda: self._live.update(self._draw(), refresh=True))

    def note(self, text: str) -> None:
        self._write(lambda: self._live.console.print(text, highlight=False, markup=False, soft_wrap=True))

    def close(self) -> None:
        if self._live.is_started:
            self._write(lambda: self._live.update(self._draw(), refresh=True))
            self._write(self._live.stop)

    def ring(self, text: str) -> None:
        """A line that stays, and the terminal's bell."""
        self.note(text)
        self._write(self._live.console.bell)

    def _write(self, action: Callable[[], object]) -> None:
        """Do it while somebody is there to see: a window that was closed must not end hours of training."""
        if self._is_gone:
            return
        try:
            action()
        except OSError:
            self._is_gone = True

    def _draw(self) -> RenderableType:
        from rich import box
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        parts = Group(self._progress(), self._scores(), self._numbers(), self._device())
        title = Text(self._title)  # brackets in a path are no markup
        return Panel(parts, title=title, title_align="left", box=box.ROUNDED, width=self._width, border_style="dim")

    @property
    def _width(self) -> int:
        """Of the board, in characters: the window may have been made narrower meanwhile."""
        return min(WIDEST, self._console.width)

    @property
    def _is_narrow(self) -> bool:
        return self._width < WIDEST - 6

    def _progress(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        last = self._last
        row = Table.grid(padding=(0, 2), expand=True)
        row.add_column(width=BAR // 3 if self._is_narrow else BAR)
        row.add_column(no_wrap=True)
        row.add_column(justify="right", no_wrap=True)
        share = min(1.0, last.step / max(last.total, 1))
        row.add_row(
            ProgressBar(total=1.0, completed=share, complete_style="cyan", finished_style="green"),
            f"{100 * share:.0f} %  [dim]of[/] {last.total:,} [dim]steps[/]",
            f"{clock(last.seconds_left)} [dim]left[/]" if share < 1 else "",
        )
        return row

    def _scores(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table

        last, checked = self._last, self._last.validation
        row = Table.grid(padding=(0, 2), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, width=LINE)
        row.add_column(justify="right", no_wrap=True)
        said = f"[dim]return[/] [bold cyan]{number(last.metrics.get('train/return'))}[/]"
        told = f"[dim]validation[/] [bold green]{number(checked.get('eval/mean'))}[/]"
        if checked:
            told += f" [dim]worst[/] {number(checked.get('eval/min'))}"
        if last.best is not None:
            told += f" [dim]best[/] {number(last.best)}"
        curve = f"[cyan]{sparkline(self._returns, LINE)}[/]"
        if not self._is_narrow:
            row.add_row(said, curve, told)
            return row
        row.add_row(said, curve, "")
        return Group(row, told)

    def _numbers(self) -> RenderableType:
        from rich.table import Table

        last, pairs = self._last, 2 if self._is_narrow else 3
        board = Table.grid(padding=(0, 1), expand=True)
        for _ in range(pairs):
            board.add_column(style="dim", no_wrap=True, min_width=NAME)
            board.add_column(justify="left", no_wrap=True, ratio=1)
        cells = [
            ("steps", f"{last.step:,}"),
            ("steps/s", f"{last.steps_per_s:,.0f}"),
            ("time", clock(time.monotonic() - self._started)),
            *_told(last.metrics)[:6],
        ]
        for place in range(0, len(cells), pairs):
            board.add_row(*(word for cell in cells[place : place + pairs] for word in cell))
        return board

    def _device(self) -> RenderableType:
        from rich.table import Table

        row = Table.grid(padding=(0, 1))
        row.add_column(style="dim", no_wrap=True, min_width=NAME)
        row.add_column(no_wrap=True)
        row.add_row("device", self._use.words() or "–")
        return row


def sparkline(values: list[float], width: int) -> str:
    """The course of a number in so many characters or fewer; a single value has none yet."""
    return spark(values, width) if len(values) > 1 else ""


def _told(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Losses and the like that there are, in the order of LABELS."""
    found = [(label, metrics.get(name)) for name, label in LABELS.items()]
    return [(label, _small(value)) for label, value in found if isinstance(value, (int, float))]


def _small(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.3g}"
