"""Collecting experience: T steps of B environments as tensors [T, B], nothing leaves the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from gymnasium.spaces import Space
from torch import Tensor

from ..policies.cores import Memory
from ..policies.policy import Policy
from .frames import FrameRecorder, Frames

HISTORY = 100
"""episodes that the training statistics look back on"""


FROM_ENV = ("reward", "terminated", "truncated", "frames", "episode_return", "episode_frames", "lap_finished", "valid")
"""fields of an environment's answer that a rollout keeps where they are not None"""


class Step(Protocol):
    """What an environment answers: envs.sim.Outcome, or anything with these fields."""

    @property
    def obs(self) -> Tensor:
        """[B, …], the first of a new episode where one ended."""

    @property
    def next_obs(self) -> Tensor:
        """[B, …], what the action led to."""

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
    def lap_finished(self) -> Tensor | None:
        """[B] bool; None where there are no laps."""

    @property
    def frames(self) -> Tensor:
        """[B] int64."""

    @property
    def episode_return(self) -> Tensor:
        """[B], score of the episode so far."""

    @property
    def episode_frames(self) -> Tensor:
        """[B] int64."""

    @property
    def valid(self) -> Tensor | None:
        """[B] bool, None = all. False: no transition, the environment used the step to reset itself."""


class BatchedEnv(Protocol):
    """B environments that reset themselves, in the step that ends an episode or in the next, and hand over the true
    next_obs."""

    num_envs: int
    device: torch.device

    @property
    def exact_state(self) -> bool:
        """Whether state_tensors hold the running episodes; where not, a continuation begins new ones."""

    @property
    def channels(self) -> int | None:
        """Of one picture, where observations are pictures uint8 [B, H, W, C·k]; None where they are numbers."""

    @property
    def single_observation_space(self) -> Space[Any]:
        """Of one environment."""

    @property
    def single_action_space(self) -> Space[Any]:
        """Of one environment."""

    def reset(self) -> Tensor:
        """obs [B, …]."""

    def scatter(self, generator: torch.Generator) -> None:
        """Puts the lanes at different times of their episodes; may do nothing."""

    def schedule(self, share: float) -> None:
        """Told how much of the training, 0 to 1, is done; most environments do not care."""

    def step(self, action: Tensor) -> Step:
        """One step of every environment; tensors may be overwritten by the next."""

    def close(self) -> None:
        """Lets go of processes and windows, if there are any."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes."""

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts it back."""


@dataclass(frozen=True)
class Rollout:
    """T steps of B environments."""

    obs: Tensor | Frames  # [T, B, O]; pictures are each stored once
    cut_obs: Tensor | None  # [T, B, O], what the action led to, before any reset; None where there is cut_value
    raw_action: Tensor  # [T, B, A] or [T, B], as the policy's distribution understands it
    log_prob: Tensor  # [T, B]
    value: Tensor | None  # [T, B] of obs, standardised, where it comes for nothing: policy and value share their trunk
    reward: Tensor  # [T, B]
    terminated: Tensor  # [T, B] bool: the future is worth nothing
    truncated: Tensor  # [T, B] bool: the future is cut off, bootstrap from cut_obs or cut_value
    frames: Tensor  # [T, B] int64
    episode_return: Tensor  # [T, B] score of the running episode
    episode_frames: Tensor  # [T, B] int64
    memory: Memory  # of the policy behind the last step; empty where it keeps none
    lap_finished: Tensor | None = None  # [T, B] bool
    valid: Tensor | None = None  # [T, B] bool: False is no transition; None = all are
    first: Tensor | None = None  # [T, B] bool, of a policy with memory: steps before which it forgets
    cut_value: Tensor | None = None  # [T, B] standardised, where lanes were cut off; elsewhere anything

    @property
    def done(self) -> Tensor:
        """[T, B] bool."""
        return self.terminated | self.truncated

    @property
    def cut(self) -> Tensor:
        """[T, B] bool: the future was cut off and would have been worth something."""
        return self.truncated & ~self.terminated

    @property
    def num_samples(self) -> int:
        """Transitions; waits for the device where some rows are none."""
        return self.reward.numel() if self.valid is None else int(self.valid.sum())


@torch.no_grad()
def collect(
    env: BatchedEnv, policy: Policy, obs: Tensor, memory: Memory, num_steps: int, generator: torch.Generator
) -> tuple[Rollout, Tensor]:
    """Plays num_steps steps from obs [B, …] with sampled actions. Returns the rollout and the next obs."""
    pictures = None if env.channels is None else FrameRecorder(obs, num_steps, env.channels)
    kept: dict[str, Tensor] = {} if pictures else {"obs": obs.new_empty(num_steps, *obs.shape)}

    def judge(obs: Tensor, memory: Memory) -> Tensor:
        return policy.value_with(policy.obs_norm(obs), memory)

    for t in range(num_steps):
        if pictures:
            pictures.add(obs)
        else:
            kept["obs"][t] = obs  # before the step, which may overwrite it
        pi, value, remembered = policy.step(policy.obs_norm(obs), memory)
        raw = pi.sample(generator)
        step = env.step(policy.head.to_env(raw))
        row = {name: given for name in FROM_ENV if (given := getattr(step, name)) is not None}
        row |= {"raw_action": raw, "log_prob": pi.log_prob(raw)}
        if value is not None:
            row["value"] = value
        if policy.remembers:
            row["first"] = memory.first
        if policy.remembers or pictures:  # memory and pictures are too large to be kept until all is judged at once
            row["cut_value"] = cut_value(judge, step, remembered)
        else:
            row["cut_obs"] = step.next_obs
        # an environment that takes a step to reset itself begins anew behind that step
        begins = step.terminated | step.truncated if step.valid is None else ~step.valid
        memory = Memory(remembered, begins)
        if pictures:
            pictures.after(begins)
        for name, column in row.items():
            if t == 0:
                kept[name] = column.new_empty(num_steps, *column.shape)
            kept[name][t] = column
        obs = step.obs
    seen: dict[str, Any] = {"obs": pictures.frames()} if pictures else {}
    # `begins` may be the environment's own tensor
    memory = Memory(memory.kept, memory.first.clone())
    return Rollout(**({"value": None, "cut_obs": None, "memory": memory} | kept | seen)), obs.clone()


def cut_value(judge: Callable[[Tensor, Memory], Tensor], step: Step, remembered: Tensor) -> Tensor:
    """[B] values of what a step led to, where lanes were cut off; elsewhere anything.

    On the CPU only those lanes are looked at; elsewhere that would mean to wait for the device, so all of them are.

    Args:
        judge: values [N] of observations [N, …] by lanes with such a memory.
        step: what was done.
        remembered: [B, M] behind the observation that it was done on.
    """
    if step.truncated.device.type != "cpu":
        return judge(step.next_obs, Memory(remembered, torch.zeros_like(step.truncated)))
    value, lanes = torch.zeros(len(step.truncated)), step.truncated.nonzero()[:, 0]
    if len(lanes):
        memory = Memory(remembered[lanes], torch.zeros(len(lanes), dtype=torch.bool))
        value[lanes] = judge(step.next_obs[lanes], memory)
    return value


class EpisodeStats:
    """Statistics of the last HISTORY episodes that ended; its tensors are part of a checkpoint."""

    def __init__(self) -> None:
        self.table = torch.zeros(0, 3)
        self.episodes = 0
        self.laps = False

    def add(self, rollout: Rollout) -> None:
        """Takes up the episodes that ended in the rollout, in the order of their steps."""
        done = rollout.done
        self.laps = rollout.lap_finished is not None
        laps = done if rollout.lap_finished is None else rollout.lap_finished
        columns = (rollout.episode_return, rollout.episode_frames, laps)
        ended = torch.stack([column[done].float() for column in columns], 1).cpu()
        self.episodes += len(ended)
        self.table = torch.cat((self.table, ended))[-HISTORY:]

    def metrics(self) -> dict[str, float]:
        """train/… metrics; the means are missing until an episode has ended."""
        found = {"train/episodes": float(self.episodes)}
        if len(self.table):
            score, frames, laps = self.table.mean(0).tolist()
            found |= {"train/return": score, "train/frames": frames} | ({"train/laps": laps} if self.laps else {})
        return found
