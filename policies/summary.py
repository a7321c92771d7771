"""What a network is made of, as a table for people: layers, shapes, parameters, operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .policy import Policy
from .qnet import QPolicy

ALL = "all"


@dataclass(frozen=True)
class LayerUse:
    """How a layer was used in one forward pass."""

    shape: str  # of its output, the first dimension left out
    operations: int


def describe(module: nn.Module, example: Tensor, run: Callable[[Tensor], object] | None = None) -> str:
    """A table with one line a layer that was used: name, kind, output, parameters, floating-point operations.

    Operations are those of the weights: two, a multiplication and an addition, for each time that a weight of a linear
    layer, a convolution or a recurrent cell is applied. What attention multiplies between steps is left out.

    Args:
        module: a network.
        example: one input, [1, …] on the module's device; of a series one step, [1, 1, …].
        run: what to call with the example; None = the module.
    """
    used: dict[str, LayerUse] = {}
    leaves = {name: layer for name, layer in module.named_modules() if not any(True for _ in layer.children())}
    handles = [layer.register_forward_hook(_watch(used, name)) for name, layer in leaves.items()]
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            (run or module)(example)
    finally:
        for part, training in modes.items():
            part.training = training
        for handle in handles:
            handle.remove()
    rows = [("layer", "kind", "output", "parameters", "operations")]
    for name, use in used.items():
        kind = type(leaves[name]).__name__
        rows.append((name or ALL, kind, use.shape, f"{_parameters(leaves[name]):,}", f"{use.operations:,}"))
    rows += _own(module, leaves)
    total = sum(use.operations for use in used.values())
    rows.append((ALL, type(module).__name__, "", f"{_parameters(module):,}", f"{total:,}"))
    return _table(rows)


def describe_policy(policy: Policy | QPolicy) -> str:
    """The same of a policy that decides once and, where it has one, asks its critic."""
    pictures = len(policy.obs_shape) == 3
    example = torch.zeros(1, *policy.obs_shape, dtype=torch.uint8 if pictures else torch.float32, device=policy.device)
    memory = policy.core.start(1, policy.device)
    if isinstance(policy, QPolicy):
        return describe(policy, example, lambda obs: policy.act_with(obs, memory))

    def decide(obs: Tensor) -> None:
        normed = policy.obs_norm(obs)
        _, value, _ = policy.step(normed, memory)
        if value is None:
            policy.value_with(normed, memory)

    return describe(policy, example, decide)


def _watch(used: dict[str, LayerUse], name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(layer: nn.Module, _inputs: object, output: object) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            used[name] = LayerUse("×".join(str(size) for size in first.shape[1:]), _operations(layer, first))

    return hook


def _operations(layer: nn.Module, output: Tensor) -> int:
    """Of one call: each number of the output is a sum over as many products as the layer has weights for it."""
    if isinstance(layer, (nn.Linear, nn.Conv2d)):
        return 2 * output.numel() * layer.weight[0].numel()
    if isinstance(layer, (nn.GRUCell, nn.LSTMCell)):
        return 2 * output.shape[0] * (layer.weight_ih.numel() + layer.weight_hh.numel())
    return 0


def _own(module: nn.Module, leaves: Mapping[str, nn.Module]) -> list[tuple[str, str, str, str, str]]:
    """Parameters that no layer holds, such as a standard deviation."""
    owners = ((name, owner) for name, owner in module.named_modules() if name not in leaves)
    held = ((f"{name}.{key}".lstrip("."), p) for name, owner in owners for key, p in owner.named_parameters("", False))
    return [(name, "Parameter", "×".join(map(str, p.shape)), f"{p.numel():,}", "0") for name, p in held]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        left = "  ".join(cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True))
        right = "  ".join(cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))
        lines.append(f"{left}  {right}")
    return "\n".join(lines)
