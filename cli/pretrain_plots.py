"""The pictures of a supervised training: both losses, a function learned, series predicted, classes confused."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from drivetrain.curve import GRID, INK, MUTED, TRAINING, VALIDATION
from drivetrain.journal import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FunctionPicture",
    "SeriesPicture",
    "draw_confusion",
    "draw_function",
    "draw_losses",
    "draw_series",
    "dress",
    "new_figure",
    "write_png",
]

Numbers = NDArray[np.float64]
COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea")
SHOWN_POINTS = 2_000
WRITTEN_CLASSES = 30  # more than these are not labelled, nor their counts written


@dataclass(frozen=True)
class FunctionPicture:
    """What a function looks like, and what was learned of it, on a grid that reaches beyond what was seen."""

    title: str
    x: Numbers  # [N]
    learned: Numbers  # [N, K]
    true: Numbers | None  # [N, K]; NaN where there is no value; None = not known
    seen: tuple[float, float]  # range of x in training
    samples: tuple[Numbers, Numbers]  # [M], [M, K]
    width: Numbers | None = None  # [K] standard deviation that was learned


@dataclass(frozen=True)
class SeriesPicture:
    """The end of a series, and what was said of every value one step before."""

    title: str
    steps: Numbers  # [N]
    true: Numbers  # [N]
    said: Mapping[str, Numbers]  # by model, [N] each
    errors: Mapping[str, float]  # mean absolute error of each


def draw_losses(run: Path, names: Sequence[str]) -> None:
    """curve.png: training and validation loss of every model over the updates, from metrics.jsonl."""
    records = read_metrics(run / "metrics.jsonl")
    figure = new_figure(8.0, 4.5)
    axes = figure.add_subplot()
    positive = True
    for k, name in enumerate(names):
        end, label = (f"_{name}", f"{name}, ") if name else ("", "")
        colours = (TRAINING, VALIDATION) if len(names) == 1 else (COLOURS[k % 4], COLOURS[k % 4])
        for part, colour, style in zip(("train", "validation"), colours, ("--", "-"), strict=True):
            key = f"loss/{part}{end}"
            points = [(r["step"], r[key]) for r in records if isinstance(r.get(key), (int, float))]
            if not points:
                continue
            steps, losses = zip(*points, strict=True)
            positive = positive and min(losses) > 0
            words = f"{label}{'training' if part == 'train' else part}"
            axes.plot(steps, losses, style, color=colour, linewidth=1.6, label=words)
    axes.set_yscale("log" if positive else "linear")
    dress(axes, run.name, "updates", "loss")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    write_png(figure, run / "curve.png")


def draw_function(file: Path, picture: FunctionPicture) -> None:
    """Samples, the true function, the learned one, and how it fails outside the range it saw, which is shaded."""
    figure = new_figure(8.0, 4.5)
    axes = figure.add_subplot()
    low, high = picture.seen
    for begin, end in ((picture.x[0], low), (high, picture.x[-1])):
        axes.axvspan(begin, end, color=MUTED, alpha=0.12, linewidth=0, label="never seen" if begin < low else None)
    every = max(1, len(picture.samples[0]) // SHOWN_POINTS)
    for k in range(picture.learned.shape[1]):
        colour = COLOURS[k % len(COLOURS)]
        what = f" {k + 1}" if picture.learned.shape[1] > 1 else ""
        points = picture.samples[0][::every], picture.samples[1][::every, k]
        axes.plot(*points, ".", color=MUTED, markersize=2.5, alpha=0.5, label=f"samples{what}")
        if picture.true is not None:
            axes.plot(picture.x, picture.true[:, k], color=INK, linewidth=1.2, label=f"true{what}")
        axes.plot(picture.x, picture.learned[:, k], "--", color=colour, linewidth=1.8, label=f"learned{what}")
        if picture.width is not None:
            band = picture.learned[:, k] - 2 * picture.width[k], picture.learned[:, k] + 2 * picture.width[k]
            axes.fill_between(picture.x, *band, color=colour, alpha=0.15, linewidth=0, label=f"±2 deviations{what}")
    inside = picture.samples[1], picture.learned
    bottom, top = min(part.min() for part in inside), max(part.max() for part in inside)
    margin = 0.5 * (picture.samples[1].max() - picture.samples[1].min()) or 1.0
    axes.set_ylim(max(bottom, picture.samples[1].min() - 2 * margin), min(top, picture.samples[1].max() + 2 * margin))
    axes.margins(y=0.05)
    dress(axes, picture.title, "x", "y")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, ncols=2)
    write_png(figure, file)


def draw_series(file: Path, picture: SeriesPicture) -> None:
    """Values and one-step predictions above, errors below."""
    figure = new_figure(9.0, 5.5)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    above.plot(picture.steps, picture.true, color=INK, linewidth=1.4, label="series")
    for k, (name, said) in enumerate(picture.said.items()):
        colour = COLOURS[k % len(COLOURS)]
        above.plot(picture.steps, said, "--", color=colour, linewidth=1.3, label=f"{name}")
        label = f"{name}, mean {picture.errors[name]:.3g}"
        below.plot(picture.steps, np.abs(said - picture.true), color=colour, linewidth=1.1, label=label)
    dress(above, picture.title, "", "value, told one step before")
    dress(below, "", "step", "absolute error")
    for axes in (above, below):
        axes.margins(y=0.18)
        axes.legend(frameon=False, labelcolor=INK, fontsize=8, ncols=4, loc="upper left")
    write_png(figure, file)


def draw_confusion(file: Path, title: str, counts: NDArray[np.int64], classes: Sequence[str]) -> None:
    """How often each class [rows] was taken for each [columns]; shares of a row are drawn, counts written."""
    side = min(9.0, 2.5 + 0.45 * len(classes))
    figure = new_figure(side + 0.8, side)
    axes = figure.add_subplot()
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.set_xlabel("taken for", color=INK)
    axes.set_ylabel("is", color=INK)
    if len(classes) <= WRITTEN_CLASSES:
        places = range(len(classes))
        turned = 90 if max(len(name) for name in classes) > 3 else 0
        axes.set_xticks(places, classes, rotation=turned, fontsize=8)
        axes.set_yticks(places, classes, fontsize=8)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.6 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=7)
    axes.tick_params(colors=MUTED, length=0)
    write_png(figure, file)


def new_figure(width: float, height: float, dpi: int = 110) -> Figure:
    """An empty picture, width and height in inches."""
    # the object-oriented interface: pyplot would look for a display and keep global state
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=dpi, layout="constrained")


def dress(axes: Axes, title: str, x: str, y: str) -> None:
    """Title, words on the axes, and a quiet grid."""
    axes.set_title(title, loc="left", color=INK, fontsize=10)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)


def write_png(figure: Figure, file: Path) -> None:
    """The picture as a file, in one piece: a reader sees the old or the new one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    temporary = file.with_name(f".{file.name}.{os.getpid()}.png")
    try:
        FigureCanvasAgg(figure).print_png(str(temporary))
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
