"""Run folders, their lock, and the files that grow in them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from drivetrain import rundir
from drivetrain.envs.errors import UserError
from drivetrain.journal import EvalFile, MetricsFile, read_metrics
from drivetrain.lock import RunLock, holder
from drivetrain.provenance import command_line
from drivetrain.rundir import check_new_name, create_run, find_run, known_runs, open_run, run_name


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rundir, "SHIPPED", tmp_path / "shipped")
    return tmp_path


def make(name: str) -> Path:
    run = create_run(name, "x")
    run.write_json("config.json", {"algo": "ppo"})
    run.close()
    return run.path


def refusal(name: str, typed: bool = True) -> str:
    with pytest.raises(UserError) as error:
        create_run(name, "x", typed)
    assert error.value.code == 2
    return str(error.value)


def test_a_plain_name_lies_in_runs_and_a_path_is_a_path(tmp_path: Path) -> None:
    assert create_run("fast", "x").path == Path("runs/fast")
    assert create_run("deep/down/fast", "x").path == Path("deep/down/fast")
    assert create_run(str(tmp_path / "abs" / "fast"), "x").path.is_dir()


def test_an_existing_run_is_refused_and_resume_is_named() -> None:
    make("fast")
    assert "drivetrain resume fast" in refusal("fast")
    with pytest.raises(UserError, match="exists already"):
        check_new_name("fast")


@pytest.mark.parametrize(
    "name", ["..", "../", ".", "", "a\0b", ".hidden", "-x", "expert", "random", "baselines", "a b", "x" * 200]
)
def test_unsuitable_names_are_refused(name: str, tmp_path: Path) -> None:
    refusal(name)
    assert not list(tmp_path.rglob("*.json"))


def test_a_home_folder_that_does_not_exist_is_refused() -> None:
    assert "no such home folder" in refusal("~nobody-of-this-name/fast")
    with pytest.raises(UserError, match="no such home folder"):
        find_run("~nobody-of-this-name/fast")


def test_a_name_from_a_file_is_never_a_path(tmp_path: Path) -> None:
    assert "cannot be a path" in refusal("../outside", typed=False)
    assert not (tmp_path.parent / "outside").exists()


def test_automatic_names_never_clash() -> None:
    paths = {create_run(None, "ppo-racing-1").path for _ in range(20)}
    assert len(paths) == 20
    assert all(path.name.startswith("ppo-racing-1-20") for path in paths)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert f"cannot write {Path('file/x')}" in refusal("file/x/run")
    assert sorted(os.listdir(tmp_path)) == ["file"]


def test_discarding_removes_the_folders_that_were_made_for_it(tmp_path: Path) -> None:
    run = create_run("new/deeper/run", "x")
    run.write_json("config.json", {})
    run.discard()
    assert os.listdir(tmp_path) == []


def test_runs_are_found_by_name_below_runs_then_baselines_then_shipped(tmp_path: Path) -> None:
    make("shipped/third")
    assert find_run("third") == tmp_path / "shipped" / "third"
    make("runs/baselines/third")
    assert find_run("third") == Path("runs/baselines/third")
    make("third")
    assert find_run("third") == Path("runs/third")
    assert known_runs()["third"] == Path("runs/third")
    assert run_name(Path("runs/third")) == "third"
    assert run_name(Path("runs/baselines/third")) == "runs/baselines/third"  # the plain name is another run


def test_a_run_that_does_not_exist_names_the_nearest() -> None:
    make("racing-fast")
    with pytest.raises(UserError, match="did you mean racing-fast") as error:
        find_run("racing-fats")
    assert error.value.code == 2
    Path("empty").mkdir()
    with pytest.raises(UserError, match="no run folder"):
        find_run("./empty")


def test_a_second_trainer_is_told_who_holds_the_run() -> None:
    make("fast")
    first = open_run("fast")
    assert holder(first.path) == f"process {os.getpid()} on {os.uname().nodename}"
    with pytest.raises(UserError, match=f"process {os.getpid()}") as error:
        open_run("fast")
    assert error.value.code == 7
    first.close()
    assert holder(first.path) is None
    open_run("fast").close()
    assert not (first.path / "lock").exists()


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    code = "import sys, time; from pathlib import Path; from drivetrain.lock import RunLock\n"
    code += "RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match=f"process {child.pid}"):
        RunLock(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    began = time.monotonic()
    RunLock(tmp_path).release()
    assert time.monotonic() - began < 1


def test_a_reader_never_sees_half_a_json_file(tmp_path: Path) -> None:
    run = create_run("fast", "x")
    run.write_json("result.json", {"score": float("nan"), "big": 2**60})
    assert json.loads((run.path / "result.json").read_text()) == {"score": None, "big": str(2**60)}
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_records_are_numbered_and_what_is_not_finite_is_null(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.jsonl")
    file.append(10, 20, 0.5, {"loss/policy": float("nan"), "train/return": 1 / 3})
    file.append(20, 40, 1.0, {})
    file.close()
    first, second = read_metrics(tmp_path / "m.jsonl")
    assert first == {"seq": 1, "step": 10, "frames": 20, "seconds": 0.5, "loss/policy": None, "train/return": 0.3333333}
    assert second["seq"] == 2


def test_an_unfinished_line_is_cut_off_and_numbering_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"seq": 1, "step": 5}\n{"seq": 2, "st')
    file = MetricsFile(path)
    file.append(6, 6, 0.1, {})
    file.close()
    assert [(r["seq"], r["step"]) for r in read_metrics(path)] == [(1, 5), (2, 6)]


def test_a_file_without_a_single_whole_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"x" * 200_000)
    MetricsFile(path).close()
    assert path.read_bytes() == b""


def test_records_after_the_checkpoint_move_to_a_side_file(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("".join(f'{{"seq": {n}, "step": {n}}}\n' for n in range(1, 6)))
    file = MetricsFile(path, keep_seq=3)
    file.append(4, 4, 1.0, {"train/return": 7.0})
    file.close()
    assert [r["seq"] for r in read_metrics(path)] == [1, 2, 3, 4]
    assert [r["seq"] for r in read_metrics(path.with_name("m.jsonl.superseded"))] == [4, 5]


def test_lines_wait_while_the_disk_is_full_and_none_is_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.jsonl"
    file = MetricsFile(path)
    file.append(1, 1, 0.1, {})
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2])  # a torn line, then nothing more

    monkeypatch.setattr(os, "write", full)
    file.append(2, 2, 0.2, {})
    assert file.is_behind
    with pytest.raises(OSError, match="No space"):
        file._file.flush()
    monkeypatch.undo()
    file.append(3, 3, 0.3, {})
    file.close()
    assert [r["step"] for r in read_metrics(path)] == [1, 2, 3]


def test_a_kill_while_appending_loses_at_most_the_last_record(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    code = "import sys; from pathlib import Path; from drivetrain.journal import MetricsFile\n"
    code += "file = MetricsFile(Path(sys.argv[1]))\n"
    code += "for n in range(10**9): file.append(n, n, 0.0, {'train/return': 1.0}); print(n, flush=True)"
    child = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(500):
        child.stdout.readline()
    child.kill()
    said = child.stdout.read().split()  # what it had said by the time it died
    child.wait()
    child.stdout.close()
    records = read_metrics(path)
    assert len(records) >= 500 + len(said) - 1
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))


def test_validation_episodes_are_rows_and_later_ones_are_dropped_on_resume(tmp_path: Path) -> None:
    path = tmp_path / "eval.csv"
    file = EvalFile(path)
    file.append(100, "validation", [(7, 1.5, 50), (8, 2.0, 60)])
    file.append(200, "validation", [(7, 3.0, 50)])
    file.close()
    EvalFile(path, keep_step=100).close()
    assert path.read_text() == "step,set,seed,score,frames\n100,validation,7,1.500,50\n100,validation,8,2.000,60\n"


def test_a_recorded_command_holds_no_absolute_path(tmp_path: Path) -> None:
    argv = [
        "train",
        "ppo",
        "racing",
        "--name",
        str(tmp_path / "runs" / "a"),
        "--config=/etc/secret/c.toml",
        "--steps",
        "5",
    ]
    assert command_line(argv) == "drivetrain train ppo racing --name runs/a --config=c.toml --steps 5"
