"""One car and its driver, frame by frame: what `watch` shows and `record` films."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from drivetrain.drivers import HUMAN
from drivetrain.envs.actions import check_action, to_controls
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.task import task_of
from drivetrain.envs.view import fill, push
from drivetrain.scenes import RACING

if TYPE_CHECKING:
    from drivetrain.agents.evaluate import Actor
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

    def __init__(self, driver: Driver, env_name: str = RACING) -> None:
        self.driver, self.env_name = driver, env_name
        # every frame is a step of its own here, but only those on which a decision is taken are stacked
        task = replace(driver.sim_config, frame_skip=1, frame_stack=1)
        self.env: RacingEnv | OriginalEnv
        if env_name == RACING:
            # whatever the driver's action set, a hand may take over: controls go in
            self.env = RacingEnv(**task_of(replace(task, actions="continuous")))
        else:
            from drivetrain.envs.original import OriginalEnv

            self.env = OriginalEnv.of(task)
        self._actor: Actor | None = None if driver.key == HUMAN else driver.actor()
        self.hand: Callable[[float], np.ndarray] | None = None
        """takes over while it is set: from the speed in u/s to controls [3] float32, asked every frame"""
        self.score, self.frames, self.reward, self.done = 0.0, 0, 0.0, True
        self.controls = np.zeros(3)
        """steer, gas, brake of the last frame"""
        self.seen: torch.Tensor  # [1, …] what the last decision was taken on

    @property
    def tracks(self) -> Tracks:
        """The road, as Tracks of one row."""
        return self.env.tracks

    def begin(self, seed: int) -> None:
        """Puts the car on the start of the track of a seed."""
        self._obs, _ = self.env.reset(seed=seed)
        self.state: CarState = self.env.car_state()
        self.score, self.frames, self.reward, self.done = 0.0, 0, 0.0, False
        self._wanted = self.controls = np.zeros(3)

    def advance(self) -> None:
        """One frame. `state`, `score`, `frames`, `reward`, `controls` and `done` are those after it."""
        if self.frames % self.driver.sim_config.frame_skip == 0:
            self._decide()
        by_hand = self.hand is not None
        self.controls = self.hand(float(self.state.velocity[0].norm())) if self.hand is not None else self._wanted
        if by_hand:
            self._wanted = self.controls  # held on until the next decision, when the car is given back
        self._step(self.controls)
        self.score += self.reward
        self.frames += 1
        self.state = self.env.car_state()

    def episode(self, seed: int) -> Iterator[tuple[Tracks, CarState]]:
        """Drives the episode of a seed; yields the road and the car (a batch of one) after each frame.

        `score` and `frames` are those of the episode so far.
        """
        self.begin(seed)
        while not self.done:
            self.advance()
            yield self.tracks, self.state

    def close(self) -> None:
        """Let go of the environment."""
        self.env.close()

    def _decide(self) -> None:
        """What the driver wants, also while a hand drives: a stack of pictures must not have holes."""
        task = self.driver.sim_config
        batch = torch.as_tensor(self._obs)[None]
        if task.frame_stack > 1:
            batch = fill(batch, task.frame_stack) if self.frames == 0 else push(self.seen, batch)
        self.seen = batch
        if self._actor is None or self.hand is not None:
            return
        with torch.inference_mode():
            action = self._actor(batch, self.tracks, self.state)
        check_action(task.actions, action, 1)
        if isinstance(self.env, RacingEnv):
            self._wanted = to_controls(task.actions, action)[0].numpy()
        else:
            from drivetrain.envs.original import controls_of

            self._wanted = controls_of(task.actions, action)[0]

    def _step(self, controls: np.ndarray) -> None:
        if isinstance(self.env, RacingEnv):
            self._obs, reward, terminated, truncated, _ = self.env.step(np.asarray(controls, np.float32))
        else:
            reward, terminated, truncated, _ = self.env.advance(np.asarray(controls, np.float64))
            self._obs = self.env.observation()
        self.reward, self.done = float(reward), terminated or truncated
