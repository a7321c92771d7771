"""What `watch` shows: the stage of a race keeps what was driven by hand, that of any environment begins anew."""

from dataclasses import replace

import pytest
import torch

from drivetrain.agents.demos import read_demo, replay
from drivetrain.drivers import find_driver
from drivetrain.envs.actions import DISCRETE
from drivetrain.envs.hands import Hands
from drivetrain.envs.viewer import Viewer
from drivetrain.foreign import GymScene
from drivetrain.scenes import ORIGINAL, RACING
from drivetrain.stage import GymStage, RaceStage


def driven(stage):
    """The drive of an episode in which the car is taken over for five of forty frames."""
    stage.begin(3)
    for frame in range(40):
        if frame in (20, 25):
            stage.press("t")
        stage.advance({"up"})
    (path,) = stage.finish(cut=True)
    stage.close()
    return read_demo(path)


def test_a_drive_says_by_which_rule_a_lap_counted(tmp_path):
    driver = find_driver("expert")
    percent = replace(driver, sim_config=replace(driver.sim_config, lap_rule="percent"))
    rules = [
        driven(RaceStage([who], world, Viewer((320, 240)), Hands(), tmp_path, "Ada")).about.lap_rule
        for who, world in ((driver, RACING), (percent, RACING), (percent, ORIGINAL))
    ]
    assert rules == ["all", "percent", "all"]  # the original has a rule of its own


@pytest.mark.oracle
def test_a_drive_of_few_actions_in_the_original_can_be_driven_again(tmp_path):
    driver = find_driver("random", actions="discrete")
    demo = driven(RaceStage([driver], ORIGINAL, Viewer((320, 240)), Hands(), tmp_path, "Ada"))
    assert demo.by_hand.tolist() == [False] * 20 + [True] * 5 + [False] * 15
    # to the last bit: 0.6 rounded to float32 is another number
    assert {tuple(row) for row in demo.actions[~demo.by_hand].tolist()} <= set(DISCRETE)
    for frame, state in enumerate(replay(demo)):
        for name, kept in vars(demo.state(frame)).items():
            torch.testing.assert_close(getattr(state, name), kept, rtol=0, atol=0, msg=f"{name} of frame {frame}")


def test_the_next_episode_of_any_environment_begins_at_nothing():
    stage = GymStage(GymScene("CartPole-v1", find_driver("random")), (320, 240))
    stage.begin(0)
    for _ in range(5):
        stage.advance(())
    assert stage.results()[0][1:] == (5.0, 5)  # a reward of 1 a step
    stage.begin(1)
    assert stage.results()[0][1:] == (0.0, 0)
    stage.close()
