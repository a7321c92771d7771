"""How often which action was taken: the histogram that a validation leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from torch import Tensor

__all__ = ["ActionCounts"]

BINS = 21  # of a continuous number: odd, so that "straight on" is the middle of one


class ActionCounts:
    """Counts actions on the device where they are; nothing is read before `table`.

    Args:
        space: of one action, as the policy sees it. An unbounded number is counted between -1 and 1; what lies beyond
            an edge falls into the outermost bin.
        device: where the actions are.
        names: of the components; none = action 0, action 1, …
    """

    def __init__(self, space: Space[Any], device: torch.device | str = "cpu", names: Sequence[str] = ()) -> None:
        edges = _edges(space)
        self.names = tuple(names) or tuple(f"action {k}" for k in range(len(edges))) if len(edges) > 1 else ("action",)
        self.edges = edges
        low, high, bins = (torch.tensor(column, device=device) for column in zip(*edges, strict=True))
        self._low, self._scale, self._last = low, bins / (high - low), bins - 1
        self._first = torch.cumsum(bins, 0) - bins  # place of a component's first bin
        self._counts = torch.zeros(sum(bins for _, _, bins in edges), dtype=torch.float64, device=device)

    def add(self, actions: Tensor, live: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            actions: [B] or [B, A].
            live: [B] bool, which of them count; None = all.
        """
        columns = actions.reshape(len(actions), -1)
        places = ((columns - self._low) * self._scale).long().clamp_(min=0)
        places = torch.minimum(places, self._last) + self._first  # [B, A]
        once = torch.ones(len(columns), dtype=torch.float64, device=columns.device) if live is None else live.double()
        self._counts.index_add_(0, places.reshape(-1), once.repeat_interleave(columns.shape[1]))

    def table(self) -> list[dict[str, Any]]:
        """One entry per component: name, low, high, and the counts of equal bins between them."""
        counts = iter(self._counts.long().tolist())
        return [
            {"name": name, "low": low, "high": high, "counts": [next(counts) for _ in range(bins)]}
            for name, (low, high, bins) in zip(self.names, self.edges, strict=True)
        ]


def _edges(space: Space[Any]) -> list[tuple[float, float, int]]:
    """(low, high, bins) of each component; those of a discrete one are centred on its values."""
    if isinstance(space, Discrete):
        sizes = [int(space.n)]
    elif isinstance(space, MultiDiscrete):
        sizes = [int(size) for size in space.nvec.reshape(-1)]
    elif isinstance(space, MultiBinary):
        sizes = [2] * int(torch.tensor(space.shape).prod())
    elif isinstance(space, Box):
        bounds = zip(space.low.reshape(-1).tolist(), space.high.reshape(-1).tolist(), strict=True)
        finite = abs(float("inf"))
        return [(low, high, BINS) if -finite < low < high < finite else (-1.0, 1.0, BINS) for low, high in bounds]
    else:
        raise TypeError(f"no histogram of actions in {space}")
    return [(-0.5, size - 0.5, size) for size in sizes]
