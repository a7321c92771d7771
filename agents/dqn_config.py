"""Settings of DQN and its relatives (no torch here)."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from ..policies.config import PolicyConfig


class DQNConfig(PolicyConfig):
    """DQN and its network"""

    model_config = ConfigDict(allow_inf_nan=False)

    num_envs: int = Field(32, ge=1, description="environments stepped at once")
    num_steps: int = Field(4, ge=1, description="steps of every environment between two updates")
    buffer: Literal["uniform", "prioritized", "none"] = Field(
        "uniform",
        description="replay: every transition alike, those with large errors more often, or none (PQN: learn from the "
        "newest steps alone, without a target network)",
    )
    buffer_size: int = Field(100_000, ge=1, description="transitions that the replay holds")
    learning_starts: int = Field(1_000, ge=1, description="transitions in the replay before learning starts")
    batch_size: int = Field(256, ge=1, description="transitions of one gradient step")
    replay_ratio: float = Field(
        8.0, gt=0, description="transitions replayed for every step taken; learning is this times as busy"
    )
    learning_rate: float = Field(1e-3, gt=0, description="first learning rate of Adam")
    lr_schedule: Literal["constant", "linear"] = Field(
        "linear", description="learning rate: constant, or linear to zero over --steps"
    )
    adam_eps: float = Field(1e-8, gt=0, description="added to the root of Adam's second moment")
    gamma: float = Field(0.99, ge=0, le=1, description="discount of the future, per step")
    n_step: int = Field(3, ge=1, description="rewards summed before the target network is asked")
    double: bool = Field(
        True, description="the online network chooses the action that the target network judges (not with munchausen)"
    )
    dueling: bool = Field(False, description="separate streams for the value of a state and the advantages in it")
    quantiles: int = Field(0, ge=0, le=1_000, description="quantiles of the return to learn; 0 = its mean alone")
    noisy: bool = Field(False, description="the last layers have learned noise, which explores")
    munchausen: bool = Field(False, description="add the scaled log-policy to the reward, and soften the maximum")
    munchausen_alpha: float = Field(0.9, ge=0, le=1, description="weight of the log-policy in the reward")
    munchausen_tau: float = Field(0.03, gt=0, description="temperature of the policy, in units of value")
    munchausen_clip: float = Field(-1.0, le=0, description="lowest log-policy that is added, times tau")
    loss: Literal["huber", "mse"] = Field(
        "huber", description="error of a value: squared up to 1 and linear beyond, or squared; quantiles take huber"
    )
    target_update: Literal["hard", "soft"] = Field(
        "hard", description="target network: copied every target_every gradient steps, or drawn along by tau in each"
    )
    target_every: int = Field(100, ge=1, description="gradient steps between two copies of a hard target update")
    tau: float = Field(0.01, gt=0, le=1, description="share of the way to the online network, soft target updates only")
    eps_start: float = Field(1.0, ge=0, le=1, description="first share of random actions")
    eps_end: float = Field(0.05, ge=0, le=1, description="last share of random actions")
    eps_fraction: float = Field(0.2, gt=0, le=1, description="part of --steps over which the share falls, linearly")
    eps_ladder: float = Field(
        0.0,
        ge=0,
        description="spread of the share over the environments: the last of them takes eps to the power of 1 + this",
    )
    priority_alpha: float = Field(0.5, ge=0, le=1, description="exponent of priorities; 0 = every transition alike")
    priority_beta: float = Field(0.4, ge=0, le=1, description="first exponent of the weights that correct for them")
    priority_beta_end: float = Field(1.0, ge=0, le=1, description="last one, reached linearly over --steps")
    max_grad_norm: float = Field(10.0, gt=0, description="gradients are scaled down to this norm")
    reward_scale: float = Field(1.0, gt=0, description="rewards are multiplied by this before learning")
    q_lambda: float = Field(0.9, ge=0, le=1, description="decay of λ-returns, per step (buffer none)")
    update_epochs: int = Field(2, ge=1, description="passes over the newest steps (buffer none)")
    num_minibatches: int = Field(4, ge=1, description="equal parts a pass is cut into (buffer none)")
    random_phase: bool = Field(True, description="first episodes start with a random part of their time limit used up")
    checkpoint_replay: bool = Field(
        True, description="keep the replay in checkpoints; without it a resumed run fills a new one first"
    )
    anchor_coef: float = Field(
        5.0,
        ge=0,
        description="with --init-from: first weight of the large-margin loss, by which the action chosen by the policy "
        "begun with stays ahead",
    )
    anchor_margin: float = Field(
        0.05, gt=0, description="with --init-from: how far ahead that action is held, in units of value"
    )
    anchor_until: float = Field(
        0.3, gt=0, le=1, description="with --init-from: share of --steps in which that weight falls to 0, linearly"
    )
    init_eps: float | None = Field(
        0.5, ge=0, le=1, description="with --init-from: first share of random actions; none = eps_start"
    )
    init_learning_rate: float | None = Field(
        1e-4,
        gt=0,
        description="with --init-from: first learning rate; learning_rate takes over as that weight falls; none "
        "= learning_rate at once",
    )
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"] = Field(
        "relu", description="nonlinearity of the encoder"
    )

    core: Literal["none", "gru", "lstm", "transformer"] = Field(
        "none", description="what is remembered from step to step (buffer none)"
    )

    @model_validator(mode="after")
    def _check(self) -> DQNConfig:
        if self.eps_end > self.eps_start:
            raise ValueError(f"eps_end={self.eps_end} must not be above eps_start={self.eps_start}")
        if self.quantiles and self.loss == "mse":
            raise ValueError("quantiles are learned by the Huber loss: set loss=huber or quantiles=0")
        if self.buffer == "none":
            self._check_without_replay()
        else:
            self._check_replay()
        return self

    def _check_replay(self) -> None:
        if self.core != "none":
            raise ValueError(f"core={self.core} needs buffer=none: a replay does not hold what was remembered")
        least = self.num_envs * (2 * self.num_steps + self.n_step + 2)
        if self.buffer_size < least:
            raise ValueError(f"buffer_size={self.buffer_size} must be at least num_envs*(2*num_steps+n_step+2)={least}")
        if self.learning_starts > self.buffer_size // 2:
            raise ValueError(f"learning_starts={self.learning_starts} must be at most half of the buffer_size")

    def _check_without_replay(self) -> None:
        for name in ("quantiles", "munchausen"):
            if getattr(self, name):
                raise ValueError(f"{name} needs a replay: set buffer=uniform or buffer=prioritized")
        batch = self.num_envs * self.num_steps
        if batch % self.num_minibatches:
            raise ValueError(f"num_minibatches={self.num_minibatches} must divide num_envs*num_steps={batch}")
        if self.core != "none" and self.num_minibatches > self.num_envs:
            raise ValueError(
                f"with a core, minibatches are made of whole lanes: num_minibatches={self.num_minibatches} must not be "
                f"above num_envs={self.num_envs}"
            )
