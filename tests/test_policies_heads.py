"""Action heads: their distributions against torch's own in float64, samples, gradients, and what reaches the world."""

import math

import numpy as np
import pytest
import torch
import torch.distributions as theirs
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

from drivetrain.policies.build import build_policy, make_head
from drivetrain.policies.config import PolicyConfig
from drivetrain.policies.distributions import Bernoulli, Beta, Categorical, Gaussian, MultiCategorical
from drivetrain.policies.heads import MultiDiscreteHead

OBS = Box(-1.0, 1.0, (5,))
B, A = 64, 3
SIDES = Box(np.array([-1, 0, -3], np.float32), np.array([1, 2, 0.5], np.float32))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(space, **config):
    return build_policy(OBS, space, PolicyConfig(**config), rng())


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64).requires_grad_()


def gaussian():
    mean, log_std = numbers(B, A), numbers(A, seed=1)
    raw = torch.randn(B, A, generator=rng(2), dtype=torch.float64) * 3
    return (mean, log_std), Gaussian(mean, log_std), theirs.Normal(mean, log_std.exp()), raw


def beta():
    alpha, other = numbers(B, A), numbers(B, A, seed=1)
    shapes = [1 + torch.nn.functional.softplus(3 * x) for x in (alpha, other)]
    raw = torch.rand(B, A, generator=rng(2), dtype=torch.float64)
    return (alpha, other), Beta(*shapes), theirs.Beta(*shapes), raw


def categorical():
    logits = numbers(B, 7)
    raw = torch.randint(0, 7, (B,), generator=rng(2))
    return (logits,), Categorical(logits.log_softmax(-1)), theirs.Categorical(logits=logits), raw


def multi_categorical():
    logits = numbers(B, A, 5)
    raw = torch.randint(0, 5, (B, A), generator=rng(2))
    return (logits,), MultiCategorical(logits.log_softmax(-1)), theirs.Categorical(logits=logits), raw


def bernoulli():
    logits = numbers(B, A)
    raw = torch.randint(0, 2, (B, A), generator=rng(2)).to(torch.float64)
    return (logits,), Bernoulli(logits), theirs.Bernoulli(logits=logits), raw


EVERY = [gaussian, beta, categorical, multi_categorical, bernoulli]


def total(x):
    """[B]: independent parts together."""
    return x if x.ndim == 1 else x.sum(-1)


@pytest.mark.oracle
@pytest.mark.parametrize("case", EVERY)
def test_log_probability_and_entropy_are_torchs_and_so_are_their_gradients(case):
    parameters, ours, reference, raw = case()
    close = {"atol": 1e-12, "rtol": 1e-12}
    pairs = [(ours.log_prob(raw), total(reference.log_prob(raw)))]
    pairs.append((ours.entropy(), total(reference.entropy())))
    weights = torch.linspace(-1, 2, B, dtype=torch.float64)
    for got, wanted in pairs:
        assert got.shape == (B,)
        torch.testing.assert_close(got, wanted, **close)
        gradients = [
            torch.autograd.grad((x * weights).sum(), parameters, retain_graph=True, allow_unused=True)
            for x in (got, wanted)
        ]
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, **close)


@pytest.mark.parametrize("case", EVERY)
def test_the_mode_is_at_least_as_likely_as_any_sample(case):
    _, ours, _, _ = case()
    best = ours.log_prob(ours.mode())
    for seed in range(50):
        assert bool((ours.log_prob(ours.sample(rng(seed))) <= best + 1e-12).all())


@pytest.mark.parametrize("case", EVERY)
def test_samples_come_from_the_generator_alone(case):
    _, ours, _, raw = case()
    torch.manual_seed(1)
    one = ours.sample(rng(3))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert torch.equal(one, ours.sample(rng(3)))
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(one, ours.sample(rng(4)))
    assert one.shape == raw.shape
    assert one.dtype == raw.dtype


@pytest.mark.oracle
@pytest.mark.parametrize(("alpha", "other"), [(1.0, 1.0), (1.7, 1.7), (1.2, 6.0), (40.0, 9.0)])
def test_beta_samples_have_the_moments_and_the_share_below_a_point(alpha, other):
    count = 40_000
    pi = Beta(torch.full((count, 1), alpha), torch.full((count, 1), other))
    drawn = pi.sample(rng())[:, 0]
    mean = alpha / (alpha + other)
    sd = math.sqrt(mean * (1 - mean) / (alpha + other + 1))
    assert float(drawn.mean()) == pytest.approx(mean, abs=5 * sd / math.sqrt(count))
    assert float(drawn.std()) == pytest.approx(sd, rel=0.03)
    assert [float(x[0, 0]) for x in pi.moments()] == pytest.approx([mean, sd], rel=1e-5)
    # the distribution function at the mean, by the middle rule on the density
    middles = (torch.arange(20_000, dtype=torch.float64)[:, None] + 0.5) / 20_000 * mean
    exact = Beta(*(torch.full((1, 1), x, dtype=torch.float64) for x in (alpha, other)))
    below = float(exact.log_prob(middles).exp().mean() * mean)
    assert float((drawn < mean).float().mean()) == pytest.approx(below, abs=5 * 0.5 / math.sqrt(count))


@pytest.mark.golden
def test_the_mode_of_beta_is_between_its_ends_and_in_the_middle_where_all_is_equal():
    # (3 − 1)/(3 + 2 − 2) = 2/3; a flat one has none, and ½ is fair; one that only rises has it at 1
    pi = Beta(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([[2.0, 1.0, 1.0]]))
    assert pi.mode().tolist() == [pytest.approx([2 / 3, 0.5, 1.0])]


def test_beta_samples_never_reach_the_ends_where_the_density_is_nought():
    pi = Beta(torch.full((50_000, 2), 1.0001), torch.full((50_000, 2), 400.0))
    drawn = pi.sample(rng())
    assert float(drawn.min()) > 0
    assert bool(torch.isfinite(pi.log_prob(drawn)).all())
    flipped = Beta(pi.beta, pi.alpha)
    assert bool(torch.isfinite(flipped.log_prob(flipped.sample(rng()))).all())


def test_choices_and_switches_are_drawn_as_often_as_they_should_be():
    count = 20_000
    odds = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    drawn = MultiCategorical(odds.log().expand(count, 2, 3)).sample(rng())
    for column in range(2):
        share = torch.bincount(drawn[:, column], minlength=3) / count
        torch.testing.assert_close(share, odds[column], atol=0.015, rtol=0)
    assert float(torch.corrcoef(drawn.T.float())[0, 1]) == pytest.approx(0, abs=0.03)  # one does not know the other
    chance = torch.tensor([0.05, 0.5, 0.9])
    drawn = Bernoulli(torch.logit(chance).expand(count, 3)).sample(rng())
    torch.testing.assert_close(drawn.mean(0), chance, atol=0.015, rtol=0)


@pytest.mark.golden
def test_the_moments_of_a_choice_are_those_of_its_index():
    # indices 0, 1, 2 with ¼, ½, ¼: mean 1, variance ½
    pi = MultiCategorical(torch.tensor([[[0.25, 0.5, 0.25]]]).log())
    assert [float(x) for x in pi.moments()] == pytest.approx([1.0, math.sqrt(0.5)])


@pytest.mark.oracle
def test_choices_among_unequal_numbers_are_as_many_categoricals():
    sizes = [3, 1, 5, 2]
    head = MultiDiscreteHead(4, MultiDiscrete(sizes)).double()
    with torch.no_grad():
        head.logits.weight.copy_(torch.randn(11, 4, generator=rng()) * 2)
        head.logits.bias.copy_(torch.randn(11, generator=rng(1)))
    features = torch.randn(B, 4, generator=rng(2), dtype=torch.float64)
    ours = head(features)
    reference = [theirs.Categorical(logits=part) for part in head.logits(features).split(sizes, -1)]
    raw = torch.stack([torch.randint(0, n, (B,), generator=rng(n)) for n in sizes], 1)
    wanted = sum(one.log_prob(raw[:, k]) for k, one in enumerate(reference))
    torch.testing.assert_close(ours.log_prob(raw), wanted)
    torch.testing.assert_close(ours.entropy(), sum(one.entropy() for one in reference))
    torch.testing.assert_close(ours.mode(), torch.stack([one.probs.argmax(-1) for one in reference], 1))
    mean = torch.stack([(one.probs * torch.arange(n)).sum(-1) for one, n in zip(reference, sizes, strict=True)], 1)
    torch.testing.assert_close(ours.moments()[0], mean)
    for seed in range(20):
        assert bool((ours.sample(rng(seed)) < torch.tensor(sizes)).all())
    ours.entropy().sum().backward()
    assert bool(torch.isfinite(head.logits.weight.grad).all())


def test_an_impossible_choice_is_never_drawn_even_where_the_noise_is_nought(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda noise, generator=None: noise.zero_())
    assert MultiCategorical(torch.tensor([[[-1e9, 0.0, -1e9]]])).sample(rng()).tolist() == [[1]]


SPACES = {
    "squashed": (SIDES, {}),
    "gaussian": (SIDES, {"head": "gaussian"}),
    "beta": (SIDES, {"head": "beta"}),
    "levels": (SIDES, {"head": "levels"}),
    "two levels": (SIDES, {"head": "levels", "levels": 2}),
    "open": (Box(-np.inf, np.inf, (2,)), {}),
    "half open": (Box(np.array([0, -np.inf], np.float32), np.array([np.inf, 1], np.float32)), {}),
    "double": (Box(-0.1, 0.3, (2,), np.float64), {"log_std_init": 3.0}),
    "discrete": (Discrete(4, start=-2), {}),
    "multi": (MultiDiscrete([2, 5, 3], start=[0, 7, -1]), {}),
    "even": (MultiDiscrete([3, 3]), {}),
    "binary": (MultiBinary(4), {}),
}


@pytest.mark.conformance
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", SPACES)
def test_every_action_is_one_of_the_space(name, shared):
    space, config = SPACES[name]
    policy = make(space, shared_trunk=shared, **config)
    obs = torch.randn(50, 5, generator=rng(4)) * 10
    for deterministic in (True, False):
        actions = policy.act(obs, deterministic, rng(5)).numpy()
        assert len({action.tobytes() for action in actions}) > 1 or deterministic
        assert all(space.contains(action) for action in actions)
    torch.testing.assert_close(policy.decide(obs), policy.act(obs))


@pytest.mark.parametrize("name", SPACES)
def test_every_head_learns_by_the_gradient_of_its_log_probability(name):
    """Raising log π(a) makes a more likely: the sign of every gradient at once."""
    space, config = SPACES[name]
    policy = make(space, **config)
    obs = torch.randn(30, 5, generator=rng(4))
    with torch.no_grad():
        raw = policy.pi(obs).sample(rng(6))
    before = policy.pi(obs).log_prob(raw).sum()
    before.backward()
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter += 1e-4 * parameter.grad
        after = policy.pi(obs).log_prob(raw).sum()
    assert float(after) > float(before.detach())
    assert all(p.grad is not None for p in (*policy.actor.parameters(), *policy.head.parameters()))


@pytest.mark.golden
def test_a_plain_normal_is_clipped_and_may_have_no_ends():
    head = make_head(4, Box(np.array([-1, -np.inf], np.float32), np.array([2, 1], np.float32)), PolicyConfig())
    raw = torch.tensor([[-3.0, -300.0], [0.25, 0.5], [3.0, 3.0]])
    assert head.to_env(raw).tolist() == [[-1.0, -300.0], [0.25, 0.5], [2.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("head", ["squashed", "beta", "levels"])
def test_rounding_leads_nobody_out_of_the_box(dtype, head):
    rng_ = np.random.default_rng(0)
    low, high = (-3 * rng_.random(500)).astype(dtype), (3 * rng_.random(500)).astype(dtype)
    assert 0 < (low + (high - low) > high).mean() < 1  # a fifth of such sides end outside by the last digit
    space = Box(low, high, dtype=dtype)
    top, bottom = {"squashed": (50.0, -50.0), "beta": (1.0, 0.0), "levels": (4, 0)}[head]
    for raw, edge in ((top, high), (bottom, low)):
        found = make_head(4, space, PolicyConfig(head=head)).to_env(torch.full((1, 500), raw))[0].numpy()
        assert space.contains(found)
        np.testing.assert_allclose(found, edge, rtol=1e-6, atol=1e-6)


@pytest.mark.golden
def test_levels_are_equal_steps_from_end_to_end():
    head = make_head(4, SIDES, PolicyConfig(head="levels"))
    raw = torch.tensor([[0, 1, 2], [3, 4, 4]])
    # −1 to 1 in steps of ½, 0 to 2 in steps of ½, −3 to ½ in steps of 0.875
    assert head.to_env(raw).tolist() == [[-1.0, 0.5, -1.25], [0.5, 2.0, 0.5]]


@pytest.mark.golden
def test_beta_is_spread_over_the_sides_of_the_box():
    head = make_head(4, SIDES, PolicyConfig(head="beta"))
    raw = torch.tensor([[0.0, 0.25, 1.0], [0.5, 1.0, 0.0]])
    assert head.to_env(raw).tolist() == [[-1.0, 0.5, 0.5], [0.0, 2.0, -3.0]]


@pytest.mark.golden
def test_first_weights_of_every_head_are_small_and_rest_at_the_low_end_of_ranges_from_nought():
    obs = torch.zeros(1, 5)
    # 1 + ln(1 + e^∓2): 1.1269 and 3.1269: the mean is 1.1269 / 4.2538 of a side of 2
    centre = make(SIDES, head="beta").pi(obs).moments()[0][0]
    assert centre.tolist() == pytest.approx([0.5, 0.2649, 0.5], abs=1e-3)
    # e² / (e² + 4) = 0.6488
    chances = make(SIDES, head="levels").pi(obs).logits[0].exp()
    assert chances[1].tolist() == pytest.approx([0.6488, *[0.0878] * 4], abs=1e-3)
    assert chances[0].tolist() == pytest.approx([0.2] * 5, abs=1e-3)
    for name, (space, config) in SPACES.items():
        policy = make(space, **config)
        (weight,) = (p.detach() for n, p in policy.head.named_parameters() if n.endswith("weight"))
        rows = weight.norm(dim=1) if weight.shape[0] <= weight.shape[1] else weight.norm(dim=0)
        assert rows.tolist() == pytest.approx([0.01] * len(rows), abs=1e-5), name


@pytest.mark.parametrize(
    "space",
    [
        Box(-1.0, 1.0, (2, 2)),
        Box(0, 9, (2,), np.int64),
        MultiDiscrete([[2, 3], [4, 5]]),
        MultiBinary([2, 2]),
        Tuple([Discrete(2)]),
        Dict(a=Discrete(2)),
    ],
)
def test_spaces_without_a_head_are_refused_by_name(space):
    with pytest.raises(ValueError, match=r"(?s)action space: got .*; allowed: a Box of real numbers, MultiDiscrete"):
        make(space)


@pytest.mark.parametrize("head", ["squashed", "beta", "levels"])
def test_a_head_that_needs_ends_is_refused_where_there_are_none(head):
    with pytest.raises(ValueError, match=f"the head {head} needs a Box with finite sides; .*allowed: gaussian, auto"):
        make(Box(-np.inf, np.inf, (2,)), head=head)


@pytest.mark.parametrize("space", [Discrete(3), MultiDiscrete([2, 2]), MultiBinary(2)])
def test_a_head_for_numbers_is_refused_for_choices(space):
    with pytest.raises(ValueError, match=r"the head beta acts in a Box of real numbers .*allowed: auto"):
        make(space, head="beta")


def test_one_level_is_no_choice():
    with pytest.raises(ValueError, match="levels"):
        PolicyConfig(levels=1)
