"""The command `drivetrain sweep`: what it takes, what it refuses, and one small search from beginning to end."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from drivetrain import sweep
from drivetrain.main import main
from drivetrain.options import parse
from drivetrain.output import Result
from drivetrain.sweep_report import default_of
from drivetrain.sweep_study import Study, read_record
from drivetrain.train import train_spec

BEGIN = ["sweep", "ppo", "CartPole-v1", "--name", "s", "--steps", "20000", "--eval-every", "5000"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of wandb's there
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def idle(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Studies are made and nobody works on them."""
    monkeypatch.setattr(sweep, "_run", lambda *args, **kwargs: Result({}))
    return here


def error_of(capsys: pytest.CaptureFixture[str], words: list[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_search_from_beginning_to_end(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*BEGIN, "--tune", "learning-rate,num-steps", "--trials", "2", "--seeds", "1", "--confirm", "0"]
    assert main([*words, "--workers", "2", "--track", "none", "--json"]) == 0
    shown = capsys.readouterr()
    values = json.loads(shown.out.splitlines()[-1])
    assert (values["status"], values["study"], values["objective"]) == ("done", "s", "score")
    assert values["trials"]["complete"] == 2
    assert set(values["params"]) == {"learning_rate", "num_steps"}
    assert values["value"] >= values["default"] > 0
    said = [line.split()[1] for line in shown.err.splitlines() if line.startswith("trial ")]
    assert sorted(said) == ["0", "1"]
    algo, env, *typed = shlex.split(values["command"])[2:]
    parse(train_spec(algo, env), typed)
    assert Path(values["report"]).read_text().startswith("# s: ppo on CartPole-v1")
    assert main(["runs", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert {"s-t000-s0", "s-t001-s0"} <= {row["run"] for row in rows}, "trials are runs"
    assert "s" not in {row["run"] for row in rows}, "the study is none"
    study = Study(Path("runs/s"), read_record(Path("runs/s")))
    (grid,) = {tuple(trial.intermediate_values) for trial in study.trials()}
    assert grid == (5000, 10000, 15000, 20000), "all trials are compared at the same steps"
    assert main(["sweep", "report", "s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["value"] == values["value"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--range", "gamma=0.9:0.99"],
            "the study s has another space; got --gamma 0.9:0.99; allowed --gamma 0.95:0.999",
        ),
        (["--tune", "gamma"], "the study s has another space"),
        (["--objective", "steps", "--stop-at", "400"], "the study s has another"),
        (["--seeds", "3"], "the study s has another number of seeds; got 3; allowed 2"),
        (["--clip-coef", "0.3"], "the study s has another setting; got --clip-coef 0.3; allowed --clip-coef left out"),
        (["--steps", "30000"], "got --steps 30000; allowed --steps 20000"),
    ],
)
def test_a_study_with_another_space_is_refused(
    idle: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(BEGIN) == 0
    line = error_of(capsys, [*BEGIN, *words])
    assert said in line
    assert line.endswith("give the options it was begun with, or choose another --name")


def test_another_environment_is_refused(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BEGIN) == 0
    line = error_of(capsys, [*BEGIN[:2], "Acrobot-v1", *BEGIN[3:]])
    assert "the study s has another environment; got Acrobot-v1; allowed CartPole-v1" in line


def test_the_same_command_goes_on_and_may_ask_for_more(idle: Path) -> None:
    assert main(BEGIN) == 0
    assert main([*BEGIN, "--trials", "50", "--workers", "7", "--retries", "3", "--threads", "2"]) == 0
    record = read_record(Path("runs/s"))
    assert (record.trials, record.retries) == (50, 3)
    assert "threads" not in record.fixed, "it belongs to this machine"


def test_options_of_train_hold_for_all_trials_and_are_not_tuned(idle: Path) -> None:
    assert main([*BEGIN, "--gamma", "0.98", "--no-norm-adv"]) == 0
    record = read_record(Path("runs/s"))
    assert record.fixed == {"steps": 20000, "eval_every": 5000, "gamma": 0.98, "norm_adv": False}
    assert "gamma" not in record.space


def test_ranges_come_from_a_file_and_the_command_line_wins(idle: Path) -> None:
    Path("space.toml").write_text(
        'gamma = "0.9:0.99"\nhidden = [[64, 64], [256, 256]]\nnorm-adv = [true, false]\n'
        "[learning-rate]\nlow = 1e-4\nhigh = 1e-2\nlog = true\n"
    )
    assert main([*BEGIN, "--space", "space.toml", "--range", "gamma=0.97:0.99", "--tune", "gamma"]) == 0
    assert read_record(Path("runs/s")).moved == ()
    space = read_record(Path("runs/s")).space
    assert {name: str(dimension) for name, dimension in space.items()} == {
        "gamma": "0.97:0.99",
        "hidden": "64x64/256x256",
        "norm_adv": "true/false",
        "learning_rate": "0.0001:0.01:log",
    }


def test_defaults_outside_of_the_space_are_moved_in_and_said_to_be(idle: Path) -> None:
    assert main([*BEGIN, "--range", "learning-rate=1e-5:1e-4:log", "--tune", "learning-rate,gamma"]) == 0
    record = read_record(Path("runs/s"))
    assert record.first["learning_rate"] == 1e-4
    assert record.moved == ("learning_rate",)
    study = Study(Path("runs/s"), record)
    study.begin()
    assert default_of(study) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep", "ppo", "CartPole-v1"], "the study needs a name"),
        (["sweep", "ppo", "CartPole-v1", "--name", "a b"], "unsuitable name of a study"),
        (["sweep", "ppo", "CartPole-v1", "--name", "expert"], "unsuitable name of a study"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--objective", "steps"], "needs a target; add --stop-at SCORE"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--eval-every", "none"], "compared by their validations"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--tune", "gama"], "did you mean gamma?"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--trails", "3"], "did you mean --trials?"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--init-from", "a.zip"], "begins with runs in runs/ only"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--track", "wandb"], "--track wandb needs a key"),
        (["sweep", "ppo", "CartPole-v1", "--name", "s", "--project", "a/b"], "--project: wandb refuses this name"),
        (["sweep", "join", "nothing"], "no such study"),
        (["sweep", "report", "nothing"], "no such study"),
        (["sweep", "report"], "STUDY is missing"),
        (["sweep"], "write `drivetrain sweep ppo racing --name STUDY [options]`"),
        (["sweep", "jion"], "did you mean `drivetrain sweep join STUDY`?"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(
    idle: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert said in error_of(capsys, words)
    assert not Path("runs").exists(), "nothing is left behind"


def test_a_name_in_use_is_refused(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/s").mkdir(parents=True)
    Path("runs/s/config.json").write_text("{}")
    assert "a run has this name" in error_of(capsys, BEGIN)
    Path("runs/s/config.json").rename("runs/s/other")
    assert "the folder exists and is no study" in error_of(capsys, BEGIN)
    Path("runs/r-t000-s0").mkdir()
    line = error_of(capsys, [*BEGIN[:3], "--name", "r"])
    assert "a trial of an earlier study has this name; got runs/r-t000-s0" in line


def test_a_damaged_study_is_named(idle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BEGIN) == 0
    file = Path("runs/s/study.json")
    file.write_text(file.read_text().replace('"ppo"', "3"))
    assert "study.json is damaged; got algo" in error_of(capsys, ["sweep", "join", "s"])


def test_without_optuna_the_line_that_installs_it_is_shown(
    idle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    line = error_of(capsys, BEGIN)
    assert "the package optuna is missing" in line
    assert "python -m pip install 'optuna>=5,<6'" in line


def test_help_shows_the_options_of_the_sweep_and_of_train(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        sweep.main(["dqn", "CartPole-v1", "--help"])
    text = capsys.readouterr().out
    assert "usage: drivetrain sweep dqn CartPole-v1" in text
    assert "The sweep:" in text
    for option in ("--trials N", "--tune", "--objective score|steps|seconds|processor", "--replay-ratio X"):
        assert option in text
