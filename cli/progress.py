"""What a person sees while a driver learns: a live board in a terminal, plain lines elsewhere.

The clock decides only when something is shown, never what is learned.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["PlainLines", "Progress", "Snapshot", "clock", "make_progress", "number", "say", "spark"]

OFTEN, SELDOM = 5.0, 60.0  # s between plain lines, at the beginning and after a while
BLOCKS = "▁▂▃▄▅▆▇█"
PATIENCE = 0.1  # share of the time so far that passes before the next line


@dataclass(frozen=True)
class Snapshot:
    """How a run stands."""

    step: int
    total: int
    seconds: float  # of rollouts and updates
    metrics: Mapping[str, Any] = field(default_factory=dict)  # of the last update
    validation: Mapping[str, Any] = field(default_factory=dict)  # eval/… of the last validation, empty before it
    best: float | None = None  # highest mean of a validation so far

    @property
    def steps_per_s(self) -> float:
        """Steps a second so far, 0 before the first."""
        return self.step / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time to the last step at the present rate, without validations."""
        return max(0, self.total - self.step) / self.steps_per_s if self.steps_per_s > 0 else None


class Progress(Protocol):
    """Somebody to tell how the run stands."""

    def show(self, snapshot: Snapshot) -> None:
        """Called after every update; shows something now and then."""

    def note(self, text: str) -> None:
        """A line that stays."""

    def ring(self, text: str) -> None:
        """A line that stays, for somebody who may have looked away."""

    def close(self) -> None:
        """The run is over; safe to call twice."""


def make_progress(title: str, device: str = "cpu") -> Progress:
    """The live board where stdout is a terminal, plain lines elsewhere."""
    if not sys.stdout.isatty():
        return PlainLines(title)
    from drivetrain.live import LiveBoard

    return LiveBoard(title, device)


class PlainLines:
    """A line now and then, in a long run less often: a log of a night stays one that can be read."""

    def __init__(self, title: str) -> None:
        say(title)
        self._began = self._next = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + min(max(OFTEN, PATIENCE * (now - self._began)), SELDOM)
        say(plain_line(snapshot))

    def note(self, text: str) -> None:
        say(text)

    def ring(self, text: str) -> None:
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
        f"return {number(snapshot.metrics.get('train/return')):>7}",
    ]
    if snapshot.validation:
        parts.append(f"validation {number(snapshot.validation.get('eval/mean'))}")
    if left is not None:
        parts.append(f"left {clock(left)}")
    return "  ".join(parts)


def say(text: str) -> None:
    """A line on stdout, if somebody is still there to read it."""
    # a reader that went away (`| head`, a closed terminal) must not end hours of training, or cost a film
    with contextlib.suppress(OSError):
        print(text, flush=True)


def spark(values: Sequence[float], width: int) -> str:
    """A line of blocks: the mean of the values in each column, from the lowest to the highest."""
    if not values:
        return ""
    columns = min(width, len(values))
    cuts = [round(number * len(values) / columns) for number in range(columns + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = min(means), max(means)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((mean - low) * scale)] for mean in means)


def number(value: object) -> str:
    """One decimal, or a dash where there is none."""
    return f"{value:.1f}" if isinstance(value, (int, float)) else "–"


def clock(seconds: float | None) -> str:
    """``35 s``, ``2:05``, ``1:02:05``."""
    if seconds is None:
        return "–"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
