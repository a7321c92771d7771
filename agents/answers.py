"""What a teacher answers and a student learns: controls moved by degrees, or choices among a few.

Answers are rows of K float32 numbers, so that they can be kept, mirrored and drawn. Shapes: B cars, N samples.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..envs.actions import action_space, to_controls
from ..policies.heads import BoundedHead, DiscreteHead, Head
from .imitation_config import ImitateConfig
from .supervised import classification, smooth_l1
from .teachers import from_controls, nearest

MIRROR = (-1.0, 1.0, 1.0)
"""what a mirror does to controls"""


class Answers(Protocol):
    """Of one action set."""

    noise: Tensor
    """[K], the largest noise on an answer"""

    def of(self, controls: Tensor) -> Tensor:
        """[B, K] answers that do what controls [B, 3] do, or as nearly as there are."""

    def of_action(self, action: Tensor) -> Tensor:
        """[B, K] answers that are actions of the environment [B, …]."""

    def action(self, answer: Tensor, noise: Tensor) -> Tensor:
        """Actions of the environment [B, …] for answers and noise, each [B, K]."""

    def mirrored(self, answer: Tensor) -> Tensor:
        """[N, K] with left and right exchanged."""

    def loss(self, head: Head, features: Tensor, answer: Tensor) -> Tensor:
        """What a student loses who answers from features [N, F] instead of answer [N, K]."""


class Degrees:
    """Steering wheel and pedals; a weighted smooth L1 loss, in units of the action.

    Args:
        actions: continuous or pedals.
        head: of the student.
        cfg: weights and noise.
    """

    def __init__(self, actions: str, head: BoundedHead, cfg: ImitateConfig) -> None:
        self.actions, self.low, self.high, self.beta = actions, head.low, head.high, cfg.loss_beta
        steers = torch.arange(len(head.low), device=head.low.device) == 0
        self.sign = torch.where(steers, -1.0, 1.0)
        self.scale = torch.where(steers, cfg.steer_scale, 1.0)
        self.weight = torch.where(steers, 1.0, cfg.pedal_coef)
        self.noise = torch.where(steers, cfg.burst_steer, cfg.burst_pedal)

    def of(self, controls: Tensor) -> Tensor:
        return from_controls(self.actions, controls)

    def of_action(self, action: Tensor) -> Tensor:
        return action

    def action(self, answer: Tensor, noise: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(answer + noise, self.low), self.high)

    def mirrored(self, answer: Tensor) -> Tensor:
        return answer * self.sign

    def loss(self, head: Head, features: Tensor, answer: Tensor) -> Tensor:
        does = head.to_env(head(features).mode())
        return smooth_l1(does * self.scale, answer * self.scale, self.weight, self.beta)


class Choices:
    """One of a few actions, the number of which is kept; cross-entropy. Noise is any other choice.

    Args:
        actions: discrete or macro.
        device: where the cars are.
    """

    def __init__(self, actions: str, device: torch.device) -> None:
        self.actions, self.count = actions, int(action_space(actions).n)  # type: ignore[union-attr]
        self.noise = torch.ones(1, device=device)
        controls = to_controls(actions, torch.arange(self.count, device=device))
        self.other_side = nearest(actions, controls * controls.new_tensor(MIRROR))

    def of(self, controls: Tensor) -> Tensor:
        return self.of_action(nearest(self.actions, controls))

    def of_action(self, action: Tensor) -> Tensor:
        return action[:, None].float()

    def action(self, answer: Tensor, noise: Tensor) -> Tensor:
        any_other = (0.5 * (noise + 1) * self.count).long().clamp(max=self.count - 1)
        return torch.where(noise == 0, answer.long(), any_other)[:, 0]

    def mirrored(self, answer: Tensor) -> Tensor:
        return self.other_side[answer.long()].float()

    def loss(self, head: Head, features: Tensor, answer: Tensor) -> Tensor:
        assert isinstance(head, DiscreteHead), "choices have such a head"
        return classification(head.logits(features), answer[:, 0].long())


def answers_of(actions: str, head: Head, cfg: ImitateConfig, device: torch.device) -> Answers:
    """The answers of an action set.

    Args:
        actions: continuous, pedals, discrete or macro.
        head: of a student with this set.
        cfg: weights and noise.
        device: where the cars are.
    """
    return Degrees(actions, head, cfg) if isinstance(head, BoundedHead) else Choices(actions, device)
