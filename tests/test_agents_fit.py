"""The training loop: optimisers, order, early stopping, frozen parts, scales; a line that must be learned."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from drivetrain.agents.fit import Fit, Order, Problem, freeze, make_loss, set_scales
from drivetrain.agents.fit_config import ClassifyConfig, RegressionConfig
from drivetrain.agents.optimizers import SGD, AdamW
from drivetrain.agents.samples import Rows, Split, split_rows
from drivetrain.agents.supervised import likelihood, mse
from drivetrain.envs.errors import UserError
from drivetrain.policies.predictor_config import VectorConfig
from drivetrain.policies.predictors import Outputs, Predictor, build_predictor


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_fit(steps: int = 50, kind: str = "number", network: VectorConfig | None = None, **settings) -> Fit:
    """A fit of y = 2x + 1."""
    x = torch.rand(64, 1, generator=rng(1), dtype=torch.float64)
    rows = Rows(x, 2 * x + 1)
    model = build_predictor((1,), Outputs(1, kind), network or VectorConfig(hidden=(8,)), rng(2))
    cfg = RegressionConfig(**{"batch_size": 16, "eval_every": 10, **settings})
    return Fit(model, Problem(rows, split_rows(64, 0.25, 0.0, rng(3)), make_loss(cfg)), cfg, rng(4), steps)


def run(fit: Fit) -> Fit:
    while not fit.over:
        fit.step()
        if fit.steps % fit.cfg.eval_every == 0:
            fit.measure()
    fit.finish()
    return fit


@pytest.mark.learning
@pytest.mark.parametrize("loss", ["mse", "huber", "likelihood"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_line_is_learned(loss: str, optimizer: str) -> None:
    rate = 1e-2 if optimizer == "adamw" else 5e-2
    kind = "likelihood" if loss == "likelihood" else "number"
    fit = run(make_fit(600, kind, loss=loss, optimizer=optimizer, learning_rate=rate))
    x = torch.tensor([[0.25], [0.75]], dtype=torch.float64)
    torch.testing.assert_close(fit.model.predict(x), 2 * x + 1, atol=0.05, rtol=0)


@pytest.mark.oracle
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_optimisers_are_torchs(kind: str) -> None:
    ours, theirs = (nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1)) for _ in range(2))
    for weight in ours.parameters():
        with torch.no_grad():
            weight.normal_(generator=rng(7))
    theirs.load_state_dict(ours.state_dict())
    matrices, vectors = ([p for p in theirs.parameters() if (p.ndim > 1) == big] for big in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    mine: AdamW | SGD
    if kind == "adamw":
        mine, other = AdamW(ours.parameters(), 0.1), torch.optim.AdamW(groups, lr=1e-2)
    else:
        mine, other = SGD(ours.parameters(), 0.1, 0.9), torch.optim.SGD(groups, lr=1e-2, momentum=0.9)
    for step in range(20):
        x = torch.randn(4, 3, generator=rng(step))
        rate = 1e-2 / (1 + step)
        for model, optimiser in ((ours, mine), (theirs, other)):
            optimiser.zero_grad()
            model(x).square().mean().backward()
        for group in other.param_groups:
            group["lr"] = rate
        mine.step(rate)
        other.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    assert mine.state_tensors()


def test_every_row_comes_once_before_any_comes_again() -> None:
    order = Order(torch.arange(10), 4, rng())
    drawn = torch.cat([next(order) for _ in range(5)])
    assert sorted(drawn[:10].tolist()) == sorted(drawn[10:].tolist()) == list(range(10))
    assert drawn[:10].tolist() != drawn[10:].tolist()
    again = Order(torch.arange(10), 4, rng())
    assert torch.cat([next(again) for _ in range(5)]).tolist() == drawn.tolist()
    assert len(next(Order(torch.arange(3), 100, rng()))) == 3


@pytest.mark.invariance
def test_a_fit_of_a_seed_repeats_itself_bit_for_bit() -> None:
    one, other = (run(make_fit(30, network=VectorConfig(hidden=(8,), dropout=0.3))) for _ in range(2))
    for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_frozen_parts_get_no_gradient_at_all_and_never_move(optimizer: str) -> None:
    fit = make_fit(20, freeze=("encoder",), weight_decay=0.5, optimizer=optimizer)
    first = {name: weight.clone() for name, weight in fit.model.named_parameters()}
    while not fit.over:
        fit.step()
        for weight in fit.model.encoder.parameters():
            assert weight.grad is None or weight.grad.count_nonzero() == 0
    moved = {name for name, weight in fit.model.named_parameters() if not torch.equal(weight, first[name])}
    assert moved == {"head.outputs.weight", "head.outputs.bias"}


def test_freezing_what_is_not_there_or_everything_is_refused() -> None:
    model = build_predictor((1,), Outputs(1, "number"), VectorConfig(), rng())
    with pytest.raises(UserError, match="no core to freeze"):
        freeze(model, ("core",))
    with pytest.raises(UserError, match="everything is frozen"):
        freeze(model, ("encoder", "head"))
    with pytest.raises(ValueError, match="no part tail to freeze"):
        RegressionConfig(freeze=("tail",))


class Scripted(Fit):
    """A fit whose validation loss is what a list says."""

    said: list[float]

    def loss_over(self, rows: torch.Tensor) -> float:
        return self.said[0] if rows is self.problem.split.validation else 0.0


@pytest.mark.golden
def test_training_ends_when_validation_has_not_improved_for_as_long_as_asked_and_the_best_weights_come_back() -> None:
    fit = make_fit(1_000, patience=2)
    fit.__class__ = Scripted
    kept = {}
    for look, loss in enumerate([5.0, 3.0, 3.0, 2.0, 4.0, 2.0]):  # lowest at the fourth look; two more do not beat it
        assert not fit.over
        fit.step()
        fit.said = [loss]
        fit.measure()
        if look == 3:
            kept = {name: weight.clone() for name, weight in fit.model.state_dict().items()}
    assert fit.over and fit.best == 2.0 and fit.steps == 6
    assert not torch.equal(fit.model.head.outputs.weight, kept["head.outputs.weight"])
    fit.finish()
    assert all(torch.equal(weight, kept[name]) for name, weight in fit.model.state_dict().items())
    assert not fit.model.training


def test_without_patience_training_goes_on_to_its_last_step() -> None:
    fit = make_fit(7)
    fit.__class__ = Scripted
    for _ in range(7):
        assert not fit.over
        fit.step()
        fit.said = [1.0]
        fit.measure()
    assert fit.over and fit.samples == 7 * 16


@pytest.mark.golden
def test_a_look_is_without_dropout_and_its_mean_is_over_samples() -> None:
    fit = make_fit(network=VectorConfig(hidden=(8,), dropout=0.5))
    rows = fit.problem.split.validation
    x, y = fit.problem.source.take(rows)
    fit.model.eval()
    with torch.no_grad():
        expected = float(((fit.model(x) - fit.model.target_scale(y)) ** 2).mean())
    fit.model.train()
    assert fit.loss_over(rows) == pytest.approx(expected, rel=1e-6) == pytest.approx(fit.loss_over(rows))
    assert fit.model.training


def test_the_step_that_is_taken_is_no_longer_than_the_norm_allows() -> None:
    # one step of plain descent at rate 1: the weights move by the gradient, scaled down to the norm
    fit = make_fit(10, optimizer="sgd", momentum=0.0, learning_rate=1.0, lr_schedule="constant", warmup=0.0,
                   max_grad_norm=0.01)  # fmt: skip
    before = [weight.clone() for weight in fit.model.parameters()]
    fit.step()
    moved = torch.cat([(a - b).detach().flatten() for a, b in zip(fit.model.parameters(), before, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)
    assert fit.measure()["diag/grad_norm"] > 0.01


@pytest.mark.golden
def test_scales_are_those_of_the_training_rows_and_lose_no_digits() -> None:
    # times near 1.7e9 s, in which float32 has steps of 128 s: 0, 2, 4 about them have mean 2 and variance 8/3
    x = 1.7e9 + torch.tensor([[0.0], [2.0], [4.0], [1e6]], dtype=torch.float64)
    y = torch.tensor([[1.0, 5.0], [1.0, 5.0], [4.0, 5.0], [100.0, 9.0]], dtype=torch.float64)
    model = build_predictor((1,), Outputs(2, "number"), VectorConfig(), rng())
    set_scales(model, Rows(x, y), torch.tensor([2, 0, 1]))
    root = (8 / 3) ** 0.5
    assert model.scale(x[:3])[:, 0].tolist() == pytest.approx([-2 / root, 0, 2 / root], rel=1e-6)
    assert model.target_scale.mean.tolist() == [2.0, 5.0]
    assert model.target_scale.size.tolist() == pytest.approx([2**0.5, 1.0])  # what never changes is only shifted
    torch.testing.assert_close(model.target_scale.invert(model.target_scale(y)), y, rtol=1e-6, atol=1e-6)


def test_bfloat16_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="bfloat16 needs a GPU"):
        make_fit(precision="bfloat16")


@pytest.mark.gpu
def test_on_a_gpu_bfloat16_learns_a_line() -> None:
    x = torch.rand(512, 1, generator=rng(1), dtype=torch.float64)
    model = build_predictor((1,), Outputs(1, "number"), VectorConfig(), rng(2))
    cfg = RegressionConfig(batch_size=64, learning_rate=1e-2, precision="bfloat16")
    fit = run(Fit(model, Problem(Rows(x, 2 * x + 1), split_rows(512, 0.2, 0.0, rng(3)), mse), cfg, rng(4), 500, "cuda"))
    assert next(model.parameters()).dtype == torch.float32
    predicted = fit.model.predict(torch.tensor([[0.5]], dtype=torch.float64, device="cuda"))
    assert float(predicted) == pytest.approx(2.0, abs=0.05)


def test_the_loss_is_that_of_the_settings() -> None:
    assert make_loss(RegressionConfig()) is mse
    assert make_loss(RegressionConfig(loss="likelihood")) is likelihood
    assert make_loss(RegressionConfig(loss="huber", huber_delta=0.25)).keywords == {"delta": 0.25}
    assert make_loss(ClassifyConfig(label_smoothing=0.1)).keywords == {"smoothing": 0.1}


def test_augmentation_changes_what_is_learned_from_and_nothing_else() -> None:
    seen = []

    def shifted(x, y, generator):
        seen.append(x.clone())
        return x + 100.0, y

    x = torch.rand(20, 1, generator=rng(), dtype=torch.float64)
    split = Split(torch.arange(10), torch.arange(10, 20), torch.arange(0))
    problem = Problem(Rows(x, x), split, mse, shifted)
    model: Predictor = build_predictor((1,), Outputs(1, "number"), VectorConfig(), rng())
    fit = Fit(model, problem, RegressionConfig(batch_size=10), rng(), 2)
    fit.measure()
    assert not seen
    fit.step()
    assert len(seen) == 1 and torch.equal(seen[0].sort(0).values, x[:10].sort(0).values)
