"""From flat options to something that learns, and from a checkpoint to something that drives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import BaseModel
from torch import Tensor

from drivetrain.agents.checkpoint import choose_checkpoint, load_model
from drivetrain.agents.config import POOL_STRIDE, TRAINING_SEEDS, PPOConfig
from drivetrain.agents.evaluate import Actor, Scores, play_twin
from drivetrain.agents.ppo import PPOLearner
from drivetrain.device import describe_device
from drivetrain.envs.actions import action_space
from drivetrain.envs.errors import UserError
from drivetrain.envs.observe import OBS_SIZE
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.state import CarState
from drivetrain.envs.track import Tracks, pool
from drivetrain.memory import check_memory
from drivetrain.policies.build import build_policy
from drivetrain.policies.policy import Policy
from drivetrain.rundir import find_run, read_run_config

if TYPE_CHECKING:
    from gymnasium.spaces import Space

__all__ = ["Learner", "begin_from", "build_learner", "load_actor"]


@dataclass(frozen=True)
class Learner:
    """What a session needs."""

    agent: PPOLearner
    validate: Callable[[int, int], Scores]  # (first seed, episodes), without exploration
    device_words: str


def build_learner(options: BaseModel) -> Learner:
    """A fresh learner from resolved options (device and threads set)."""
    flat: dict[str, Any] = options.model_dump()
    cfg = PPOConfig(**{name: flat[name] for name in PPOConfig.model_fields})
    sim_config = _sim_config(flat, reward=cfg.reward, patience=cfg.patience)
    device, seed = flat["device"], flat["seed"]
    check_memory(flat, OBS_SIZE, device)
    tracks = pool(TRAINING_SEEDS + POOL_STRIDE * seed, cfg.num_tracks, device)
    sim = Sim(tracks, cfg.num_envs, sim_config, seed)
    agent = PPOLearner(sim, cfg, torch.Generator(device).manual_seed(seed), total_steps=flat["steps"])
    actor = policy_actor(agent.policy)

    def validate(first: int, episodes: int) -> Scores:
        return play_twin(actor, range(first, first + episodes), _sim_config(flat), device)

    return Learner(agent, validate, describe_device(device))


def begin_from(agent: PPOLearner, who: str) -> None:
    """Take over the weights of another run.

    Raises:
        UserError: no such run (2), no valid checkpoint (3), or a network of another shape (2).
    """
    path = choose_checkpoint(find_run(who) / "checkpoints").path
    _load_weights(agent.policy, path)


def load_actor(checkpoint: Path) -> Actor:
    """The driver in a checkpoint of a run folder, without exploration.

    Raises:
        UserError: the checkpoint is damaged (3), or does not fit config.json (2).
    """
    config = read_run_config(checkpoint.parent.parent)
    known = {name: config[name] for name in PPOConfig.model_fields if name in config}
    sim = SimConfig(**{name: config[name] for name in ("obs", "actions", "frame_skip", "lap_rule") if name in config})
    policy = build_policy(_observation_space(), action_space(sim.actions), PPOConfig(**known), torch.Generator())
    _load_weights(policy, checkpoint)
    return policy_actor(policy.eval())


def policy_actor(policy: Policy) -> Actor:
    """The policy as a driver: its mode, no exploration."""

    def actor(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        del tracks, state
        return policy.act(obs, deterministic=True)

    return actor


def _sim_config(flat: dict[str, Any], reward: str = "score", patience: int = 0) -> SimConfig:
    return SimConfig(flat["obs"], flat["actions"], flat["frame_skip"], flat["lap_rule"], reward, patience)


def _observation_space() -> Space[Any]:
    from gymnasium.spaces import Box

    return Box(-float("inf"), float("inf"), (OBS_SIZE,))


def _load_weights(policy: Policy, checkpoint: Path) -> None:
    try:
        policy.load_state_dict(load_model(checkpoint))
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise UserError(
            f"the network of {checkpoint} has another shape", got=why, fix="use the options of that run"
        ) from None
