"""From spaces and a config to a policy: the only code that looks at spaces, and the one that sets every weight."""

from __future__ import annotations

import math

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import nn

from .config import PolicyConfig
from .encoders import make_encoder
from .heads import BoundedHead, DiscreteHead, ValueHead
from .normalize import AsItIs, RunningNorm
from .policy import Policy

POLICY_GAIN = 0.01
"""of the last layer of the policy: the first actions are near the middle of the box, or near equal odds"""


REST = -1.5
"""first mean, before the tanh, of actions that range from 0 up: near 0, or gas and brake would begin half pressed"""


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
    critic = None if config.shared_trunk else make_encoder(*parts)
    head: BoundedHead | DiscreteHead
    if isinstance(action_space, Box) and len(action_space.shape) == 1 and action_space.is_bounded():
        head = BoundedHead(actor.out_features, action_space, config.log_std_init, config.log_std_min)
    elif isinstance(action_space, Discrete):
        head = DiscreteHead(actor.out_features, action_space)
    else:
        raise ValueError(f"action space: got {action_space}; allowed: a bounded Box of one dimension, or Discrete")
    norm = RunningNorm(shape[0]) if len(shape) == 1 else AsItIs()
    policy = Policy(shape, norm, actor, critic, head, ValueHead(actor.out_features))
    initialise(policy, generator)
    return policy


def initialise(policy: Policy, generator: torch.Generator) -> None:
    """Sets every weight: orthogonal, gain √2 in encoders, 1 for values, small for the policy; biases 0 but for REST."""
    last = {"head.mean": POLICY_GAIN, "head.logits": POLICY_GAIN, "value_head.value": 1.0}
    for name, module in policy.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(module.weight, last.get(name, math.sqrt(2)), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if isinstance(policy.head, BoundedHead):
        with torch.no_grad():
            policy.head.mean.bias[policy.head.low == 0] = REST
