"""Settings of supervised learning (no torch here: the command line reads them for its help)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class FitConfig(BaseModel):
    """Training"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(256, ge=1, description="samples in an update")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="rule of the updates")
    momentum: float = Field(0.9, ge=0, lt=1, description="of optimizer=sgd: share of the last direction that stays")
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False, description="highest learning rate")
    learning_rate_end: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="learning rate at the end, of the schedules linear and cosine"
    )
    lr_schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="course of the learning rate from highest to end"
    )
    warmup: float = Field(0.02, ge=0, le=1, description="share of --steps in which the learning rate rises from 0")
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="share of a weight lost per update and unit of learning rate"
    )
    max_grad_norm: float | None = Field(
        1.0, gt=0, allow_inf_nan=False, description="gradients are scaled down to this norm; none = never"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="numbers inside the network; bfloat16 needs a GPU, is faster there and less exact"
    )
    freeze: tuple[str, ...] = Field((), description="parts that keep their first weights: encoder, core, head")
    val_share: float = Field(0.1, gt=0, lt=1, description="share of the samples kept for validation")
    eval_every: int = Field(100, ge=1, description="updates between two looks at training and validation loss")
    patience: int | None = Field(
        None, ge=1, description="looks without a lower validation loss after which training ends; none = it never does"
    )

    @model_validator(mode="after")
    def _check_freeze(self) -> Self:
        unknown = [name for name in self.freeze if name not in ("encoder", "core", "head")]
        if unknown:
            raise ValueError(f"there is no part {unknown[0]} to freeze; the parts are encoder, core, head")
        return self


class RegressionConfig(FitConfig):
    """Training"""

    loss: Literal["mse", "huber", "likelihood"] = Field(
        "mse",
        description="what is minimised: squared error, Huber's, or the likelihood of a normal distribution whose width "
        "is learned too; of targets divided by their standard deviation",
    )
    huber_delta: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="of loss=huber: error at which the square turns into a line"
    )


class ClassifyConfig(FitConfig):
    """Training"""

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the probability spread over all classes")
    shift: int = Field(0, ge=0, description="augmentation: pictures are moved by up to so many pixels each way")
    colour: float = Field(
        0.0, ge=0, le=1, description="augmentation: brightness, and of every channel, change by up to this share"
    )
    mirror: bool = Field(False, description="augmentation: half of the pictures have left and right exchanged")
    mirror_labels: dict[str, str] = Field(
        {}, description="classes that a mirror turns into one another, such as left=right; all others keep their label"
    )

    @field_validator("mirror_labels", mode="before")
    @classmethod
    def _as_text(cls, pairs: object) -> object:
        # on the command line 3=8 is a number; classes are names
        return {name: str(value) for name, value in pairs.items()} if isinstance(pairs, dict) else pairs
