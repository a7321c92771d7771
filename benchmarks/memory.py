"""A task that cannot be done without memory: racing with hidden motion, driven with each core, several seeds.

Speeds, turning and slip read 0, so that only what was seen and done before tells how fast the car is. Every run has the
preset of `train ppo racing` but for the core and the number of lanes, the same number of steps, and is scored on the
100 test tracks. For comparison the same without a core where nothing is hidden.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import torch
from _row import publish

from drivetrain.agents.agent import PPO
from drivetrain.agents.worlds import play

KINDS = ("none, nothing hidden", "none", "gru", "lstm", "transformer")
FIRST_VALIDATION, EPISODES, VALIDATIONS = 1_000_000_000, 50, 16


def train(kind: str, seed: int, steps: int) -> dict[str, Any]:
    """One run: the test score of its best policy by validation, and seconds of processor time."""
    core: Any = kind.partition(",")[0]
    hidden = kind in KINDS[1:]
    agent = PPO("racing", seed=seed, device="cpu", core=core, hide_motion=hidden, num_envs=256)
    rounds, used, best, kept = agent.iterate(steps), 0.0, -float("inf"), {}
    curve = []
    for part in range(1, VALIDATIONS + 1):
        began = time.process_time()
        while agent.steps < part * steps // VALIDATIONS and next(rounds, None) is not None:
            pass
        used += time.process_time() - began
        seeds = range(FIRST_VALIDATION, FIRST_VALIDATION + EPISODES)
        score = play("racing", agent.task, agent.policy, seeds, "cpu").mean
        curve.append((agent.steps, round(used, 1), round(score, 1)))
        if score > best:
            best, kept = score, {name: value.clone() for name, value in agent.policy.state_dict().items()}
    agent.policy.load_state_dict(kept)
    tested = play("racing", agent.task, agent.policy, range(100), "cpu")
    found = {"mean": tested.mean, "min": tested.min, "failures": tested.failures(), "seconds": used, "curve": curve}
    return {"kind": kind, "seed": seed, "steps": steps} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["none", "gru", "transformer"], choices=KINDS)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to this minus one (default 1)")
    parser.add_argument("--steps", type=int, default=4_000_000, help="of every run (default 4,000,000)")
    parser.add_argument("--out", type=Path, default=Path("runs/memory.jsonl"), help="JSON lines; none is run twice")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    for seed in range(asked.seeds):
        for kind in asked.kinds:
            key = {"kind": kind, "seed": seed, "steps": asked.steps}
            if not any(key.items() <= row.items() for row in rows):
                rows.append(train(kind, seed, asked.steps))
                with asked.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    for kind in asked.kinds:
        runs = [r for r in rows if r["kind"] == kind and r["steps"] == asked.steps and r["seed"] < asked.seeds]
        means, seconds = [run["mean"] for run in runs], [run["seconds"] for run in runs]
        text = (
            f"median {statistics.median(means):.1f}, worst {min(means):.1f} ({', '.join(f'{m:.1f}' for m in means)}); "
        )
        text += f"{statistics.median(run['failures'] for run in runs):g} of 100 laps below 900; "
        text += f"{asked.steps:,} steps in {statistics.median(seconds):.0f} s of one core"
        publish({"kind": kind, "runs": runs}, f"racing with hidden motion, PPO, core {kind}", text)


if __name__ == "__main__":
    main()
