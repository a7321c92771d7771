"""Checkpoints: whole or absent, checked before parsing, equal bytes for equal weights."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from drivetrain.agents import checkpoint as ck
from drivetrain.envs.errors import UserError


def weights(seed: int = 0, size: int = 50) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"b.weight": torch.randn(size, size, generator=generator), "a.bias": torch.arange(3.0)}


def save(folder: Path, step: int, seed: int = 0, score: float | None = None) -> Path:
    trainer = {"rng": torch.arange(16, dtype=torch.uint8), "visited": torch.tensor([True, False])}
    return ck.save_checkpoint(folder, step, weights(seed), trainer, {"epoch": 3, "big": 2**60}, {"seq": 7}, score)


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = save(tmp_path, 1000)
    assert path.name == "step_000000001000"
    assert sorted(p.name for p in path.iterdir()) == sorted([ck.MODEL, ck.TRAINER, ck.VALUES, ck.MANIFEST])
    model = ck.load_model(path)
    assert all(torch.equal(model[name], value) for name, value in weights().items())
    trainer, values = ck.load_trainer(path)
    assert trainer["visited"].tolist() == [True, False]
    assert values == {"epoch": 3, "big": str(2**60)}  # beyond 2^53: text
    assert ck.read_checkpoint(path).info["seq"] == 7


def test_equal_weights_are_equal_bytes_whatever_the_order_and_the_layout(tmp_path: Path) -> None:
    one = weights()
    other = {name: one[name].flip(0).flip(0) for name in reversed(one)}
    other["b.weight"] = one["b.weight"].mT.contiguous().mT  # column-major in memory
    paths = [ck.save_checkpoint(tmp_path / n, 1, w, {}, {}) for n, w in (("x", one), ("y", other))]
    first, second = [(path / ck.MODEL).read_bytes() for path in paths]
    assert first == second
    assert b"__metadata__" not in first


def test_tensors_that_share_memory_are_saved(tmp_path: Path) -> None:
    table = torch.arange(6.0)
    path = ck.save_checkpoint(tmp_path, 1, {"a": table[:3], "b": table}, {}, {})
    assert ck.load_model(path)["a"].tolist() == [0.0, 1.0, 2.0]


def test_a_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    save(tmp_path, 5)
    with pytest.raises(FileExistsError):
        save(tmp_path, 5, seed=1)
    assert torch.equal(ck.load_model(tmp_path / "step_000000000005")["b.weight"], weights()["b.weight"])


def test_a_damaged_checkpoint_of_the_same_step_is_moved_aside(tmp_path: Path) -> None:
    path = save(tmp_path, 5)
    (path / ck.MODEL).write_bytes(b"")
    assert ck.is_valid(save(tmp_path, 5))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(ck.DAMAGED)]


@pytest.mark.parametrize("poison", ["model", "trainer", "score", "value"])
def test_what_is_not_finite_is_never_stored(tmp_path: Path, poison: str) -> None:
    bad = {"w": torch.tensor([1.0, float("nan")])}
    good = {"w": torch.ones(2)}
    with pytest.raises(ck.NonFiniteError):
        ck.save_checkpoint(
            tmp_path,
            1,
            bad if poison == "model" else good,
            bad if poison == "trainer" else good,
            {"x": float("inf")} if poison == "value" else {},
            score=float("nan") if poison == "score" else None,
        )
    assert list(tmp_path.iterdir()) == []


def damage(path: Path, kind: str, rng: random.Random) -> None:
    files = [ck.MODEL, ck.TRAINER, ck.VALUES, ck.MANIFEST]
    target = path / rng.choice(files)
    data = bytearray(target.read_bytes())
    if kind == "truncate":
        target.write_bytes(data[: rng.randrange(len(data))])
    elif kind == "grow":
        target.write_bytes(data + b" \x00")
    elif kind == "flip":
        target = path / rng.choice(files[:3])  # a flipped blank in the manifest changes nothing it says
        data = bytearray(target.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        target.write_bytes(data)
    elif kind == "zeros":
        target.write_bytes(bytes(len(data)))
    elif kind == "swap":
        other = path / ck.TRAINER
        (path / ck.MODEL).write_bytes(other.read_bytes())
    elif kind == "manifest gone":
        (path / ck.MANIFEST).unlink()
    elif kind == "model gone":
        (path / ck.MODEL).unlink()
    elif kind == "folder for a file":
        target.unlink()
        target.mkdir()


KINDS = ["truncate", "grow", "flip", "zeros", "swap", "manifest gone", "model gone", "folder for a file"]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found_and_the_next_older_checkpoint_is_used(tmp_path: Path, kind: str) -> None:
    rng = random.Random(kind)
    for trial in range(5):
        folder = tmp_path / str(trial)
        save(folder, 1)
        damage(save(folder, 2, seed=1), kind, rng)
        assert ck.choose_checkpoint(folder, "last", resumable=True).step == 1


def test_without_a_valid_checkpoint_loading_stops_with_code_3(tmp_path: Path) -> None:
    with pytest.raises(ck.CheckpointError) as error:
        ck.choose_checkpoint(tmp_path / "absent")
    assert error.value.code == 3
    (save(tmp_path, 1) / ck.MODEL).unlink()
    with pytest.raises(ck.CheckpointError, match="1 damaged or incomplete"):
        ck.choose_checkpoint(tmp_path)


def test_best_is_by_score_then_by_age_and_steps_can_be_named(tmp_path: Path) -> None:
    for step, score in ((1, 5.0), (2, 7.0), (3, 7.0), (4, None)):
        save(tmp_path, step, score=score)
    assert ck.choose_checkpoint(tmp_path).step == 3
    assert ck.choose_checkpoint(tmp_path, "last").step == 4
    assert ck.choose_checkpoint(tmp_path, "2").step == 2
    with pytest.raises(ck.CheckpointError, match="there are: 4, 3, 2, 1"):
        ck.choose_checkpoint(tmp_path, "9")
    with pytest.raises(UserError, match="allowed best, last"):
        ck.choose_checkpoint(tmp_path, "../x")


def test_best_without_any_score_is_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert ck.choose_checkpoint(tmp_path).step == 2


def test_model_and_manifest_suffice_to_drive_but_not_to_resume(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    (path / ck.TRAINER).unlink()
    (path / ck.VALUES).unlink()
    assert ck.load_model(ck.choose_checkpoint(tmp_path).path).keys() == weights().keys()
    with pytest.raises(ck.CheckpointError):
        ck.choose_checkpoint(tmp_path, "last", resumable=True)


def test_pruning_keeps_the_last_two_and_the_best(tmp_path: Path) -> None:
    for step, score in ((1, 5.0), (2, 9.0), (3, 1.0), (4, 2.0), (5, 3.0)):
        save(tmp_path, step, score=score)
    ck.prune_checkpoints(tmp_path, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step_{step:012d}" for step in (2, 4, 5)]


def test_pruning_removes_nothing_while_the_newest_is_damaged(tmp_path: Path) -> None:
    for step in range(1, 6):
        save(tmp_path, step)
    (tmp_path / "step_000000000005" / ck.MODEL).write_bytes(b"x")
    assert ck.prune_checkpoints(tmp_path) == []


def test_a_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    path = save(tmp_path, 1)
    manifest = json.loads((path / ck.MANIFEST).read_text())
    manifest["files"]["../../secret"] = {"bytes": 1, "sha256": "0"}
    (path / ck.MANIFEST).write_text(json.dumps(manifest))
    assert ck.valid_checkpoints(tmp_path) == []


class Crash(BaseException):
    """Stands for losing the process: no handler may catch it."""


def crash_at(k: int, count: Iterator[int], operation: Callable) -> Callable:
    def counted(*args, **kwargs):
        if next(count) == k:
            raise Crash
        return operation(*args, **kwargs)

    return counted


def test_a_crash_at_any_single_operation_leaves_the_old_or_the_new_checkpoint(tmp_path: Path, monkeypatch) -> None:
    real = {name: getattr(os, name) for name in ("rename", "fsync", "mkdir")}
    outcomes = set()
    for k in range(30):
        folder = tmp_path / str(k)
        save(folder, 1)
        count = iter(range(10_000))
        for name, operation in real.items():
            monkeypatch.setattr(os, name, crash_at(k, count, operation))
        try:
            save(folder, 2, seed=1)
            finished = True
        except Crash:
            finished = False
        for name, operation in real.items():
            monkeypatch.setattr(os, name, operation)
        newest = ck.choose_checkpoint(folder, "last", resumable=True)
        assert newest.step in ((2,) if finished else (1, 2))
        assert torch.equal(ck.load_model(newest.path)["b.weight"], weights(newest.step - 1)["b.weight"])
        ck.sweep_debris(folder)
        assert not [p for p in folder.iterdir() if p.name.startswith(ck.TEMPORARY)]
        outcomes.add((finished, newest.step))
    assert outcomes == {(False, 1), (False, 2), (True, 2)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_while_saving_loses_at_most_the_checkpoint_being_written(tmp_path: Path) -> None:
    rng = random.Random(0)
    # tensors below torch's threading threshold: a forked child must not wake OpenMP threads
    states = [weights(seed, size=170) for seed in range(3)]
    for trial in range(30):
        folder = tmp_path / str(trial)
        report = tmp_path / f"report_{trial}"
        child = os.fork()
        if child == 0:  # save for ever; note each step once its save has returned
            handle = os.open(report, os.O_WRONLY | os.O_CREAT)
            for step in range(1, 10_000):
                ck.save_checkpoint(folder, step, states[step % 3], {}, {})
                os.pwrite(handle, b"%09d" % step, 0)
                ck.prune_checkpoints(folder)
        deadline = time.monotonic() + 10
        while not (report.exists() and report.read_bytes()) and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        newest = ck.choose_checkpoint(folder, "last", resumable=True)
        assert newest.step in (int(report.read_bytes()), int(report.read_bytes()) + 1)
        assert torch.equal(ck.load_model(newest.path)["b.weight"], states[newest.step % 3]["b.weight"])


def test_a_full_disk_leaves_the_old_checkpoint_and_no_debris(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path, 1)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000000001"]
