"""Cores: what a policy remembers, between its encoder and its heads. Memory goes in and comes out as one tensor.

Shapes: T steps, B lanes, F features, M numbers of memory a lane. A step and a sequence give the same: what a core says
at step t depends on the memory that went in and on the steps since the last one marked `first`, however the steps are
cut into calls. No gradient flows into memory that comes from an earlier call.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class CoreConfig(Protocol):
    """Sizes of cores; PolicyConfig has them."""

    @property
    def core_size(self) -> int: ...
    @property
    def core_layers(self) -> int: ...
    @property
    def core_heads(self) -> int: ...
    @property
    def core_context(self) -> int: ...


class Memory(NamedTuple):
    """What B lanes remember, and which of them are about to forget it because an episode begins."""

    kept: Tensor  # [B, M]
    first: Tensor  # [B] bool

    def take(self, lanes: Tensor) -> Memory:
        """Lanes at index [K] int64."""
        return Memory(self.kept[lanes], self.first[lanes])


class Core(nn.Module):
    """A function of features and memory: this one keeps nothing and changes nothing."""

    memory_size = 0

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_features = features

    def start(self, num_lanes: int, device: torch.device | str) -> Memory:
        """Of lanes that have seen nothing."""
        kept = torch.zeros(num_lanes, self.memory_size, device=device)
        return Memory(kept, torch.ones(num_lanes, dtype=torch.bool, device=device))

    def forward(self, x: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Features [T, B, F] → [T, B, out_features], and the memory [B, M] after the last step.

        Args:
            x: [T, B, F].
            memory: [B, M] before the first step.
            first: [T, B] bool; steps that begin an episode: memory is forgotten before them.
        """
        del first
        return x, memory

    def initialise(self, generator: torch.Generator) -> None:
        """Sets every weight."""


class GRU(Core):
    """A gated recurrent unit (Cho et al. 2014); its memory is its output."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__(size)
        self.memory_size = size
        self.cell = nn.GRUCell(features, size)

    def forward(self, x: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """As Core."""
        kept = (~first).unsqueeze(-1).to(x.dtype)
        out = []
        for features, keep in zip(x, kept, strict=True):
            memory = self.cell(features, memory * keep)
            out.append(memory)
        return torch.stack(out), memory

    def initialise(self, generator: torch.Generator) -> None:
        """Orthogonal weights, biases 0."""
        _initialise_cell(self.cell, generator)


class LSTM(Core):
    """Long short-term memory (Hochreiter and Schmidhuber 1997); its memory is hidden state and cell."""

    def __init__(self, features: int, size: int) -> None:
        super().__init__(size)
        self.memory_size = 2 * size
        self.cell = nn.LSTMCell(features, size)

    def forward(self, x: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """As Core."""
        kept = (~first).unsqueeze(-1).to(x.dtype)
        hidden, cell = memory.chunk(2, -1)
        out = []
        for features, keep in zip(x, kept, strict=True):
            hidden, cell = self.cell(features, (hidden * keep, cell * keep))
            out.append(hidden)
        return torch.stack(out), torch.cat((hidden, cell), -1)

    def initialise(self, generator: torch.Generator) -> None:
        """Orthogonal weights, biases 0, but 1 for the forget gate (Jozefowicz et al. 2015)."""
        _initialise_cell(self.cell, generator)
        size = self.out_features
        nn.init.ones_(self.cell.bias_ih[size : 2 * size])


class Transformer(Core):
    """Causal attention over the last steps of an episode (Vaswani et al. 2017), with memory of what layers were fed.

    Each layer looks at the step itself and at its own inputs in the `context` steps before, in training as in acting
    (Dai et al. 2019, section 3.2). Places are told apart by their distance alone: what it adds to a score is learned,
    head by head (Raffel et al. 2020, section 2.1), and falls linearly at first (Press et al. 2022, section 3). Layers
    normalise first (Xiong et al. 2020), and begin as the identity, so that learning starts without memory
    (Parisotto et al. 2020, section 3.2).

    Memory is, flat, the inputs [C, L, F] of the last C steps, oldest first, and how many of them belong to the episode.
    """

    def __init__(self, features: int, size: int, layers: int, heads: int, context: int) -> None:
        super().__init__(size)
        self.context = context
        self.memory_size = context * layers * size + 1
        self.enter = nn.Linear(features, size)
        self.blocks = nn.ModuleList(Block(size, heads, context) for _ in range(layers))
        self.leave = nn.LayerNorm(size)

    def forward(self, x: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """As Core."""
        context, size = self.context, self.out_features
        past = memory[:, :-1].view(-1, context, len(self.blocks), size).to(x.dtype)
        age = memory[:, -1]
        visible, distance = lookback(age, first, context)
        x = self.enter(x).transpose(0, 1)  # [B, T, F]
        kept = []
        for layer, block in enumerate(self.blocks):
            window = torch.cat((past[:, :, layer], x), 1)
            kept.append(window[:, -context:])
            x = block(x, window, visible, distance)
        inputs = torch.stack(kept, 2).flatten(1)
        age = _age_after(age, first).clamp(max=context)
        return self.leave(x).transpose(0, 1), torch.cat((inputs, age[:, None].to(inputs.dtype)), 1)

    def initialise(self, generator: torch.Generator) -> None:
        """Orthogonal weights, biases 0; what a block adds begins at 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            block.nearness.data.copy_(first_nearness(block.heads, self.context + 1).flatten())
            for last in (block.mix, block.down):
                nn.init.zeros_(last.weight)


class Block(nn.Module):
    """One layer: attention, then a network of its own for every step; both are added to what came in."""

    def __init__(self, size: int, heads: int, context: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_wide = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query, self.key_value = nn.Linear(size, size), nn.Linear(size, 2 * size)
        self.mix, self.up, self.down = nn.Linear(size, size), nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        # flat, because it is a bias: what has one dimension is spared by weight decay
        self.nearness = nn.Parameter(first_nearness(heads, context + 1).flatten())

    def forward(self, x: Tensor, window: Tensor, visible: Tensor, distance: Tensor) -> Tensor:
        """Steps [B, T, F] that look at a window [B, K, F] where visible [B, T, K], at distance [T, K]."""
        near = self.nearness.unflatten(0, (self.heads, -1))
        bias = near[:, distance.clamp(0, near.shape[1] - 1)]  # [heads, T, K]
        bias = torch.where(visible[:, None], bias, -math.inf)
        seen = self.norm(window)
        query = self._split(self.query(seen[:, -x.shape[1] :]))
        key, value = (self._split(part) for part in self.key_value(seen).chunk(2, -1))
        found = scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        x = x + self.mix(found.transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.norm_wide(x))))

    def _split(self, x: Tensor) -> Tensor:
        """[B, K, F] → [B, heads, K, F / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def first_nearness(heads: int, distances: int) -> Tensor:
    """[heads, distances] what a distance of so many steps adds to a score at first, in nats.

    The steepest head sees little but the step itself, so that a difference between two steps is soon found; the
    flattest sees far.
    """
    slopes = torch.tensor([2.0 ** (2.0 - 8.0 * head / heads) for head in range(heads)])
    return -slopes[:, None] * torch.arange(distances)


def lookback(age: Tensor, first: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """What T steps see of the C steps before them and of themselves.

    Args:
        age: [B] how many of the C steps belong to the episode that goes on.
        first: [T, B] bool; steps that begin an episode.
        context: C, how far a step looks back.

    Returns:
        visible [B, T, C + T] bool, and distance [T, C + T] int64 in steps.
    """
    steps = len(first)
    place = torch.arange(-context, steps, device=first.device)
    distance = place[context:, None] - place  # [T, C + T]
    episode = first.long().cumsum(0).T  # [B, T]; 0 = the one that memory belongs to
    before = torch.where(place[:context] >= -age[:, None], 0, -1)  # [B, C]; -1 = of no use to anybody
    owner = torch.cat((before, episode), 1)
    near = (distance >= 0) & (distance <= context)
    return near & (owner[:, None] == episode[:, :, None]), distance


def _age_after(age: Tensor, first: Tensor) -> Tensor:
    """[B] steps of the running episode after T more, of which those marked first [T, B] begin one."""
    steps = len(first)
    place = torch.arange(steps, device=first.device)[:, None]
    latest = torch.where(first, place, -1).amax(0)
    return torch.where(latest >= 0, (steps - latest).to(age.dtype), age + steps)


def _initialise_cell(cell: nn.GRUCell | nn.LSTMCell, generator: torch.Generator) -> None:
    size = cell.hidden_size
    for weight in (cell.weight_ih, cell.weight_hh):
        for gate in weight.data.split(size):
            nn.init.orthogonal_(gate, generator=generator)
    for bias in (cell.bias_ih, cell.bias_hh):
        nn.init.zeros_(bias)


def make_core(kind: str, features: int, config: CoreConfig) -> Core:
    """A core of a kind, "none", "gru", "lstm" or "transformer", with weights still to be set.

    Args:
        kind: which.
        features: F that come in.
        config: its sizes.
    """
    size = config.core_size
    if kind == "gru":
        return GRU(features, size)
    if kind == "lstm":
        return LSTM(features, size)
    if kind == "transformer":
        return Transformer(features, size, config.core_layers, config.core_heads, config.core_context)
    return Core(features)
