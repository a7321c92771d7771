"""What a picture is painted with: the colours of each car's world, and how its score is written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from .noise import hash_u32

ROAD = (102.0, 102.0, 102.0)
GRASS = (102.0, 204.0, 102.0)
PATCH = (102.0, 230.0, 102.0)
SHADE = 2.55
"""levels by which one untouched tile in three is lighter, and another one twice as much"""
KERB = ((255.0, 255.0, 255.0), (255.0, 0.0, 0.0))
"""of even and odd tiles"""
HULL = (204.0, 0.0, 0.0)
STRIPE = (77.0, 77.0, 77.0)
DARKEST, LIGHTEST, LIGHTER = 0.0, 210.0, 20.0
"""random colours: road and grass are drawn from this range, patches have one channel raised by the last"""

WRITTEN, RAW, UNWRITTEN = range(3)
"""the score is shown in four characters (Gymnasium 1.4), in seventeen that hide most bars (up to 1.3), or not at all"""

_ROAD_STREAM, _GRASS_STREAM, _CHANNEL_STREAM, _SCORE_STREAM = 11, 14, 17, 18


@dataclass(frozen=True)
class Paint:
    """Of B cars."""

    road: Tensor  # [B, 3] float32 levels, red green blue
    grass: Tensor  # [B, 3]
    patch: Tensor  # [B, 3] of the lighter squares of grass
    score: Tensor  # [B] int64: WRITTEN, RAW or UNWRITTEN

    def take(self, index: Tensor) -> Paint:
        """Rows at index [K] int64, as a record of K cars."""
        return replace(self, **{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def where(self, mask: Tensor, other: Paint) -> Paint:
        """Rows of self where mask [B], else rows of other."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return Paint(**{k: torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for k, (a, b) in pairs.items()})


def plain(lane: Tensor) -> Paint:
    """The colours of CarRacing-v3 for lanes [B]."""
    road, grass, patch = (
        torch.tensor(colour, device=lane.device).repeat(len(lane), 1) for colour in (ROAD, GRASS, PATCH)
    )
    return Paint(road, grass, patch, score=torch.full_like(lane, WRITTEN))


def random_colours(rng: np.random.Generator) -> Paint:
    """One car's colours, drawn from a random stream as CarRacing-v3 with domain_randomize draws them."""
    road, grass = rng.uniform(DARKEST, LIGHTEST, size=3), rng.uniform(DARKEST, LIGHTEST, size=3)
    patch = grass.copy()
    patch[rng.integers(3)] += LIGHTER
    rows = [torch.tensor(colour, dtype=torch.float32)[None] for colour in (road, grass, patch)]
    return Paint(rows[0], rows[1], rows[2], score=torch.full((1,), WRITTEN))


def paint(seed: int, lane: Tensor, episode: Tensor, domain_randomize: bool, random_indicators: bool) -> Paint:
    """The paint of lanes [B] in episodes [B]: a hash of (seed, lane, episode), drawn from the original's ranges."""
    found = plain(lane)
    if domain_randomize:
        road, grass = (
            DARKEST + (LIGHTEST - DARKEST) * _draws(seed, lane, episode, stream, 3)
            for stream in (_ROAD_STREAM, _GRASS_STREAM)
        )
        raised = hash_u32(seed, lane, episode, _CHANNEL_STREAM) % 3
        patch = grass + LIGHTER * torch.nn.functional.one_hot(raised, 3)
        found = replace(found, road=road, grass=grass, patch=patch)
    if random_indicators:
        found = replace(found, score=hash_u32(seed, lane, episode, _SCORE_STREAM) % 3)
    return found


def _draws(seed: int, lane: Tensor, episode: Tensor, stream: int, count: int) -> Tensor:
    """[B, count] float32 in [0, 1)."""
    drawn = torch.stack([hash_u32(seed, lane, episode, stream + k) for k in range(count)], 1)
    return (drawn.to(torch.float64) / 2**32).to(torch.float32)
