"""Predictors, the dense residual encoder, dropout, small convolutions, first weights, and the table of layers."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from drivetrain.policies.encoders import (
    CNN,
    WINDOWS,
    Dropout,
    ResMLP,
    feed_dropout,
    fitting_windows,
    make_encoder,
)
from drivetrain.policies.predictor_config import PictureConfig, SeriesConfig, VectorConfig
from drivetrain.policies.predictors import Outputs, build_predictor, build_series_predictor, initialise
from drivetrain.policies.summary import describe


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.oracle
@pytest.mark.parametrize("layer_norm", [False, True])
def test_the_dense_residual_network_is_its_formula(layer_norm: bool) -> None:
    net = ResMLP(3, (4, 7, 5), "tanh", layer_norm).double()
    initialise(net, "he", rng())
    x = torch.randn(6, 3, generator=rng(1), dtype=torch.float64)

    def norm(h: torch.Tensor) -> torch.Tensor:
        return (
            (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() if layer_norm else h
        )

    h = x @ net.enter.weight.T
    for block in net.blocks:
        up, down = (m for m in block.modules() if isinstance(m, nn.Linear))
        h = h + torch.tanh(norm(h @ up.weight.T)) @ down.weight.T / math.sqrt(2)  # of two blocks
    torch.testing.assert_close(net(x), torch.tanh(norm(h)))
    assert net.out_features == 4


def test_features_keep_their_size_through_64_layers_of_a_residual_network_and_vanish_in_a_plain_one() -> None:
    x = torch.randn(256, 32, generator=rng(1))
    sizes = {}
    for kind, hidden in (("resmlp", (32,) * 32), ("mlp", (32,) * 63)):
        net = make_encoder(kind, (32,), hidden, None, "tanh")
        initialise(net, "glorot", rng())
        sizes[kind] = float(net(x).detach().std())
    assert sizes["resmlp"] > 0.3 and sizes["mlp"] < 0.2


def test_an_encoder_that_does_not_read_its_input_says_so() -> None:
    for kind, shape in (("resmlp", (8, 8, 1)), ("mlp", (8, 8, 1)), ("cnn", (8,))):
        with pytest.raises(ValueError, match=f"the encoder {kind} reads"):
            make_encoder(kind, shape, (8,), None, "tanh")


@pytest.mark.golden
def test_dropout_keeps_the_mean_and_is_quiet_outside_training() -> None:
    layer, other = Dropout(0.25), Dropout(0.25)
    both = nn.ModuleList((layer, other))
    feed_dropout(both, rng(3))
    x = torch.ones(100_000)
    y = layer(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(y.mean()) == pytest.approx(1.0, abs=0.01)
    feed_dropout(both, rng(3))
    assert torch.equal(layer(x), y) and not torch.equal(layer(x), y)
    assert torch.equal(layer.eval()(x), x)


@pytest.mark.parametrize("encoder", ["mlp", "resmlp"])
def test_dropout_is_where_the_config_says(encoder: str) -> None:
    config = VectorConfig(encoder=encoder, hidden=(8, 8), dropout=0.5)
    model = build_predictor((2,), Outputs(1, "number"), config, rng())
    assert any(isinstance(part, Dropout) for part in model.modules())
    model = build_predictor((2,), Outputs(1, "number"), config.model_copy(update={"dropout": 0.0}), rng())
    assert not any(isinstance(part, Dropout) for part in model.modules())


@pytest.mark.golden
def test_convolutions_are_small_where_pictures_are() -> None:
    # 96: the published ones. 8: 8 → 6 → 4 by 3 px. 28 halves while larger than 12: (28−3)//2+1 = 13, then 6, then 4
    assert fitting_windows((96, 96, 3), 3) == WINDOWS
    assert fitting_windows((8, 8, 1), 2) == ((3, 1), (3, 1))
    assert fitting_windows((28, 28, 1), 3) == ((3, 2), (3, 2), (3, 1))
    assert CNN((8, 8, 1), (4, 4), (8,), "relu", windows=((3, 1),)).dense.layers[0].in_features == 4 * 4 * 4
    with pytest.raises(ValueError, match="too small"):
        build_predictor((4, 4, 1), Outputs(2, "class"), PictureConfig(channels=(4, 4, 4)), rng())


@pytest.mark.golden
@pytest.mark.parametrize(("kind", "gain"), [("orthogonal", None), ("he", math.sqrt(2)), ("glorot", None)])
def test_first_weights_have_the_size_of_their_recipe(kind: str, gain: float | None) -> None:
    layer = nn.Linear(400, 100)
    initialise(layer, kind, rng())
    std, bias = float(layer.weight.detach().std()), layer.bias.abs().max()
    assert bias == 0
    if kind == "orthogonal":  # rows of norm √2 at right angles
        torch.testing.assert_close(layer.weight @ layer.weight.T, 2 * torch.eye(100), atol=1e-4, rtol=0)
    else:  # He: √(2/400); Glorot: √(2/500)
        assert std == pytest.approx(math.sqrt(2 / (400 if kind == "he" else 500)), rel=0.02)


@pytest.mark.invariance
@pytest.mark.parametrize("core", ["none", "gru", "lstm", "transformer"])
def test_what_a_series_predictor_says_depends_on_no_later_value(core: str) -> None:
    model = build_series_predictor(1, Outputs(1, "number"), core, SeriesConfig(hidden=(8,), core_size=8), rng())
    for block in getattr(model.core, "blocks", []):  # what a block adds begins at 0
        nn.init.normal_(block.mix.weight, generator=rng(3))
    x = torch.randn(12, 2, 1, generator=rng(1), dtype=torch.float64)
    later = x.clone()
    later[7:] += 1.0
    with torch.no_grad():
        one, other = model(x), model(later)
    torch.testing.assert_close(one[:7], other[:7])
    assert not torch.allclose(one[7:], other[7:])
    earlier = x.clone()
    earlier[3] += 1.0
    with torch.no_grad():
        assert torch.allclose(model(earlier)[4:], one[4:]) == (core == "none")


def test_predictions_are_in_the_units_of_the_data() -> None:
    for kind in ("number", "likelihood"):
        model = build_predictor((1,), Outputs(2, kind), VectorConfig(), rng())
        model.target_scale.set(torch.tensor([100.0, -5.0]), torch.tensor([10.0, 0.1]))
        x = torch.randn(50, 1, generator=rng(1))
        said = model(x)
        standard = said if kind == "number" else said.mode()
        expected = standard.double() * torch.tensor([10.0, 0.1]) + torch.tensor([100.0, -5.0])
        torch.testing.assert_close(model.predict(x), expected.double(), atol=1e-4, rtol=0)
    classes = build_predictor((8, 8, 1), Outputs(3, "class"), PictureConfig(channels=(4,), hidden=(8,)), rng())
    pictures = torch.randint(0, 256, (5, 8, 8, 1), generator=rng(), dtype=torch.uint8)
    assert torch.equal(classes.predict(pictures), classes(pictures).argmax(-1))


def total_of(table: str) -> tuple[int, int]:
    """Parameters and operations in the last line."""
    last = table.splitlines()[-1].split()
    return int(last[-2].replace(",", "")), int(last[-1].replace(",", ""))


@pytest.mark.oracle
def test_the_table_counts_what_torch_counts() -> None:
    numbers = torch.zeros(1, 3)
    cases = [
        (build_predictor((3,), Outputs(2, "number"), VectorConfig(encoder="resmlp", hidden=(8, 9)), rng()), numbers),
        (build_predictor((20, 16, 3), Outputs(4, "class"), PictureConfig(), rng()), torch.zeros(1, 20, 16, 3).byte()),
        (
            build_predictor((12, 12, 1), Outputs(4, "class"), PictureConfig(encoder="resnet"), rng()),
            torch.zeros(1, 12, 12, 1).byte(),
        ),
        (build_series_predictor(3, Outputs(1, "number"), "lstm", SeriesConfig(), rng()), numbers[None]),
    ]
    for model, example in cases:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(example)
        parameters = sum(p.numel() for p in model.parameters())
        assert total_of(describe(model, example)) == (parameters, counter.get_total_flops())


def test_the_table_names_layers_and_leaves_the_network_as_it_was() -> None:
    model = build_predictor((2,), Outputs(1, "number"), VectorConfig(hidden=(8,), dropout=0.5), rng())
    model.head.eval()
    before = copy.deepcopy(model.state_dict())
    table = describe(model, torch.zeros(1, 2))
    # 2·2·8 operations and 2·8 + 8 parameters of the first layer
    row = next(line for line in table.splitlines() if line.startswith("encoder.layers.0"))
    assert row.split() == ["encoder.layers.0", "Linear", "8", "24", "32"]
    assert model.training and not model.head.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())
    assert "encoder" not in describe(model, torch.zeros(1, 8), model.head)


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_reinforcement_takes_the_dense_residual_network_too(algo: str) -> None:
    from gymnasium.spaces import Box, Discrete

    from drivetrain.agents.build import build, make_config

    spaces = Box(-1.0, 1.0, (5,)), Discrete(3)
    policy = build(algo, make_config(algo, {"encoder": "resmlp", "hidden": (16, 32, 8)}), spaces, rng())
    nets = [part for part in policy.modules() if isinstance(part, ResMLP)]
    assert nets and all(net.out_features == 16 for net in nets)
    assert policy.act(torch.randn(4, 5, generator=rng(1))).shape == (4,)
