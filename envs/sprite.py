"""The hull of the car as the picture shows it: always at the same place and angle, so its pixels are known once."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .screen import CAR_AT, SOURCE, zoom
from .spec import DT
from .view import SIDE

SHAPES = tuple(
    0.02 * np.array(shape, np.float64)
    for shape in (
        ((-60, 130), (60, 130), (60, 110), (-60, 110)),
        ((-15, 120), (15, 120), (20, 20), (-20, 20)),
        ((25, 20), (50, -10), (50, -40), (20, -90), (-20, -90), (-50, -40), (-50, -10), (-25, 20)),
        ((-50, -120), (50, -120), (50, -90), (-50, -90)),
    )
)
"""u, corners of its four shapes in the body frame (Gymnasium 1.4, car_dynamics.py)"""
HULL_BOX = (66, 78, 45, 51)
"""px, rows and columns that it may reach: first, behind the last, first, behind the last"""
LEVELS = round(1 / DT)
"""frames over which the picture zooms in; later ones are all alike"""


@cache
def hull_cover() -> Tensor:
    """[LEVELS, rows, columns] share of each pixel of HULL_BOX that the hull covers, by frames since reset.

    The original truncates corners to whole pixels of its large picture and fills shapes with their rims included.
    """
    top, bottom, left, right = HULL_BOX
    wide, high = SOURCE[0] / SIDE, SOURCE[1] / SIDE
    x = np.arange(int(left * wide), int(right * wide) + 1)
    y = np.arange(int(top * high), int(bottom * high) + 1)
    place = np.stack(np.meshgrid(x, SOURCE[1] - 1 - y), -1).astype(np.float64)  # y upwards, as it is painted
    across = _shares(x, wide, left, right)
    down = _shares(y, high, top, bottom)
    middle = np.array((CAR_AT[0] * wide, SOURCE[1] - CAR_AT[1] * high))
    levels = []
    for scale in zoom(torch.arange(LEVELS)).tolist():
        inside = np.zeros(place.shape[:2], np.bool_)
        for shape in SHAPES:
            inside |= _filled(np.trunc(middle + scale * shape), place)
        levels.append(down @ inside @ across.T)
    return torch.from_numpy(np.stack(levels)).to(torch.float32)


def _shares(source: NDArray[np.int64], step: float, first: int, last: int) -> NDArray[np.float64]:
    """[last - first, S] share of every source pixel in a pixel of the picture."""
    edges = step * np.arange(first, last + 1)
    overlap = np.minimum(edges[1:, None], source + 1) - np.maximum(edges[:-1, None], source)
    return overlap.clip(0) / step


def _filled(corners: NDArray[np.float64], place: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which places [H, W, 2] lie inside a convex shape [K, 2], or within half a pixel of its rim."""
    ahead = np.roll(corners, -1, 0)
    turn = ahead - corners
    side = np.sign((corners[:, 0] * ahead[:, 1] - corners[:, 1] * ahead[:, 0]).sum())
    # of a shape that has shrunk to a line every place on that line would count
    inside = ((place >= corners.min(0)) & (place <= corners.max(0))).all(-1)
    near = np.zeros(place.shape[:2], np.bool_)
    for corner, edge in zip(corners, turn, strict=True):
        away = place - corner
        inside &= side * (edge[0] * away[..., 1] - edge[1] * away[..., 0]) >= 0
        along = ((away * edge).sum(-1) / max(float(edge @ edge), 1e-9)).clip(0, 1)
        near |= np.abs(away - along[..., None] * edge).max(-1) <= 0.5
    return inside | near
