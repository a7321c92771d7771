"""Heads on the features, and the distributions over actions that they describe.

A distribution is a value: made from the head's output, asked, and thrown away. Its `sample` gives a *raw* action, the
one that log_prob understands and rollouts keep; `to_env` turns it into what the environment takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from .encoders import linear


class Distribution(Protocol):
    """Over the raw actions of a batch of B."""

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Raw actions of B."""

    def mode(self) -> Tensor:
        """The most likely raw actions of B."""

    def log_prob(self, raw: Tensor) -> Tensor:
        """[B] log-density or log-probability of raw actions."""

    def entropy(self) -> Tensor:
        """[B] nats, of the raw actions."""


@dataclass(frozen=True)
class Gaussian:
    """Independent normals: mean [B, A], log_std [A]."""

    mean: Tensor
    log_std: Tensor

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """[B, A]."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + noise * self.log_std.exp()

    def mode(self) -> Tensor:
        """[B, A]."""
        return self.mean

    def log_prob(self, raw: Tensor) -> Tensor:
        """[B]: Σ −½((a − μ)/σ)² − log σ − ½ log 2π."""
        scaled = (raw - self.mean) * torch.exp(-self.log_std)
        return -0.5 * (scaled**2).sum(-1) - self.log_std.sum() - 0.5 * math.log(2 * math.pi) * raw.shape[-1]

    def entropy(self) -> Tensor:
        """[B]: Σ log σ + ½ log 2πe."""
        each = self.log_std.sum() + 0.5 * math.log(2 * math.pi * math.e) * self.mean.shape[-1]
        return each.expand(len(self.mean))


@dataclass(frozen=True)
class Categorical:
    """One of K actions: logits [B, K], log-normalised."""

    logits: Tensor

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """[B] int64, by the Gumbel-max trick."""
        noise = torch.empty_like(self.logits).exponential_(generator=generator)
        return (self.logits - noise.log()).argmax(-1)

    def mode(self) -> Tensor:
        """[B] int64."""
        return self.logits.argmax(-1)

    def log_prob(self, raw: Tensor) -> Tensor:
        """[B]."""
        return self.logits.gather(-1, raw[:, None])[:, 0]

    def entropy(self) -> Tensor:
        """[B]."""
        return -(self.logits.exp() * self.logits).sum(-1)


class BoundedHead(nn.Module):
    """Gaussian before a tanh that squashes it into the box.

    log_prob and entropy are those before the squash: its Jacobian cancels in PPO's probability ratio.
    """

    low: Tensor
    high: Tensor

    def __init__(self, features: int, space: Box, log_std_init: float, log_std_min: float) -> None:
        super().__init__()
        self.log_std_min = log_std_min
        self.mean = linear(features, space.shape[0])
        self.log_std = nn.Parameter(torch.full((space.shape[0],), log_std_init))
        self.register_buffer("low", torch.as_tensor(space.low), persistent=False)
        self.register_buffer("high", torch.as_tensor(space.high), persistent=False)

    def forward(self, features: Tensor) -> Gaussian:
        return Gaussian(self.mean(features), self.log_std.clamp(min=self.log_std_min))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] inside the box."""
        return self.low + (self.high - self.low) * 0.5 * (torch.tanh(raw) + 1)


class DiscreteHead(nn.Module):
    """Logits of K actions."""

    def __init__(self, features: int, space: Discrete) -> None:
        super().__init__()
        self.logits = linear(features, int(space.n))

    def forward(self, features: Tensor) -> Categorical:
        return Categorical(self.logits(features).log_softmax(-1))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B] int64, the action itself."""
        return raw


class ValueHead(nn.Module):
    """One number a state."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.value = linear(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.value(features)[..., 0]
