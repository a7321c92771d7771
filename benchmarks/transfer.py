"""`drivetrain train ppo racing` for several seeds, then each driver, unchanged, on Gymnasium's CarRacing-v3."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from _row import publish


def drivetrain(*arguments: str) -> dict[str, object]:
    """What a command printed as JSON."""
    command = [sys.executable, "-m", "drivetrain", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with code {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="training seeds 0 to this minus one (default 3)")
    parser.add_argument("--episodes", type=int, default=100, help="test seeds 0 to this minus one (default 100)")
    parser.add_argument("--keep", type=Path, help="folder to leave the runs in (default: they are deleted)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        measure(options.seeds, options.episodes, options.keep or Path(scratch))


def measure(seeds: int, episodes: int, folder: Path) -> None:
    """Train and score, one seed after the other, and publish."""
    rows = []
    for seed in range(seeds):
        run = str(folder / f"transfer-{seed}")
        trained = drivetrain("train", "ppo", "racing", "--seed", str(seed), "--name", run)
        scored = drivetrain("evaluate", run, "--env", "CarRacing-v3", "--episodes", str(episodes))
        rows.append({"seed": seed, "trained": trained, "original": scored})
        print({k: scored[k] for k in ("mean", "sd", "min", "p10", "failures", "seconds")}, flush=True)
    means = [float(row["original"]["mean"]) for row in rows]  # type: ignore[index]
    each = "; ".join(
        f"seed {row['seed']}: mean {row['original']['mean']:.1f}, min {row['original']['min']:.1f}, "  # type: ignore[index]
        f"{row['original']['failures']} below 900 (trained {row['trained']['seconds']:.0f} s)"  # type: ignore[index]
        for row in rows
    )
    publish(
        {"rows": rows, "median": statistics.median(means)},
        f"`train ppo racing`, then CarRacing-v3 zero-shot, test seeds 0 to {episodes - 1}",
        each,
    )


if __name__ == "__main__":
    main()
