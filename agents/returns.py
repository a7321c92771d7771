"""Returns and advantages from rewards and values: pure functions of tensors [T, B]."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalised advantage [T, B] (Schulman et al. 2016, eq. 16).

    δ_t = r_t + γ·V(s'_t)·(1 − terminated_t) − V(s_t);  A_t = δ_t + γλ·A_{t+1}, cut where an episode ends.

    Args:
        reward: [T, B].
        value: [T, B], V of the state acted in.
        next_value: [T, B], V of the state that followed, before any reset.
        terminated: [T, B] bool, the future is worth nothing.
        truncated: [T, B] bool, the future is cut off.
        gamma: discount.
        gae_lambda: decay.
    """
    delta = reward + gamma * next_value * ~terminated - value
    decay = gamma * gae_lambda * (~(terminated | truncated)).to(reward.dtype)
    advantage = torch.empty_like(delta)
    carry = torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        carry = torch.addcmul(delta[t], decay[t], carry, out=advantage[t])
    return advantage
