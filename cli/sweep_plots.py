"""The pictures of a study: how it went, which options matter, and how each bears on the objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drivetrain.curve import GRID, INK, MUTED, TRAINING, VALIDATION
from drivetrain.pretrain_plots import dress, new_figure, write_png
from drivetrain.sweep_report import AXES, best_of, default_of, number
from drivetrain.sweep_space import Dimension, dashed
from drivetrain.sweep_study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna.trial import FrozenTrial

__all__ = ["draw_all"]

COLUMNS = 4  # panels side by side
LOST = "#dc2626"


def draw_all(study: Study, shares: Mapping[str, float]) -> list[str]:
    """Draw what there is to draw into the study folder; returns the file names."""
    trials = [trial for trial in study.trials() if trial.state.is_finished()]
    if not any(trial.state.name == "COMPLETE" for trial in trials):
        return []
    drawn = ["history.png", "slices.png"]
    _draw_history(study, trials)
    _draw_slices(study, trials)
    if any(share > 0 for share in shares.values()):
        _draw_importance(study, shares)
        drawn.insert(1, "importance.png")
    return drawn


def _draw_history(study: Study, trials: list[FrozenTrial]) -> None:
    """Value of every complete trial in the order of their begin, the best so far, and those without a value below."""
    figure = new_figure(8.0, 4.5)
    axes = figure.add_subplot()
    done = [trial for trial in trials if trial.state.name == "COMPLETE" and trial.value is not None]
    values = [float(trial.value or 0.0) for trial in done]
    axes.plot([t.number for t in done], values, "o", color=TRAINING, markersize=5, alpha=0.8, label="complete")
    pick = max if study.record.rises else min
    best = [pick(values[: k + 1]) for k in range(len(values))]
    last = max(trial.number for trial in trials)
    axes.step(
        [t.number for t in done] + [last], [*best, best[-1]], where="post", color=VALIDATION, linewidth=1.8,
        label="best so far",
    )  # fmt: skip
    _default_line(study, axes)
    for state, mark, colour, label in (("PRUNED", "|", MUTED, "pruned"), ("FAIL", "x", LOST, "lost, repeated")):
        at = [trial.number for trial in trials if trial.state.name == state]
        if at:
            # no value of the objective: they stand on the axis
            axes.plot(
                at,
                [0.02] * len(at),
                mark,
                color=colour,
                markersize=6,
                transform=axes.get_xaxis_transform(),
                label=label,
            )
    axes.margins(y=0.12)
    dress(axes, f"{study.path.name}   ({study.record.algo}, {study.record.env})", "trial", AXES[study.record.objective])
    _number_axis(axes, study)
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    write_png(figure, study.path / "history.png")


def _draw_importance(study: Study, shares: Mapping[str, float]) -> None:
    figure = new_figure(6.5, 1.0 + 0.34 * len(shares))
    axes = figure.add_subplot()
    names = list(shares)[::-1]
    axes.barh(range(len(names)), [shares[name] for name in names], color=TRAINING, height=0.6)
    for place, name in enumerate(names):
        axes.annotate(f"{shares[name]:.0%}", (shares[name], place), (4, 0), textcoords="offset points",
                      va="center", color=MUTED, fontsize=8)  # fmt: skip
    dress(axes, "what decides whether a trial is among the best quarter", "share (PED-ANOVA)", "")
    axes.set_yticks(range(len(names)), [dashed(name) for name in names], color=INK, fontsize=9)
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.margins(x=0.12)
    write_png(figure, study.path / "importance.png")


def _draw_slices(study: Study, trials: list[FrozenTrial]) -> None:
    """One panel an option: its values in all complete trials against what came of them."""
    names = list(study.record.space)
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(0.6 + 2.6 * columns, 0.5 + 2.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    best = best_of(study)
    for place, axes in enumerate(panels.flat):
        if place >= len(names):
            axes.set_axis_off()
            continue
        _draw_slice(study, axes, names[place], trials, best)
        if place % columns == 0:
            axes.set_ylabel(study.record.objective, color=INK)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, labelcolor=INK, fontsize=8, ncols=4, loc="outside upper center")
    write_png(figure, study.path / "slices.png")


def _draw_slice(study: Study, axes: Axes, name: str, trials: list[FrozenTrial], best: FrozenTrial | None) -> None:
    dimension = study.record.space[name]
    choices = list(dimension.choices)

    def place(trial: FrozenTrial) -> float:
        value: Any = trial.params[name]
        return float(choices.index(value)) if choices else float(value)

    done = [trial for trial in trials if trial.state.name == "COMPLETE" and name in trial.params]
    axes.plot([place(t) for t in done], [t.value or 0.0 for t in done], "o", color=TRAINING, markersize=4, alpha=0.6,
              label="complete")  # fmt: skip
    pruned = [trial for trial in trials if trial.state.name == "PRUNED" and name in trial.params]
    axes.plot([place(t) for t in pruned], [0.02] * len(pruned), "|", color=MUTED, markersize=6,
              transform=axes.get_xaxis_transform(), label="pruned")  # fmt: skip
    default = study.record.first[name]
    axes.axvline(choices.index(default) if choices else float(default), color=MUTED, linewidth=1.0, linestyle="--",
                 label="default")  # fmt: skip
    if best is not None:
        axes.plot([place(best)], [best.value or 0.0], "o", color=VALIDATION, markersize=7, label="best")
    if choices:
        axes.set_xticks(range(len(choices)), [str(choice).replace(",", "x") for choice in choices], fontsize=7)
        axes.set_xlim(-0.5, len(choices) - 0.5)
    else:
        _searched(axes, dimension)
    dress(axes, "", dashed(name), "")
    _number_axis(axes, study)
    axes.margins(y=0.08)
    axes.tick_params(labelsize=7)


def _searched(axes: Axes, dimension: Dimension) -> None:
    """The whole range, whether tried or not, with three numbers on it."""
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        axes.set_xscale("log")
        edge = (high / low) ** 0.05
        axes.set_xlim(low / edge, high * edge)
        ticks = [low, math.sqrt(low * high), high]
    else:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        ticks = [low, round((low + high) / 2) if dimension.kind == "int" else (low + high) / 2, high]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _default_line(study: Study, axes: Axes) -> None:
    default = default_of(study)
    if default is not None and default.state.name == "COMPLETE" and default.value is not None:
        axes.axhline(default.value, color=MUTED, linewidth=1.0, linestyle="--", zorder=1, label="defaults")


def _number_axis(axes: Axes, study: Study) -> None:
    if study.record.objective == "steps":
        axes.yaxis.set_major_formatter(lambda value, _: f"{value / 1e6:g}M" if value >= 1e6 else number(value))
    axes.spines["left"].set_color(GRID)
