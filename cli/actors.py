"""Who drives: from the word on a command line (a run, ``expert``, ``random``) to a driver at a wheel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from drivetrain.agents.evaluate import Actor, scripted_actor
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.rundir import find_run, read_run_config

if TYPE_CHECKING:
    from torch import Tensor

    from drivetrain.envs.original import OriginalEnv
    from drivetrain.envs.state import CarState
    from drivetrain.envs.track import Tracks

__all__ = ["SCRIPTED", "Drive", "Driver", "make_driver", "run_actor"]

SCRIPTED = ("expert", "random")


@dataclass(frozen=True)
class Driver:
    """A driver and the world it was made for."""

    name: str
    actor: Actor
    obs: str = "state"
    actions: str = "continuous"
    frame_skip: int = 1
    lap_rule: str = "all"


def make_driver(who: str, checkpoint: str = "best") -> Driver:
    """The driver behind a word.

    Args:
        who: ``expert``, ``random``, or a run: a path where it holds a separator, else a name below runs/.
        checkpoint: of a run: ``best``, ``last`` or a step.

    Raises:
        UserError: no such run (2), no valid checkpoint (3).
    """
    if who in SCRIPTED:
        return Driver(who, scripted_actor(who, "continuous"))
    if who == "human":
        raise UserError("driving by hand is not built yet", got=who, allowed="a run, expert, random")
    path = find_run(who)
    config = read_run_config(path)
    known = {name: config[name] for name in ("obs", "actions", "frame_skip", "lap_rule") if name in config}
    return Driver(path.name, run_actor(path, checkpoint), **known)


def run_actor(path: Path, checkpoint: str = "best") -> Actor:
    """The policy of a run, taking its most likely action.

    Raises:
        UserError: no valid checkpoint (3).
    """
    from drivetrain.agents import load

    policy = load(path, checkpoint).policy

    def actor(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        del tracks, state
        return policy.act(obs, deterministic=True)

    return actor


class Drive:
    """One car, one driver, frame by frame: an action is held for the driver's frame_skip frames.

    Args:
        driver: who drives.
        env_name: "racing" (the batched simulator) or "CarRacing-v3" (the original).
    """

    def __init__(self, driver: Driver, env_name: str = "racing") -> None:
        self.driver, self.env_name = driver, env_name
        self.env: RacingEnv | OriginalEnv
        if env_name == "racing":
            self.env = RacingEnv(driver.obs, driver.actions, lap_rule=driver.lap_rule)
        else:
            from drivetrain.envs.original import OriginalEnv

            self.env = OriginalEnv(driver.obs, driver.actions)
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
                    action = self.driver.actor(batch, self.env.tracks, self.env.car_state())[0].numpy()
            obs, reward, terminated, truncated, _ = self.env.step(action)
            self.score += float(reward)
            self.frames += 1
            done = terminated or truncated
            yield self.env.tracks, self.env.car_state()

    def close(self) -> None:
        """Let go of the environment."""
        self.env.close()
