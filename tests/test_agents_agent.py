"""Agents as Python objects."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from drivetrain.agents import PPO, load
from drivetrain.agents.config import TASK, PPOConfig, RacingTraining, task_in
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.evaluate import play_twin
from drivetrain.agents.settings import DQNSettings, PPOSettings, TaskSettings
from drivetrain.agents.worlds import GYM_TASK
from drivetrain.envs.errors import UserError
from drivetrain.envs.sim import SimConfig
from drivetrain.envs.task import sim_config, task_of

SMALL = {"num_envs": 16, "num_steps": 4, "num_minibatches": 2, "num_tracks": 2, "hidden": (8,), "device": "cpu"}


@pytest.fixture(scope="module")
def agent():
    return PPO("racing", seed=3, **SMALL).learn(128)


def test_learning_goes_on_until_the_steps_are_taken(agent):
    assert agent.steps == 128


def test_a_saved_agent_loads_and_decides_the_same(agent, tmp_path):
    agent.save(tmp_path / "mine")
    again = load(tmp_path / "mine")
    obs = np.random.default_rng(0).normal(size=(5, 43)).astype(np.float32)
    action, memory = again.predict(obs, deterministic=True)
    assert memory is None
    assert action.shape == (5, 2)
    assert np.array_equal(action, agent.predict(obs, deterministic=True)[0])
    one, _ = again.predict(obs[0], deterministic=True)
    np.testing.assert_allclose(one, action[0], atol=1e-6)


def test_a_sampled_action_differs_from_the_next_one(agent):
    obs = np.zeros(43, np.float32)
    assert not np.array_equal(agent.predict(obs)[0], agent.predict(obs)[0])


def test_stable_baselines3_evaluates_our_agents(agent):
    import gymnasium
    from stable_baselines3.common.evaluation import evaluate_policy

    env = gymnasium.make("drivetrain/Racing-v0", actions="pedals", frame_skip=25)
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=1, warn=False)
    assert -200 < mean < 1000


def test_settings_name_exactly_the_task_and_the_config():
    task = set(TASK) | set(RacingTraining.model_fields) | set(GYM_TASK)
    assert set(TaskSettings.__annotations__) == task
    assert set(PPOSettings.__annotations__) == task | set(PPOConfig.model_fields)
    assert set(DQNSettings.__annotations__) == task | set(DQNConfig.model_fields)


@pytest.mark.parametrize("obs", [np.zeros(7), np.full(43, np.nan), np.zeros((2, 2, 43))])
def test_an_observation_that_does_not_fit_is_refused(agent, obs):
    with pytest.raises(UserError, match="observation does not fit"):
        agent.predict(obs)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"num_env": 4}, "num_envs"), ({"gamma": 2.0}, "gamma"), ({"num_minibatches": 3}, "num_minibatches")],
)
def test_a_wrong_setting_is_named(wrong, said):
    with pytest.raises(UserError, match=said):
        PPO("racing", **(SMALL | wrong))


def test_an_unknown_environment_names_the_nearest():
    with pytest.raises(UserError, match="did you mean CartPole-v1"):
        PPO("CartPol-v1")


def test_a_seed_below_zero_whose_tracks_would_be_those_of_validation_is_refused():
    with pytest.raises(UserError, match="seed is negative"):
        PPO("racing", seed=-1, **SMALL)


def test_no_agent_trains_on_tracks_of_tests_or_validation(agent):
    # training seeds begin at 2,000,000,000, a thousand for each seed of a run
    assert agent.learner.env.tracks.seed.tolist() == [2_000_003_000, 2_000_003_001]


@pytest.mark.parametrize("name", ["gpu", "tpu:0"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UserError, match="unknown device"):
        PPO("racing", **(SMALL | {"device": name}))


def test_a_folder_that_holds_another_run_is_not_written_to(agent, tmp_path):
    agent.save(tmp_path)
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match="another run"):
        PPO("racing", seed=4, **SMALL).save(tmp_path)
    assert (tmp_path / "config.json").read_text() == before
    with pytest.raises(FileExistsError):
        agent.save(tmp_path)


@pytest.mark.gpu
def test_agents_learn_load_and_decide_on_a_gpu(tmp_path):
    trained = PPO("racing", **(SMALL | {"device": "cuda"})).learn(128)
    trained.save(tmp_path)
    for device in ("cpu", "cuda"):
        agent = load(tmp_path, device=device)
        for deterministic in (True, False):
            assert agent.predict(np.zeros(43, np.float32), deterministic=deterministic)[0].shape == (2,)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        load(tmp_path)


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    PPO("racing", **SMALL).learn(64)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.golden
@pytest.mark.parametrize("name", ["racing-ppo-state", "racing-ppo-pixels", "racing-imitate-pixels", "racing-dqn-state"])
def test_a_shipped_driver_scores_what_its_table_says(name):
    # rounding may change a lap by a few frames on another machine, a tenth of a point each, but not a driver's worth
    folder = Path(__file__).parent.parent / "runs" / "baselines" / name
    with (folder / "scores_racing.csv").open() as file:
        recorded = [float(row["score"]) for row in csv.DictReader(file)][:20]
    driver = load(folder)
    task = sim_config(**task_in(json.loads((folder / "config.json").read_text())))
    scores = play_twin(lambda obs, tracks, state: driver.policy.act(obs), range(20), task)
    assert scores.mean == pytest.approx(sum(recorded) / 20, abs=3.0)
    assert scores.failures() == sum(score < 900 for score in recorded)


def test_the_task_has_the_same_defaults_wherever_it_is_named():
    from drivetrain.tasks import TaskOptions

    assert dict(task_of(SimConfig())) == TASK == TaskOptions().model_dump()


def test_numbers_of_numpy_will_do_and_other_types_are_refused():
    agent = PPO("racing", num_envs=2, num_steps=2, num_minibatches=1, num_tracks=1, frame_skip=np.int64(3))
    assert type(agent.task["frame_skip"]) is int
    with pytest.raises(UserError, match="crop is neither on nor off"):
        PPO("racing", obs="pixels", crop="no")


@pytest.mark.parametrize("obs", ["far too fast", [[1.0], [1.0, 2.0]], [1.0, 2.0]])
def test_an_observation_that_is_none_is_refused(obs):
    agent = PPO("racing", num_envs=2, num_steps=2, num_minibatches=1, num_tracks=1)
    with pytest.raises(UserError, match="the observation"):
        agent.predict(obs)
