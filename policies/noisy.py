"""A fully connected layer with learned noise, which explores by itself (Fortunato et al. 2018)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FIRST_SD = 0.5
"""standard deviation of the first noise, times √inputs (Fortunato et al. 2018, section 3.2)"""


class NoisyLinear(nn.Module):
    """y = (μ_w + σ_w ⊙ f(ε_out) f(ε_in)ᵀ)·x + μ_b + σ_b ⊙ f(ε_out), f(ε) = sign(ε)·√|ε| (eq. 9 to 11, factorised).

    Every row of the batch has noise of its own, so that lanes stepped together explore differently.
    The weights are set by the builder; the scales begin at their published value.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        sd = FIRST_SD / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.zeros(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_sd = nn.Parameter(torch.full((outputs, inputs), sd))
        self.bias_sd = nn.Parameter(torch.full((outputs,), sd))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """[B, outputs] of x [B, inputs]; noise is drawn by generator, without one there is none."""
        mean = nn.functional.linear(x, self.weight, self.bias)
        if generator is None:
            return mean
        noise_in, noise_out = _noise(x, self.weight.shape[1], generator), _noise(x, self.weight.shape[0], generator)
        return mean + noise_out * nn.functional.linear(x * noise_in, self.weight_sd, self.bias_sd)


def _noise(x: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """f(ε) [B, size], for the rows of x [B, …]."""
    eps = x.new_empty(len(x), size).normal_(generator=generator)
    return eps.sign() * eps.abs().sqrt()
