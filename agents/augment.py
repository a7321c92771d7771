"""Pictures changed at random while a network learns from them, so that it sees more of them than there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..envs.errors import UserError, nearest
from .supervised import mirrored


@dataclass(frozen=True)
class Augmentation:
    """What is done to pictures [B, H, W, C] of uint8 and to their labels [B]."""

    shift: int = 0  # px each way, at most
    colour: float = 0.0  # share by which brightness and each channel change, at most
    mirror: bool = False
    mirror_labels: Tensor | None = None  # [K] class that a mirror turns each class into; None = the same

    @property
    def changes(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.shift or self.colour or self.mirror)

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.shift:
            x = shifted(x, self.shift, generator)
        if self.colour:
            x = coloured(x, self.colour, generator)
        if self.mirror:
            turned = torch.rand(len(x), generator=generator, device=x.device) < 0.5
            x = torch.where(turned[:, None, None, None], mirrored(x), x)
            if self.mirror_labels is not None:
                y = torch.where(turned, self.mirror_labels.to(y.device)[y], y)
        return x, y


def shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Pictures [B, H, W, C], each moved by up to so many pixels; what comes in repeats the edge."""
    count, height, width, _ = x.shape
    move = torch.randint(-most, most + 1, (2, count, 1), generator=generator, device=x.device)
    rows = (torch.arange(height, device=x.device) - move[0]).clamp(0, height - 1)  # [B, H]
    columns = (torch.arange(width, device=x.device) - move[1]).clamp(0, width - 1)  # [B, W]
    sample = torch.arange(count, device=x.device)[:, None, None]
    return x[sample, rows[:, :, None], columns[:, None, :]]


def coloured(x: Tensor, most: float, generator: torch.Generator) -> Tensor:
    """Pictures [B, H, W, C], each made darker or brighter, and each channel again by a factor of its own."""
    count, channels = len(x), x.shape[-1]
    draw = 2 * torch.rand(count, 1, 1, 1 + channels, generator=generator, device=x.device) - 1
    factor = (1 + most * draw[..., :1]) * (1 + most * draw[..., 1:])
    return (x * factor).round().clamp(0, 255).to(torch.uint8)


def mirror_map(pairs: Mapping[str, str], classes: Sequence[str]) -> Tensor | None:
    """[K] class that a mirror turns each class into; None if every class stays what it is.

    Raises:
        UserError: no such class, or one in two pairs.
    """
    if not pairs:
        return None
    found = list(range(len(classes)))
    for one, other in pairs.items():
        for name in (one, other):
            if name not in classes:
                near = nearest(name, classes)
                fix = f"did you mean {near}?" if near else None
                raise UserError("--mirror-labels names no class", got=name, allowed=classes, fix=fix)
        a, b = classes.index(one), classes.index(other)
        if (found[a], found[b]) != (a, b):
            raise UserError("--mirror-labels names a class twice", got=f"{one}={other}", allowed="each class once")
        found[a], found[b] = b, a
    return torch.tensor(found)
