"""One environment of a task, with what has to happen before others see its observations (no torch here)."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from .errors import UserError
from .guard import EXIT_ENVIRONMENT, FrameCounter, Guard, Hanging, Watch
from .gym_ids import find_spec, not_made
from .gym_task import ATARI_SIDE, GymTask

EXIT_ORPHAN = 1  # nobody is left to read it


@dataclass(frozen=True)
class LaneMaker:
    """Makes one guarded environment, in this process or in a worker that knows nothing but this record.

    Args:
        spec: what the registry says of the task's id; a worker's own registry may not hold it.
        task: what to do to it.
        training: a lost life ends an episode (Atari).
        watch: of this process; None in workers.
    """

    spec: EnvSpec
    task: GymTask
    training: bool
    watch: Watch | None = None

    def __call__(self) -> Guard:
        """A new environment.

        Raises:
            UserError: it cannot be made.
        """
        if self.watch is not None:
            self.watch.begin()
        return Guard(self._prepared(), self.task.skip, self.watch)

    def in_worker(self) -> Guard:
        """The same in a process of its own, which ends with its parent, even in the middle of a step.

        The parent alone decides what an interrupt means, whoever was sent it.
        """
        parent = multiprocessing.parent_process()
        if parent is not None:  # AsyncVectorEnv makes one in the parent, too
            threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return self()

    def _prepared(self) -> gymnasium.Env[Any, Any]:
        if self.task.atari and "ale_py" not in str(self.spec.entry_point):
            got = self.task.env
            raise UserError("the preparation of Atari games suits them alone", got=got, fix="leave --atari out")
        try:
            env = _make(self.spec, self.task)
            if self.task.atari:
                return _atari(env, self.task, self.training)
        except Exception as error:
            raise not_made(self.task.env, error, self.task.env_args) from error
        return SkipFrames(FrameCounter(env), self.task.frame_skip) if self.task.frame_skip > 1 else env


def one_lane(task: GymTask) -> Guard:
    """One environment of a task in this process, to be looked at or watched.

    Raises:
        UserError: no such environment, or it cannot be made (2); making it takes too long (5).
    """
    try:
        with Watch(task.env_timeout) as watch:
            return LaneMaker(find_spec(task.env), task, training=False, watch=watch)()
    except Hanging as late:
        raise UserError(f"the environment {task.env} cannot be made", got=late, code=EXIT_ENVIRONMENT) from None


class SkipFrames(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Holds an action for several steps, adds up the rewards, and stops at the step that ends the episode."""

    def __init__(self, env: gymnasium.Env[Any, Any], frame_skip: int) -> None:
        super().__init__(env)
        self._frame_skip = frame_skip

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's own."""
        total = 0.0
        for _ in range(self._frame_skip):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info


class LifeLoss(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A lost life ends an episode, and the next one goes on with the same game (Mnih et al. 2015, Methods)."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self._lives, self._over = 0, True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new game where the last is over or a seed is given; else one idle step."""
        game_over = self._over or seed is not None
        if not game_over:
            obs, _, terminated, truncated, info = self.env.step(0)
            game_over = terminated or truncated
        if game_over:
            obs, info = self.env.reset(seed=seed, options=options)
        self._lives, self._over = self._count(), False
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's own; terminated with a life."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        self._over = terminated or truncated
        before, self._lives = self._lives, self._count()
        return obs, reward, terminated or self._lives < before, truncated, info

    def _count(self) -> int:
        base: Any = self.env.unwrapped
        return int(base.ale.lives())


def _end_with(sentinel: int) -> None:
    """Ends this process as soon as the one behind the sentinel is gone, however it went."""
    multiprocessing.connection.wait([sentinel])
    os._exit(EXIT_ORPHAN)


def _make(spec: EnvSpec, task: GymTask) -> gymnasium.Env[Any, Any]:
    args = dict(task.env_args) | ({"frameskip": 1} if task.atari else {})
    return gymnasium.make(spec, disable_env_checker=True, **args)


def _atari(env: gymnasium.Env[Any, Any], task: GymTask, training: bool) -> gymnasium.Env[Any, Any]:
    from gymnasium.wrappers import AtariPreprocessing

    side = task.resize or ATARI_SIDE
    game = AtariPreprocessing(FrameCounter(env), frame_skip=task.skip, screen_size=side, grayscale_newaxis=True)
    return LifeLoss(game) if training else game
