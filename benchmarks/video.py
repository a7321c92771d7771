"""What a film of a training costs the training: steps a second while one is made, and without, in turn."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

from _row import publish

from drivetrain.agents import PPO
from drivetrain.device import set_threads
from drivetrain.videos import Videos


def rate(agent: PPO, update: Callable[[], object], goes_on: Callable[[], bool]) -> float:
    """Steps a second of whole updates, as long as it goes on."""
    steps, began = agent.steps, time.perf_counter()
    while goes_on():
        update()
    return (agent.steps - steps) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of training between two films")
    args = parser.parse_args()
    set_threads(None)
    agent = PPO("racing", seed=0, device="cpu")
    updates = agent.iterate(10**12)
    for _ in range(5):  # compiles, and begins to drive
        next(updates)
    alone, beside, begun, made = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        agent.save(folder)
        videos = Videos(Path(folder), print)
        for _ in range(args.rounds):
            end = time.perf_counter() + args.seconds
            alone.append(rate(agent, lambda: next(updates), lambda end=end: time.perf_counter() < end))
            began = time.perf_counter()
            videos.film(agent.steps, agent.policy.state_dict())
            begun.append(time.perf_counter() - began)
            beside.append(rate(agent, lambda: next(updates), lambda: videos.filming))
            made.append(time.perf_counter() - began)
        videos.close(patient=True)
    slower = [100 * (1 - b / a) for a, b in zip(alone, beside, strict=True)]
    values = {"alone": alone, "beside": beside, "begun_s": begun, "made_s": made, "slower_percent": slower}
    publish(
        values,
        f"Training beside a film of it, PPO on racing, {args.rounds} rounds in turn, median (least to most)",
        f"{statistics.median(alone):,.0f} steps/s alone, {statistics.median(beside):,.0f} beside a film: "
        f"{statistics.median(slower):.0f} % slower ({min(slower):.0f} to {max(slower):.0f}); beginning one stops "
        f"training for {1e3 * statistics.median(begun):.0f} ms, making it takes {statistics.median(made):.1f} s",
    )


if __name__ == "__main__":
    main()
