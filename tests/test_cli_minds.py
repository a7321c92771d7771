"""What a network thinks, in words for people."""

import pytest
import torch

from drivetrain.agents.insight import Insight
from drivetrain.drive import Drive
from drivetrain.drivers import find_driver
from drivetrain.envs.panel import Axis, Choice
from drivetrain.minds import Reader, mind_of


def test_continuous_actions_are_axes_within_their_range():
    rows = torch.tensor([[0.1, 0.8], [9.0, 9.0]])
    mind = mind_of(Insight(torch.tensor([120.0, 0.0]), rows, rows - 0.2, rows + 0.1), "pedals")
    assert mind.value == 120.0
    assert [axis.name for axis in mind.axes] == ["steering", "pedals"]
    steering = mind.axes[0]
    assert isinstance(steering, Axis)
    assert (steering.low, steering.high, steering.ends) == (-1.0, 1.0, ("left", "right"))
    assert (steering.mean, steering.below, steering.above) == pytest.approx((0.1, -0.1, 0.2))


@pytest.mark.parametrize(("actions", "count"), [("discrete", 5), ("macro", 15)])
def test_discrete_actions_are_choices_with_the_likeliest_marked(actions, count):
    probs = torch.zeros(1, count)
    probs[0, 3], probs[0, 1] = 0.75, 0.25
    mind = mind_of(Insight(torch.tensor([-3.0]), probs=probs), actions)
    assert len(mind.choices) == len({choice.name for choice in mind.choices}) == count
    assert mind.chosen == 3
    name = {"discrete": "gas", "macro": "L1 gas"}[actions]  # macro 3: the second steering position, the first pedal
    assert mind.choices[3] == Choice(name, 0.75, "75 %")
    assert mind.choices[1].text == "25 %"


def test_the_mind_of_a_run_is_that_of_the_action_it_takes():
    driver = find_driver("racing-ppo-state")
    drive, reader = Drive(driver), Reader(driver)
    drive.begin(2)
    for _ in range(60):
        drive.advance()
        if drive.frames % driver.sim_config.frame_skip != 1 % driver.sim_config.frame_skip:
            continue
        steering, pedals = reader(drive.seen).axes
        assert steering.mean == pytest.approx(float(drive.controls[0]), abs=1e-5)
        assert pedals.mean == pytest.approx(float(drive.controls[1] - drive.controls[2]), abs=1e-5)
        assert steering.below <= steering.mean <= steering.above


def test_action_values_are_choices_with_the_highest_marked():
    # 10, 12 and 15 points: bars from the lowest to the highest, 0, 0.4 and 1
    q = torch.tensor([[10.0, 12.0, 15.0, 10.0, 10.0]])
    mind = mind_of(Insight(q.amax(1), q=q), "discrete")
    assert (mind.value, mind.chosen) == (15.0, 2)
    assert [choice.text for choice in mind.choices] == ["10.0", "12.0", "15.0", "10.0", "10.0"]
    assert [choice.share for choice in mind.choices] == pytest.approx([0.0, 0.4, 1.0, 0.0, 0.0])
