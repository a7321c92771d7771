"""From spaces and a config to a policy: the only code that looks at spaces, and the one that sets every weight."""

from __future__ import annotations

import math

import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import nn

from .config import PolicyConfig
from .encoders import MLP
from .heads import BoundedHead, DiscreteHead, ValueHead
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
        ValueError: a space that no network of ours reads or writes.
    """
    if not isinstance(observation_space, Box) or len(observation_space.shape) != 1:
        raise ValueError(f"observation space: got {observation_space}; allowed: a Box of one dimension")
    size = observation_space.shape[0]
    actor = MLP(size, config.hidden, config.activation)
    critic = None if config.shared_trunk else MLP(size, config.hidden, config.activation)
    head: BoundedHead | DiscreteHead
    if isinstance(action_space, Box) and len(action_space.shape) == 1 and action_space.is_bounded():
        head = BoundedHead(actor.out_features, action_space, config.log_std_init, config.log_std_min)
    elif isinstance(action_space, Discrete):
        head = DiscreteHead(actor.out_features, action_space)
    else:
        raise ValueError(f"action space: got {action_space}; allowed: a bounded Box of one dimension, or Discrete")
    policy = Policy(size, actor, critic, head, ValueHead(actor.out_features))
    initialise(policy, generator)
    return policy


def initialise(policy: Policy, generator: torch.Generator) -> None:
    """Sets every weight: orthogonal, gain √2 in encoders, 1 for values, small for the policy; biases 0 but for REST."""
    last = {"head.mean": POLICY_GAIN, "head.logits": POLICY_GAIN, "value_head.value": 1.0}
    for name, module in policy.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight, last.get(name, math.sqrt(2)), generator=generator)
            nn.init.zeros_(module.bias)
    if isinstance(policy.head, BoundedHead):
        with torch.no_grad():
            policy.head.mean.bias[policy.head.low == 0] = REST
