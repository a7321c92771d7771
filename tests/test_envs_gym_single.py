"""One car behind Gymnasium's interface."""

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import drivetrain  # noqa: F401  (registers the environment)
from drivetrain.envs.actions import ACTIONS
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.track import centreline_of_seed, generate

GAS = np.array([0.0, 0.3, 0.0], np.float32)  # straight on: off the field after about 310 frames
COAST = np.array([0.0, 0.0, 0.0], np.float32)


def drive(env, action, steps):
    """Steps until the end or for so many steps; returns the transitions."""
    out = []
    for _ in range(steps):
        out.append(env.step(action))
        if out[-1][2] or out[-1][3]:
            break
    return out


@pytest.mark.conformance
@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("frame_skip", [1, 3])
def test_the_checkers_of_gymnasium_and_stable_baselines3_find_nothing_the_original_does_not_have(
    actions, frame_skip, monkeypatch
):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # the checker renders in every mode
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make("drivetrain/Racing-v0", actions=actions, frame_skip=frame_skip)
        check_env(env.unwrapped)
        check_env_sb3(env.unwrapped)
    said = [str(w.message) for w in caught]
    # CarRacing-v3 has the same asymmetric pedals and gets the same advice
    allowed = "symmetric and normalized Box action space" if actions == "continuous" else "nothing is allowed"
    assert [text for text in said if allowed not in text] == []


@pytest.mark.oracle
def test_resets_follow_the_random_stream_as_gymnasium_does():
    env = RacingEnv()
    env.reset(seed=7)
    first = centreline_of_seed(7).points
    np.testing.assert_array_equal(env.tracks.centre[0, : len(first)].numpy(), first[:, 2:].astype(np.float32))
    env.reset()
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(7)))
    generate(rng)
    second = generate(rng).points
    np.testing.assert_array_equal(env.tracks.centre[0, : len(second)].numpy(), second[:, 2:].astype(np.float32))
    assert env.tracks.seed.tolist() == [-1]
    env.reset(seed=7)
    assert env.tracks.seed.tolist() == [7]


@pytest.mark.golden
def test_the_first_reward_holds_the_tiles_of_the_start():
    # seed 0: two of 319 tiles are touched during reset: 2 * 1000 / 319 - 0.1 = 6.169592
    env = RacingEnv()
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(COAST)
    assert reward == pytest.approx(6.169592, abs=1e-5)
    assert (terminated, truncated, info) == (False, False, {})


def test_leaving_the_field_ends_the_episode_with_the_original_info():
    env = RacingEnv()
    env.reset(seed=1)
    last = drive(env, GAS, 1000)[-1]
    assert last[1] == -100.0
    assert last[2] is True
    assert last[4] == {"lap_finished": False}


@pytest.mark.parametrize("frame_skip", [1, 7])
def test_the_time_limit_is_a_thousand_frames_at_every_skip(frame_skip):
    env = RacingEnv(frame_skip=frame_skip)
    env.reset(seed=0)
    steps = drive(env, COAST, 2000)
    # 1000 / 7 = 142.86: the 143rd step stops after 6 frames
    assert len(steps) == -(-1000 // frame_skip)
    assert steps[-1][2:] == (False, True, {})
    # a car that stands still keeps the two tiles of the start (N = 319) and pays 0.1 a frame
    assert sum(step[1] for step in steps) == pytest.approx(2000 / 319 - 100, abs=1e-2)


@pytest.mark.invariance
def test_an_action_held_for_three_frames_is_the_same_action_three_times():
    held, single = RacingEnv(frame_skip=3), RacingEnv()
    held.reset(seed=3)
    single.reset(seed=3)
    for turn in (0.1, -0.2, 0.3, 0.0):
        action = np.array([turn, 0.5, 0.0], np.float32)
        parts = [single.step(action) for _ in range(3)]
        whole = held.step(action)
        np.testing.assert_array_equal(whole[0], parts[-1][0])
        assert whole[1] == pytest.approx(sum(part[1] for part in parts), abs=1e-5)


def test_what_a_step_returned_is_not_changed_by_the_next():
    env = RacingEnv()
    env.reset(seed=0)
    first = env.step(GAS)[0]
    kept = first.copy()
    env.step(GAS)
    np.testing.assert_array_equal(first, kept)


def test_stepping_before_reset_or_after_the_end_is_refused():
    env = RacingEnv(frame_skip=500)
    with pytest.raises(UserError, match="before reset"):
        env.step(COAST)
    env.reset(seed=0)
    assert len(drive(env, COAST, 5)) == 2
    with pytest.raises(UserError, match="after the episode's end"):
        env.step(COAST)
    env.reset()
    env.step(COAST)


@pytest.mark.parametrize("action", [np.zeros(2), np.array([0, np.nan, 0]), np.zeros((1, 3)), 3, None, "left"])
def test_an_action_that_is_none_is_refused_and_changes_nothing(action):
    env = RacingEnv()
    env.reset(seed=0)
    with pytest.raises(UserError):
        env.step(action)
    assert int(env.car_state().frames) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"obs": "stat"}, "state"),
        ({"actions": "pedal"}, "pedals"),
        ({"lap_rule": "half"}, "percent"),
        ({"frame_skip": 0}, "1 or more"),
        ({"frame_skip": 1.5}, "whole number"),
        ({"domain_randomize": 1}, "True, False"),
        ({"obs": "pixel"}, "pixels"),
        ({"picture": "gray"}, "grey"),
        ({"picture_size": 100}, "84"),
        ({"indicators": "none"}, "random"),
        ({"crop": "yes"}, "True, False"),
        ({"frame_stack": 2}, "only pictures are stacked"),
        ({"picture": "palette", "domain_randomize": True}, "palette"),
        ({"obs": "lidar", "beams": 0}, "1 to 256"),
        ({"render_mode": "rgb"}, "rgb_array"),
    ],
)
def test_wrong_arguments_are_refused_and_say_what_is_allowed(arguments, said):
    with pytest.raises(UserError, match=said):
        RacingEnv(**arguments)


def test_pictures_show_the_car_where_the_episode_ended():
    env = RacingEnv(render_mode="rgb_array", frame_skip=100)
    env.reset(seed=0)
    before = env.render()
    assert before.shape == (400, 600, 3)
    assert before.dtype == np.uint8
    drive(env, COAST, 20)
    assert int(env.car_state().frames) == 1000
    assert env.car_state().visited_count.tolist() == [2]
    assert not np.array_equal(env.render(), before)  # the clock and the score have moved on
    env.close()


def test_a_shown_environment_draws_by_itself(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = RacingEnv(render_mode="human", frame_skip=5)
    env.reset(seed=0)
    env.step(GAS)
    assert env.render() is None
    env.close()
    env.close()
