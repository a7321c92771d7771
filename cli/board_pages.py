"""What TensorBoard shows of a run beside its curves: pages of text, its settings, and how it came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drivetrain.journal import read_metrics
from drivetrain.rundir import read_or_empty
from drivetrain.wandb_options import TrackOptions

__all__ = ["code_page", "outcome", "result_page", "settings_of", "settings_page"]

ELSEWHERE = ("version", "threads", *TrackOptions.model_fields)  # changes nothing that is learned
FIRST = ("algo", "env", "obs", "actions", "seed")


def settings_of(run: Path) -> dict[str, Any]:
    """The run's settings by name, the task first; empty while its config.json is not there."""
    config = read_or_empty(run / "config.json")
    names = [name for name in FIRST if name in config]
    names += [name for name in config if name not in (*FIRST, *ELSEWHERE)]
    return {name: config[name] for name in names}


def settings_page(run: Path) -> str:
    """All of config.json as a table."""
    return _table(("setting", "value"), settings_of(run))


def code_page(run: Path) -> str:
    """From which code and where: code.json as a table."""
    code = read_or_empty(run / "code.json")
    versions = code.pop("versions", None)
    commit, changed = code.get("commit"), code.pop("uncommitted", None)
    shown = code | {"commit": f"{commit}{', with uncommitted changes' if changed else ''}"}
    return _table(("what", "value"), shown | (dict(versions) if isinstance(versions, dict) else {}))


def result_page(values: Mapping[str, Any]) -> str:
    """How the run came out, as a table."""
    return _table(("what", "value"), {name: value for name, value in values.items() if name != "run"})


def outcome(run: Path) -> dict[str, Any]:
    """result.json of a run, with its ``best`` score; empty for one whose process died, for it has not come out yet."""
    records = read_metrics(run / "metrics.jsonl")
    result = read_or_empty(run / "result.json")
    if not isinstance(result.get("steps"), int) or (records and result["steps"] != records[-1].get("step")):
        return {}
    scores = [record["eval/mean"] for record in records if isinstance(record.get("eval/mean"), (int, float))]
    return result | {"best": max(scores, default=result.get("score"))}


def _table(titles: Sequence[str], values: Mapping[str, Any]) -> str:
    lines = [f"| {titles[0]} | {titles[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {_cell(value)} |" for name, value in values.items())])


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "empty"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or "empty"
    return str(value).replace("|", "\\|")
