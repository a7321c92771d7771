"""A policy: normaliser → encoder → heads, for acting and for judging states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .encoders import MLP
from .heads import BoundedHead, DiscreteHead, Distribution, ValueHead
from .normalize import RunningNorm


class Policy(nn.Module):
    """Actor and critic over vector observations [B, O].

    `obs_norm` standardises observations, `return_norm` turns the value head's output into returns. Networks take
    *standardised* observations, so that a learner can standardise a rollout once.
    """

    def __init__(
        self, obs_size: int, actor: MLP, critic: MLP | None, head: BoundedHead | DiscreteHead, value: ValueHead
    ) -> None:
        super().__init__()
        self.obs_norm = RunningNorm(obs_size)
        self.return_norm = RunningNorm(1, memory=20, limit=float("inf"))
        self.actor, self.head, self.value_head = actor, head, value
        self.critic = critic

    def pi(self, normed: Tensor) -> Distribution:
        """Distribution over raw actions for standardised observations [B, O]."""
        return self.head(self.actor(normed))

    def value(self, normed: Tensor) -> Tensor:
        """[B] standardised values of standardised observations [B, O]."""
        return self.value_head((self.actor if self.critic is None else self.critic)(normed))

    def pi_and_value(self, normed: Tensor) -> tuple[Distribution, Tensor]:
        """Both at once; a shared trunk is run once."""
        features = self.actor(normed)
        value = self.value_head(features if self.critic is None else self.critic(normed))
        return self.head(features), value

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Actions for the environment from plain observations [B, O]: the mode, or a sample drawn by generator."""
        pi = self.pi(self.obs_norm(obs))
        return self.head.to_env(pi.mode() if deterministic else pi.sample(generator))
