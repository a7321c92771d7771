"""Training speed beside Stable-Baselines3, learning included: steps a second, by turns in one process.

`preset`: each side as it is meant to be used: our preset, and the tuned settings of RL Baselines3 Zoo
(hyperparams/ppo.yml and dqn.yml); racing, which the Zoo does not know, with Stable-Baselines3's own defaults on 16
lanes of the same simulator behind our VecEnv adapter. `equal`: the same network, lanes, rollout, epochs, minibatches or
replayed samples a step on both sides. Time to score is in benchmarks/peers.py.

    python benchmarks/peer_speed.py [--part preset|equal|both] [--rounds 5] [--seconds 6]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, for both sides

import torch
from _row import publish
from stable_baselines3 import DQN as TheirDQN
from stable_baselines3 import PPO as TheirPPO
from stable_baselines3.common.env_util import make_vec_env

from drivetrain.agents.agent import DQN, PPO
from drivetrain.agents.cores import available_cores
from drivetrain.agents.presets import preset
from drivetrain.agents.sb3_vec import Sb3VecEnv
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool

Advance = Callable[[], int]
NETWORK = {"activation_fn": torch.nn.Tanh, "net_arch": {"pi": [64, 64], "vf": [64, 64]}}


@dataclass(frozen=True)
class Cell:
    """One comparison."""

    name: str
    env: str
    algo: str
    ours: Mapping[str, Any]  # settings beside the preset
    theirs: Mapping[str, Any]
    lanes: int  # of the peer
    aim: float  # times as fast


PRESETS = (
    Cell(
        "CartPole-v1, PPO",
        "CartPole-v1",
        "ppo",
        {},
        # the Zoo's linear schedules of rate and clipping do not change the speed
        {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "learning_rate": 1e-3},
        8,
        20,
    ),
    Cell(
        "CartPole-v1, DQN",
        "CartPole-v1",
        "dqn",
        {},
        {
            "learning_rate": 2.3e-3,
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "gamma": 0.99,
            "target_update_interval": 10,
            "train_freq": 256,
            "gradient_steps": 128,
            "exploration_fraction": 0.16,
            "exploration_final_eps": 0.04,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
        1,
        15,
    ),
    Cell("racing from the state, PPO", "racing", "ppo", {}, {}, 16, 10),
)
PPO_WORK = {"num_envs": 8, "num_steps": 256, "update_epochs": 4, "num_minibatches": 8, "hidden": (64, 64)}
EQUAL = (
    Cell(
        "CartPole-v1, PPO, equal work",
        "CartPole-v1",
        "ppo",
        PPO_WORK | {"vectorization": "sync", "activation": "tanh", "shared_trunk": False},
        {"n_steps": 256, "batch_size": 256, "n_epochs": 4, "policy_kwargs": NETWORK},
        8,
        3,
    ),
    Cell(
        "CartPole-v1, DQN, equal work",
        "CartPole-v1",
        "dqn",
        {
            "num_envs": 8,
            "num_steps": 1,
            "batch_size": 64,
            "replay_ratio": 8.0,
            "hidden": (64, 64),
            "buffer": "uniform",
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "n_step": 1,
            "double": False,
            "dueling": False,
            "quantiles": 0,
            "noisy": False,
            "munchausen": False,
            "layer_norm": False,
            "vectorization": "sync",
        },
        {
            "batch_size": 64,
            "buffer_size": 100_000,
            "learning_starts": 1_000,
            "train_freq": 1,
            "gradient_steps": 1,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
        8,
        3,
    ),
    Cell(
        "racing from the state, PPO, equal work",
        "racing",
        "ppo",
        PPO_WORK | {"activation": "tanh", "shared_trunk": False},
        {"n_steps": 256, "batch_size": 256, "n_epochs": 4, "policy_kwargs": NETWORK},
        8,
        3,
    ),
)


def our_side(cell: Cell) -> Advance:
    """A call that trains for one update and returns its steps."""
    agent = (PPO if cell.algo == "ppo" else DQN)(cell.env, seed=0, device="cpu", **cell.ours)
    rounds = agent.iterate(10**12)
    threads = int(preset(cell.algo, cell.env, {}).get("threads", available_cores()))

    def advance() -> int:
        torch.set_num_threads(threads)
        before = agent.steps
        next(rounds)
        return agent.steps - before

    return advance


def their_side(cell: Cell) -> Advance:
    """The same for the peer: its shortest call of learn()."""
    if cell.env == "racing":
        tracks = pool(2_000_000_000, 256, "cpu")
        lanes: Any = Sb3VecEnv(Sim(tracks, cell.lanes, SimConfig(actions="pedals", frame_skip=2)))
    else:
        lanes = make_vec_env(cell.env, cell.lanes, seed=0)
    algo = TheirPPO if cell.algo == "ppo" else TheirDQN
    model = algo("MlpPolicy", lanes, seed=0, device="cpu", **cell.theirs)
    chunk = model.n_steps * cell.lanes if cell.algo == "ppo" else 1_024
    model.learn(chunk)

    def advance() -> int:
        torch.set_num_threads(available_cores())
        before = model.num_timesteps
        model.learn(chunk, reset_num_timesteps=False)
        return model.num_timesteps - before

    return advance


def rate(advance: Advance, seconds: float) -> float:
    """Steps a second over about so many seconds."""
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        steps += advance()
    return steps / (time.perf_counter() - began)


def compare(cell: Cell, rounds: int, seconds: float) -> None:
    """Both sides by turns; prints a row."""
    sides = {"ours": our_side(cell), "theirs": their_side(cell)}
    for advance in sides.values():
        rate(advance, seconds / 3)  # replays are filled, caches are warm
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, advance in sides.items():
            found[name].append(rate(advance, seconds))
    ratios = [a / b for a, b in zip(found["ours"], found["theirs"], strict=True)]
    ours, theirs = (statistics.median(found[name]) for name in ("ours", "theirs"))
    result = (
        f"{ours:,.0f} against {theirs:,.0f}: {statistics.median(ratios):.1f} times "
        f"({min(ratios):.1f} to {max(ratios):.1f}), {rounds} turns"
    )
    values = {"ours": ours, "theirs": theirs, "ratio": statistics.median(ratios), "aim": cell.aim}
    publish(values, f"steps/s, learning included: {cell.name} against Stable-Baselines3", result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", default="both", choices=("preset", "equal", "both"))
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a turn")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    options = parser.parse_args()
    cells = [*(PRESETS if options.part != "equal" else ()), *(EQUAL if options.part != "preset" else ())]
    for cell in cells:
        if options.only in cell.name:
            compare(cell, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
