"""`drivetrain pretrain imitate`, seed after seed: wall clock of the process, then 100 test tracks of CarRacing-v3.

With --colours the colours are other ones in every episode, in training and in the original (domain_randomize=True).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _row import publish


def call(*words: str) -> dict[str, Any]:
    """One command of drivetrain in a process of its own; what it printed, and the seconds from its start to its end."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "drivetrain", *words, "--json"], capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(words)} ended with code {done.returncode}\n{done.stderr}")
    return {**json.loads(done.stdout.splitlines()[-1]), "measured_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--obs", default="pixels", help="what the student sees (default pixels)")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds 0 to this minus one (default 3)")
    parser.add_argument("--episodes", type=int, default=100, help="test seeds 0 to this minus one (default 100)")
    parser.add_argument("--colours", action="store_true", help="random colours, in training and in the original")
    parser.add_argument("--keep", type=Path, help="folder to keep the runs in (default: nowhere)")
    options, more = parser.parse_known_args()
    colours = ["--domain-randomize"] if options.colours else []
    more += colours
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        runs = []
        for seed in range(options.seeds):
            name = str(folder / f"imitate-{options.obs}-{seed}")
            train = ("pretrain", "imitate", "--obs", options.obs, "--seed", str(seed), "--name", name, *more)
            trained = call(*train)
            score = call("evaluate", name, "--env", "CarRacing-v3", "--episodes", str(options.episodes), *colours)
            runs.append({"seed": seed, "train": trained, "original": score})
            print(f"seed {seed}: {trained['measured_s']:.0f} s, mean {score['mean']:.1f}, min {score['min']:.1f}")
    walls = [run["train"]["measured_s"] for run in runs]
    table = "; ".join(
        f"seed {run['seed']}: {run['original']['mean']:.1f} ± {run['original']['sd']:.1f}, "
        f"min {run['original']['min']:.1f}, {run['original']['failures']} below 900"
        for run in runs
    )
    publish(
        {"runs": runs},
        " ".join(["`pretrain imitate --obs", options.obs, *more]).rstrip()
        + f"`, test seeds 0 to {options.episodes - 1} "
        f"of CarRacing-v3{' with domain_randomize=True' if options.colours else ''}",
        f"{table}; wall clock of the whole process, median {statistics.median(walls):.0f} s "
        f"({min(walls):.0f} to {max(walls):.0f})",
    )


if __name__ == "__main__":
    main()
