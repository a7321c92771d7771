"""Rounds in which environments do nothing but reset themselves teach nothing, and spoil nothing."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from drivetrain.agents import DQN, PPO
from drivetrain.envs.adapt import GymBatch
from drivetrain.policies.normalize import RunningNorm


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (DQN, {"num_envs": 1, "num_steps": 1, "learning_starts": 50, "batch_size": 16}),
        (DQN, {"num_envs": 1, "num_steps": 1, "buffer": "none", "num_minibatches": 1}),
        (PPO, {"num_envs": 2, "num_steps": 2, "num_minibatches": 4}),
        (PPO, {"num_envs": 1, "num_steps": 1, "num_minibatches": 1}),
        (PPO, {"num_envs": 2, "num_steps": 1, "num_minibatches": 2, "core": "gru"}),
    ],
    ids=str,
)
def test_few_lanes_of_an_environment_that_resets_itself_in_a_step_of_its_own(
    make: Any, settings: dict[str, Any]
) -> None:
    agent = make("CartPole-v1", seed=0, device="cpu", vectorization="native", hidden=(8,), **settings)
    assert isinstance(agent.learner.env, GymBatch)
    before = agent.steps
    taken = []
    for metrics in agent.iterate(400):
        taken.append(agent.steps - before)
        before = agent.steps
        assert all(math.isfinite(value) for value in metrics.values()), metrics
    assert 0 in taken or min(taken) < max(taken)  # rounds that were resets, in whole or in part
    assert all(bool(torch.isfinite(value).all()) for value in agent.policy.state_dict().values())


def test_statistics_are_not_moved_by_nothing() -> None:
    norm = RunningNorm(2)
    norm.update(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    kept = {name: value.clone() for name, value in norm.state_dict().items()}
    norm.update(torch.empty(0, 2))
    assert all(torch.equal(value, kept[name]) for name, value in norm.state_dict().items())
    assert norm.mean.tolist() == [2.0, 4.0]
