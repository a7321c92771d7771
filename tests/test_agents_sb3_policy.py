"""Our networks inside the algorithms of Stable-Baselines3."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from drivetrain.agents.sb3_policy import DrivetrainActorCriticPolicy, DrivetrainDQNPolicy
from drivetrain.agents.sb3_vec import Sb3VecEnv
from drivetrain.envs.errors import UserError
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool

BOX = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
CASES = {
    "squashed": (BOX, {"head": "squashed"}),
    "gaussian": (BOX, {"head": "gaussian"}),
    "beta": (BOX, {"head": "beta"}),
    "levels": (BOX, {"head": "levels"}),
    "discrete": (Discrete(4), {}),
    "multi": (MultiDiscrete([2, 3]), {}),
    "binary": (MultiBinary(3), {}),
    "one trunk": (Discrete(3), {"shared_trunk": True}),
}
Q_CONFIGS = ({}, {"dueling": True, "hidden": [16, 8]}, {"quantiles": 5}, {"noisy": True}, {"layer_norm": True})


class Noise(gymnasium.Env):
    """Ten steps of noise; it takes what its action space holds and nothing else."""

    observation_space = Box(-5, 5, (3,), np.float32)

    def __init__(self, action_space):
        self.action_space, self.age = action_space, 0

    def _obs(self):
        return self.np_random.uniform(-5, 5, 3).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.age = 0
        return self._obs(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action, self.action_space.dtype)), action
        self.age += 1
        return self._obs(), float(self.np_random.normal()), self.age == 10, False, {}


def make(space, config, algorithm=PPO, **arguments):
    env = make_vec_env(lambda: Noise(space), 2, seed=0)
    arguments = {"n_steps": 16, "seed": 0, "device": "cpu"} | arguments
    if algorithm is PPO:
        arguments = {"batch_size": 32} | arguments
    return algorithm(DrivetrainActorCriticPolicy, env, policy_kwargs={"config": config}, **arguments)


def make_dqn(config, start=0, **arguments):
    env = make_vec_env(lambda: Noise(Discrete(4, start=start)), 2, seed=0)
    arguments = {"learning_starts": 20, "buffer_size": 200, "batch_size": 16, "seed": 0, "device": "cpu"} | arguments
    return DQN(DrivetrainDQNPolicy, env, policy_kwargs={"config": {"hidden": [16]} | config}, **arguments)


@pytest.mark.conformance
@pytest.mark.parametrize("case", CASES)
def test_its_ppo_trains_every_head_and_its_zip_loads_again(case, tmp_path):
    space, config = CASES[case]
    model = make(space, config | {"hidden": [16]}, batch_size=8, n_epochs=2)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(64)
    after = model.policy.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before if "head" in name)
    assert all(torch.isfinite(value).all() for value in after.values())
    model.save(tmp_path / "mine")
    again = PPO.load(tmp_path / "mine", device="cpu")
    obs = np.random.default_rng(0).uniform(-5, 5, (50, 3)).astype(np.float32)
    for deterministic in (True, False):
        torch.manual_seed(1)
        here, _ = model.predict(obs, deterministic=deterministic)
        torch.manual_seed(1)
        there, _ = again.predict(obs, deterministic=deterministic)
        assert np.array_equal(here, there)
    decided, _ = model.predict(obs, deterministic=True)
    np.testing.assert_allclose(decided, model.policy.core.act(torch.as_tensor(obs)).numpy(), atol=1e-6)


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_actions_that_were_kept_are_as_likely_as_when_they_were_taken(case):
    space, config = CASES[case]
    model = make(space, config)
    model.learn(32)  # one rollout and its update
    buffer = model.rollout_buffer
    fresh = make(space, config)  # the same seed: the weights that the rollout was made with
    with torch.no_grad():
        obs = torch.as_tensor(buffer.observations).view(-1, 3)
        actions = torch.as_tensor(buffer.actions.astype(np.float32))
        value, log_prob, entropy = fresh.policy.evaluate_actions(obs, actions)
    np.testing.assert_allclose(log_prob.numpy(), buffer.log_probs.flatten(), atol=1e-5)
    np.testing.assert_allclose(value[:, 0].numpy(), buffer.values.flatten(), atol=1e-5)
    assert entropy.shape == (32,)


@pytest.mark.conformance
def test_its_a2c_takes_our_network_and_its_callback_evaluates_it():
    model = make(Discrete(4), {}, A2C, n_steps=5)
    callback = EvalCallback(
        make_vec_env(lambda: Noise(Discrete(4)), 1, seed=1), eval_freq=10, n_eval_episodes=2, verbose=0
    )
    model.learn(40, callback=callback)
    assert callback.n_calls == 20
    assert np.isfinite(callback.last_mean_reward)


@pytest.mark.conformance
def test_our_convolutions_see_pictures_through_its_transposition():
    task = SimConfig(obs="pixels", picture="grey", picture_size=64, frame_stack=2, frame_skip=25, actions="pedals")
    env = Sb3VecEnv(Sim(pool(0, 2), 2, task))
    config = {"encoder": "cnn", "hidden": [16], "channels": [4, 4, 4], "shared_trunk": True}
    arguments = {"n_steps": 4, "batch_size": 8, "n_epochs": 1, "seed": 0, "device": "cpu"}
    model = PPO(DrivetrainActorCriticPolicy, env, policy_kwargs={"config": config}, **arguments).learn(8)
    seen = env.reset()
    assert seen.shape == (2, 64, 64, 2)
    action, _ = model.predict(seen, deterministic=True)
    np.testing.assert_allclose(action, model.policy.core.act(torch.as_tensor(seen)).numpy(), atol=1e-6)


def test_the_same_seed_gives_the_same_first_weights():
    one, two, other = (make(Discrete(4), {}, seed=seed).policy.state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["core.actor.layers.0.weight"], other["core.actor.layers.0.weight"])


def test_evaluate_policy_takes_the_model():
    model = make(Discrete(4), {})
    _, lengths = evaluate_policy(model, model.env, n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [10] * 4


def test_what_cannot_be_built_is_refused_in_one_line():
    with pytest.raises(UserError, match="state-dependent"):
        make(BOX, {}, use_sde=True)
    with pytest.raises(UserError, match="hiden"):
        make(BOX, {"hiden": [8]})
    with pytest.raises(UserError, match="from 0"):
        make(Discrete(4, start=1), {})
    with pytest.raises(UserError, match="no network"):
        make(Discrete(4), {"encoder": "cnn"})
    with pytest.raises(UserError, match="from 0"):
        make_dqn({}, start=-1)


@pytest.mark.conformance
@pytest.mark.parametrize("config", Q_CONFIGS, ids=str)
def test_its_dqn_trains_our_network_and_its_zip_loads_again(config, tmp_path):
    model = make_dqn(config, target_update_interval=40)
    first = {name: value.clone() for name, value in model.q_net.state_dict().items()}
    assert all(torch.equal(value, first[name]) for name, value in model.q_net_target.state_dict().items())
    model.learn(200)
    now, target = model.q_net.state_dict(), model.q_net_target.state_dict()
    assert any(not torch.equal(first[name], now[name]) for name in now)
    assert any(not torch.equal(first[name], target[name]) for name in now), "the target network follows"
    model.save(tmp_path / "mine")
    again = DQN.load(tmp_path / "mine", device="cpu")
    obs = np.random.default_rng(0).uniform(-5, 5, (50, 3)).astype(np.float32)
    here, _ = model.predict(obs, deterministic=True)
    assert len(set(here.tolist())) > 1
    assert np.array_equal(here, again.predict(obs, deterministic=True)[0])
    assert np.array_equal(here, model.q_net.core.act(torch.as_tensor(obs)).numpy())
