"""One car and its driver, frame by frame: what `watch` shows and `record` films."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.task import task_of
from drivetrain.envs.view import fill, push

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
        # every frame is a step of its own here, but only those on which a decision is taken are stacked
        task = replace(driver.sim_config, frame_skip=1, frame_stack=1)
        self.env: RacingEnv | OriginalEnv
        if env_name == "racing":
            self.env = RacingEnv(**task_of(task))
        else:
            from drivetrain.envs.original import OriginalEnv

            self.env = OriginalEnv.of(task)
        self._actor = driver.actor()
        self.score, self.frames = 0.0, 0
        self.seen: torch.Tensor  # [1, …] what the last decision was taken on

    def episode(self, seed: int) -> Iterator[tuple[Tracks, CarState]]:
        """Drives the episode of a seed; yields the road and the car (a batch of one) after each frame.

        `score` and `frames` are those of the episode so far.
        """
        obs, _ = self.env.reset(seed=seed)
        self.score, self.frames = 0.0, 0
        done = False
        action: np.ndarray | None = None
        task = self.driver.sim_config
        while not done:
            if self.frames % task.frame_skip == 0:
                with torch.inference_mode():
                    batch = torch.as_tensor(obs)[None]
                    if task.frame_stack > 1:
                        batch = fill(batch, task.frame_stack) if self.frames == 0 else push(self.seen, batch)
                    self.seen = batch
                    action = self._actor(batch, self.env.tracks, self.env.car_state())[0].numpy()
            obs, reward, terminated, truncated, _ = self.env.step(action)
            self.score += float(reward)
            self.frames += 1
            done = terminated or truncated
            yield self.env.tracks, self.env.car_state()

    def close(self) -> None:
        """Let go of the environment."""
        self.env.close()
