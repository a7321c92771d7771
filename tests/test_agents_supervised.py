"""The pieces of supervised learning, against sums by hand and plain loops in float64."""

from __future__ import annotations

import math

import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from torch import nn

from drivetrain.agents.supervised import (
    classification,
    cosine,
    huber,
    likelihood,
    mirrored,
    mse,
    rate_at,
    smooth_l1,
    update_average,
)
from drivetrain.policies.heads import (
    BetaHead,
    BinaryHead,
    BoundedHead,
    DiscreteHead,
    GaussianHead,
    LevelsHead,
    MultiDiscreteHead,
)


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


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.oracle
def test_every_loss_is_that_of_a_loop_in_double_precision() -> None:
    prediction, target = (torch.randn(30, 4, generator=rng(k), dtype=torch.float64) for k in range(2))
    label = torch.randint(0, 4, (30,), generator=rng(2))
    squares = hubers = entropies = 0.0
    for row in range(30):
        for k in range(4):
            d = abs(float(prediction[row, k] - target[row, k]))
            squares += d * d
            hubers += 0.5 * d * d if d <= 0.8 else 0.8 * (d - 0.4)
        total = math.log(sum(math.exp(float(logit)) for logit in prediction[row]))
        for k in range(4):  # smoothing 0.2: 0.05 for each of four classes, 0.8 more for the right one
            share = 0.05 + (0.8 if k == int(label[row]) else 0.0)
            entropies += share * (total - float(prediction[row, k]))
    assert mse(prediction, target).item() == pytest.approx(squares / 120, rel=1e-12)
    assert huber(prediction, target, 0.8).item() == pytest.approx(hubers / 120, rel=1e-12)
    assert classification(prediction, label, 0.2).item() == pytest.approx(entropies / 30, rel=1e-12)


@pytest.mark.golden
def test_cross_entropy_of_even_odds_is_the_logarithm_of_their_number() -> None:
    assert classification(torch.zeros(3, 5), torch.tensor([0, 2, 4])).item() == pytest.approx(math.log(5))


def head_cases() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Every action head, its weights drawn at random, and raw actions of ten samples."""
    two = Box(-2.0, 3.0, (2,))
    heads: dict[str, nn.Module] = {
        "gaussian": GaussianHead(6, Box(-math.inf, math.inf, (2,)), -0.3, -5.0),
        "squashed": BoundedHead(6, two, -0.3, -5.0),
        "beta": BetaHead(6, two),
        "levels": LevelsHead(6, two, 3),
        "discrete": DiscreteHead(6, Discrete(4)),
        "multidiscrete": MultiDiscreteHead(6, MultiDiscrete([2, 4])),
        "binary": BinaryHead(6, MultiBinary(3)),
    }
    features = torch.randn(10, 6, generator=rng(9), dtype=torch.float64)
    cases = {}
    for name, head in heads.items():
        for parameter in head.parameters():
            if parameter.ndim > 1 or name != "gaussian":
                nn.init.normal_(parameter, std=0.4, generator=rng(5))
        cases[name] = (head.double(), features)
    return cases


def by_hand(name: str, head: nn.Module, features: list[list[float]], raw: torch.Tensor) -> float:
    """Mean negative log-likelihood in plain Python, from the head's weights alone."""
    layer = next(module for module in head.modules() if isinstance(module, nn.Linear))
    weight, bias, total = layer.weight.tolist(), layer.bias.tolist(), 0.0
    for row, action in zip(features, raw.tolist(), strict=True):
        out = [sum(w * f for w, f in zip(ws, row, strict=True)) + b for ws, b in zip(weight, bias, strict=True)]
        if name in ("gaussian", "squashed"):
            for mean, log_std, a in zip(out, head.log_std.tolist(), action, strict=True):  # type: ignore[operator,union-attr]
                z = (a - mean) / math.exp(log_std)
                total += 0.5 * z * z + log_std + 0.5 * math.log(2 * math.pi)
        elif name == "beta":
            numbers = [1 + math.log1p(math.exp(o)) for o in out]
            for alpha, beta, a in zip(numbers[:2], numbers[2:], action, strict=True):
                norm = math.lgamma(alpha) + math.lgamma(beta) - math.lgamma(alpha + beta)
                total += norm - (alpha - 1) * math.log(a) - (beta - 1) * math.log(1 - a)
        elif name == "binary":
            for logit, a in zip(out, action, strict=True):
                p = 1 / (1 + math.exp(-logit))
                total -= math.log(p if a == 1 else 1 - p)
        else:
            sizes = {"levels": [3, 3], "discrete": [4], "multidiscrete": [2, 4]}[name]
            chosen, begin = action if isinstance(action, list) else [action], 0
            for size, a in zip(sizes, chosen, strict=True):
                logits = out[begin : begin + size]
                total -= logits[a] - math.log(sum(math.exp(logit) for logit in logits))
                begin += size
    return total / len(features)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["gaussian", "squashed", "beta", "levels", "discrete", "multidiscrete", "binary"])
def test_the_likelihood_of_every_head_is_that_of_its_formula_and_falls_along_its_gradient(name: str) -> None:
    head, features = head_cases()[name]
    pi = head(features)
    raw = pi.sample(rng(11)).detach()
    loss = likelihood(pi, raw)
    assert loss.item() == pytest.approx(by_hand(name, head, features.tolist(), raw), rel=1e-9)
    loss.backward()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter -= 1e-3 * parameter.grad
        assert likelihood(head(features), raw) < loss


@pytest.mark.golden
def test_schedules_are_those_of_hand_arithmetic() -> None:
    # 10 updates up by tenths; then 100 from 1 to 0.2: linear loses 0.008 an update, half a cosine is at 0.6 half way
    def rates(schedule: str) -> list[float]:
        return [rate_at(schedule, 1.0, 0.2, step, 110, 10) for step in (0, 4, 9, 10, 35, 60, 110, 200)]

    assert rates("constant") == pytest.approx([0.1, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert rates("linear") == pytest.approx([0.1, 0.5, 1.0, 1.0, 0.8, 0.6, 0.2, 0.2])
    quarter = 0.2 + 0.4 * (1 + math.cos(math.pi / 4))
    assert rates("cosine") == pytest.approx([0.1, 0.5, 1.0, 1.0, quarter, 0.6, 0.2, 0.2])
    assert rate_at("linear", 1.0, 0.0, 0, 4) == 1.0
