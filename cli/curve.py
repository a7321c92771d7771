"""curve.png: how a run learned, drawn from metrics.jsonl and nothing else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.journal import read_metrics
from drivetrain.rundir import read_or_empty

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_curve", "short"]

INK, MUTED, GRID = "#22272e", "#6b7280", "#e5e7eb"
TRAINING, VALIDATION = "#2563eb", "#d97706"
TARGET = 900.0  # the score from which a track counts as solved


def draw_curve(run: Path) -> bool:
    """Write ``curve.png`` of a run folder; False when no episode has ended yet and there is nothing to draw."""
    records = read_metrics(run / "metrics.jsonl")
    training = _series(records, "train/return")
    if not training[0] and not _series(records, "eval/mean")[0]:
        return False
    # the object-oriented interface: pyplot would look for a display and keep global state
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.5), dpi=130, layout="constrained")
    axes = figure.add_subplot()
    _draw_lines(axes, records, training)
    _dress(axes, records, run)
    temporary = run / f".curve.{os.getpid()}.png"
    try:
        FigureCanvasAgg(figure).print_png(str(temporary))
        os.replace(temporary, run / "curve.png")
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _draw_lines(axes: Axes, records: Sequence[Mapping[str, Any]], training: tuple[list[float], list[float]]) -> None:
    axes.plot(*training, color=TRAINING, linewidth=1.8, label="training, mean of the last 100 episodes")
    steps, mean = _series(records, "eval/mean")
    _, low = _series(records, "eval/min")
    if not steps:
        return
    axes.plot(steps, mean, color=VALIDATION, linewidth=1.8, marker="o", markersize=4, label="validation, mean")
    if len(low) == len(steps):
        axes.fill_between(steps, low, mean, color=VALIDATION, alpha=0.13, linewidth=0)
        label = "validation, worst episode"
        axes.plot(steps, low, color=VALIDATION, linewidth=1.0, linestyle=":", marker=".", markersize=4, label=label)
    axes.annotate(
        f"{mean[-1]:.0f}", (steps[-1], mean[-1]), (0, 7), textcoords="offset points", color=VALIDATION, ha="center"
    )


def _dress(axes: Axes, records: Sequence[Mapping[str, Any]], run: Path) -> None:
    config = read_or_empty(run / "config.json")
    words = [str(config[key]) for key in ("algo", "env", "obs", "actions") if key in config]
    axes.set_title(f"{run.name}   ({', '.join(words)})" if words else run.name, loc="left", color=INK, fontsize=11)
    axes.set_xlabel("steps (decisions of one car, all cars together)", color=INK)
    axes.set_ylabel("return of an episode", color=INK)
    if str(config.get("env", "")) == "racing":
        axes.axhline(TARGET, color=MUTED, linewidth=1.0, linestyle="--", zorder=1)
        axes.annotate("900", (1.0, TARGET), (-4, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", color=MUTED, fontsize=8)  # fmt: skip
    last = records[-1] if records else {}
    if isinstance(last.get("seconds"), (int, float)):
        caption = f"{last['step']:,} steps, {last['seconds']:.0f} s"
        axes.text(1.0, 1.02, caption, transform=axes.transAxes, ha="right", color=MUTED, fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlim(left=0)
    axes.margins(x=0.04)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.legend(loc="lower right", frameon=False, labelcolor=INK, fontsize=9)


def _series(records: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    points = [(r["step"], r[name]) for r in records if isinstance(r.get(name), (int, float)) and "step" in r]
    return [float(step) for step, _ in points], [float(value) for _, value in points]


def short(steps: float) -> str:
    """2500000 -> 2.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(steps) >= size:
            return f"{steps / size:g}{letter}"
    return f"{steps:g}"
