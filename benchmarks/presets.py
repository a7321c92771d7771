"""What `drivetrain train ALGO ENV` reaches with its preset: several seeds, scored on 100 test episodes each.

Every run is a process of its own. Its best checkpoint by validation, from seeds of their own, plays the test seeds 0
to 99. Seconds are those of training, without validation. What is measured is kept in a file of JSON lines, so that an
interrupted benchmark goes on where it was; a preset that has changed is measured anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _row import publish

from drivetrain.agents.presets import preset_file

TARGETS = {
    "ppo:CartPole-v1": 475.0,
    "dqn:CartPole-v1": 475.0,
    "ppo:Acrobot-v1": -80.0,
    "dqn:Acrobot-v1": -80.0,
    "ppo:MountainCar-v0": -110.0,
    "dqn:MountainCar-v0": -105.0,
    "ppo:Pendulum-v1": -180.0,
    "ppo:LunarLander-v3": 250.0,
    "dqn:LunarLander-v3": 220.0,
    "ppo:racing": 920.0,
    "dqn:racing": 900.0,
}
"""what the median seed should reach"""
JUDGES = {"racing": "CarRacing-v3"}
"""where agents are scored, if not where they learned"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default=",".join(TARGETS), help="ALGO:ENV,… (default: all with a target)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this minus one (default 5)")
    parser.add_argument("--cache", type=Path, default=Path("runs/presets.jsonl"), help="what was measured so far")
    parser.add_argument("--only", action="store_true", help="print what the cache holds, measure nothing")
    options = parser.parse_args()
    for cell in options.cells.split(","):
        found = [_measured(cell, seed, options.cache, options.only) for seed in range(options.seeds)]
        runs = [run for run in found if run is not None]
        if runs:
            report(cell, runs)


def report(cell: str, runs: list[dict[str, Any]]) -> None:
    """Publish a cell."""
    algo, env = cell.split(":")
    scores = [run["mean"] for run in runs]
    seconds = [run["seconds"] for run in runs]
    steps, rate = statistics.median(run["steps"] for run in runs), statistics.median(run["steps_per_s"] for run in runs)
    target = TARGETS.get(cell)
    passed = "" if target is None else f"; {sum(s >= target for s in scores)} of {len(runs)} reach {target:g}"
    publish(
        {"cell": cell, "runs": runs},
        f"`train {algo} {env}`, {len(runs)} seeds, test seeds 0 to 99"
        + (f" of {JUDGES[env]}" if env in JUDGES else ""),
        f"median {statistics.median(scores):.1f}, worst {min(scores):.1f} ({', '.join(f'{s:.1f}' for s in scores)})"
        f"{passed}; {steps:,.0f} steps in {statistics.median(seconds):.1f} s ({min(seconds):.1f} to "
        f"{max(seconds):.1f}), {rate:,.0f} steps/s",
    )


def _measured(cell: str, seed: int, cache: Path, only: bool) -> dict[str, Any] | None:
    """A run from the cache, or a new one, which is added to it."""
    algo, env = cell.split(":")
    key = {"cell": cell, "seed": seed, "preset": _digest(preset_file(algo, env))}
    lines = cache.read_text().splitlines() if cache.is_file() else []
    known = [run for run in map(json.loads, lines) if key.items() <= run.items()]
    if known or only:
        return known[-1] if known else None
    run = key | train_and_score(algo, env, seed)
    print(json.dumps(run), file=sys.stderr, flush=True)
    cache.parent.mkdir(parents=True, exist_ok=True)
    with cache.open("a") as out:
        out.write(json.dumps(run) + "\n")
    return run


def train_and_score(algo: str, env: str, seed: int) -> dict[str, Any]:
    """One training by the preset alone, and the test of its best checkpoint."""
    with tempfile.TemporaryDirectory() as scratch:
        name = str(Path(scratch) / "run")
        trained = _drivetrain("train", algo, env, "--seed", str(seed), "--name", name)
        judge = ("--env", JUDGES[env]) if env in JUDGES else ()
        scored = _drivetrain("evaluate", name, *judge)
    training = ("steps", "seconds", "eval_seconds", "wall_seconds", "steps_per_s")
    return {k: trained[k] for k in training} | {k: scored[k] for k in ("mean", "sd", "min", "failures")}


def _drivetrain(*words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "drivetrain", *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with code {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _digest(file: Path) -> str:
    """Of the options in a preset, not of its words."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith(("#", "reached"))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


if __name__ == "__main__":
    main()
