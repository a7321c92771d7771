"""The picture of a film: one tile for each driver, side by side, each with a caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from drivetrain.envs.hud import font
from drivetrain.envs.viewer import as_array, load_pygame

__all__ = ["Montage", "grid", "room_for"]

Surface = Any  # pygame.Surface; pygame is imported only when something is drawn

BACKGROUND, PANEL, TEXT = (12, 13, 16), (20, 22, 27, 190), (240, 242, 245)
GAP = 4  # px between tiles
FREE = 0.72  # share of a tile's upper edge that the viewer's map leaves to the caption
WIDEST_SCORE = "-0000.0"


def grid(count: int) -> tuple[int, int]:
    """(columns, rows) of so many tiles: up to three in one row, then as square as it goes."""
    columns = count if count <= 3 else math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def room_for(picture: tuple[int, int], largest: tuple[int, int]) -> tuple[int, int]:
    """px, size of a tile for a picture of its own size: small ones are enlarged by a whole number of times."""
    times = max(1, min(largest[0] // picture[0], largest[1] // picture[1]))
    return times * picture[0], times * picture[1] + _line_height(times * picture[0], times * picture[1])


class Montage:
    """Tiles in a grid.

    Args:
        titles: of each tile, the ways of naming it, from the longest to the shortest; the first that fits is taken.
        tile: px, (width, height).
        on_top: the caption lies on the picture's upper left corner; otherwise in a line of its own above it.

    Raises:
        UserError: no pygame.
    """

    def __init__(self, titles: Sequence[tuple[str, ...]], tile: tuple[int, int], on_top: bool) -> None:
        self._pygame = load_pygame()
        self._tile, self._on_top = tile, on_top
        self._columns, rows = grid(len(titles))
        self.size = (self._columns * (tile[0] + GAP) - GAP, rows * (tile[1] + GAP) - GAP)
        self._canvas = self._pygame.Surface(self.size, 0, 32)
        self._canvas.fill(BACKGROUND)
        self._line = _line_height(*tile)
        self._face = font(self._pygame, round(self._line * 0.72))
        self._titles = [self._chosen(names) for names in titles]

    def show(self, index: int, picture: np.ndarray, score: float) -> None:
        """Put a picture uint8 [height, width, 3] into a tile, with its title and the score in the caption."""
        height, width, _ = picture.shape
        surface = self._pygame.image.frombuffer(np.ascontiguousarray(picture), (width, height), "RGB")
        x, y = (place * (side + GAP) for place, side in zip(self._place(index), self._tile, strict=True))
        above = 0 if self._on_top else self._line
        self._canvas.fill(BACKGROUND, (x, y, *self._tile))
        fitted = _fitted(self._pygame, surface, (self._tile[0], self._tile[1] - above))
        left, top = (self._tile[0] - fitted.get_width()) // 2, (self._tile[1] - above - fitted.get_height()) // 2
        self._canvas.blit(fitted, (x + left, y + above + top))
        self._caption(x, y, f"{self._titles[index]} · score {score:.1f}")

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3] of all tiles."""
        return as_array(self._canvas)

    def _place(self, index: int) -> tuple[int, int]:
        return index % self._columns, index // self._columns

    def _chosen(self, names: tuple[str, ...]) -> str:
        room = self._tile[0] * (FREE if self._on_top else 1.0) - 2 * self._line

        room -= self._face.width(f" · score {WIDEST_SCORE}")
        found = next((name for name in names if self._face.width(name) <= room), None)
        return found or self._face.fitted(names[-1], room)

    def _caption(self, x: int, y: int, text: str) -> None:
        image = self._face.render(text, TEXT)
        pad = round(0.3 * self._line)
        if self._on_top:
            panel = self._pygame.Surface((image.get_width() + 2 * pad, self._line), self._pygame.SRCALPHA, 32)
            self._pygame.draw.rect(panel, PANEL, panel.get_rect(), border_radius=pad)
            x, y = x + pad, y + pad
            self._canvas.blit(panel, (x, y))
        self._canvas.blit(image, (x + pad, y + (self._line - image.get_height() + 1) // 2))


def _line_height(width: int, height: int) -> int:
    """px of a caption in a tile of that size."""
    return max(13, min(round(max(25, 0.04 * width)), height // 7))


def _fitted(pygame: Any, surface: Surface, room: tuple[int, int]) -> Surface:
    """The picture as large as the room allows; pixels stay squares where it is much smaller."""
    width, height = surface.get_size()
    scale = min(room[0] / width, room[1] / height)
    size = (max(1, round(scale * width)), max(1, round(scale * height)))
    if size == (width, height):
        return surface
    return pygame.transform.scale(surface, size) if scale >= 2 else pygame.transform.smoothscale(surface, size)
