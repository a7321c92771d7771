"""Stable-Baselines3's algorithms behind the surface of our learners."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from drivetrain.agents.build import build_learner, load_policy
from drivetrain.agents.checkpoint import load_trainer, read_checkpoint, save_checkpoint
from drivetrain.agents.config import PPOConfig
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.metrics import METRICS
from drivetrain.agents.sb3_backend import Sb3DQNLearner, Sb3PPOLearner, sb3_learner
from drivetrain.agents.worlds import make_env
from drivetrain.envs.errors import UserError
from drivetrain.policies.build import build_policy

RACING = {"actions": "pedals", "frame_skip": 25, "num_tracks": 2}
SMALL = {"num_envs": 4, "num_steps": 8, "hidden": (16,)}
CONFIGS = {
    "ppo": PPOConfig(**SMALL, num_minibatches=2, update_epochs=2, target_kl=0.5),
    "ppo, nothing normalised": PPOConfig(
        **SMALL, num_minibatches=2, norm_obs=False, norm_return=False, lr_schedule="linear"
    ),
    "dqn": DQNConfig(**SMALL, buffer_size=400, learning_starts=40, batch_size=16, double=False),
    "dqn, exploring to the end": DQNConfig(
        **SMALL, buffer_size=400, learning_starts=40, batch_size=16, double=False, eps_start=1.0, eps_end=0.9
    ),
    "dqn, one step": DQNConfig(
        **SMALL, buffer_size=200, learning_starts=40, batch_size=16, n_step=1, reward_scale=0.1, target_update="soft"
    ),
}


def learner(case, total_steps=400, seed=3, env="racing"):
    cfg = CONFIGS[case]
    task = RACING | ({"actions": "macro"} if isinstance(cfg, DQNConfig) else {})
    if env != "racing":
        task = {"vectorization": "sync"}
    lanes = make_env(env, task, cfg.num_envs, seed, "cpu")
    return sb3_learner(lanes, cfg, torch.Generator().manual_seed(seed), total_steps=total_steps)


@pytest.mark.conformance
@pytest.mark.parametrize("case", CONFIGS)
def test_it_learns_and_reports_what_our_learners_report(case):
    agent = learner(case)
    before = {name: value.clone() for name, value in agent.policy.state_dict().items()}
    rounds = list(agent.iterate(400))
    after = agent.policy.state_dict()
    assert agent.steps == 416  # 13 whole rounds of 8 steps in 4 lanes
    assert agent.frames > 2 * agent.steps, "an action is held for 25 frames, unless the episode ends"
    for metrics in rounds:
        assert set(metrics) <= set(METRICS)
        assert all(np.isfinite(value) for value in metrics.values())
    weights = [name for name in before if name.endswith("weight")]
    assert all(not torch.equal(before[name], after[name]) for name in weights)
    last = rounds[-1]
    assert last["train/episodes"] >= 4
    assert {"train/return", "train/frames", "train/laps"} <= set(last)
    assert ("loss/q" in last) == case.startswith("dqn")
    normed = agent.cfg.norm_obs
    assert bool((after["obs_norm.updates"] > 0).item() if "obs_norm.updates" in after else False) == normed


def test_rates_follow_their_schedules():
    linear = [metrics["diag/learning_rate"] for metrics in learner("ppo, nothing normalised").iterate(400)]
    # the rate of the round that begins with k of 400 steps done is 1e-3·(1 − k/400)
    np.testing.assert_allclose(linear, [1e-3 * (1 - 32 * k / 400) for k in range(13)], rtol=1e-6)
    adaptive = [metrics["diag/learning_rate"] for metrics in learner("ppo").iterate(400)]
    assert len(set(adaptive)) > 1
    epsilon = [metrics["diag/epsilon"] for metrics in learner("dqn").iterate(400)]
    # after 32 steps it has come 32/80 of the way from 1 to 0.05, after 96 it is there
    np.testing.assert_allclose(epsilon[:3], [1 - 0.95 * 32 / 80, 1 - 0.95 * 64 / 80, 0.05], rtol=1e-6)


@pytest.mark.parametrize("case", CONFIGS)
def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(case, tmp_path):
    whole, first, second = (learner(case) for _ in range(3))
    for _ in whole.iterate(400):
        pass
    rounds = first.iterate(400)
    for _ in range(6):
        next(rounds)
    tensors, values = first.trainer_state()
    save_checkpoint(tmp_path, first.steps, first.policy.state_dict(), tensors, values)
    found = read_checkpoint(next(tmp_path.iterdir()))
    assert found.resumable
    second.policy.load_state_dict(first.policy.state_dict())
    second.load_trainer_state(*load_trainer(found.path))
    assert (second.steps, second.frames, second.updates) == (first.steps, first.frames, first.updates)
    for _ in second.iterate(400):
        pass
    assert second.steps == whole.steps
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(value, second.policy.state_dict()[name]), name
    assert torch.equal(whole.lanes.stats.table, second.lanes.stats.table)


@pytest.mark.parametrize("case", ["ppo", "dqn"])
def test_its_checkpoints_load_as_ours(case, tmp_path):
    agent = learner(case)
    agent.update_once()
    tensors, values = agent.trainer_state()
    path = save_checkpoint(tmp_path, agent.steps, agent.policy.state_dict(), tensors, values)
    actions = "macro" if case == "dqn" else "pedals"
    record = {"algo": case, "env": "racing"} | RACING | {"actions": actions} | agent.cfg.model_dump(mode="json")
    policy = load_policy(record, path)
    obs = agent.env.observe()
    assert torch.equal(policy.act(obs), agent.policy.act(obs))


def test_it_begins_with_the_weights_it_is_given():
    lanes = make_env("racing", RACING, 4, 0, "cpu")
    spaces = lanes.single_observation_space, lanes.single_action_space
    policy = build_policy(*spaces, CONFIGS["ppo"], torch.Generator().manual_seed(8))
    agent = Sb3PPOLearner(lanes, CONFIGS["ppo"], torch.Generator().manual_seed(0), policy)
    assert all(torch.equal(value, agent.policy.state_dict()[name]) for name, value in policy.state_dict().items())


def test_a_dqn_that_was_given_other_weights_has_them_in_both_networks():
    agent = learner("dqn")
    other = learner("dqn", seed=9).policy
    agent.policy.load_state_dict(other.state_dict())
    agent.update_once()
    assert all(torch.equal(a, b) for a, b in zip(agent.target.parameters(), other.parameters(), strict=True))


@pytest.mark.conformance
@pytest.mark.parametrize("case", ["ppo", "dqn"])
def test_other_environments_are_trained_on_too(case):
    agent = learner(case, env="CartPole-v1")
    rounds = list(agent.iterate(320))
    assert rounds[-1]["train/episodes"] >= 4
    assert "train/laps" not in rounds[-1]
    tensors, values = agent.trainer_state()
    again = learner(case, env="CartPole-v1")
    again.load_trainer_state(tensors, values)  # episodes of a Gymnasium environment are not kept: new ones begin
    again.update_once()
    assert again.steps == 352


def resumed(case):
    """A learner after five rounds, and one that goes on from there, in new episodes."""
    first, second = (learner(case, env="CartPole-v1") for _ in range(2))
    for _ in range(5):
        first.update_once()
    second.policy.load_state_dict(first.policy.state_dict())
    tensors, values = first.trainer_state()
    second.load_trainer_state({name: value.clone() for name, value in tensors.items()}, values)
    return first, second


def test_new_episodes_begin_with_returns_of_zero():
    first, second = resumed("ppo")
    assert first.returns.returns.any()
    np.testing.assert_array_equal(second.returns.returns, np.zeros(4))
    assert second.returns.ret_rms.var == first.returns.ret_rms.var


def test_sums_of_several_steps_end_where_a_run_was_resumed_in_new_episodes(monkeypatch):
    first, second = resumed("dqn, exploring to the end")
    newest = second.replay.pos - 1
    assert not first.replay.dones[newest].all()
    assert np.array_equal(second.replay.dones[newest], first.replay.dones[newest])
    second.update_once()
    lane = int(first.replay.dones[newest].argmin())  # one whose episode was still running
    monkeypatch.setattr("numpy.random.randint", lambda *_, size, **__: np.full(size, lane))
    sample = second.replay._get_samples(np.array([newest]))
    assert second.cfg.n_step > 1
    assert sample.rewards.item() == 1.0, "each step of CartPole is worth 1; more would be of the next episode"
    np.testing.assert_array_equal(sample.next_observations[0], second.replay.next_observations[newest, lane])


def test_environments_with_a_batched_version_that_it_cannot_use_are_taken_one_by_one_by_default():
    agent = build_learner("dqn", "CartPole-v1", SMALL | {"backend": "sb3", "batch_size": 16}, 0, "cpu")
    agent.update_once()
    assert agent.steps == 32
    asked = SMALL | {"backend": "sb3", "vectorization": "native"}
    with pytest.raises(UserError, match="NEXT_STEP"):  # before the first step, so that no run is begun
        build_learner("ppo", "CartPole-v1", asked, 0, "cpu")


@pytest.mark.learning
def test_its_ppo_learns_to_balance():
    cfg = PPOConfig(num_envs=8, num_steps=32, learning_rate=3e-3, lr_schedule="linear", gae_lambda=0.8, gamma=0.98)
    lanes = make_env("CartPole-v1", {"vectorization": "sync"}, 8, 0, "cpu")
    agent = Sb3PPOLearner(lanes, cfg, torch.Generator().manual_seed(0), total_steps=12_000)
    *_, last = agent.iterate(12_000)
    assert last["train/return"] > 60, "a random driver balances for 22 steps"


def test_what_its_dqn_cannot_do_is_refused():
    with pytest.raises(UserError, match="replay"):
        Sb3DQNLearner(
            make_env("CartPole-v1", {"vectorization": "sync"}, 4, 0, "cpu"),
            DQNConfig(num_envs=4, buffer="none"),
            torch.Generator(),
        )


def test_stable_baselines3_is_not_loaded_where_it_is_not_asked_for():
    modules = "drivetrain.train, drivetrain.agents.agent, drivetrain.agents.build, drivetrain.agents.sb3_settings"
    code = f"import sys, {modules}; print('stable_baselines3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
