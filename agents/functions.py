"""Samples of functions y = f(x), from a formula or a table, and points on which what was learned is judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..envs.errors import UserError
from .formula import Formula, Numbers
from .samples import Rows, Split, split_rows
from .tables import Table

TEST_SHARE = 0.1
"""of a table's rows, kept for the test; of a formula, fresh points are drawn"""
FEWEST_ROWS = 10


@dataclass(frozen=True)
class FunctionData:
    """What is known of a function. Shapes: N samples, K outputs, M test points."""

    rows: Rows  # x [N, 1], y [N, K]
    split: Split
    test: tuple[Tensor, Tensor]  # [M, 1] and [M, K]: held out, without noise where the formula is known
    seen: tuple[float, float]  # range of x in training
    names: tuple[str, ...]  # of the outputs
    formula: Formula | None = None


def sample_formula(
    formula: Formula, low: float, high: float, count: int, noise: float, generator: torch.Generator
) -> Rows:
    """x drawn evenly at random between low and high, and y = f(x) plus normal noise.

    Args:
        formula: f.
        low, high: range of x.
        count: N.
        noise: standard deviation of what is added to y.
        generator: a CPU generator.

    Raises:
        UserError: f has no finite value somewhere on the range.
    """
    x = low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    y = torch.as_tensor(values_on(formula, x.numpy()))
    return Rows(x, y + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64))


def values_on(formula: Formula, x: Numbers) -> Numbers:
    """f(x), all of it finite.

    Raises:
        UserError: it is not.
    """
    y = formula(x)
    bad = ~np.isfinite(y)
    if bad.any():
        got = f"{y[bad][0]:g} at x = {x[bad][0]:.6g}"
        raise UserError("the formula has no value there", got=got, fix="change --low and --high, or the formula")
    return y


def formula_data(
    formula: Formula, rows: Rows, seen: tuple[float, float], val_share: float, generator: torch.Generator
) -> FunctionData:
    """Samples of a formula, judged on an even grid of its range, without noise."""
    split = split_rows(len(rows), val_share, 0.0, generator)
    x = np.linspace(*seen, 1_000)[:, None]
    test = torch.as_tensor(x), torch.as_tensor(values_on(formula, x))
    return FunctionData(rows, split, test, seen, ("y",), formula)


def table_data(table: Table, val_share: float, generator: torch.Generator) -> FunctionData:
    """A table whose first column is x and whose others are y, judged on rows that were held out.

    Raises:
        UserError: too few rows, or an x that never changes.
    """
    if len(table.values) < FEWEST_ROWS:
        raise UserError(
            "the table has too few rows to learn from", got=len(table.values), allowed=f"{FEWEST_ROWS} or more"
        )
    rows = Rows(table.values[:, :1], table.values[:, 1:])
    split = split_rows(len(rows), val_share, TEST_SHARE, generator)
    seen = float(table.values[:, 0].min()), float(table.values[:, 0].max())
    if seen[0] == seen[1]:
        raise UserError(f"the column {table.names[0]} never changes", got=seen[0], allowed="two values or more")
    return FunctionData(rows, split, rows.take(split.test), seen, table.names[1:])


def extended(seen: tuple[float, float], share: float = 0.5, count: int = 801) -> Numbers:
    """[count] even points on a range and on a share of it to either side."""
    margin = share * (seen[1] - seen[0])
    return np.linspace(seen[0] - margin, seen[1] + margin, count)
