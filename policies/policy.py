"""A policy: normaliser → encoder → heads, for acting and for judging states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .distributions import Distribution
from .encoders import Encoder
from .heads import Head, ValueHead
from .normalize import AsItIs, RunningNorm


class Policy(nn.Module):
    """Actor and critic over observations: numbers [B, O], or pictures uint8 [B, H, W, C].

    `obs_norm` standardises numbers, `return_norm` turns the value head's output into returns. Networks take
    *standardised* observations, so that a learner can standardise a rollout once. Without a critic of its own the value
    is read off the actor's features.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        obs_norm: RunningNorm | AsItIs,
        actor: Encoder,
        critic: Encoder | None,
        head: Head,
        value: ValueHead,
    ) -> None:
        super().__init__()
        self.obs_shape, self.obs_norm = obs_shape, obs_norm
        self.return_norm = RunningNorm(1, memory=20, limit=float("inf"))
        self.actor, self.head, self.value_head = actor, head, value
        self.critic = critic

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.value_head.value.weight.device

    def pi(self, normed: Tensor) -> Distribution:
        """Distribution over raw actions for standardised observations [B, …]."""
        return self.head(self.actor(normed))

    def value(self, normed: Tensor) -> Tensor:
        """[B] standardised values of standardised observations [B, …]."""
        return self.value_head((self.actor if self.critic is None else self.critic)(normed))

    def pi_and_value(self, normed: Tensor) -> tuple[Distribution, Tensor]:
        """Both at once; a shared trunk is run once."""
        features = self.actor(normed)
        value = self.value_head(features if self.critic is None else self.critic(normed))
        return self.head(features), value

    def pi_and_shared_value(self, normed: Tensor) -> tuple[Distribution, Tensor | None]:
        """The distribution, and the value [B] if it is read off the same features; a critic of its own is not asked."""
        if self.critic is None:
            return self.pi_and_value(normed)
        return self.pi(normed), None

    def decide(self, obs: Tensor) -> Tensor:
        """The most likely actions for the environment, from plain observations [B, …]."""
        return self.head.to_env(self.pi(self.obs_norm(obs)).mode())

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Actions for the environment from plain observations [B, …]: the mode, or a sample drawn by generator."""
        if deterministic:
            return self.decide(obs)
        return self.head.to_env(self.pi(self.obs_norm(obs)).sample(generator))
