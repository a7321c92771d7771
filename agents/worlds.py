"""Environments by name: racing, the original CarRacing-v3, or any Gymnasium id; to learn in and to be scored in."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Space
from numpy.typing import NDArray
from torch import Tensor

from ..envs.actions import action_space
from ..envs.errors import UserError
from ..envs.gym_ids import reward_threshold
from ..envs.gym_task import GymTask
from ..envs.sight import observation_space
from ..envs.sim import Sim, SimConfig
from ..envs.task import sim_config, task_of
from ..envs.track import pool
from .action_counts import ActionCounts
from .config import ORIGINAL, POOL_STRIDE, RACING, TRAINING_SEEDS, RacingTraining, task_in
from .evaluate import Scores, play_original, play_twin
from .players import Decider, Recall, racing_actor, remembers
from .rollout import BatchedEnv

ORIGINAL_ID = "drivetrain/Original-v0"
GYM_TASK = tuple(field.name for field in fields(GymTask) if field.name != "env")
ACTION_NAMES = {"continuous": ("steer", "gas", "brake"), "pedals": ("steer", "gas minus brake")}
"""components of the action sets that have several"""
LANES = ("vectorization", "env_timeout", "norm_reward", "clip_reward")
"""settings of the original's lanes, beside those of the task"""


def spaces_of(env: str, record: Mapping[str, Any]) -> tuple[Space[Any], Space[Any]]:
    """Observations and actions of one lane, as a policy sees them.

    Args:
        env: racing, CarRacing-v3, or a Gymnasium id.
        record: settings, of which those of the task are read.

    Raises:
        UserError: no such environment, or settings that it does not take.
    """
    if env in (RACING, ORIGINAL):
        task = sim_config(**task_in(record))
        return observation_space(task), action_space(task.actions)
    from ..envs import adapt

    return adapt.spaces_of(gym_task(env, record))


def actions_of(env: str, record: Mapping[str, Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """From a policy's actions [B, …] to what the environment itself takes.

    Raises:
        UserError: as spaces_of.
    """
    if env in (RACING, ORIGINAL):
        return lambda actions: actions
    from ..envs import adapt

    return adapt.actions_of(gym_task(env, record)).decode


def task_record(env: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every entry of config.json that describes the task and the training in it, as resolved.

    Raises:
        UserError: a value that the task does not take.
    """
    if env == RACING:
        return dict(task_of(sim_config(**task_in(settings)))) | _training(settings).model_dump()
    if env == ORIGINAL:
        own = {name: value for name, value in vars(original_task(settings)).items() if name in LANES}
        return dict(task_of(sim_config(**task_in(settings)))) | own
    return {name: getattr(gym_task(env, settings), name) for name in GYM_TASK}


def make_env(env: str, settings: Mapping[str, Any], num_envs: int, seed: int, device: str) -> BatchedEnv:
    """num_envs lanes to learn in, on seeds of their own.

    Args:
        env: racing, CarRacing-v3, or a Gymnasium id.
        settings: of the task and of training in it; what is missing is as by default.
        num_envs: B.
        seed: 0 or more; each has training seeds of its own.
        device: where observations and actions are.

    Raises:
        UserError: a seed below 0: its pool would reach into the tracks of validation and tests; or as spaces_of.
    """
    if seed < 0:
        raise UserError("seed is negative", got=seed, allowed="0 or more")
    first = TRAINING_SEEDS + POOL_STRIDE * seed
    if env != RACING:
        from ..envs.adapt import GymBatch

        task = original_task(settings) if env == ORIGINAL else gym_task(env, settings)
        return GymBatch(task, num_envs, first, device, float(settings.get("gamma", 0.99)))
    training = _training(settings)
    pay = {name: getattr(training, name) for name in ("gap_cost", "gap_cost_start", "patience")}
    return Sim(pool(first, training.num_tracks, device), num_envs, SimConfig(**task_in(settings), **pay), seed)


def _training(settings: Mapping[str, Any]) -> RacingTraining:
    return RacingTraining(**{name: settings[name] for name in RacingTraining.model_fields if name in settings})


class RandomActor:
    """Uniform draws from an action space.

    Args:
        space: of one lane; an unbounded number is drawn between -1 and 1.
        device: where the actions are.
        seed: of the draws.
    """

    def __init__(self, space: Space[Any], device: str = "cpu", seed: int = 0) -> None:
        self.space, self.device = space, device
        self.space.seed(seed)

    def act(self, obs: Tensor) -> Tensor:
        """Actions [B, …], whatever the observations."""
        drawn = np.stack([self.space.sample() for _ in range(len(obs))])
        return torch.as_tensor(drawn, device=self.device)


def play(
    env: str,
    record: Mapping[str, Any],
    policy: Decider,
    seeds: Sequence[int],
    device: str,
    counts: ActionCounts | None = None,
) -> Scores:
    """One episode per seed without exploration, in this process; ``counts`` counts the actions.

    Raises:
        UserError: an environment that fails (5).
    """
    scores = _play(env, record, policy, seeds, device, counts.add if counts else None)
    return replace(scores, actions=tuple(counts.table())) if counts else scores


def _play(
    env: str,
    record: Mapping[str, Any],
    policy: Decider,
    seeds: Sequence[int],
    device: str,
    count: Callable[..., None] | None,
) -> Scores:
    if env == RACING:
        return play_twin(racing_actor(policy), seeds, sim_config(**task_in(record)), device, count)
    if env == ORIGINAL:
        return play_original(racing_actor(policy), seeds, sim_config(**task_in(record)), count)
    from ..envs.adapt import play_episodes

    began = time.monotonic()
    who = Recall(policy) if remembers(policy) else policy.act
    scores, frames = play_episodes(who, gym_task(env, record), seeds, device, count)
    return Scores(tuple(seeds), tuple(scores), tuple(frames), time.monotonic() - began)


def action_counts(env: str, record: Mapping[str, Any], space: Space[Any], device: str) -> ActionCounts:
    """An empty histogram of actions; ``space`` is that of `spaces_of`."""
    names = ACTION_NAMES.get(str(record.get("actions")), ()) if env in (RACING, ORIGINAL) else ()
    return ActionCounts(space, device, names)


def threshold_of(env: str) -> float | None:
    """The score from which on an episode is no failure, by Gymnasium's registry; None where it names none."""
    return reward_threshold(ORIGINAL if env == RACING else env)


def gym_task(env: str, record: Mapping[str, Any]) -> GymTask:
    """The task of a Gymnasium id in a flat record."""
    return GymTask(env=env, **{name: record[name] for name in GYM_TASK if name in record})


def original_task(record: Mapping[str, Any]) -> GymTask:
    """The original CarRacing-v3 as one Gymnasium environment among others; pictures are stacked on the device."""
    if ORIGINAL_ID not in gymnasium.registry:
        gymnasium.register(ORIGINAL_ID, entry_point="drivetrain.envs.original:OriginalEnv", reward_threshold=900.0)
    task = {name: value for name, value in task_in(record).items() if name not in ("lap_rule", "indicators")}
    depth = task.pop("frame_stack")
    lanes = {name: record[name] for name in LANES if name in record}
    return GymTask(env=ORIGINAL_ID, **lanes | {"env_args": task, "frame_stack": depth})
