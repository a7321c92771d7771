"""Wall clock of `drivetrain train ppo racing --stop-at 900`, the whole process: start-up, validation, files.

The first run is made with empty kernel caches and reported on its own; then one run a seed with warm caches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _row import publish


def train(seed: int, folder: Path, environment: dict[str, str]) -> dict[str, object]:
    """One run in a process of its own; what it printed, and the seconds from its start to its end."""
    command = [sys.executable, "-m", "drivetrain", "train", "ppo", "racing", "--stop-at", "900"]
    command += ["--seed", str(seed), "--name", str(folder / f"seed-{seed}-{time.monotonic_ns()}"), "--json"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"seed {seed} ended with code {done.returncode}\n{done.stderr}")
    return {**json.loads(done.stdout.splitlines()[-1]), "seed": seed, "measured_s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this minus one (default 5)")
    seeds = range(parser.parse_args().seeds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        # an empty cache of its own leaves the one of the installation alone
        fresh = dict(os.environ, NUMBA_CACHE_DIR=str(folder / "kernels"))
        cold = train(0, folder, fresh)
        warm = [train(seed, folder, dict(os.environ)) for seed in seeds]
    for run in warm:
        print({k: run[k] for k in ("seed", "status", "steps", "measured_s", "seconds", "eval_seconds", "score")})
    walls = [float(run["measured_s"]) for run in warm]  # type: ignore[arg-type]
    reached = sum(run["status"] == "reached" for run in warm)
    steps = statistics.median(int(run["steps"]) for run in warm)  # type: ignore[call-overload]
    scores = ", ".join(f"{run['score']:.1f}" for run in warm)
    publish(
        {"cold": cold, "warm": warm},
        "`train ppo racing --stop-at 900`, wall clock of the process",
        f"{reached} of {len(warm)} seeds reached it; median {statistics.median(walls):.1f} s ({min(walls):.1f} to "
        f"{max(walls):.1f}), {steps / 1e6:.2f} M steps; scores {scores}; first run with cold kernel caches "
        f"{float(cold['measured_s']):.1f} s",  # type: ignore[arg-type]
    )


if __name__ == "__main__":
    main()
