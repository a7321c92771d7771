"""Settings of learners and of training on racing (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ..policies.config import PolicyConfig


class PPOConfig(PolicyConfig):
    """PPO and its network"""

    num_envs: int = Field(1024, ge=1, description="environments stepped at once")
    num_steps: int = Field(32, ge=1, description="steps of every environment between two updates")
    update_epochs: int = Field(4, ge=1, description="passes over the data of an update")
    num_minibatches: int = Field(4, ge=1, description="equal parts a pass is cut into")
    learning_rate: float = Field(1e-3, gt=0, description="first learning rate of Adam")
    lr_schedule: Literal["constant", "linear", "adaptive"] = Field(
        "adaptive", description="learning rate: constant, linear to zero over --steps, or steered by the KL divergence"
    )
    desired_kl: float = Field(0.01, gt=0, description="KL divergence an epoch that the adaptive schedule aims at, nats")
    desired_kl_end: float | None = Field(
        None, gt=0, description="what desired_kl falls to, linearly over --steps; none = stays"
    )
    gamma: float = Field(0.99, ge=0, le=1, description="discount of the future, per step")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="decay of generalised advantage estimation, per step")
    clip_coef: float = Field(0.2, gt=0, description="the probability ratio is clipped to 1 ± this")
    vf_coef: float = Field(0.5, ge=0, description="weight of the value loss")
    ent_coef: float = Field(0.0, ge=0, description="weight of the entropy bonus")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    target_kl: float | None = Field(None, gt=0, description="KL divergence that ends an update early; none = never")
    norm_adv: bool = Field(True, description="standardise the advantages of every minibatch")
    norm_return: bool = Field(True, description="learn standardised returns")
    random_phase: bool = Field(True, description="first episodes start with a random part of their time limit used up")
    critic_learning_rate: float | None = Field(
        None, gt=0, description="learning rate of what only the value depends on; none = that of all the rest"
    )
    critic_warmup: int = Field(
        20, ge=0, description="with --init-from: first updates, in which the value is learned and the policy kept"
    )
    encoder_warmup: int = Field(
        40,
        ge=0,
        description="with --init-parts encoder: first updates, in which the heads learn and the encoder is kept",
    )
    anchor_coef: float = Field(
        0.3, ge=0, description="with --init-from: first weight of the KL divergence from the policy begun with"
    )
    anchor_until: float = Field(
        0.5, gt=0, le=1, description="with --init-from: share of --steps in which that weight falls to 0, linearly"
    )
    init_std: float | None = Field(
        None,
        gt=0,
        description="with --init-from: first standard deviation of a normal head; none = as it was learned, and 0.3 "
        "where it was not, after pretrain imitate",
    )
    init_learning_rate: float | None = Field(
        1e-4,
        gt=0,
        description="with --init-from: first learning rate of the policy, or of an encoder after its warm-up; none = "
        "learning_rate",
    )

    @model_validator(mode="after")
    def _check_minibatches(self) -> PPOConfig:
        batch = self.num_envs * self.num_steps
        if batch % self.num_minibatches:
            raise ValueError(f"num_minibatches={self.num_minibatches} must divide num_envs*num_steps={batch}")
        if self.core != "none" and self.num_minibatches > self.num_envs:
            raise ValueError(
                f"with a core, minibatches are made of whole lanes: num_minibatches={self.num_minibatches} must not be "
                f"more than num_envs={self.num_envs}"
            )
        return self


class RacingTraining(BaseModel):
    """Training on racing: its tracks, and what is paid beside the score"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_tracks: int = Field(256, ge=1, description="tracks in the training pool")
    gap_cost: float = Field(
        0.0,
        ge=0,
        allow_inf_nan=False,
        description="what a gap left in the row of tiles, or a lap given up, costs in training, points",
    )
    gap_cost_start: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="what gap_cost begins with, where that is less; it rises until half of --steps; none = no rise",
    )
    patience: int = Field(
        0, ge=0, description="frames without a new tile after which a training episode ends; 0 = never"
    )


ALGORITHMS = ("ppo", "dqn")
RACING, ORIGINAL = "racing", "CarRacing-v3"
"""the simulator, and what it is a twin of"""

TASK: dict[str, Any] = {
    "obs": "state",
    "actions": "continuous",
    "frame_skip": 1,
    "lap_rule": "all",
    "picture": "rgb",
    "picture_size": 96,
    "crop": False,
    "indicators": "original",
    "domain_randomize": False,
    "frame_stack": 1,
    "beams": 19,
    "beam_range": 40.0,
    "hide_motion": False,
}
"""what a driver sees and does, where nothing else is said"""


def task_in(record: Mapping[str, Any]) -> dict[str, Any]:
    """The task that a run's config.json describes; what it does not hold is as in TASK."""
    return {name: record.get(name, default) for name, default in TASK.items()}


TRAINING_SEEDS = 2_000_000_000
"""track seeds from here on are for training; lower ones are for tests and validation"""
POOL_STRIDE = 1_000
"""training seeds set aside for each seed of a run"""
