"""What a user waits for before anything happens: help pages, imports, tracks."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from _row import publish

from drivetrain.envs.track import centreline_of_seed, pool


def median(call: Callable[[], object], times: int) -> float:
    """Median seconds of a call."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def command(*arguments: str) -> Callable[[], object]:
    """A process of its own."""
    return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True)


def main() -> None:
    tracks = 256
    pool(0, 2)  # loads the kernels
    values = {
        "help": median(command("-m", "drivetrain", "--help"), 9),
        "help_train": median(command("-m", "drivetrain", "train", "ppo", "racing", "--help"), 9),
        "import_torch": median(command("-c", "import torch"), 5),
        "import_agents": median(command("-c", "from drivetrain.agents import PPO"), 5),
        "track_ms": 1e3 * median(lambda: [centreline_of_seed(seed) for seed in range(tracks)], 5) / tracks,
        "track_and_tables_ms": 1e3 * median(lambda: pool(0, tracks), 5) / tracks,
    }
    publish(
        values,
        "Start-up, median of fresh processes; tracks in bulk",
        f"`drivetrain --help` {values['help']:.2f} s; `train ppo racing --help` {values['help_train']:.2f} s; "
        f"importing the agents {values['import_agents']:.2f} s, of which torch {values['import_torch']:.2f} s; a track "
        f"{values['track_ms']:.2f} ms, with its look-up tables {values['track_and_tables_ms']:.2f} ms",
    )


if __name__ == "__main__":
    main()
