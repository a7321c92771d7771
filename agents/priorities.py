"""Drawing entries in proportion to their priority, a batch at a time, as tensors."""

from __future__ import annotations

import torch
from torch import Tensor

FANOUT = 32
"""children of a node: wide enough for few levels, narrow enough that the children are cheap to add up"""
BELOW_ONE = 1.0 - 1e-9


class SumTree:
    """Priorities of N entries with their sums over blocks, over blocks of blocks, and so on.

    Sums are made anew from what is below and never adjusted, so that rounding does not pile up.

    Args:
        size: N.
        device: where the tensors live.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self.levels: list[Tensor] = []  # of entries, of their blocks, …; each [a multiple of FANOUT]
        while True:
            size = -(-size // FANOUT)
            self.levels.append(torch.zeros(size * FANOUT, dtype=torch.float64, device=device))
            if size == 1:
                break

    def update(self, index: Tensor, priority: Tensor) -> None:
        """Sets the priorities [S], 0 or more, of the entries index [S] int64."""
        self.levels[0][index] = priority.to(torch.float64)
        for level, above in zip(self.levels, self.levels[1:], strict=False):
            index = torch.div(index, FANOUT, rounding_mode="floor")
            above[index] = level.view(-1, FANOUT)[index].sum(1)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws count entries in proportion to their priorities: index [S] int64, and probability [S] of each.

        The total is cut into equal ranges and one point is drawn in each (Schaul et al. 2016, appendix B.2.1). Entries
        of priority 0 are never drawn, if there are any others.
        """
        ranges = torch.arange(count, dtype=torch.float64, device=self.levels[0].device)
        node = torch.zeros_like(ranges, dtype=torch.int64)
        part = (ranges + torch.empty_like(ranges).uniform_(generator=generator)) / count  # where in the node, 0 to 1
        total = self.levels[-1].sum()
        for level in reversed(self.levels):
            sums = level.view(-1, FANOUT)[node].cumsum(1)
            point = part.clamp(0.0, BELOW_ONE)[:, None] * sums[:, -1:]
            child = torch.searchsorted(sums, point, right=True).clamp(max=FANOUT - 1)
            node = node * FANOUT + child[:, 0]
            own = level[node]
            part = (point - sums.gather(1, child))[:, 0] / own + 1.0
        return node, own / total

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name."""
        return {f"level{k}": level for k, level in enumerate(self.levels)}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what state_tensors gave.

        Raises:
            KeyError: something is missing.
        """
        for name, here in self.state_tensors().items():
            here.copy_(tensors[name])
