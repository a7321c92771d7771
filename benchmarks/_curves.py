"""Learning curves of several runs: interquartile means with bootstrap intervals (Agarwal et al. 2021), and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivetrain import statistics

Floats = NDArray[np.float64]
RESAMPLES = 2_000


def interval(runs: Sequence[Floats], seed: int = 0) -> statistics.Interval:
    """IQM and 95 % interval of runs [task][R, …], resampled with replacement within each task, all tasks together."""
    tasks = [np.moveaxis(task, 0, -1) for task in runs]
    draws = statistics.draw(np.random.default_rng(seed), [task.shape[-1] for task in tasks], RESAMPLES)
    return statistics.interval(tasks, statistics.iqm, draws)


def at(points: Floats, axis: int, grid: Floats) -> Floats:
    """Scores [G] of one run at places of a grid: its last evaluation until then; nan before the first.

    Args:
        points: [K, 3] steps, seconds and score.
        axis: 0 = the grid is of steps, 1 = of seconds.
        grid: [G], rising.
    """
    place = np.searchsorted(points[:, axis], grid, side="right") - 1
    return np.where(place >= 0, points[place.clip(0), 2], np.nan)


def first_reach(points: Floats, target: float) -> tuple[float, float]:
    """Steps and seconds of the first evaluation that reached a score; infinite without one."""
    found = np.flatnonzero(points[:, 2] >= target)
    return (float(points[found[0], 0]), float(points[found[0], 1])) if len(found) else (np.inf, np.inf)


def draw(curves: dict[tuple[str, str], dict[str, list[Floats]]], targets: dict[str, float], out: Path) -> None:
    """One row of two panels for each (algorithm, environment): score over steps and over seconds.

    Args:
        curves: (algorithm, environment) → side → points [K, 3] of each run.
        targets: environment → score that a line marks.
        out: PNG.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter

    figure, panels = plt.subplots(len(curves), 2, figsize=(11, 3.2 * len(curves)), squeeze=False)
    for row, ((algo, env), sides) in zip(panels, curves.items(), strict=True):
        for axis, panel in enumerate(row):
            for side, runs in sides.items():
                end = max(run[-1, axis] for run in runs)
                grid = np.linspace(max(run[0, axis] for run in runs), end, 200)
                centre, low, high = interval([np.stack([at(run, axis, grid) for run in runs])])
                (line,) = panel.plot(grid, centre, label=f"{side} ({len(runs)} seeds)")
                panel.fill_between(grid, low, high, alpha=0.2, color=line.get_color())
            panel.axhline(targets[env], color="grey", linewidth=0.8, linestyle=":")
            panel.set_xlabel(("steps", "seconds of training")[axis])
            panel.set_title(f"{algo} on {env}")
        row[1].set_xscale("log")
        row[0].xaxis.set_major_formatter(EngFormatter(sep=""))
        row[0].set_ylabel("score without exploration")
        row[0].legend()
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    plt.close(figure)
