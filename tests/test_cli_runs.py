"""What `drivetrain runs` tells of runs, and which of them it may delete."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.agents.checkpoint import save_checkpoint
from drivetrain.lock import RunLock
from drivetrain.main import main
from drivetrain.options import parse
from drivetrain.progress import spark
from drivetrain.rundir import known_runs
from drivetrain.runs_list import SPEC
from drivetrain.runs_rows import RunRow, bytes_of, describe_run
from drivetrain.wandb_rows import final_seq

DAY = 86_400


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drivetrain.rundir.SHIPPED", tmp_path / "shipped" / "baselines")
    return tmp_path


def make(
    name: str,
    result: dict[str, Any] | None = None,
    records: tuple[dict[str, Any], ...] = (),
    age: float = 0.0,
    place: str = "runs",
    **config: Any,
) -> Path:
    """A run folder; age in s."""
    path = Path(place, name)
    path.mkdir(parents=True)
    settings = {"algo": "ppo", "env": "racing", "obs": "state", "actions": "pedals", "seed": 1, "steps": 1000}
    (path / "config.json").write_text(json.dumps(settings | config))
    if result is not None:
        (path / "result.json").write_text(json.dumps(result))
    if records:
        (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    for file in path.iterdir():
        os.utime(file, (time.time() - age,) * 2)
    return path


def done(score: float | None, steps: int = 1000, status: str = "done") -> dict[str, Any]:
    return {"status": status, "steps": steps, "score": score}


def scored(step: int, mean: float | None) -> dict[str, Any]:
    return {"seq": step, "step": step} | ({} if mean is None else {"eval/mean": mean})


def store(path: Path, step: int, score: float | None) -> None:
    save_checkpoint(path / "checkpoints", step, {"a": torch.ones(9)}, {"b": torch.ones(99)}, {}, {}, score)


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["runs", *argv])
    out, err = capsys.readouterr()
    return code, out, err


def names(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    code, out, _ = told(capsys, *argv, "--json")
    assert code == 0
    return [row["run"] for row in json.loads(out.splitlines()[-1])["runs"]]


def row(path: Path) -> RunRow:
    return describe_run(path.name, path)


# ---- how a run stands ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["done", "reached", "interrupted", "diverged", "failed"])
def test_a_run_that_ended_stands_as_it_ended(status: str) -> None:
    path = make("a", done(5.0, status=status), (scored(1000, 5.0),))
    assert (row(path).status, row(path).score, row(path).steps) == (status, 5.0, 1000)


def test_a_run_is_running_while_its_lock_is_held_and_interrupted_once_its_process_is_gone() -> None:
    path = make("a", None, (scored(100, 3.0), scored(200, None)))
    with RunLock(path):
        assert row(path).status == "running"
    assert (row(path).status, row(path).steps, row(path).score) == ("interrupted", 200, 3.0)


def test_the_result_of_an_earlier_training_does_not_hide_that_a_later_one_died() -> None:
    path = make("a", done(5.0, steps=100), (scored(100, 5.0), scored(200, 6.0)))
    assert (row(path).status, row(path).score, row(path).steps) == ("interrupted", 6.0, 200)


def test_a_run_that_went_back_to_an_older_checkpoint_and_died_is_interrupted() -> None:
    path = make("a", done(5.0, steps=300), (scored(100, 4.0),))
    assert (row(path).status, row(path).score) == ("interrupted", 4.0)


def test_a_run_saved_from_python_is_done() -> None:
    path = make("a")
    store(path, 500, None)
    assert (row(path).status, row(path).steps, row(path).best) == ("done", 500, None)


def test_the_best_score_is_that_of_the_best_checkpoint_and_the_last_that_of_the_last_validation() -> None:
    path = make("a", done(7.0), (scored(500, 9.0), scored(1000, 7.0)))
    store(path, 500, 9.0)
    store(path, 1000, 7.0)
    assert (row(path).best, row(path).score) == (9.0, 7.0)


def test_a_validation_is_found_however_far_from_the_end_of_the_records() -> None:
    filling = {"train/words": "x" * 200}
    for at in range(5):
        path = make(f"a{at}", None, (scored(1, 12.5), *(scored(step, None) | filling for step in range(2, 3000 + at))))
        assert (row(path).score, row(path).steps) == (12.5, 2999 + at)


def test_a_record_that_is_being_written_counts_as_nothing() -> None:
    path = make("a", None, (scored(100, 3.0),))
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"seq": 2, "step": 200, "eval/mean": 9')
    assert (row(path).steps, row(path).score) == (100, 3.0)


def test_damaged_files_leave_gaps() -> None:
    path = make("a")
    for name in ("config.json", "result.json", "metrics.jsonl"):
        (path / name).write_bytes(b"\xff{")
    (path / "checkpoints" / "step_000000000100").mkdir(parents=True)
    (path / "checkpoints" / "step_000000000100" / "manifest.json").write_text("[]")
    found = row(path)
    assert (found.status, found.algo, found.best, found.steps, found.seed) == ("interrupted", None, None, 0, None)


def test_the_size_is_that_of_all_files_and_follows_no_link(tmp_path: Path) -> None:
    path = make("a")
    before = row(path).size_bytes
    (path / "deep").mkdir()
    (path / "deep" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "elsewhere").write_bytes(b"x" * 5000)
    (path / "link").symlink_to(tmp_path / "elsewhere")
    assert row(path).size_bytes == before + 1000


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (1_234_567, "1.2 MB"), (5 * 10**9, "5.0 GB")],
)
def test_sizes_are_written_for_people(size: int, words: str) -> None:
    assert bytes_of(size) == words


# ---- the list ------------------------------------------------------------------------------------------------------


def several() -> None:
    make("ppo-new", done(900.0), age=10, seed=2, group="g")
    make("ppo-old", done(950.0, steps=500), age=40 * DAY)
    make("dqn", done(800.0, steps=2000), age=5 * DAY, algo="dqn")
    make("cart", done(500.0), age=2 * DAY, env="CartPole-v1", obs=None)
    make("sine", done(0.01), age=3 * DAY, algo="function", env="sin(x)", obs=None)
    make("sine-worse", done(0.5), age=4 * DAY, algo="function", env="sin(x)", obs=None)
    make("dead", None, (scored(10, 1.0),), age=20 * DAY)


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["--name", "ppo-*"], ["ppo-new", "ppo-old"]),
        (["--name", "dqn,cart"], ["cart", "dqn"]),
        (["--algo", "dqn"], ["dqn"]),
        (["--env", "Cart*"], ["cart"]),
        (["--status", "interrupted"], ["dead"]),
        (["--group", "g"], ["ppo-new"]),
        (["--seed", "2"], ["ppo-new"]),
        (["--min-score", "850"], ["ppo-new", "ppo-old"]),
        (["--max-score", "0.1"], ["sine"]),
        (["--older-than", "10d"], ["dead", "ppo-old"]),
        (["--newer-than", "60h"], ["ppo-new", "cart"]),
        (["--algo", "ppo", "--env", "racing", "--status", "done"], ["ppo-new", "ppo-old"]),
        (["--limit", "2"], ["ppo-new", "cart"]),
        (["list", "--limit", "1"], ["ppo-new"]),
    ],
)
def test_a_filter_leaves_the_runs_for_which_all_of_it_holds(
    argv: list[str], found: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    several()
    assert names(capsys, *argv) == found


@pytest.mark.parametrize(
    ("column", "first"),
    [
        ("age", ["ppo-new", "cart"]),
        ("name", ["cart", "dead"]),
        ("steps", ["dqn"]),
        ("algo", ["dqn", "sine", "sine-worse"]),
        ("env", ["cart"]),
        ("status", ["cart", "dqn", "ppo-new"]),
        ("group", ["ppo-new"]),
    ],
)
def test_rows_are_in_the_order_of_a_column(column: str, first: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    several()
    assert names(capsys, "--sort", column)[: len(first)] == first
    last = {"status": "dead", "group": "sine-worse"}.get(column)
    assert last is None or names(capsys, "--sort", column)[-1] == last


def test_scores_are_ordered_within_an_environment_and_errors_the_other_way_round(
    capsys: pytest.CaptureFixture[str],
) -> None:
    several()
    order = ["cart", "ppo-old", "ppo-new", "dqn", "dead", "sine", "sine-worse"]
    assert names(capsys, "--sort", "score") == order
    assert names(capsys, "--sort", "last") == order
    assert names(capsys, "--sort", "score", "--env", "racing", "--reverse") == ["dead", "dqn", "ppo-new", "ppo-old"]


def test_a_row_holds_what_there_is_to_know(capsys: pytest.CaptureFixture[str]) -> None:
    make("a", done(900.0, steps=400, status="interrupted"), age=3700, group="night")
    code, out, _ = told(capsys)
    assert code == 0
    words = out.splitlines()[1].split()
    assert words[:9] == ["a", "interrupted", "900.0", "900.0", "400", "of", "1k", "1", "h"]
    assert words[-6:] == ["ppo", "racing", "state,", "pedals", "1", "night"]
    ((found,),) = (json.loads(told(capsys, "--json")[1])["runs"],)
    assert (found["total_steps"], found["seed"], found["group"], found["status"]) == (1000, 1, "night", "interrupted")


def test_a_name_in_brackets_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    make("a", done(0.5), algo="function", env="[red]x[/red]", obs=None)
    assert "[red]x[/red]" in told(capsys)[1]


def test_a_filter_without_a_match_says_how_many_runs_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    several()
    assert "none of the 7 runs is like that" in told(capsys, "--name", "nothing")[1]


def test_rows_left_out_by_the_limit_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    several()
    assert told(capsys, "--limit", "3")[1].splitlines()[-1] == "4 more; --limit 7 shows all"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--status", "runing"], "--status does not know this value; got runing; allowed running"),
        (["--status", "runing"], "did you mean running?"),
        (["--algo", "pop"], "--algo does not know this value; got pop"),
        (["--sort", "nmae"], "--sort does not know this value; got nmae"),
        (["--older-than", "3 days"], "--older-than is no length of time; got 3 days; allowed a number and a unit"),
        (["--newer-than", "-1h"], "--newer-than is no length of time"),
        (["--min-score", "high"], "--min-score must be a number"),
        (["--limit", "0"], "--limit"),
        (["shwo"], "runs does not know this word; got shwo; allowed list, show, prune, board, sync; did you mean"),
        (["show"], "RUN is missing"),
        (["show", "nobody"], "no such run; got nobody"),
        (["prune"], "nothing says which runs are to go; got nothing; name runs"),
        (["prune", "nobody"], "no such run; got nobody"),
        (["prune", "--status", "dnoe"], "--status does not know this value; got dnoe"),
        (["prune", "--keep", "-1"], "--keep"),
        (["board", "nobody"], "no such run; got nobody"),
    ],
)
def test_bad_input_is_one_line(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = told(capsys, *argv)
    assert (code, len(err.splitlines())) == (2, 1)
    assert err.startswith("error: ")
    assert words in err


# ---- one run in full -----------------------------------------------------------------------------------------------


def test_a_run_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    records = tuple(
        scored(step, float(step)) | {"train/return": float(step), "seconds": step / 10} for step in (100, 200)
    )
    path = make("a", done(200.0, steps=200) | {"frames": 400, "eval_seconds": 2.0}, records, gamma=0.5, track="none")
    (path / "code.json").write_text(
        json.dumps(
            {"command": "drivetrain train ppo racing --gamma 0.5", "commit": "0123456789abcdef", "device": "cpu"}
        )
    )
    store(path, 100, 100.0)
    store(path, 200, 200.0)
    (path / "checkpoints" / "step_000000000100" / "model.safetensors").write_bytes(b"x")
    (path / "videos").mkdir()
    (path / "videos" / "step_000000000100.mp4").write_bytes(b"")
    (path / "wandb").mkdir()
    tally = {"seq": 1, "files": [], "best": -1, "latest": -1, "status": ""}
    (path / "wandb" / "mirrored.json").write_text(json.dumps({"id": "abc123", "online": tally, "offline": tally}))
    code, out, _ = told(capsys, "show", "a")
    assert code == 0
    for words in (
        "best 200.0, last 200.0",
        "200 of 1,000, frames 400",
        "training 20.0 s, validation 2.0 s, 10 steps/s",
        "0.5   (usual: 0.985)",
        "drivetrain train ppo racing --gamma 0.5",
        "0123456789ab",
        "run abc123, 1 of 2 records online",
        "drivetrain runs sync a",
        "videos/step_000000000100.mp4",
        "▁█",
        "valid, best",
        "damaged",
        "drivetrain evaluate a",
    ):
        assert words in out, words
    assert "--track" not in out, "what changes nothing that is learned is no difference"


def test_what_is_shown_of_a_run_is_there_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    path = make("a", done(2.0), (scored(500, 1.0), scored(1000, 2.0)), gamma=0.5)
    store(path, 1000, 2.0)
    code, out, _ = told(capsys, "show", "a", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["changed"]["gamma"] == {"value": 0.5, "usual": 0.985}
    assert [(c["step"], c["score"], c["state"], c["best"]) for c in found["checkpoints"]] == [
        (1000, 2.0, "valid", True)
    ]
    assert [(v["step"], v["mean"]) for v in found["validations"]] == [(500, 1.0), (1000, 2.0)]
    assert (found["tracking"], found["status"], found["env"]) == (None, "done", "racing")
    assert found["next"][0] == "drivetrain watch a"


def test_all_settings_are_shown_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    make("a", done(2.0), num_envs=512)
    assert "--num-envs" not in told(capsys, "show", "a")[1]
    assert "--num-envs" in told(capsys, "show", "a", "--all")[1]


@pytest.mark.parametrize(
    ("status", "algo", "command"),
    [
        ("interrupted", "ppo", "drivetrain resume a"),
        ("failed", "dqn", "drivetrain resume a"),
        ("interrupted", "imitate", "drivetrain watch a"),
        ("done", "ppo", "drivetrain watch a"),
        ("done", "function", "drivetrain runs board a"),
    ],
)
def test_the_next_command_is_one_that_works(
    status: str, algo: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make("a", done(1.0, status=status), algo=algo, env="sin(x)" if algo == "function" else "racing")
    assert json.loads(told(capsys, "show", "a", "--json")[1])["next"][0] == command


@pytest.mark.parametrize("algo", ["function", "sequence", "classify"])
def test_a_supervised_run_is_shown_with_its_loss_and_its_score(algo: str, capsys: pytest.CaptureFixture[str]) -> None:
    records = tuple({"seq": n, "step": n, "seconds": float(n), "loss/validation": 10.0 ** (-n)} for n in range(1, 9))
    make("a", done(0.012, steps=8), records, algo=algo, env="sin(x)", obs=None, actions=None, learning_rate=0.5)
    code, out, _ = told(capsys, "show", "a")
    assert code == 0
    assert "best 0.012, last 0.012" in out
    assert "loss/validation, logarithmic" in out
    assert "█▇▆▅▄▃▂▁" in out
    assert "--learning-rate" in out
    assert f"drivetrain pretrain {algo} --config runs/a/config.json" in out


def test_a_damaged_config_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    path = make("a")
    (path / "config.json").write_text("{")
    code, _, err = told(capsys, "show", "a")
    assert (code, err.count("\n")) == (2, 1)
    assert "config.json is damaged" in err


def test_a_curve_is_a_line_of_means() -> None:
    assert spark([0.0, 7.0], 60) == "▁█"
    assert spark([0, 0, 1, 1, 7, 7], 3) == "▁▂█"
    assert spark([3.0, 3.0], 5) == "▁▁"
    assert spark([], 5) == ""
    assert len(spark(list(np.arange(1000.0)), 60)) == 60


# ---- making room ---------------------------------------------------------------------------------------------------


def left() -> set[str]:
    return set(known_runs())


def test_prune_deletes_what_the_filter_chooses_but_for_the_best_of_each_kind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    several()
    code, out, _ = told(capsys, "prune", "--older-than", "4h", "--yes", "--json")
    values = json.loads(out.splitlines()[-1])
    assert code == 0
    assert left() == {"ppo-new", "ppo-old", "dqn", "cart", "sine"}
    assert set(values["deleted"]) == {"dead", "sine-worse"}
    assert set(values["spared"]) == {"ppo-old", "dqn", "cart", "sine"}
    assert values["freed_bytes"] > 0
    assert [path.name for path in Path("runs").iterdir() if path.name.startswith(".")] == []


def test_what_is_told_to_go_is_what_goes(capsys: pytest.CaptureFixture[str]) -> None:
    several()
    size = row(Path("runs/dead")).size_bytes + row(Path("runs/sine-worse")).size_bytes
    code, out, err = told(capsys, "prune", "--older-than", "4h", "--json")
    assert code == 2
    assert set(json.loads(out)["would_delete"]) == {"dead", "sine-worse"}
    assert f"got delete 2 runs, {bytes_of(size)}; add --yes" in err
    assert len(left()) == 7


def test_without_a_terminal_and_without_yes_nothing_is_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    several()
    code, out, err = told(capsys, "prune", "dead")
    assert code == 2
    assert err.startswith("error: nothing was deleted, because nobody is there to be asked; got delete 1 run, ")
    assert "dead" in out, "it lists what would go"
    assert "dead" in left()


@pytest.mark.parametrize(("answer", "goes"), [("y", True), ("Yes", True), ("n", False), ("", False), ("maybe", False)])
def test_on_a_terminal_it_asks(
    answer: str, goes: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    several()
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: (asked.append(question), answer)[1])
    code, _, _ = told(capsys, "prune", "dead")
    assert code == 0
    assert ("dead" not in left()) is goes
    assert asked[0].startswith("delete 1 run, ")


WORK = pytest.mark.parametrize(("folder", "doing"), [(".", "being trained"), ("wandb", "being sent to wandb")])


def at_work(run: Path, folder: str) -> RunLock:
    """Somebody is at work in a folder of a run."""
    (run / folder).mkdir(exist_ok=True)
    return RunLock(run / folder)


@WORK
def test_a_run_in_use_that_is_named_is_refused(folder: str, doing: str, capsys: pytest.CaptureFixture[str]) -> None:
    with at_work(make("a", None, (scored(10, 1.0),)), folder):
        code, _, err = told(capsys, "prune", "a", "--yes")
        assert (code, err.count("\n")) == (7, 1)
        assert err.startswith(f"error: the run a is {doing} and is not pruned; got process ")
    assert left() == {"a"}


@WORK
def test_a_run_in_use_that_a_filter_chooses_stays(folder: str, doing: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = make("a", None, (scored(10, None),))
    make("b", None, (scored(10, None),))
    with at_work(path, folder):
        code, out, _ = told(capsys, "prune", "--name", "*", "--yes")
    assert (code, left()) == (0, {"a"})
    assert f"a stays: it is {doing}" in out


@WORK
def test_a_run_that_begins_while_the_question_is_asked_stays(
    folder: str, doing: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make("a", None, (scored(10, None),))
    locks: list[RunLock] = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: (locks.append(at_work(path, folder)), "y")[1])
    code, out, _ = told(capsys, "prune", "a")
    assert (code, left()) == (0, {"a"})
    assert f"a stays: it is {doing} by now" in out
    locks[0].release()


@pytest.mark.parametrize(("name", "kind"), [("ppo-old", "ppo racing state"), ("sine", "function sin(x)")])
def test_the_best_run_of_its_kind_that_is_named_is_refused(
    name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    several()
    code, _, err = told(capsys, "prune", name, "--yes")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"error: the best run of {kind} is not pruned; got {name}, score ")
    assert name in left()


def test_of_equally_good_runs_the_newer_stays(capsys: pytest.CaptureFixture[str]) -> None:
    make("old", done(500.0), age=DAY)
    make("new", done(500.0))
    told(capsys, "prune", "--name", "*", "--yes")
    assert left() == {"new"}


def test_another_kind_of_observation_is_another_kind(capsys: pytest.CaptureFixture[str]) -> None:
    make("state", done(930.0))
    make("pixels", done(900.0), obs="pixels")
    make("pixels-worse", done(800.0), obs="pixels")
    told(capsys, "prune", "--name", "*", "--yes")
    assert left() == {"state", "pixels"}


def test_keep_spares_the_newest_of_each_environment_and_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(5):
        make(f"p{number}", None, age=number * 60)
        make(f"d{number}", None, age=number * 60, algo="dqn")
    told(capsys, "prune", "--keep", "2", "--yes")
    assert left() == {"p0", "p1", "d0", "d1"}


def test_drivers_that_came_with_the_package_stay(capsys: pytest.CaptureFixture[str]) -> None:
    make("good", done(900.0), place="runs/baselines", age=99 * DAY)
    make("mine", None, age=99 * DAY)
    code, _, err = told(capsys, "prune", "good", "--yes")
    assert code == 2
    assert "drivers that came with the package are not pruned; got good" in err
    told(capsys, "prune", "--older-than", "30d", "--yes")
    assert left() == {"good"}


def test_a_shipped_driver_does_not_make_ones_own_best_expendable(capsys: pytest.CaptureFixture[str]) -> None:
    make("good", done(935.0), place="runs/baselines")
    make("mine", done(900.0))
    told(capsys, "prune", "--name", "mine", "--yes")
    assert left() == {"good", "mine"}


def test_what_a_killed_prune_left_is_not_listed_and_swept_by_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    rest = make(".deleted_a_123")
    make("b", None)
    assert left() == {"b"}
    told(capsys, "prune", "--name", "b", "--yes")
    assert (rest.exists(), left()) == (False, set())


def test_a_folder_that_cannot_be_moved_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a", None)
    rename: Callable[..., None] = os.rename

    def refuse(source: Any, target: Any) -> None:
        if ".deleted_" in str(target):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr("os.rename", refuse)
    code, _, err = told(capsys, "prune", "a", "--yes")
    assert (code, err.count("\n")) == (6, 1)
    assert "cannot delete runs/a; got Permission denied" in err
    assert not (Path("runs/a") / "lock").exists(), "its lock is given back"


def test_thinning_leaves_the_best_and_the_newest_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    path = make("a", done(3.0))
    for step, score in ((100, 1.0), (200, 9.0), (300, 5.0), (400, 3.0)):
        store(path, step, score)
    code, out, err = told(capsys, "prune", "a", "--checkpoints")
    assert code == 2
    assert out.startswith("a: 2 checkpoints, ")
    assert {"step_000000000100", "step_000000000300"} <= set(out.replace(",", " ").split())
    assert "delete 2 checkpoints" in err
    code, out, _ = told(capsys, "prune", "a", "--checkpoints", "--yes", "--json")
    assert code == 0
    assert {Path(name).name for name in json.loads(out)["deleted"]} == {"step_000000000100", "step_000000000300"}
    assert {p.name for p in (path / "checkpoints").iterdir()} == {"step_000000000200", "step_000000000400"}
    assert left() == {"a"}


def test_nothing_is_thinned_where_the_newest_checkpoint_is_damaged(capsys: pytest.CaptureFixture[str]) -> None:
    path = make("a", done(3.0))
    for step in (100, 200, 300):
        store(path, step, 1.0)
    (path / "checkpoints" / "step_000000000300" / "model.safetensors").write_bytes(b"x")
    assert "no checkpoint is to go" in told(capsys, "prune", "a", "--checkpoints", "--yes")[1]
    assert len(list((path / "checkpoints").iterdir())) == 3


# ---- runs without a driver -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["function", "sequence", "classify"])
def test_a_supervised_run_cannot_be_resumed_and_says_how_to_train_again(
    algo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make("a", done(0.1), algo=algo, env="sin(x)")
    assert main(["resume", "a"]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"error: a run that learned from examples cannot be resumed; got a, {algo}; "
        f"train again: drivetrain pretrain {algo} --config runs/a/config.json\n"
    )
    assert not Path("runs/a/lock").exists()


@pytest.mark.parametrize("verb", ["watch", "evaluate", "record"])
def test_nothing_drives_in_a_supervised_run(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    path = make("a", done(0.1), algo="function", env="sin(x)")
    (path / "function.png").write_bytes(b"")
    assert main([verb, "a", *(["--out", "a.mp4"] if verb == "record" else [])]) == 2
    assert capsys.readouterr().err == (
        "error: nothing drives in a run that learned from examples; got a, function; "
        "look at its pictures: runs/a/function.png\n"
    )


def test_the_list_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, drivetrain.runs_list, drivetrain.runs_rows; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert parse(SPEC, []).options.sort == "age"


def test_a_link_to_the_best_run_does_not_pass_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    good = make("good", done(900))
    make("other", done(100))
    Path("runs/also").symlink_to(good.resolve())  # the name that comes first in the list
    code, out, _ = told(capsys, "prune", "--name", "*", "--yes", "--json")
    assert code == 0 and json.loads(out)["deleted"] == ["other"]
    assert (good / "config.json").exists()


def test_pruning_a_link_leaves_what_it_leads_to_and_frees_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    make("good", done(900))
    target = make("far", done(1), place="elsewhere")
    Path("runs/link").symlink_to(target.resolve())
    code, out, _ = told(capsys, "prune", "link", "--yes", "--json")
    told_of = json.loads(out)
    assert (code, told_of["deleted"], told_of["freed_bytes"]) == (0, ["link"], 0)
    assert sorted(os.listdir("runs")) == ["good"]
    assert sorted(os.listdir(target)) == ["config.json", "result.json"]


def test_a_run_named_in_two_ways_is_pruned_once(capsys: pytest.CaptureFixture[str]) -> None:
    make("good", done(900))
    make("bad", done(1))
    code, out, _ = told(capsys, "prune", "bad", "./runs/bad", "--yes", "--json")
    assert code == 0 and json.loads(out)["deleted"] == ["bad"]


def test_records_with_numbers_that_are_none_are_shown_with_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    path = make("odd", done(5))
    line = '{"seq": 1, "step": 7, "eval/mean": NaN, "eval/min": "x", "eval/p10": null}'
    (path / "metrics.jsonl").write_text(line + "\n")
    code, out, err = told(capsys, "show", "odd")
    assert (code, err) == (0, "")
    assert "validations" in out


def test_next_commands_can_be_pasted_whatever_the_path_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    make("r", done(5), place="a b")
    _, out, _ = told(capsys, "show", "a b/r", "--json")
    assert "drivetrain watch 'a b/r'" in json.loads(out)["next"]


def test_a_terminal_without_our_letters_gets_others(here: Path) -> None:
    make("r", env="Ümwelt")
    command = [sys.executable, "-m", "drivetrain", "runs"]
    done = subprocess.run(command, env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, cwd=here)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?mwelt" in done.stdout


def test_damaged_words_in_result_and_code_leave_gaps(capsys: pytest.CaptureFixture[str]) -> None:
    path = make("odd", {"status": "done", "steps": None, "frames": "zz", "eval_seconds": "a", "seconds": 2})
    (path / "code.json").write_text('{"versions": [1], "commit": 5, "command": 7}')
    (path / "metrics.jsonl").write_text('{"seq": 1, "step": 7, "seconds": "x"}\n')
    code, out, err = told(capsys, "show", "odd")
    assert (code, err) == (0, "")
    assert "code" in out
    assert final_seq(path) == (0, "")
