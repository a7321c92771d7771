"""A policy of action values: normaliser → encoder → core → one value, or a set of quantiles of it, for every action."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import Tensor, nn

from .cores import Core, CoreConfig, Memory, make_core
from .encoders import MLP, Encoder, linear, make_encoder
from .noisy import NoisyLinear
from .normalize import AsItIs, RunningNorm

LAST_GAIN = 0.01
"""of the last layers: all first values are near 0"""


class QConfig(CoreConfig, Protocol):
    """What a network of action values is made of; agents.dqn_config.DQNConfig has it."""

    @property
    def encoder(self) -> str: ...
    @property
    def hidden(self) -> tuple[int, ...]: ...
    @property
    def channels(self) -> tuple[int, ...] | None: ...
    @property
    def activation(self) -> str: ...
    @property
    def layer_norm(self) -> bool: ...
    @property
    def core(self) -> str: ...
    @property
    def dueling(self) -> bool: ...
    @property
    def quantiles(self) -> int: ...
    @property
    def noisy(self) -> bool: ...
    @property
    def norm_obs(self) -> bool: ...
    @property
    def reward_scale(self) -> float: ...


class Stream(nn.Module):
    """Hidden layers and a last one, which may be noisy: [B, inputs] → [B, outputs]."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int, config: QConfig) -> None:
        super().__init__()
        self.body = MLP(inputs, hidden, config.activation, config.layer_norm)
        self.last = (NoisyLinear if config.noisy else linear)(self.body.out_features, outputs)

    def forward(self, features: Tensor, generator: torch.Generator | None = None) -> Tensor:
        body = self.body(features)
        return self.last(body, generator) if isinstance(self.last, NoisyLinear) else self.last(body)


class QNet(nn.Module):
    """Values [B, A, N] of standardised observations [B, …]: N quantiles of the return of each action, or N = 1 mean.

    With dueling the last hidden layer is split into two streams, and Q = V + A − mean_a A (Wang et al. 2016, eq. 9),
    quantile by quantile. Quantile i of N is that of probability (2i + 1)/(2N) (Dabney et al. 2018, lemma 2).

    Args:
        shape: of one observation.
        actions: A.
        config: encoder and heads.

    Raises:
        ValueError: the encoder does not read such observations.
    """

    def __init__(self, shape: tuple[int, ...], actions: int, config: QConfig) -> None:
        super().__init__()
        self.actions, self.outputs = actions, max(1, config.quantiles)
        split = len(config.hidden) - 1 if config.dueling else len(config.hidden)
        trunk, branch = config.hidden[: max(0, split)], config.hidden[max(0, split) :]
        self.encoder: Encoder = make_encoder(
            config.encoder, shape, trunk, config.channels, config.activation, config.layer_norm
        )
        self.core = make_core(config.core, self.encoder.out_features, config)
        features = self.core.out_features
        self.advantage = Stream(features, branch, actions * self.outputs, config)
        self.value = Stream(features, branch, self.outputs, config) if config.dueling else None

    def forward(self, normed: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, A, N] without memory; generator draws the noise of noisy layers, None leaves it out."""
        return self._values(self.encoder(normed), generator)

    def over_time(
        self, normed: Tensor, memory: Tensor, first: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Values [T·B, A, N] of T steps in B lanes, and the memory [B, M] behind them.

        Args:
            normed: standardised observations [T·B, …], sample t·B + b is step t of lane b.
            memory: [B, M] before the first step.
            first: [T, B] bool; steps before which it is forgotten.
            generator: of the noise of noisy layers.
        """
        features, memory = self.core(self.encoder(normed).unflatten(0, first.shape), memory, first)
        return self._values(features.flatten(0, 1), generator), memory

    def _values(self, features: Tensor, generator: torch.Generator | None) -> Tensor:
        advantage = self.advantage(features, generator).view(-1, self.actions, self.outputs)
        if self.value is None:
            return advantage
        return self.value(features, generator)[:, None] + advantage - advantage.mean(1, keepdim=True)


class QPolicy(nn.Module):
    """Takes the action of the highest value over observations: numbers [B, O], or pictures uint8 [B, H, W, C].

    Networks take *standardised* observations, and values are those of scaled rewards.
    """

    def __init__(self, obs_shape: tuple[int, ...], obs_norm: RunningNorm | AsItIs, net: QNet, start: int) -> None:
        super().__init__()
        self.obs_shape, self.obs_norm, self.net = obs_shape, obs_norm, net
        self.start, self.reward_scale = start, 1.0

    @property
    def core(self) -> Core:
        """What remembers."""
        return self.net.core

    @property
    def remembers(self) -> bool:
        """Whether there is memory; then only `q_with` and `act_with` say what it thinks."""
        return self.core.memory_size > 0

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.net.parameters()).device

    def quantiles(self, normed: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, A, N] of standardised observations [B, …], noisy only with a generator."""
        return self.net(normed, generator)

    def q(self, normed: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, A], the means."""
        return self.net(normed, generator).mean(-1)

    def q_with(self, normed: Tensor, memory: Memory, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """One step of B lanes: the means [B, A], and what is remembered [B, M]."""
        if not self.remembers:
            return self.q(normed, generator), memory.kept
        values, kept = self.net.over_time(normed, memory.kept, memory.first[None], generator)
        return values.mean(-1), kept

    @torch.no_grad()
    def act_with(
        self, obs: Tensor, memory: Memory, deterministic: bool = True, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """As act, with memory: actions [B] int64, and what is remembered [B, M]."""
        q, kept = self.q_with(self.obs_norm(obs), memory, None if deterministic else generator)
        return q.argmax(-1) + self.start, kept

    @torch.no_grad()
    def act(self, obs: Tensor, deterministic: bool = True, generator: torch.Generator | None = None) -> Tensor:
        """Actions [B] int64 for the environment from plain observations [B, …]: those of the highest value.

        Without deterministic, noisy layers are noisy; a network that has none decides the same either way.
        """
        return self.q(self.obs_norm(obs), None if deterministic else generator).argmax(-1) + self.start

    @torch.no_grad()
    def q_values(self, obs: Tensor) -> Tensor:
        """[B, A] points still to come after each action, from plain observations [B, …], without noise."""
        return self.q(self.obs_norm(obs)) / self.reward_scale


def build_q_policy(
    observation_space: Space, action_space: Space, config: QConfig, generator: torch.Generator
) -> QPolicy:
    """A policy with fresh weights drawn by generator (a CPU generator).

    Raises:
        ValueError: a space that no network of ours reads, actions that are not Discrete, or not the encoder of config.
    """
    shape = observation_space.shape
    if not isinstance(observation_space, Box) or shape is None or len(shape) not in (1, 3):
        raise ValueError(f"observation space: got {observation_space}; allowed: a Box of numbers [O] or [H, W, C]")
    if len(shape) == 3 and observation_space.dtype != np.uint8:
        raise ValueError(f"observation space: got {observation_space}; allowed: pictures of uint8")
    if not isinstance(action_space, Discrete):
        raise ValueError(f"action space: got {action_space}; dqn needs Discrete actions, ppo takes all")
    norm = RunningNorm(shape[0]) if len(shape) == 1 and config.norm_obs else AsItIs()
    policy = QPolicy(shape, norm, QNet(shape, int(action_space.n), config), int(action_space.start))
    policy.reward_scale = config.reward_scale
    _initialise(policy, generator)
    return policy


def _initialise(policy: QPolicy, generator: torch.Generator) -> None:
    """Sets every weight: orthogonal, gain √2 but in the last layers; biases 0. A core sets its own."""
    for name, module in policy.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, NoisyLinear)) and not name.startswith("net.core."):
            gain = LAST_GAIN if name.endswith(".last") else math.sqrt(2)
            nn.init.orthogonal_(module.weight, gain, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    policy.core.initialise(generator)
