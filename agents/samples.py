"""Where samples come from, and which of them are for training, validation and test.

Shapes: N samples, K targets of one. A source is asked for rows and reads only these: it may be larger than memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..envs.errors import UserError

CHUNK = 65_536
"""rows that are read at once where a whole source is gone through"""


class Source(Protocol):
    """Samples that can be asked for by number."""

    def __len__(self) -> int:
        """N."""

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets at rows [B] int64."""


class Rows:
    """Inputs [N, …] and targets [N, …] in memory, or in files that are mapped into it and read where they are asked."""

    def __init__(self, x: NDArray[np.generic] | Tensor, y: NDArray[np.generic] | Tensor) -> None:
        self.x, self.y = torch.as_tensor(x), torch.as_tensor(y)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and targets at rows [B] int64."""
        return self.x[rows], self.y[rows]


@dataclass(frozen=True)
class Split:
    """Row numbers [·] int64 of three parts, in random order. No row is in two of them."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split_rows(count: int, val_share: float, test_share: float, generator: torch.Generator) -> Split:
    """Shares of all rows, drawn at random; each part that is asked for has one row at least.

    Raises:
        UserError: too few rows.
    """
    order = torch.randperm(count, generator=generator)
    test = max(1, round(count * test_share)) if test_share else 0
    validation = max(1, round((count - test) * val_share)) if val_share else 0
    if count - test - validation < 1:
        raise UserError("too few samples to learn from", got=count, fix="give more, or lower --val-share")
    return Split(order[test + validation :], order[test : test + validation], order[:test])


def split_classes(
    labels: Tensor, val_share: float, test_share: float, generator: torch.Generator, names: Sequence[str] = ()
) -> Split:
    """Shares of the rows of every class [N] int64, drawn at random; each part has one row of a class where it can.

    Args:
        labels: N classes.
        val_share: of what is left without the test.
        test_share: of all.
        generator: a CPU generator.
        names: of the classes, for errors.

    Raises:
        UserError: a class with one sample.
    """
    parts: list[list[Tensor]] = [[], [], []]
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0]
        if len(rows) < 2:
            fix = "give at least one to learn from and one to test with"
            name = names[label] if names else label
            raise UserError(f"the class {name} has one sample", got=1, allowed="2 or more", fix=fix)
        rows = rows[torch.randperm(len(rows), generator=generator)]
        test = min(len(rows) - 1, max(1, round(len(rows) * test_share)))
        left = len(rows) - test
        validation = min(left - 1, max(1, round(left * val_share)))
        for part, piece in zip(parts, rows.split((left - validation, validation, test)), strict=True):
            part.append(piece)
    whole = [torch.cat(part) for part in parts]
    return Split(*(rows[torch.randperm(len(rows), generator=generator)] for rows in whole))


def in_order(rows: Tensor, size: int = CHUNK) -> tuple[Tensor, ...]:
    """The rows in the order in which they are stored, in pieces."""
    return rows.sort().values.split(size)
