"""Learning curves of a group: runs that were validated at different steps, put onto common places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivetrain.compare_runs import ComparedRun, Curve
from drivetrain.statistics import Draws, interval, iqm

__all__ = ["GroupCurve", "group_curve", "last_until", "places_of"]

Floats = NDArray[np.float64]
Axis = Literal["steps", "seconds"]
PLACES = 20, 100  # of a curve: at least and at most; in between twice as many as its runs have values
RESAMPLES = 2_000  # at each place


class GroupCurve(NamedTuple):
    """IQM over the runs at G places, and its 95 % interval; None with a single run."""

    places: Floats  # [G] steps, or seconds
    value: Floats  # [G]
    low: Floats | None  # [G]
    high: Floats | None  # [G]


def last_until(curve: Curve, axis: Axis, places: Floats) -> Floats:
    """What is known of a run at each place: its last value until then; not a number before the first."""
    at = curve.steps if axis == "steps" else curve.seconds
    index = np.searchsorted(at, places, side="right") - 1
    return np.where(index >= 0, curve.values[index.clip(0)], np.nan)


def places_of(runs: Sequence[ComparedRun], axis: Axis) -> Floats:
    """Where a curve of a group is drawn: wherever a run has a new value; of such places close together, the last.

    It begins where every run has a value. A run that is over keeps its last value; one that is not might not have kept
    it, so the curve ends with the first of those.
    """
    curves = [(run, _along(run.curve, axis)) for run in runs if run.curve is not None]
    unfinished = [at[-1] for run, at in curves if not run.is_over]
    first = max(at[0] for _, at in curves)
    end = max(first, min(unfinished, default=max(at[-1] for _, at in curves)))
    every = np.unique(np.concatenate([at for _, at in curves] + [np.array([first, end])]))
    every = every[(every >= first) & (every <= end)]
    cells = np.clip(2 * np.median([len(at) for _, at in curves]), *PLACES)
    return _thinned(every, float(end - first) / float(cells))


def _thinned(places: Floats, width: float) -> Floats:
    """Of places that lie within a width of one another, the last."""
    kept: list[float] = []
    begin = -np.inf
    for place in places:
        if place - begin > width:
            begin = place
            kept.append(place)
        else:
            kept[-1] = place
    return np.array(kept)


def group_curve(runs: Sequence[ComparedRun], axis: Axis, draws: Draws) -> GroupCurve | None:
    """The curve of runs on one task; None where one of them has none. ``draws`` holds one task."""
    curves = [run.curve for run in runs if run.curve is not None]
    if len(curves) < len(runs):
        return None
    places = places_of(runs, axis)
    values = np.stack([last_until(curve, axis, places) for curve in curves], axis=-1)  # [G, N]
    if len(runs) == 1:
        return GroupCurve(places, values[:, 0], None, None)
    return GroupCurve(places, *interval([values], iqm, [drawn[:RESAMPLES] for drawn in draws]))


def _along(curve: Curve, axis: Axis) -> Floats:
    return curve.steps if axis == "steps" else curve.seconds
