"""``drivetrain pretrain sequence``: the next value of a series, by networks with and without memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, create_model, field_validator

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Parsed, Spec
from drivetrain.output import Result
from drivetrain.pretrain_run import StudyOptions, pretrain, refuse_in_vain, study_spec
from drivetrain.train import part_of

if TYPE_CHECKING:
    from torch import Tensor

    from drivetrain.agents.samples import Split
    from drivetrain.policies.predictors import SeriesPredictor
    from drivetrain.pretrain_run import Study

__all__ = ["main", "sequence_spec"]

TASK = "sequence"
SUMMARY = (
    "Learn the next value of a series: by default a mixture of sines. Networks with memory (gru, lstm, transformer) "
    "are compared with one without (mlp), which sees a single value unless --window gives it more. The run's "
    "sequence.png shows what each of them says; the score is the mean absolute error of the best on the end of the "
    "series."
)
DEFAULTS: dict[str, Any] = {
    "steps": 800,
    "threads": 1,
    "batch_size": 32,
    "learning_rate": 5e-3,
    "hidden": (32,),
    "activation": "silu",
}
KINDS = ("mlp", "gru", "lstm", "transformer")
SHOWN = 200  # steps in the picture


class SequenceOptions(Options):
    """The series"""

    csv: str | None = Field(None, description="CSV file to learn from instead of a mixture of sines")
    column: str | None = Field(None, description="of csv: name of the column; none = the last")
    periods: tuple[float, ...] = Field((25.0, 9.3), description="of the mixture: periods of the sines, steps")
    length: int = Field(4_000, ge=1, le=10**8, description="of the mixture: values")
    noise: float = Field(0.01, ge=0, allow_inf_nan=False, description="of the mixture: deviation of the noise added")
    models: tuple[str, ...] = Field(
        ("mlp", "gru", "transformer"), description="networks to compare, of mlp, gru, lstm and transformer"
    )
    window: int = Field(1, ge=1, description="values, the newest included, that mlp sees; the others see one at a step")
    piece: int = Field(32, ge=2, description="steps of the pieces that are learned from")

    @field_validator("models")
    @classmethod
    def _check_models(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in models if name not in KINDS]
        if unknown or not models or len(set(models)) < len(models):
            raise ValueError(f"one or more of {', '.join(KINDS)}, each once")
        return models

    @field_validator("periods")
    @classmethod
    def _check_periods(cls, periods: tuple[float, ...]) -> tuple[float, ...]:
        if not periods or any(period <= 0 for period in periods):
            raise ValueError("one period or more, each above 0")
        return periods


@dataclass(frozen=True)
class SeriesData:
    """What is to be learned."""

    what: str
    values: Tensor  # [L] float64
    split: Split
    piece: int
    windows: Mapping[str, int]  # of every model


def main(argv: list[str]) -> Result:
    """Learn the next value of a series."""
    return pretrain(TASK, sequence_spec(), argv, _check, _read)


def sequence_spec() -> Spec[Any]:
    """The options of ``pretrain sequence``."""
    from drivetrain.agents.fit_config import RegressionConfig
    from drivetrain.policies.predictor_config import SeriesConfig

    model = create_model(
        "PretrainSequenceOptions", __base__=(StudyOptions, SequenceOptions, RegressionConfig, SeriesConfig)
    )
    return study_spec(TASK, model, SUMMARY, lambda _asked: dict(DEFAULTS))


def _check(parsed: Parsed[Any]) -> None:
    options = parsed.options
    if options.csv is not None:
        names = ("periods", "length", "noise")
        refuse_in_vain(parsed, names, "with --csv", "leave it out: the file says what there is")
    else:
        refuse_in_vain(parsed, ("column",), "without --csv", "leave it out, or give --csv FILE")
    if "mlp" not in options.models:
        refuse_in_vain(parsed, ("window",), "without mlp", "leave it out, or add mlp to --models")
    if "transformer" not in options.models:
        names = ("core_layers", "core_heads", "core_context")
        refuse_in_vain(parsed, names, "without transformer", "leave it out, or add transformer to --models")
    if options.loss != "huber":
        refuse_in_vain(parsed, ("huber_delta",), f"with --loss {options.loss}", "leave it out, or take --loss huber")
    if options.optimizer != "sgd":
        refuse_in_vain(parsed, ("momentum",), "with --optimizer adamw", "leave it out, or take --optimizer sgd")


def _read(options: Any) -> tuple[str, Callable[[], Study]]:
    """The series, and what trains on it."""
    import torch

    from drivetrain.agents.series import mixture, split_series
    from drivetrain.agents.tables import read_table

    if options.csv is None:
        generator = torch.Generator().manual_seed(options.seed)
        what, values = "mixture of sines", mixture(options.periods, options.length, options.noise, generator)
    else:
        path = Path(options.csv)
        table = read_table(path)
        name = options.column or table.names[-1]
        what, values = f"{name} of {path.name}", torch.as_tensor(table.column(name))
        if values.min() == values.max():
            raise UserError(f"the column {name} never changes", got=float(values[0]), allowed="two values or more")
    split = split_series(len(values), options.piece, options.window, options.val_share)
    windows = {name: options.window if name == "mlp" else 1 for name in options.models}
    return what, partial(_study, options, SeriesData(what, values, split, options.piece, windows))


def _study(options: BaseModel, data: SeriesData) -> Study:
    import torch
    from torch import nn

    from drivetrain.agents.fit import Fit, Problem, make_loss
    from drivetrain.agents.fit_config import RegressionConfig
    from drivetrain.agents.series import Pieces
    from drivetrain.policies.predictor_config import SeriesConfig
    from drivetrain.policies.predictors import Outputs, build_series_predictor
    from drivetrain.policies.summary import describe
    from drivetrain.pretrain_run import Study

    settings, cfg = part_of(options, StudyOptions), part_of(options, RegressionConfig)
    outputs = Outputs(1, "likelihood" if cfg.loss == "likelihood" else "number")
    models, fits, notes = {}, {}, []
    for name, window in data.windows.items():
        # each from the seed itself, so that no network depends on which others are trained beside it
        generator = torch.Generator().manual_seed(settings.seed)
        core = "none" if name == "mlp" else name
        model = build_series_predictor(window, outputs, core, part_of(options, SeriesConfig), generator)
        problem = Problem(Pieces(data.values, data.piece, window), data.split, make_loss(cfg))
        models[name], fits[name] = model, Fit(model, problem, cfg, generator, settings.steps, settings.device)
        notes.append(f"{name}:\n{describe(model, torch.zeros(1, 1, window, device=settings.device))}")
    score, draw = partial(_score, models, data), partial(_draw, models, data)
    return Study(nn.ModuleDict(models), fits, score, draw, tuple(notes))


def _score(models: Mapping[str, SeriesPredictor], data: SeriesData) -> dict[str, Any]:
    """Mean absolute error of every network on the test, and of saying that nothing changes."""
    from drivetrain.agents.series import told

    errors = {}
    for name, model in models.items():
        said, true = told(model, data.values, data.windows[name], data.split.test, data.piece)
        errors[name] = float((said - true).abs().mean())
    before, after = _last_values(data)
    return {"score": min(errors.values()), "errors": errors, "last_value_error": float((after - before).abs().mean())}


def _last_values(data: SeriesData) -> tuple[Tensor, Tensor]:
    """Of every value of the test: the one before it, and itself."""
    begin, count = int(data.split.test[0]), len(data.split.test) * data.piece
    return data.values[begin : begin + count], data.values[begin + 1 : begin + count + 1]


def _draw(models: Mapping[str, SeriesPredictor], data: SeriesData, run: Path) -> list[str]:
    from drivetrain.agents.series import told
    from drivetrain.pretrain_plots import SeriesPicture, draw_series

    found = _score(models, data)
    errors: dict[str, float] = found["errors"]
    rows = data.split.test[: -(-SHOWN // data.piece)]
    said = {name: told(model, data.values, data.windows[name], rows, data.piece) for name, model in models.items()}
    true = next(iter(said.values()))[1].numpy()[:SHOWN]
    steps = int(rows[0]) + 1 + _counted(len(true))
    title = f"{data.what}: the next value, told one step before"
    shown = {name: values[0].numpy()[:SHOWN] for name, values in said.items()}
    draw_series(run / "sequence.png", SeriesPicture(title, steps, true, shown, errors))
    lines = [f"{'network':<12} {'parameters':>10} {'error':>10} {'of mlp':>8}"]
    for name, error in errors.items():
        size = sum(parameter.numel() for parameter in models[name].parameters())
        share = f"{error / errors['mlp']:8.2f}" if "mlp" in errors else f"{'–':>8}"
        lines.append(f"{name:<12} {size:>10,} {error:>10.4g} {share}")
    lines.append(f"{'last value':<12} {0:>10} {found['last_value_error']:>10.4g}")
    return [*lines, f"picture: {run / 'sequence.png'}"]


def _counted(count: int) -> Any:
    import numpy as np

    return np.arange(count, dtype=np.float64)
