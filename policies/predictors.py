"""Predictors: from an input to a number, a class or a distribution, for supervised learning. No actions, no values.

A predictor is made of the parts of a policy: scale → encoder → core → head. Shapes: N samples, T steps, B series, K
outputs. Inputs and targets come in their own units; the scales inside turn them into numbers around 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from .config import PolicyConfig
from .cores import Core, make_core
from .distributions import Distribution
from .encoders import CHANNELS, CNN, Encoder, fitting_windows, linear, make_encoder
from .heads import GaussianHead
from .normalize import AsItIs
from .predictor_config import PictureConfig, SeriesConfig, VectorConfig

LOG_STD_INIT, LOG_STD_MIN = -0.5, -7.0
"""of the likelihood head, in units of the targets' standard deviation"""


class Scale(nn.Module):
    """Standardises the last dimension by a mean and a size that are set once, from the training data.

    Kept and applied in double precision, so that numbers far from 0, such as seconds since 1970, lose nothing.
    """

    mean: Tensor
    size: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("size", torch.ones(features, dtype=torch.float64))

    def set(self, mean: Tensor, std: Tensor) -> None:
        """Mean and standard deviation, each [features]; what never changes is only shifted."""
        self.mean.copy_(mean)
        self.size.copy_(torch.where(std > 0, std, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., features] as float32 around 0."""
        return ((x.to(torch.float64) - self.mean) / self.size).to(torch.float32)

    def invert(self, x: Tensor) -> Tensor:
        """float64 [..., features] in the units of the data."""
        return x.to(torch.float64) * self.size + self.mean


class RegressionHead(nn.Module):
    """K numbers, standardised."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.outputs = linear(features, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Of features [..., F]."""
        return self.outputs(features)


class ClassificationHead(nn.Module):
    """Logits of K classes."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.logits = linear(features, classes)

    def forward(self, features: Tensor) -> Tensor:
        """Of features [N, F]."""
        return self.logits(features)


PredictorHead = RegressionHead | ClassificationHead | GaussianHead


class Predictor(nn.Module):
    """What its head says of inputs [N, …]: standardised numbers or logits [N, K], or a distribution over N.

    Args:
        scale: of inputs; AsItIs for pictures, which their encoder scales.
        encoder: that reads them.
        head: that answers.
        target_scale: of the targets; None where they are classes.
    """

    def __init__(
        self, scale: Scale | AsItIs, encoder: Encoder, head: PredictorHead, target_scale: Scale | None = None
    ) -> None:
        super().__init__()
        self.scale, self.encoder, self.head, self.target_scale = scale, encoder, head, target_scale

    def forward(self, x: Tensor) -> Tensor | Distribution:
        return self.head(self.encoder(self.scale(x)))

    def predict(self, x: Tensor) -> Tensor:
        """The likeliest answer in the units of the data: float64 [N, K], or classes [N]."""
        return self._in_units(self(x))

    def _in_units(self, answer: Tensor | Distribution) -> Tensor:
        found = answer if isinstance(answer, Tensor) else answer.mode()
        return found.argmax(-1) if self.target_scale is None else self.target_scale.invert(found)


class SeriesPredictor(Predictor):
    """A predictor with a core between encoder and head, for series [T, B, F] → [T, B, K]; memory begins empty."""

    def __init__(
        self, scale: Scale, encoder: Encoder, core: Core, head: RegressionHead | GaussianHead, target_scale: Scale
    ) -> None:
        super().__init__(scale, encoder, head, target_scale)
        self.core = core

    def forward(self, x: Tensor) -> Tensor | Distribution:
        steps, lanes = x.shape[:2]
        features = self.encoder(self.scale(x).flatten(0, 1)).unflatten(0, (steps, lanes))
        memory = self.core.start(lanes, x.device).kept
        first = torch.zeros(steps, lanes, dtype=torch.bool, device=x.device)
        return self.head(self.core(features, memory, first)[0])


class Outputs(NamedTuple):
    """What is to be predicted."""

    size: int  # K numbers or classes
    kind: str  # number, class, or likelihood: a normal distribution of every number


def build_predictor(
    shape: tuple[int, ...], outputs: Outputs, config: VectorConfig | PictureConfig, generator: torch.Generator
) -> Predictor:
    """A predictor with fresh weights drawn by generator (a CPU generator).

    Args:
        shape: of an input: [F] numbers, or [H, W, C] pictures of uint8.
        outputs: what is to be predicted.
        config: the network.
        generator: of the weights.

    Raises:
        ValueError: the encoder does not read such inputs.
    """
    encoder = _encoder(shape, config)
    head, target_scale = _head(encoder.out_features, outputs)
    scale = Scale(shape[0]) if len(shape) == 1 else AsItIs()
    predictor = Predictor(scale, encoder, head, target_scale)
    initialise(predictor, config.init, generator)
    return predictor


def build_series_predictor(
    features: int, outputs: Outputs, core: str, config: SeriesConfig, generator: torch.Generator
) -> SeriesPredictor:
    """A predictor of series with fresh weights drawn by generator (a CPU generator).

    Args:
        features: F numbers that are seen at a step.
        outputs: K numbers to be predicted.
        core: "none", "gru", "lstm" or "transformer".
        config: the network.
        generator: of the weights.

    Raises:
        ValueError: sizes that do not go together.
    """
    encoder = _encoder((features,), config)
    sizes = {name: getattr(config, name) for name in ("core_size", "core_layers", "core_heads", "core_context")}
    memory = make_core(core, encoder.out_features, PolicyConfig.model_validate({**sizes, "core": core}))
    head, target_scale = _head(memory.out_features, outputs)
    assert not isinstance(head, ClassificationHead), "series are numbers"
    assert target_scale is not None, "numbers have a scale"
    predictor = SeriesPredictor(Scale(features), encoder, memory, head, target_scale)
    initialise(predictor, config.init, generator)
    memory.initialise(generator)
    return predictor


def _encoder(shape: tuple[int, ...], config: VectorConfig | PictureConfig) -> Encoder:
    parts = config.hidden, config.activation, config.layer_norm, config.dropout
    if isinstance(config, PictureConfig) and config.encoder == "cnn" and len(shape) == 3:
        channels = config.channels or CHANNELS["cnn"]
        return CNN(shape, channels, *parts, fitting_windows(shape, len(channels)))
    channels_of_any = config.channels if isinstance(config, PictureConfig) else None
    return make_encoder(config.encoder, shape, config.hidden, channels_of_any, *parts[1:])


def _head(features: int, outputs: Outputs) -> tuple[PredictorHead, Scale | None]:
    if outputs.kind == "class":
        return ClassificationHead(features, outputs.size), None
    if outputs.kind == "likelihood":
        everywhere = Box(-math.inf, math.inf, (outputs.size,), np.float32)
        return GaussianHead(features, everywhere, LOG_STD_INIT, LOG_STD_MIN), Scale(outputs.size)
    return RegressionHead(features, outputs.size), Scale(outputs.size)


def initialise(module: nn.Module, kind: str, generator: torch.Generator) -> None:
    """Sets every linear layer and convolution; biases 0, heads with gain 1, all others √2, which ReLU needs.

    Args:
        module: with an optional part called head.
        kind: orthogonal (Saxe et al. 2014), he (He et al. 2015, eq. 10) or glorot (Glorot and Bengio 2010, eq. 16,
            as a normal distribution, gain 1 everywhere).
        generator: a CPU generator.
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        gain = 1.0 if name.startswith("head") else math.sqrt(2)
        if kind == "orthogonal":
            nn.init.orthogonal_(layer.weight, gain, generator=generator)
        elif kind == "he":
            nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()), generator=generator)
        else:
            nn.init.xavier_normal_(layer.weight, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
