"""`drivetrain compare` on three groups of five runs: its intervals against plain loops, and the time that it takes.

Trains PPO on CartPole-v1 at three learning rates with five seeds each, or takes runs that are there already, and
compares them where they differ most. The reference draws the same runs as the bootstrap does and computes every
resample with `math.fsum`, one after the other, in float64.

    python benchmarks/compare.py                          minutes: 15 short trainings
    python benchmarks/compare.py --folder FOLDER          the same runs again, or what is missing of them
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _row import publish

from drivetrain.compare import main as compare
from drivetrain.statistics import draw, improvement, interval, iqm

RATES = ("0.0003", "0.001", "0.004")
SEEDS = range(1, 6)
STEPS = 200_000
RESAMPLES = 10_000


def train(folder: Path) -> None:
    """The runs that are not there yet, one after the other, seeds in turn."""
    for seed in SEEDS:
        for rate in RATES:
            path = folder / "runs" / f"cart-{rate}-{seed}"
            if (path / "result.json").exists():
                continue
            words = ["train", "ppo", "CartPole-v1", "--learning-rate", rate, "--seed", str(seed), "--name", str(path)]
            words += ["--steps", str(STEPS), "--eval-every", "10000", "--threads", "1", "--track", "none"]
            subprocess.run([sys.executable, "-m", "drivetrain", *words], check=True, capture_output=True)


def loop_iqm(scores: Sequence[float]) -> float:
    """The definition, word for word."""
    ordered = sorted(scores)
    cut = math.floor(len(ordered) / 4)
    middle = ordered[cut : len(ordered) - cut]
    return math.fsum(middle) / len(middle)


def loop_chance(a: Sequence[float], b: Sequence[float]) -> float:
    """Share of the pairs that a wins, ties counting half."""
    return math.fsum((x > y) + 0.5 * (x == y) for x in a for y in b) / (len(a) * len(b))


def loop_ends(values: Sequence[float]) -> list[float]:
    """The 2.5th and the 97.5th percentile, linear between neighbours."""
    ordered, ends = sorted(values), []
    for percent in (2.5, 97.5):
        place = percent / 100 * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        ends.append(ordered[below] + (place - below) * (ordered[above] - ordered[below]))
    return ends


def largest_error(groups: Sequence[list[float]]) -> float:
    """Of all values and ends of intervals: by how much the vectorised ones and the loops differ, relative."""
    rng = np.random.default_rng(0)
    draws = [draw(rng, [len(scores)], RESAMPLES) for scores in groups]
    errors = []

    def judge(found: Any, wanted: Sequence[float]) -> None:
        errors.extend(
            abs(float(ours) - theirs) / max(1.0, abs(theirs)) for ours, theirs in zip(found, wanted, strict=True)
        )

    for scores, drawn in zip(groups, draws, strict=True):
        resampled = [loop_iqm([scores[run] for run in row]) for row in drawn[0].tolist()]
        judge(interval([np.array(scores)], iqm, drawn), [loop_iqm(scores), *loop_ends(resampled)])
    for x in range(len(groups)):
        for y in range(x):
            pairs = zip(draws[x][0].tolist(), draws[y][0].tolist(), strict=True)
            resampled = [loop_chance([groups[x][i] for i in a], [groups[y][j] for j in b]) for a, b in pairs]
            found = improvement([np.array(groups[x])], [np.array(groups[y])], (draws[x], draws[y]))
            judge(found, [loop_chance(groups[x], groups[y]), *loop_ends(resampled)])
    return max(errors)


def seconds_of(work: Callable[[], object], times: int) -> tuple[float, float, float]:
    """(median, fastest, slowest) of several times."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[len(taken) // 2], min(taken), max(taken)


def measure(folder: Path, at: int, times: int) -> None:
    """One comparison, its intervals checked, and both the numbers and the whole command timed."""
    from drivetrain.compare_groups import find_named, group_runs
    from drivetrain.compare_numbers import Scale, compare_groups
    from drivetrain.compare_runs import Rule, score_run

    os.chdir(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        values: dict[str, Any] = dict(compare(["cart-*", "--at", str(at), "--out", "compared"]).values)
    scores = {run["run"]: run["score"] for run in values["runs"]}
    error = largest_error([[scores[name] for name in group["runs"]] for group in values["groups"]])
    runs = [score_run(named.path, Rule(at=at)) for named in find_named(["cart-*"])]
    groups = group_runs(runs, {}, ("auto",))
    numbers = seconds_of(lambda: compare_groups(groups, Scale({}, 475.0), RESAMPLES, 0), times)
    words = [sys.executable, "-m", "drivetrain", "compare", "cart-*", "--at", str(at), "--out", "compared"]
    whole = seconds_of(lambda: subprocess.run(words, check=True, capture_output=True), times)
    print("\n".join(values["verdict"]))
    inside, outside = (f"{middle:.2f} s ({low:.2f} to {high:.2f})" for middle, low, high in (numbers, whole))
    publish(
        {"largest_relative_error": error, "numbers_seconds": numbers, "command_seconds": whole},
        f"`compare` of 3 groups of 5 runs, {RESAMPLES:,} resamples, {times} times: median (lowest to highest)",
        f"values and intervals (IQM, probability) differ from float64 loops by {error:.1e} at most, relative; "
        f"all numbers in {inside}, the whole command with three pictures in {outside}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the runs are, or go (default: a temporary one)")
    parser.add_argument("--at", type=int, default=70_000, help="step at which they are compared (default 70,000)")
    parser.add_argument("--times", type=int, default=5, help="each time is measured so often (default 5)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(asked.folder or scratch).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        train(folder)
        measure(folder, asked.at, asked.times)


if __name__ == "__main__":
    main()
