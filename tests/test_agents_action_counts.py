"""The histogram of actions that a validation leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete

from drivetrain.agents.action_counts import BINS, ActionCounts
from drivetrain.agents.agent import PPO
from drivetrain.agents.evaluate import play_twin
from drivetrain.agents.players import racing_actor
from drivetrain.agents.worlds import action_counts, play, spaces_of
from drivetrain.envs.sim import SimConfig

SMALL = {"hidden": (8,), "num_envs": 4, "num_steps": 8, "num_minibatches": 2, "device": "cpu"}


def test_numbers_fall_into_equal_bins_and_the_edges_into_the_outermost() -> None:
    counts = ActionCounts(Box(0.0, float(BINS), (1,), np.float32))
    counts.add(torch.tensor([[0.0], [0.99], [1.0], [BINS - 0.5], [BINS], [BINS + 7.0], [-7.0]]))
    (entry,) = counts.table()
    assert (entry["name"], entry["low"], entry["high"]) == ("action", 0.0, float(BINS))
    assert entry["counts"] == [3, 1] + [0] * (BINS - 3) + [3]


def test_unbounded_numbers_are_counted_between_minus_one_and_one() -> None:
    counts = ActionCounts(Box(-np.inf, np.inf, (2,), np.float32))
    counts.add(torch.tensor([[0.0, -5.0]]))
    first, second = counts.table()
    assert (first["low"], first["high"], first["counts"].index(1)) == (-1.0, 1.0, BINS // 2)
    assert second["counts"][0] == 1


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (Discrete(3), [2, 0, 2], [[1, 0, 2]]),
        (MultiDiscrete([2, 3]), [[1, 2], [1, 0]], [[0, 2], [1, 0, 1]]),
        (MultiBinary(2), [[1, 0], [1, 1]], [[0, 2], [1, 1]]),
    ],
)
def test_every_value_of_a_discrete_action_has_a_bin_of_its_own(
    space: Discrete, actions: list[int], expected: list[list[int]]
) -> None:
    counts = ActionCounts(space)
    counts.add(torch.tensor(actions))
    table = counts.table()
    assert [entry["counts"] for entry in table] == expected
    assert all(entry["low"] == -0.5 and entry["high"] == len(entry["counts"]) - 0.5 for entry in table)


def test_rows_that_are_not_live_do_not_count() -> None:
    counts = ActionCounts(Discrete(2))
    counts.add(torch.tensor([0, 1, 1]), torch.tensor([True, False, True]))
    assert counts.table()[0]["counts"] == [1, 1]


def test_a_space_without_components_is_refused() -> None:
    with pytest.raises(TypeError, match="no histogram"):
        ActionCounts(Dict({"a": Discrete(2)}))


def test_a_car_counts_until_its_own_episode_is_over() -> None:
    policy, skip = PPO("racing", frame_skip=8, **SMALL).policy, 8
    seeds = (1_000_000_000, 1_000_000_001)
    record = {"frame_skip": skip, "actions": "pedals"}
    counts = action_counts("racing", record, spaces_of("racing", record)[1], "cpu")
    scores = play("racing", record, policy, seeds, "cpu", counts)
    assert [entry["name"] for entry in scores.actions] == ["steer", "gas minus brake"]
    decisions = sum(-(-frames // skip) for frames in scores.frames)
    assert [sum(entry["counts"]) for entry in scores.actions] == [decisions, decisions]
    plain = play_twin(racing_actor(policy), seeds, SimConfig(actions="pedals", frame_skip=skip))
    assert plain.scores == scores.scores
    assert plain.actions == ()


@pytest.mark.parametrize("core", ["none", "gru"])
def test_each_decision_in_a_gymnasium_environment_counts_once(core: str) -> None:
    policy = PPO("CartPole-v1", core=core, **SMALL).policy
    counts = action_counts("CartPole-v1", {}, spaces_of("CartPole-v1", {})[1], "cpu")
    scores = play("CartPole-v1", {}, policy, range(5), "cpu", counts)
    assert sum(scores.actions[0]["counts"]) == sum(scores.frames)


def test_each_decision_in_the_original_counts_once() -> None:
    policy, record = PPO("racing", frame_skip=50, **SMALL).policy, {"frame_skip": 50, "actions": "pedals"}
    counts = action_counts("CarRacing-v3", record, spaces_of("CarRacing-v3", record)[1], "cpu")
    scores = play("CarRacing-v3", record, policy, (1_000_000_000,), "cpu", counts)
    assert [sum(entry["counts"]) for entry in scores.actions] == [-(-scores.frames[0] // 50)] * 2
