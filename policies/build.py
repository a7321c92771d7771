"""From spaces and a config to a policy: the only code that looks at spaces, and the one that sets every weight."""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from torch import nn

from .config import PolicyConfig
from .cores import make_core
from .encoders import make_encoder
from .heads import (
    BetaHead,
    BinaryHead,
    BoundedHead,
    DiscreteHead,
    GaussianHead,
    Head,
    LevelsHead,
    MultiDiscreteHead,
    ValueHead,
)
from .normalize import AsItIs, RunningNorm
from .policy import Policy

POLICY_GAIN = 0.01
"""of the last layer of the policy: the first actions are near the middle of the box, or near equal odds"""


def build_policy(
    observation_space: Space, action_space: Space, config: PolicyConfig, generator: torch.Generator
) -> Policy:
    """A policy with fresh weights drawn by generator (a CPU generator).

    Raises:
        ValueError: a space that no network of ours reads or writes, or not the encoder of the config.
    """
    shape = observation_space.shape
    if not isinstance(observation_space, Box) or shape is None or len(shape) not in (1, 3):
        raise ValueError(f"observation space: got {observation_space}; allowed: a Box of numbers [O] or [H, W, C]")
    if len(shape) == 3 and observation_space.dtype != np.uint8:
        raise ValueError(f"observation space: got {observation_space}; allowed: pictures of uint8")
    parts = config.encoder, shape, config.hidden, config.channels, config.activation, config.layer_norm
    actor = make_encoder(*parts)
    core = make_core(config.core, actor.out_features, config)
    critic = None if config.shared_trunk or core.memory_size else make_encoder(*parts)
    head = make_head(core.out_features, action_space, config)
    norm = RunningNorm(shape[0]) if len(shape) == 1 and config.norm_obs else AsItIs()
    policy = Policy(shape, norm, actor, critic, head, ValueHead(core.out_features), core)
    initialise(policy, generator)
    return policy


def make_head(features: int, space: Space, config: PolicyConfig) -> Head:
    """The head of the config for an action space, with its weights still to be set.

    Raises:
        ValueError: a space that no head acts in, or not the head of the config.
    """
    if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
        return _box_head(features, space, config)
    if config.head != "auto":
        raise ValueError(f"the head {config.head} acts in a Box of real numbers [A]; got {space}; allowed: auto")
    if isinstance(space, Discrete):
        return DiscreteHead(features, space)
    if isinstance(space, MultiDiscrete) and len(space.shape) == 1:
        return MultiDiscreteHead(features, space)
    if isinstance(space, MultiBinary) and len(space.shape) == 1:
        return BinaryHead(features, space)
    allowed = "a Box of real numbers, MultiDiscrete or MultiBinary, each of one dimension, or Discrete"
    raise ValueError(f"action space: got {space}; allowed: {allowed}")


def _box_head(features: int, space: Box, config: PolicyConfig) -> Head:
    bounded = space.is_bounded()
    kind = config.head if config.head != "auto" else "squashed" if bounded else "gaussian"
    if kind == "gaussian":
        return GaussianHead(features, space, config.log_std_init, config.log_std_min)
    if not bounded:
        raise ValueError(f"the head {kind} needs a Box with finite sides; got {space}; allowed: gaussian, auto")
    if kind == "beta":
        return BetaHead(features, space)
    if kind == "levels":
        return LevelsHead(features, space, config.levels)
    return BoundedHead(features, space, config.log_std_init, config.log_std_min)


def initialise(policy: Policy, generator: torch.Generator) -> None:
    """Sets every weight: orthogonal, gain √2 in encoders, 1 for values, small for the policy; biases 0, or at rest.

    A core sets its own.
    """
    for name, module in policy.named_modules():
        part = name.partition(".")[0]
        if isinstance(module, (nn.Linear, nn.Conv2d)) and part != "core":
            gain = {"head": POLICY_GAIN, "value_head": 1.0}.get(part, math.sqrt(2))
            nn.init.orthogonal_(module.weight, gain, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    policy.core.initialise(generator)
    policy.head.rest()
