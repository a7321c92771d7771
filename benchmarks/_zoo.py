"""The settings that Stable-Baselines3 is given in benchmarks/peers.py, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ZOO = "rl-zoo3 2.9.2, hyperparams/{algo}.yml"
DEFAULTS = "no tuned settings are published: defaults of its documentation, VecNormalize, 16 lanes"


@dataclass(frozen=True)
class Peer:
    """One algorithm of Stable-Baselines3 on one environment."""

    steps: int  # length of the training; where it is not the source's, nothing in the settings depends on it
    num_envs: int
    arguments: dict[str, Any]  # of PPO or DQN
    source: str
    normalise: bool = False  # VecNormalize, with the gamma of the algorithm
    falling: tuple[str, ...] = field(default=())  # arguments that fall linearly to 0


WIDE = {"policy_kwargs": {"net_arch": [256, 256]}}
DQN_LANDER = {
    "learning_rate": 6.3e-4,
    "batch_size": 128,
    "buffer_size": 50_000,
    "learning_starts": 0,
    "gamma": 0.99,
    "target_update_interval": 250,
    "train_freq": 4,
    "gradient_steps": -1,
    "exploration_fraction": 0.12,
    "exploration_final_eps": 0.1,
} | WIDE

PEERS: dict[tuple[str, str], Peer] = {
    ("ppo", "CartPole-v1"): Peer(
        100_000,
        8,
        {
            "n_steps": 32,
            "batch_size": 256,
            "gae_lambda": 0.8,
            "gamma": 0.98,
            "n_epochs": 20,
            "ent_coef": 0.0,
            "learning_rate": 1e-3,
            "clip_range": 0.2,
        },
        ZOO,
        falling=("learning_rate", "clip_range"),
    ),
    ("ppo", "Acrobot-v1"): Peer(
        300_000,
        16,
        {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0},
        ZOO,
        normalise=True,
    ),
    ("ppo", "LunarLander-v3"): Peer(
        1_000_000,
        16,
        {"n_steps": 1024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4, "ent_coef": 0.01},
        ZOO,
    ),
    ("ppo", "racing"): Peer(1_000_000, 16, {"n_steps": 2048, "batch_size": 64}, DEFAULTS, normalise=True),
    ("dqn", "CartPole-v1"): Peer(
        50_000,
        1,
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
        }
        | WIDE,
        ZOO,
    ),
    ("dqn", "Acrobot-v1"): Peer(100_000, 1, DQN_LANDER, ZOO),
    ("dqn", "LunarLander-v3"): Peer(100_000, 1, DQN_LANDER, ZOO),
    ("dqn", "racing"): Peer(200_000, 1, DQN_LANDER, "no tuned settings are published: those of LunarLander-v3"),
}


def falling(start: float) -> Callable[[float], float]:
    """A schedule of Stable-Baselines3: linear from start to 0."""

    def at(left: float) -> float:
        return left * start

    return at


def arguments_of(peer: Peer) -> dict[str, Any]:
    """Keyword arguments for the algorithm, schedules included."""
    return {name: falling(value) if name in peer.falling else value for name, value in peer.arguments.items()}
