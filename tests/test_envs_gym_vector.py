"""Many cars behind Gymnasium's vector interface."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import drivetrain  # noqa: F401  (registers the environment)
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.gym_vector import RacingVectorEnv
from drivetrain.envs.track import centreline_of_seed


def start_points(env):
    """[B, 2] u, the first centre point of every lane's road."""
    return env.tracks.centre[env.car_state().track, 0].numpy()


def starts_of(seeds):
    return np.stack([centreline_of_seed(s).points[0, 2:] for s in seeds]).astype(np.float32)


def gas(num_envs):
    """straight on: off the field after about 310 frames"""
    return np.tile(np.array([0, 0.3, 0], np.float32), (num_envs, 1))


def assert_same_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, dict):
            assert_same_infos(ours[key], value)
        elif value.dtype == object:
            assert ours[key].dtype == object
            for a, b in zip(ours[key], value, strict=True):
                assert (a is None) == (b is None)
                np.testing.assert_array_equal(a, b)
        else:
            assert ours[key].dtype == value.dtype
            np.testing.assert_array_equal(ours[key], value)


@pytest.mark.conformance
def test_make_vec_builds_it_with_the_spaces_and_the_autoreset_mode_it_has():
    env = gymnasium.make_vec("drivetrain/Racing-v0", num_envs=5, actions="macro", num_tracks=3)
    assert isinstance(env.unwrapped, RacingVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    single = RacingEnv(actions="macro")
    assert env.single_observation_space == single.observation_space
    assert env.single_action_space == single.action_space
    obs, info = env.reset(seed=0)
    assert obs in env.observation_space
    assert info == {}
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert obs in env.observation_space
    assert (reward.dtype, terminated.dtype, truncated.dtype, info) == (np.float64, np.bool_, np.bool_, {})
    env.close()


@pytest.mark.oracle
def test_it_equals_gymnasiums_own_vector_of_single_environments_until_each_lane_starts_anew():
    lanes, steps, skip = 4, 70, 15
    ours = RacingVectorEnv(lanes, frame_skip=skip, num_tracks=lanes)
    theirs = SyncVectorEnv([lambda: RacingEnv(frame_skip=skip)] * lanes, autoreset_mode=AutoresetMode.SAME_STEP)
    first, _ = ours.reset(seed=11)
    np.testing.assert_array_equal(first, theirs.reset(seed=11)[0])
    # lanes 0 and 1 leave the field in step 21; 2 and 3 stand still and end by the time limit: 1000 / 15 -> step 67
    action = gas(lanes)
    action[2:] = 0
    first_episode, ends = np.ones(lanes, bool), 0
    for _ in range(steps):
        mine, other = ours.step(action), theirs.step(action)
        ended = other[2] | other[3]
        for part, reference in zip(mine[1:4], other[1:4], strict=True):
            np.testing.assert_array_equal(part[first_episode], reference[first_episode])
        ends += int(ended.sum())
        assert_same_infos(mine[4], other[4])
        first_episode &= ~ended
        np.testing.assert_array_equal(mine[0][first_episode], other[0][first_episode])
        action[ended] = 0  # second episodes, on other tracks, last longer than this test
    assert ends == lanes


def test_lane_i_starts_on_the_track_of_seed_s_plus_i_modulo_the_pool():
    env = RacingVectorEnv(5, num_tracks=3)
    env.reset(seed=40)
    np.testing.assert_array_equal(start_points(env), starts_of([40, 41, 42, 40, 41]))
    assert env.tracks.seed.tolist() == [40, 41, 42]
    env.reset(seed=[9, 3, 9, 1, 2])
    np.testing.assert_array_equal(start_points(env), starts_of([9, 3, 9, 1, 2]))


def test_the_same_seed_drives_the_same_episodes_again():
    def play(env):
        env.reset(seed=5)
        rows = [env.step(gas(3)) for _ in range(40)]
        return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])

    env = RacingVectorEnv(3, frame_skip=20, num_tracks=4)
    first, again, other = play(env), play(env), play(RacingVectorEnv(3, frame_skip=20, num_tracks=4))
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_unseeded_pools_keep_away_from_the_seeds_of_tests_and_validation():
    env = RacingVectorEnv(2, num_tracks=2)
    env.reset()
    assert int(env.tracks.seed.min()) >= 2_000_000_000


def test_a_reset_without_a_seed_starts_every_lanes_next_episode_in_the_pool():
    env = RacingVectorEnv(64, num_tracks=8)
    obs, _ = env.reset(seed=0)
    pool = env.tracks
    again, _ = env.reset()
    assert env.tracks is pool
    assert (np.abs(again - obs).max(1) > 0).mean() > 0.7  # an eighth of the lanes may draw the same track again
    assert int(env.car_state().frames.max()) == 0


def test_a_mask_restarts_only_the_lanes_it_names():
    env = RacingVectorEnv(3, num_tracks=8)
    env.reset(seed=0)
    for _ in range(4):
        env.step(gas(3))
    env.reset(options={"reset_mask": np.array([False, True, False])})
    assert env.car_state().frames.tolist() == [4, 0, 4]
    env.step(gas(3))
    assert env.car_state().frames.tolist() == [5, 1, 5]
    for mask in (np.zeros(3, bool), np.ones(2, bool), np.ones(3)):
        with pytest.raises(UserError, match="reset_mask"):
            env.reset(options={"reset_mask": mask})


@pytest.mark.conformance
def test_gymnasiums_episode_statistics_agree_with_the_scores():
    env = RecordEpisodeStatistics(RacingVectorEnv(2, frame_skip=10, num_tracks=2))
    env.reset(seed=0)
    total, episodes = np.zeros(2), 0
    for _ in range(100):
        _, reward, terminated, truncated, info = env.step(gas(2))
        total += reward
        done = terminated | truncated
        if done.any():
            np.testing.assert_array_equal(info["_episode"], done)
            np.testing.assert_allclose(info["episode"]["r"][done], total[done])
            episodes += int(done.sum())
        total[done] = 0
    assert episodes == env.episode_count >= 4


@pytest.mark.invariance
def test_tensors_and_arrays_tell_the_same():
    arrays = RacingVectorEnv(3, actions="discrete", frame_skip=25, num_tracks=3)
    tensors = RacingVectorEnv(3, actions="discrete", frame_skip=25, num_tracks=3, torch_api=True)
    np.testing.assert_array_equal(arrays.reset(seed=2)[0], tensors.reset(seed=2)[0].numpy())
    seen_end = False
    for _ in range(45):
        a, t = arrays.step(np.array([3, 3, 0])), tensors.step(torch.tensor([3, 3, 0]))
        for x, y in zip(a[:4], t[:4], strict=True):
            np.testing.assert_array_equal(x, y.numpy())
        next_obs = t[4]["next_obs"].numpy()
        for lane in range(3):
            ended = a[2][lane] or a[3][lane]
            np.testing.assert_array_equal(next_obs[lane], a[4]["final_obs"][lane] if ended else a[0][lane])
            seen_end |= bool(ended)
    assert seen_end


def test_what_a_step_returned_is_not_changed_by_the_next():
    env = RacingVectorEnv(2, num_tracks=2)
    env.reset(seed=0)
    step = env.step(gas(2))
    kept = [part.copy() for part in step[:4]]
    env.step(gas(2))
    for part, copy in zip(step[:4], kept, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_every_lane_has_its_picture():
    env = RacingVectorEnv(2, num_tracks=2, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = env.render()
    assert [p.shape for p in pictures] == [(400, 600, 3)] * 2
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_tracks": 0}, "num_tracks"),
        ({"obs": "pixel"}, "pixels"),
        ({"render_mode": "human"}, "render_mode"),
        ({"device": "cuda:99"}, "device"),
        ({"device": "toaster"}, "device"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        RacingVectorEnv(**{"num_envs": 2, **arguments})


def test_wrong_actions_and_seeds_are_refused():
    env = RacingVectorEnv(2, num_tracks=2)
    with pytest.raises(UserError, match="before reset"):
        env.step(gas(2))
    with pytest.raises(UserError, match="one seed per lane"):
        env.reset(seed=[1, 2, 3])
    env.reset(seed=0)
    with pytest.raises(UserError, match="shape"):
        env.step(gas(3))
    with pytest.raises(UserError, match="not finite"):
        env.step(gas(2) * np.nan)
