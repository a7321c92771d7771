"""`drivetrain runs board`: TensorBoard itself, asked as a browser asks it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from drivetrain.film import Film
from drivetrain.main import main
from drivetrain.mirror import Mirror
from drivetrain.runs_board import Farm

PATIENCE = 60.0  # s


def make(name: str, number: float, learning_rate: float, films: bool = False) -> Path:
    """A run of three records, mirrored."""
    path = Path("runs", name)
    path.mkdir(parents=True)
    config = {"algo": "ppo", "env": "racing", "seed": 1, "learning_rate": learning_rate}
    (path / "config.json").write_text(json.dumps(config))
    (path / "code.json").write_text(json.dumps({"command": "drivetrain train ppo racing"}))
    actions = [{"name": "steer", "low": -1.0, "high": 1.0, "counts": [1, 2]}]
    write(path, [(step, number, actions) for step in (100, 200, 300)])
    mirror = Mirror(path, 0, -1)
    if films:
        (path / "videos").mkdir()
        with Film(path / "videos" / "step_000000000100.mp4", (64, 48), 25, threads=1) as film:
            film.add(np.zeros((48, 64, 3), np.uint8))
    mirror.end()
    return path


def write(path: Path, points: list[tuple[int, float, Any]]) -> None:
    lines = [
        {"seq": number, "step": step, "seconds": step / 100, "eval/mean": value, "eval/actions": actions}
        for number, (step, value, actions) in enumerate(points, 1)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


class Served:
    """A `drivetrain runs board` that runs."""

    def __init__(self, *argv: str) -> None:
        # a port that is free by then: of the usual one another board may be in possession
        command = [sys.executable, "-m", "drivetrain", "runs", "board", *argv]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored by what a shell runs behind
        )
        assert self.process.stdout is not None
        self.greeting = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", self.greeting)
        assert found is not None, self.greeting + str(self.process.communicate())
        self.address = found[0]

    def data(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"}), timeout=30
        ) as answer:
            return json.loads(answer.read())

    def wait_for(self, path: str, runs: set[str]) -> Any:
        """Asks until the runs are there."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = self.data(path)
            if runs <= set(found):
                return found
            time.sleep(0.3)
        raise AssertionError(f"{runs} are not in {found}")

    def end(self) -> tuple[str, str]:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drivetrain.rundir.SHIPPED", tmp_path / "shipped")


@pytest.fixture
def board() -> Iterator[Served]:
    make("a", 1.0, 0.1, films=True)
    resumed = make("b", 2.0, 0.2)
    time.sleep(1.1)  # the names of event files, by which they are ordered, count seconds
    actions = [{"name": "steer", "low": -1.0, "high": 1.0, "counts": [3, 4]}]
    write(resumed, [(100, 2.0, actions), (200, 2.0, actions), (310, 9.0, actions), (400, 9.0, actions)])
    (resumed / "result.json").write_text(json.dumps({"status": "done", "steps": 400, "score": 9.0}))
    Mirror(resumed, 2, 200).end()
    served = Served()
    yield served
    if served.process.poll() is None:
        served.process.kill()
        served.process.communicate()


def test_a_board_shows_runs_by_name_and_ends_with_ctrl_c(board: Served) -> None:
    board.wait_for("data/plugin/scalars/tags", {"a", "b"})
    assert set(board.data("data/runs")) == {"a", "b"}, "nothing else is in the list of runs"

    def points(run: str, tag: str) -> list[list[float]]:
        found = board.data(f"data/plugin/scalars/scalars?run={run}&tag={quote(tag)}")
        return [[step, value] for _, step, value in found]

    assert points("a", "eval/mean") == [[100, 1.0], [200, 1.0], [300, 1.0]]
    assert points("b", "eval/mean") == [[100, 2.0], [200, 2.0], [310, 9.0], [400, 9.0]], (
        "nothing is left of what was abandoned"
    )
    assert points("b", "result/best") == [[400, 9.0]]
    histogram = board.data("data/plugin/histograms/histograms?run=b&tag=eval%2Factions%2Fsteer")
    assert [step for _, step, _ in histogram] == [100, 200, 310, 400]
    images = board.data("data/plugin/images/images?run=a&tag=film%2Fepisode&sample=0")
    assert [image["step"] for image in images] == [100]
    with urllib.request.urlopen(f"{board.address}data/plugin/images/individualImage?{images[0]['query']}") as answer:
        assert answer.headers["Content-Type"] == "image/gif", "so that it moves"
    assert set(board.data("data/plugin/text/tags")["a"]) == {"run/settings", "run/code"}

    table = board.data("data/plugin/hparams/experiment", {"experimentName": ""})
    assert [info["name"] for info in table["hparamInfos"]] == ["algo", "env", "learning_rate", "seed"]
    assert [info["displayName"] for info in table["metricInfos"]] == ["best score", "last score", "steps/s"]

    make("c", 3.0, 0.3)  # a run that begins meanwhile
    board.wait_for("data/plugin/scalars/tags", {"a", "b", "c"})
    out, err = board.end()
    assert (board.process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "closed"


def test_only_the_runs_that_were_named_are_shown(tmp_path: Path) -> None:
    runs = {name: make(name, 1.0, 0.1) for name in ("a", "b", "c")}
    (tmp_path / "farm").mkdir()
    farm = Farm(tmp_path / "farm")
    farm.show({name: runs[name] for name in ("a", "b")})
    assert sorted(path.name for path in (tmp_path / "farm").iterdir()) == ["a", "b"]
    farm.show({"b": runs["b"]})
    assert sorted(path.name for path in (tmp_path / "farm").iterdir()) == ["b"]
    assert list((runs["a"] / "tensorboard").glob("events.*")), "what the links led to stays"


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    make("a", 1.0, 0.1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["runs", "board", "--port", str(port)]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"error: TensorBoard cannot have this port; got --port {port}, Address already in use; "
        "leave --port out, and a free one is taken\n"
    )


def test_a_tensorboard_that_is_missing_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("a", 1.0, 0.1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["runs", "board"]) == 2
    assert capsys.readouterr().err == "error: TensorBoard is missing; python -m pip install tensorboard\n"


def test_nothing_to_show_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "board"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: no run has anything for TensorBoard; begin with: drivetrain train"
    )
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/config.json").write_text('{"algo": "ppo"}')
    assert main(["runs", "board", "a"]) == 2
    assert capsys.readouterr().err == "error: the run a has nothing for TensorBoard; got no runs/a/tensorboard\n"
