"""One environment, read step by step as its batched form reads it."""

import gymnasium
import numpy as np
import pytest
import torch

from drivetrain.envs.adapt import GymBatch
from drivetrain.envs.gym_task import GymTask
from drivetrain.envs.reader import Reader


@pytest.mark.parametrize("depth", [1, 3])
def test_a_reader_sees_and_does_what_a_batch_of_one_does(depth):
    task = GymTask("Pendulum-v1", frame_stack=depth)
    env = gymnasium.make("Pendulum-v1")
    reader = Reader(env, task)
    reader.read(env.reset(seed=4)[0])  # an episode before, which must leave nothing behind
    reader.begin()
    seen = reader.read(env.reset(seed=5)[0])
    batch = GymBatch(task, 1, 5)
    stacked = batch.reset()
    for k in range(6):
        assert torch.equal(seen, stacked)
        action = torch.tensor([[0.3 * k - 1.0]])
        taken = reader.action(action)
        assert taken.shape == (1,)
        np.testing.assert_allclose(taken, action[0])
        seen, stacked = reader.read(env.step(taken)[0]), batch.step(action).obs.clone()
    batch.close()


def test_a_discrete_observation_is_read_as_one_of_many():
    env = gymnasium.make("Taxi-v4") if "Taxi-v4" in gymnasium.registry else gymnasium.make("Taxi-v3")
    reader = Reader(env, GymTask(env.spec.id))
    seen = reader.read(7)
    assert seen.shape == (1, 500)
    assert seen[0].nonzero().tolist() == [[7]]
    assert reader.action(torch.tensor([4])) == 4
