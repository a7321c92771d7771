"""Pieces of supervised learning, functions of their arguments alone: losses, schedules, averages, mirrored pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, huber_loss, mse_loss, smooth_l1_loss

from ..policies.distributions import Distribution
from .schedules import linear


def smooth_l1(prediction: Tensor, target: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Weighted smooth L1 loss: the mean over N samples of the sum over K outputs (Girshick 2015, eq. 3, with a width).

    An error d costs 0.5 d²/beta where |d| < beta, and |d| − 0.5 beta beyond.

    Args:
        prediction, target: [N, K].
        weight: [K] of each output.
        beta: error at which the square turns into a line.
    """
    return (smooth_l1_loss(prediction, target, beta=beta, reduction="none") * weight).sum(-1).mean()


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of [...], over everything."""
    return mse_loss(prediction, target)


def huber(prediction: Tensor, target: Tensor, delta: float) -> Tensor:
    """Mean over everything of 0.5 d² where an error |d| ≤ delta, and delta (|d| − 0.5 delta) beyond (Huber 1964)."""
    return huber_loss(prediction, target, delta=delta)


def classification(logits: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy, nats, of logits [N, K] against classes [N] int64.

    Args:
        logits, target: as above.
        smoothing: share of the probability that the target spreads over all K (Szegedy et al. 2016, section 7).
    """
    return cross_entropy(logits, target, label_smoothing=smoothing)


def likelihood(pi: Distribution, raw: Tensor) -> Tensor:
    """Mean negative log-likelihood, nats, of raw actions (as `sample` gives them) under any head's distribution."""
    return -pi.log_prob(raw).mean()


def rate_at(schedule: str, first: float, last: float, step: int, total: int, warmup: int = 0) -> float:
    """Learning rate of a step, after it rose in warmup steps to first.

    Args:
        schedule: constant; linear from first to last, reached at total; or along half a cosine.
        first, last: rates; last is of no use to constant.
        step: updates made so far.
        total: updates of the whole training.
        warmup: updates.
    """
    if step < warmup or schedule == "cosine":
        return cosine(first, last, step, total, warmup)
    if schedule == "constant":
        return first
    return linear(first, step - warmup, total - warmup, last)


def cosine(first: float, last: float, step: int, total: int, warmup: int = 0) -> float:
    """Learning rate of a step: it rises in warmup steps to first, then falls along half a cosine to last at total.

    (Loshchilov and Hutter 2017, eq. 5, without restarts.)
    """
    if step < warmup:
        return first * (step + 1) / warmup
    share = min(1.0, (step - warmup) / max(1, total - warmup))
    return last + 0.5 * (first - last) * (1.0 + math.cos(math.pi * share))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int, decay: float) -> None:
    """Moves the weights of average towards those of model (a running mean, after Polyak and Juditsky 1992).

    Args:
        average, model: of one shape; what is no weight, a normaliser's statistics, is copied.
        step: how often it was called before; early calls look back on less, so that the first weights are soon gone.
        decay: share that stays, in the long run.
    """
    stay = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(average.parameters(), model.parameters(), strict=True):
        kept.lerp_(new, 1.0 - stay)
    for statistic, newest in zip(average.buffers(), model.buffers(), strict=True):
        statistic.copy_(newest)


def mirrored(pictures: Tensor) -> Tensor:
    """Pictures […, H, W, C] with left and right exchanged."""
    return pictures.flip(-2)
