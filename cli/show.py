"""What `watch` does in time: plays episodes on a stage, shows them in a window, and obeys the keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.stage import Frame, Key
from drivetrain.stopping import StopRequest

if TYPE_CHECKING:
    from drivetrain.envs.hands import Hands
    from drivetrain.envs.window import Window
    from drivetrain.stage import Stage

__all__ = ["Show"]

SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PAUSE_AT_END = 1.2  # s, the end of an episode stays in sight
NOTE = 1.5  # s that a message stays
SCREEN = 30.0  # pictures a second while nothing moves

MORE = (Key("h", "help", "or F1: show and hide this box"), Key("q", "quit", "or escape, or close the window: quit"))
TIME = (
    Key("space", "pause", "pause, and go on"),
    Key(".", "step", "pause, and go on by a single frame"),
    Key("+ −", "speed", "faster, slower"),
)


class Show:
    """What is on the screen, and what the keys have made of it.

    Args:
        window: where it is seen.
        stage: what is seen.
        hands: an episode waits for them, where given.
        cap: at the speed of the race; otherwise as fast as it goes.
    """

    def __init__(self, window: Window, stage: Stage, hands: Hands | None = None, cap: bool = True) -> None:
        self.window, self.stage, self.hands, self.cap = window, stage, hands, cap
        self.stop = StopRequest()  # entered by the caller; a signal ends the show as closing the window does
        self.paused = False
        self.speed = SPEEDS.index(1.0)
        self.kept: list[Path] = []  # files of what was driven by hand
        self._skip = False  # to the next track
        self._steps = 0  # to take in spite of the pause
        self._help = False
        self._note = ("", 0.0)  # a message, and for how many more seconds

    def play(self, seed: int) -> bool:
        """Shows the episode of a seed; returns whether it was seen to its end. What was driven by hand is kept."""
        self._skip, self._steps = False, 0
        self.stage.begin(seed)
        ended = False
        try:
            self._wait_for_hands()
            ended = self._play()
        finally:
            with StopRequest() as late:  # another signal must not cost the drive
                self.kept += self.stage.finish(cut=not ended)
            self.stop.requested |= late.requested
        return ended

    def _play(self) -> bool:
        hidden = 0.0  # frames since the last picture
        while self._goes_on():
            if self.paused and not self._steps:
                self._draw("paused", SCREEN)
                continue
            if not self.stage.advance(self.window.held):
                break
            hidden += 1
            if self._steps:
                self._steps -= 1
                hidden = SPEEDS[-1]
            if hidden >= SPEEDS[self.speed]:
                hidden = 0
                self._draw("", self.stage.fps * min(SPEEDS[self.speed], 1.0))
        if not self._goes_on():
            return False
        self._linger()
        return True

    def _wait_for_hands(self) -> None:
        """Somebody who drives starts when they are ready."""
        if self.hands is None:
            return
        self.window.held.clear()  # a key still held from the last episode must be pressed anew
        while self._goes_on() and not self.hands.touched(self.window.held):
            self._draw("arrows, WASD or a gamepad: drive off when you like", SCREEN)

    def _linger(self) -> None:
        """The end of an episode stays in sight for a moment, or as long as it is paused there."""
        name, score, _ = self.stage.results()[0]
        rate = min(self.stage.fps, SCREEN)
        left, self._steps = round(PAUSE_AT_END * rate), 0
        while self._goes_on() and not self._steps and (self.paused or left > 0):
            self._draw(f"{name}: score {score:.1f}", rate)
            left -= not self.paused

    def _goes_on(self) -> bool:
        return self.window.is_open and not self._skip and not self.stop.requested

    def _draw(self, banner: str, rate: float) -> None:
        """One picture, no sooner than 1 / rate seconds after the last one; then the keys."""
        if self._note[1] > 0:
            banner = self._note[0]
            self._note = (banner, self._note[1] - 1 / rate)
        notes = (f"{SPEEDS[self.speed]:g}x",) if SPEEDS[self.speed] != 1.0 else ()
        # help first: a narrow window has no room for all
        line = tuple((key.name, key.short) for key in (*MORE, *TIME, *self.stage.keys))
        box = tuple((key.name, key.long) for key in (*TIME, *self.stage.keys, *MORE)) if self._help else ()
        picture = self.stage.draw(Frame(notes, banner, line, box))
        self.window.show(picture, rate if self.cap else 0)
        for key in self.window.pressed():
            self._press(key)

    def _press(self, key: str) -> None:
        if key in ("q", "escape"):
            self.window.close()
        elif key == "space":
            self.paused = not self.paused
        elif key == ".":
            self.paused, self._steps = True, self._steps + 1
        elif key == "n":
            self._skip = True
        elif key in ("+", "=", "-"):
            self.speed = min(max(self.speed + (-1 if key == "-" else 1), 0), len(SPEEDS) - 1)
        elif key in ("h", "f1"):
            self._help = not self._help
        elif note := self.stage.press(key):
            self._note = (note, NOTE)
