"""Heads: from features to a distribution over raw actions, and from raw actions to what the environment takes."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch import Tensor, nn
from torch.nn.functional import softplus

from .distributions import IMPOSSIBLE, Bernoulli, Beta, Categorical, Distribution, Gaussian, MultiCategorical
from .encoders import linear

REST = -1.5
"""first mean, before the tanh, of actions that range from 0 up: near 0, or gas and brake would begin half pressed"""
BETA_REST = 2.0
"""the same for Beta, before the softplus: minus this for alpha, plus this for beta; mean 0.27 of the range"""
LEVEL_REST = 2.0
"""the same for levels: the lowest is e² times as likely as any other"""


class Head(nn.Module):
    """What every head can do."""

    def forward(self, features: Tensor) -> Distribution:
        """Of features [B, F]."""
        raise NotImplementedError

    def to_env(self, raw: Tensor) -> Tensor:
        """Actions as the environment takes them, of raw ones [B, …]."""
        raise NotImplementedError

    def rest(self) -> None:
        """Sets the biases so that actions which range from 0 up are small at first; others are left alone."""


class BoxHead(Head):
    """A head on a Box of one dimension."""

    low: Tensor
    high: Tensor

    def __init__(self, space: Box) -> None:
        super().__init__()
        self.register_buffer("low", torch.as_tensor(space.low), persistent=False)
        self.register_buffer("high", torch.as_tensor(space.high), persistent=False)
        # rounding is monotonic: where the whole of a side ends inside, every share of it does
        self.overshoots = bool((self.low + (self.high - self.low) > self.high).any())

    def at(self, share: Tensor) -> Tensor:
        """[B, A] in the box, of shares [B, A] of its sides: 0 is low, 1 is high; shares beyond may lie outside."""
        place = self.low + (self.high - self.low) * share
        return place.clamp(self.low, self.high) if self.overshoots else place


class GaussianHead(BoxHead):
    """Gaussian in the units of the action, which is clipped to the box: Stable-Baselines3's DiagGaussianDistribution.

    log_prob is that of the action before clipping. Sides of the box may be infinite.
    """

    def __init__(self, features: int, space: Box, log_std_init: float, log_std_min: float) -> None:
        super().__init__(space)
        self.log_std_min = log_std_min
        self.mean = linear(features, space.shape[0])
        self.log_std = nn.Parameter(torch.full((space.shape[0],), log_std_init))

    def forward(self, features: Tensor) -> Gaussian:
        return Gaussian(self.mean(features), self.log_std.clamp(min=self.log_std_min))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] inside the box."""
        return raw.clamp(self.low, self.high)


class BoundedHead(GaussianHead):
    """Gaussian before a tanh that squashes it into the box.

    log_prob and entropy are those before the squash: its Jacobian cancels in PPO's probability ratio.
    """

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] inside the box."""
        return self.at(0.5 * (torch.tanh(raw) + 1))

    def rest(self) -> None:
        with torch.no_grad():
            self.mean.bias[self.low == 0] = REST


class BetaHead(BoxHead):
    """Beta distribution over the sides of the box (Chou et al. 2017)."""

    def __init__(self, features: int, space: Box) -> None:
        super().__init__(space)
        self.concentration = linear(features, 2 * space.shape[0])

    def forward(self, features: Tensor) -> Beta:
        return Beta(*(1 + softplus(self.concentration(features))).chunk(2, -1))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] inside the box."""
        return self.at(raw)

    def rest(self) -> None:
        from_zero = (self.low == 0).to(torch.float32)
        with torch.no_grad():
            self.concentration.bias.copy_(torch.cat((-BETA_REST * from_zero, BETA_REST * from_zero)))


class LevelsHead(BoxHead):
    """Every side of the box in equal steps from low to high, of which one is chosen."""

    def __init__(self, features: int, space: Box, levels: int) -> None:
        super().__init__(space)
        self.levels = levels
        self.logits = linear(features, space.shape[0] * levels)

    def forward(self, features: Tensor) -> MultiCategorical:
        return MultiCategorical(self.logits(features).unflatten(-1, (-1, self.levels)).log_softmax(-1))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] inside the box."""
        return self.at(raw / (self.levels - 1))

    def rest(self) -> None:
        with torch.no_grad():
            self.logits.bias.view(-1, self.levels)[self.low == 0, 0] = LEVEL_REST


class DiscreteHead(Head):
    """Logits of K actions."""

    def __init__(self, features: int, space: Discrete) -> None:
        super().__init__()
        self.start = int(space.start)
        self.logits = linear(features, int(space.n))

    def forward(self, features: Tensor) -> Categorical:
        return Categorical(self.logits(features).log_softmax(-1))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B] int64."""
        return raw + self.start if self.start else raw


class MultiDiscreteHead(Head):
    """Logits of A choices, each among its own number of actions."""

    start: Tensor
    place: Tensor
    spare: Tensor

    def __init__(self, features: int, space: MultiDiscrete) -> None:
        super().__init__()
        sizes, most = space.nvec.astype(np.int64), int(space.nvec.max())
        self.logits = linear(features, int(sizes.sum()))
        self.even = bool((sizes == most).all())
        column = np.arange(most)
        spare = column >= sizes[:, None]
        place = np.where(spare, 0, (np.cumsum(sizes) - sizes)[:, None] + column)
        self.register_buffer("start", torch.as_tensor(space.start.astype(np.int64)), persistent=False)
        self.register_buffer("place", torch.as_tensor(place.ravel()), persistent=False)  # of a row's logit in all
        self.register_buffer("spare", torch.as_tensor(spare), persistent=False)  # [A, K]

    def forward(self, features: Tensor) -> MultiCategorical:
        logits, rows = self.logits(features), self.spare.shape
        if self.even:
            return MultiCategorical(logits.unflatten(-1, rows).log_softmax(-1))
        padded = logits.index_select(-1, self.place).unflatten(-1, rows)
        return MultiCategorical(padded.masked_fill(self.spare, IMPOSSIBLE).log_softmax(-1))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] int64."""
        return raw + self.start


class BinaryHead(Head):
    """Logits of A switches."""

    def __init__(self, features: int, space: MultiBinary) -> None:
        super().__init__()
        self.logits = linear(features, int(np.prod(space.shape)))

    def forward(self, features: Tensor) -> Bernoulli:
        return Bernoulli(self.logits(features))

    def to_env(self, raw: Tensor) -> Tensor:
        """[B, A] int8."""
        return raw.to(torch.int8)


class ValueHead(nn.Module):
    """One number a state."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.value = linear(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.value(features)[..., 0]
