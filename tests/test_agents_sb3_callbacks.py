"""Stable-Baselines3's evaluation and callbacks with our agents."""

import gymnasium
import numpy as np
import pytest
import stable_baselines3
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from drivetrain.agents import DQN, PPO, load
from drivetrain.agents.sb3_callbacks import learn_with_callback

SMALL = {"num_envs": 4, "num_steps": 8, "hidden": (8,), "device": "cpu", "vectorization": "sync"}
PLAIN = {"lr_schedule": "constant", "num_minibatches": 2, "update_epochs": 1}


def ppo(seed=0, **settings):
    return PPO("CartPole-v1", seed=seed, **(SMALL | PLAIN | settings))


def dqn():
    return DQN("CartPole-v1", seed=0, **SMALL, buffer_size=400, learning_starts=40, batch_size=16)


@pytest.mark.conformance
@pytest.mark.parametrize("make", [ppo, dqn])
@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluate_policy_takes_our_agents_on_one_environment_and_on_many(make, deterministic):
    agent = make()
    one = Monitor(gymnasium.make("CartPole-v1"))
    scores, lengths = evaluate_policy(agent, one, 3, deterministic, return_episode_rewards=True)
    assert len(scores) == 3
    assert scores == lengths, "a point a step"
    mean, _ = evaluate_policy(agent, make_vec_env("CartPole-v1", 3, seed=0), 6, deterministic)
    assert 8 <= mean <= 500


@pytest.mark.conformance
@pytest.mark.filterwarnings("ignore:Training and eval env are not of the same type")
@pytest.mark.parametrize("make", [ppo, dqn])
def test_its_callbacks_evaluate_store_and_stop_our_agents(make, tmp_path):
    agent = make()
    stop = StopTrainingOnRewardThreshold(5.0)  # every driver reaches that
    evaluation = EvalCallback(
        make_vec_env("CartPole-v1", 1, seed=0),
        callback_on_new_best=stop,
        eval_freq=3,
        n_eval_episodes=2,
        best_model_save_path=str(tmp_path),
        log_path=str(tmp_path),
        verbose=0,
    )
    kept = CheckpointCallback(2, str(tmp_path / "kept"))
    assert learn_with_callback(agent, 1_000, [kept, evaluation]) is agent
    # the third update of 4 lanes and 8 steps is evaluated and found good enough
    assert agent.steps == 96
    assert evaluation.num_timesteps == 96
    assert np.load(tmp_path / "evaluations.npz")["timesteps"].tolist() == [96]
    obs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    best = load(tmp_path / "best_model")
    assert np.array_equal(best.predict(obs, deterministic=True)[0], agent.predict(obs, deterministic=True)[0])
    theirs = stable_baselines3.PPO if make is ppo else stable_baselines3.DQN
    model = theirs.load(tmp_path / "kept/rl_model_64_steps.zip")
    assert model.predict(obs, deterministic=True)[0].shape == (20,)


def test_a_callback_is_called_once_an_update_and_sees_its_metrics():
    seen = []

    class Note(BaseCallback):
        def _on_step(self):
            seen.append((self.num_timesteps, self.locals["metrics"], dict(self.logger.name_to_value)))
            return True

    learn_with_callback(ppo(), 96, Note())
    assert [steps for steps, *_ in seen] == [32, 64, 96]
    assert all(
        "loss/policy" in metrics and metrics["loss/policy"] == logged["loss/policy"] for _, metrics, logged in seen
    )


def test_watching_changes_nothing_about_the_training():
    class Idle(BaseCallback):
        def _on_step(self):
            return True

    watched, alone = learn_with_callback(ppo(), 96, Idle()), ppo().learn(96)
    theirs = alone.policy.state_dict()
    assert all(bool((value == theirs[name]).all()) for name, value in watched.policy.state_dict().items())
