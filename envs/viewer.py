"""Pictures of cars on their track, from above: what `watch`, `record` and `render()` show.

Drawn from Tracks and CarState alone, so the twin and the original look the same and a picture can be made anywhere.
World units become pixels here only. The camera follows a car and turns with it, softly: a slide is seen as a slide.

Nothing here needs a display: the world is painted on a plain surface at twice its size; shrinking smooths the edges.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from .camera import CAMERAS, CAR_AT, VIEW_WIDTH, Camera, follow, north_up, whole_track
from .cars import BODY_LIGHT, OKABE_ITO, Pose, draw_car, livery, pose_of
from .chart import TRAIL, Chart
from .errors import UserError
from .hud import Readings, draw_caption, draw_hud, hud_height, unit_of
from .panel import (
    Mind,
    Standing,
    draw_banner,
    draw_help,
    draw_keys,
    draw_mind,
    draw_standings,
    help_height,
)
from .scenery import ASPHALT, DRIVEN, Road, draw_ground, draw_road, road_of
from .seen import Seen, draw_pictures, draw_seen
from .spec import CAR, DT, ROAD, RULES
from .state import CarState
from .tags import Tag, draw_tags
from .track import Tracks

__all__ = [
    "ASPHALT",
    "BODY_LIGHT",
    "CAMERAS",
    "CAR_AT",
    "DRIVEN",
    "SIZE",
    "VIEW_WIDTH",
    "Cast",
    "Shot",
    "Viewer",
    "as_array",
    "frame_rgb",
    "load_pygame",
]

Array = np.ndarray
Surface = Any  # pygame.Surface; pygame is imported only when something is drawn

SIZE = (960, 720)
"""px, width and height of a picture unless another is asked for"""
MIN_SIZE = (160, 120)

CAMERA_LAG = 0.10
"""s, time constant with which the camera turns after the car"""
COLUMN = 196
"""layout units, width of the policy's panel"""
STANDINGS = 1.35
"""columns, width of the standings"""
CAR_LENGTH = 5.0
"""u, of a car as it is drawn"""
SMALLEST_CAR = 20
"""px, length of a car where the whole track is shown"""
BESIDE_CAR = 0.46
"""share of the width on either side of the followed car"""
PANELS_FROM = 0.5
"""px a layout unit; in smaller pictures there is no room for standings and policy"""
NAMED = 6
"""cars up to which tags hold names, not only numbers"""


@dataclass(frozen=True)
class Cast:
    """One driver in the picture."""

    name: str
    state: CarState  # a batch of one
    score: float | None = None  # None = by the rules, from the state


@dataclass(frozen=True)
class Shot:
    """What a picture shows. The first of the cars is the user's own, the others are ghosts beside it."""

    cars: tuple[Cast, ...]
    followed: int = 0  # index of the car that instruments and camera belong to
    camera: str = "follow"
    caption: str = ""
    mind: Mind | None = None
    seen: Seen | None = None
    trail: Array | None = None  # [k, 2] u, the line that the followed car drove
    banner: str = ""
    help: tuple[tuple[str, str], ...] = ()  # (key, what it does), in one line at the bottom
    keys: tuple[tuple[str, str], ...] = ()  # the same in a box


class Viewer:
    """Draws one car, or several on one track, frame after frame.

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
        self._small = self._pygame.Surface(self.size, 0, 32)
        self._big: Surface = None
        self._road_of: tuple[Tracks, int, Road, Chart] | None = None
        self._camera_at: tuple[int, int, float] | None = None  # (car, frames, rad) of the last picture

    def frame(self, tracks: Tracks, state: CarState, row: int = 0, caption: str = "") -> Array:
        """Picture uint8 [height, width, 3] of car `row`; caption is a short text for the upper left corner."""
        return as_array(self.draw(tracks, state, row, caption))

    def draw(self, tracks: Tracks, state: CarState, row: int = 0, caption: str = "") -> Surface:
        """The picture as a pygame surface, which the next call paints over."""
        car = state.take(state.track.new_tensor([row])).map(lambda x: x.cpu())
        return self.shoot(tracks, Shot((Cast("", car),), caption=caption))

    def shoot(self, tracks: Tracks, shot: Shot) -> Surface:
        """The picture of a shot, all of its cars on the road of the followed one; the next call paints over it."""
        car = shot.cars[shot.followed].state
        road, chart = self._road(tracks, int(car.track[0]))
        visited = car.visited[0, : road.num_tiles].numpy()
        footer = help_height(self.size) if shot.help else 0
        room = (self.size[0], self.size[1] - hud_height(self.size) - footer)
        poses = [pose_of(cast.state) for cast in shot.cars]
        camera = self._camera(shot, poses[shot.followed], road, room)
        self._draw_world(camera, shot, poses, road, visited)
        self._pygame.transform.smoothscale(self._big, room, self._small.subsurface((0, 0, *room)))
        self._draw_tags(camera, shot, poses, room)
        self._draw_panels(shot, poses, road, chart, visited)
        floor = room[1]
        if shot.seen is not None and shot.seen.pictures:
            floor = draw_pictures(self._pygame, self._small, shot.seen.pictures, room[1], int(BESIDE_CAR * room[0]))
        draw_hud(self._pygame, self._small, _readings(shot.cars[shot.followed], road), self.size[1] - footer)
        if shot.help:
            draw_help(self._pygame, self._small, shot.help)
        if shot.banner and not shot.keys:
            draw_banner(self._pygame, self._small, shot.banner, floor)
        if shot.keys:
            draw_keys(self._pygame, self._small, shot.keys)
        return self._small

    def _draw_world(self, camera: Camera, shot: Shot, poses: list[Pose], road: Road, visited: Array) -> None:
        pygame, surface = self._pygame, self._big
        draw_ground(pygame, surface, camera)
        draw_road(pygame, surface, camera, road, visited)
        if shot.seen is not None:
            draw_seen(pygame, surface, camera, shot.seen)
        if shot.trail is not None and len(shot.trail) > 1 and shot.camera == "track":
            pygame.draw.lines(surface, TRAIL, False, camera.pixels(shot.trail).tolist(), 3)
        size = max(1.0, 2 * SMALLEST_CAR / (CAR_LENGTH * camera.scale))
        order = [index for index in reversed(range(len(shot.cars))) if index != shot.followed]
        for index in (*order, shot.followed):
            if camera.shows(camera.pixels(poses[index].place), CAR_LENGTH * size * camera.scale):
                draw_car(pygame, surface, camera, poses[index], livery(index), size)

    def _draw_tags(self, camera: Camera, shot: Shot, poses: list[Pose], room: tuple[int, int]) -> None:
        if len(shot.cars) == 1:
            return
        tags = []
        for index in (shot.followed, *(i for i in range(len(shot.cars)) if i != shot.followed)):
            place = camera.pixels(poses[index].place) / 2
            named = f"{index + 1} {shot.cars[index].name}" if len(shot.cars) <= NAMED else str(index + 1)
            tags.append(Tag((float(place[0]), float(place[1])), named, livery(index).body, _is_square(index)))
        distance = max(CAR_LENGTH * camera.scale / 4, SMALLEST_CAR / 2) + 6
        draw_tags(self._pygame, self._small, tags, room, distance)

    def _draw_panels(self, shot: Shot, poses: list[Pose], road: Road, chart: Chart, visited: Array) -> None:
        """Map and policy on the right, caption and standings on the left."""
        pygame, small = self._pygame, self._small
        unit = unit_of(self.size)
        width, margin = round(COLUMN * unit), round(9 * unit)
        right, free = chart.corner[1], self.size[0] - width - 2 * margin
        if shot.camera != "track":
            dots = [(pose.place, livery(index).body) for index, pose in enumerate(poses)]
            dots.insert(0, dots.pop(shot.followed))
            chart.draw(small, visited, dots, shot.trail)
            right += chart.side + margin
            free = chart.corner[0]
        if shot.mind is not None and unit >= PANELS_FROM:
            draw_mind(pygame, small, shot.mind, (self.size[0] - width - chart.corner[1], right), width)
        below = margin if not shot.caption else draw_caption(pygame, small, shot.caption, free)
        if len(shot.cars) > 1 and unit >= PANELS_FROM:
            lines = [_standing(cast, index, index == shot.followed, road) for index, cast in enumerate(shot.cars)]
            draw_standings(pygame, small, lines, (margin, below + margin), round(STANDINGS * width))

    def _road(self, tracks: Tracks, index: int) -> tuple[Road, Chart]:
        if self._road_of is None or self._road_of[0] is not tracks or self._road_of[1] != index:
            road = road_of(tracks, index)
            self._road_of = (tracks, index, road, Chart(self._pygame, road, self.size))
            self._camera_at = None
        return self._road_of[2:]

    def _camera(self, shot: Shot, pose: Pose, road: Road, room: tuple[int, int]) -> Camera:
        size = (2 * room[0], 2 * room[1])
        if self._big is None or self._big.get_size() != size:
            # 32 bits a pixel: shrinking is twice as fast as with 24
            self._big = self._pygame.Surface(size, 0, 32)
        frames = int(shot.cars[shot.followed].state.frames[0])
        turned = self._turn_camera(shot.followed, frames, pose.heading)
        if shot.camera == "follow":
            return follow(pose.place, turned, size)
        if shot.camera == "north":
            return north_up(pose.place, size)
        column = 2 * round(COLUMN * unit_of(self.size))
        left = round(STANDINGS * column) + column // 8 if len(shot.cars) > 1 else 0
        right = column + column // 8 if shot.mind is not None else 0
        top = round(90 * unit_of(self.size)) if shot.caption else 0
        return whole_track(road.centre, size, (left, top, size[0] - left - right, size[1] - top), 2 * ROAD.half_width)

    def _turn_camera(self, followed: int, frames: int, heading: float) -> float:
        """rad, where the camera looks after following the car's heading for the frames since the last picture"""
        drawn = heading
        at = self._camera_at
        if at is not None and at[0] == followed and frames >= at[1]:
            passed, before = (frames - at[1]) * DT, at[2]
            drawn = heading - math.remainder(heading - before, math.tau) * math.exp(-passed / CAMERA_LAG)
        self._camera_at = (followed, frames, drawn)
        return drawn


def frame_rgb(tracks: Tracks, state: CarState, row: int = 0, size: tuple[int, int] = SIZE, caption: str = "") -> Array:
    """One picture uint8 [height, width, 3] of car `row` of state; a sequence of pictures is a Viewer's.

    Raises:
        UserError: a picture too small, or `pygame` and `pygame-ce` both installed.
    """
    return Viewer(size).frame(tracks, state, row, caption)


def as_array(surface: Surface) -> Array:
    """Picture uint8 [height, width, 3] of a surface."""
    width, height = surface.get_size()
    return np.frombuffer(load_pygame().image.tobytes(surface, "RGB"), np.uint8).reshape(height, width, 3)


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


def _is_square(index: int) -> bool:
    """Whether a driver's sign is a square: the palette is used a second time."""
    return index > len(OKABE_ITO)


def _standing(cast: Cast, index: int, followed: bool, road: Road) -> Standing:
    readings = _readings(cast, road)
    colour = livery(index).body
    return Standing(cast.name, readings.progress, readings.score, colour, _is_square(index), followed)


def _readings(cast: Cast, road: Road) -> Readings:
    car = cast.state
    visited, frames = int(car.visited_count[0]), int(car.frames[0])
    steer, gas, brake = car.controls[0].tolist()
    by_rules = RULES.lap_reward * visited / road.num_tiles - RULES.frame_cost * frames
    return Readings(
        speed=float(car.velocity[0].norm()),
        gas=min(max(gas, 0.0), 1.0),
        brake=min(max(brake, 0.0), 1.0),
        steer=min(max(steer / CAR.joint_limit, -1.0), 1.0),
        wheel_angle=min(max(-float(car.joint[0, :2].mean()) / CAR.joint_limit, -1.0), 1.0),
        progress=visited / road.num_tiles,
        score=by_rules if cast.score is None else cast.score,
        seconds=frames * DT,
        seed=road.seed,
    )
