"""Distributions over the actions of a batch.

Each is a value: made from a head's output, asked, and thrown away. Its `sample` gives a *raw* action, the one that
log_prob understands and rollouts keep; the head's `to_env` turns it into what the environment takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus

IMPOSSIBLE = -1e9
"""log-probability of choices that fill up rows of unequal length: finite, so that 0 · log 0 is 0"""


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

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each [B, A]."""
        return self.mean, self.log_std.exp().expand_as(self.mean)


@dataclass(frozen=True)
class Beta:
    """Independent Beta distributions on 0 to 1: alpha and beta [B, A], each 1 or more (Chou et al. 2017, section 3.2).

    Those have one peak and, unlike a normal distribution, no weight outside the range.
    """

    alpha: Tensor
    beta: Tensor

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """[B, A], inside 0 and 1, where the density is finite: X/(X + Y) of two Gamma variables."""
        one, other = (torch._standard_gamma(shape, generator) for shape in (self.alpha, self.beta))
        eps = torch.finfo(one.dtype).eps
        return (one / (one + other)).clamp(eps, 1 - eps)

    def mode(self) -> Tensor:
        """[B, A]: (α − 1)/(α + β − 2), and ½ where the distribution is flat."""
        tiny = torch.finfo(self.alpha.dtype).tiny
        return (self.alpha - 1 + tiny) / (self.alpha - 1 + self.beta - 1 + 2 * tiny)

    def log_prob(self, raw: Tensor) -> Tensor:
        """[B]: Σ (α − 1) log x + (β − 1) log(1 − x) − log B(α, β)."""
        each = (self.alpha - 1) * raw.log() + (self.beta - 1) * torch.log1p(-raw) - self._log_norm()
        return each.sum(-1)

    def entropy(self) -> Tensor:
        """[B]: Σ log B(α, β) − (α − 1) ψ(α) − (β − 1) ψ(β) + (α + β − 2) ψ(α + β)."""
        a, b = self.alpha, self.beta
        shares = (a - 1) * torch.digamma(a) + (b - 1) * torch.digamma(b) - (a + b - 2) * torch.digamma(a + b)
        return (self._log_norm() - shares).sum(-1)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each [B, A]."""
        total = self.alpha + self.beta
        mean = self.alpha / total
        return mean, (mean * (1 - mean) / (total + 1)).sqrt()

    def _log_norm(self) -> Tensor:
        return torch.lgamma(self.alpha) + torch.lgamma(self.beta) - torch.lgamma(self.alpha + self.beta)


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


@dataclass(frozen=True)
class MultiCategorical:
    """A independent choices among up to K: logits [B, A, K], log-normalised; IMPOSSIBLE fills shorter rows."""

    logits: Tensor

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """[B, A] int64, by the Gumbel-max trick."""
        noise = torch.empty_like(self.logits).exponential_(generator=generator)
        # a draw of exactly 0 would make an impossible choice a certain one
        return (self.logits - noise.clamp_(min=torch.finfo(noise.dtype).tiny).log()).argmax(-1)

    def mode(self) -> Tensor:
        """[B, A] int64."""
        return self.logits.argmax(-1)

    def log_prob(self, raw: Tensor) -> Tensor:
        """[B]."""
        return self.logits.gather(-1, raw[..., None])[..., 0].sum(-1)

    def entropy(self) -> Tensor:
        """[B]."""
        return -(self.logits.exp() * self.logits).sum((-2, -1))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the index, each [B, A]."""
        index, probs = torch.arange(self.logits.shape[-1], device=self.logits.device), self.logits.exp()
        mean = (probs * index).sum(-1)
        return mean, (probs * (index - mean[..., None]) ** 2).sum(-1).sqrt()


@dataclass(frozen=True)
class Bernoulli:
    """A independent switches: logits [B, A] of being on."""

    logits: Tensor

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """[B, A] of 0.0 and 1.0."""
        draw = torch.empty_like(self.logits).uniform_(generator=generator)
        return (draw < self.logits.sigmoid()).to(self.logits.dtype)

    def mode(self) -> Tensor:
        """[B, A] of 0.0 and 1.0."""
        return (self.logits > 0).to(self.logits.dtype)

    def log_prob(self, raw: Tensor) -> Tensor:
        """[B]: Σ x·l − log(1 + eˡ)."""
        return (raw * self.logits - softplus(self.logits)).sum(-1)

    def entropy(self) -> Tensor:
        """[B]: Σ log(1 + eˡ) − l·p."""
        return (softplus(self.logits) - self.logits * self.logits.sigmoid()).sum(-1)
