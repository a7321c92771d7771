"""Everything that the folder of one run tells, as plain values."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from drivetrain.journal import is_number, read_metrics
from drivetrain.lock import holder
from drivetrain.options import Spec
from drivetrain.pretrain import SUPERVISED
from drivetrain.progress import spark
from drivetrain.rundir import read_or_empty, run_name
from drivetrain.runs_rows import RunRow, describe_run, size_of
from drivetrain.wandb_options import TrackOptions
from drivetrain.wandb_rows import films, pictures

__all__ = ["changed_settings", "checkpoint_facts", "next_commands", "run_facts"]

NO_SETTINGS = ("version", "algo", "env")  # keys of config.json that are no options
ELSEWHERE = ("device", "threads", *TrackOptions.model_fields)  # options that change nothing that is learned
WORDS = ("run", "status")  # what is no number in result.json
SPARK = 60  # columns of the curve
CURVES = ("train/return", "eval/mean", "loss/validation", "loss/train")


def run_facts(path: Path) -> dict[str, Any]:
    """All there is to say about a run folder."""
    row = describe_run(run_name(path), path)
    config, records = read_or_empty(path / "config.json"), read_metrics(path / "metrics.jsonl")
    outcome = read_or_empty(path / "result.json")
    result = {name: value for name, value in outcome.items() if name in WORDS or is_number(value)}
    seconds = records[-1].get("seconds") if records else result.get("seconds")
    settings = {name: value for name, value in config.items() if name not in NO_SETTINGS}
    return asdict(row) | {
        "trained_by": holder(path),
        "result": result,
        "version": config.get("version"),
        "config": settings,
        "changed": changed_settings(row, settings),
        "code": read_or_empty(path / "code.json"),
        "checkpoints": checkpoint_facts(path / "checkpoints"),
        "validations": [_validation(record) for record in records if isinstance(record.get("eval/mean"), (int, float))],
        "records": len(records),
        "seconds": seconds if is_number(seconds) else None,
        "curve": _curve(records),
        "videos": [name for name, _ in films(path)],
        "pictures": pictures(path),
        "tensorboard_bytes": size_of(path / "tensorboard"),
        "tracking": _tracking(path),
        "next": next_commands(row),
    }


def changed_settings(row: RunRow, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that are not those of the preset, each with what the preset has; all of them where there is none."""
    spec = _spec(row)
    if spec is None:
        return {name: (value, None) for name, value in settings.items()}
    chosen = {name: settings[name] for name in ("core", "domain_randomize") if name in settings}
    preset = spec.preset(chosen | ({"obs": row.obs} if row.obs else {}))
    fields = spec.model.model_fields
    found = {}
    for name, value in settings.items():
        if name not in fields or name in ELSEWHERE:
            continue
        usual = preset.get(name, fields[name].get_default(call_default_factory=True))
        usual = list(usual) if isinstance(usual, tuple) else usual
        if value != usual:
            found[name] = (value, usual)
    return found


def checkpoint_facts(folder: Path) -> list[dict[str, Any]]:
    """Step, score, size and state of every checkpoint, oldest first; each file is read and checked."""
    from drivetrain.agents.checkpoint import CheckpointError, choose_checkpoint, read_checkpoint

    try:
        best = choose_checkpoint(folder).path
    except CheckpointError:
        best = None
    found = []
    for path in sorted(folder.glob("step_*")):
        facts: dict[str, Any] = {"step": int(path.name.removeprefix("step_")), "score": None, "bytes": size_of(path)}
        try:
            checkpoint = read_checkpoint(path)
        except (CheckpointError, OSError) as error:
            found.append(facts | {"state": "damaged", "why": str(error), "best": False})
            continue
        state = "valid" if checkpoint.resumable else "valid, weights only"
        found.append(
            facts | {"score": checkpoint.score, "state": state, "best": path == best and checkpoint.score is not None}
        )
    return found


def next_commands(row: RunRow) -> list[str]:
    """What one may want to type now."""
    run, config = shlex.quote(row.run), shlex.quote(f"{row.path}/config.json")
    if row.status == "running":
        return [f"drivetrain runs board {run}", f"drivetrain watch {run}"]
    if row.algo in SUPERVISED:
        return [f"drivetrain runs board {run}", f"drivetrain pretrain {row.algo} --config {config}"]
    going_on = row.status in ("interrupted", "failed") and row.algo != "imitate"
    commands = [f"drivetrain resume {run}"] if going_on else []
    return [*commands, *(f"drivetrain {verb} {run}" for verb in ("watch", "evaluate", "compare"))]


def _curve(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The first of the usual curves that the run has: its name and its values."""
    for name in CURVES:
        values = [float(record[name]) for record in records if is_number(record.get(name))]
        if len(values) > 1:
            steep = name.startswith("loss/") and min(values) > 0  # a loss falls by powers of ten
            line = spark([math.log(value) for value in values] if steep else values, SPARK)
            return {"name": f"{name}, logarithmic" if steep else name, "values": values, "line": line}
    return None


def _validation(record: Mapping[str, Any]) -> dict[str, Any]:
    names = ("mean", "min", "p10", "sd", "failures", "confirmed")
    return {"step": record.get("step")} | {
        name: record.get(f"eval/{name}") for name in names if f"eval/{name}" in record
    }


def _tracking(path: Path) -> dict[str, Any] | None:
    """The run's id at wandb, and how much is there; None where it was never tracked."""
    state = read_or_empty(path / "wandb" / "mirrored.json")
    if not state.get("id"):
        return None
    counts = {
        place: tally.get("seq") if isinstance(tally := state.get(place), dict) else None
        for place in ("online", "offline")
    }
    return {"wandb_id": state["id"], "records_online": counts["online"], "records_offline": counts["offline"]}


def _spec(row: RunRow) -> Spec[Any] | None:
    """The options of the command that made a run; None for a run that is of no known kind."""
    from drivetrain.agents.config import ALGORITHMS

    if row.algo in ALGORITHMS and row.env is not None:
        from drivetrain.train import train_spec

        return train_spec(row.algo, row.env)
    if row.algo == "imitate":
        from drivetrain.pretrain_imitate import imitate_spec

        return imitate_spec()
    if row.algo == "function":
        from drivetrain.pretrain_function import function_spec

        return function_spec()
    if row.algo == "sequence":
        from drivetrain.pretrain_sequence import sequence_spec

        return sequence_spec()
    if row.algo == "classify":
        from drivetrain.pretrain_classify import classify_spec

        return classify_spec()
    return None
