"""Our settings as arguments of Stable-Baselines3's algorithms (nothing of it is imported here)."""

from __future__ import annotations

from typing import Any

from .config import PPOConfig


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
