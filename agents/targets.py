"""What values are taught: pure functions of tensors. S samples, A actions, N quantiles, T steps of B lanes."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class NStep(NamedTuple):
    """What n steps from S states came to."""

    return_: Tensor  # [S] Σ γʲ·r_j of the steps that count
    discount: Tensor  # [S] of the state behind them: γᵐ, or 0 after a death
    length: Tensor  # [S] int64, m: steps that count


def n_step(reward: Tensor, terminated: Tensor, truncated: Tensor, valid: Tensor, gamma: float) -> NStep:
    """Rewards up to n steps ahead (Sutton and Barto 2018, eq. 7.1), which stop at the end of an episode.

    A death leaves no future; a time limit, or the end of what was recorded, leaves the state behind it to be judged.

    Args:
        reward: [S, n].
        terminated: [S, n] bool, the future is worth nothing.
        truncated: [S, n] bool, the future is cut off.
        valid: [S, n] bool, False where nothing more is recorded; the first column is taken to be True.
        gamma: discount.
    """
    powers = gamma ** torch.arange(reward.shape[1] + 1, device=reward.device, dtype=reward.dtype)
    going = valid[:, 1:] & ~(terminated | truncated)[:, :-1]  # from step j - 1 on to step j
    counts = torch.cat((torch.ones_like(valid[:, :1]), going), 1).cumprod(1)  # [S, n] 1 where a step counts
    length = counts.sum(1)
    died = (terminated & counts.bool()).any(1)
    return NStep((reward * powers[:-1] * counts).sum(1), powers[length] * ~died, length)


def margin_loss(q: Tensor, wanted: Tensor, margin: float) -> Tensor:
    """[S] max_a (q(a) + margin·[a ≠ wanted]) − q(wanted): 0 where an action is ahead of all others by the margin.

    The large-margin loss of Hester et al. 2018 (eq. 1), of values q [S, A] and actions wanted [S] int64.
    """
    ahead = torch.full_like(q, margin).scatter(1, wanted[:, None], 0.0)
    return (q + ahead).max(1).values - q.gather(1, wanted[:, None])[:, 0]


def pick(values: Tensor, action: Tensor) -> Tensor:
    """[S, N] values [S, A, N] of the actions [S] int64."""
    return values[torch.arange(len(values), device=values.device), action]


def greedy_values(judge: Tensor, chooser: Tensor) -> Tensor:
    """[S, N] values by judge [S, A, N] of the actions that are best by the means of chooser [S, A, N].

    With the target network for a judge and the online one for a chooser this is double Q-learning (van Hasselt et al.
    2016, eq. 4); with the target network for both it is the plain maximum.
    """
    return pick(judge, chooser.mean(-1).argmax(-1))


def log_policy(values: Tensor, tau: float) -> Tensor:
    """[S, A] τ·log π, where π = softmax(q/τ) of the means q of values [S, A, N]."""
    return tau * (values.mean(-1) / tau).log_softmax(-1)


def soft_values(values: Tensor, tau: float) -> Tensor:
    """[S, N] Σ_a π(a)·(z(a) − τ·log π(a)) of values z [S, A, N] (Vieillard et al. 2020, section 2)."""
    scaled = log_policy(values, tau)
    return ((scaled / tau).exp()[..., None] * (values - scaled[..., None])).sum(1)


def munchausen_bonus(values: Tensor, action: Tensor, alpha: float, tau: float, low: float) -> Tensor:
    """[S] α·[τ·log π(a|s)] clipped to low … 0, of values [S, A, N] and actions [S] (Vieillard et al. 2020, section 2).

    Added to the reward of the action taken.
    """
    taken = log_policy(values, tau).gather(1, action[:, None])[:, 0]
    return alpha * taken.clamp(low, 0.0)


def quantile_huber(predicted: Tensor, target: Tensor, kappa: float = 1.0) -> Tensor:
    """[S] Σ_i mean_j |p_i − 1{u_ij < 0}|·L_κ(u_ij)/κ, u_ij = target_j − predicted_i (Dabney et al. 2018, eq. 9 and 10).

    Args:
        predicted: [S, N] quantiles of probability p_i = (2i + 1)/(2N).
        target: [S, M] samples of what they should be the quantiles of; take them without gradient.
        kappa: where the error goes from squared to linear.
    """
    n = predicted.shape[1]
    p = (torch.arange(n, device=predicted.device, dtype=predicted.dtype) + 0.5) / n
    gap = target[:, None, :] - predicted[:, :, None]  # [S, N, M]
    size = gap.abs()
    huber = torch.where(size <= kappa, 0.5 * gap**2, kappa * (size - 0.5 * kappa))
    weight = (p[:, None] - (gap < 0).to(p.dtype)).abs()
    return (weight * huber / kappa).mean(2).sum(1)


def lambda_returns(
    reward: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, q_lambda: float
) -> Tensor:
    """[T, B] Peng's Q(λ) (Gallici et al. 2024, section 4): G_t = r_t + γ·(λ·G_{t+1} + (1 − λ)·max_a Q(s'_t, a)).

    Where an episode is cut off, and behind the last row, G_{t+1} is max_a Q(s'_t, a); a death has no future.

    Args:
        reward: [T, B].
        next_value: [T, B] max_a Q(s'_t, a), of the state that followed, before any reset.
        terminated: [T, B] bool, the future is worth nothing.
        truncated: [T, B] bool, the future is cut off.
        gamma: discount.
        q_lambda: λ.
    """
    found = torch.empty_like(reward)
    later = next_value[-1]
    for t in reversed(range(len(reward))):
        later = torch.where(truncated[t], next_value[t], later)
        future = q_lambda * later + (1 - q_lambda) * next_value[t]
        later = found[t] = reward[t] + gamma * future.masked_fill(terminated[t], 0.0)
    return found


def importance_weights(probability: Tensor, beta: float) -> Tensor:
    """[S] (N·P)^−β, the largest scaled to 1 (Schaul et al. 2016, section 3.4); N, the size of the replay, cancels out.

    Args:
        probability: [S] of drawing each sample, above 0.
        beta: 0 = no correction, 1 = all of it.
    """
    return (probability / probability.min()) ** -beta


def ladder(epsilon: float, lanes: int, spread: float, device: torch.device | None = None) -> Tensor:
    """[B] ε_i = ε^(1 + spread·i/(B − 1)) (Horgan et al. 2018, section 4.1): from ε in the first lane downwards."""
    exponent = 1 + spread * torch.linspace(0, 1, lanes, device=device) if lanes > 1 else torch.ones(1, device=device)
    return torch.exp(exponent * math.log(epsilon)) if epsilon > 0 else torch.zeros(lanes, device=device)


def explore(q: Tensor, epsilon: Tensor, generator: torch.Generator) -> Tensor:
    """[B] int64 the best actions by q [B, A], or with probability epsilon [B] any."""
    dice = torch.empty(2, len(q), device=q.device).uniform_(generator=generator)
    anything = (dice[0] * q.shape[1]).long().clamp(max=q.shape[1] - 1)
    return torch.where(dice[1] < epsilon, anything, q.argmax(-1))
