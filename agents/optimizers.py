"""Optimisers of supervised learning: their learning rate is an argument of each step, their state in plain sight.

Equal to torch's classes of the same names; those load torch's compiler when they are made, which takes longer than many
a training here.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .adam import Adam

ADAM_EPS = 1e-8


class AdamW:
    """Adam with weight decay beside the gradient (Loshchilov and Hutter 2019, algorithm 2).

    Args:
        parameters: what to update; frozen ones are left alone.
        weight_decay: share of a weight, per unit of learning rate, that is lost at each step; biases and gains, that is
            whatever has fewer than two dimensions, keep all.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float) -> None:
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.adam, self.weight_decay = Adam(trained, ADAM_EPS), weight_decay
        self.decayed = _weights(trained)

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        self.adam.zero_grad()

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at a learning rate."""
        if self.weight_decay and self.decayed:
            torch._foreach_mul_(self.decayed, 1 - rate * self.weight_decay)
        self.adam.step(rate)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name."""
        return self.adam.state_tensors()


class SGD:
    """Gradient descent with momentum: v ← momentum·v + gradient + decay·w, then w ← w − rate·v.

    Args:
        parameters: what to update; frozen ones are left alone.
        weight_decay: added to the gradient, times the weight; biases and gains are left out.
        momentum: share of the last direction that stays.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], weight_decay: float, momentum: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.weight_decay, self.momentum = weight_decay, momentum
        self.velocity = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.decay = [weight_decay if p.ndim > 1 else 0.0 for p in self.parameters]

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at a learning rate."""
        for parameter, velocity, decay in zip(self.parameters, self.velocity, self.decay, strict=True):
            if parameter.grad is None:
                continue
            velocity.mul_(self.momentum).add_(parameter.grad)
            if decay:
                velocity.add_(parameter, alpha=decay)
            parameter.add_(velocity, alpha=-rate)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name."""
        return {f"{k}.velocity": velocity for k, velocity in enumerate(self.velocity)}


def _weights(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter for parameter in parameters if parameter.ndim > 1]
