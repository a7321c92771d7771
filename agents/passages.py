"""Q-learning with memory: steps that are played through once and learned from in one go, whole lanes at a time.

This is PQN (Gallici et al. 2024) with a core: values at a step rest on the steps before it, so lanes are never cut up,
and what was remembered when a passage began is kept with it. Shapes: T steps, B lanes, M numbers of memory, A actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..policies.cores import Memory
from ..policies.qnet import QNet, QPolicy
from .replay import Steps
from .rollout import FROM_ENV, BatchedEnv, cut_value
from .targets import explore


@dataclass(frozen=True)
class Passage(Steps):
    """T steps of B lanes by a policy with memory; its observations are whole ones."""

    kept: Tensor = field(kw_only=True)  # [B, M] remembered before the first step
    first: Tensor = field(kw_only=True)  # [T, B] bool, steps before which it is forgotten
    next_value: Tensor = field(kw_only=True)  # [T, B] max_a Q of what the action led to, before any reset

    def lanes(self, parts: int, generator: torch.Generator) -> Iterator[Tensor]:
        """All lanes in a new order, in so many parts [L] int64."""
        order = torch.randperm(self.first.shape[1], generator=generator, device=self.first.device)
        return iter(order.tensor_split(parts))

    def samples(self, lanes: Tensor) -> Tensor:
        """[S] int64 rows of these lanes, t·L + l, that are transitions."""
        if self.valid is None:
            return torch.arange(len(self.first) * len(lanes), device=lanes.device)
        return self.valid[:, lanes].flatten().nonzero()[:, 0]


@torch.no_grad()
def play_through(
    env: BatchedEnv,
    policy: QPolicy,
    start: tuple[Tensor, Memory],
    epsilon: Tensor,
    num_steps: int,
    generator: torch.Generator,
) -> tuple[Passage, tuple[Tensor, Memory]]:
    """Plays num_steps steps, at random with probability epsilon [B].

    Args:
        env: lanes.
        policy: one that remembers.
        start: obs [B, …] and what is remembered.
        epsilon: of each lane.
        num_steps: T.
        generator: of noise and exploration.

    Returns:
        The steps, and where the next passage starts.
    """
    obs, memory = start
    rows: dict[str, Tensor] = {}
    kept, step, later = memory.kept, None, obs.new_empty(0)

    def judge(obs: Tensor, memory: Memory) -> Tensor:
        return policy.q_with(policy.obs_norm(obs), memory, generator)[0].amax(1)

    for t in range(num_steps + 1):
        q, remembered = policy.q_with(policy.obs_norm(obs), memory, generator)
        if step is not None:
            rows["next_value"][t - 1] = torch.where(step.truncated, later, q.amax(1))
        if t == num_steps:
            break
        action = explore(q, epsilon, generator)
        seen = obs.clone()  # the step may overwrite it
        step = env.step(action + policy.start)
        row = {name: given for name in FROM_ENV if (given := getattr(step, name)) is not None}
        row |= {"obs": seen, "action": action, "next_obs": step.next_obs, "first": memory.first}
        row["next_value"] = q.new_empty(len(q))
        for name, column in row.items():
            if t == 0:
                rows[name] = column.new_empty(num_steps, *column.shape)
            rows[name][t] = column
        later = cut_value(judge, step, remembered)
        # an environment that takes a step to reset itself begins anew behind that step
        begins = step.terminated | step.truncated if step.valid is None else ~step.valid
        obs, memory = step.obs, Memory(remembered, begins.clone())
    return Passage(**rows, kept=kept), (obs.clone(), memory)


@torch.no_grad()
def choices(net: QNet, normed: Tensor, memory: Tensor, first: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """What a network would choose in a passage.

    Args:
        net: one with a core.
        normed: [T, B, …] standardised.
        memory: [B, M] of its own before the first step.
        first: [T, B] bool, steps before which it is forgotten.
        parts: lanes are run through in so many parts, to save memory.

    Returns:
        actions [T, B] int64, and its memory [B, M] behind the last step.
    """
    found = []
    for lanes in torch.arange(first.shape[1], device=first.device).tensor_split(parts):
        values, kept = net.over_time(normed[:, lanes].flatten(0, 1), memory[lanes], first[:, lanes])
        found.append((values.mean(-1).argmax(-1).unflatten(0, (len(first), -1)), kept))
    actions, memories = zip(*found, strict=True)
    return torch.cat(actions, 1), torch.cat(memories)
