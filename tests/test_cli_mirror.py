"""What TensorBoard gets of a run, whatever becomes of the run."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from drivetrain.board_events import METRICS, experiment, forget_after
from drivetrain.board_films import MOST_PICTURES, WIDTH, gif_of
from drivetrain.board_pages import outcome
from drivetrain.film import Film
from drivetrain.journal import Tail
from drivetrain.mirror import Films, Mirror
from drivetrain.trackers import LocalMirror

CONFIG = {"version": "0", "algo": "ppo", "env": "racing", "obs": "state", "seed": 3, "gamma": 0.99, "hidden": [64, 64]}
CONFIG |= {"norm_obs": True, "stop_at": None, "track": "none"}
PLUGINS = ("scalars", "images", "histograms", "text")
CODE = {"command": "drivetrain train ppo racing", "commit": "abc", "uncommitted": None, "versions": {"torch": "2.13"}}
ACTIONS = [{"name": "steer", "low": -1.0, "high": 1.0, "counts": [1, 2, 3, 4]}]


def write_run(run: Path, records: list[dict[str, Any]], config: Mapping[str, Any] = CONFIG) -> None:
    (run / "config.json").write_text(json.dumps(config))
    (run / "code.json").write_text(json.dumps(CODE))
    write_records(run, records)


def write_records(run: Path, records: list[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def record(seq: int, **metrics: Any) -> dict[str, Any]:
    """A record at step 100 seq, after a second each."""
    names = {name.replace("_", "/", 1): value for name, value in metrics.items()}
    return {"seq": seq, "step": 100 * seq, "frames": 200 * seq, "seconds": float(seq)} | names


def end(run: Path, step: int, **values: Any) -> None:
    """A result.json."""
    (run / "result.json").write_text(json.dumps({"status": "done", "steps": step} | values))


def film(run: Path, step: int, grey: int, frames: int = 3) -> Path:
    """A film of one shade."""
    path = run / "videos" / f"step_{step:012d}.mp4"
    path.parent.mkdir(exist_ok=True)
    with Film(path, (320, 240), 25, threads=1) as out:
        for _ in range(frames):
            out.add(np.full((240, 320, 3), grey, np.uint8))
    return path


def mirrored(run: Path, after_seq: int = 0, keep_until: int = -1) -> None:
    """What the side process does from its start to its end."""
    ended(run, Mirror(run, after_seq, keep_until))


def ended(run: Path, mirror: Mirror) -> None:
    """Let a mirror end. TensorBoard reads event files in the order of their names, which hold the second."""
    mirror.end()
    for file in (run / "tensorboard").glob("events.out.tfevents.1*"):
        number = len(list((run / "tensorboard").glob("events.out.tfevents.0*")))
        file.rename(file.with_name(f"events.out.tfevents.0{number}"))


class Board:
    """What TensorBoard shows of the event files of a run."""

    def __init__(self, run: Path) -> None:
        from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

        self._events = EventAccumulator(str(run / "tensorboard"), tensor_size_guidance=dict.fromkeys(PLUGINS, 0))
        self._events.Reload()
        tags = self._events.Tags()["tensors"]
        kinds = {tag: self._events.SummaryMetadata(tag).plugin_data.plugin_name for tag in tags}
        self.scalars = sorted(tag for tag in tags if kinds[tag] == "scalars")
        self.others = sorted(tag for tag in tags if kinds[tag] != "scalars")

    def points(self, tag: str) -> list[tuple[int, float]]:
        return [(step, float(value)) for step, value in self.tensors(tag)]

    def times(self, tag: str) -> list[float]:
        return [event.wall_time for event in self._events.Tensors(tag)]

    def tensors(self, tag: str) -> list[tuple[int, Any]]:
        from tensorboard.util.tensor_util import make_ndarray

        return [(event.step, make_ndarray(event.tensor_proto)) for event in self._events.Tensors(tag)]

    def text(self, tag: str) -> list[tuple[int, str]]:
        return [(step, data[0].decode()) for step, data in self.tensors(tag)]

    def hparams(self, tag: str) -> Any:
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        content = self._events.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
        return HParamsPluginData.FromString(content)


def test_settings_code_and_result_are_pages(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1, train_return=5.0), record(2, train_return=6.0)])
    (tmp_path / "result.json").write_text(json.dumps({"status": "done", "steps": 200, "score": 7.5}))
    mirrored(tmp_path)
    board = Board(tmp_path)
    ((step, page),) = board.text("run/settings")
    assert step == 0
    assert {"| gamma | 0.99 |", "| hidden | 64, 64 |", "| norm_obs | on |", "| stop_at | none |"} <= set(
        page.split("\n")
    )
    assert "| track |" not in page, "what changes nothing that is learned is left out"
    assert "| torch | 2.13 |" in board.text("run/code")[0][1]
    ((step, page),) = board.text("run/result")
    assert (step, "| score | 7.5 |" in page, "| status | done |" in page) == (200, True, True)


def test_the_table_of_hyper_parameters_has_settings_and_results(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1, eval_mean=9.0), record(2, eval_mean=7.0)])
    (tmp_path / "result.json").write_text(
        json.dumps({"status": "done", "steps": 200, "score": 7.0, "steps_per_s": 100.0})
    )
    mirrored(tmp_path)
    board = Board(tmp_path)
    values = board.hparams("session_start_info").session_start_info.hparams
    assert values["gamma"].number_value == pytest.approx(0.99)
    assert values["algo"].string_value == "ppo"
    assert values["norm_obs"].bool_value is True
    assert values["hidden"].string_value == "64,64"
    assert board.hparams("session_end_info").session_end_info.status == 1, "success"
    found = {tag: board.points(tag) for tag in METRICS}
    assert found == {
        "result/best": [(200, 9.0)],
        "result/score": [(200, 7.0)],
        "result/steps_per_s": [(200, 100.0)],
    }


def test_a_histogram_of_actions_has_the_bins_of_the_record(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1), record(2, eval_mean=1.0, eval_actions=ACTIONS)])
    mirrored(tmp_path)
    board = Board(tmp_path)
    ((step, rows),) = board.tensors("eval/actions/steer")
    assert step == 200
    assert rows.tolist() == [[-1.0, -0.5, 1.0], [-0.5, 0.0, 2.0], [0.0, 0.5, 3.0], [0.5, 1.0, 4.0]]
    assert board.scalars == ["eval/mean"]


def test_a_film_becomes_a_small_picture_that_moves(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1)])
    mirror = Mirror(tmp_path, 0, -1)
    film(tmp_path, 100, 200, frames=150)
    mirror.end()
    ((step, (width, height, data)),) = Board(tmp_path).tensors("film/episode")
    assert (step, int(width), int(height), bytes(data[:6])) == (100, WIDTH, 180, b"GIF89a")
    from io import BytesIO

    from PIL import Image

    picture = Image.open(BytesIO(data))
    assert picture.n_frames <= MOST_PICTURES
    assert picture.convert("L").getpixel((5, 5)) == pytest.approx(200, abs=6)


def test_pictures_of_few_frames_are_all_in_the_gif(tmp_path: Path) -> None:
    from io import BytesIO

    from PIL import Image

    path = tmp_path / "a.mp4"
    with Film(path, (64, 48), 25, threads=1) as out:
        for number in range(5):
            out.add(np.full((48, 64, 3), 50 * number, np.uint8))
    data, size = gif_of(path)
    picture = Image.open(BytesIO(data))
    assert (size, picture.n_frames, picture.info["duration"]) == ((64, 48), 5, 100)


def test_the_curve_and_other_pictures_come_at_the_end(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1, train_return=1.0), record(2, train_return=2.0)])
    end(tmp_path, 200)
    mirrored(tmp_path)
    ((step, (width, height, data)),) = Board(tmp_path).tensors("pictures/curve")
    assert data == (tmp_path / "curve.png").read_bytes()
    assert struct.unpack(">II", data[16:24]) == (int(width), int(height))
    assert step == 200


def test_a_supervised_run_shows_its_error_and_its_own_pictures(tmp_path: Path) -> None:
    config = {"algo": "function", "env": "sin(x)", "seed": 0}
    write_run(tmp_path, [record(1, loss_train=0.5, loss_validation=0.6)], config)
    (tmp_path / "result.json").write_text(json.dumps({"status": "done", "steps": 100, "score": 0.01}))
    mirrored_picture = tmp_path / "function.png"
    from PIL import Image

    Image.new("RGB", (8, 4)).save(mirrored_picture)
    mirrored(tmp_path)
    board = Board(tmp_path)
    assert board.points("result/best") == [(100, pytest.approx(0.01))]
    assert [(step, int(row[0]), int(row[1])) for step, row in board.tensors("pictures/function")] == [(100, 8, 4)]


def test_after_kill_and_resume_every_step_is_there_once(tmp_path: Path) -> None:
    first = [record(seq, train_return=float(seq), eval_mean=float(seq), eval_actions=ACTIONS) for seq in range(1, 6)]
    write_run(tmp_path, first)
    mirror = Mirror(tmp_path, 0, -1)
    film(tmp_path, 300, 30)
    film(tmp_path, 500, 50)
    ended(tmp_path, mirror)  # the trainer was killed after step 500; its last checkpoint is of step 300
    again = [record(seq, train_return=10.0 * seq, eval_mean=10.0 * seq, eval_actions=ACTIONS) for seq in (4, 5, 6)]
    write_records(tmp_path, first[:3] + again)
    end(tmp_path, 600, score=60.0)
    mirror = Mirror(tmp_path, 3, 300)
    mirror.look()
    film(tmp_path, 500, 90)
    ended(tmp_path, mirror)
    board = Board(tmp_path)
    expected = [(100, 1.0), (200, 2.0), (300, 3.0), (400, 40.0), (500, 50.0), (600, 60.0)]
    assert board.points("train/return") == expected
    assert board.points("eval/mean") == expected
    assert [step for step, _ in board.tensors("eval/actions/steer")] == [100, 200, 300, 400, 500, 600]
    assert [step for step, _ in board.tensors("film/episode")] == [300, 500]
    assert [step for step, _ in board.tensors("pictures/curve")] == [600]
    assert [step for step, _ in board.text("run/settings")] == [0, 301], "those it began with, those it went on with"
    assert board.points("result/best") == [(600, 60.0)]


def test_resuming_twice_from_the_same_checkpoint_leaves_no_doubles(tmp_path: Path) -> None:
    records = [record(seq, train_return=float(seq)) for seq in range(1, 5)]
    write_run(tmp_path, records)
    end(tmp_path, 400)
    mirrored(tmp_path)
    for _ in range(3):
        mirrored(tmp_path, 2, 200)
    board = Board(tmp_path)
    assert board.points("train/return") == [(100, 1.0), (200, 2.0), (300, 3.0), (400, 4.0)]
    assert [step for step, _ in board.text("run/settings")] == [0, 201]
    assert [step for step, _ in board.text("run/result")] == [400]


def test_what_is_forgotten_is_gone_from_the_files_and_a_torn_end_does_no_harm(tmp_path: Path) -> None:
    write_run(tmp_path, [record(seq, train_return=float(seq)) for seq in range(1, 5)])
    mirrored(tmp_path)
    (file,) = (tmp_path / "tensorboard").glob("events.*")
    whole = file.read_bytes()
    forget_after(tmp_path / "tensorboard", 10**9)
    assert file.read_bytes() == whole, "nothing is after that"
    file.write_bytes(whole[:-3])
    forget_after(tmp_path / "tensorboard", 200)
    assert Board(tmp_path).points("train/return") == [(100, 1.0), (200, 2.0)]
    assert whole.startswith(file.read_bytes()[:40])
    file.write_bytes(b"no events at all, but something of some length")
    forget_after(tmp_path / "tensorboard", 200)
    assert list((tmp_path / "tensorboard").iterdir()) == [file], "no rest is left"


def test_points_lie_on_the_clock_of_the_training(tmp_path: Path) -> None:
    write_run(tmp_path, [record(seq, train_return=1.0) for seq in (1, 2, 5)])
    mirrored(tmp_path)
    times = Board(tmp_path).times("train/return")
    assert [round(time - times[0], 3) for time in times] == [0.0, 1.0, 4.0]


def test_a_film_that_cannot_be_read_costs_nothing_else(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1, train_return=1.0)])
    mirror = LocalMirror(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "step_000000000100.mp4").write_bytes(b"no film")
    assert mirror.close() is None
    board = Board(tmp_path)
    assert board.points("train/return") == [(100, 1.0)]
    assert "film/episode" not in board.others


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1, train_return=None, loss_policy="x", diag_x=True, eval_mean=2.0)])
    mirrored(tmp_path)
    assert Board(tmp_path).scalars == ["eval/mean"]


def test_a_run_without_settings_is_mirrored_all_the_same(tmp_path: Path) -> None:
    write_records(tmp_path, [record(1, train_return=4.0)])
    mirrored(tmp_path)
    assert Board(tmp_path).points("train/return") == [(100, 4.0)]


def test_films_of_a_forgotten_continuation_wait_to_be_made_anew(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").mkdir()
    old = film(tmp_path, 500, 10)
    os.utime(old, (1, 1))
    films = Films(tmp_path, 300)
    assert films.new() == []
    film(tmp_path, 500, 20)
    assert films.new() == [("videos/step_000000000500.mp4", 500)]
    assert films.new() == []
    assert Films(tmp_path, 500).new() == [], "it was noted"


def test_a_run_whose_process_died_has_not_come_out_yet(tmp_path: Path) -> None:
    write_run(tmp_path, [record(1, eval_mean=9.0), record(2, eval_mean=4.0)])
    end(tmp_path, 100, score=1.0)  # of the training before
    assert outcome(tmp_path) == {}
    end(tmp_path, 200, score=4.0)
    assert outcome(tmp_path) == {"status": "done", "steps": 200, "score": 4.0, "best": 9.0}


def columns(*runs: dict[str, Any]) -> dict[str, bool]:
    return {info.name: info.differs for info in experiment(runs).hparam_infos}


def test_the_table_has_columns_for_what_was_tried_out() -> None:
    a = {"algo": "ppo", "env": "racing", "seed": 1, "gamma": 0.9, "hidden": [64], "num_envs": 8}
    b = a | {"seed": 2, "gamma": 0.99}
    other = {"algo": "dqn", "env": "racing", "seed": 1, "gamma": 0.5, "hidden": [32], "buffer": 9}
    assert columns(a, b, other) == dict.fromkeys(("algo", "env", "gamma", "seed"), True)
    assert set(columns(a)) == set(a), "of a single run all settings"
    assert [info.display_name for info in experiment([a]).metric_infos] == ["best score", "last score", "steps/s"]


def test_a_setting_of_several_kinds_is_shown_as_words() -> None:
    a = {"algo": "ppo", "env": "x", "clip": 0.5, "on": True, "name": "a"}
    found = {
        info.name: info.type for info in experiment([a, a | {"clip": None, "on": False, "name": "b"}]).hparam_infos
    }
    text, boolean, number = 1, 2, 3
    assert (found["clip"], found["on"], found["name"]) == (text, boolean, text)
    assert {i.name: i.type for i in experiment([a, a | {"clip": 1.5}]).hparam_infos}["clip"] == number


def test_a_damaged_line_hides_none_of_those_after_it(tmp_path: Path) -> None:
    bad = (
        b"{",
        b"[1]",
        b"\xff\x00",
        b'{"seq": "a", "step": 1}',
        b'{"seq": 4}',
        b'{"seq": 4, "step": 1, "seconds": null}',
    )
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"\n".join((b'{"seq": 1, "step": 10}', *bad, b'{"seq": 5, "step": 50}', b"")))
    assert [record["step"] for record in Tail(file, 0).read()] == [10, 50]
