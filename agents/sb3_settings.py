"""Our settings as arguments of Stable-Baselines3's algorithms (nothing of it is imported here)."""

from __future__ import annotations

from typing import Any

from ..envs.errors import UserError
from ..policies.config import PolicyConfig
from .config import PPOConfig
from .dqn_config import DQNConfig

Q_EXTRAS = ("dueling", "quantiles", "noisy", "reward_scale", "norm_obs")
NETWORK: dict[str, tuple[str, ...]] = {
    "ppo": tuple(PolicyConfig.model_fields),
    "dqn": (*PolicyConfig.model_fields, *Q_EXTRAS),
}
"""algorithm → settings that describe its network"""


def network_fields(config: PolicyConfig, algo: str) -> dict[str, Any]:
    """The settings of an algorithm (ppo or dqn) that describe its network, as plain JSON."""
    fields = config.model_dump(mode="json")
    return {name: fields[name] for name in NETWORK[algo]}


def ppo_arguments(config: PPOConfig) -> dict[str, Any]:
    """Keyword arguments of its PPO.

    Its value loss has no factor ½, hence half of our weight; it ends an update at 1.5 times its target_kl. Its learning
    rate is the first one: schedules belong to who drives the updates.
    """
    batch = config.num_envs * config.num_steps
    return {
        "learning_rate": config.learning_rate,
        "n_steps": config.num_steps,
        "batch_size": max(2, batch // config.num_minibatches),
        "n_epochs": config.update_epochs,
        "gamma": config.gamma,
        "gae_lambda": config.gae_lambda,
        "clip_range": config.clip_coef,
        "normalize_advantage": config.norm_adv,
        "ent_coef": config.ent_coef,
        "vf_coef": config.vf_coef / 2,
        "max_grad_norm": config.max_grad_norm,
        "target_kl": None if config.target_kl is None else config.target_kl / 1.5,
    }


def dqn_arguments(config: DQNConfig) -> dict[str, Any]:
    """Keyword arguments of its DQN.

    It counts what it does in steps of the environments where ours counts replayed transitions and gradient steps: a
    round is num_steps in all lanes, then as many gradient steps as replay_ratio asks for. A soft target update, one a
    gradient step, becomes one a round that goes as far. What it does not have is in `dqn_lacks`.

    Raises:
        UserError: buffer none.
    """
    if config.buffer == "none":
        what = "Stable-Baselines3 has no DQN without a replay"
        raise UserError(what, got="buffer none", allowed="uniform", fix="take --buffer uniform, or --backend native")
    taken = config.num_envs * config.num_steps  # in a round
    gradient_steps = max(1, round(config.replay_ratio * taken / config.batch_size))
    if config.target_update == "hard":
        tau, interval = 1.0, config.target_every * taken / gradient_steps
    else:
        tau, interval = 1 - (1 - config.tau) ** gradient_steps, taken
    return {
        "learning_rate": config.learning_rate,
        "buffer_size": config.buffer_size,
        "learning_starts": config.learning_starts,
        "batch_size": config.batch_size,
        "tau": tau,
        "gamma": config.gamma,
        "train_freq": config.num_steps,
        "gradient_steps": gradient_steps,
        "n_steps": config.n_step,
        "target_update_interval": max(1, round(interval)),
        "exploration_fraction": config.eps_fraction,
        "exploration_initial_eps": config.eps_start,
        "exploration_final_eps": config.eps_end,
        "max_grad_norm": config.max_grad_norm,
    }


def dqn_lacks(config: DQNConfig) -> list[str]:
    """Settings in use that its DQN does without."""
    used = {
        "double": config.double,
        "buffer=prioritized": config.buffer == "prioritized",
        "munchausen": config.munchausen,
        "noisy": config.noisy,
        "quantiles": config.quantiles > 0,
        "loss=mse": config.loss == "mse",
        "eps_ladder": config.eps_ladder > 0,
    }
    return [name for name, on in used.items() if on]
