"""The small map in a picture's corner: the whole track, north up, what was driven of it, and the cars."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from .scenery import Road

Array = np.ndarray
Surface = Any  # pygame.Surface
Colour = tuple[int, int, int]

ROAD_COLOUR: Colour = (150, 156, 168)
DRIVEN_COLOUR: Colour = (92, 190, 255)
TRAIL: Colour = (255, 255, 255)
OUTLINE: Colour = (16, 18, 22)


class Chart:
    """The map of one road.

    Args:
        pygame: the module.
        road: what is shown.
        size: px, (width, height) of the picture it is for.
    """

    def __init__(self, pygame: ModuleType, road: Road, size: tuple[int, int]) -> None:
        self._pygame, self._road = pygame, road
        self.side = int(0.24 * min(size))
        margin = max(4, self.side // 14)
        self.corner = (size[0] - self.side - margin, margin)
        low, high = road.centre.min(0), road.centre.max(0)
        self._middle, pad = (low + high) / 2, max(4, self.side // 11)
        self._scale = (self.side - 2 * pad) / float((high - low).max())
        self._drawn = np.zeros(road.num_tiles, np.bool_)
        self._large: Surface = None  # the panel at twice its size: shrinking smooths the lines
        self._panel: Surface = None

    def draw(
        self, surface: Surface, visited: Array, dots: Sequence[tuple[Array, Colour]], trail: Array | None = None
    ) -> None:
        """Paint the map.

        Args:
            surface: the picture.
            visited: [n] bool, tiles touched.
            dots: cars as (place [2] u, colour), the most important one first.
            trail: [k, 2] u, the line driven.
        """
        if self._panel is None or not np.array_equal(self._drawn, visited):  # most pictures show nothing new
            self._paint(visited)
        surface.blit(self._panel, self.corner)
        surface.set_clip((*self.corner, self.side, self.side))  # a lost car must not drive over the other panels
        if trail is not None and len(trail) > 1:
            self._pygame.draw.aalines(surface, TRAIL, False, (self._place(trail) + self.corner).tolist())
        radius = max(2.0, self.side / 28)
        for place, colour in reversed(dots):
            centre = (self._place(place) + self.corner).tolist()
            self._pygame.draw.aacircle(surface, OUTLINE, centre, radius + 1)
            self._pygame.draw.aacircle(surface, colour, centre, radius)
        surface.set_clip(None)

    def _place(self, points: Array) -> Array:
        """[..., 2] px in the panel"""
        placed: Array = self.side / 2 + self._scale * (points - self._middle) * (1, -1)
        return placed

    def _paint(self, visited: Array) -> None:
        """Paints the road anew where it was touched since the last time, or all of it in another episode."""
        side = self.side
        fresh = visited & ~self._drawn
        if self._large is None or (self._drawn & ~visited).any():
            self._large = self._pygame.Surface((2 * side, 2 * side), self._pygame.SRCALPHA, 32)
            self._pygame.draw.rect(self._large, (16, 18, 22, 170), self._large.get_rect(), border_radius=side // 8)
            fresh = np.ones_like(visited)
        ends = 2 * self._place(self._road.centre)
        for i in np.flatnonzero(fresh):
            colour = DRIVEN_COLOUR if visited[i] else ROAD_COLOUR
            self._pygame.draw.line(self._large, colour, ends[i - 1].tolist(), ends[i].tolist(), max(3, side // 24))
        self._drawn = visited.copy()
        self._panel = self._pygame.transform.smoothscale(self._large, (side, side))
