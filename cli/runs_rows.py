"""What can be said about a run from outside: how it stands, how far it came, how well it does, what it takes.

Everything is read from its folder; damaged files leave gaps and never an error, and nothing slow is imported: this is
what lists hundreds of runs.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetrain.lock import holder
from drivetrain.rundir import known_runs, read_or_empty

__all__ = ["STATUSES", "RunRow", "bytes_of", "describe_run", "goodness", "is_shipped", "listed_runs", "size_of"]

STATUSES = ("running", "done", "reached", "interrupted", "diverged", "failed")
ERRORS = ("function", "sequence")  # tasks whose score is an error: less is better
EVALUATION = re.compile(rb'"eval/mean": (-?[0-9.]+(?:e[-+]?[0-9]+)?)')
STEP = re.compile(rb'"step": ([0-9]+)')
BLOCK, OVERLAP = 2**15, 200  # bytes of metrics.jsonl read at a time, from its end; and again, for what was cut apart
SHIPPED = "baselines"  # name of the folders that hold drivers that came with the package


@dataclass(frozen=True)
class RunRow:
    """One run."""

    run: str
    path: str
    status: str
    best: float | None  # score of the best checkpoint
    score: float | None  # of the last validation
    steps: int
    total_steps: int | None  # as planned
    age_seconds: int  # since it was written last
    size_bytes: int
    algo: str | None
    env: str | None
    obs: str | None
    actions: str | None
    seed: int | None
    group: str | None


def listed_runs() -> list[RunRow]:
    """All runs in ./runs, ./runs/baselines and those shipped."""
    return [describe_run(name, path) for name, path in known_runs().items()]


def describe_run(name: str, path: Path) -> RunRow:
    """A run from its folder."""
    config, result = read_or_empty(path / "config.json"), read_or_empty(path / "result.json")
    manifests = [read_or_empty(manifest) for manifest in sorted(path.glob("checkpoints/step_*/manifest.json"))]
    steps, score = _last_of(path / "metrics.jsonl")
    status = _status(path, result, steps, bool(manifests))
    if status != "running" and result.get("status") == status:
        score = _number(result.get("score"))
    scored = [found for found in (_number(manifest.get("score")) for manifest in manifests) if found is not None]
    stepped = [_whole(values.get(key)) for values, key in ((result, "steps"), *((m, "step") for m in manifests))]
    return RunRow(
        run=name,
        path=str(path),
        status=status,
        best=max(scored, default=score),
        score=score,
        steps=max([steps, *(step for step in stepped if step is not None)]),
        total_steps=_whole(config.get("steps")),
        age_seconds=_age(path),
        size_bytes=size_of(path),
        algo=_text(config.get("algo")),
        env=_text(config.get("env")),
        obs=_text(config.get("obs")),
        actions=_text(config.get("actions")),
        seed=_whole(config.get("seed")),
        group=_text(config.get("group")),
    )


def goodness(row: RunRow) -> float | None:
    """The best score, turned so that more is better; None without a score."""
    if row.best is None:
        return None
    return -row.best if row.algo in ERRORS else row.best


def is_shipped(path: Path) -> bool:
    """Whether a run is one of those that came with the package."""
    return path.resolve().parent.name == SHIPPED


def size_of(path: Path) -> int:
    """Bytes of all files below a folder, or of a file; links count as nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(_sizes(path))


def bytes_of(size: int) -> str:
    """1234567 -> 1.2 MB."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB" if amount < 100 else f"{amount:,.0f} GB"


def _status(path: Path, result: dict[str, Any], steps: int, has_checkpoint: bool) -> str:
    """``steps`` = step of the last record, 0 without one."""
    if holder(path) is not None:
        return "running"
    ended, at = result.get("status"), _whole(result.get("steps"))
    if ended not in STATUSES:
        saved_from_python = has_checkpoint and not (path / "metrics.jsonl").exists()
        return "done" if saved_from_python else "interrupted"  # a process that died leaves no result
    # a training that was gone on with and died then left the result of the training before
    outdated = at is not None and (steps > at or (ended in ("done", "reached") and 0 < steps < at))
    return "interrupted" if outdated else str(ended)


def _last_of(path: Path) -> tuple[int, float | None]:
    """(step of the last record, score of the last validation), read from the end."""
    try:
        with open(path, "rb") as file:
            position = file.seek(0, os.SEEK_END)
            step, block = 0, b""
            at_end = True
            while position > 0:
                start = max(0, position - BLOCK)
                file.seek(start)
                block = file.read(position - start) + block[:OVERLAP]
                if at_end:
                    block = block[: block.rfind(b"\n") + 1]  # a line being written counts as nothing
                position, at_end = start, False
                step = step or max((int(found) for found in STEP.findall(block)), default=0)
                scores = EVALUATION.findall(block)
                if scores:
                    return step, float(scores[-1])
            return step, None
    except (OSError, ValueError):
        return 0, None


def _age(path: Path) -> int:
    newest = [_changed(file) for file in path.glob("*.json*")]
    return max(0, round(time.time() - max(newest, default=time.time())))


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # gone meanwhile
        return 0.0


def _sizes(path: Path) -> Iterable[int]:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    yield entry.stat(follow_symlinks=False).st_size
    except OSError:  # gone meanwhile, or not ours to read
        return


def _number(value: object) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None  # type: ignore[arg-type]


def _whole(value: object) -> int | None:
    if isinstance(value, str) and value.isdigit():  # beyond 2^53
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
