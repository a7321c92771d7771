"""`evaluate`: what its options mean where no car is driven, and environments that only their own module knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gym_probes import register_probes

from drivetrain.agents import PPO
from drivetrain.main import main

register_probes()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def scores(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main(["evaluate", *argv, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out))


def refusal(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main([*argv]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_arguments_of_an_environment_and_its_frame_skip_hold_for_the_random_driver(
    capsys: pytest.CaptureFixture[str],
) -> None:
    random = ["random", "--env", "CartPole-v1", "--episodes", "8"]
    free = scores(capsys, *random)
    assert max(free["scores"]) > 5
    cut = scores(capsys, *random, "--env-args", "max_episode_steps=5")
    assert set(cut["scores"]) == {5.0}, "each step is worth 1, and nobody falls within five"
    held = scores(capsys, *random, "--frame-skip", "4")
    assert held["scores"] != free["scores"], "actions that are held tip the pole over sooner"


def test_options_given_in_vain_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pole = ["evaluate", "random", "--env", "CartPole-v1"]
    assert "--actions is of no use with CartPole-v1" in refusal(capsys, *pole, "--actions", "macro")
    assert "--env-args is of no use with racing" in refusal(capsys, "evaluate", "random", "--env-args", "a=1")
    PPO("CartPole-v1", num_envs=2, num_steps=4, num_minibatches=1, hidden=(4,)).save("runs/mine")
    assert "env_args of its own" in refusal(capsys, "evaluate", "mine", "--env-args", "max_episode_steps=5")


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in an environment whose module is not imported now."""
    PPO("Probe-v0", num_envs=2, num_steps=4, num_minibatches=1, hidden=(4,)).save("runs/foreign")
    monkeypatch.delitem(gymnasium.registry, "Probe-v0")


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("argv", [["evaluate"], ["resume", "--steps", "16"], ["export", "--out", "x.onnx"]])
def test_a_run_of_an_unknown_environment_asks_for_its_module_and_guesses_nothing(
    capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    said = refusal(capsys, argv[0], "foreign", *argv[1:])
    assert "got Probe-v0" in said
    assert "--import MODULE" in said
    assert "did you mean" not in said


def test_a_run_that_python_saved_is_resumed_to_a_length_that_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    PPO("CartPole-v1", num_envs=2, num_steps=4, num_minibatches=1, hidden=(4,)).save("runs/mine")
    assert "give --steps N" in refusal(capsys, "resume", "mine")
    assert main(["resume", "mine", "--steps", "16"]) == 0
    record = json.loads(Path("runs/mine/config.json").read_text())
    assert record["steps"] == 16


def test_weights_that_are_not_those_of_the_record_name_the_first_that_differs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    PPO("CartPole-v1", num_envs=2, num_steps=4, num_minibatches=1, hidden=(4,), shared_trunk=False).save("runs/mine")
    path = Path("runs/mine/config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden": [6]}))
    said = refusal(capsys, "evaluate", "mine")
    assert "(4, 4)" in said  # four observations into four units
    assert "allowed (6, 4)" in said
    assert "weight" in said


def test_other_colours_are_shown_to_drivers_that_see_pictures_and_to_no_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = {"num_envs": 2, "num_steps": 4, "num_minibatches": 1, "hidden": (4,), "channels": (4, 4, 4)}
    PPO("racing", obs="pixels", frame_skip=50, **few).save("runs/seer")  # type: ignore[arg-type]
    for env in ("racing", "CarRacing-v3"):
        asked = ["seer", "--env", env, "--episodes", "2"]
        plain, coloured = scores(capsys, *asked), scores(capsys, *asked, "--domain-randomize")
        assert plain["scores"] == scores(capsys, *asked)["scores"]
        assert plain["scores"] != coloured["scores"]
    for blind in (["expert"], ["random", "--env", "CartPole-v1"]):
        assert "sees no picture" in refusal(capsys, "evaluate", *blind, "--domain-randomize")
