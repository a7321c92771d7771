"""Pictures of a car on its track, from above: what `watch`, `record` and `render()` show.

Drawn from Tracks and CarState alone, so the twin and the original look the same and a picture can be made anywhere.
World units become pixels here only. The camera follows the car and turns with it, softly: a slide is seen as a slide.

Nothing here needs a display: pictures are painted on plain surfaces at twice their size; shrinking smooths the edges.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from .errors import UserError
from .hud import Readings, draw_hud, hud_height
from .spec import CAR, DT, ROAD, RULES
from .state import CarState, hull_origin
from .track import Tracks

Array = np.ndarray
Surface = Any  # pygame.Surface; pygame is imported only when something is drawn

SIZE = (960, 720)
"""px, width and height of a picture unless another is asked for"""

VIEW_WIDTH = 82.0
"""u of world across the picture"""
CAR_AT = 0.72
"""how far down the picture's free part the car sits"""
CAMERA_LAG = 0.10
"""s, time constant with which the camera turns after the car"""

FIELD = (96, 153, 84)
PATCH = (103, 161, 90)
OUTSIDE = (52, 78, 58)
ASPHALT = (78, 81, 90)
DRIVEN = (99, 107, 128)
EDGE = (226, 228, 230)
KERB = ((206, 58, 52), (240, 240, 240))
BODY, BODY_DARK, BODY_LIGHT = (214, 48, 44), (150, 28, 30), (250, 250, 250)
SHADOW = (58, 62, 66)
TYRE, TREAD, HELMET = (26, 27, 30), (92, 94, 100), (250, 208, 70)
MAP_ROAD, MAP_DRIVEN, MAP_CAR = (150, 156, 168), (92, 190, 255), (255, 92, 82)

GRASS = ROAD.playfield / 20
EDGE_WIDTH = 0.32
_KERB = np.array([[ROAD.half_width], [ROAD.half_width + ROAD.kerb_width]])
MIN_SIZE = (160, 120)


@dataclass(frozen=True)
class _Road:
    """One track as numpy arrays, ready to be drawn."""

    centre: Array  # [n, 2] u
    normal: Array  # [n, 2] to the right
    kerb_side: Array  # [n] -1 left, 0 none, 1 right
    seed: int

    @property
    def num_tiles(self) -> int:
        return len(self.centre)

    def offset(self, distance: float) -> Array:
        """[n, 2] u, points so far to the right of the centre line"""
        return self.centre + distance * self.normal


@dataclass(frozen=True)
class _Camera:
    """Where the picture looks from."""

    centre: Array  # [2] u, the world point at anchor
    heading: float  # rad, drawn upwards
    scale: float  # px per u
    anchor: tuple[float, float]  # px
    reach: float  # u, farthest world point seen from centre

    def pixels(self, points: Array) -> Array:
        """[..., 2] px of world points [..., 2] u"""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        delta = points - self.centre
        across = cos * delta[..., 0] + sin * delta[..., 1]
        along = -sin * delta[..., 0] + cos * delta[..., 1]
        return np.stack((self.anchor[0] + self.scale * across, self.anchor[1] - self.scale * along), -1)


class Viewer:
    """Draws one car, frame after frame.

    Args:
        size: px, (width, height) of the pictures.

    Raises:
        UserError: a picture too small, or `pygame` and `pygame-ce` both installed.
    """

    def __init__(self, size: tuple[int, int] = SIZE) -> None:
        if size[0] < MIN_SIZE[0] or size[1] < MIN_SIZE[1]:
            raise UserError("picture too small", got=f"{size[0]}x{size[1]}", allowed=f"{MIN_SIZE[0]}x{MIN_SIZE[1]} up")
        self.size = (int(size[0]), int(size[1]))
        self._pygame = load_pygame()
        # 32 bits a pixel: shrinking is twice as fast as with 24
        self._big = self._pygame.Surface((2 * self.size[0], 2 * self.size[1]), 0, 32)
        self._small = self._pygame.Surface(self.size, 0, 32)
        self._road_of: tuple[Tracks, int, _Road, _Map] | None = None
        self._camera_at: tuple[int, float] | None = None  # (frames, rad) of the last picture

    def frame(self, tracks: Tracks, state: CarState, row: int = 0, caption: str = "") -> Array:
        """Picture uint8 [height, width, 3] of car `row`; caption is a short text for the upper left corner."""
        surface = self.draw(tracks, state, row, caption)
        return np.frombuffer(self._pygame.image.tobytes(surface, "RGB"), np.uint8).reshape(*self.size[::-1], 3)

    def draw(self, tracks: Tracks, state: CarState, row: int = 0, caption: str = "") -> Surface:
        """The picture as a pygame surface, which the next call paints over."""
        car = state.take(state.track.new_tensor([row])).map(lambda x: x.cpu())
        road, chart = self._road(tracks, int(car.track[0]))
        visited = car.visited[0, : road.num_tiles].numpy()
        camera = self._camera(car)
        _draw_ground(self._pygame, self._big, camera)
        _draw_road(self._pygame, self._big, camera, road, visited)
        _draw_car(self._pygame, self._big, camera, car)
        self._pygame.transform.smoothscale(self._big, self.size, self._small)
        chart.draw(self._small, visited, car)
        draw_hud(self._pygame, self._small, _readings(car, road), caption)
        return self._small

    def _road(self, tracks: Tracks, index: int) -> tuple[_Road, _Map]:
        if self._road_of is None or self._road_of[0] is not tracks or self._road_of[1] != index:
            road = _road(tracks, index)
            self._road_of = (tracks, index, road, _Map(self._pygame, road, self.size))
            self._camera_at = None
        return self._road_of[2:]

    def _camera(self, car: CarState) -> _Camera:
        width, height = self._big.get_size()
        scale = width / VIEW_WIDTH
        anchor = (width / 2, CAR_AT * (height - 2 * hud_height(self.size)))
        reach = math.hypot(width / 2, height) / scale
        drawn = self._turn_camera(int(car.frames[0]), float(car.heading[0]))
        return _Camera(hull_origin(car)[0].double().numpy(), drawn, scale, anchor, reach)

    def _turn_camera(self, frames: int, heading: float) -> float:
        """rad, where the camera looks after following the car's heading for the frames since the last picture"""
        drawn = heading
        if self._camera_at is not None and frames >= self._camera_at[0]:
            passed, before = (frames - self._camera_at[0]) * DT, self._camera_at[1]
            drawn = heading - math.remainder(heading - before, math.tau) * math.exp(-passed / CAMERA_LAG)
        self._camera_at = (frames, drawn)
        return drawn


def frame_rgb(tracks: Tracks, state: CarState, row: int = 0, size: tuple[int, int] = SIZE, caption: str = "") -> Array:
    """One picture uint8 [height, width, 3] of car `row` of state; a sequence of pictures is a Viewer's.

    Raises:
        UserError: a picture too small, or `pygame` and `pygame-ce` both installed.
    """
    return Viewer(size).frame(tracks, state, row, caption)


@cache
def load_pygame() -> ModuleType:
    """pygame with its fonts ready, without sound and without a window.

    Raises:
        UserError: pygame is missing, or `pygame` and `pygame-ce` overwrote each other's files.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    found = []
    for name in ("pygame", "pygame-ce"):
        try:
            distribution(name)
            found.append(name)
        except PackageNotFoundError:
            continue
    if len(found) == 2:
        raise UserError(
            "pygame and pygame-ce are both installed and share one folder",
            fix="run: pip uninstall -y pygame pygame-ce && pip install pygame-ce",
        )
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its greeting would go to stdout
    try:
        import pygame
    except ImportError as error:
        raise UserError("pictures need pygame-ce", got=str(error), fix="run: pip install pygame-ce") from error
    pygame.font.init()  # pygame.init() would open the sound device as well
    return pygame


def _road(tracks: Tracks, index: int) -> _Road:
    n = int(tracks.num_tiles[index])
    beta = tracks.beta[index, :n].double().cpu().numpy()
    # a kerb lies on the inside of the turn, as in the original
    side = np.sign(np.roll(beta, 1) - beta) * tracks.kerb[index, :n].cpu().numpy()
    centre = tracks.centre[index, :n].double().cpu().numpy()
    return _Road(centre, np.stack((np.cos(beta), np.sin(beta)), -1), side, int(tracks.seed[index]))


def _readings(car: CarState, road: _Road) -> Readings:
    visited, frames = int(car.visited_count[0]), int(car.frames[0])
    steer, gas, brake = car.controls[0].tolist()
    return Readings(
        speed=float(car.velocity[0].norm()),
        gas=min(max(gas, 0.0), 1.0),
        brake=min(max(brake, 0.0), 1.0),
        steer=min(max(steer / CAR.joint_limit, -1.0), 1.0),
        wheel_angle=min(max(-float(car.joint[0, :2].mean()) / CAR.joint_limit, -1.0), 1.0),
        progress=visited / road.num_tiles,
        score=RULES.lap_reward * visited / road.num_tiles - RULES.frame_cost * frames,
        seconds=frames * DT,
        seed=road.seed,
    )


def _draw_ground(pygame: ModuleType, surface: Surface, camera: _Camera) -> None:
    surface.fill(OUTSIDE)
    p = ROAD.playfield
    pygame.draw.polygon(surface, FIELD, camera.pixels(np.array([(-p, -p), (p, -p), (p, p), (-p, p)])).tolist())
    # lighter squares on a grid of 2 x GRASS, as in the original, so that speed is seen on the grass too
    first = np.floor((camera.centre - camera.reach) / (2 * GRASS)).astype(int)
    last = np.ceil((camera.centre + camera.reach) / (2 * GRASS)).astype(int)
    columns, rows = (np.arange(max(low, -10), min(high, 9) + 1) for low, high in zip(first, last, strict=True))
    places = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 1, 2)
    squares = GRASS * (2 * places + np.array([(0, 0), (1, 0), (1, 1), (0, 1)]))
    for square in camera.pixels(squares).tolist():
        pygame.draw.polygon(surface, PATCH, square)


def _draw_road(pygame: ModuleType, surface: Surface, camera: _Camera, road: _Road, visited: Array) -> None:
    near = np.hypot(*(road.centre - camera.centre).T) < camera.reach + 4 * ROAD.half_width
    half, inner = ROAD.half_width, ROAD.half_width - EDGE_WIDTH
    shown = np.flatnonzero(near)
    for i in np.flatnonzero(near & (road.kerb_side != 0)):
        # both ends on the side of point i, whatever the side of the point before
        ends = road.centre[[i, i - 1], None] + _KERB * road.kerb_side[i] * road.normal[[i, i - 1], None]
        (a, b), (c, d) = camera.pixels(ends).tolist()
        pygame.draw.polygon(surface, KERB[1 - i % 2], (a, b, d, c))
    left, right = camera.pixels(road.offset(-half)).tolist(), camera.pixels(road.offset(half)).tolist()
    for i in shown:
        colour = DRIVEN if visited[i] else ASPHALT
        pygame.draw.polygon(surface, colour, (left[i], right[i], right[i - 1], left[i - 1]))
    for side, outside in ((-inner, left), (inner, right)):
        inside = camera.pixels(road.offset(side)).tolist()
        for i in shown:
            pygame.draw.polygon(surface, EDGE, (outside[i], inside[i], inside[i - 1], outside[i - 1]))
    if near[0]:
        _draw_start(pygame, surface, camera, road)


def _draw_start(pygame: ModuleType, surface: Surface, camera: _Camera, road: _Road) -> None:
    """Two rows of black and white across the road at point 0, where every lap starts."""
    across = road.normal[0]
    along = np.array([-across[1], across[0]])
    edges = np.linspace(-ROAD.half_width + EDGE_WIDTH, ROAD.half_width - EDGE_WIDTH, 13)
    size = edges[1] - edges[0]
    for row in range(2):
        for column, x in enumerate(edges[:-1]):
            colour = (238, 238, 238) if (row + column) % 2 else (34, 35, 38)
            corner = road.centre[0] + x * across + row * size * along
            square = np.array([corner, corner + size * across, corner + size * (across + along), corner + size * along])
            pygame.draw.polygon(surface, colour, camera.pixels(square).tolist())


def _draw_car(pygame: ModuleType, surface: Surface, camera: _Camera, car: CarState) -> None:
    heading = float(car.heading[0])
    turn = np.array([(math.cos(heading), math.sin(heading)), (-math.sin(heading), math.cos(heading))])

    def paint(colour: tuple[int, int, int], body: Array) -> None:
        pygame.draw.polygon(surface, colour, camera.pixels(camera.centre + body @ turn).tolist())

    for shape in (_FRONT_WING, _BODY, _REAR_WING):
        paint(SHADOW, shape + np.array([0.25, -0.25]))
    for x in (-0.5, 0.5):
        for y in (1.6, -1.64):  # axles
            paint((60, 62, 66), np.array([(0, y - 0.07), (2 * x, y - 0.07), (2 * x, y + 0.07), (0, y + 0.07)]))
    for i in range(4):
        joint, phase = float(car.joint[0, i]), float(car.phase[0, i])
        cos, sin = math.cos(joint), math.sin(joint)
        place = np.array([CAR.wheel_x[i], CAR.wheel_y[i]])
        axes = np.array([(cos, sin), (-sin, cos)])
        w, r = CAR.wheel_half_width, CAR.wheel_radius
        paint(TYRE, place + np.array([(-w, -r), (w, -r), (w, r), (-w, r)]) @ axes)
        for third in range(3):  # marks on the tread, seen while on the upper side of the wheel
            angle = phase + third * math.tau / 3
            if math.sin(angle) > 0:
                y = r * math.cos(angle)
                mark = np.array([(-w, y - 0.07), (w, y - 0.07), (w, y + 0.07), (-w, y + 0.07)])
                paint(TREAD, place + np.clip(mark, -r, r) @ axes)
    for colour, shape in _PAINT:
        paint(colour, shape)
    helmet = camera.pixels(camera.centre + np.array([(0.0, -0.55)]) @ turn)[0]
    pygame.draw.circle(surface, HELMET, helmet.tolist(), 0.26 * camera.scale)


# the original's hull polygons, u in the body frame, and what this picture adds to them
_FRONT_WING = 0.02 * np.array([(-60, 130), (60, 130), (60, 110), (-60, 110)])
_BODY = 0.02 * np.array(
    [(-15, 120), (15, 120), (20, 20), (50, -10), (50, -40), (20, -90), (-20, -90), (-50, -40), (-50, -10), (-20, 20)]
)
_REAR_WING = 0.02 * np.array([(-50, -120), (50, -120), (50, -90), (-50, -90)])
_PAINT = (
    (BODY_DARK, _FRONT_WING),
    (BODY_LIGHT, 0.02 * np.array([(-60, 130), (-48, 130), (-48, 110), (-60, 110)])),
    (BODY_LIGHT, 0.02 * np.array([(48, 130), (60, 130), (60, 110), (48, 110)])),
    (BODY, _BODY),
    (BODY_DARK, 0.02 * np.array([(-50, -10), (-38, 2), (-36, -46), (-50, -40)])),
    (BODY_DARK, 0.02 * np.array([(50, -10), (38, 2), (36, -46), (50, -40)])),
    (BODY_LIGHT, 0.02 * np.array([(-4, 120), (4, 120), (5, 10), (-5, 10)])),
    (TYRE, 0.02 * np.array([(-13, 0), (13, 0), (17, -22), (12, -52), (-12, -52), (-17, -22)])),
    (BODY_DARK, _REAR_WING),
    (BODY_LIGHT, 0.02 * np.array([(-50, -120), (-40, -120), (-40, -90), (-50, -90)])),
    (BODY_LIGHT, 0.02 * np.array([(40, -120), (50, -120), (50, -90), (40, -90)])),
)


class _Map:
    """The whole track, north up, in the upper right corner."""

    def __init__(self, pygame: ModuleType, road: _Road, size: tuple[int, int]) -> None:
        self._pygame, self._road = pygame, road
        self._side = int(0.24 * min(size))
        margin = max(4, self._side // 14)
        self._corner = (size[0] - self._side - margin, margin)
        low, high = road.centre.min(0), road.centre.max(0)
        self._middle, pad = (low + high) / 2, max(4, self._side // 11)
        self._scale = (self._side - 2 * pad) / float((high - low).max())
        self._drawn = np.zeros(0, np.bool_)
        self._panel: Surface = None

    def draw(self, surface: Surface, visited: Array, car: CarState) -> None:
        if not np.array_equal(self._drawn, visited):  # most pictures show nothing new
            self._drawn, self._panel = visited.copy(), self._paint(visited)
        surface.blit(self._panel, self._corner)
        x, y = self._place(hull_origin(car)[0].double().numpy())
        centre = (self._corner[0] + x, self._corner[1] + y)
        self._pygame.draw.aacircle(surface, MAP_CAR, centre, max(2, self._side / 28))

    def _place(self, points: Array) -> Array:
        """[..., 2] px in the panel"""
        return self._side / 2 + self._scale * (points - self._middle) * (1, -1)

    def _paint(self, visited: Array) -> Surface:
        panel = self._pygame.Surface((2 * self._side, 2 * self._side), self._pygame.SRCALPHA, 32)
        self._pygame.draw.rect(panel, (16, 18, 22, 170), panel.get_rect(), border_radius=self._side // 8)
        line = (2 * self._place(self._road.centre)).tolist()
        for i, seen in enumerate(visited):
            self._pygame.draw.line(
                panel, MAP_DRIVEN if seen else MAP_ROAD, line[i - 1], line[i], max(3, self._side // 24)
            )
        return self._pygame.transform.smoothscale(panel, (self._side, self._side))
