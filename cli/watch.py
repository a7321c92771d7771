"""``drivetrain watch WHO``: see a driver drive, in a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result

if TYPE_CHECKING:
    from drivetrain.drive import Drive
    from drivetrain.envs.viewer import Viewer
    from drivetrain.envs.window import Window

__all__ = ["main"]

FPS = 50  # frames of the simulator in a second of the race
SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
PAUSE_AT_END = 1.2  # s, the end of an episode stays in sight
KEYS = "space pause · n next track · + faster · - slower · q quit"


class WatchOptions(Options):
    """Options"""

    env: Literal["racing", "CarRacing-v3"] = Field("racing", description="the simulator, or the original")
    seed: int = Field(0, ge=0, le=2**62, description="episode i is on the track of seed + i")
    episodes: int | None = Field(None, ge=1, description="episodes to show; none = until the window is closed")
    size: str | None = Field(None, description="WIDTHxHEIGHT of the window in pixels; none = 960x720")
    checkpoint: str = Field("best", description="of a run: best (by validation), last, or a step")


SPEC = Spec(
    WatchOptions,
    "drivetrain watch WHO",
    f"See a run, expert or random drive in a window. Keys: {KEYS}.",
    positionals=("who",),
)


def main(argv: list[str]) -> Result:
    """Show a driver."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    from drivetrain.envs.viewer import SIZE, Viewer
    from drivetrain.envs.window import Window, require_display
    from drivetrain.record import size_of

    size = size_of(options.size) or SIZE
    who = parsed.words[0]
    if who == "human":
        raise UserError("driving by hand is not built yet", got=who, allowed="a run, expert, random")
    require_display()

    import torch

    from drivetrain.drive import Drive
    from drivetrain.drivers import find_driver

    torch.set_num_threads(1)  # for a single car more threads only wait for each other
    drive = Drive(find_driver(who, options.checkpoint), options.env)
    viewer = Viewer(size)
    window = Window(size, f"drivetrain watch {who}: {KEYS}")
    print(KEYS, flush=True)
    show = _Show(window, viewer, drive)
    scores: list[float] = []
    seed = options.seed
    try:
        while window.is_open and (options.episodes is None or len(scores) < options.episodes):
            if show.play(seed):
                scores.append(drive.score)
                print(f"track {seed}: score {drive.score:.1f} in {drive.frames} frames", flush=True)
            seed += 1
    except KeyboardInterrupt:
        pass  # in the terminal, that is how one closes it
    finally:
        window.close()
        drive.close()
    return Result({"episodes": len(scores), "scores": scores})


@dataclass
class _Show:
    """What is on the screen, and what the keys have made of it."""

    window: Window
    viewer: Viewer
    drive: Drive
    paused: bool = False
    speed: int = SPEEDS.index(1.0)
    skip: bool = False  # to the next track

    def play(self, seed: int) -> bool:
        """Shows the episode of a seed; returns whether it was driven to its end."""
        self.skip = False
        hidden = 0  # frames since the last picture
        for tracks, state in self.drive.episode(seed):
            hidden += 1
            if hidden < SPEEDS[self.speed]:
                continue
            hidden = 0
            self._show(self.viewer.draw(tracks, state, caption=self._caption()))
            while self.paused and self._goes_on():
                self._show(self.viewer.draw(tracks, state, caption=self._caption()))
            if not self._goes_on():
                return False
        picture = self.viewer.draw(tracks, state, caption=self._caption())
        for _ in range(round(PAUSE_AT_END * FPS * min(SPEEDS[self.speed], 1.0))):
            if self._goes_on():
                self._show(picture)
        return True

    def _goes_on(self) -> bool:
        return self.window.is_open and not self.skip

    def _show(self, picture: object) -> None:
        self.window.show(picture, FPS * min(SPEEDS[self.speed], 1.0))
        for key in self.window.pressed():
            if key in ("q", "escape"):
                self.window.close()
            elif key == "space":
                self.paused = not self.paused
            elif key == "n":
                self.skip = True
            elif key in ("+", "=", "-"):
                step = -1 if key == "-" else 1
                self.speed = min(max(self.speed + step, 0), len(SPEEDS) - 1)

    def _caption(self) -> str:
        parts = [self.drive.driver.title, self.drive.env_name]
        if SPEEDS[self.speed] != 1.0:
            parts.append(f"{SPEEDS[self.speed]:g}x")
        if self.paused:
            parts.append("paused")
        return " · ".join(parts)
