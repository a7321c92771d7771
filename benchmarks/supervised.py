"""`drivetrain pretrain function`, `classify` and `sequence` at their defaults, each seed in a process of its own.

Seconds are of processor time (the process and the one that mirrors it) and of wall clock, start-up included.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _row import publish


def call(task: str, seed: int, folder: Path, more: list[str]) -> dict[str, Any]:
    """One training in a process of its own; what it printed, with its seconds of wall clock and of processor time."""
    name = str(folder / f"{task}-{seed}")
    words = [sys.executable, "-m", "drivetrain", "pretrain", task, "--seed", str(seed), "--name", name, "--json", *more]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with code {done.returncode}\n{done.stderr}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**json.loads(done.stdout.splitlines()[-1]), "wall_s": wall, "cpu_s": cpu}


def spread(values: list[float], form: str) -> str:
    """Median (lowest to highest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def row(task: str, runs: list[dict[str, Any]], more: list[str]) -> None:
    cpu, wall = (spread([r[name] for r in runs], ".1f") for name in ("cpu_s", "wall_s"))
    scores = [r["score"] for r in runs]
    if task == "function":
        result = f"mean absolute error {spread(scores, '.1e')}"
    elif task == "classify":
        result = f"{spread([100 * score for score in scores], '.2f')} % of the test digits right"
    else:
        names = list(runs[0]["errors"])
        errors = {name: [r["errors"][name] for r in runs] for name in names}
        result = "one-step error " + ", ".join(f"{name} {spread(errors[name], '.3f')}" for name in names)
        if "mlp" in names:
            shares = [max(r["errors"][name] for name in names if name != "mlp") / r["errors"]["mlp"] for r in runs]
            result += f"; the worse of those with memory has {max(shares):.2f} of the mlp's at most"
    what = " ".join(["`pretrain", task, *more]) + f"`, {len(runs)} seeds"
    publish({"task": task, "runs": runs}, what, f"{result}; {cpu} s of processor time, {wall} s of wall clock")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="function,classify,sequence", help="which (default all three)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this minus one (default 5)")
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        for task in options.tasks.split(","):
            runs = [call(task, seed, Path(scratch), more) for seed in range(options.seeds)]
            row(task, runs, more)


if __name__ == "__main__":
    main()
