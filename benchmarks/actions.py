"""Every action set: two million steps of `train ppo racing`, then Gymnasium's CarRacing-v3, zero-shot."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from _row import publish
from transfer import drivetrain

from drivetrain.envs.actions import ACTIONS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2_000_000, help="length of each training (default 2,000,000)")
    steps = parser.parse_args().steps
    found: dict[str, dict[str, object]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in ACTIONS:
            run = str(Path(scratch) / name)
            drivetrain("train", "ppo", "racing", "--actions", name, "--steps", str(steps), "--name", run)
            found[name] = drivetrain("evaluate", run, "--env", "CarRacing-v3")
            print(name, {key: found[name][key] for key in ("mean", "sd", "min", "failures")}, flush=True)
    words = [
        f"{name}: mean {x['mean']:.1f}, min {x['min']:.0f}, {x['failures']} below 900" for name, x in found.items()
    ]
    publish(found, f"Action sets, {steps:,} steps, seed 0, then CarRacing-v3, test seeds 0 to 99", "; ".join(words))


if __name__ == "__main__":
    main()
