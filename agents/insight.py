"""What a policy thinks of observations: its value, and how likely it takes which action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..policies.distributions import Beta, Categorical, Gaussian, MultiCategorical
from ..policies.heads import BoxHead
from ..policies.policy import Policy

if TYPE_CHECKING:
    from ..policies.qnet import QPolicy


@dataclass(frozen=True)
class Insight:
    """Of a batch of B observations. One choice among K has probs or q; actions of several numbers have the rest."""

    value: Tensor  # [B] points still to come, later ones discounted
    mean: Tensor | None = None  # [B, A] the action taken without exploration
    below: Tensor | None = None  # [B, A] one standard deviation below the mean, seen as an action; never above `mean`
    above: Tensor | None = None  # [B, A] one standard deviation above; never below `mean`
    probs: Tensor | None = None  # [B, K]
    q: Tensor | None = None  # [B, K] points still to come after each choice; `value` is the highest


@torch.no_grad()
def insight(policy: Policy | QPolicy, obs: Tensor) -> Insight:
    """What a policy thinks of plain observations [B, …]: numbers, or pictures uint8 [B, H, W, C].

    Standard deviations are those of the raw action: before the squash, of a share of a range, of the index of a level.
    """
    if not isinstance(policy, Policy):
        q = policy.q_values(obs)
        return Insight(q.amax(1), q=q)
    pi, value = policy.pi_and_value(policy.obs_norm(obs))
    points = policy.return_norm.invert(value)
    if isinstance(pi, Categorical):
        return Insight(points, probs=pi.logits.exp())
    taken = policy.head.to_env(pi.mode())
    if not isinstance(pi, Gaussian | Beta | MultiCategorical):
        return Insight(points, taken)
    centre, sd = pi.moments()
    below, above = (policy.head.to_env(raw) for raw in (centre - sd, centre + sd))
    if isinstance(policy.head, BoxHead):
        below, above = below.clamp(min=policy.head.low), above.clamp(max=policy.head.high)
    return Insight(points, taken, torch.minimum(below, taken), torch.maximum(above, taken))
