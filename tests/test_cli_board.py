"""What people see: progress, the mirror of a run, the list of runs, the doctor."""

from __future__ import annotations

import errno
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import drivetrain
from drivetrain import doctor, progress, rundir, usage
from drivetrain.clock import process_seconds
from drivetrain.live import LiveBoard, sparkline
from drivetrain.main import main
from drivetrain.progress import BLOCKS as SPARKS
from drivetrain.progress import PlainLines, Snapshot, make_progress
from drivetrain.rundir import create_run
from drivetrain.trackers import LocalMirror

METRICS = {"train/return": 512.34, "loss/policy": -0.01, "loss/value": 0.2, "loss/entropy": 1.5}
SNAPSHOT = Snapshot(1_000_000, 4_000_000, 10.0, METRICS, {"eval/mean": 830.06, "eval/min": 400.0}, 844.44)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rundir, "SHIPPED", tmp_path / "shipped")


def test_a_snapshot_knows_its_rate_and_the_time_left() -> None:
    assert SNAPSHOT.steps_per_s == 100_000
    assert SNAPSHOT.seconds_left == 30  # 3,000,000 steps at 100,000 a second
    assert Snapshot(0, 10, 0.0).seconds_left is None
    assert Snapshot(12, 10, 1.0).seconds_left == 0  # the last update may go beyond the plan


def test_without_a_terminal_a_plain_line_comes_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = make_progress("ppo on racing")
    assert isinstance(lines, PlainLines)
    for second in (100.0, 101.0, 104.9, 105.0):
        now[0] = second
        lines.show(SNAPSHOT)
    lines.note("a note")
    lines.close()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ppo on racing"
    assert said[1] == said[2]
    assert said[1].split("  ")[-1] == "left 30 s"
    for word in ("1,000,000 steps", "100,000 steps/s", "512.3", "validation 830.1"):
        assert word in said[1]
    assert said[3:] == ["a note"]


def test_the_lines_of_a_long_run_come_less_often(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = make_progress("ppo on racing")
    for second in range(8 * 3600):
        now[0] = float(second)
        lines.show(SNAPSHOT)
    assert 480 <= len(capsys.readouterr().out.splitlines()) <= 560  # one a minute, and a few more at first


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    return screen


def test_in_a_terminal_a_board_shows_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    board = make_progress("ppo on racing")
    assert isinstance(board, LiveBoard)
    board.show(SNAPSHOT)
    board.note("a note")
    board.close()
    board.close()
    said = screen.getvalue()
    for word in ("ppo on racing", "1,000,000", "4,000,000", "100,000", "25 %", "30 s", "512.3", "830.1", "400.0"):
        assert word in said
    for word in ("844.4", "-0.01", "1.5", "policy loss", "entropy", "device", "a note"):
        assert word in said
    assert "KL" not in said  # what a learner does not report takes no room


def test_brackets_in_the_path_of_a_run_stand_in_the_title_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    board = make_progress("ppo on racing, run [red]/[/x]")
    board.close()
    assert "run [red]/[/x]" in screen.getvalue()


def test_a_window_that_is_closed_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    board = make_progress("ppo on racing")
    asked = []

    def gone(_text: str) -> int:
        asked.append(1)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(screen, "write", gone)
    board.note("a note")
    board.show(SNAPSHOT)
    board.close()
    board.ring("the end")
    assert len(asked) == 1, "it is tried once and left alone"


def test_in_a_narrow_terminal_no_number_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "60")
    board = make_progress("ppo on racing")
    board.show(SNAPSHOT)
    board.close()
    for word in (
        "1,000,000",
        "4,000,000 steps",
        "100,000",
        "25 %",
        "30 s",
        "512.3",
        "830.1",
        "400.0",
        "844.4",
        "-0.01",
    ):
        assert word in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue())


def test_the_board_names_what_dqn_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(monkeypatch)
    board = make_progress("dqn on racing")
    board.show(Snapshot(1, 2, 1.0, {"loss/q": 0.25, "diag/epsilon": 0.05, "diag/replay_size": 20_036.0}))
    board.close()
    for word in ("epsilon", "0.05", "replay", "20,036"):
        assert word in screen.getvalue()


def test_the_end_rings_the_bell_of_a_terminal_and_is_a_line_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_progress("ppo on racing").ring("next: drivetrain watch mine")
    assert capsys.readouterr().out.splitlines()[-1] == "next: drivetrain watch mine"
    screen = terminal(monkeypatch)
    board = make_progress("ppo on racing")
    board.close()
    board.ring("next: drivetrain watch mine")
    assert screen.getvalue().endswith("next: drivetrain watch mine\n\a")


def test_a_curve_of_characters_goes_from_its_lowest_to_its_highest_value() -> None:
    assert sparkline([0.0, 7.0, 3.0], 10) == SPARKS[0] + SPARKS[7] + SPARKS[3]
    assert sparkline([5.0, 5.0], 10) == SPARKS[0] * 2
    assert sparkline([1.0], 10) == ""
    long = [float(k) for k in range(800)]
    assert sparkline(long, 8) == SPARKS  # means of a hundred values each


def test_the_use_of_the_device_is_measured_over_the_time_between_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, used = [10.0], [1.0]
    monkeypatch.setattr(usage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(usage, "_processor_seconds", lambda: used[0])
    monkeypatch.setattr(usage, "_resident_bytes", lambda: 3 * 2**29)
    use = usage.DeviceUse("cpu")
    assert use.words() == "1.5 GiB"  # nothing to compare with yet
    clock[0], used[0] = 12.0, 4.0
    assert use.words() == "CPU 150 %, 1.5 GiB"  # 3 s of processor time in 2 s
    clock[0], used[0] = 12.1, 4.1
    assert use.words() == "CPU 150 %, 1.5 GiB"  # too soon to tell


def test_the_mirror_writes_tensorboard_files_and_draws_the_curve(tmp_path: Path) -> None:
    records = [
        {"seq": n, "step": 100 * n, "frames": 0, "seconds": 1.0, "train/return": float(n), "loss/policy": None}
        for n in range(1, 6)
    ]
    records[3] |= {"eval/mean": 7.0, "eval/min": 5.0}
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records) + '{"seq": 6, "st')
    mirror = LocalMirror(tmp_path, after_seq=2, purge_step=200)
    assert mirror.close() is None
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/return")] == [(300, 3.0), (400, 4.0), (500, 5.0)]
    assert [(e.step, e.value) for e in events.Scalars("eval/mean")] == [(400, 7.0)]
    assert "loss/policy" not in events.Tags()["scalars"]


def test_a_mirror_that_fails_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("no folder")
    assert "incomplete" in str(LocalMirror(tmp_path).close())


def test_a_mirror_ends_with_its_trainer(tmp_path: Path) -> None:
    mirror = LocalMirror(tmp_path)
    process = mirror._side.process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()  # what the death of the trainer does
    assert process.wait(20) == 0


def test_a_folder_called_drivetrain_where_the_user_stands_is_not_the_mirror(tmp_path: Path) -> None:
    (tmp_path / "drivetrain").mkdir()
    (tmp_path / "drivetrain" / "__init__.py").write_text("raise SystemExit('another drivetrain')\n")
    assert LocalMirror(tmp_path).close() is None


def make(name: str, **result: Any) -> None:
    run = create_run(name, "x")
    run.write_json("config.json", {"algo": "ppo", "env": "racing", "obs": "state", "actions": "pedals"})
    if result:
        run.write_json("result.json", result)
    run.close()


def test_runs_are_listed_with_what_is_known_about_them(capsys: pytest.CaptureFixture[str]) -> None:
    make("good", status="reached", steps=1000, score=912.5)
    make("half")
    damaged = create_run("damaged", "x")
    (damaged.path / "config.json").write_text("{")
    assert main(["runs", "--sort", "name", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert [(r["run"], r["status"]) for r in rows] == [
        ("damaged", "running"),
        ("good", "reached"),
        ("half", "interrupted"),
    ]
    damaged.close()
    assert main(["runs", "--sort", "score"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "good"
    assert "912.5" in lines[1]


def test_a_folder_without_runs_says_how_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert "drivetrain train ppo racing" in capsys.readouterr().out


def test_the_doctor_reports_versions_device_kernels_and_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"versions", "device", "compiled", "problems"} <= set(report)
    assert report["versions"]["drivetrain"] == drivetrain.__version__
    assert report["device"].startswith(("cpu", "cuda"))


def test_the_doctor_finds_what_is_missing_and_both_pygames(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find, version = doctor.importlib.util.find_spec, doctor._version
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "av" else find(name))
    monkeypatch.setattr(doctor, "_version", lambda name: "2.6.1" if name == "pygame" else version(name))
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert 'pip install "av"' in said
    assert "uninstall -y pygame pygame-ce" in said


def test_training_that_cannot_work_is_an_error_of_the_doctor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = doctor.importlib.util.find_spec
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None if name == "numba" else find(name))
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err.startswith("error: training cannot work here; got numba is missing")


def test_the_age_of_the_process_counts_from_its_start() -> None:
    code = "import time; time.sleep(0.3); from drivetrain.clock import process_seconds; print(process_seconds())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.3 <= float(done.stdout) < 10
    assert process_seconds() > 0


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"drivetrain {version('drivetrain')}\n"


def test_importing_the_package_registers_the_environment_and_no_torch() -> None:
    code = "import sys, drivetrain, gymnasium; spec = gymnasium.spec('drivetrain/Racing-v0'); "
    code += "print(spec.reward_threshold, spec.max_episode_steps, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["900.0", "None", "False"]
    assert {"original", "OriginalEnv"} <= set(dir(drivetrain))
    with pytest.raises(AttributeError, match="nothing"):
        drivetrain.nothing  # noqa: B018
