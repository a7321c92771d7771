"""What is filmed: somebody at work in an environment, frame by frame, with a picture whenever one is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from drivetrain.drivers import Driver
    from drivetrain.envs.state import CarState
    from drivetrain.envs.track import Tracks

__all__ = ["ORIGINAL", "RACING", "RaceScene", "Scene"]

RACING, ORIGINAL = "racing", "CarRacing-v3"
SMALLEST = (160, 120)
"""px, width and height below which the viewer does not draw"""


class Scene(Protocol):
    """An episode after the other by one driver in one environment."""

    titles: tuple[str, ...]  # who drives where, from the longest way of saying it to the shortest
    fps: Fraction  # frames in a second of the environment's time
    score: float  # of the episode so far
    frames: int  # of the episode so far

    def play(self, seed: int) -> Iterator[None]:
        """Plays the episode of a seed; stops after each frame, when `picture` shows it."""

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3] of the frame just played, also after the episode's end."""

    def close(self) -> None:
        """Let go of the environment."""


class RaceScene:
    """A driver on the road, in the simulator or in the original, drawn by the viewer.

    Args:
        driver: who drives.
        env_name: "racing" or "CarRacing-v3".
        size: px, (width, height) of the pictures; drawn larger where the viewer needs that.

    Raises:
        UserError: the driver's weights are damaged; the original without Box2D; no pygame.
    """

    def __init__(self, driver: Driver, env_name: str, size: tuple[int, int]) -> None:
        from drivetrain.drive import Drive
        from drivetrain.envs.spec import DT
        from drivetrain.envs.viewer import Viewer

        self._drive = Drive(driver, env_name)
        larger = max(1.0, SMALLEST[0] / size[0], SMALLEST[1] / size[1])
        self._viewer = Viewer((round(larger * size[0]), round(larger * size[1])))
        self._seen: tuple[Tracks, CarState] | None = None
        self.titles = titles_of(driver, env_name)
        self.fps = Fraction(round(1 / DT))

    @property
    def score(self) -> float:
        """Of the episode so far."""
        return self._drive.score

    @property
    def frames(self) -> int:
        """Of the episode so far."""
        return self._drive.frames

    def play(self, seed: int) -> Iterator[None]:
        """Plays the episode of a seed; stops after each frame."""
        for seen in self._drive.episode(seed):
            self._seen = seen
            yield

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3] of the frame just played."""
        assert self._seen is not None, "nothing was played yet"
        return self._viewer.frame(*self._seen)

    def close(self) -> None:
        """Let go of the environment."""
        self._drive.close()


def titles_of(driver: Driver, env_name: str) -> tuple[str, ...]:
    """Ways of saying who drives where, from long to short; the simulator goes without saying."""
    place = "" if env_name == RACING else f" · {env_name}"
    short = driver.name if driver.step is None else f"{driver.name}, {_in_short(driver.step)} steps"
    return tuple(dict.fromkeys((driver.title + place, driver.title, short, driver.name)))


def _in_short(steps: int) -> str:
    """8011776 -> 8.0M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if steps >= size:
            return f"{steps / size:.1f}{letter}"
    return str(steps)
