"""The pictures of a comparison, made for a paper: letters of 8 pt at the printed width, safe for the colour-blind.

Curves over steps and seconds, the verdict (IQM of every group, and how likely the best beats it), performance profiles.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from drivetrain.compare_curves import Axis, group_curve
from drivetrain.compare_numbers import Comparison, GroupNumbers, tasks_scores
from drivetrain.compare_runs import ComparedRun
from drivetrain.curve import GRID, INK, MUTED, short
from drivetrain.pretrain_plots import dress
from drivetrain.statistics import share_above

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "MOST_ROWS", "Look", "draw_comparison"]

Floats = NDArray[np.float64]
# Okabe and Ito 2008, without its yellow, which is too light for a line
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SIZE = 8  # pt
LETTER = 0.056  # inches, about
DPI = 220
MOST_ROWS = 20  # of the verdict, the best
COLUMN = 5.0  # inches: a narrower picture is for one column of a page, and has its panels one above the other
REACH = 0.6  # of the height of the curves, that far above them a target is drawn
FAR_APART = 20.0  # ratio of lengths from which an axis is logarithmic
CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # behind letters that stand on a line
STYLE: Any = {
    "font.size": SIZE,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "drivetrain",
}
AXES: dict[Axis, str] = {"steps": "steps", "seconds": "seconds of training"}


@dataclass(frozen=True)
class Look:
    """How pictures are made, and what their axes are called."""

    folder: Path
    suffix: str  # png, pdf or svg
    width: float  # inches
    curve: str  # what the curves show
    score: str  # what the numbers are


def draw_comparison(comparison: Comparison, look: Look) -> list[str]:
    """Draw what there is to draw; returns the names of the files."""
    import matplotlib

    drawn = []
    with matplotlib.rc_context(STYLE):
        for name, draw in (("curves", _draw_curves), ("verdict", _draw_verdict), ("profile", _draw_profile)):
            file = look.folder / f"{name}.{look.suffix}"
            figure = draw(comparison, look)
            if figure is None:
                file.unlink(missing_ok=True)  # of an earlier comparison
                continue
            _write(figure, file)
            drawn.append(file.name)
    return drawn


# ---- curves ----------------------------------------------------------------------------------------------------------


def _draw_curves(comparison: Comparison, look: Look) -> Figure | None:
    groups = _shown(comparison)
    if not any(run.curve is not None and len(run.curve.steps) > 1 for found in groups for run in found.group.runs):
        return None
    narrow, tasks = look.width < COLUMN, comparison.tasks
    rows, columns = (2 * len(tasks), 1) if narrow else (len(tasks), 2)
    figure = _figure(look.width, (2.3 if narrow else 2.5) * rows + 0.16 * len(groups))
    panels = figure.subplots(rows, columns, squeeze=False).reshape(len(tasks), 2)
    for row, (pair, task) in enumerate(zip(panels, tasks, strict=True)):
        for axis, axes in zip(AXES, pair, strict=True):
            _draw_task(axes, axis, comparison, groups, task)
            dress(axes, "", AXES[axis], look.curve if narrow or axis == "steps" else "")
            _small(axes)
            if len(tasks) > 1:
                axes.set_title(task, loc="left", color=INK, fontsize=SIZE)
            if axis == "seconds" and not narrow:
                axes.sharey(pair[0])
                axes.tick_params(labelleft=False)
        if row == 0:
            _legend(figure, groups)
    return figure


def _draw_task(axes: Axes, axis: Axis, comparison: Comparison, groups: Sequence[GroupNumbers], task: str) -> None:
    ends, place = [], comparison.tasks.index(task)
    everything: list[Floats] = []
    for number, found in enumerate(groups):
        runs = [run for run in found.group.runs if run.task == task]
        if len(runs) > 1:
            _draw_runs(axes, axis, runs, COLOURS[number])
        curve = group_curve(runs, axis, [comparison.draws[found.group.label][place]])
        if curve is None:
            continue
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.places, curve.low, curve.high, color=COLOURS[number], alpha=0.2, linewidth=0)
        mark = "o" if len(curve.places) == 1 else None
        axes.plot(curve.places, curve.value, color=COLOURS[number], linewidth=1.6, marker=mark, markersize=3)
        ends.append(float(curve.places[-1]))
        everything += [run.curve.values for run in runs if run.curve is not None]
    drawn = np.concatenate(everything) if everything else np.zeros(1)
    is_loss = any(run.curve is not None and run.curve.name.startswith("loss/") for run in groups[0].group.runs)
    target = comparison.scale.target_of(next(run for run in groups[0].group.runs if run.task == task))
    if target is not None and not is_loss and target < drawn.max() + REACH * np.ptp(drawn):
        _target_line(axes, target)  # one far above would press the curves onto the floor
    if is_loss and drawn.min() > 0:
        axes.set_yscale("log")
    if ends and max(ends) > FAR_APART * min(ends) > 0:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.margins(x=0.02, y=0.08)


def _draw_runs(axes: Axes, axis: Axis, runs: Sequence[ComparedRun], colour: str) -> None:
    """Every run by itself, faintly; a cross where one that is not over stands."""
    for run in runs:
        if run.curve is None:
            continue
        at = run.curve.steps if axis == "steps" else run.curve.seconds
        axes.plot(at, run.curve.values, color=colour, alpha=0.3, linewidth=0.6)
        if not run.is_over:
            axes.plot(at[-1:], run.curve.values[-1:], "x", color=colour, alpha=0.6, markersize=4)


# ---- verdict ---------------------------------------------------------------------------------------------------------


def _draw_verdict(comparison: Comparison, look: Look) -> Figure:
    """A row a group, the best above: IQM with its interval and every run; beside it how likely the best beats it."""
    groups, narrow = comparison.groups[:MOST_ROWS], look.width < COLUMN
    paired = not narrow and any(pair.has_interval for pair in comparison.pairs if pair.a == groups[0].group.label)
    figure = _figure(look.width, 0.75 + 0.42 * len(groups))
    panels = figure.subplots(1, 2, squeeze=False, sharey=True, width_ratios=(3, 2))[0] if paired else None
    left = panels[0] if panels is not None else figure.add_subplot()
    for row, found in enumerate(groups):
        _draw_row(left, row, found, comparison)
    dress(left, "", _wrapped(f"{look.score}: IQM, 95 % interval, runs", int(look.width * (7.2 if paired else 11))), "")
    labels = [f"{_wrapped(found.group.label)}\n{_runs_words(found)}" for found in groups]
    left.set_yticks(range(len(groups)), labels, color=INK)
    left.set_ylim(len(groups) - 0.4, -0.6)
    left.margins(x=0.06)
    left.set_xlim(left.get_xlim())
    if comparison.scale.target is not None:
        _target_line(left, comparison.scale.target, upright=True)
    if panels is not None:
        _draw_chances(panels[1], comparison, look.width)
    for axes in panels if panels is not None else (left,):
        _small(axes)
        axes.grid(False, axis="y")
        axes.spines["left"].set_visible(False)
    return figure


def _draw_row(axes: Axes, row: int, found: GroupNumbers, comparison: Comparison) -> None:
    colour = _colour(row)
    scores = np.concatenate(tasks_scores(found.group, comparison.tasks, comparison.scale))
    axes.plot(scores, np.full(len(scores), row + 0.26), "o", color=colour, markersize=3, alpha=0.45, markeredgewidth=0)
    value = float(found.iqm.value)
    if found.has_interval:
        axes.plot([found.iqm.low, found.iqm.high], [row, row], color=colour, alpha=0.4, linewidth=6,
                  solid_capstyle="butt")  # fmt: skip
    axes.plot([value], [row], "|", color=colour, markersize=9, markeredgewidth=2)
    axes.annotate(_number(value), (value, row), (0, 6), textcoords="offset points", ha="center", va="bottom", color=INK,
                  bbox=CLEAR)  # fmt: skip


def _draw_chances(axes: Axes, comparison: Comparison, width: float) -> None:
    best = comparison.groups[0].group.label
    rows = {found.group.label: row for row, found in enumerate(comparison.groups[:MOST_ROWS])}
    for pair in comparison.pairs:
        if pair.a != best or pair.b not in rows:
            continue
        row, chance = rows[pair.b], float(pair.probability.value)
        if not pair.has_interval:
            axes.annotate("one run", (0.5, row), ha="center", va="center", color=MUTED, bbox=CLEAR)
            continue
        ends = [pair.probability.low, pair.probability.high]
        axes.plot(ends, [row, row], color=INK, alpha=0.3, linewidth=6, solid_capstyle="butt")
        axes.plot([chance], [row], "|", color=INK, markersize=9, markeredgewidth=2)
        side = "left" if chance < 0.2 else "right" if chance > 0.8 else "center"
        axes.annotate(f"{chance:.2f}, p = {pair.p:.2g}", (chance, row), (0, 6), textcoords="offset points", ha=side,
                      va="bottom", color=INK, bbox=CLEAR)  # fmt: skip
    words = "probability that a run of the best group scores better"
    dress(axes, "", _wrapped(words, int(width * 4.5)), "")
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
    axes.axvline(0.5, color=MUTED, linewidth=1.0, linestyle="--", zorder=1)
    axes.annotate("best", (0.5, 0), ha="center", va="center", color=MUTED, bbox=CLEAR)
    axes.tick_params(labelleft=False)


# ---- profile ---------------------------------------------------------------------------------------------------------


def _draw_profile(comparison: Comparison, look: Look) -> Figure | None:
    """Share of runs, and of their episodes, that score above each level."""
    groups = _shown(comparison)
    kinds = []
    if any(len(found.group.runs) > 1 for found in groups):
        kinds.append(("runs", {found.group.label: _of_runs(found, comparison) for found in groups}))
    if all(run.episodes is not None for found in groups for run in found.group.runs):
        kinds.append(("episodes", {found.group.label: _of_episodes(found, comparison) for found in groups}))
    if not kinds:
        return None
    narrow = look.width < COLUMN
    rows, columns = (len(kinds), 1) if narrow else (1, len(kinds))
    width = look.width if narrow or len(kinds) > 1 else look.width * 0.6
    figure = _figure(width, 2.4 * rows + 0.16 * len(groups))
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (what, scores) in zip(panels, kinds, strict=True):
        _draw_shares(axes, scores, comparison)
        side = "below" if comparison.scale.lower_is_better else "above"
        score = look.score if what == "runs" else "score of an episode"
        dress(axes, "", score, f"share of {what} {side}")
        _small(axes)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _legend(figure, groups)
    return figure


def _draw_shares(axes: Axes, scores: Mapping[str, list[Floats]], comparison: Comparison) -> None:
    everything = np.concatenate([part.ravel() for parts in scores.values() for part in parts])
    edge = 0.04 * (np.ptp(everything) or 1.0)
    levels = np.linspace(everything.min() - edge, everything.max() + edge, 401)
    sign = -1.0 if comparison.scale.lower_is_better else 1.0
    for number, (label, parts) in enumerate(scores.items()):
        found = share_above([sign * part for part in parts], sign * levels, comparison.draws[label])
        if len(parts[0]) > 1:
            axes.fill_between(levels, found.low, found.high, color=COLOURS[number], alpha=0.15, linewidth=0, step="mid")
        axes.step(levels, found.value, where="mid", color=COLOURS[number], linewidth=1.6)
    if comparison.scale.target is not None:
        _target_line(axes, comparison.scale.target, upright=True)
    axes.set_xlim(levels[0], levels[-1])


def _of_runs(found: GroupNumbers, comparison: Comparison) -> list[Floats]:
    return tasks_scores(found.group, comparison.tasks, comparison.scale)


def _of_episodes(found: GroupNumbers, comparison: Comparison) -> list[Floats]:
    """[T] of [N, E], each run with as many episodes as the shortest."""
    parts = []
    for task in comparison.tasks:
        runs = [run for run in found.group.runs if run.task == task and run.episodes is not None]
        shortest = min(len(run.episodes) for run in runs if run.episodes is not None)
        scaled = [comparison.scale.of(run, run.episodes[:shortest]) for run in runs if run.episodes is not None]
        parts.append(np.stack(scaled))
    return parts


# ---- house style -----------------------------------------------------------------------------------------------------


def _shown(comparison: Comparison) -> tuple[GroupNumbers, ...]:
    """As many of the best groups as there are colours."""
    return comparison.groups[: len(COLOURS)]


def _colour(row: int) -> str:
    return COLOURS[row] if row < len(COLOURS) else MUTED


def _figure(width: float, height: float) -> Figure:
    # the object-oriented interface: pyplot would look for a display and keep global state
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def _small(axes: Axes) -> None:
    axes.tick_params(which="both", labelsize=SIZE, labelcolor=INK, length=0)
    axes.xaxis.label.set_fontsize(SIZE)
    axes.yaxis.label.set_fontsize(SIZE)
    axes.spines["bottom"].set_color(MUTED)
    axes.grid(True, color=GRID, linewidth=0.6)


def _legend(figure: Figure, groups: Sequence[GroupNumbers]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=COLOURS[number], linewidth=1.6) for number in range(len(groups))]
    labels = [f"{found.group.label} ({_runs_words(found)})" for found in groups]
    longest = max(len(label) for label in labels)
    columns = max(1, min(len(groups), int(figure.get_figwidth() / (LETTER * longest + 0.5))))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, labelcolor=INK,
                  fontsize=SIZE, handlelength=1.4, borderaxespad=0.2, columnspacing=1.6)  # fmt: skip


def _target_line(axes: Axes, target: float, upright: bool = False) -> None:
    style: dict[str, Any] = {"color": MUTED, "linewidth": 0.9, "linestyle": "--", "zorder": 1}
    if not upright:
        axes.axhline(target, **style)
        # on the left, where training has only begun, there is room
        axes.annotate(_signed(target), (0.0, target), (3, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", ha="left", va="bottom", color=MUTED)  # fmt: skip
        return
    low, high = axes.get_xlim()
    if low <= target <= high:
        axes.axvline(target, **style)
        axes.annotate(_signed(target), (target, 1.0), (0, 2), xycoords=("data", "axes fraction"),
                      textcoords="offset points", ha="center", va="bottom", color=MUTED)  # fmt: skip


def _runs_words(found: GroupNumbers) -> str:
    return f"{found.n} run" if found.n == 1 else f"{found.n} runs"


def _wrapped(text: str, width: int = 26) -> str:
    return "\n".join(textwrap.wrap(text, width))


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _signed(value: float) -> str:
    return f"{value:g}".replace("-", "\N{MINUS SIGN}")  # as on the axes


def _write(figure: Figure, file: Path) -> None:
    """In one piece: a reader sees the old picture or the new one."""
    temporary = file.with_name(f".{os.getpid()}.{file.name}")
    dated = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}  # equal pictures are equal files
    try:
        figure.savefig(temporary, format=file.suffix[1:], metadata=dated[file.suffix[1:]])
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
