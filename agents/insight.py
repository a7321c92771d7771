"""What a policy thinks of observations: its value, and how likely it takes which action."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..policies.heads import Categorical, Gaussian
from ..policies.policy import Policy


@dataclass(frozen=True)
class Insight:
    """Of a batch of B observations. Continuous actions have mean, below and above; discrete ones have probs."""

    value: Tensor  # [B] points still to come, later ones discounted
    mean: Tensor | None = None  # [B, A] the action taken without exploration
    below: Tensor | None = None  # [B, A] one standard deviation below the mean before the squash, seen as an action
    above: Tensor | None = None  # [B, A] one standard deviation above
    probs: Tensor | None = None  # [B, K]


@torch.no_grad()
def insight(policy: Policy, obs: Tensor) -> Insight:
    """What a policy thinks of plain observations [B, …]: numbers, or pictures uint8 [B, H, W, C]."""
    pi, value = policy.pi_and_value(policy.obs_norm(obs))
    points = policy.return_norm.invert(value)
    if isinstance(pi, Categorical):
        return Insight(points, probs=pi.logits.exp())
    if not isinstance(pi, Gaussian):
        return Insight(points)
    sd = pi.log_std.exp()
    mean, below, above = (policy.head.to_env(raw) for raw in (pi.mean, pi.mean - sd, pi.mean + sd))
    return Insight(points, mean, below, above)
