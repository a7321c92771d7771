"""``drivetrain pretrain classify``: pictures into classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, create_model

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Parsed, Spec
from drivetrain.output import Result
from drivetrain.pretrain_run import StudyOptions, pretrain, refuse_in_vain, study_spec
from drivetrain.train import part_of

if TYPE_CHECKING:
    from torch import Tensor

    from drivetrain.agents.images import Pictures
    from drivetrain.agents.samples import Split
    from drivetrain.policies.predictors import Predictor
    from drivetrain.pretrain_run import Study

__all__ = ["classify_spec", "main"]

TASK = "classify"
SUMMARY = (
    "Learn to tell pictures apart: by default 1,797 handwritten digits that come with scikit-learn. The run's "
    "confusion.png shows what was taken for what; curve.png shows training and validation loss. The score is the share "
    "of right answers on pictures that were held out."
)
DEFAULTS: dict[str, Any] = {
    "steps": 2_500,
    "batch_size": 64,
    "channels": (32, 64),
    "hidden": (128,),
    "activation": "gelu",
    "layer_norm": True,
    "dropout": 0.3,
    "learning_rate": 2e-3,
    "weight_decay": 0.01,
    "label_smoothing": 0.1,
    "shift": 1,
    "colour": 0.2,
}
AT_ONCE = 512


class ClassifyOptions(Options):
    """The pictures"""

    data: str | None = Field(
        None,
        description="a folder with one sub-folder of pictures a class, an .npz with x [N,H,W] or [N,H,W,C] of uint8 "
        "and y [N], or an .npy of pictures; none = handwritten digits",
    )
    labels: str | None = Field(None, description="of an .npy of pictures: the .npy of its labels [N]")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of the pictures of each class held out for the score")


def main(argv: list[str]) -> Result:
    """Learn to tell pictures apart."""
    return pretrain(TASK, classify_spec(), argv, _check, _read)


def classify_spec() -> Spec[Any]:
    """The options of ``pretrain classify``."""
    from drivetrain.agents.fit_config import ClassifyConfig
    from drivetrain.policies.predictor_config import PictureConfig

    model = create_model(
        "PretrainClassifyOptions", __base__=(StudyOptions, ClassifyOptions, ClassifyConfig, PictureConfig)
    )
    return study_spec(TASK, model, SUMMARY, _defaults)


def _defaults(asked: Mapping[str, object]) -> dict[str, Any]:
    # threads that share pictures as small as the digits spend most of their time waiting for each other
    return DEFAULTS if asked.get("data") else DEFAULTS | {"threads": 1}


def _check(parsed: Parsed[Any]) -> None:
    options = parsed.options
    if options.optimizer != "sgd":
        refuse_in_vain(parsed, ("momentum",), "with --optimizer adamw", "leave it out, or take --optimizer sgd")
    if not options.mirror:
        refuse_in_vain(parsed, ("mirror_labels",), "without --mirror", "leave it out, or give --mirror")
    if not (options.data or "").endswith(".npy"):
        refuse_in_vain(parsed, ("labels",), "without an .npy of pictures", "leave it out, or give --data X.npy")


def _read(options: Any) -> tuple[str, Callable[[], Study]]:
    """The pictures, and what trains on them."""
    import torch

    from drivetrain.agents.augment import mirror_map
    from drivetrain.agents.images import digits, read_pictures
    from drivetrain.agents.samples import split_classes

    labels = None if options.labels is None else Path(options.labels)
    pictures = digits() if options.data is None else read_pictures(Path(options.data), labels)
    generator = torch.Generator().manual_seed(options.seed)
    shares = options.val_share, options.test_share
    split = split_classes(pictures.labels, *shares, generator, pictures.classes)
    swap = mirror_map(options.mirror_labels, pictures.classes)
    what = "digits" if options.data is None else Path(options.data).name
    return what, partial(_study, options, pictures, split, swap, generator)


def _study(options: BaseModel, pictures: Pictures, split: Split, swap: Tensor | None, generator: Any) -> Study:
    import torch

    from drivetrain.agents.augment import Augmentation
    from drivetrain.agents.fit import Fit, Problem, make_loss
    from drivetrain.agents.fit_config import ClassifyConfig
    from drivetrain.policies.predictor_config import PictureConfig
    from drivetrain.policies.predictors import Outputs, build_predictor
    from drivetrain.policies.summary import describe
    from drivetrain.pretrain_run import Study

    settings, cfg = part_of(options, StudyOptions), part_of(options, ClassifyConfig)
    config, outputs = part_of(options, PictureConfig), Outputs(len(pictures.classes), "class")
    try:
        model = build_predictor(pictures.shape, outputs, config, generator)
    except ValueError as error:
        fix = "give --channels fewer numbers, or take --encoder resnet"
        raise UserError("this network cannot read such pictures", got=error, fix=fix) from None
    augment = Augmentation(cfg.shift, cfg.colour, cfg.mirror, swap)
    problem = Problem(pictures.source, split, make_loss(cfg), augment if augment.changes else None)
    fit = Fit(model, problem, cfg, generator, settings.steps, settings.device)
    example = torch.zeros(1, *pictures.shape, dtype=torch.uint8, device=settings.device)
    counts = [len(part) for part in (split.train, split.validation, split.test)]
    note = "{:,} pictures to learn from, {:,} for validation, {:,} for the test".format(*counts)
    score, draw = partial(_score, model, pictures, split), partial(_draw, model, pictures, split)
    return Study(model, {"": fit}, score, draw, (note, describe(model, example)))


def _confusion(model: Predictor, pictures: Pictures, rows: Tensor) -> Tensor:
    """[K, K] how often each class was taken for each."""
    import torch

    count, device = len(pictures.classes), next(model.parameters()).device
    found = torch.zeros(count * count, dtype=torch.int64)
    with torch.no_grad():
        for piece in rows.split(AT_ONCE):
            x, y = pictures.source.take(piece)
            found += torch.bincount(y * count + model.predict(x.to(device)).cpu(), minlength=count * count)
    return found.view(count, count)


def _score(model: Predictor, pictures: Pictures, split: Split) -> dict[str, Any]:
    """Accuracy on the test, and on validation."""
    parts = {"score": split.test, "validation_accuracy": split.validation}
    tables = {name: _confusion(model, pictures, rows) for name, rows in parts.items() if len(rows)}
    return {name: int(table.diagonal().sum()) / int(table.sum()) for name, table in tables.items()}


def _draw(model: Predictor, pictures: Pictures, split: Split, run: Path) -> list[str]:
    from drivetrain.pretrain_plots import draw_confusion

    table = _confusion(model, pictures, split.test)
    right, count = int(table.diagonal().sum()), int(table.sum())
    title = f"{right} of {count} right: {100 * right / count:.2f} %"
    draw_confusion(run / "confusion.png", title, table.numpy(), pictures.classes)
    return [f"test: {title}", f"picture: {run / 'confusion.png'}"]
