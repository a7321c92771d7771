"""After a sweep: the best trial and the defaults once more, side by side, on seeds that no trial had.

The best of many noisy trials is partly the luckiest; only fresh seeds tell by how much it is better.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from drivetrain.rundir import read_json, write_json
from drivetrain.sweep_report import best_of, default_of
from drivetrain.sweep_study import Study
from drivetrain.sweep_trial import BAD_INPUT, DIVERGED, POLL, Launch, SeedRun, end_all, launch, measure
from drivetrain.sweep_work import arguments_of

__all__ = ["confirm"]

FRESH = 10_000  # the first fresh seed lies this far behind the first of the trials
SIDES = ("default", "best")
MISSING = {"code": -1}
SETTLED = (None, 0, BAD_INPUT, DIVERGED)  # exit codes of which another try would make no other; None = not recorded


def confirm(
    study: Study, size: int, here: Mapping[str, Any], stopped: Callable[[], bool], start: Launch = launch
) -> None:
    """Run what is missing of the confirmation, ``size`` runs at a time; ends early when stopped.

    Results are kept in confirm.json: {seed: {"trial": N, "best": {...}, "default": {...}}}. A run that failed is tried
    again, unless it would fail alike.
    """
    best, default = best_of(study), default_of(study)
    if best is None or best.user_attrs.get("default") or not study.record.confirm:
        return
    known = read_json(study.path / "confirm.json") if (study.path / "confirm.json").is_file() else {}
    values = {"best": study.values(best), "default": {}}
    names = {"best": f"t{best.number:03d}", "default": f"t{default.number:03d}" if default else "defaults"}
    todo = []
    for k in range(study.record.confirm):
        entry = known.setdefault(str(study.record.seed + FRESH + k), {})
        if entry.get("trial") != best.number:
            entry.pop("best", None)
        entry["trial"] = best.number
        sides = [side for side in SIDES if entry.get(side, MISSING).get("code") not in SETTLED]
        todo += [(study.record.seed + FRESH + k, side) for side in sides]
    running: dict[tuple[int, str], SeedRun] = {}
    try:
        while (todo or running) and not stopped():
            while todo and len(running) < size:
                seed, side = todo.pop(0)
                path = _free(study, f"{names[side]}-s{seed}")
                log = study.path / "logs" / f"{path.name}.log"
                running[seed, side] = SeedRun(
                    path, log, start(arguments_of(study, values[side], seed, path, here), log)
                )
            for (seed, side), run in list(running.items()):
                run.look()
                if run.code is None:
                    continue
                del running[seed, side]
                known[str(seed)][side] = _entry(study, run)
                write_json(study.path / "confirm.json", known)
            time.sleep(POLL)
    finally:
        end_all(list(running.values()))


def _entry(study: Study, run: SeedRun) -> dict[str, Any]:
    value = measure(study.record.objective, run) if run.code == 0 else None
    facts = {key: run.result().get(key) for key in ("status", "steps", "seconds", "score")}
    return {"run": run.path.name, "code": run.code, "value": value, "processor": round(run.processor, 2), **facts}


def _free(study: Study, end: str) -> Path:
    """A run folder that does not exist: an interrupted confirmation leaves its own behind."""
    path, again = study.run_path(end), 1
    while path.exists():
        again += 1
        path = study.run_path(f"{end}-{again}")
    return path
