"""A car seen from above, in the colours of its driver."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from .camera import Camera
from .spec import CAR
from .state import CarState, hull_origin

Array = np.ndarray
Surface = Any  # pygame.Surface
Colour = tuple[int, int, int]

SHADOW: Colour = (58, 62, 66)
AXLE: Colour = (60, 62, 66)
TYRE: Colour = (26, 27, 30)
TREAD: Colour = (92, 94, 100)


@dataclass(frozen=True)
class Livery:
    """The colours of one driver's car."""

    body: Colour
    dark: Colour
    light: Colour
    helmet: Colour


BODY_LIGHT: Colour = (250, 250, 250)
OWN = Livery((214, 48, 44), (150, 28, 30), BODY_LIGHT, (250, 208, 70))
"""of the car that the picture follows at first"""

OKABE_ITO: tuple[Colour, ...] = (
    (86, 180, 233),  # sky blue
    (230, 159, 0),  # orange
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (204, 121, 167),  # reddish purple
    (0, 158, 115),  # bluish green
    (245, 245, 245),  # white
    (40, 40, 44),  # black
)
"""Colours that people with any kind of colour vision tell apart (Okabe and Ito 2008). Their vermillion is left out for
the red of the own car; white is added."""


@cache
def livery(index: int) -> Livery:
    """Of driver 0, 1, 2, …: the own car in red, then the palette with light trim, then the palette with dark trim."""
    if index == 0:
        return OWN
    body = OKABE_ITO[(index - 1) % len(OKABE_ITO)]
    second = (index - 1) // len(OKABE_ITO) % 2 == 1
    dark = (round(0.62 * body[0]), round(0.62 * body[1]), round(0.62 * body[2]))
    pale = sum(body) > 600
    light = (20, 20, 22) if second != pale else BODY_LIGHT
    return Livery(body, dark, light, light)


@dataclass(frozen=True)
class Pose:
    """Where one car is, and what its wheels do."""

    place: Array  # [2] u, the hull's origin
    heading: float  # rad
    joint: tuple[float, ...]  # [4] rad
    phase: tuple[float, ...]  # [4] rad


def pose_of(state: CarState, row: int = 0) -> Pose:
    """Of car `row`."""
    place = hull_origin(state)[row].double().cpu().numpy()
    return Pose(place, float(state.heading[row]), tuple(state.joint[row].tolist()), tuple(state.phase[row].tolist()))


# the original's hull polygons, u in the body frame, and what this picture adds to them
_FRONT_WING = [(-60, 130), (60, 130), (60, 110), (-60, 110)]
_NOSE = [(-15, 120), (15, 120), (20, 20), (50, -10)]
_BODY = [*_NOSE, (50, -40), (20, -90), (-20, -90), (-50, -40), (-50, -10), (-20, 20)]
_REAR_WING = [(-50, -120), (50, -120), (50, -90), (-50, -90)]
_PAINT: tuple[tuple[str, list[tuple[int, int]]], ...] = (
    ("dark", _FRONT_WING),
    ("light", [(-60, 130), (-48, 130), (-48, 110), (-60, 110)]),
    ("light", [(48, 130), (60, 130), (60, 110), (48, 110)]),
    ("body", _BODY),
    ("dark", [(-50, -10), (-38, 2), (-36, -46), (-50, -40)]),
    ("dark", [(50, -10), (38, 2), (36, -46), (50, -40)]),
    ("light", [(-4, 120), (4, 120), (5, 10), (-5, 10)]),
    ("tyre", [(-13, 0), (13, 0), (17, -22), (12, -52), (-12, -52), (-17, -22)]),
    ("dark", _REAR_WING),
    ("light", [(-50, -120), (-40, -120), (-40, -90), (-50, -90)]),
    ("light", [(40, -120), (50, -120), (50, -90), (40, -90)]),
)
_HULL = np.array([point for _, shape in _PAINT for point in shape]) * 0.02
_SHADOWS = (_FRONT_WING, _BODY, _REAR_WING)
_UNDER = np.array([point for shape in _SHADOWS for point in shape]) * 0.02 + (0.25, -0.25)
_HELMET_AT, _HELMET_RADIUS = np.array([[0.0, -0.55]]), 0.26
_WHEELS = np.stack((CAR.wheel_x, CAR.wheel_y), -1)  # [4, 2]
_W, _R = CAR.wheel_half_width, CAR.wheel_radius
_TYRE = np.array([(-_W, -_R), (_W, -_R), (_W, _R), (-_W, _R)])
_AXLES = np.array(
    [[(0, y - 0.07), (2 * x, y - 0.07), (2 * x, y + 0.07), (0, y + 0.07)] for x in (-0.5, 0.5) for y in (1.6, -1.64)]
)
_MARK = np.array([(-_W, -0.07), (_W, -0.07), (_W, 0.07), (-_W, 0.07)])


def draw_car(
    pygame: ModuleType, surface: Surface, camera: Camera, pose: Pose, paint: Livery, size: float = 1.0
) -> None:
    """One car, `size` times as large as it is."""
    cos, sin = size * math.cos(pose.heading), size * math.sin(pose.heading)
    turn = np.array([(cos, sin), (-sin, cos)])
    wheels, marks = _wheels(pose)
    parts = (_UNDER, _AXLES.reshape(-1, 2), wheels.reshape(-1, 2), marks.reshape(-1, 2), _HULL, _HELMET_AT)
    points = camera.pixels(pose.place + np.concatenate(parts) @ turn).tolist()
    at = 0

    def fill(colour: Colour, count: int) -> None:
        nonlocal at
        pygame.draw.polygon(surface, colour, points[at : at + count])
        at += count

    for shape in _SHADOWS:
        fill(SHADOW, len(shape))
    for _ in _AXLES:
        fill(AXLE, 4)
    for _ in wheels:
        fill(TYRE, 4)
    for _ in marks:
        fill(TREAD, 4)
    colours = {"body": paint.body, "dark": paint.dark, "light": paint.light, "tyre": TYRE}
    for name, outline in _PAINT:
        fill(colours[name], len(outline))
    pygame.draw.circle(surface, paint.helmet, points[at], _HELMET_RADIUS * size * camera.scale)


def _wheels(pose: Pose) -> tuple[Array, Array]:
    """Tyres [4, 4, 2] and the marks on their tread [m, 4, 2], those on the upper side of the wheels; u, body frame."""
    joint, phase = np.array(pose.joint), np.array(pose.phase)
    cos, sin = np.cos(joint), np.sin(joint)
    axes = np.stack((np.stack((cos, sin), -1), np.stack((-sin, cos), -1)), 1)  # [4, 2, 2]
    angle = phase[:, None] + np.arange(3) * math.tau / 3  # [4, 3]
    marks = np.repeat(_MARK[None, None], 4, 0).repeat(3, 1)  # [4, 3, 4, 2]
    marks[..., 1] = np.clip(marks[..., 1] + _R * np.cos(angle)[..., None], -_R, _R)
    placed = marks @ axes[:, None] + _WHEELS[:, None, None]
    return _TYRE @ axes + _WHEELS[:, None], placed[np.sin(angle) > 0]
