"""What of a run folder belongs to wandb, as plain values: rows, films, pictures, models and the summary.

wandb's own step is no step of the training: it must never go back, and a training that was resumed goes back. It is
``STRIDE * seq`` here, with the gaps for films and pictures, so that the server itself tells which record came last and
refuses one that comes twice. The step of the training is the metric ``global_step``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivetrain.envs.errors import UserError
from drivetrain.journal import read_metrics
from drivetrain.rundir import read_json, read_or_empty

__all__ = [
    "STRIDE",
    "Model",
    "best_model",
    "covered_seq",
    "films",
    "final_seq",
    "histograms",
    "models",
    "newest_model",
    "pictures",
    "row",
    "summary",
]

STRIDE = 100  # wandb steps from one record to the next
FINAL = ("done", "reached", "diverged")  # endings after which no record is taken back


@dataclass(frozen=True)
class Model:
    """A checkpoint, by its manifest."""

    path: Path
    step: int
    seq: int  # of the last record that it covers
    score: float | None


def row(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a record, and where in the training it stands; whatever is no number is left out."""
    values = {name: value for name, value in record.items() if "/" in name and _is_number(value)}
    return values | {
        "global_step": record["step"],
        "frames": record.get("frames", 0),
        "seconds": record.get("seconds", 0),
    }


def histograms(record: Mapping[str, Any]) -> dict[str, tuple[list[int], list[float]]]:
    """Counts and edges (one more than counts) of the actions in a validation, by ``eval/actions/NAME``."""
    found = {}
    for entry in record.get("eval/actions") or ():
        counts = [int(count) for count in entry["counts"]]
        width = (entry["high"] - entry["low"]) / len(counts)
        edges = [entry["low"] + width * number for number in range(len(counts) + 1)]
        found[f"eval/actions/{entry['name']}"] = (counts, edges)
    return found


def models(run: Path) -> list[Model]:
    """The published checkpoints, oldest first; those that cannot be read are left out."""
    found = []
    for path in sorted((run / "checkpoints").glob("step_*/manifest.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            seq, score = int(manifest["info"]["seq"]), manifest.get("score")
            if path.with_name("model.safetensors").is_symlink():
                continue
            found.append(Model(path.parent, int(manifest["step"]), seq, score if _is_number(score) else None))
        except (OSError, ValueError, KeyError, TypeError):  # removed this moment, or damaged
            continue
    return found


def covered_seq(found: Iterable[Model]) -> int:
    """The last record that a resumption would keep."""
    return max((model.seq for model in found), default=0)


def best_model(found: Iterable[Model]) -> Model | None:
    """The one with the highest validation score, the newer of equals; None without any score."""
    scored = [model for model in found if model.score is not None]
    return max(scored, key=lambda model: (model.score, model.step), default=None)


def newest_model(found: Iterable[Model]) -> Model | None:
    """The one that went furthest."""
    return max(found, key=lambda model: model.step, default=None)


def films(run: Path) -> list[tuple[str, int]]:
    """Name in the run folder and step of each film; one that is being made has another name until it is whole.

    Links are left out, here and below: whoever made the folder may have had them point at any file.
    """
    found = []
    for path in sorted((run / "videos").glob("step_*.mp4")):
        digits = path.stem.removeprefix("step_")
        if digits.isdigit() and not path.is_symlink():
            found.append((f"videos/{path.name}", int(digits)))
    return found


def pictures(run: Path) -> list[str]:
    """Names of the curves and other pictures that lie in the run folder itself."""
    return [path.name for path in sorted(run.glob("*.png")) if not path.is_symlink()]


def final_seq(run: Path) -> tuple[int, str]:
    """Of a run that nobody trains: the last record that no resumption takes back, and how the run ended.

    A run that was killed may have begun again after the ending that result.json tells of.
    """
    covered = covered_seq(models(run))
    try:
        result = read_json(run / "result.json")
    except UserError:
        return covered, ""
    status, last = str(result.get("status", "")), read_metrics(run / "metrics.jsonl")[-1:]
    if not last or not all(
        _is_number(value) for value in (result.get("steps"), last[0].get("step"), last[0].get("seq"))
    ):
        return covered, ""
    if result["steps"] < last[0]["step"]:
        return covered, ""
    return (int(last[0]["seq"]) if status in FINAL else covered), status


def summary(run: Path, found: Iterable[Model]) -> dict[str, Any]:
    """What stands beside the run's name: how it ended, its score, its best score and its speed."""
    result = read_or_empty(run / "result.json")
    names = ("status", "score", "steps", "frames", "seconds", "eval_seconds", "steps_per_s")
    values = {name: result[name] for name in names if result.get(name) is not None}
    best = best_model(found)
    return values | ({"best_score": best.score, "best_step": best.step} if best is not None else {})


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
