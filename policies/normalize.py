"""Running mean and variance as a module, so that every checkpoint and export carries them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Standardises the last dimension with statistics that only `update` changes.

    Args:
        size: features.
        memory: batches that the statistics look back on; before so many, they are plain averages.
        limit: standardised numbers are clipped to this size.
    """

    mean: Tensor
    var: Tensor
    updates: Tensor

    def __init__(self, size: int, memory: int = 1_000, limit: float = 10.0) -> None:
        super().__init__()
        self.memory, self.limit = memory, limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size] standardised."""
        return ((x - self.mean) * torch.rsqrt(self.var + 1e-5)).clamp(-self.limit, self.limit)

    def invert(self, x: Tensor) -> Tensor:
        """The x [..., size] that forward standardised, but for its clipping."""
        return x * torch.sqrt(self.var + 1e-5) + self.mean

    @torch.no_grad()
    def update(self, batch: Tensor) -> None:
        """Moves the statistics towards those of batch [N, size] (parallel variance, Chan et al. 1979), if N > 0."""
        if not len(batch):
            return
        self.updates += 1
        share = torch.clamp(1.0 / self.updates, min=1.0 / self.memory)
        var, mean = torch.var_mean(batch, 0, correction=0)
        gap = mean - self.mean
        # The first batch replaces the placeholder statistics altogether.
        self.var.copy_(torch.where(self.updates == 1, var, self.var + share * (var - self.var + (1 - share) * gap**2)))
        self.mean.add_(share * gap)


class AsItIs(nn.Module):
    """Stands where a RunningNorm would: pictures are scaled by the network that reads them."""

    def forward(self, x: Tensor) -> Tensor:
        """x, unchanged."""
        return x

    def update(self, batch: Tensor) -> None:
        """There is nothing to update."""
