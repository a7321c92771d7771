"""``drivetrain pretrain function``: the smallest complete training of a network: y = f(x) from samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field, create_model, model_validator

from drivetrain.options import Options, Parsed, Spec
from drivetrain.output import Result
from drivetrain.pretrain_run import StudyOptions, pretrain, refuse_in_vain, study_spec
from drivetrain.train import part_of

if TYPE_CHECKING:
    from drivetrain.agents.functions import FunctionData
    from drivetrain.policies.predictors import Predictor
    from drivetrain.pretrain_run import Study

__all__ = ["function_spec", "main"]

TASK = "function"
SUMMARY = (
    "Learn a function y = f(x) from samples: by default the sine of an angle. The run's function.png shows samples, "
    "the true and the learned curve, and how the network fails outside the range that it saw; curve.png shows "
    "training and validation loss. The score is the mean absolute error on points that were held out."
)
DEFAULTS: dict[str, Any] = {"steps": 3_000, "threads": 1, "learning_rate": 1e-2, "activation": "silu", "init": "he"}


class FunctionOptions(Options):
    """The function"""

    formula: str = Field("sin(x)", description="numpy functions of x, such as sin(x)*exp(-x/3)")
    csv: str | None = Field(None, description="CSV file to learn from instead: its first column is x, all others y")
    low: float = Field(-3.141592653589793, allow_inf_nan=False, description="of formula: lowest x of the samples")
    high: float = Field(3.141592653589793, allow_inf_nan=False, description="of formula: highest x of the samples")
    samples: int = Field(2_000, ge=10, le=10**8, description="of formula: how many samples")
    noise: float = Field(0.0, ge=0, allow_inf_nan=False, description="of formula: deviation of the noise added to y")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low={self.low:g} must lie below high={self.high:g}")
        return self


def main(argv: list[str]) -> Result:
    """Learn a function."""
    return pretrain(TASK, function_spec(), argv, _check, _read)


def function_spec() -> Spec[Any]:
    """The options of ``pretrain function``."""
    from drivetrain.agents.fit_config import RegressionConfig
    from drivetrain.policies.predictor_config import VectorConfig

    model = create_model(
        "PretrainFunctionOptions", __base__=(StudyOptions, FunctionOptions, RegressionConfig, VectorConfig)
    )
    return study_spec(TASK, model, SUMMARY, lambda _asked: dict(DEFAULTS))


def _check(parsed: Parsed[Any]) -> None:
    options = parsed.options
    if options.csv is not None:
        names = ("formula", "low", "high", "samples", "noise")
        refuse_in_vain(parsed, names, "with --csv", "leave it out: the file says what there is")
    if options.loss != "huber":
        refuse_in_vain(parsed, ("huber_delta",), f"with --loss {options.loss}", "leave it out, or take --loss huber")
    if options.optimizer != "sgd":
        refuse_in_vain(parsed, ("momentum",), "with --optimizer adamw", "leave it out, or take --optimizer sgd")


def _read(options: Any) -> tuple[str, Callable[[], Study]]:
    """The samples, and what trains on them."""
    import torch

    from drivetrain.agents.formula import parse_formula
    from drivetrain.agents.functions import formula_data, sample_formula, table_data
    from drivetrain.agents.tables import read_table

    generator = torch.Generator().manual_seed(options.seed)
    if options.csv is not None:
        path = Path(options.csv)
        data = table_data(read_table(path, columns=2), options.val_share, generator)
        return path.name, partial(_study, options, data, path.name, generator)
    formula = parse_formula(options.formula)
    seen = options.low, options.high
    rows = sample_formula(formula, *seen, options.samples, options.noise, generator)
    data = formula_data(formula, rows, seen, options.val_share, generator)
    return options.formula, partial(_study, options, data, options.formula, generator)


def _study(options: BaseModel, data: FunctionData, what: str, generator: Any) -> Study:
    from drivetrain.agents.fit import Fit, Problem, make_loss
    from drivetrain.agents.fit_config import RegressionConfig
    from drivetrain.policies.predictor_config import VectorConfig
    from drivetrain.policies.predictors import Outputs, build_predictor
    from drivetrain.policies.summary import describe
    from drivetrain.pretrain_run import Study

    settings, cfg = part_of(options, StudyOptions), part_of(options, RegressionConfig)
    kind = "likelihood" if cfg.loss == "likelihood" else "number"
    model = build_predictor((1,), Outputs(len(data.names), kind), part_of(options, VectorConfig), generator)
    problem = Problem(data.rows, data.split, make_loss(cfg))
    fit = Fit(model, problem, cfg, generator, settings.steps, settings.device)
    note = describe(model, data.test[0][:1].to(settings.device))
    draw = partial(_draw, model, data, what)
    return Study(model, {"": fit}, partial(_score, model, data), draw, (note,))


def _score(model: Predictor, data: FunctionData) -> dict[str, Any]:
    """Mean absolute error on the points held out, in the units of y."""
    x, y = data.test
    errors = (_predict(model, x) - y).abs().mean(0)
    each = dict(zip(data.names, errors.tolist(), strict=True))
    return {"score": float(errors.mean())} | ({"errors": each} if len(each) > 1 else {})


def _predict(model: Predictor, x: Any) -> Any:
    import torch

    device = next(model.parameters()).device
    with torch.no_grad():
        return torch.cat([model.predict(piece.to(device)).cpu() for piece in x.split(65_536)])


def _draw(model: Predictor, data: FunctionData, what: str, run: Path) -> list[str]:
    import torch

    from drivetrain.agents.functions import extended
    from drivetrain.policies.heads import GaussianHead
    from drivetrain.pretrain_plots import FunctionPicture, draw_function

    x = extended(data.seen)
    points = torch.as_tensor(x)[:, None]
    true = None if data.formula is None else data.formula(x[:, None])
    shown = data.rows.take(data.split.train[:2_000])
    width = None
    if isinstance(model.head, GaussianHead) and model.target_scale is not None:
        width = (model.head.log_std.detach().exp() * model.target_scale.size).cpu().numpy()
    error = _score(model, data)["score"]
    picture = FunctionPicture(
        f"{what}: mean absolute error {error:.2g} on the range",
        x,
        _predict(model, points).numpy(),
        true,
        data.seen,
        (shown[0][:, 0].numpy(), shown[1].numpy()),
        width,
    )
    draw_function(run / "function.png", picture)
    lines = [f"mean absolute error where it learned: {error:.3g}"]
    if true is not None:
        outside = (x < data.seen[0]) | (x > data.seen[1])
        far = abs(picture.learned - true)[outside & (true == true)[:, 0]]  # NaN: no value there
        lines.append(f"mean absolute error outside, half the range to either side: {far.mean():.3g}")
    return [*lines, f"picture: {run / 'function.png'}"]
