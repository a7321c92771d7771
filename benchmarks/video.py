"""What a film of a training costs the training: steps a second while one is made and while it is halted, in turn."""

from __future__ import annotations

import argparse
import os
import signal
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
    parser.add_argument("--films", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="between halting a film and letting it go on")
    args = parser.parse_args()
    set_threads(None)
    agent = PPO("racing", seed=0, device="cpu")
    updates = agent.iterate(10**12)
    for _ in range(5):  # compiles, and begins to drive
        next(updates)

    def trained() -> float:
        end = time.perf_counter() + args.seconds
        return rate(agent, lambda: next(updates), lambda: time.perf_counter() < end)

    alone, beside, begun, made = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        agent.save(folder)
        videos = Videos(Path(folder), print)
        for _ in range(args.films):
            began = time.perf_counter()
            videos.film(agent.steps, agent.policy.state_dict())
            begun.append(time.perf_counter() - began)
            made.append(begun[-1])
            while videos.filming:
                began, with_film = time.perf_counter(), trained()
                made[-1] += time.perf_counter() - began
                if videos.filming:
                    os.kill(videos.process_id, signal.SIGSTOP)
                    pairs = trained(), with_film
                    os.kill(videos.process_id, signal.SIGCONT)
                    alone.append(pairs[0])
                    beside.append(pairs[1])
    slower = [100 * (1 - b / a) for a, b in zip(alone, beside, strict=True)]
    low, middle, high = statistics.quantiles(slower, n=4)
    values = {"alone": alone, "beside": beside, "begun_s": begun, "made_s": made, "slower_percent": slower}
    publish(
        values,
        f"Training beside a film of it, PPO on racing, halted and let go on in turn, {len(slower)} pairs: median "
        "(quartiles)",
        f"{statistics.median(alone):,.0f} steps/s alone, {statistics.median(beside):,.0f} beside a film: "
        f"{middle:.0f} % slower ({low:.0f} to {high:.0f}); beginning one stops training for "
        f"{1e3 * statistics.median(begun):.0f} ms, making it takes {statistics.median(made):.0f} s",
    )


if __name__ == "__main__":
    main()
