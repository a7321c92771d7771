"""What learning is made of: the tables and pictures of docs/learning.md, all from small trainings on the CPU.

Five experiments: depth and connections, learning rates and schedules, losses with outliers, regularisation, and
extrapolation. With --write, tables and pictures go into docs/; without, the tables are printed.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _row import publish
from torch import nn

from drivetrain.agents.fit import Fit, Problem, make_loss
from drivetrain.agents.fit_config import RegressionConfig
from drivetrain.agents.formula import parse_formula
from drivetrain.agents.samples import Rows, Split, split_rows
from drivetrain.policies.predictor_config import VectorConfig
from drivetrain.policies.predictors import Outputs, build_predictor
from drivetrain.pretrain_plots import COLOURS, dress, new_figure, write_png

DOCS = Path(__file__).resolve().parent.parent / "docs"
ACTIVATIONS = ("relu", "gelu", "silu", "tanh")
DPI = 80
Table = tuple[Sequence[str], list[list[str]]]  # heading and rows


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(formula: str, count: int, low: float, high: float, noise: float = 0.0, seed: int = 0) -> Rows:
    """Of a function of x."""
    generator = rng(seed)
    x = low + (high - low) * torch.rand(count, 1, generator=generator, dtype=torch.float64)
    y = torch.as_tensor(parse_formula(formula)(x.numpy()))
    return Rows(x, y + noise * torch.randn(y.shape, generator=generator, dtype=torch.float64))


def make(rows: Rows, network: VectorConfig, cfg: RegressionConfig, steps: int, seed: int, split: Split | None) -> Fit:
    kind = "likelihood" if cfg.loss == "likelihood" else "number"
    model = build_predictor((1,), Outputs(1, kind), network, rng(seed))
    parts = split or split_rows(len(rows), cfg.val_share, 0.0, rng(seed + 1))
    return Fit(model, Problem(rows, parts, make_loss(cfg)), cfg, rng(seed + 2), steps)


def train(fit: Fit, look: Callable[[Fit], None] | None = None, every: int = 50) -> Fit:
    """To the end; the last weights are kept, not the best."""
    while not fit.over:
        fit.step()
        if look is not None and fit.steps % every == 0:
            look(fit)
    fit.model.eval()
    return fit


def error_of(fit: Fit, formula: str, low: float, high: float) -> float:
    """Mean absolute error against the function itself, on an even grid."""
    x = np.linspace(low, high, 500)[:, None]
    with torch.no_grad():
        said = fit.model.predict(torch.as_tensor(x)).numpy()
    return float(np.abs(said - parse_formula(formula)(x)).mean())


def first_gradient(fit: Fit) -> float:
    """Norm of the loss's gradient by the weights of the first layer, before training."""
    first = next(layer for layer in fit.model.encoder.modules() if isinstance(layer, nn.Linear))
    x, y = fit.problem.source.take(fit.problem.split.train[:256])
    assert fit.model.target_scale is not None
    loss = fit.problem.loss(fit.model(x), fit.model.target_scale(y))
    return float(torch.autograd.grad(loss, first.weight)[0].norm())


def number(value: float) -> str:
    return f"{value:.2g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}"


def depth(steps: int) -> tuple[Table, Callable[[Path], None]]:
    """Plain and residual networks of 2, 8, 32 and 64 layers, by activation."""
    depths, formula = (2, 8, 32, 64), "sin(3*x)"
    rows = samples(formula, 1_000, -2.0, 2.0)
    cfg = RegressionConfig(batch_size=128, learning_rate=1e-3)
    variants = [(kind, activation, "glorot") for kind in ("mlp", "resmlp") for activation in ACTIVATIONS]
    variants += [("mlp", activation, "he") for activation in ACTIVATIONS]
    words = {"mlp": "plain", "resmlp": "with connections"}
    found: dict[tuple[tuple[str, str, str], int], tuple[float, float]] = {}
    for variant in variants:
        kind, activation, init = variant
        for layers in depths:
            # a block of the residual network has two layers, behind one that leads to its width
            hidden = (32,) * (layers if kind == "mlp" else layers // 2 + 1)
            network = VectorConfig(encoder=kind, hidden=hidden, activation=activation, init=init)
            fit = make(rows, network, cfg, steps, 0, None)
            gradient = first_gradient(fit)
            found[variant, layers] = gradient, error_of(train(fit), formula, -2.0, 2.0)
    heading = ["network", "first weights", "activation", *(f"{n} layers" for n in depths)]
    body = [
        [words[variant[0]], variant[2], variant[1]]
        + [f"{number(found[variant, n][0])} → {number(found[variant, n][1])}" for n in depths]
        for variant in variants
    ]

    def draw(file: Path) -> None:
        figure = new_figure(9.0, 3.6, DPI)
        titles = "gradient of the first layer, before training", "error after it"
        for axes, which, title in zip(figure.subplots(1, 2), (0, 1), titles, strict=True):
            for kind, activation, init in variants[:8]:
                values = [max(found[(kind, activation, init), n][which], 1e-20) for n in depths]
                colour, style = COLOURS[ACTIVATIONS.index(activation)], "--" if kind == "mlp" else "-"
                label = activation if kind == "resmlp" else None
                axes.plot(depths, values, style, color=colour, marker="o", markersize=3, label=label)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(depths, [str(n) for n in depths])
            dress(axes, title, "layers", "")
            axes.plot([], [], "--", color="black", label="plain")
            axes.plot([], [], color="black", label="with connections")
            if which == 0:
                axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower left")
        write_png(figure, file)

    return (heading, body), draw


def rates(steps: int) -> tuple[Table, Callable[[Path], None]]:
    """Learning rates and schedules."""
    schedules, values = ("constant", "linear", "cosine"), (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    rows = samples("sin(x)", 1_000, -math.pi, math.pi)
    found: dict[tuple[str, float], float] = {}
    for schedule in schedules:
        for rate in values:
            cfg = RegressionConfig(batch_size=128, learning_rate=rate, lr_schedule=schedule)
            network = VectorConfig(activation="silu", init="he")
            errors = [
                error_of(train(make(rows, network, cfg, steps, 10 * s, None)), "sin(x)", -math.pi, math.pi)
                for s in range(3)
            ]
            found[schedule, rate] = sorted(errors)[1]
    body = [[schedule, *(number(found[schedule, rate]) for rate in values)] for schedule in schedules]

    def draw(file: Path) -> None:
        figure = new_figure(6.5, 3.6, DPI)
        axes = figure.add_subplot()
        for k, schedule in enumerate(schedules):
            errors = [found[schedule, rate] for rate in values]
            axes.plot(values, errors, color=COLOURS[k], marker="o", markersize=4, label=schedule)
        axes.set_xscale("log")
        axes.set_yscale("log")
        dress(axes, "error after so many updates, by schedule", "highest learning rate", "mean absolute error")
        axes.legend(frameon=False, fontsize=8)
        write_png(figure, file)

    return (["schedule", *(f"{rate:g}" for rate in values)], body), draw


def outliers(steps: int) -> tuple[Table, Callable[[Path], None]]:
    """Losses where some of the samples are wrong, all in one direction."""
    shares = (0.0, 0.02, 0.05, 0.1, 0.2)
    losses = {
        "mse": {"loss": "mse"},
        "huber, delta 1": {"loss": "huber"},
        "huber, delta 0.1": {"loss": "huber", "huber_delta": 0.1},
        "likelihood": {"loss": "likelihood"},
    }
    found: dict[tuple[str, float], float] = {}
    curves: dict[str, np.ndarray] = {}
    x = np.linspace(-math.pi, math.pi, 400)[:, None]
    for share in shares:
        rows = samples("sin(x)", 1_000, -math.pi, math.pi, noise=0.05, seed=1)
        wrong = torch.rand(len(rows), generator=rng(2)) < share
        rows.y[wrong] += 4.0
        for name, settings in losses.items():
            cfg = RegressionConfig(batch_size=128, learning_rate=3e-3, **settings)
            fit = train(make(rows, VectorConfig(activation="silu", hidden=(32, 32)), cfg, steps, 0, None))
            found[name, share] = error_of(fit, "sin(x)", -math.pi, math.pi)
            with torch.no_grad():
                curves[name] = fit.model.predict(torch.as_tensor(x))[:, 0].numpy()
        shown = rows
    body = [[name, *(number(found[name, share]) for share in shares)] for name in losses]

    def draw(file: Path) -> None:
        figure = new_figure(6.5, 3.6, DPI)
        axes = figure.add_subplot()
        axes.plot(shown.x[::2, 0], shown.y[::2, 0], ".", color="#6b7280", markersize=2, alpha=0.5, label="samples")
        axes.plot(x, np.sin(x), color="black", linewidth=1.0, label="true")
        for k, name in enumerate(losses):
            axes.plot(x, curves[name], "--", color=COLOURS[k], linewidth=1.6, label=name)
        dress(axes, f"{100 * shares[-1]:.0f} % of the samples are 4 too high", "x", "y")
        axes.legend(frameon=False, fontsize=7, ncols=2, loc="upper left")
        axes.set_ylim(-1.6, 6.6)
        write_png(figure, file)

    return (["loss", *(f"{100 * share:g} %" for share in shares)], body), draw


def regularisation(steps: int) -> tuple[Table, Callable[[Path], None]]:
    """A large network on 40 noisy samples: training against validation."""
    rows = samples("sin(x)", 440, -math.pi, math.pi, noise=0.3, seed=3)
    split = Split(torch.arange(40), torch.arange(40, 440), torch.arange(0))
    variants: dict[str, tuple[dict[str, float], dict[str, float]]] = {
        "nothing": ({}, {}),
        "weight decay 1": ({"weight_decay": 1.0}, {}),
        "dropout 0.2": ({}, {"dropout": 0.2}),
        "both": ({"weight_decay": 1.0}, {"dropout": 0.2}),
    }
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for name, (training, network) in variants.items():
        cfg = RegressionConfig(batch_size=40, learning_rate=1e-3, lr_schedule="constant", **training)
        config = VectorConfig(hidden=(256, 256), activation="silu", init="he", **network)
        points: list[tuple[int, float, float]] = []

        def look(fit: Fit, points: list[tuple[int, float, float]] = points) -> None:
            points.append((fit.steps, fit.loss_over(split.train), fit.loss_over(split.validation)))

        train(make(rows, config, cfg, steps, 0, split), look)
        curves[name] = points
    body = []
    for name, points in curves.items():
        best = min(points, key=lambda point: point[2])
        last = points[-1]
        body.append([name, f"{last[1]:.3f}", f"{last[2]:.3f}", f"{best[2]:.3f}", f"{best[0]:,}"])

    def draw(file: Path) -> None:
        figure = new_figure(6.5, 3.6, DPI)
        axes = figure.add_subplot()
        for k, (name, points) in enumerate(curves.items()):
            updates, training, validation = zip(*points, strict=True)
            axes.plot(updates, training, "--", color=COLOURS[k], linewidth=1.2)
            axes.plot(updates, validation, color=COLOURS[k], linewidth=1.6, label=name)
        dress(axes, "validation (drawn through) and training (dashed)", "updates", "loss")
        axes.set_ylim(0, 0.6)
        axes.legend(frameon=False, fontsize=8)
        write_png(figure, file)

    heading = ["against over-fitting", "training, end", "validation, end", "validation, best", "at update"]
    return (heading, body), draw


def extrapolation(steps: int) -> tuple[Table, Callable[[Path], None]]:
    """What a network says where it saw samples, between them, and beyond them."""
    low, high = -math.pi, math.pi
    everything = samples("sin(x)", 1_500, low, high)
    seen = (everything.x[:, 0].abs() > 0.5).nonzero()[:, 0]  # a gap in the middle
    rows = Rows(everything.x[seen], everything.y[seen])
    x = np.linspace(2 * low, 2 * high, 600)[:, None]
    body, curves = [], {}
    for activation in ACTIVATIONS:
        cfg = RegressionConfig(batch_size=128, learning_rate=5e-3)
        fit = train(make(rows, VectorConfig(activation=activation, init="he"), cfg, steps, 0, None))
        with torch.no_grad():
            curves[activation] = fit.model.predict(torch.as_tensor(x))[:, 0].numpy()
        errors = (error_of(fit, "sin(x)", *part) for part in ((0.5, high), (-0.5, 0.5), (high, 2 * high)))
        body.append([activation, *(number(error) for error in errors)])

    def draw(file: Path) -> None:
        figure = new_figure(6.5, 3.6, DPI)
        axes = figure.add_subplot()
        for begin, end in ((2 * low, low), (-0.5, 0.5), (high, 2 * high)):
            axes.axvspan(begin, end, color="#6b7280", alpha=0.13, linewidth=0)
        axes.plot(x, np.sin(x), color="black", linewidth=1.0, label="true")
        for k, (activation, curve) in enumerate(curves.items()):
            axes.plot(x, curve, "--", color=COLOURS[k], linewidth=1.5, label=activation)
        axes.set_ylim(-4, 4)
        dress(axes, "no samples where it is shaded", "x", "y")
        axes.legend(frameon=False, fontsize=8, ncols=5, loc="upper center")
        write_png(figure, file)

    return (["activation", "among samples", "in the gap between them", "beyond them"], body), draw


EXPERIMENTS: dict[str, tuple[Callable[[int], tuple[Table, Callable[[Path], None]]], int]] = {
    "depth": (depth, 400),
    "rates": (rates, 800),
    "outliers": (outliers, 800),
    "regularisation": (regularisation, 3_000),
    "extrapolation": (extrapolation, 1_500),
}
"""name: what is done, and its number of updates"""


def markdown(table: Table) -> str:
    heading, body = table
    lines = [heading, ["---"] * len(heading), *body]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_table(name: str, text: str) -> None:
    """Between the marks of that name in docs/learning.md."""
    page = DOCS / "learning.md"
    before, mark, rest = page.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    if not mark or not end:
        raise SystemExit(f"error: {page} has no marks {name}")
    page.write_text(f"{before}{mark}\n{text}\n\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=EXPERIMENTS, help="one experiment (default: all)")
    parser.add_argument("--write", action="store_true", help="put tables and pictures into docs/")
    parser.add_argument("--quick", action="store_true", help="a few updates each, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    seconds = {}
    for name, (experiment, steps) in EXPERIMENTS.items():
        if options.only not in (None, name):
            continue
        began = time.process_time()
        table, draw = experiment(50 if options.quick else steps)
        seconds[name] = round(time.process_time() - began, 1)
        print(f"\n{name}, {seconds[name]} s\n{markdown(table)}", flush=True)
        if options.write:
            write_table(name, markdown(table))
            draw(DOCS / f"learning_{name}.png")
    parts = ", ".join(f"{name} {value} s" for name, value in seconds.items())
    publish({"seconds": seconds}, "What learning is made of, processor time", f"{sum(seconds.values()):.0f} s: {parts}")


if __name__ == "__main__":
    main()
