"""Action sets: what steering wheel and pedals do for each of them, and which actions are refused."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from drivetrain.envs.actions import ACTIONS, MACRO, action_space, check_action, to_controls
from drivetrain.envs.errors import UserError


def controls(name, *actions):
    dtype = torch.float32 if name in ("continuous", "pedals") else torch.int64
    return to_controls(name, torch.tensor(actions, dtype=dtype))


def test_the_continuous_space_is_that_of_the_original():
    space = action_space("continuous")
    assert space == Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
    assert action_space("pedals") == Box(-1.0, 1.0, (2,), np.float32)
    assert action_space("discrete") == Discrete(5)
    assert action_space("macro") == Discrete(15)


def test_continuous_actions_clip_steer_and_gas_and_keep_the_brake_as_given():
    torch.testing.assert_close(
        controls("continuous", [-2.0, 1.5, 1.5], [0.5, -1.0, 0.25]), torch.tensor([[-1.0, 1.0, 1.5], [0.5, 0.0, 0.25]])
    )


def test_one_pedal_axis_is_gas_forwards_and_brake_backwards():
    # 0.7 -> gas 0.7; -0.3 -> brake 0.3; out of bounds is clipped first
    torch.testing.assert_close(
        controls("pedals", [0.1, 0.7], [-0.1, -0.3], [3.0, -3.0]),
        torch.tensor([[0.1, 0.7, 0.0], [-0.1, 0.0, 0.3], [1.0, 0.0, 1.0]]),
    )


def test_discrete_actions_are_those_of_the_original_in_its_order():
    expected = [[0, 0, 0], [0.6, 0, 0], [-0.6, 0, 0], [0, 0.2, 0], [0, 0, 0.8]]  # nothing, right, left, gas, brake
    torch.testing.assert_close(controls("discrete", 0, 1, 2, 3, 4), torch.tensor(expected))


def test_macro_actions_are_all_pairs_of_five_steering_positions_and_three_pedals():
    got = controls("macro", *range(15))
    assert sorted(set(got[:, 0].tolist())) == pytest.approx([-0.4, -0.15, 0.0, 0.15, 0.4])
    assert len(set(MACRO)) == 15
    torch.testing.assert_close(got[3 * 4 + 2], torch.tensor([0.4, 0.0, 0.12]))  # hardest right, braking
    torch.testing.assert_close(got[3 * 0 + 0], torch.tensor([-0.4, 1.0, 0.0]))  # hardest left, full gas


def test_every_control_lies_within_the_bounds_of_the_continuous_space():
    bounds = action_space("continuous")
    for name in ACTIONS:
        space = action_space(name)
        space.seed(0)
        sampled = np.stack([space.sample() for _ in range(64)])
        check_action(name, sampled, 64)
        for row in to_controls(name, torch.as_tensor(sampled)).numpy():
            assert bounds.contains(row)


@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("name", "action", "num_envs", "said"),
    [
        ("continuous", [0.0, 0.0], None, "shape"),
        ("continuous", [[0.0, 0.0, 0.0]], 2, "shape"),
        ("continuous", [0.0, float("nan"), 0.0], None, "not finite"),
        ("pedals", [[0.0, float("inf")]], 1, "not finite"),
        ("pedals", [True, False], None, "dtype"),
        ("discrete", 5, None, "out of range"),
        ("discrete", [0, -1], 2, "out of range"),
        ("macro", [0.0, 1.0], 2, "dtype"),
        ("macro", [15], 1, "out of range"),
    ],
)
def test_an_action_no_car_can_carry_out_is_refused(wrap, name, action, num_envs, said):
    with pytest.raises(UserError, match=said):
        check_action(name, wrap(action), num_envs)


def test_an_unknown_action_set_names_the_nearest():
    with pytest.raises(UserError, match="continuous"):
        action_space("continous")
    with pytest.raises(UserError, match="unknown action set"):
        to_controls("keyboard", torch.zeros(1, 3))
