"""From flat options to something that learns and is validated, and from a checkpoint to something that drives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import Tensor

from drivetrain.agents import agent
from drivetrain.agents.checkpoint import choose_checkpoint
from drivetrain.agents.config import TASK, PPOConfig
from drivetrain.agents.evaluate import Actor, Scores, play_twin
from drivetrain.agents.ppo import PPOLearner
from drivetrain.device import describe_device, keep_freed_memory
from drivetrain.envs.sight import observation_space
from drivetrain.envs.state import CarState
from drivetrain.envs.task import sim_config
from drivetrain.envs.track import Tracks
from drivetrain.memory import check_memory
from drivetrain.policies.policy import Policy
from drivetrain.rundir import find_run, read_run_config

__all__ = ["Learner", "begin_from", "build_learner", "load_actor"]


@dataclass(frozen=True)
class Learner:
    """What a session needs."""

    agent: PPOLearner
    validate: Callable[[int, int], Scores]  # (first seed, episodes), without exploration
    device_words: str


def build_learner(options: BaseModel) -> Learner:
    """A fresh learner from resolved options (device and threads set).

    Raises:
        UserError: it would not fit in memory (8).
    """
    flat: dict[str, Any] = options.model_dump()
    device = flat["device"]
    task = {name: flat[name] for name in TASK}
    driving = sim_config(**task)
    check_memory(flat, observation_space(driving), device)
    keep_freed_memory()
    config = PPOConfig(**{name: flat[name] for name in PPOConfig.model_fields})
    learner = agent.build_learner(config, task, flat["seed"], device, flat["steps"])
    actor = policy_actor(learner.policy)

    def validate(first: int, episodes: int) -> Scores:
        return play_twin(actor, range(first, first + episodes), driving, device)

    return Learner(learner, validate, describe_device(device))


def begin_from(learner: PPOLearner, who: str) -> None:
    """Take over the weights of another run.

    Raises:
        UserError: no such run (2), no valid checkpoint (3), or a network of another shape (2).
    """
    agent.load_weights(learner.policy, choose_checkpoint(find_run(who) / "checkpoints").path)


def load_actor(checkpoint: Path, device: str = "cpu") -> Actor:
    """The driver in a checkpoint of a run folder, without exploration.

    Raises:
        UserError: the checkpoint is damaged (3), or does not fit config.json (2).
    """
    config = read_run_config(checkpoint.parent.parent)
    return policy_actor(agent.load_policy(config, checkpoint).to(device))


def policy_actor(policy: Policy) -> Actor:
    """The policy as a driver: its mode, no exploration."""

    def actor(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        del tracks, state
        return policy.act(obs, deterministic=True)

    return actor
