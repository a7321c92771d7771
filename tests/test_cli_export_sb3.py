"""The command `export --to sb3`: zips that decide as their runs do."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import drivetrain  # noqa: F401  (registers drivetrain/Racing-v0)
from drivetrain.agents import agent
from drivetrain.main import main
from drivetrain.rundir import SHIPPED

STATE, PIXELS = "racing-ppo-state", "racing-ppo-pixels"
FIRST = {"num_envs": 4, "num_steps": 8, "hidden": (8,), "device": "cpu", "vectorization": "sync"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(capsys, *argv, code=0):
    """The JSON object on the last line of stdout, and stderr."""
    assert main(["export", *argv, "--to", "sb3", "--json"]) == code
    captured = capsys.readouterr()
    return json.loads(captured.out.splitlines()[-1]), captured.err


@pytest.mark.conformance
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("run", [STATE, PIXELS])
def test_the_shipped_drivers_drive_the_same_in_stable_baselines3(run, plain, capsys):
    told, said = call(capsys, run, "--out", "driver.zip", *(["--plain"] if plain else []))
    assert told["files"] == ["driver.zip"]
    assert told["max_abs_error"] < 1e-4
    assert ("note: noise depends on the state" in said) == plain
    model, ours = PPO.load("driver.zip", device="cpu"), agent.load(SHIPPED / run)
    record = json.loads((SHIPPED / run / "config.json").read_text())
    task = {name: record[name] for name in ("obs", "actions", "frame_skip") if name in record}
    pictures = {name: record[name] for name in ("picture", "picture_size", "frame_stack") if run == PIXELS}
    env = gymnasium.make("drivetrain/Racing-v0", **task, **pictures)
    obs, _ = env.reset(seed=5)
    for _ in range(30):
        action, _ = model.predict(obs, deterministic=True)
        np.testing.assert_allclose(action, ours.predict(obs, deterministic=True)[0], atol=1e-4)
        obs, *_ = env.step(action)


@pytest.mark.conformance
def test_a_zip_of_another_environment_is_loaded_with_that_environment(capsys):
    agent.DQN("CartPole-v1", seed=0, **FIRST, buffer_size=400, learning_starts=40, batch_size=16).learn(64).save(
        "runs/d"
    )
    for argv in (["d", "--out", "a.zip"], ["d", "--out", "b.zip", "--plain"]):
        told, _ = call(capsys, *argv)
        model = DQN.load(told["files"][0], env=gymnasium.make("CartPole-v1"), device="cpu")
        mean, _ = evaluate_policy(model, Monitor(gymnasium.make("CartPole-v1")), 2)
        assert mean >= 8
        model.learn(50)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["none-such", "--out", "a.zip"], "none-such"),
        ([STATE], "--out is missing"),
        (["runs/normed", "--out", "a.zip", "--plain"], "layer normalisation"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(argv, words, capsys):
    settings = FIRST | {"layer_norm": True, "num_minibatches": 2}
    agent.PPO("CartPole-v1", seed=0, **settings).learn(32).save("runs/normed")
    _, said = call(capsys, *argv, code=2)
    assert said.startswith("error: ")
    assert words in said
    assert said.count("\n") == 1
    assert not Path("a.zip").exists()


def test_plain_is_for_zips_alone(capsys):
    assert main(["export", STATE, "--out", "a.onnx", "--plain"]) == 2
    assert "--plain is of no use" in capsys.readouterr().err


def test_a_file_that_is_there_is_not_written_over_unless_forced(capsys):
    Path("driver.zip").write_text("mine")
    call(capsys, STATE, "--out", "driver.zip", code=2)
    assert Path("driver.zip").read_text() == "mine"
    call(capsys, STATE, "--out", "driver.zip", "--force")
    assert PPO.load("driver.zip", device="cpu").action_space.shape == (2,)
