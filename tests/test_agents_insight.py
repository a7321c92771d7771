"""What a policy thinks, against numbers worked out by hand."""

import math

import pytest
import torch

from drivetrain.agents.build import make_config
from drivetrain.agents.insight import insight
from drivetrain.envs.actions import action_space
from drivetrain.envs.sight import observation_space
from drivetrain.envs.sim import SimConfig
from drivetrain.policies.build import build_policy


def policy_of(task: SimConfig, **settings):
    config = make_config("ppo", settings)
    return build_policy(
        observation_space(task), action_space(task.actions), config, torch.Generator().manual_seed(0)
    ).eval()


def level(head: torch.nn.Linear, *values: float) -> None:
    """A last layer that says the same of every observation."""
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor(values))


@pytest.mark.golden
def test_a_squashed_normal_is_told_in_actions_and_the_value_in_points():
    task = SimConfig(actions="pedals")
    policy = policy_of(task, log_std_init=math.log(0.5), log_std_min=-5.0)
    level(policy.head.mean, 0.25, -1.0)
    level(policy.value_head.value, 2.0)
    policy.return_norm.mean.fill_(100.0)
    policy.return_norm.var.fill_(400.0)
    found = insight(policy, torch.zeros(3, *observation_space(task).shape))
    # value 2 standard deviations of 20 above the mean of 100
    torch.testing.assert_close(found.value, torch.full((3,), 140.0))
    # the box is -1 to 1: tanh of the mean, and of half a unit to either side
    expected = [[math.tanh(x) for x in row] for row in ((0.25, -1.0), (-0.25, -1.5), (0.75, -0.5))]
    for got, row in zip((found.mean, found.below, found.above), expected, strict=True):
        torch.testing.assert_close(got, torch.tensor([row] * 3))
    assert found.probs is None


@pytest.mark.golden
def test_discrete_actions_have_probabilities():
    task = SimConfig(actions="discrete")
    policy = policy_of(task)
    level(policy.head.logits, 0.0, math.log(2.0), math.log(3.0), math.log(4.0), 0.0)
    found = insight(policy, torch.zeros(2, *observation_space(task).shape))
    # odds 1 : 2 : 3 : 4 : 1
    torch.testing.assert_close(found.probs, torch.tensor([[1, 2, 3, 4, 1]] * 2) / 11.0)
    assert found.mean is found.below is found.above is None


@pytest.mark.parametrize("shared", [True, False])
def test_pictures_are_read_as_they_come(shared):
    task = SimConfig(obs="pixels", picture="grey", picture_size=64, crop=True, frame_stack=2, actions="macro")
    policy = policy_of(task, encoder="cnn", shared_trunk=shared)
    obs = torch.randint(0, 256, (2, *observation_space(task).shape), generator=torch.Generator().manual_seed(1))
    found = insight(policy, obs.to(torch.uint8))
    torch.testing.assert_close(found.probs.sum(1), torch.ones(2))
    assert found.probs.argmax(1).tolist() == policy.act(obs.to(torch.uint8)).tolist()
    assert found.value.shape == (2,)
