"""One car frame by frame: it sees, drives and scores as in the environment that takes whole decisions."""

from dataclasses import replace

import pytest
import torch

from drivetrain.agents.evaluate import play_original
from drivetrain.drive import Drive
from drivetrain.drivers import find_driver
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.original import OriginalEnv
from drivetrain.envs.sim import SimConfig
from drivetrain.envs.task import task_of
from drivetrain.scenes import ORIGINAL, RACING


@pytest.mark.oracle
@pytest.mark.parametrize("world", [RACING, ORIGINAL])
def test_a_driver_of_stacked_pictures_sees_what_the_environment_hands_over(world):
    task = SimConfig(obs="pixels", picture="grey", frame_stack=3, frame_skip=2)
    driver = replace(find_driver("random"), sim_config=task)
    drive, actor = Drive(driver, world), driver.actor()
    env = RacingEnv(**task_of(task)) if world == RACING else OriginalEnv.of(task)
    obs, _ = env.reset(seed=4)
    drive.begin(4)
    stacks = []
    for decision in range(30):
        drive.advance()  # decides, and drives the first frame
        torch.testing.assert_close(drive.seen[0], torch.from_numpy(obs), rtol=0, atol=0, msg=f"decision {decision}")
        drive.advance()
        action = actor(torch.from_numpy(obs)[None], env.tracks, env.car_state())[0]
        obs, *_ = env.step(action.numpy())
        torch.testing.assert_close(drive.state.pos, env.car_state().pos, rtol=0, atol=0)
        stacks.append(drive.seen[0])
    # the pictures do change from decision to decision, and within a stack
    assert not torch.equal(stacks[-1], stacks[-2])
    assert not torch.equal(stacks[-1][..., 0], stacks[-1][..., 2])


@pytest.mark.oracle
def test_a_random_driver_drives_the_original_here_as_it_is_scored():
    driver = find_driver("random", frame_skip=4)
    drive = Drive(driver, ORIGINAL)
    frames = sum(1 for _ in drive.episode(3))
    expected = play_original(driver.actor(), [3], driver.sim_config)
    assert frames == expected.frames[0]
    assert drive.score == pytest.approx(expected.scores[0], abs=1e-6)
    assert drive.tracks.seed.tolist() == [3]
