"""`pretrain`: the folder that it leaves, what others make of it, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drivetrain.main import main
from drivetrain.rundir import read_json

SMALL = ["--num-envs", "4", "--num-steps", "8", "--num-updates", "2", "--batch-size", "16", "--num-tracks", "2"]
KEYS = {"run", "status", "steps", "frames", "seconds", "eval_seconds", "wall_seconds", "steps_per_s", "score"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds, from pictures."""
    path = tmp_path_factory.mktemp("pretrain") / "taught"
    size = ["--channels", "4,4,4", "--hidden", "16"]
    argv = ["pretrain", "imitate", "--obs", "pixels", *SMALL, *size, "--steps", "64", "--eval-every", "none"]
    assert main([*argv, "--name", str(path)]) == 0
    return path


def test_the_folder_says_what_it_is_and_holds_a_driver(run: Path) -> None:
    config = read_json(run / "config.json")
    assert (config["algo"], config["env"], config["obs"], config["teacher"]) == (
        "imitate",
        "racing",
        "pixels",
        "expert",
    )
    assert config["indicators"] == "random"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [32, 64]
    from drivetrain.agents.metrics import METRICS

    assert set(lines[-1]) - {"seq", "step", "frames", "seconds"} <= set(METRICS)
    assert set(read_json(run / "result.json")) >= KEYS


def test_others_can_score_it_and_learn_from_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 2
    size = ["--channels", "4,4,4", "--hidden", "16", "--init-from", str(run), "--eval-every", "none"]
    argv = ["pretrain", "imitate", "--obs", "pixels", *SMALL, *size, "--steps", "32", "--name", str(tmp_path / "on")]
    assert main(argv) == 0


def test_a_run_teaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["pretrain", "imitate", "--teacher", "racing-ppo-state", *SMALL, "--steps", "32", "--eval-every", "none"]
    assert main([*argv, "--name", str(tmp_path / "by-run"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(result) >= KEYS and result["status"] == "done" and result["score"] is None


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "TASK comes first"),
        (["imitat"], "did you mean imitate"),
        (["imitate", "--teacher", "nobody"], "no such run"),
        (["imitate", "--teacher", "racing-ppo-pixels"], "this teacher sees pictures"),
        (["imitate", "--teacher", "racing-ppo-state", "--v-max", "80"], "--v-max is of no use with --teacher"),
        (["imitate", "--crop"], "--crop is of no use with --obs state"),
        (["imitate", "--brake-max", "2"], "--brake-max"),
        (["imitate", "--steps", "1e12"], "out of memory"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    argv: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", *argv]) == (8 if "memory" in said else 2)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and said in error
    assert not list(tmp_path.iterdir())


def test_the_help_says_which_teacher_can_be_seen_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["pretrain", "imitate", "--help"])
    page = " ".join(capsys.readouterr().out.split())
    assert "a teacher of pictures must be one that can be seen through" in page.lower()
    assert "--brake-max X of the expert" in page.replace("  ", " ")
