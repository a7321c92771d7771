"""A batch of our environments as a Stable-Baselines3 VecEnv: its algorithms, wrappers and callbacks run on it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from ..envs.errors import UserError
from .rollout import BatchedEnv, EpisodeStats, Rollout, Step

Indices = int | Iterable[int] | None


class Ended(NamedTuple):
    """What statistics of episodes are made of; see Step."""

    done: Tensor
    episode_return: Tensor
    episode_frames: Tensor
    lap_finished: Tensor | None


class Sb3VecEnv(VecEnv):
    """B lanes of a batch behind the interface of Stable-Baselines3.

    It also does what its Monitor does: where an episode ends, info holds "episode" with "r" (return by the rules of the
    environment, without costs that only training knows), "l" (steps) and "t" (s since the adapter was made). What a
    batch draws is decided when it is made; `seed` is accepted and changes nothing.

    Args:
        env: the batch. One that resets lanes in a step of their own (valid is not None) cannot be stepped.
        reward_scale: rewards are multiplied by this; returns of episodes are not.
    """

    def __init__(self, env: BatchedEnv, reward_scale: float = 1.0) -> None:
        self.env, self.reward_scale = env, reward_scale
        self.stats = EpisodeStats()
        self.frames = 0
        """frames of the simulator, all lanes together, since the adapter was made"""
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self._action = torch.zeros(0)
        self.lengths = np.zeros(env.num_envs, np.int64)  # [B] steps of the running episodes
        self._began = time.monotonic()

    def reset(self) -> NDArray[Any]:
        """Starts every lane. Returns obs [B, …]."""
        self.lengths[:] = 0
        return _array(self.env.reset())

    def step_async(self, actions: NDArray[Any]) -> None:
        """Takes the actions [B, …] of the step to come."""
        self._action = torch.as_tensor(actions).to(self.env.device)

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """One step of all lanes. Returns obs [B, …], reward [B], done [B] and B infos.

        Raises:
            UserError: the batch resets lanes in a step of their own.
        """
        step = self.env.step(self._action)
        if step.valid is not None:
            raise _late()
        self.lengths += 1
        self.frames += int(step.frames.sum())
        terminated, truncated = _array(step.terminated), _array(step.truncated)
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if done.any():
            ended = Ended(step.terminated | step.truncated, step.episode_return, step.episode_frames, step.lap_finished)
            self.stats.add(cast(Rollout, ended))
            self._report(step, np.flatnonzero(done), truncated & ~terminated, infos)
        return _array(step.obs), self.reward_scale * _array(step.reward).astype(np.float32), done, infos

    def _report(self, step: Step, lanes: NDArray[Any], cut: NDArray[Any], infos: list[dict[str, Any]]) -> None:
        """Writes into infos what is to be known about the episodes that ended in lanes; cut [B] by the clock alone."""
        last = _array(step.next_obs[torch.as_tensor(lanes).to(self.env.device)])
        score, seconds = _array(step.episode_return), round(time.monotonic() - self._began, 6)
        for k, lane in enumerate(lanes):
            episode = {"r": float(score[lane]), "l": int(self.lengths[lane]), "t": seconds}
            infos[lane] = {
                "terminal_observation": last[k],
                "TimeLimit.truncated": bool(cut[lane]),
                "episode": episode,
            }
        self.lengths[lanes] = 0

    def close(self) -> None:
        """There is nothing to close."""

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The attribute of the batch, once a lane; there is nothing to render.

        Raises:
            AttributeError: the batch has none of this name.
        """
        value = None if attr_name == "render_mode" else getattr(self.env, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Sets an attribute of the batch.

        Raises:
            UserError: of some lanes only: they are one object.
        """
        self._refuse_some(indices)
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Indices = None) -> list[Any]:  # type: ignore[override]
        """Calls a method of the batch once; its answer is given for every lane.

        Raises:
            UserError: for some lanes only: they are one object.
        """
        self._refuse_some(indices)
        answer = getattr(self.env, method_name)(*method_args)
        return [answer for _ in range(self.num_envs)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Indices = None) -> list[bool]:
        """Whether lanes do what a wrapper does: this is so for Monitor alone."""
        return [wrapper_class is Monitor for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[NDArray[Any] | None]:
        """No pictures: `drivetrain watch` and `record` make them."""
        return [None] * self.num_envs

    def _refuse_some(self, indices: Indices) -> None:
        if indices is not None and sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise UserError("all lanes are one object", got=f"indices {indices}", allowed="None")


def check_autoreset(env: BatchedEnv) -> None:
    """Refuses what step_wait would.

    Raises:
        UserError: the batch resets lanes in a step of their own.
    """
    if getattr(env, "resets_late", False):  # of a Gymnasium environment; others reset themselves in the same step
        raise _late()


def _late() -> UserError:
    what = "Stable-Baselines3 cannot use environments that reset themselves in a step of their own"
    fix = "take --vectorization sync"
    return UserError(what, got="autoreset NEXT_STEP", allowed="SAME_STEP", fix=fix)


def _array(tensor: Tensor) -> NDArray[Any]:
    """A copy for numpy: the batch may overwrite its tensors in the next step."""
    return tensor.detach().cpu().numpy().copy()
