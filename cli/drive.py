"""One car and its driver, frame by frame: what `watch` shows and `record` films."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from drivetrain.envs.gym_single import RacingEnv

if TYPE_CHECKING:
    from drivetrain.drivers import Driver
    from drivetrain.envs.original import OriginalEnv
    from drivetrain.envs.state import CarState
    from drivetrain.envs.track import Tracks

__all__ = ["Drive"]


class Drive:
    """One car. An action is held for the driver's frame_skip frames, and every frame can be seen.

    Args:
        driver: who drives.
        env_name: "racing" (the batched simulator) or "CarRacing-v3" (the original).

    Raises:
        UserError: the driver's weights are damaged; the original without Box2D.
    """

    def __init__(self, driver: Driver, env_name: str = "racing") -> None:
        self.driver, self.env_name = driver, env_name
        self.env: RacingEnv | OriginalEnv
        if env_name == "racing":
            self.env = RacingEnv(driver.obs, driver.actions, lap_rule=driver.lap_rule)
        else:
            from drivetrain.envs.original import OriginalEnv

            self.env = OriginalEnv(driver.obs, driver.actions)
        self._actor = driver.actor()
        self.score, self.frames = 0.0, 0

    def episode(self, seed: int) -> Iterator[tuple[Tracks, CarState]]:
        """Drives the episode of a seed; yields the road and the car (a batch of one) after each frame.

        `score` and `frames` are those of the episode so far.
        """
        obs, _ = self.env.reset(seed=seed)
        self.score, self.frames = 0.0, 0
        done = False
        action: np.ndarray | None = None
        while not done:
            if self.frames % self.driver.frame_skip == 0:
                with torch.inference_mode():
                    batch = torch.as_tensor(obs)[None]
                    action = self._actor(batch, self.env.tracks, self.env.car_state())[0].numpy()
            obs, reward, terminated, truncated, _ = self.env.step(action)
            self.score += float(reward)
            self.frames += 1
            done = terminated or truncated
            yield self.env.tracks, self.env.car_state()

    def close(self) -> None:
        """Let go of the environment."""
        self.env.close()
