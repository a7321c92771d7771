"""Networks: shapes, distributions against arithmetic, normalisers, initialisation."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from drivetrain.policies.build import build_policy
from drivetrain.policies.config import PolicyConfig
from drivetrain.policies.distributions import Categorical, Gaussian
from drivetrain.policies.encoders import Residual
from drivetrain.policies.heads import BoundedHead
from drivetrain.policies.normalize import RunningNorm

OBS = Box(-1.0, 1.0, (5,))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(action_space, **config):
    return build_policy(OBS, action_space, PolicyConfig(**config), rng())


@pytest.mark.golden
def test_gaussian_log_prob_and_entropy_are_those_of_the_formula():
    # one dimension, μ = 1, σ = 2, a = 2: −½·(½)² − ln 2 − ½ ln 2π = −0.125 − 0.693147 − 0.918939 = −1.737086
    pi = Gaussian(torch.tensor([[1.0]]), torch.tensor([math.log(2.0)]))
    assert float(pi.log_prob(torch.tensor([[2.0]]))) == pytest.approx(-1.737086, abs=1e-6)
    # ln 2 + ½ ln 2πe = 0.693147 + 1.418939
    assert float(pi.entropy()) == pytest.approx(2.112086, abs=1e-6)


@pytest.mark.oracle
def test_distributions_agree_with_torchs_own():
    mean, log_std = torch.randn(7, 3, generator=rng()), torch.tensor([-0.5, 0.1, 0.4])
    raw = torch.randn(7, 3, generator=rng(1))
    ours, theirs = Gaussian(mean, log_std), torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(ours.log_prob(raw), theirs.log_prob(raw).sum(-1))
    torch.testing.assert_close(ours.entropy(), theirs.entropy().sum(-1))
    logits = torch.randn(6, 4, generator=rng(2)).log_softmax(-1)
    choice = torch.tensor([0, 1, 2, 3, 0, 1])
    ours, theirs = Categorical(logits), torch.distributions.Categorical(logits=logits)
    torch.testing.assert_close(ours.log_prob(choice), theirs.log_prob(choice))
    torch.testing.assert_close(ours.entropy(), theirs.entropy())


def test_samples_follow_the_distribution():
    probabilities = torch.tensor([0.1, 0.2, 0.7])
    drawn = Categorical(probabilities.log().expand(20_000, 3)).sample(rng())
    share = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(share, probabilities, atol=0.015, rtol=0)
    drawn = Gaussian(torch.full((20_000, 1), 2.0), torch.tensor([math.log(0.5)])).sample(rng())
    assert float(drawn.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(drawn.std()) == pytest.approx(0.5, abs=0.02)


@pytest.mark.golden
def test_the_bounded_head_fills_its_box_and_never_leaves_it():
    # tanh(0) = 0 is the middle; the ends of an uneven box are reached at ±∞
    head = BoundedHead(4, Box(np.array([-1, 0], np.float32), np.array([1, 3], np.float32)), 0.0, -5.0)
    raw = torch.tensor([[0.0, 0.0], [50.0, 50.0], [-50.0, -50.0], [0.5, -0.5]])
    out = head.to_env(raw)
    assert out[:3].tolist() == [[0.0, 1.5], [1.0, 3.0], [-1.0, 0.0]]
    # tanh(0.5) = 0.462117: 0.462117 and 1.5 · (1 − 0.462117) = 0.806824
    assert out[3].tolist() == pytest.approx([0.462117, 0.806824], abs=1e-5)


def test_the_first_actions_of_one_sided_ranges_are_near_rest_and_of_others_in_the_middle():
    # (tanh(−1.5) + 1) / 2 = 0.0474: gas and brake hardly pressed, the steering straight
    space = Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
    action = make(space).act(torch.zeros(1, 5))
    assert action[0].tolist() == pytest.approx([0.0, 0.0474, 0.0474], abs=1e-3)


def test_exploration_never_falls_below_its_floor():
    policy = make(Box(-1.0, 1.0, (2,)), log_std_init=-3.0, log_std_min=-1.5)
    assert policy.pi(torch.zeros(1, 5)).log_std.tolist() == [-1.5, -1.5]


def test_one_seed_gives_one_network_and_another_seed_another():
    a, b = make(Discrete(3)).state_dict(), make(Discrete(3)).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    other = build_policy(OBS, Discrete(3), PolicyConfig(), rng(1)).state_dict()
    assert not torch.equal(a["actor.layers.0.weight"], other["actor.layers.0.weight"])


def test_first_weights_are_orthogonal_with_a_small_policy_and_no_biases():
    policy = make(Box(-1.0, 1.0, (2,)), hidden=(32, 16))
    weight = policy.actor.layers[2].weight  # [16, 32], gain √2: W Wᵀ = 2 I
    torch.testing.assert_close(weight @ weight.T, 2 * torch.eye(16), atol=1e-5, rtol=0)
    assert float(policy.head.mean.weight.detach().norm(dim=1).max()) == pytest.approx(0.01, abs=1e-5)
    assert all(float(p.detach().abs().sum()) == 0 for name, p in policy.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("space", [Box(-1.0, 1.0, (2,)), Discrete(4)], ids=["box", "discrete"])
def test_a_policy_acts_inside_its_space_and_judges_states(space, shared):
    policy = make(space, shared_trunk=shared)
    obs = torch.randn(9, 5, generator=rng(4))
    pi, value = policy.pi_and_value(obs)
    assert value.shape == (9,)
    assert pi.log_prob(pi.sample(rng())).shape == (9,)
    torch.testing.assert_close(value, policy.value(obs))
    for deterministic in (True, False):
        for action in policy.act(obs, deterministic, rng()).numpy():
            assert space.contains(action)
    assert (policy.critic is None) == shared


@pytest.mark.parametrize("hidden", [(0,), (8, -1)])
def test_a_layer_without_units_is_refused(hidden):
    with pytest.raises(ValueError, match="1 unit or more"):
        PolicyConfig(hidden=hidden)


@pytest.mark.oracle
def test_running_statistics_are_those_of_all_batches_together():
    norm, batches = RunningNorm(3), torch.randn(5, 40, 3, generator=rng()) * torch.tensor([1.0, 5.0, 0.1]) + 2.0
    for batch in batches:
        norm.update(batch)
    flat = batches.flatten(0, 1)
    torch.testing.assert_close(norm.mean, flat.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.var, flat.var(0, correction=0), atol=1e-4, rtol=1e-4)
    normed = norm(flat)
    torch.testing.assert_close(normed.std(0), torch.ones(3), atol=1e-2, rtol=0)
    torch.testing.assert_close(norm.invert(normed), flat, atol=1e-4, rtol=1e-4)


def test_statistics_change_by_update_alone_and_are_saved_with_the_policy():
    policy = make(Discrete(3))
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.act(torch.randn(50, 5, generator=rng()) * 9)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    policy.obs_norm.update(torch.randn(50, 5, generator=rng()) * 9)
    assert not torch.equal(before["obs_norm.var"], policy.state_dict()["obs_norm.var"])


PICTURE = Box(0, 255, (56, 64, 2), np.uint8)


def look(count=3):
    return torch.randint(0, 256, (count, *PICTURE.shape), generator=rng(5), dtype=torch.uint8)


@pytest.mark.golden
def test_the_convolutions_have_the_published_sizes():
    # 84 x 84 x 4: 8·8·4·32 + 32, 4·4·32·64 + 64, 3·3·64·64 + 64, and 7·7·64 = 3,136 features into 512 units
    wanted = 8_224 + 32_832 + 36_928 + 3_136 * 512 + 512
    policy = build_policy(
        Box(0, 255, (84, 84, 4), np.uint8),
        Discrete(6),
        PolicyConfig(encoder="cnn", hidden=(512,), activation="relu", shared_trunk=True),
        rng(),
    )
    assert sum(p.numel() for p in policy.actor.parameters()) == wanted
    # each part of the residual network halves the picture: 96 → 48 → 24 → 12, 12·12·32 = 4,608 features
    policy = build_policy(
        Box(0, 255, (96, 96, 3), np.uint8), Discrete(6), PolicyConfig(encoder="resnet", hidden=(256,)), rng()
    )
    assert policy.actor.dense.layers[0].in_features == 4_608


@pytest.mark.golden
def test_levels_are_scaled_to_one_inside():
    policy = build_policy(
        Box(0, 255, (8, 8, 1), np.uint8),
        Discrete(2),
        PolicyConfig(encoder="cnn", channels=(1,), hidden=(), activation="relu"),
        rng(),
    )
    with torch.no_grad():  # one window over all: its sum over 64 pixels of level 51 = 0.2 is 12.8, weights ¼: 3.2
        policy.actor.layers[0].weight.fill_(0.25)
    features = policy.actor(torch.full((1, 8, 8, 1), 51, dtype=torch.uint8))
    assert features.tolist() == [[pytest.approx(3.2, abs=1e-5)]]


@pytest.mark.golden
def test_a_residual_block_with_silent_convolutions_hands_its_input_through():
    block = Residual(4, "relu")
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.zero_()
    x = torch.randn(2, 4, 5, 5, generator=rng())
    kept = x.clone()
    torch.testing.assert_close(block(x), kept)  # its negative numbers too: the inner activation works on a copy
    torch.testing.assert_close(x, kept)


@pytest.mark.parametrize("encoder", ["cnn", "resnet"])
@pytest.mark.parametrize("shared_trunk", [True, False])
def test_networks_of_pictures_act_and_judge_alone_as_in_a_batch(encoder, shared_trunk):
    config = PolicyConfig(encoder=encoder, hidden=(16,), channels=(4, 4), shared_trunk=shared_trunk)
    policy = build_policy(PICTURE, Box(-1, 1, (2,)), config, rng())
    pictures = look()
    together, values = policy.act(pictures), policy.value(pictures)
    for k in range(3):
        torch.testing.assert_close(policy.act(pictures[k : k + 1])[0], together[k])
        torch.testing.assert_close(policy.value(pictures[k : k + 1])[0], values[k])
    assert (policy.pi_and_shared_value(pictures)[1] is not None) == shared_trunk


def test_networks_of_pictures_are_drawn_from_their_generator_alone():
    config = PolicyConfig(encoder="resnet", hidden=(8,), channels=(4,))
    torch.manual_seed(1)
    one = build_policy(PICTURE, Discrete(3), config, rng(4)).state_dict()
    torch.manual_seed(2)
    two = build_policy(PICTURE, Discrete(3), config, rng(4)).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(bool(torch.isfinite(value).all()) for value in one.values())


@pytest.mark.parametrize(
    ("space", "encoder", "words"),
    [
        (PICTURE, "mlp", "the encoder mlp reads numbers"),
        (OBS, "cnn", "the encoder cnn reads pictures"),
        (Box(0, 255, (20, 20, 1), np.uint8), "cnn", "too small for 3 convolutions"),
        (Box(0, 1, (56, 64, 2), np.float32), "cnn", "pictures of uint8"),
    ],
)
def test_an_encoder_that_cannot_read_the_observation_is_refused(space, encoder, words):
    with pytest.raises(ValueError, match=words):
        build_policy(space, Discrete(2), PolicyConfig(encoder=encoder), rng())


@pytest.mark.oracle
def test_layer_normalisation_stands_between_a_layer_and_its_activation():
    policy = make(Discrete(2), hidden=(8,), activation="relu", layer_norm=True)
    obs = torch.randn(6, 5, generator=rng(3))
    sums = policy.actor.layers[0](obs)  # of 8 units; fresh gain 1 and bias 0
    wanted = (sums - sums.mean(1, keepdim=True)) / torch.sqrt(sums.var(1, correction=0, keepdim=True) + 1e-5)
    torch.testing.assert_close(policy.actor(obs), wanted.relu())


@pytest.mark.oracle
def test_layer_normalisation_of_pictures_is_over_all_pixels_and_channels():
    config = PolicyConfig(encoder="cnn", hidden=(), channels=(4,), activation="relu", layer_norm=True)
    policy = build_policy(PICTURE, Discrete(2), config, rng())
    sums = policy.actor.layers[0](look().permute(0, 3, 1, 2).float() / 255).flatten(1)
    wanted = (sums - sums.mean(1, keepdim=True)) / torch.sqrt(sums.var(1, correction=0, keepdim=True) + 1e-5)
    torch.testing.assert_close(policy.actor(look()), wanted.relu(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("encoder", ["cnn", "resnet"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_normalised_networks_of_pictures_do_not_mind_contrast_and_all_their_weights_learn(encoder, activation):
    config = PolicyConfig(encoder=encoder, hidden=(16,), channels=(4, 4), activation=activation, layer_norm=True)
    policy = build_policy(PICTURE, Discrete(2), config, rng())
    bright = look() // 2 * 2
    if encoder == "cnn":  # without biases, half the light is half the sums, which the normalisation undoes
        torch.testing.assert_close(policy.actor(bright // 2), policy.actor(bright), atol=1e-3, rtol=1e-3)
    policy.actor(bright).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in policy.actor.parameters())


def test_without_layer_normalisation_parameters_keep_their_names():
    for encoder, space in (("mlp", OBS), ("cnn", PICTURE), ("resnet", PICTURE)):
        plain, normed = (
            set(build_policy(space, Discrete(2), PolicyConfig(encoder=encoder, layer_norm=on), rng()).state_dict())
            for on in (False, True)
        )
        assert not any("norms" in name for name in plain)
        assert len(normed) > len(plain)
