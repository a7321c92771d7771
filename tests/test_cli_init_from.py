"""`train … --init-from RUN`: task and network follow the run, and what does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain import trackers
from drivetrain.agents.checkpoint import MODEL, TRAINER, choose_checkpoint, load_model
from drivetrain.main import main

FEW = ["--num-envs", "4", "--num-steps", "8", "--num-tracks", "2", "--device", "cpu", "--threads", "1"]
FEW += ["--eval-every", "none"]
CLONE = ["pretrain", "imitate", *FEW, "--hidden", "8", "--num-updates", "2", "--batch-size", "16", "--steps", "64"]
PPO = ["train", "ppo", "racing", *FEW, "--num-minibatches", "2", "--steps", "128", "--init-from"]
DQN = ["train", "dqn", "racing", *FEW, "--learning-starts", "32", "--batch-size", "16", "--buffer-size", "500"]
DQN += ["--steps", "128", "--init-from"]


class NoMirror:
    def close(self) -> None: ...
    def abandon(self) -> None: ...


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "LocalMirror", lambda *_: NoMirror())


def config(run: str) -> dict[str, Any]:
    return dict(json.loads(Path("runs", run, "config.json").read_text()))


def newest(run: str) -> Path:
    return choose_checkpoint(Path("runs", run, "checkpoints"), "last").path


def test_a_clone_is_all_that_has_to_be_named_and_a_resumed_run_ends_alike() -> None:
    assert main([*CLONE, "--frame-skip", "3", "--name", "clone"]) == 0
    held = ["--critic-warmup", "2", "--anchor-until", "0.5"]
    assert main([*PPO, "clone", *held, "--checkpoint-every", "32", "--name", "r"]) == 0
    found, clone = config("r"), config("clone")
    for name in ("hidden", "activation", "shared_trunk", "log_std_min", "actions", "obs", "frame_skip"):
        assert found[name] == clone[name], name
    assert (found["gap_cost"], found["gamma"]) == (400.0, 0.985)  # of the preset
    rows = [json.loads(line) for line in Path("runs/r/metrics.jsonl").read_text().splitlines()]
    assert all("loss/anchor" in row for row in rows[:2])
    whole = {name: (newest("r") / name).read_bytes() for name in (MODEL, TRAINER)}
    shutil.rmtree(newest("r"))
    assert newest("r").name == "step_000000000096"
    assert main(["resume", "r"]) == 0
    assert {name: (newest("r") / name).read_bytes() for name in whole} == whole


def test_an_encoder_alone_goes_under_fresh_heads_of_the_preset() -> None:
    assert main([*CLONE, "--name", "clone"]) == 0
    argv = [*PPO, "clone", "--init-parts", "encoder", "--actions", "macro", "--steps", "32", "--checkpoint-every", "1"]
    assert main([*argv, "--name", "r"]) == 0
    found, clone = config("r"), config("clone")
    assert (found["hidden"], found["actions"], found["log_std_init"]) == (clone["hidden"], "macro", -0.5)
    first = load_model(choose_checkpoint(Path("runs/r/checkpoints"), "0").path)
    taught = load_model(newest("clone"))
    assert torch.equal(first["actor.layers.0.weight"], taught["actor.layers.0.weight"])
    rows = [json.loads(line) for line in Path("runs/r/metrics.jsonl").read_text().splitlines()]
    assert rows and not any("loss/anchor" in row for row in rows)


def test_heads_learn_first_and_a_resumed_run_goes_on_with_that() -> None:
    assert main([*CLONE, "--name", "clone"]) == 0
    argv = [*PPO, "clone", "--init-parts", "encoder", "--checkpoint-every", "32", "--encoder-warmup"]
    assert main([*argv, "4", "--name", "r"]) == 0  # all four updates
    taught, found = load_model(newest("clone")), load_model(newest("r"))
    for name in ("actor.layers.0.weight", "obs_norm.mean"):
        assert torch.equal(found[name], taught[name])
    assert not torch.equal(found["head.mean.weight"], taught["head.mean.weight"])
    whole = {name: (newest("r") / name).read_bytes() for name in (MODEL, TRAINER)}
    shutil.rmtree(newest("r"))
    assert main(["resume", "r"]) == 0
    assert {name: (newest("r") / name).read_bytes() for name in whole} == whole
    assert main([*argv, "1", "--name", "s"]) == 0
    assert not torch.equal(load_model(newest("s"))["actor.layers.0.weight"], taught["actor.layers.0.weight"])


CARTPOLE = ["--num-envs", "4", "--num-steps", "8", "--steps", "64", "--device", "cpu", "--eval-every", "none"]
LEARNERS = {
    "ppo": ["train", "ppo", "CartPole-v1", *CARTPOLE, "--num-minibatches", "2"],
    "dqn": ["train", "dqn", "CartPole-v1", *CARTPOLE, "--learning-starts", "16", "--batch-size", "8"],
    "dueling": ["train", "dqn", "CartPole-v1", *CARTPOLE, "--learning-starts", "16", "--batch-size", "8", "--dueling"],
}


@pytest.mark.parametrize("old", LEARNERS)
@pytest.mark.parametrize("new", ["ppo", "dqn"])
def test_an_encoder_goes_from_every_kind_of_learner_to_every_other(old: str, new: str) -> None:
    assert main([*LEARNERS[old], "--name", "a"]) == 0
    assert main([*LEARNERS[new], "--init-from", "a", "--init-parts", "encoder", "--name", "b"]) == 0
    assert config("b")["init_parts"] == "encoder"


def test_of_an_encoder_that_does_not_fit_only_its_own_settings_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CLONE, "--name", "clone"]) == 0
    assert main([*PPO, "clone", "--init-parts", "encoder", "--hidden", "16", "--core", "gru", "--name", "r"]) == 2
    said = capsys.readouterr().err
    assert "leave out the options that differ from that run's: hidden [16] (there [8])\n" in said


def test_a_student_begins_with_the_task_and_network_of_another() -> None:
    core = ["--core", "gru", "--core-size", "8", "--window", "8"]
    assert main([*CLONE, *core, "--frame-skip", "3", "--name", "clone"]) == 0
    assert main([*CLONE, "--window", "8", "--init-from", "clone", "--name", "more"]) == 0
    assert {name: config("more")[name] for name in ("core", "core_size", "frame_skip")} == {
        "core": "gru",
        "core_size": 8,
        "frame_skip": 3,
    }


def test_a_run_that_began_with_another_is_repeated_from_its_config() -> None:
    assert main([*CLONE, "--name", "clone"]) == 0
    assert main([*PPO, "clone", "--steps", "32", "--name", "r"]) == 0
    assert main(["train", "ppo", "racing", "--config", "runs/r/config.json", "--name", "again"]) == 0
    assert config("again") == config("r")


def test_parts_of_no_run_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "ppo", "racing", "--init-parts", "encoder"]) == 2
    assert "--init-parts encoder is of use with --init-from RUN alone" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_what_is_typed_goes_before_what_the_run_has() -> None:
    assert main([*CLONE, "--name", "clone"]) == 0
    assert main([*PPO, "clone", "--frame-skip", "5", "--no-shared-trunk", "--name", "r"]) == 0
    assert (config("r")["frame_skip"], config("r")["shared_trunk"]) == (5, False)


@pytest.mark.parametrize("backend", ["native", "sb3"])
def test_a_network_of_action_values_begins_with_a_clone_that_chooses(backend: str) -> None:
    assert main([*CLONE, "--actions", "macro", "--frame-skip", "4", "--name", "clone"]) == 0
    assert main([*DQN, "clone", "--backend", backend, "--name", "r"]) == 0
    assert config("r")["hidden"] == [8]
    assert main([*DQN, "r", "--backend", backend, "--name", "again"]) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([*PPO, "clone", "--hidden", "16"], ["another shape", "actor.layers.0.weight 8x", "allowed 16x", "leave out"]),
        ([*PPO, "clone", "--actions", "continuous"], ["another shape", "head.", "allowed 3"]),
        ([*PPO, "clone", "--obs", "lidar"], ["another shape", "obs_norm.mean"]),
        ([*PPO, "clone", "--core", "gru"], ["another shape", "head.mean.weight 2x8", "allowed 2x64"]),
        ([*PPO, "clone", "--log-std-min", "-1", "--init-std", "0.1"], ["init_std is below", "allowed 0.368"]),
        ([*PPO, "clone", "--anchor-until", "0"], ["--anchor-until", "greater than 0"]),
        ([*DQN, "clone"], ["no network of dqn", "Discrete"]),
        ([*DQN, "clone", "--actions", "macro"], ["another shape", "absent"]),
        ([*PPO, "nobody"], ["no such run", "nobody"]),
    ],
)
def test_a_run_that_does_not_fit_is_one_line_and_nothing_left_behind(
    capsys: pytest.CaptureFixture[str], argv: list[str], words: list[str]
) -> None:
    assert main([*CLONE, "--name", "clone"]) == 0
    capsys.readouterr()
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    for word in words:
        assert word in said
    assert [path.name for path in Path("runs").iterdir()] == ["clone"]
