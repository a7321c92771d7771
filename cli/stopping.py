"""Ctrl-C and SIGTERM: once = stop at the next update and keep everything, twice = stop at once."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopRequest"]


class StopRequest:
    """While entered, the first signal sets ``requested`` and the second raises ``KeyboardInterrupt``.

    A signal handler that raises can strike anywhere, also inside a library that is being loaded and does not survive
    it; so the first signal only leaves a mark, and ``check`` raises where it is safe.
    """

    def __init__(self) -> None:
        self.requested = False
        self.on_first: Callable[[], None] | None = None  # called once, inside the handler
        self._before: dict[int, Any] = {}

    def check(self) -> None:
        """Raise ``KeyboardInterrupt`` if a signal has come."""
        if self.requested:
            raise KeyboardInterrupt

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._received)
            except ValueError:  # not the main thread: signals are somebody else's business
                break
        return self

    def __exit__(self, kind: object, value: object, trace: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _received(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if self.on_first is not None:
            with contextlib.suppress(OSError, RuntimeError):  # it may strike in the middle of another line of output
                self.on_first()
