"""Where a picture looks from, and how world units become pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

CAMERAS = ("follow", "north", "track")
"""behind the car and turning with it; above the car with north up; the whole track"""

VIEW_WIDTH = 82.0
"""u of world across the picture"""
CAR_AT = 0.72
"""how far down the picture the followed car sits"""


@dataclass(frozen=True)
class Camera:
    """A place in the world, drawn at a place in the picture."""

    centre: Array  # [2] u, the world point at anchor
    heading: float  # rad, drawn upwards
    scale: float  # px per u
    anchor: tuple[float, float]  # px
    size: tuple[int, int]  # px of the surface drawn on

    def pixels(self, points: Array) -> Array:
        """[..., 2] px of world points [..., 2] u."""
        cos, sin = self.scale * math.cos(self.heading), self.scale * math.sin(self.heading)
        turn = np.array([(cos, sin), (sin, -cos)])
        moved: Array = (points - self.centre) @ turn + self.anchor
        return moved

    @property
    def reach(self) -> float:
        """u, the farthest world point in the picture from centre."""
        (x, y), (width, height) = self.anchor, self.size
        return math.hypot(max(x, width - x), max(y, height - y)) / self.scale

    def shows(self, points: Array, margin: float = 0.0) -> Array:
        """[...] bool: which of the points [..., 2] px are in the picture, or less than margin px outside."""
        inside = (points > -margin) & (points < np.array(self.size) + margin)
        seen: Array = np.all(inside, -1)
        return seen


def follow(car: Array, heading: float, size: tuple[int, int]) -> Camera:
    """Turns with the car at world point car [2], on a surface of size px."""
    width, height = size
    return Camera(car, heading, width / VIEW_WIDTH, (width / 2, CAR_AT * height), size)


def north_up(car: Array, size: tuple[int, int]) -> Camera:
    """Keeps north up, with the car in the middle."""
    width, height = size
    return Camera(car, 0.0, width / VIEW_WIDTH, (width / 2, height / 2), size)


def whole_track(centre_line: Array, size: tuple[int, int], room: tuple[int, int, int, int], margin: float) -> Camera:
    """The whole centre line [n, 2] inside the room (left, top, width, height) px, margin u away from its edges."""
    low, high = centre_line.min(0) - margin, centre_line.max(0) + margin
    left, top, width, height = room
    scale = float(min(width / (high - low)[0], height / (high - low)[1]))
    return Camera((low + high) / 2, 0.0, scale, (left + width / 2, top + height / 2), size)
