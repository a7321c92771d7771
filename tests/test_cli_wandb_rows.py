"""What of a run folder goes to wandb, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drivetrain.wandb_rows import (
    best_model,
    covered_seq,
    films,
    final_seq,
    histograms,
    models,
    newest_model,
    pictures,
    row,
    summary,
)
from drivetrain.wandb_state import State, Tally, file_key, load_state, save_state, take_turn


def checkpoint(run: Path, step: int, seq: int, score: float | None = None) -> Path:
    folder = run / "checkpoints" / f"step_{step:012d}"
    folder.mkdir(parents=True)
    manifest = {"format": 1, "step": step, "score": score, "info": {"seq": seq}, "files": {}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def records(run: Path, *steps: int) -> None:
    lines = [json.dumps({"seq": seq, "step": step, "train/return": 1.0}) for seq, step in enumerate(steps, 1)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def test_a_row_holds_the_numbers_of_a_record_and_where_it_stands() -> None:
    record = {"seq": 3, "step": 300, "frames": 600, "seconds": 1.5, "train/return": 7, "loss/policy": None}
    record |= {"eval/actions": [{"name": "steer"}], "eval/mean": 2.5, "text/x": "words", "flag/x": True}
    want = {"train/return": 7, "eval/mean": 2.5, "global_step": 300, "frames": 600, "seconds": 1.5}
    assert row(record) == want


@pytest.mark.golden
def test_a_histogram_has_one_edge_more_than_bins() -> None:
    record = {"eval/actions": [{"name": "steer", "low": -1.0, "high": 1.0, "counts": [1, 2, 3, 4]}]}
    assert histograms(record) == {"eval/actions/steer": ([1, 2, 3, 4], [-1.0, -0.5, 0.0, 0.5, 1.0])}
    assert histograms({"eval/mean": 1.0}) == {}


def test_models_are_read_off_their_manifests_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    checkpoint(tmp_path, 100, 1)
    checkpoint(tmp_path, 200, 2, 5.0)
    checkpoint(tmp_path, 300, 3, 5.0)
    checkpoint(tmp_path, 400, 4, 4.0)
    (checkpoint(tmp_path, 500, 5) / "manifest.json").write_text("{")
    found = models(tmp_path)
    assert [(model.step, model.seq, model.score) for model in found] == [
        (100, 1, None),
        (200, 2, 5.0),
        (300, 3, 5.0),
        (400, 4, 4.0),
    ]
    best, newest = best_model(found), newest_model(found)
    assert best is not None and best.step == 300  # the newer of equals, as everywhere
    assert newest is not None and newest.step == 400
    assert covered_seq(found) == 4
    assert best_model(found[:1]) is None
    assert (covered_seq([]), newest_model([])) == (0, None)


@pytest.mark.parametrize(
    ("result", "want"),
    [
        (None, (2, "")),  # killed: the third record may be taken back
        ({"status": "done", "steps": 300}, (3, "done")),
        ({"status": "diverged", "steps": 300}, (3, "diverged")),
        ({"status": "interrupted", "steps": 300}, (2, "interrupted")),
        ({"status": "failed", "steps": 300}, (2, "failed")),
        ({"status": "done", "steps": 200}, (2, "")),  # ended once, went on, and was killed
    ],
)
def test_what_no_resumption_takes_back_depends_on_how_a_run_ended(
    tmp_path: Path, result: dict[str, Any] | None, want: tuple[int, str]
) -> None:
    records(tmp_path, 100, 200, 300)
    checkpoint(tmp_path, 200, 2)
    if result is not None:
        (tmp_path / "result.json").write_text(json.dumps(result))
    assert final_seq(tmp_path) == want


def test_films_and_pictures_are_whole_ones_alone(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("step_000000000200.mp4", ".step_000000000300.mp4.77.part", "demo.mp4", "step_x.mp4"):
        (tmp_path / "videos" / name).write_bytes(b"x")
    (tmp_path / "curve.png").write_bytes(b"xyz")
    (tmp_path / "notes.txt").write_bytes(b"x")
    assert films(tmp_path) == [("videos/step_000000000200.mp4", 200)]
    assert pictures(tmp_path) == ["curve.png"]
    assert file_key(tmp_path, "curve.png") == "curve.png:3"


def test_links_in_a_run_folder_are_not_followed(tmp_path: Path) -> None:
    secret, run = tmp_path / "secret", tmp_path / "run"
    secret.write_text("mine")
    (run / "videos").mkdir(parents=True)
    (run / "videos" / "step_000000000100.mp4").symlink_to(secret)
    (run / "curve.png").symlink_to(secret)
    folder = checkpoint(run, 100, 1)
    assert len(models(run)) == 1
    (folder / "model.safetensors").unlink(missing_ok=True)
    (folder / "model.safetensors").symlink_to(secret)
    assert (films(run), pictures(run), models(run)) == ([], [], [])


def test_the_summary_tells_score_best_score_and_speed(tmp_path: Path) -> None:
    checkpoint(tmp_path, 100, 1, 9.0)
    checkpoint(tmp_path, 200, 2, 7.0)
    assert summary(tmp_path, models(tmp_path)) == {"best_score": 9.0, "best_step": 100}
    result = {"status": "done", "score": 7.0, "steps_per_s": 50.0, "run": "r", "eval_seconds": None}
    (tmp_path / "result.json").write_text(json.dumps(result))
    want = {"status": "done", "score": 7.0, "steps_per_s": 50.0, "best_score": 9.0, "best_step": 100}
    assert summary(tmp_path, models(tmp_path)) == want


def test_an_id_is_made_once_and_the_tallies_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    first = load_state(tmp_path)
    assert first.id.isalnum() and len(first.id) == 12
    assert load_state(tmp_path).id != first.id  # nothing was stored
    take_turn(tmp_path).release()
    state = first.noted(True, Tally(5, ("videos/a.mp4:3",), 100, 200, "done"))
    save_state(tmp_path, state)
    monkeypatch.setenv("WANDB_RUN_ID", "of-an-agent")
    assert load_state(tmp_path) == state
    assert state.tally(True).seq == 5 and state.tally(False) == Tally()
    assert [path.name for path in (tmp_path / "wandb").iterdir()] == ["mirrored.json"]
    (tmp_path / "wandb" / "mirrored.json").write_text('{"id": "x"}')
    assert load_state(tmp_path) == State("of-an-agent")
