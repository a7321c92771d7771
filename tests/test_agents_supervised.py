"""The pieces of supervised learning, against sums by hand and plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from drivetrain.agents.supervised import cosine, mirrored, smooth_l1, update_average


@pytest.mark.golden
def test_small_errors_are_squared_and_large_ones_are_not() -> None:
    # beta 0.2: an error of 0.1 costs 0.5·0.01/0.2 = 0.025, one of 1 costs 1 − 0.1 = 0.9; weights 1 and 0.5
    prediction = torch.tensor([[0.1, -1.0], [0.0, 1.0]])
    loss = smooth_l1(prediction, torch.zeros(2, 2), torch.tensor([1.0, 0.5]), 0.2)
    assert loss.item() == pytest.approx((0.025 + 0.45 + 0.0 + 0.45) / 2)


@pytest.mark.oracle
def test_the_loss_is_that_of_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    weight, beta = torch.tensor([1.0, 2.0, 0.0], dtype=torch.float64), 0.7
    total = 0.0
    for row in range(50):
        for k in range(3):
            d = abs(float(prediction[row, k] - target[row, k]))
            total += float(weight[k]) * (0.5 * d * d / beta if d < beta else d - 0.5 * beta)
    assert smooth_l1(prediction, target, weight, beta).item() == pytest.approx(total / 50, rel=1e-12)


@pytest.mark.golden
def test_the_rate_warms_up_and_falls_along_half_a_cosine() -> None:
    # 10 steps up by tenths, then 100 steps from 1 to 0.2, half way at their middle
    rates = [cosine(1.0, 0.2, step, 110, 10) for step in (0, 4, 9, 10, 60, 110, 200)]
    assert rates == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.6, 0.2, 0.2])
    assert cosine(1.0, 0.0, 25, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


@pytest.mark.oracle
def test_the_running_mean_is_that_of_a_loop_and_takes_statistics_as_they_are() -> None:
    model, average = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    kept = average.weight.tolist()
    for step in range(30):
        with torch.no_grad():
            model.weight.copy_(torch.tensor([step * 1.0, -step * 2.0]))
            model.running_mean.fill_(step)  # type: ignore[union-attr,operator]
        update_average(average, model, step, 0.9)
        stay = min(0.9, (1 + step) / (10 + step))
        kept = [stay * old + (1 - stay) * new for old, new in zip(kept, (step * 1.0, -step * 2.0), strict=True)]
    assert average.weight.tolist() == pytest.approx(kept, rel=1e-5)
    assert average.running_mean.tolist() == [29, 29]  # type: ignore[union-attr,operator]
    assert model.weight.tolist() == [29, -58]


@pytest.mark.golden
def test_a_mirror_exchanges_left_and_right_in_every_channel() -> None:
    # rows 2, columns 3, channels 2: of [row, column, channel] only the column is turned round
    picture = torch.arange(12, dtype=torch.uint8).view(1, 2, 3, 2)
    assert mirrored(picture)[0, 0].tolist() == [[4, 5], [2, 3], [0, 1]]
    assert mirrored(picture)[0, 1].tolist() == [[10, 11], [8, 9], [6, 7]]
    assert torch.equal(mirrored(mirrored(picture)), picture)
