"""Why DQN's defaults are what they are: each option turned the other way, on three environments, several seeds.

An environment keeps what its preset says of the task and of the size of things; every option that is looked at here
stands at its default but one. A run is judged by the mean of its last three validations out of ten, so that what is
learned and lost again counts as lost. Runs are kept in a file of JSON lines; what is there is not run again.

    python benchmarks/dqn_defaults.py            minutes: CartPole, 1 seed
    python benchmarks/dqn_defaults.py --envs CartPole-v1 LunarLander-v3 racing --seeds 3
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

from drivetrain.agents.agent import DQN
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.worlds import play

STEPS = {"CartPole-v1": 60_000, "LunarLander-v3": 150_000, "racing": 500_000}
RANDOM = {"CartPole-v1": 22.0, "LunarLander-v3": -180.0, "racing": -30.0}
"""about what random actions score"""
GOOD = {"CartPole-v1": 500.0, "LunarLander-v3": 250.0, "racing": 920.0}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "double off": {"double": False},
    "dueling": {"dueling": True},
    "1 step": {"n_step": 1},
    "5 steps": {"n_step": 5},
    "prioritised": {"buffer": "prioritized"},
    "51 quantiles": {"quantiles": 51},
    "noisy nets": {"noisy": True, "eps_start": 0.05},
    "layer norm": {"layer_norm": True},
    "tanh": {"activation": "tanh"},
    "Munchausen": {"munchausen": True},
    "soft target": {"target_update": "soft"},
    "squared loss": {"loss": "mse"},
    "constant rate": {"lr_schedule": "constant"},
    "ladder of eps": {"eps_ladder": 7.0, "eps_end": 0.4},
    "half the replay": {"replay_ratio": 0.5},
    "twice the replay": {"replay_ratio": 2.0},
}
"""what is set otherwise; a replay_ratio is a factor on the preset's"""
LOOKED_AT = {name for changes in VARIANTS.values() for name in changes} - {"eps_start", "eps_end", "replay_ratio"}
FIRST_SEED, EPISODES, VALIDATIONS, LAST = 1_000_000_000, 20, 10, 3


def train(env: str, variant: str, seed: int) -> dict[str, Any]:
    """One run: its last scores, and seconds of processor time."""
    defaults = {name: DQNConfig.model_fields[name].default for name in LOOKED_AT}
    changes = dict(VARIANTS[variant])
    agent = DQN(env, seed=seed, device="cpu", **defaults)
    if "replay_ratio" in changes:
        changes["replay_ratio"] *= agent.config.replay_ratio  # type: ignore[union-attr]
    agent = DQN(env, seed=seed, device="cpu", **(defaults | changes))
    total, scores, used = STEPS[env], [], 0.0
    rounds = agent.iterate(total)
    for part in range(1, VALIDATIONS + 1):
        began = time.process_time()
        while agent.steps < part * total // VALIDATIONS and next(rounds, None) is not None:
            pass
        used += time.process_time() - began
        scores.append(play(env, agent.task, agent.policy, range(FIRST_SEED, FIRST_SEED + EPISODES), "cpu").mean)
    return {"env": env, "variant": variant, "seed": seed, "score": statistics.mean(scores[-LAST:]), "seconds": used}


def share(row: dict[str, Any]) -> float:
    """A score between random and good, as 0 to 1."""
    env = row["env"]
    return float((row["score"] - RANDOM[env]) / (GOOD[env] - RANDOM[env]))


def report(rows: list[dict[str, Any]], envs: list[str]) -> None:
    """One row for each variant: every environment, and all of them together."""
    for variant in VARIANTS:
        of_variant = [row for row in rows if row["variant"] == variant and row["env"] in envs]
        if not of_variant:
            continue
        texts = []
        for env in envs:
            mine = [row for row in of_variant if row["env"] == env]
            scores, seconds = [row["score"] for row in mine], [row["seconds"] for row in mine]
            if mine:
                texts.append(
                    f"{env} {statistics.mean(scores):.1f} ({min(scores):.1f} to {max(scores):.1f}), "
                    f"{statistics.mean(seconds):.1f} s"
                )
        together = statistics.mean(share(row) for row in of_variant)
        text = f"{'; '.join(texts)}; together {together:.3f}, {len(of_variant)} runs"
        publish({"variant": variant, "share": together}, f"DQN, {variant}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["CartPole-v1"], choices=list(STEPS))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to this minus one (default 1)")
    parser.add_argument("--out", type=Path, default=Path("runs/dqn_defaults.jsonl"), help="JSON lines")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    done = {(row["env"], row["variant"], row["seed"]) for row in rows}
    for seed in range(asked.seeds):
        for env in asked.envs:
            for variant in asked.variants:
                if (env, variant, seed) not in done:
                    rows.append(train(env, variant, seed))
                    with asked.out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    report([row for row in rows if row["seed"] < asked.seeds], asked.envs)


if __name__ == "__main__":
    main()
