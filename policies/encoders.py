"""Networks from an observation to features."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.utils import skip_init

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": lambda: nn.ReLU(inplace=True),
    "elu": lambda: nn.ELU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
}


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A layer whose weights build.initialise will set; torch's own default would draw from the global generator."""
    return skip_init(nn.Linear, inputs, outputs)


class MLP(nn.Module):
    """Fully connected layers, each followed by the activation: [B, inputs] → [B, hidden[-1]]."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], activation: str) -> None:
        super().__init__()
        sizes = (inputs, *hidden)
        layers: list[nn.Module] = []
        for size_in, size_out in itertools.pairwise(sizes):
            layers += [linear(size_in, size_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers)
        self.out_features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
