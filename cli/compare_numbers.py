"""The numbers of a comparison: of each run, of each group, and of each pair of groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from drivetrain.compare_groups import Group, tasks_of
from drivetrain.compare_runs import ComparedRun, is_error
from drivetrain.statistics import (
    Draws,
    Interval,
    difference,
    draw,
    improvement,
    improvement_p,
    interval,
    iqm,
    optimality_gap,
    ordered_interval,
)

__all__ = [
    "ALL_PAIRS",
    "Comparison",
    "GroupNumbers",
    "Pair",
    "Reach",
    "RunNumbers",
    "Scale",
    "compare_groups",
    "tasks_scores",
]

Floats = NDArray[np.float64]
SURE = 0.05  # chance alone does it more rarely than this
ALL_PAIRS = 8  # groups up to which every pair is looked at; of more, the best against each


@dataclass(frozen=True)
class Scale:
    """How scores are put on a common scale: of an environment the score that counts 0, and the one that counts 1."""

    ends: Mapping[str, tuple[float, float]]  # environment → (low, high); empty = scores as they are
    target: float | None  # on that scale
    lower_is_better: bool = False

    def of(self, run: ComparedRun, score: float | Floats) -> Floats:
        """Scores of a run on the scale."""
        low, high = self.ends.get(run.env, (0.0, 1.0))
        return (np.asarray(score, float) - low) / (high - low)

    def target_of(self, run: ComparedRun) -> float | None:
        """The target in the environment's own score."""
        if not self.ends:
            return self.target
        low, high = self.ends[run.env]
        return None if self.target is None else low + self.target * (high - low)


@dataclass(frozen=True)
class RunNumbers:
    """A run, with the IQM of its episodes; None where only their mean is known."""

    run: ComparedRun
    group: str
    episodes: Interval | None
    steps_to_target: float | None  # infinite = never; None = no target, or no curve
    seconds_to_target: float | None


@dataclass(frozen=True)
class Reach:
    """How long a group took to its target: the median of its runs, those that never came there last."""

    reached: int
    runs: int
    steps: tuple[float, float, float]  # median, low, high; infinite = never
    seconds: tuple[float, float, float]


@dataclass(frozen=True)
class GroupNumbers:
    """A group on the scale. Intervals of a group of one run per task are its value alone."""

    group: Group
    n: int
    iqm: Interval
    median: Interval
    mean: Interval
    sd: float | None  # over runs, mean of the tasks; None with one run each
    gap: Interval | None  # None without a target
    reach: Reach | None

    @property
    def has_interval(self) -> bool:
        """Whether some task has more than one run, so that there is something to resample."""
        return self.sd is not None


@dataclass(frozen=True)
class Pair:
    """Group a, which has the better IQM, against b."""

    a: str
    b: str
    probability: Interval  # that a run of a is better than one of b
    difference: Interval  # of the IQMs, a minus b
    p: float  # how often chance alone parts them as far
    has_interval: bool

    @property
    def verdict(self) -> str:
        """One of: better, unsure, equal, unknown."""
        if not self.has_interval:
            return "unknown"
        apart = float(self.probability.low) > 0.5
        if apart:
            return "better" if self.p < SURE else "unsure"
        return "equal"


@dataclass(frozen=True)
class Comparison:
    """Everything that was computed; groups from best to worst."""

    groups: tuple[GroupNumbers, ...]
    pairs: tuple[Pair, ...]
    runs: tuple[RunNumbers, ...]
    scale: Scale
    tasks: tuple[str, ...]
    draws: Mapping[str, Draws]  # of each group


def compare_groups(groups: Sequence[Group], scale: Scale, resamples: int, seed: int) -> Comparison:
    """All numbers of a comparison.

    Args:
        groups: each with runs on every task that occurs.
        scale: of the scores.
        resamples: of the bootstrap.
        seed: of its random numbers; equal seeds give equal intervals.
    """
    tasks = tuple(tasks_of([run for group in groups for run in group.runs]))
    rng = np.random.default_rng(seed)
    scores = {group.label: tasks_scores(group, tasks, scale) for group in groups}
    draws = {label: draw(rng, [len(task) for task in part], resamples) for label, part in scores.items()}
    numbers = [_group(group, scores[group.label], draws[group.label], scale) for group in groups]
    sign = -1.0 if scale.lower_is_better else 1.0
    numbers.sort(key=lambda found: -sign * float(found.iqm.value))
    asked = combinations(numbers, 2) if len(numbers) <= ALL_PAIRS else ((numbers[0], other) for other in numbers[1:])
    pairs = [_pair(a, b, scores, draws, sign, rng) for a, b in asked]
    runs = [_run(run, found.group.label, scale, resamples, rng) for found in numbers for run in found.group.runs]
    return Comparison(tuple(numbers), tuple(pairs), tuple(runs), scale, tasks, draws)


def tasks_scores(group: Group, tasks: Sequence[str], scale: Scale) -> list[Floats]:
    """[T] of [N]: scores of a group's runs on the scale, task by task."""
    return [np.array([scale.of(run, run.score) for run in group.runs if run.task == task]) for task in tasks]


def _group(group: Group, scores: list[Floats], draws: Draws, scale: Scale) -> GroupNumbers:
    spreads = [float(task.std(ddof=1)) for task in scores if len(task) > 1]
    gap = None
    if scale.target is not None:
        sign = -1.0 if scale.lower_is_better else 1.0
        gap = interval([sign * task for task in scores], optimality_gap(sign * scale.target), draws)
    return GroupNumbers(
        group,
        len(group.runs),
        interval(scores, iqm, draws),
        interval(scores, lambda part: np.asarray(np.median(part, axis=-1)), draws),
        interval(scores, lambda part: np.asarray(part.mean(-1)), draws),
        float(np.mean(spreads)) if spreads else None,
        gap,
        _reach(group, scale, draws) if len(scores) == 1 else None,
    )


def _pair(
    a: GroupNumbers, b: GroupNumbers, scores: Mapping[str, list[Floats]], draws: Mapping[str, Draws], sign: float,
    rng: np.random.Generator,
) -> Pair:  # fmt: skip
    labels = a.group.label, b.group.label
    x, y = ([sign * task for task in scores[label]] for label in labels)
    both = draws[labels[0]], draws[labels[1]]
    apart = difference(scores[labels[0]], scores[labels[1]], iqm, both)
    has_interval = all(len(task) > 1 for label in labels for task in scores[label])
    return Pair(*labels, improvement(x, y, both), apart, improvement_p(x, y, rng), has_interval)


def _run(run: ComparedRun, label: str, scale: Scale, resamples: int, rng: np.random.Generator) -> RunNumbers:
    episodes = None
    if run.episodes is not None and len(run.episodes) > 1:
        # of hundreds of episodes an interval settles early, and there may be hundreds of runs
        draws = draw(rng, [len(run.episodes)], min(resamples, 2_000))
        episodes = interval([run.episodes], iqm, draws)
    return RunNumbers(run, label, episodes, *_first_reach(run, scale))


def _first_reach(run: ComparedRun, scale: Scale) -> tuple[float | None, float | None]:
    """Steps and seconds of the first point of the curve at the target or better."""
    target = scale.target_of(run)
    if target is None or run.curve is None or is_error(run) or run.curve.name.startswith("loss/"):
        return None, None
    found = np.flatnonzero(run.curve.values >= target)
    if not len(found):
        return np.inf, np.inf
    return float(run.curve.steps[found[0]]), float(run.curve.seconds[found[0]])


def _reach(group: Group, scale: Scale, draws: Draws) -> Reach | None:
    times = [_first_reach(run, scale) for run in group.runs]
    steps = np.array([steps for steps, _ in times if steps is not None])
    seconds = np.array([seconds for _, seconds in times if seconds is not None])
    if len(steps) < len(times):
        return None
    reached = int(np.isfinite(steps).sum())
    return Reach(reached, len(times), ordered_interval(steps, draws[0]), ordered_interval(seconds, draws[0]))
