"""Networks of action values: heads by hand, noise, spaces, first weights."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.policies.noisy import NoisyLinear
from drivetrain.policies.normalize import AsItIs, RunningNorm
from drivetrain.policies.qnet import QNet, build_q_policy

NUMBERS, PICTURES = Box(-1.0, 1.0, (5,), np.float32), Box(0, 255, (36, 36, 2), np.uint8)


def policy(observations=NUMBERS, actions=None, **settings):
    generator = torch.Generator().manual_seed(0)
    return build_q_policy(observations, actions or Discrete(3), DQNConfig(**settings), generator)


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("quantiles", [0, 7])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(("observations", "encoder"), [(NUMBERS, "mlp"), (PICTURES, "cnn")])
def test_every_kind_of_head_gives_a_value_for_every_action(dueling, quantiles, noisy, observations, encoder):
    kind = {"encoder": encoder, "channels": (4,), "hidden": (16, 8)}
    made = policy(observations, dueling=dueling, quantiles=quantiles, noisy=noisy, layer_norm=True, **kind)
    observations.seed(0)
    obs = torch.as_tensor(np.stack([observations.sample() for _ in range(6)]))
    normed = made.obs_norm(obs)
    assert made.quantiles(normed).shape == (6, 3, max(1, quantiles))
    torch.testing.assert_close(made.q(normed), made.quantiles(normed).mean(-1))
    torch.testing.assert_close(made.q_values(obs), made.q(normed))
    assert torch.equal(made.act(obs), made.q(normed).argmax(1))


@pytest.mark.golden
def test_dueling_adds_the_value_to_advantages_less_their_mean():
    # V = 10 and 20 for the two quantiles; advantages (1, 2, 6) and (0, 0, 3), means 3 and 1
    net = QNet((5,), 3, DQNConfig(dueling=True, quantiles=2, hidden=(4,)))
    for stream, bias in ((net.value, [10.0, 20.0]), (net.advantage, [1.0, 0.0, 2.0, 0.0, 6.0, 3.0])):
        torch.nn.init.zeros_(stream.last.weight)
        stream.last.bias.data = torch.tensor(bias)
    for layer in itertools.chain(net.value.body.parameters(), net.advantage.body.parameters()):
        torch.nn.init.zeros_(layer)
    assert net(torch.zeros(1, 5))[0].tolist() == [[8.0, 19.0], [9.0, 19.0], [13.0, 22.0]]


def test_dueling_splits_the_last_hidden_layer_in_two():
    net = QNet((5,), 3, DQNConfig(dueling=True, hidden=(16, 8)))
    shapes = {name: tuple(value.shape) for name, value in net.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "encoder.layers.0.weight": (16, 5),
        "advantage.body.layers.0.weight": (8, 16),
        "advantage.last.weight": (3, 8),
        "value.body.layers.0.weight": (8, 16),
        "value.last.weight": (1, 8),
    }


@pytest.mark.golden
def test_noise_enters_as_the_outer_product_of_two_vectors_for_every_row():
    # y = Σ_i (μ + σ·f(ε_out)·f(ε_in,i))·x_i + μ_b + σ_b·f(ε_out), with f(ε) = sign(ε)·√|ε|, by a loop
    layer = NoisyLinear(3, 2)
    rng = torch.Generator().manual_seed(0)
    for parameter in layer.requires_grad_(False).parameters():
        parameter.normal_(generator=rng)
    x = torch.randn(4, 3, generator=rng)
    seen = layer(x, torch.Generator().manual_seed(5))
    again = torch.Generator().manual_seed(5)
    noise_in, noise_out = torch.empty(4, 3).normal_(generator=again), torch.empty(4, 2).normal_(generator=again)
    f = lambda e: math.copysign(math.sqrt(abs(e)), e)
    for row in range(4):
        for out in range(2):
            e_out = f(float(noise_out[row, out]))
            total = float(layer.bias[out]) + float(layer.bias_sd[out]) * e_out
            for i in range(3):
                weight = float(layer.weight[out, i]) + float(layer.weight_sd[out, i]) * e_out * f(
                    float(noise_in[row, i])
                )
                total += weight * float(x[row, i])
            assert float(seen[row, out]) == pytest.approx(total, abs=1e-5)
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))
    assert float(NoisyLinear(16, 2).weight_sd[0, 0].detach()) == pytest.approx(0.5 / 4)


def test_only_noisy_layers_draw_noise_and_not_when_deterministic():
    obs = torch.zeros(64, 5)
    for noisy in (True, False):
        made = policy(noisy=noisy)
        generator = torch.Generator().manual_seed(1)
        before = generator.get_state()
        first, second = made.q(obs, generator), made.q(obs, generator)
        assert torch.equal(first, second) != noisy
        assert torch.equal(generator.get_state(), before) != noisy
        assert (len(made.act(obs, False, generator).unique()) > 1) == noisy
        assert len(made.act(obs, True, generator).unique()) == 1
        assert torch.equal(made.q(obs), made.q(obs))


def test_lanes_explore_by_noise_of_their_own():
    made = policy(noisy=True)
    values = made.q(torch.zeros(50, 5), torch.Generator().manual_seed(0))
    assert len(values[:, 0].unique()) > 40


def test_actions_start_where_the_space_says():
    made = policy(actions=Discrete(3, start=-1))
    with torch.no_grad():
        made.net.advantage.last.bias.copy_(torch.tensor([0.0, 5.0, 9.0]))
    assert made.act(torch.zeros(1, 5)).tolist() == [1]


@pytest.mark.golden
def test_values_for_the_viewer_are_points():
    made = policy(reward_scale=0.1)
    with torch.no_grad():
        made.net.advantage.last.weight.zero_()
        made.net.advantage.last.bias.copy_(torch.tensor([1.0, -2.0, 3.0]))
    assert made.q_values(torch.zeros(1, 5))[0].tolist() == pytest.approx([10.0, -20.0, 30.0])


@pytest.mark.parametrize("space", [Box(-1, 1, (2,)), MultiDiscrete([2, 3])])
def test_actions_that_are_not_discrete_are_refused_with_what_is_allowed(space):
    with pytest.raises(ValueError, match="dqn needs Discrete actions, ppo takes all"):
        policy(actions=space)


@pytest.mark.parametrize("space", [Discrete(4), Box(0, 1, (2, 2)), Box(0.0, 1.0, (8, 8, 3), np.float32)])
def test_observations_that_no_network_reads_are_refused(space):
    with pytest.raises(ValueError, match="observation space"):
        policy(space)


def test_an_encoder_that_does_not_read_the_observations_is_refused():
    with pytest.raises(ValueError, match="reads pictures"):
        policy(NUMBERS, encoder="cnn")


def test_first_values_are_near_zero_and_weights_depend_on_the_generator_alone():
    made, same = policy(noisy=True, dueling=True), policy(noisy=True, dueling=True)
    assert made.q(torch.ones(1, 5)).abs().max() < 0.1
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), same.parameters(), strict=True))
    config = DQNConfig(noisy=True, dueling=True)
    other = build_q_policy(NUMBERS, Discrete(3), config, torch.Generator().manual_seed(1))
    assert not torch.equal(next(made.net.parameters()), next(other.net.parameters()))


def test_numbers_are_standardised_if_asked_for_and_pictures_never():
    assert isinstance(policy().obs_norm, RunningNorm)
    assert isinstance(policy(norm_obs=False).obs_norm, AsItIs)
    assert isinstance(policy(PICTURES, encoder="cnn", channels=(4,)).obs_norm, AsItIs)
