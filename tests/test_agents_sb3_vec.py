"""Our environments next door: as a VecEnv of Stable-Baselines3, and as the single environment it wraps itself."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

import drivetrain  # noqa: F401  (registers drivetrain/Racing-v0)
from drivetrain.agents.sb3_vec import Sb3VecEnv, check_autoreset
from drivetrain.agents.worlds import make_env
from drivetrain.envs.errors import UserError
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool


def racing(num_envs=4, seed=0, **task):
    return Sim(pool(seed, 2), num_envs, SimConfig(**{"frame_skip": 25, "actions": "pedals"} | task), seed)


class Scripted:
    """Two lanes that count their steps: lane 0 dies at 3, lane 1 runs out of time at 2; a lane pays its number + 1."""

    num_envs, device, channels, time_limit = 2, torch.device("cpu"), None, None
    single_observation_space, single_action_space = Box(-9, 9, (1,), np.float32), Box(-1, 1, (1,), np.float32)

    def __init__(self, valid=None):
        self.age, self.valid = torch.zeros(2), valid

    def reset(self):
        self.age.zero_()
        return self.age[:, None]

    def step(self, action):
        self.age += 1
        seen, terminated, truncated = self.age.clone(), self.age * torch.tensor([1, 0]) >= 3, self.age >= 2
        truncated[0] = False
        self.age[terminated | truncated] = 0
        return SimpleNamespace(
            obs=self.age[:, None],
            next_obs=seen[:, None],
            reward=torch.tensor([1.0, 2.0]),
            terminated=terminated,
            truncated=truncated,
            episode_return=seen * torch.tensor([1.0, 2.0]),
            episode_frames=2 * seen.long(),
            lap_finished=None,
            frames=torch.tensor([2, 2]),
            valid=self.valid,
        )


@pytest.mark.golden
def test_an_end_tells_the_last_observation_the_return_the_length_and_whether_it_was_the_clock():
    env = Sb3VecEnv(Scripted())
    assert env.reset().tolist() == [[0.0], [0.0]]
    action = np.zeros((2, 1), np.float32)
    # lane 1: steps 1, 2 (time), 1, 2 (time); lane 0: steps 1, 2, 3 (dead), 1
    obs, reward, done, infos = env.step(action)
    assert (obs.tolist(), reward.tolist(), done.tolist(), infos) == (
        [[1.0], [1.0]],
        [1.0, 2.0],
        [False, False],
        [{}, {}],
    )
    obs, _, done, infos = env.step(action)
    assert (obs.tolist(), done.tolist(), infos[0]) == ([[2.0], [0.0]], [False, True], {})
    assert infos[1]["terminal_observation"].tolist() == [2.0]
    assert infos[1]["TimeLimit.truncated"] is True
    assert (infos[1]["episode"]["r"], infos[1]["episode"]["l"]) == (4.0, 2)
    obs, _, done, infos = env.step(action)
    assert (obs.tolist(), done.tolist()) == ([[0.0], [1.0]], [True, False])
    assert infos[0]["terminal_observation"].tolist() == [3.0]
    assert infos[0]["TimeLimit.truncated"] is False
    assert (infos[0]["episode"]["r"], infos[0]["episode"]["l"]) == (3.0, 3)
    # of the two episodes that ended, in the order of their ends: returns 4 and 3, 2 frames a step
    assert env.stats.table[:, :2].tolist() == [[4.0, 4.0], [3.0, 6.0]]
    assert (env.stats.episodes, env.frames) == (2, 12)


def test_what_was_handed_over_is_not_overwritten_by_the_next_step():
    env = Sb3VecEnv(racing())
    before = env.reset()
    kept = before.copy()
    first = env.step(np.ones((4, 2), np.float32))
    copies = [part.copy() for part in first[:3]]
    env.step(np.ones((4, 2), np.float32))
    assert np.array_equal(before, kept)
    assert all(np.array_equal(now, then) for now, then in zip(first, copies, strict=False))


@pytest.mark.oracle
@pytest.mark.parametrize("actions", ["pedals", "macro"])
def test_the_adapter_sees_what_the_batch_does(actions):
    ours, theirs = racing(8, actions=actions), Sb3VecEnv(racing(8, actions=actions))
    assert np.array_equal(ours.reset().numpy(), theirs.reset())
    rng, ended = np.random.default_rng(0), 0
    space = ours.single_action_space
    for _ in range(60):
        action = rng.uniform(-1, 1, (8, 2)).astype(np.float32) if isinstance(space, Box) else rng.integers(0, 15, 8)
        step = ours.step(torch.as_tensor(action))
        obs, reward, done, infos = theirs.step(action)
        assert np.array_equal(step.obs.numpy(), obs)
        assert np.array_equal(step.reward.numpy(), reward)
        assert np.array_equal((step.terminated | step.truncated).numpy(), done)
        for lane in np.flatnonzero(done):
            ended += 1
            assert np.array_equal(infos[lane]["terminal_observation"], step.next_obs[lane].numpy())
            assert infos[lane]["episode"]["r"] == float(step.episode_return[lane])
    assert ended >= 8, "random driving ends an episode of 40 steps in every lane at least once"


def test_rewards_are_scaled_and_returns_are_not():
    env = Sb3VecEnv(Scripted(), reward_scale=0.5)
    env.reset()
    rewards = [env.step(np.zeros((2, 1), np.float32)) for _ in range(2)]
    assert rewards[1][1].tolist() == [0.5, 1.0]
    assert rewards[1][3][1]["episode"]["r"] == 4.0


def test_an_environment_that_resets_in_a_step_of_its_own_is_refused():
    env = Sb3VecEnv(Scripted(valid=torch.tensor([True, False])))
    env.reset()
    with pytest.raises(UserError, match="NEXT_STEP"):
        check_autoreset(make_env("CartPole-v1", {"vectorization": "native"}, 2, 0, "cpu"))
    check_autoreset(make_env("CartPole-v1", {"vectorization": "sync"}, 2, 0, "cpu"))
    check_autoreset(racing())
    with pytest.raises(UserError, match="NEXT_STEP"):
        env.step(np.zeros((2, 1), np.float32))


def test_lanes_share_their_attributes_and_cannot_be_called_one_by_one():
    env = Sb3VecEnv(racing())
    assert env.get_attr("seed") == [0] * 4
    assert env.get_attr("seed", [1]) == [0]
    assert not env.has_attr("no_such_attribute")
    assert env.env_is_wrapped(Monitor, 2) == [True]
    assert env.env_is_wrapped(gymnasium.wrappers.ClipReward) == [False] * 4
    with pytest.raises(UserError, match="one object"):
        env.env_method("reset", indices=[0])
    assert len(env.env_method("observe")) == 4
    env.set_attr("seed", 5)
    assert env.get_attr("seed", 0) == [5]


@pytest.mark.conformance
def test_its_ppo_learns_on_our_lanes_and_knows_their_episodes():
    model = PPO("MlpPolicy", Sb3VecEnv(racing(8)), n_steps=48, batch_size=96, n_epochs=1, seed=0, device="cpu")
    model.learn(8 * 48)
    assert model.num_timesteps == 384
    # an episode has 40 decisions at most, so every lane has ended one within 48
    assert len(model.ep_info_buffer) >= 8
    assert all(0 < info["l"] <= 40 and -300 < info["r"] < 1000 for info in model.ep_info_buffer)


@pytest.mark.conformance
def test_its_dqn_learns_on_our_lanes():
    env = Sb3VecEnv(racing(4, actions="macro"))
    model = DQN("MlpPolicy", env, learning_starts=16, buffer_size=200, batch_size=8, seed=0, device="cpu")
    model.learn(128)  # whole rounds of 4 steps in 4 lanes
    assert model.num_timesteps == 128
    assert model._n_updates > 0


@pytest.mark.conformance
def test_its_wrappers_take_the_adapter():
    env = VecNormalize(VecFrameStack(Sb3VecEnv(racing()), 2))
    assert env.reset().shape == (4, 86)
    obs, _, done, infos = env.step(np.zeros((4, 2), np.float32))
    assert obs.shape == (4, 86)
    assert not done.any()
    assert infos == [{}] * 4


@pytest.mark.conformance
def test_pictures_reach_its_convolutions():
    env = Sb3VecEnv(racing(2, obs="pixels", picture="grey", picture_size=64, frame_stack=4))
    model = PPO("CnnPolicy", env, n_steps=4, batch_size=8, n_epochs=1, seed=0, device="cpu")
    model.learn(8)
    assert model.observation_space.shape == (4, 64, 64)
    action, _ = model.predict(env.reset())
    assert action.shape == (2, 2)


@pytest.mark.conformance
def test_evaluate_policy_counts_the_episodes_of_all_lanes_without_a_warning(recwarn):
    class Still:
        def predict(self, obs, state=None, episode_start=None, deterministic=False):
            return np.zeros((len(obs), 2), np.float32), None

    scores, lengths = evaluate_policy(Still(), Sb3VecEnv(racing()), n_eval_episodes=8, return_episode_rewards=True)
    # a car that stands still touches its first tile only, loses 0.1 a frame and runs out of time after 1,000 frames
    assert lengths == [40] * 8
    assert all(-100 < score < -90 for score in scores)
    assert not [w for w in recwarn.list if "Monitor" in str(w.message)]


@pytest.mark.conformance
def test_the_single_environment_needs_no_adapter():
    env = gymnasium.make("drivetrain/Racing-v0", actions="pedals", frame_skip=25)
    model = PPO("MlpPolicy", env, n_steps=48, batch_size=48, n_epochs=1, seed=0, device="cpu").learn(48)
    assert len(model.ep_info_buffer) == 1
    assert model.ep_info_buffer[0]["l"] <= 40
    mean, _ = evaluate_policy(model, Monitor(env), n_eval_episodes=1)
    assert -300 < mean < 1000
