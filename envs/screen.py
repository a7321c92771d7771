"""The screen: where a picture looks from, and how much of each pixel lies beyond a line.

Screen coordinates are columns and rows in pixels of the small picture: pixel (r, c) is the square [c, c+1] x [r, r+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .spec import DT
from .state import CarState, forward, hull_origin, right
from .view import ROAD_ROWS, SIDE

SOURCE = (1000, 800)
"""px, width and height of the original's own picture, before it is averaged down"""
FIRST_ZOOM, LAST_ZOOM = 0.6, 16.2
"""px of the original's own picture per u, at the start of an episode and from its second second on"""
CAR_AT = (48.0, 72.0)
"""column and row of the hull's origin"""
FLATTEST = 0.02
"""least slope of a line against an axis of the screen, of its slope against the other: keeps `share` finite"""


@dataclass(frozen=True)
class Camera:
    """Where B pictures look from."""

    origin: Tensor  # [B, 2] u, world point at CAR_AT
    across: Tensor  # [B, 2] unit, to the right of the picture
    ahead: Tensor  # [B, 2] unit, up
    size: Tensor  # [B, 2] u, width and height of a pixel


class Line(NamedTuple):
    """Signed distances from B straight lines, as functions of the screen: f = at + column * right + row * down."""

    at: Tensor  # [B, ...] u, at screen point (0, 0)
    right: Tensor  # [B, ...] u per column
    down: Tensor  # [B, ...] u per row


def zoom(frames: Tensor) -> Tensor:
    """[B] px of the original's own picture per u, frames [B] after reset: it moves closer over the first second."""
    seconds = (DT * (frames + 1)).clamp(max=1.0)
    return FIRST_ZOOM * (1 - seconds) + LAST_ZOOM * seconds


def camera(state: CarState) -> Camera:
    """The camera of each car."""
    scale = zoom(state.frames)
    size = torch.stack((SOURCE[0] / SIDE / scale, SOURCE[1] / SIDE / scale), -1)
    return Camera(hull_origin(state), right(state.heading), forward(state.heading), size)


def line(view: Camera, point: Tensor, normal: Tensor) -> Line:
    """Lines through points [B, K, 2] u; distances [B, K] are positive on the side of normals [B, K, 2]."""
    step_right = (normal * view.across[:, None]).sum(-1) * view.size[:, None, 0]
    step_down = -(normal * view.ahead[:, None]).sum(-1) * view.size[:, None, 1]
    at_car = (normal * (view.origin[:, None] - point)).sum(-1)
    return Line(at_car - step_right * CAR_AT[0] - step_down * CAR_AT[1], step_right, step_down)


def beyond(line: Line) -> Tensor:
    """[B, K, ROAD_ROWS, SIDE] share of each pixel on the positive side of lines [B, K]."""
    column, row = middles(line.at.device)
    at, step_right, step_down = (x[..., None, None] for x in line)
    return share(at + step_right * column + step_down * row, step_right, step_down)


def share(depth: Tensor, step_right: Tensor, step_down: Tensor) -> Tensor:
    """Share of each pixel where a distance is positive, from the distance in its middle and its slopes.

    Over a pixel a distance is spread like the sum of two uniform variables, one for each side of the pixel, so the
    share is a second difference of half squares.
    """
    a, b = step_right.abs(), step_down.abs()
    steep = torch.maximum(a, b)
    a, b = torch.maximum(a, FLATTEST * steep), torch.maximum(b, FLATTEST * steep)
    far, near = (a + b) / 2, (a - b) / 2
    depth = torch.minimum(torch.maximum(depth, -far), far)
    return (_half_square(depth + far) - _half_square(depth + near) - _half_square(depth - near)) / (a * b)


def _half_square(x: Tensor) -> Tensor:
    return 0.5 * x.clamp(min=0).square()


def middles(device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns [1, SIDE] and rows [ROAD_ROWS, 1] of the middles of pixels."""
    return torch.arange(SIDE, device=device)[None] + 0.5, torch.arange(ROAD_ROWS, device=device)[:, None] + 0.5


def strip(first: Tensor, second: Tensor) -> Tensor:
    """Share of pixels inside both of two opposite sides, from the shares inside each."""
    return (first + second - 1).clamp(min=0)
