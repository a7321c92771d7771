"""Statistics of few runs: robust means, stratified bootstrap intervals, and how likely one group beats another.

Definitions are those of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
and the numbers equal those of its library, rliable. Scores come as one array a task, runs along the last axis. A
resample draws as many runs as there are, with replacement, within every task by itself (stratified). Which runs it
draws is an argument, so that equal draws give equal intervals everywhere.

Letters: N runs of a task, T tasks, R resamples, G places of a curve.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Draws",
    "Interval",
    "difference",
    "draw",
    "improvement",
    "improvement_p",
    "interval",
    "iqm",
    "optimality_gap",
    "ordered_interval",
    "share_above",
]

Floats = NDArray[np.float64]
Draws = list[NDArray[np.int64]]  # [T] of [R, N]: which runs of a task a resample takes
Statistic = Callable[[Floats], Floats]  # [..., N] -> [...]

LEVEL = 0.95
TRIMMED = 0.25  # of the runs, at either end
ASSIGNMENTS = 20_000  # ways to deal runs to two groups, up to which all are tried
PERMUTATIONS = 10_000  # else as many at random


class Interval(NamedTuple):
    """A number and where it lies with 95 % confidence: arrays where it was computed at several places."""

    value: Floats
    low: Floats
    high: Floats


def iqm(scores: Floats) -> Floats:
    """Interquartile mean along the last axis: without the ⌊n/4⌋ lowest and highest (a mean trimmed by 25 %)."""
    ordered, n = np.sort(scores, axis=-1), scores.shape[-1]
    cut = int(TRIMMED * n)
    return np.asarray(ordered[..., cut : n - cut].mean(-1))


def optimality_gap(target: float) -> Statistic:
    """A statistic: by how much scores fall short of a target, those above it counting as the target."""
    return lambda scores: target - np.minimum(scores, target).mean(-1)


def draw(rng: np.random.Generator, sizes: Sequence[int], resamples: int) -> Draws:
    """Which runs each resample takes, task by task."""
    return [rng.integers(0, size, (resamples, size)) for size in sizes]


def interval(tasks: Sequence[Floats], statistic: Statistic, draws: Draws) -> Interval:
    """A statistic of all scores together, and its stratified bootstrap percentile interval.

    Args:
        tasks: [T] of [..., N] scores; leading axes (a curve's places) are the same in every task.
        statistic: reduces the last axis.
        draws: from `draw`, for these sizes.
    """
    value = statistic(np.concatenate(tasks, axis=-1))
    few, where = _distinct(draws)
    return Interval(value, *_ends(_resampled(tasks, statistic, few)[..., where]))


def difference(a: Sequence[Floats], b: Sequence[Floats], statistic: Statistic, draws: tuple[Draws, Draws]) -> Interval:
    """A statistic of group a minus that of b, each resampled by itself; arguments as of `interval`."""
    value = statistic(np.concatenate(a, axis=-1)) - statistic(np.concatenate(b, axis=-1))
    parts = []
    for tasks, drawn in zip((a, b), draws, strict=True):
        few, where = _distinct(drawn)
        parts.append(_resampled(tasks, statistic, few)[..., where])
    return Interval(value, *_ends(parts[0] - parts[1]))


def improvement(a: Sequence[Floats], b: Sequence[Floats], draws: tuple[Draws, Draws]) -> Interval:
    """Probability that a run of group a scores above one of b, ties counting half; mean over the tasks.

    It is the statistic of Mann and Whitney over the number of pairs, U / (n·m). Scores are [T] of [N]; the groups are
    resampled independently.
    """
    tasks = list(zip(a, b, *draws, strict=True))
    value = np.mean([_wins(x, y).mean() for x, y, _, _ in tasks])
    drawn = [
        np.einsum("ri,ij,rj->r", _counts(i, len(x)), _wins(x, y), _counts(j, len(y)), optimize=True) / (len(x) * len(y))
        for x, y, i, j in tasks
    ]
    return Interval(np.asarray(value), *_ends(np.mean(drawn, axis=0)))


def improvement_p(a: Sequence[Floats], b: Sequence[Floats], rng: np.random.Generator) -> float:
    """How often chance alone parts two groups as far as these are, in either direction (a permutation test).

    The runs of each task are dealt anew to two groups of the same sizes: in every possible way if there is one task
    and few runs, which is the exact test of Mann and Whitney, else at random. Small groups cannot reach small values,
    however far they are apart: with 3 against 3 runs it is 0.1 at best.
    """
    if len(a) == 1 and math.comb(len(a[0]) + len(b[0]), len(a[0])) <= ASSIGNMENTS:
        dealt = _every_deal(len(a[0]) + len(b[0]), len(a[0]))
        found, extra = _dealt_wins(a[0], b[0], dealt), 0
    else:
        deals = (rng.permuted(np.tile(np.arange(len(x) + len(y)), (PERMUTATIONS, 1)), axis=1) for x, y in _zip(a, b))
        parts = [_dealt_wins(x, y, deal[:, : len(x)]) for (x, y), deal in zip(_zip(a, b), deals, strict=True)]
        found, extra = np.mean(parts, axis=0), 1  # the groups as they are count as one of the deals
    there = np.mean([_wins(x, y).mean() for x, y in _zip(a, b)])
    as_far = np.abs(found - 0.5) >= abs(there - 0.5) - 1e-12
    return float((as_far.sum() + extra) / (len(found) + extra))


def share_above(tasks: Sequence[Floats], levels: Floats, draws: Draws) -> Interval:
    """Performance profile [G]: the share of all scores strictly above each level.

    Scores are [T] of [N], or of [N, E] with E episodes of every run: a resample draws whole runs.
    """
    shares = [(task.reshape(len(task), -1)[:, :, None] > levels).mean(1) for task in tasks]  # [N, G] each
    sizes = np.array([len(task) for task in tasks], float)
    value = sum(share.sum(0) for share in shares) / sizes.sum()
    drawn = sum(_counts(i, len(share)) @ share for i, share in zip(draws, shares, strict=True)) / sizes.sum()
    return Interval(np.asarray(value), *_ends(np.asarray(drawn).T))


def ordered_interval(values: Floats, draws: NDArray[np.int64]) -> tuple[float, float, float]:
    """Median of [N] values, of which some may be infinite (never reached), and its 95 % interval over draws [R, N].

    Ends are values that occurred among the resamples: between a finite one and infinity there is nothing.
    """
    with np.errstate(invalid="ignore"):
        drawn = np.sort(_median(values[draws]))
        last = len(drawn) - 1
        outside = (1 - LEVEL) / 2
        low, high = drawn[math.floor(outside * last)], drawn[math.ceil((1 - outside) * last)]
        return float(_median(values)), float(low), float(high)


def _median(values: Floats) -> Floats:
    """Along the last axis; of an even number the mean of the two in the middle."""
    ordered, n = np.sort(values, axis=-1), values.shape[-1]
    return (ordered[..., (n - 1) // 2] + ordered[..., n // 2]) / 2


def _distinct(draws: Draws) -> tuple[Draws, NDArray[np.int64]]:
    """Resamples that differ in more than the order, once each, and where each of all is among them.

    Five runs can be drawn in 126 ways only. Of many runs hardly two resamples are alike, and all are kept.
    """
    ordered = [np.sort(drawn, axis=-1) for drawn in draws]
    sizes = [drawn.shape[-1] for drawn in draws]
    if math.prod(size**size for size in sizes) >= 2**63:
        return ordered, np.arange(len(ordered[0]))
    key = np.zeros(len(ordered[0]), dtype=np.int64)  # the runs that were drawn, as the digits of one number
    for drawn, size in zip(ordered, sizes, strict=True):
        for column in drawn.T:
            key = key * size + column
    _, first, where = np.unique(key, return_index=True, return_inverse=True)
    return [drawn[first] for drawn in ordered], where


def _resampled(tasks: Sequence[Floats], statistic: Statistic, draws: Draws) -> Floats:
    """The statistic [..., R] of every resample; place by place, for all at once may not fit into memory."""
    leading = tasks[0].shape[:-1]
    flat = [task.reshape(-1, task.shape[-1]) for task in tasks]
    rows = [
        statistic(np.concatenate([task[place][drawn] for task, drawn in zip(flat, draws, strict=True)], axis=-1))
        for place in range(len(flat[0]))
    ]
    return np.stack(rows).reshape(*leading, -1)


def _ends(drawn: Floats) -> tuple[Floats, Floats]:
    """The percentile interval along the last axis."""
    outside = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(drawn, [outside, 100 - outside], axis=-1)
    return np.asarray(low), np.asarray(high)


def _wins(x: Floats, y: Floats) -> Floats:
    """[N, M]: 1 where a run of x is above one of y, a half where they are equal."""
    return (x[:, None] > y) + 0.5 * (x[:, None] == y)


def _counts(draws: NDArray[np.int64], n: int) -> Floats:
    """[R, N]: how many times a resample takes a run."""
    return (draws[:, :, None] == np.arange(n)).sum(1).astype(float)


def _every_deal(total: int, first: int) -> NDArray[np.int64]:
    """[ways, first]: the members of the first group in every way to deal."""
    return np.array(list(itertools.combinations(range(total), first)), dtype=np.int64)


def _dealt_wins(x: Floats, y: Floats, members: NDArray[np.int64]) -> Floats:
    """U / (n·m) of every deal, from the ranks of the first group's members."""
    n, m = len(x), len(y)
    both = np.concatenate([x, y])
    ranks = (both[:, None] > both).sum(1) + 0.5 * ((both[:, None] == both).sum(1) + 1)
    return np.asarray((ranks[members].sum(-1) - n * (n + 1) / 2) / (n * m))


def _zip(a: Sequence[Floats], b: Sequence[Floats]) -> list[tuple[Floats, Floats]]:
    return list(zip(a, b, strict=True))
