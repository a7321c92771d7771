"""What is shown of every head: the action taken, and how far around it the policy would go."""

import math

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete

from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.insight import insight
from drivetrain.policies.build import build_policy
from drivetrain.policies.config import PolicyConfig
from drivetrain.policies.qnet import build_q_policy

OBS = torch.zeros(2, 5)
SIDES = Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32))


def make(space, bias, **config):
    """A policy whose last layer says the same of every observation."""
    policy = build_policy(Box(-1.0, 1.0, (5,)), space, PolicyConfig(**config), torch.Generator().manual_seed(0))
    last = next(module for module in policy.head.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(bias))
    return policy


@pytest.mark.golden
def test_levels_are_told_by_the_likeliest_and_by_the_spread_of_all():
    # three levels with odds 1 : 2 : 1 and 1 : 1 : 4
    policy = make(SIDES, [0.0, math.log(2), 0.0, 0.0, 0.0, math.log(4)], head="levels", levels=3)
    found = insight(policy, OBS)
    assert found.mean.tolist() == [[0.0, 2.0]] * 2
    # index 1 ± √½, a step is 1; index 1.5 with variance (1 + 4·4)/6 − 1.5² = 0.58333, cut off at the end
    below, above = [-math.sqrt(0.5), 1.5 - math.sqrt(0.583333)], [math.sqrt(0.5), 2.0]
    torch.testing.assert_close(found.below, torch.tensor([below] * 2))
    torch.testing.assert_close(found.above, torch.tensor([above] * 2))
    assert found.probs is None


@pytest.mark.golden
def test_beta_is_told_by_its_peak_and_its_spread():
    soft = math.log(math.expm1(1.0))  # softplus of this is 1: a Beta of 2 and 2
    policy = make(SIDES, [soft] * 4, head="beta")
    found = insight(policy, OBS)
    # mean ½, variance ½·½/5
    reach = math.sqrt(0.05)
    torch.testing.assert_close(found.mean, torch.tensor([[0.0, 1.0]] * 2))
    torch.testing.assert_close(found.below, torch.tensor([[-2 * reach, 1 - 2 * reach]] * 2))
    torch.testing.assert_close(found.above, torch.tensor([[2 * reach, 1 + 2 * reach]] * 2))


@pytest.mark.golden
def test_a_plain_normal_is_clipped_to_the_box():
    policy = make(SIDES, [0.75, 5.0], head="gaussian", log_std_init=math.log(0.5))
    found = insight(policy, OBS)
    assert found.mean.tolist() == [[0.75, 2.0]] * 2
    torch.testing.assert_close(found.below, torch.tensor([[0.25, 2.0]] * 2))
    assert found.above.tolist() == [[1.0, 2.0]] * 2


@pytest.mark.parametrize(
    ("space", "bias", "config"),
    [
        (SIDES, [0.0, 0.0, 9.0, 1.5, 1.6, 1.5], {"head": "levels", "levels": 3}),
        (SIDES, [-9.0, 3.0, 4.0, -9.0], {"head": "beta"}),
        (MultiDiscrete([3, 2], start=[4, 0]), [0.0, 1.0, 0.9, 0.1, 0.0], {}),
        (MultiBinary(2), [0.1, -3.0], {}),
        (Discrete(3, start=5), [0.0, 1.0, 0.5], {}),
    ],
)
def test_whatever_the_head_the_action_shown_is_the_action_taken(space, bias, config):
    policy = make(space, bias, **config)
    found = insight(policy, OBS)
    taken = policy.act(OBS)
    if isinstance(space, Discrete):
        assert (found.probs.argmax(1) + space.start).tolist() == taken.tolist()
    else:
        assert torch.equal(found.mean, taken)
    if found.below is not None:
        assert bool((found.below <= found.mean).all() and (found.mean <= found.above).all())
    if isinstance(space, Box):
        assert all(space.contains(row) for row in (*found.below.numpy(), *found.above.numpy()))
    assert found.value.shape == (2,)


@pytest.mark.golden
def test_values_of_actions_are_told_in_points():
    config = DQNConfig(hidden=(8,), dueling=False, quantiles=1, noisy=False, reward_scale=0.5)
    policy = build_q_policy(Box(-1.0, 1.0, (5,)), Discrete(3), config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        policy.net.advantage.last.weight.zero_()
        policy.net.advantage.last.bias.copy_(torch.tensor([1.5, 3.5, -0.5]))
    # learned of rewards that were halved
    found = insight(policy, OBS)
    assert found.q.tolist() == [[3.0, 7.0, -1.0]] * 2
    assert found.value.tolist() == [7.0, 7.0]
    assert found.probs is found.mean is None
