"""Collecting experience: T steps of B environments as tensors [T, B], nothing leaves the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from gymnasium.spaces import Space
from torch import Tensor

from ..policies.policy import Policy

HISTORY = 100
"""episodes that the training statistics look back on"""


FROM_ENV = (
    "next_obs",
    "reward",
    "terminated",
    "truncated",
    "lap_finished",
    "frames",
    "episode_return",
    "episode_frames",
)
"""fields of an environment's answer that a rollout keeps"""


class Step(Protocol):
    """What an environment answers: envs.sim.Outcome, or anything with these fields."""

    @property
    def obs(self) -> Tensor:
        """[B, O], the first of a new episode where one ended."""

    @property
    def next_obs(self) -> Tensor:
        """[B, O], what the action led to."""

    @property
    def reward(self) -> Tensor:
        """[B]."""

    @property
    def terminated(self) -> Tensor:
        """[B] bool."""

    @property
    def truncated(self) -> Tensor:
        """[B] bool."""

    @property
    def lap_finished(self) -> Tensor:
        """[B] bool."""

    @property
    def frames(self) -> Tensor:
        """[B] int64."""

    @property
    def episode_return(self) -> Tensor:
        """[B], score of the episode so far."""

    @property
    def episode_frames(self) -> Tensor:
        """[B] int64."""


class BatchedEnv(Protocol):
    """B environments that reset themselves in the step that ends an episode and hand over the true next_obs."""

    num_envs: int
    device: torch.device

    @property
    def single_observation_space(self) -> Space[Any]:
        """Of one environment."""

    @property
    def single_action_space(self) -> Space[Any]:
        """Of one environment."""

    def reset(self) -> Tensor:
        """obs [B, O]."""

    def scatter(self, generator: torch.Generator) -> None:
        """Puts the lanes at different times of their episodes; may do nothing."""

    def step(self, action: Tensor) -> Step:
        """One step of every environment; tensors may be overwritten by the next."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes."""

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts it back."""


@dataclass(frozen=True)
class Rollout:
    """T steps of B environments."""

    obs: Tensor  # [T, B, O]
    next_obs: Tensor  # [T, B, O], what the action led to, before any reset
    raw_action: Tensor  # [T, B, A] or [T, B], as the policy's distribution understands it
    log_prob: Tensor  # [T, B]
    reward: Tensor  # [T, B]
    terminated: Tensor  # [T, B] bool: the future is worth nothing
    truncated: Tensor  # [T, B] bool: the future is cut off, bootstrap from next_obs
    frames: Tensor  # [T, B] int64
    episode_return: Tensor  # [T, B] score of the running episode
    episode_frames: Tensor  # [T, B] int64
    lap_finished: Tensor  # [T, B] bool

    @property
    def done(self) -> Tensor:
        """[T, B] bool."""
        return self.terminated | self.truncated


@torch.no_grad()
def collect(
    env: BatchedEnv, policy: Policy, obs: Tensor, num_steps: int, generator: torch.Generator
) -> tuple[Rollout, Tensor]:
    """Plays num_steps steps from obs [B, O] with sampled actions. Returns the rollout and the next obs."""
    kept: dict[str, Tensor] = {"obs": obs.new_empty(num_steps, *obs.shape)}
    for t in range(num_steps):
        kept["obs"][t] = obs  # before the step, which may overwrite it
        pi = policy.pi(policy.obs_norm(obs))
        raw = pi.sample(generator)
        step = env.step(policy.head.to_env(raw))
        row = {name: getattr(step, name) for name in FROM_ENV} | {"raw_action": raw, "log_prob": pi.log_prob(raw)}
        for name, value in row.items():
            if t == 0:
                kept[name] = value.new_empty(num_steps, *value.shape)
            kept[name][t] = value
        obs = step.obs
    return Rollout(**kept), obs.clone()


class EpisodeStats:
    """Statistics of the last HISTORY episodes that ended; its tensors are part of a checkpoint."""

    def __init__(self) -> None:
        self.table = torch.zeros(0, 3)
        self.episodes = 0

    def add(self, rollout: Rollout) -> None:
        """Takes up the episodes that ended in the rollout, in the order of their steps."""
        done = rollout.done
        columns = (rollout.episode_return, rollout.episode_frames, rollout.lap_finished)
        ended = torch.stack([column[done].float() for column in columns], 1).cpu()
        self.episodes += len(ended)
        self.table = torch.cat((self.table, ended))[-HISTORY:]

    def metrics(self) -> dict[str, float]:
        """train/… metrics; the means are missing until an episode has ended."""
        found = {"train/episodes": float(self.episodes)}
        if len(self.table):
            score, frames, laps = self.table.mean(0).tolist()
            found |= {"train/return": score, "train/frames": frames, "train/laps": laps}
        return found
