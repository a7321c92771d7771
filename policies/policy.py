"""A policy: normaliser → encoder → core → heads, for acting and for judging states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .cores import Core, Memory
from .distributions import Distribution
from .encoders import Encoder
from .heads import Head, ValueHead
from .normalize import AsItIs, RunningNorm


class Policy(nn.Module):
    """Actor and critic over observations: numbers [B, O], or pictures uint8 [B, H, W, C].

    `obs_norm` standardises numbers, `return_norm` turns the value head's output into returns. Networks take
    *standardised* observations, so that a learner can standardise a rollout once. Without a critic of its own the value
    is read off the actor's features.

    A core that remembers stands between the actor's encoder and both heads; then only `step`, `over_time` and
    `act_with` know what to do, and there is no critic of its own.
    """

    def __init__(
        self,
        obs_shape: tuple[int, ...],
        obs_norm: RunningNorm | AsItIs,
        actor: Encoder,
        critic: Encoder | None,
        head: Head,
        value: ValueHead,
        core: Core | None = None,
    ) -> None:
        super().__init__()
        self.obs_shape, self.obs_norm = obs_shape, obs_norm
        self.return_norm = RunningNorm(1, memory=20, limit=float("inf"))
        self.actor, self.head, self.value_head = actor, head, value
        self.critic = critic
        self.core = core or Core(actor.out_features)

    @property
    def remembers(self) -> bool:
        """Whether there is memory."""
        return self.core.memory_size > 0

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

    def over_time(self, normed: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Features [T·B, F] for the heads, of T steps in B lanes, and the memory [B, M] behind them.

        Args:
            normed: standardised observations [T·B, …], sample t·B + b is step t of lane b.
            memory: [B, M] before the first step.
            first: [T, B] bool; steps before which it is forgotten.
        """
        features, memory = self.core(self.actor(normed).unflatten(0, first.shape), memory, first)
        return features.flatten(0, 1), memory

    def step(self, normed: Tensor, memory: Memory) -> tuple[Distribution, Tensor | None, Tensor]:
        """One step of B lanes: the distribution, the value [B] if it comes for nothing, what is remembered [B, M]."""
        if not self.remembers:
            return *self.pi_and_shared_value(normed), memory.kept
        features, kept = self.over_time(normed, memory.kept, memory.first[None])
        return self.head(features), self.value_head(features), kept

    def value_with(self, normed: Tensor, memory: Memory) -> Tensor:
        """[B] standardised values of standardised observations [B, …]."""
        if not self.remembers:
            return self.value(normed)
        return self.value_head(self.over_time(normed, memory.kept, memory.first[None])[0])

    @torch.no_grad()
    def act_with(
        self, obs: Tensor, memory: Memory, deterministic: bool = True, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """As act, with memory: actions [B, …], and what is remembered [B, M]."""
        pi, _, kept = self.step(self.obs_norm(obs), memory)
        return self.head.to_env(pi.mode() if deterministic else pi.sample(generator)), kept

    def decide(self, obs: Tensor) -> Tensor:
        """The most likely actions for the environment, from plain observations [B, …]."""
        return self.head.to_env(self.pi(self.obs_norm(obs)).mode())

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Actions for the environment from plain observations [B, …]: the mode, or a sample drawn by generator."""
        if deterministic:
            return self.decide(obs)
        return self.head.to_env(self.pi(self.obs_norm(obs)).sample(generator))
