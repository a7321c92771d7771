"""Networks from an observation to features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": lambda: nn.ReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
}
WINDOWS = ((8, 4), (4, 2), (3, 1))
"""px, size and stride of the convolutions of CNN; further ones are like the last"""
CHANNELS = {"cnn": (32, 64, 64), "resnet": (16, 32, 32)}
"""of the published networks"""


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights build.initialise will set; torch's own default would draw from the global generator."""
    return skip_init(nn.Linear, inputs, outputs)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution whose weights build.initialise will set."""
    return skip_init(nn.Conv2d, inputs, outputs, size, stride=stride, padding=padding)


def picture_norm(width: int) -> nn.GroupNorm:
    """Layer normalisation of [B, width, H, W]: over a whole picture, with a gain and a bias for every channel."""
    return nn.GroupNorm(1, width)


class MLP(nn.Module):
    """Fully connected layers, each followed by the activation: [B, inputs] → [B, hidden[-1]].

    With layer_norm each is normalised before the activation (Ba et al. 2016).
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], activation: str, layer_norm: bool = False) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        layers: list[nn.Module] = []
        for size_in, size_out in itertools.pairwise(sizes):
            layers.append(linear(size_in, size_out))
            if layer_norm:
                layers.append(nn.LayerNorm(size_out))
            layers.append(ACTIVATIONS[activation]())
        self.layers = nn.Sequential(*layers)
        self.out_features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class CNN(nn.Module):
    """Strided convolutions, then an MLP: uint8 [B, H, W, C] → [B, hidden[-1]] (Mnih et al. 2015, "Model architecture").

    Args:
        shape: H, W and C of a picture; levels 0 to 255 are scaled to 0 to 1 inside.
        channels: of each convolution.
        hidden: units of the layers behind.
        activation: of all layers.
        layer_norm: normalise before every activation.

    Raises:
        ValueError: the picture is too small for the convolutions.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: tuple[int, ...],
        hidden: tuple[int, ...],
        activation: str,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        rows, columns, depth = shape
        layers: list[nn.Module] = []
        for k, width in enumerate(channels):
            size, stride = WINDOWS[min(k, len(WINDOWS) - 1)]
            layers.append(convolution(depth, width, size, stride))
            if layer_norm:
                layers.append(picture_norm(width))
            layers.append(ACTIVATIONS[activation]())
            rows, columns, depth = (rows - size) // stride + 1, (columns - size) // stride + 1, width
        if min(rows, columns) < 1:
            raise ValueError(f"picture {shape[0]}x{shape[1]} is too small for {len(channels)} convolutions")
        self.layers = nn.Sequential(*layers)
        self.dense = MLP(rows * columns * depth, hidden, activation, layer_norm)
        self.out_features = self.dense.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.layers(to_levels(x)).flatten(1))


class ResNet(nn.Module):
    """Three-part residual network: uint8 [B, H, W, C] → [B, hidden[-1]] (Espeholt et al. 2018, figure 3, right).

    Each part is a convolution, a pooling that halves the picture, and two blocks with a connection around them.

    Args:
        shape: H, W and C of a picture; levels 0 to 255 are scaled to 0 to 1 inside.
        channels: of each part.
        hidden: units of the layers behind.
        activation: of all layers.
        layer_norm: normalise before every activation.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: tuple[int, ...],
        hidden: tuple[int, ...],
        activation: str,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        rows, columns, depth = shape
        parts: list[nn.Module] = []
        for width in channels:
            parts += [convolution(depth, width, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            parts += [Residual(width, activation, layer_norm), Residual(width, activation, layer_norm)]
            rows, columns, depth = math.ceil(rows / 2), math.ceil(columns / 2), width
        if layer_norm:
            parts.append(picture_norm(depth))
        self.layers = nn.Sequential(*parts, ACTIVATIONS[activation]())
        self.dense = MLP(rows * columns * depth, hidden, activation, layer_norm)
        self.out_features = self.dense.out_features

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(self.layers(to_levels(x)).flatten(1))


class Residual(nn.Module):
    """x + two convolutions of it: [B, C, H, W] → [B, C, H, W]."""

    def __init__(self, width: int, activation: str, layer_norm: bool = False) -> None:
        super().__init__()
        self.first, self.second = (convolution(width, width, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(picture_norm(width) for _ in range(2)) if layer_norm else None
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        # the first activation must leave x as it is, for the connection around
        inner = x.clone() if self.norms is None else self.norms[0](x)
        inner = self.first(self.activation(inner))
        if self.norms is not None:
            inner = self.norms[1](inner)
        return x + self.second(self.activation(inner))


def to_levels(x: Tensor) -> Tensor:
    """[B, C, H, W] float from 0 to 1, of pictures uint8 [B, H, W, C]."""
    return x.permute(0, 3, 1, 2).to(torch.float32) * (1 / 255)


Encoder = MLP | CNN | ResNet


def make_encoder(
    kind: str,
    shape: tuple[int, ...],
    hidden: tuple[int, ...],
    channels: tuple[int, ...] | None,
    activation: str,
    layer_norm: bool = False,
) -> Encoder:
    """The encoder of a kind for observations of a shape.

    Raises:
        ValueError: it does not read such observations.
    """
    if len(shape) != (1 if kind == "mlp" else 3):
        what = "numbers [O]" if kind == "mlp" else "pictures [H, W, C]"
        raise ValueError(f"the encoder {kind} reads {what}; got observations {list(shape)}")
    if kind == "mlp":
        return MLP(shape[0], hidden, activation, layer_norm)
    network = CNN if kind == "cnn" else ResNet
    return network(shape, channels or CHANNELS[kind], hidden, activation, layer_norm)
