"""``drivetrain runs``: what was trained here, how far it came and how well it drives."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.lock import holder
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, console
from drivetrain.rundir import known_runs, read_json, read_run_config

__all__ = ["describe_run", "main"]


class RunsOptions(Options):
    """Options"""

    sort: Literal["age", "name", "score"] = Field(
        "age", description="order of the rows: newest, by name, or best first"
    )


SPEC = Spec(RunsOptions, "drivetrain runs", "List the runs in ./runs, ./runs/baselines and those shipped.")


def main(argv: list[str]) -> Result:
    """List the runs."""
    options = parse(SPEC, argv).options
    rows = [describe_run(name, path) for name, path in known_runs().items()]
    keys = {
        "age": lambda row: row["age_seconds"],
        "name": lambda row: row["run"],
        "score": lambda row: -(row["best"] if row["best"] is not None else float("-inf")),
    }
    rows.sort(key=keys[options.sort])
    if rows:
        _print(rows)
    else:
        print("no runs yet; begin with: drivetrain train ppo racing --stop-at 900")
    return Result({"runs": rows})


def describe_run(name: str, path: Path) -> dict[str, Any]:
    """One row: algorithm, environment, steps, best validation score, status, age. Damaged files leave gaps."""
    config, result = _read(read_run_config, path), _read(read_json, path / "result.json")
    manifests = [_read(read_json, manifest) for manifest in sorted(path.glob("checkpoints/step_*/manifest.json"))]
    scores = [m["score"] for m in manifests if isinstance(m.get("score"), (int, float))]
    steps = [m["step"] for m in manifests if isinstance(m.get("step"), int)]
    newest = max((file.stat().st_mtime for file in path.glob("*.json*")), default=time.time())
    return {
        "run": name,
        "path": str(path),
        "algo": config.get("algo"),
        "env": config.get("env"),
        "obs": config.get("obs"),
        "actions": config.get("actions"),
        "steps": max(steps, default=result.get("steps") or 0),
        "best": max(scores, default=result.get("score")),
        "status": _status(path, result, bool(manifests)),
        "age_seconds": max(0, round(time.time() - newest)),
    }


def _status(path: Path, result: dict[str, Any], has_checkpoint: bool) -> str:
    if holder(path) is not None:
        return "running"
    if result.get("status"):
        return str(result["status"])
    return "stopped" if has_checkpoint else "empty"


def _read(reader: Any, path: Path) -> dict[str, Any]:
    try:
        return dict(reader(path))
    except UserError:
        return {}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "algorithm", "environment", "obs, actions", "status"):
        table.add_column(title)
    for title in ("steps", "best", "age"):
        table.add_column(title, justify="right")
    for row in rows:
        best = f"{row['best']:.1f}" if isinstance(row["best"], (int, float)) else "–"
        table.add_row(
            row["run"],
            str(row["algo"] or "–"),
            str(row["env"] or "–"),
            f"{row['obs'] or '–'}, {row['actions'] or '–'}",
            row["status"],
            f"{row['steps']:,}",
            best,
            _age(row["age_seconds"]),
        )
    console().print(table)


def _age(seconds: int) -> str:
    for size, letter in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {letter}"
    return f"{seconds} s"
