"""What is filmed: somebody at work in an environment, frame by frame, with a picture whenever one is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from drivetrain.drivers import Driver
    from drivetrain.envs.state import CarState
    from drivetrain.envs.track import Tracks

__all__ = ["ORIGINAL", "RACING", "RaceScene", "Scene"]

RACING, ORIGINAL = "racing", "CarRacing-v3"


class Scene(Protocol):
    """An episode after the other by one driver in one environment."""

    titles: tuple[str, ...]  # who drives where, from the longest way of saying it to the shortest
    fps: Fraction  # frames in a second of the environment's time

    @property
    def score(self) -> float:
        """Of the episode so far."""

    @property
    def frames(self) -> int:
        """Of the episode so far."""

    def play(self, seed: int) -> Iterator[None]:
        """Plays the episode of a seed; stops after each frame, when `picture` shows it."""

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3] of the frame just played, also after the episode's end."""

    def close(self) -> None:
        """Let go of the environment."""


class RaceScene:
    """A driver on the road, in the simulator or in the original.

    Args:
        driver: who drives.
        env_name: "racing" or "CarRacing-v3".
        size: px, (width, height) of the viewer's pictures.
        pixels: instead of the viewer's, the picture that CarRacing-v3 gives to its driver: in grey, cropped or smaller
            where this driver sees it so.

    Raises:
        UserError: the driver's weights are damaged; the original without Box2D; no pygame; a size too small.
    """

    def __init__(self, driver: Driver, env_name: str, size: tuple[int, int], pixels: bool = False) -> None:
        from drivetrain.agents.evaluate import scored
        from drivetrain.drive import Drive
        from drivetrain.envs.spec import DT
        from drivetrain.envs.viewer import Viewer

        self._drive = Drive(replace(driver, sim_config=scored(driver.sim_config)), env_name)
        self._viewer = None if pixels else Viewer(size)
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
        return self._pixels(*self._seen) if self._viewer is None else self._viewer.frame(*self._seen)

    def close(self) -> None:
        """Let go of the environment."""
        self._drive.close()

    def _pixels(self, tracks: Tracks, state: CarState) -> np.ndarray:
        import torch

        from drivetrain.envs.paint import plain
        from drivetrain.envs.picture import draw
        from drivetrain.envs.seen import seen_pictures
        from drivetrain.envs.view import process

        core = getattr(self._drive.env, "core", None)
        if core is None:
            drawn = draw(tracks, state, plain(state.track))
        else:  # the original's own picture
            drawn = torch.from_numpy(type(core)._render(core, "state_pixels"))[None]
        task = self._drive.driver.sim_config
        if task.obs != "pixels":
            return drawn[0].numpy()
        return seen_pictures(process(drawn, task)[0], task).pictures[-1]


def titles_of(driver: Driver, env_name: str) -> tuple[str, ...]:
    """Ways of saying who drives where, from long to short; the simulator goes without saying."""
    place = "" if env_name == RACING else f" · {env_name}"
    name = driver.name.rpartition("/")[2]  # of a run that was named by its path
    if driver.step is None:
        return name + place, name
    title = f"{name}, step {driver.step:,}"
    return title + place, title, f"{name}, {_in_short(driver.step)} steps", name


def _in_short(steps: int) -> str:
    """8011776 -> 8.0M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if steps >= size:
            return f"{steps / size:.1f}{letter}"
    return str(steps)
