"""What a comparison needs of a run: its task, its settings, its curve, and the one number it is judged by."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from drivetrain.envs.errors import UserError
from drivetrain.journal import is_number, read_metrics
from drivetrain.pretrain import SUPERVISED
from drivetrain.rundir import read_json, read_or_empty, run_name
from drivetrain.runs_rows import ERRORS, RunRow, describe_run

__all__ = ["ComparedRun", "Curve", "Rule", "is_error", "rule_for", "score_run", "task_of"]

Floats = NDArray[np.float64]
VALIDATION, CONFIRMATION = "validation", "confirmation"  # sets of eval.csv
CURVES = {"last": "eval/mean", "best": "eval/mean", "train": "train/return"}
TASK = ("env_args", "lap_rule")  # settings that change what a score means
DATA = ("csv", "column", "formula", "low", "high", "noise", "periods", "data", "labels")  # the same, of examples


@dataclass(frozen=True)
class Rule:
    """Which number stands for a run."""

    score: Literal["last", "best", "train"] = "last"
    at: int | None = None  # only what was there at this step counts
    csv: str | None = None  # file in the run folder with one row an episode


@dataclass(frozen=True)
class Curve:
    """A metric over steps and seconds; K points."""

    name: str  # in metrics.jsonl
    steps: Floats  # [K]
    seconds: Floats  # [K] of training
    values: Floats  # [K]


@dataclass(frozen=True)
class ComparedRun:
    """A run and its score."""

    name: str
    path: Path
    env: str
    task: str  # the environment, and settings of it that change what a score means
    algo: str
    status: str
    settings: Mapping[str, Any]  # config.json
    curve: Curve | None
    score: float
    step: int | None = None  # of the score
    seconds: float | None = None  # of training until then
    episodes: Floats | None = None  # [E] scores that the score is the mean of

    @property
    def is_over(self) -> bool:
        """Whether it ended as it was meant to: nothing more would come of it."""
        return self.status in ("done", "reached")


def is_error(run: ComparedRun) -> bool:
    """Whether less is better."""
    return run.algo in ERRORS


def rule_for(paths: Sequence[Path], asked: Rule) -> Rule:
    """The rule itself, or where no run was ever validated, the one that takes training returns."""
    if asked.score != "last" or asked.csv is not None:
        return asked
    if any(_algo(path) in SUPERVISED or _has(path, CURVES["last"]) for path in paths):
        return asked
    return replace(asked, score="train") if all(_has(path, CURVES["train"]) for path in paths) else asked


def score_run(path: Path, rule: Rule) -> ComparedRun:
    """Read a run.

    Raises:
        UserError: its files are damaged, or it has no such score (code 2).
    """
    config, row = read_json(path / "config.json"), describe_run(run_name(path), path)
    records = [record for record in read_metrics(path / "metrics.jsonl") if isinstance(record.get("step"), int)]
    if rule.at is not None:
        records = [record for record in records if record["step"] <= rule.at]
    algo = row.algo or "?"
    name = "loss/validation" if algo in SUPERVISED else CURVES[rule.score]
    curve = _curve(records, name)
    run = ComparedRun(row.run, path, row.env or "?", task_of(config), algo, row.status, config, curve, math.nan)
    if rule.csv is not None:
        return _from_csv(run, rule.csv)
    if algo in SUPERVISED:
        return _from_result(run, rule)
    found = _scored_record(records, rule)
    if found is None:
        raise _no_score(row, rule, bool(records))
    step = found["step"]
    seconds = float(found["seconds"]) if is_number(found.get("seconds")) else None
    episodes = None if rule.score == "train" else _episodes(path / "eval.csv", step, _sets(found, rule))
    return replace(run, score=_value(found, rule), step=step, seconds=seconds, episodes=episodes)


def _scored_record(records: Sequence[Mapping[str, Any]], rule: Rule) -> Mapping[str, Any] | None:
    """The record whose score counts."""
    scored = [record for record in records if is_number(record.get(CURVES[rule.score]))]
    if not scored:
        return None
    if rule.score == "best":
        return max(scored, key=lambda record: (_value(record, rule), -record["step"]))
    return scored[-1]


def _value(record: Mapping[str, Any], rule: Rule) -> float:
    """A training ends early when two sets of tracks are passed; the first chose the moment, the second judges it.

    Checkpoints are ranked by both.
    """
    first, second = float(record[CURVES[rule.score]]), record.get("eval/confirmed")
    if second is None or rule.score == "train":
        return first
    return float(second) if rule.score == "last" else (first + float(second)) / 2


def _sets(record: Mapping[str, Any], rule: Rule) -> tuple[str, ...]:
    if record.get("eval/confirmed") is None:
        return (VALIDATION,)
    return (CONFIRMATION,) if rule.score == "last" else (VALIDATION, CONFIRMATION)


def _episodes(path: Path, step: int, sets: tuple[str, ...]) -> Floats | None:
    """Scores of the episodes of one validation."""
    rows = _rows(path)
    scores = [_float(row.get("score")) for row in rows if row.get("step") == str(step) and row.get("set") in sets]
    return np.array(scores) if scores and all(math.isfinite(score) for score in scores) else None


def _from_csv(run: ComparedRun, name: str) -> ComparedRun:
    path = run.path / name
    how = f"make it with `drivetrain evaluate {run.name} --csv {path}`"
    if not path.is_file():
        raise UserError(f"{run.name} has no file {name}", got=f"nothing at {path}", fix=how)
    scores = np.array([_float(row.get("score")) for row in _rows(path)])
    if not len(scores) or not np.isfinite(scores).all():
        raise UserError(f"{path} holds no scores", got="no row, or one that is no number", fix=how)
    return replace(run, score=float(scores.mean()), episodes=scores)


def _from_result(run: ComparedRun, rule: Rule) -> ComparedRun:
    """A supervised run is scored once, at its end."""
    if rule.score == "train" or rule.at is not None:
        what = "--score train" if rule.score == "train" else "--at"
        raise UserError(f"{what} is of no use: {run.name} is scored at its end alone", fix="leave it out")
    result = read_or_empty(run.path / "result.json")
    if not is_number(result.get("score")):
        raise UserError(f"{run.name} has no score", got=f"a {run.status} run", fix="leave it out, or let it end")
    seconds = float(result["seconds"]) if is_number(result.get("seconds")) else None
    steps = result.get("steps")
    return replace(run, score=float(result["score"]), step=steps if isinstance(steps, int) else None, seconds=seconds)


def _no_score(row: RunRow, rule: Rule, has_records: bool) -> UserError:
    what = "training return" if rule.score == "train" else "validation"
    if rule.at is not None and has_records is False:
        return UserError(f"{row.run} has no {what} up to step {rule.at:,}", got=row.status, fix="choose a later --at")
    if not has_records:
        fix = "leave it out, or compare files that evaluate wrote: --csv FILE"
        return UserError(f"{row.run} has no metrics", got=f"a {row.status} run without records", fix=fix)
    other = "leave it out" if rule.score == "train" else "leave it out, or take --score train"
    up_to = f" up to step {rule.at:,}" if rule.at is not None else ""
    return UserError(f"{row.run} has no {what}{up_to}", got=f"a {row.status} run, {row.steps:,} steps", fix=other)


def _curve(records: Sequence[Mapping[str, Any]], name: str) -> Curve | None:
    points = [
        (record["step"], record["seconds"], record[name])
        for record in records
        if is_number(record.get(name)) and is_number(record.get("seconds"))
    ]
    if not points:
        return None
    steps, seconds, values = np.array(points, dtype=float).T
    return Curve(name, steps, seconds, values)


def task_of(config: Mapping[str, Any]) -> str:
    """What a score is a score of."""
    env, algo = str(config.get("env", "?")), str(config.get("algo"))
    names = DATA if algo in SUPERVISED else TASK
    usual = {"env_args": {}, "lap_rule": "all"}
    extra = {name: config[name] for name in names if name in config and config[name] != usual.get(name)}
    if algo not in SUPERVISED:
        return " ".join([env, *(f"{name}={json.dumps(value, sort_keys=True)}" for name, value in extra.items())])
    shown = {name: value for name, value in extra.items() if value is not None and str(value) != env}
    return f"{algo} {env} ({', '.join(f'{name} {value}' for name, value in shown.items())})"


def _has(path: Path, name: str) -> bool:
    return any(is_number(record.get(name)) for record in read_metrics(path / "metrics.jsonl"))


def _algo(path: Path) -> str | None:
    found = read_json(path / "config.json").get("algo")
    return found if isinstance(found, str) else None


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _float(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
