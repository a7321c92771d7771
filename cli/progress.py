"""What a person sees while a driver learns: a live board in a terminal, plain lines elsewhere.

The clock decides only when something is shown, never what is learned.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

__all__ = ["LiveBoard", "PlainLines", "Progress", "Snapshot", "make_progress", "say"]

LIVE_INTERVAL = 0.2  # s between pictures of the live board
PLAIN_INTERVAL = 5.0  # s between plain lines


@dataclass(frozen=True)
class Snapshot:
    """How a run stands."""

    step: int
    total: int
    seconds: float  # of rollouts and updates
    metrics: Mapping[str, Any] = field(default_factory=dict)  # of the last update
    validation: Mapping[str, Any] = field(default_factory=dict)  # eval/… of the last validation, empty before it

    @property
    def steps_per_s(self) -> float:
        """Steps a second so far, 0 before the first."""
        return self.step / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the present rate, without validations."""
        return (self.total - self.step) / self.steps_per_s if self.steps_per_s > 0 else None


class Progress(Protocol):
    """Somebody to tell how the run stands."""

    def show(self, snapshot: Snapshot) -> None:
        """Called after every update; shows something now and then."""

    def note(self, text: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """The run is over; safe to call twice."""


def make_progress(title: str) -> Progress:
    """The live board where stdout is a terminal, plain lines elsewhere."""
    return LiveBoard(title) if sys.stdout.isatty() else PlainLines(title)


class PlainLines:
    """One line every few seconds."""

    def __init__(self, title: str) -> None:
        say(title)
        self._next = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + PLAIN_INTERVAL
        say(plain_line(snapshot))

    def note(self, text: str) -> None:
        say(text)

    def close(self) -> None:
        """Nothing is left to say."""


def plain_line(snapshot: Snapshot) -> str:
    """``  12 s  1,310,720 steps  109,226 steps/s  return 512.3  validation 830.1  left 35 s``."""
    left = snapshot.seconds_left
    parts = [
        f"{snapshot.seconds:6.1f} s",
        f"{snapshot.step:>11,} steps",
        f"{snapshot.steps_per_s:>9,.0f} steps/s",
        f"return {_number(snapshot.metrics.get('train/return')):>7}",
    ]
    if snapshot.validation:
        parts.append(f"validation {_number(snapshot.validation.get('eval/mean'))}")
    if left is not None:
        parts.append(f"left {_clock(left)}")
    return "  ".join(parts)


class LiveBoard:
    """A board that is redrawn in place."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.live import Live

        self._title = title
        self._started = self._shown = time.monotonic()
        self._last = Snapshot(0, 1, 0.0)
        self._live: Live = Live(
            self._draw(), console=Console(file=sys.stdout), auto_refresh=False, redirect_stderr=False
        )
        self._live.start(refresh=True)

    def show(self, snapshot: Snapshot) -> None:
        self._last = snapshot
        now = time.monotonic()
        if now - self._shown >= LIVE_INTERVAL:
            self._shown = now
            self._live.update(self._draw(), refresh=True)

    def note(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        if self._live.is_started:
            self._live.update(self._draw(), refresh=True)
            self._live.stop()

    def _draw(self) -> RenderableType:
        from rich import box
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        last = self._last
        board = Table.grid(padding=(0, 1), expand=False)
        for _ in range(3):
            board.add_column(style="dim", no_wrap=True)
            board.add_column(justify="right", no_wrap=True, min_width=9)
        for row in self._rows(last):
            board.add_row(*row)
        whole = Table.grid(padding=(0, 0))
        whole.add_row(ProgressBar(total=max(last.total, 1), completed=last.step, width=74))
        whole.add_row(board)
        return Panel(whole, title=self._title, title_align="left", box=box.ROUNDED, expand=False, border_style="dim")

    def _rows(self, last: Snapshot) -> list[tuple[str, str, str, str, str, str]]:
        metrics, checked = last.metrics, last.validation
        left = last.seconds_left
        return [
            ("steps", f"{last.step:,}", "steps/s", f"{last.steps_per_s:,.0f}", "left", _clock(left)),
            (
                "return (last 100)",
                f"[bold cyan]{_number(metrics.get('train/return'))}[/]",
                "validation",
                f"[bold green]{_number(checked.get('eval/mean'))}[/]",
                "its worst",
                _number(checked.get("eval/min")),
            ),
            (
                "policy loss",
                _small(metrics.get("loss/policy")),
                "value loss",
                _small(metrics.get("loss/value")),
                "entropy",
                _small(metrics.get("loss/entropy")),
            ),
            (
                "KL",
                _small(metrics.get("diag/approx_kl")),
                "learning rate",
                _small(metrics.get("diag/learning_rate")),
                "time",
                _clock(time.monotonic() - self._started),
            ),
        ]


def say(text: str) -> None:
    """A line on stdout, if somebody is still there to read it."""
    # a reader that went away (`| head`, a closed terminal) must not end hours of training, or cost a film
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _number(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, (int, float)) else "–"


def _small(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
