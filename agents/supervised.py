"""Pieces of supervised learning, functions of their arguments alone: losses, schedules, averages, mirrored pictures."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss


def smooth_l1(prediction: Tensor, target: Tensor, weight: Tensor, beta: float) -> Tensor:
    """Weighted smooth L1 loss: the mean over N samples of the sum over K outputs (Girshick 2015, eq. 3, with a width).

    An error d costs 0.5 d²/beta where |d| < beta, and |d| − 0.5 beta beyond.

    Args:
        prediction, target: [N, K].
        weight: [K] of each output.
        beta: error at which the square turns into a line.
    """
    return (smooth_l1_loss(prediction, target, beta=beta, reduction="none") * weight).sum(-1).mean()


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
    """Pictures [N, H, W, C] with left and right exchanged."""
    return pictures.flip(2)
