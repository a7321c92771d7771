"""What the keyword arguments of PPO and DQN may be, for editors and type checkers; tests hold them to the configs."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class TaskSettings(TypedDict, total=False):
    """What the agent sees and does, and what it is paid in training."""

    obs: Literal["state", "lidar", "pixels"]
    actions: Literal["continuous", "pedals", "discrete", "macro"]
    frame_skip: int
    lap_rule: Literal["all", "percent"]
    picture: Literal["rgb", "grey", "palette"]
    picture_size: Literal[64, 84, 96]
    crop: bool
    indicators: Literal["original", "random"]
    domain_randomize: bool
    frame_stack: int
    beams: int
    beam_range: float
    hide_motion: bool
    num_tracks: int
    gap_cost: float
    gap_cost_start: float | None
    patience: int
    env_args: dict[str, Any]
    grey: bool
    resize: int | None
    atari: bool
    vectorization: Literal["auto", "sync", "async", "native"]
    norm_reward: bool
    clip_reward: float | None
    env_timeout: float


class PolicySettings(TypedDict, total=False):
    """The network."""

    encoder: Literal["mlp", "resmlp", "cnn", "resnet"]
    hidden: tuple[int, ...]
    channels: tuple[int, ...] | None
    activation: Literal["tanh", "relu", "elu", "silu", "gelu"]
    norm_obs: bool
    layer_norm: bool
    shared_trunk: bool
    core: Literal["none", "gru", "lstm", "transformer"]
    core_size: int
    core_layers: int
    core_heads: int
    core_context: int
    head: Literal["auto", "squashed", "gaussian", "beta", "levels"]
    levels: int
    log_std_min: float
    log_std_init: float


class PPOSettings(TaskSettings, PolicySettings, total=False):
    """Every field of PPOConfig."""

    num_envs: int
    num_steps: int
    update_epochs: int
    num_minibatches: int
    learning_rate: float
    lr_schedule: Literal["constant", "linear", "adaptive"]
    desired_kl: float
    desired_kl_end: float | None
    gamma: float
    gae_lambda: float
    clip_coef: float
    vf_coef: float
    ent_coef: float
    max_grad_norm: float
    target_kl: float | None
    norm_adv: bool
    norm_return: bool
    random_phase: bool
    critic_learning_rate: float | None
    critic_warmup: int
    encoder_warmup: int
    anchor_coef: float
    anchor_until: float
    init_std: float | None
    init_learning_rate: float | None


class DQNSettings(TaskSettings, PolicySettings, total=False):
    """Every field of DQNConfig."""

    num_envs: int
    num_steps: int
    buffer: Literal["uniform", "prioritized", "none"]
    buffer_size: int
    learning_starts: int
    batch_size: int
    replay_ratio: float
    learning_rate: float
    lr_schedule: Literal["constant", "linear"]
    adam_eps: float
    gamma: float
    n_step: int
    double: bool
    dueling: bool
    quantiles: int
    noisy: bool
    munchausen: bool
    munchausen_alpha: float
    munchausen_tau: float
    munchausen_clip: float
    loss: Literal["huber", "mse"]
    target_update: Literal["hard", "soft"]
    target_every: int
    tau: float
    eps_start: float
    eps_end: float
    eps_fraction: float
    eps_ladder: float
    priority_alpha: float
    priority_beta: float
    priority_beta_end: float
    max_grad_norm: float
    reward_scale: float
    q_lambda: float
    update_epochs: int
    num_minibatches: int
    random_phase: bool
    checkpoint_replay: bool
    anchor_coef: float
    anchor_margin: float
    anchor_until: float
    init_eps: float | None
    init_learning_rate: float | None
