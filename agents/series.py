"""Series of numbers, cut into pieces to learn the next value from, and the errors of what was learned.

Shapes: L values, T steps of a piece, B pieces, W values that are seen at a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..envs.errors import UserError
from ..policies.predictors import SeriesPredictor
from .samples import Split

TEST_SHARE = 0.2
"""of a series: its end"""
AT_ONCE = 256


class Pieces:
    """Pieces of a series, by the place of their first value; the target of a step is the value after it.

    Args:
        values: [L] float64.
        steps: T.
        window: W; a step sees its value and the W − 1 before it, oldest first.
    """

    def __init__(self, values: Tensor, steps: int, window: int = 1) -> None:
        self.values = values
        self.place = torch.arange(steps)[:, None]  # [T, 1]
        self.back = torch.arange(1 - window, 1)  # [W]

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [T, B, W] and targets [T, B, 1] of the pieces that begin at rows [B] int64."""
        places = (self.place + rows)[:, :, None]  # [T, B, 1]
        return self.values[places + self.back], self.values[places + 1]


def mixture(periods: Sequence[float], length: int, noise: float, generator: torch.Generator) -> Tensor:
    """[length] float64: sines of periods, in steps, with sizes 1, 1/2, 1/3 … and phases at random, and normal noise."""
    time = torch.arange(length, dtype=torch.float64)
    phases = 2 * math.pi * torch.rand(len(periods), generator=generator, dtype=torch.float64)
    total = torch.zeros(length, dtype=torch.float64)
    for k, (period, phase) in enumerate(zip(periods, phases, strict=True)):
        total += torch.sin(2 * math.pi * time / period + phase) / (1 + k)
    return total + noise * torch.randn(length, generator=generator, dtype=torch.float64)


def split_series(length: int, steps: int, window: int, val_share: float) -> Split:
    """Beginnings of pieces for training, then validation, then test, in the order of time; no value is in two parts.

    Those of the test lie T apart and have T steps before them, in which a network finds out where it is.

    Args:
        length: L.
        steps: T.
        window: W, the longest of the networks that are compared.
        val_share: of what comes before the test.

    Raises:
        UserError: the series is too short.
    """
    test = length - round(length * TEST_SHARE)
    validation = test - round(test * val_share)
    need = steps + window  # values of a piece, its last target included
    parts = (0, validation), (validation, test), (test, length)
    if min(end - begin for begin, end in parts) < need:
        what, got = "the series is too short for its parts", f"{length} values"
        least = math.ceil(need / min(TEST_SHARE, (1 - TEST_SHARE) * min(val_share, 1 - val_share)))
        raise UserError(what, got=got, allowed=f"about {least} or more", fix="give more, or lower --piece")
    ranges = [torch.arange(begin + window - 1, end - steps) for begin, end in parts[:2]]
    judged = torch.arange(test, length - steps, steps)
    return Split(ranges[0], ranges[1], judged)


@torch.no_grad()
def told(model: SeriesPredictor, values: Tensor, window: int, rows: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """What a network says of the values after those of the test's pieces, and what they are: each [B·T], in order.

    Args:
        model: the network.
        values: [L].
        window: W.
        rows: [B] beginnings, T apart.
        steps: T; so many before each beginning are shown first.
    """
    device = next(model.parameters()).device
    pieces = Pieces(values, 2 * steps, window)
    said, true = [], []
    for some in rows.split(AT_ONCE):
        x, y = pieces.take(some - steps)
        said.append(model.predict(x.to(device)).cpu()[steps:, :, 0].T.flatten())
        true.append(y[steps:, :, 0].T.flatten())
    return torch.cat(said), torch.cat(true)
