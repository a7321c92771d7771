"""Reinforcement from pictures with an encoder that was taught before, beside the same from scratch: steps to a score.

The encoder is that of a pixel student of the scripted expert (`pretrain imitate`, with the network and the pace of the
PPO preset). `train ppo racing --obs pixels --init-from STUDENT --init-parts encoder` begins with it under fresh heads.
Both sides have the preset, the same seeds, and are scored without exploration on validation tracks at equal steps.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

from _row import publish

from drivetrain.agents.worlds import play
from drivetrain.device import keep_freed_memory, set_threads
from drivetrain.learner import begin_from, build_learner
from drivetrain.main import main as drivetrain
from drivetrain.options import parse
from drivetrain.train import train_spec

VALIDATION, TRACKS = 1_000_000_000, 30
STUDENT = ("--obs", "pixels", "--channels", "16,32,32", "--frame-skip", "4")
SIDES = ("encoder", "scratch")


def train(side: str, student: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training until the last score is reached or the steps are used up: its curve of (steps, seconds, score)."""
    words = ["--obs", "pixels", "--device", "cpu", "--seed", str(seed), "--steps", str(options.schedule)]
    if side == "encoder":
        words += ["--init-from", student, "--init-parts", "encoder"]
    settings = parse(train_spec("ppo", "racing"), words).options
    settings = settings.model_copy(update={"threads": set_threads(options.threads)})
    learner = build_learner("ppo", "racing", settings).agent
    if side == "encoder":
        begin_from(learner, student, encoder_alone=True)
    curve, seconds = [], 0.0
    while learner.steps < options.steps and not (curve and curve[-1][2] >= max(options.scores)):
        begun = time.process_time()
        while learner.steps < (len(curve) + 1) * options.every:
            learner.update_once()
        seconds += time.process_time() - begun
        tracks = range(VALIDATION, VALIDATION + TRACKS)
        score = play("racing", settings.model_dump(), learner.policy, tracks, "cpu").mean
        curve.append((learner.steps, seconds, score))
        print(f"{side} {seed}: {learner.steps:,} steps, {seconds:.0f} s, {score:.1f}", flush=True)
    return {"side": side, "seed": seed, "curve": curve}


def steps_to(run: dict[str, Any], score: float) -> float:
    """Steps at the first validation that reached the score; infinite if none did."""
    return next((float(steps) for steps, _, found in run["curve"] if found >= score), math.inf)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="training seeds 0 to this minus one (default 3)")
    parser.add_argument("--scores", type=float, nargs="+", default=[700.0, 800.0, 850.0], help="to be reached")
    parser.add_argument("--steps", type=int, default=2_000_000, help="most decisions of a run (default 2,000,000)")
    parser.add_argument("--schedule", type=int, default=6_000_000, help="--steps that schedules end at (the preset's)")
    parser.add_argument("--every", type=int, default=65_536, help="decisions between validations (default 65,536)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("runs/encoder"), help="folder of the student and the runs")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    student, out = options.keep / "student", options.keep / "runs.jsonl"
    keep_freed_memory()
    if not student.exists() and drivetrain(["pretrain", "imitate", *STUDENT, "--name", str(student)]):
        raise SystemExit("no student")
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    for seed in range(options.seeds):
        for side in SIDES:
            if not any((row["side"], row["seed"]) == (side, seed) for row in rows):
                rows.append(train(side, str(student), seed, options))
                with out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    for score in options.scores:
        report(score, [row for row in rows if row["seed"] < options.seeds], options)


def report(score: float, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """The row of one score."""
    found = {side: [steps_to(row, score) for row in rows if row["side"] == side] for side in SIDES}
    ratios = [slow / fast for slow, fast in zip(found["scratch"], found["encoder"], strict=True)]
    words = {side: f"{', '.join(f'{steps:,.0f}' for steps in found[side])}" for side in SIDES}
    publish(
        {"score": score, "runs": rows},
        f"`train ppo racing --obs pixels`, decisions until a validation of {TRACKS} tracks reaches {score:g}, "
        f"every {options.every:,}, {options.seeds} seeds",
        f"with a taught encoder {words['encoder']}; from scratch {words['scratch']}; "
        f"{statistics.median(ratios):.1f} times fewer ({min(ratios):.1f} to {max(ratios):.1f})",
    )


if __name__ == "__main__":
    main()
