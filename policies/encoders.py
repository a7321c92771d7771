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
DENSE = ("mlp", "resmlp")
"""encoders of numbers; the others read pictures"""
Windows = tuple[tuple[int, int], ...]
WINDOWS: Windows = ((8, 4), (4, 2), (3, 1))
"""px, size and stride of the convolutions of CNN; further ones are like the last"""
CHANNELS = {"cnn": (32, 64, 64), "resnet": (16, 32, 32)}
"""of the published networks"""
SMALL_WINDOW, LARGE_SIDE = 3, 12
"""px, of convolutions on pictures that WINDOWS do not fit; those of a side above this halve it"""


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights build.initialise will set; torch's own default would draw from the global generator."""
    return skip_init(nn.Linear, inputs, outputs)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """A convolution whose weights build.initialise will set."""
    return skip_init(nn.Conv2d, inputs, outputs, size, stride=stride, padding=padding)


def picture_norm(width: int) -> nn.GroupNorm:
    """Layer normalisation of [B, width, H, W]: over a whole picture, with a gain and a bias for every channel."""
    return nn.GroupNorm(1, width)


class Dropout(nn.Module):
    """In training, sets a share of features to 0 and scales the others so that the mean stays (Srivastava et al. 2014).

    Draws from a generator of its own, given by feed_dropout, not from the one that a whole process shares.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.rate, generator=self.generator)
        return x * kept / (1 - self.rate)


def feed_dropout(module: nn.Module, generator: torch.Generator) -> None:
    """Lets every Dropout inside a module draw from a generator on the module's device."""
    for part in module.modules():
        if isinstance(part, Dropout):
            part.generator = generator


class MLP(nn.Module):
    """Fully connected layers, each followed by the activation: [B, inputs] → [B, hidden[-1]].

    With layer_norm each is normalised before the activation (Ba et al. 2016); dropout comes behind it.
    """

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], activation: str, layer_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        layers: list[nn.Module] = []
        for size_in, size_out in itertools.pairwise(sizes):
            layers.append(linear(size_in, size_out))
            if layer_norm:
                layers.append(nn.LayerNorm(size_out))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(Dropout(dropout))
        self.layers = nn.Sequential(*layers)
        self.out_features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ResMLP(nn.Module):
    """Dense residual network: [B, inputs] → [B, hidden[0]] (He et al. 2016, with fully connected layers).

    The first layer leads to hidden[0] features; every further number is a block with so many units inside, to which its
    input is added. What a block adds is divided by the root of their number, so that features keep their size however
    many there are (De and Smith 2020, section 2).

    Args:
        inputs: numbers of an observation.
        hidden: one number or more.
        activation: inside blocks, and of the features that come out.
        layer_norm: normalise before every activation.
        dropout: share of a block's units that is left out in training.
    """

    def __init__(
        self, inputs: int, hidden: tuple[int, ...], activation: str, layer_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("the encoder resmlp needs 1 layer or more")
        width = hidden[0]
        self.enter = linear(inputs, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(MLP(width, (units,), activation, layer_norm, dropout), linear(units, width))
            for units in hidden[1:]
        )
        self.leave = nn.Sequential(*([nn.LayerNorm(width)] if layer_norm else []), ACTIVATIONS[activation]())
        self.share = max(1, len(self.blocks)) ** -0.5
        self.out_features = width

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + self.share * block(x)
        return self.leave(x)


class CNN(nn.Module):
    """Strided convolutions, then an MLP: uint8 [B, H, W, C] → [B, hidden[-1]] (Mnih et al. 2015, "Model architecture").

    Args:
        shape: H, W and C of a picture; levels 0 to 255 are scaled to 0 to 1 inside.
        channels: of each convolution.
        hidden: units of the layers behind.
        activation: of all layers.
        layer_norm: normalise before every activation.
        dropout: share of the dense layers' units that is left out in training.
        windows: size and stride of the convolutions in px, those further on like the last; None = as published.

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
        dropout: float = 0.0,
        windows: Windows | None = None,
    ) -> None:
        super().__init__()
        rows, columns, depth = shape
        layers: list[nn.Module] = []
        for width, (size, stride) in zip(channels, repeat_last(windows or WINDOWS, len(channels)), strict=True):
            layers.append(convolution(depth, width, size, stride))
            if layer_norm:
                layers.append(picture_norm(width))
            layers.append(ACTIVATIONS[activation]())
            rows, columns, depth = (rows - size) // stride + 1, (columns - size) // stride + 1, width
        if min(rows, columns) < 1:
            raise ValueError(f"picture {shape[0]}x{shape[1]} is too small for {len(channels)} convolutions")
        self.layers = nn.Sequential(*layers)
        self.dense = MLP(rows * columns * depth, hidden, activation, layer_norm, dropout)
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
        dropout: share of the dense layers' units that is left out in training.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: tuple[int, ...],
        hidden: tuple[int, ...],
        activation: str,
        layer_norm: bool = False,
        dropout: float = 0.0,
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
        self.dense = MLP(rows * columns * depth, hidden, activation, layer_norm, dropout)
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


def repeat_last(windows: Windows, count: int) -> Windows:
    """So many windows: those given, and the last one again where they are too few."""
    return tuple(windows[min(k, len(windows) - 1)] for k in range(count))


def fitting_windows(shape: tuple[int, ...], count: int) -> Windows:
    """Windows of so many convolutions for pictures [H, W, C]: the published ones, or small ones where they do not fit.

    Small ones halve pictures while these are large.
    """
    if _sides(shape, repeat_last(WINDOWS, count)) >= 1:
        return repeat_last(WINDOWS, count)
    found: Windows = ()
    for _ in range(count):
        found += ((SMALL_WINDOW, 2 if _sides(shape, found) > LARGE_SIDE else 1),)
    return found


def _sides(shape: tuple[int, ...], windows: Windows) -> int:
    """The shorter side of what convolutions leave of pictures [H, W, C]."""
    side = min(shape[:2])
    for size, stride in windows:
        side = (side - size) // stride + 1
    return side


Encoder = MLP | ResMLP | CNN | ResNet


def make_encoder(
    kind: str,
    shape: tuple[int, ...],
    hidden: tuple[int, ...],
    channels: tuple[int, ...] | None,
    activation: str,
    layer_norm: bool = False,
    dropout: float = 0.0,
) -> Encoder:
    """The encoder of a kind for observations of a shape.

    Raises:
        ValueError: it does not read such observations.
    """
    if len(shape) != (1 if kind in DENSE else 3):
        what = "numbers [O]" if kind in DENSE else "pictures [H, W, C]"
        raise ValueError(f"the encoder {kind} reads {what}; got observations {list(shape)}")
    if kind in DENSE:
        dense = MLP if kind == "mlp" else ResMLP
        return dense(shape[0], hidden, activation, layer_norm, dropout)
    network = CNN if kind == "cnn" else ResNet
    return network(shape, channels or CHANNELS[kind], hidden, activation, layer_norm, dropout)
