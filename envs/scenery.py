"""Field and road, painted on a plain surface."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from .camera import Camera
from .spec import ROAD
from .track import Tracks

Array = np.ndarray
Surface = Any  # pygame.Surface

FIELD = (96, 153, 84)
PATCH = (103, 161, 90)
OUTSIDE = (52, 78, 58)
ASPHALT = (78, 81, 90)
DRIVEN = (99, 107, 128)
EDGE = (226, 228, 230)
KERB = ((206, 58, 52), (240, 240, 240))
CHECKS = ((34, 35, 38), (238, 238, 238))

GRASS = ROAD.playfield / 20
EDGE_WIDTH = 0.32
_INNER = ROAD.half_width - EDGE_WIDTH
_ACROSS = np.array([-ROAD.half_width, -_INNER, _INNER, ROAD.half_width])
_KERB = np.array([[ROAD.half_width], [ROAD.half_width + ROAD.kerb_width]])


@dataclass(frozen=True)
class Road:
    """One track as numpy arrays, ready to be drawn."""

    centre: Array  # [n, 2] u
    normal: Array  # [n, 2] to the right
    kerb_side: Array  # [n] -1 left, 0 none, 1 right
    seed: int

    @property
    def num_tiles(self) -> int:
        return len(self.centre)


def road_of(tracks: Tracks, index: int) -> Road:
    """Row `index` of tracks."""
    n = int(tracks.num_tiles[index])
    beta = tracks.beta[index, :n].double().cpu().numpy()
    # a kerb lies on the inside of the turn, as in the original
    side = np.sign(np.roll(beta, 1) - beta) * tracks.kerb[index, :n].cpu().numpy()
    centre = tracks.centre[index, :n].double().cpu().numpy()
    return Road(centre, np.stack((np.cos(beta), np.sin(beta)), -1), side, int(tracks.seed[index]))


def draw_ground(pygame: ModuleType, surface: Surface, camera: Camera) -> None:
    """The playing field, with lighter squares as in the original, so that speed is seen on the grass too."""
    p, reach = ROAD.playfield, camera.reach
    if max(abs(camera.centre)) + reach < p:
        surface.fill(FIELD)
    else:
        surface.fill(OUTSIDE)
        corners = np.array([(-p, -p), (p, -p), (p, p), (-p, p)])
        pygame.draw.polygon(surface, FIELD, camera.pixels(corners).tolist())
    first = np.floor((camera.centre - reach) / (2 * GRASS)).astype(int)
    last = np.ceil((camera.centre + reach) / (2 * GRASS)).astype(int)
    columns, rows = (np.arange(max(low, -10), min(high, 9) + 1) for low, high in zip(first, last, strict=True))
    places = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 1, 2)
    squares = camera.pixels(GRASS * (2 * places + np.array([(0, 0), (1, 0), (1, 1), (0, 1)])))
    seen = camera.shows(squares.mean(1), GRASS * camera.scale)
    for square in squares[seen].tolist():
        pygame.draw.polygon(surface, PATCH, square)


def draw_road(pygame: ModuleType, surface: Surface, camera: Camera, road: Road, visited: Array) -> None:
    """Kerbs, asphalt in two shades (visited [n] bool), white edges and the start line."""
    lines = camera.pixels(road.centre[:, None] + _ACROSS[:, None] * road.normal[:, None])  # [n, 4, 2]
    shown = camera.shows(lines.mean(1), 3 * ROAD.half_width * camera.scale)
    kerbs = np.flatnonzero(shown & (road.kerb_side != 0))
    if len(kerbs):
        # both ends on the side of point i, whatever the side of the point before
        ends = np.stack((kerbs, kerbs - 1), 1)
        aside = road.kerb_side[kerbs, None, None, None] * road.normal[ends][:, :, None]
        corners = camera.pixels(road.centre[ends][:, :, None] + _KERB * aside)
        for i, ((a, b), (c, d)) in zip(kerbs, corners.tolist(), strict=True):
            pygame.draw.polygon(surface, KERB[1 - i % 2], (a, b, d, c))
    tiles = np.flatnonzero(shown)
    quads = np.stack((lines[tiles], lines[tiles - 1]), 1).tolist()
    for i, (here, before) in zip(tiles, quads, strict=True):
        colour = DRIVEN if visited[i] else ASPHALT
        pygame.draw.polygon(surface, colour, (here[0], here[3], before[3], before[0]))
    for here, before in quads:
        pygame.draw.polygon(surface, EDGE, (here[0], here[1], before[1], before[0]))
        pygame.draw.polygon(surface, EDGE, (here[3], here[2], before[2], before[3]))
    if shown[0]:
        _draw_start(pygame, surface, camera, road)


def _draw_start(pygame: ModuleType, surface: Surface, camera: Camera, road: Road) -> None:
    """Two rows of black and white across the road at point 0, where every lap starts."""
    across = road.normal[0]
    along = np.array([-across[1], across[0]])
    edges = np.linspace(-_INNER, _INNER, 13)
    size = edges[1] - edges[0]
    for row in range(2):
        corners = road.centre[0] + edges[:-1, None] * across + row * size * along
        sides = size * np.array([0 * across, across, across + along, along])
        for column, square in enumerate(camera.pixels(corners[:, None] + sides).tolist()):
            pygame.draw.polygon(surface, CHECKS[(row + column) % 2], square)
