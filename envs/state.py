"""What is known of B cars: one frozen record of tensors, and geometry read off it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .spec import CAR


@dataclass(frozen=True)
class CarState:
    """B cars. World frame in u; heading 0 looks along +y, counter-clockwise positive; wheel order FL FR RL RR."""

    track: Tensor  # [B] int64, row in Tracks
    pos: Tensor  # [B, 2] u, centre of mass of hull and wheels together
    heading: Tensor  # [B] rad
    prev_heading: Tensor  # [B] rad, before the last integration (Box2D's wheel velocities lag by it)
    velocity: Tensor  # [B, 2] u/s, of pos
    yaw_rate: Tensor  # [B] rad/s
    spin: Tensor  # [B, 4] rad/s, of the wheels
    phase: Tensor  # [B, 4] rad, turned by the wheels (drawing only)
    joint: Tensor  # [B, 4] rad, wheel against hull, positive left
    joint_rate: Tensor  # [B, 4] rad/s, of the last frame
    press: Tensor  # [B, 4] impulse with which a steering stop holds its wheel
    gas: Tensor  # [B] engine level, 0 to 1
    road: Tensor  # [B, 4] bool, wheel touches the road
    on_start: Tensor  # [B, 4] bool, wheel touches tile 0
    visited: Tensor  # [B, N] bool
    visited_count: Tensor  # [B] int64
    frames: Tensor  # [B] int64, since reset
    controls: Tensor  # [B, 3] steer (-1 full left, 1 full right), gas, brake of the last frame

    def map(self, fn: Callable[[Tensor], Tensor]) -> CarState:
        """The same record with fn applied to every tensor."""
        return replace(self, **{f.name: fn(getattr(self, f.name)) for f in fields(self)})

    def take(self, index: Tensor) -> CarState:
        """Rows at index [K] int64, as a record of K cars."""
        return self.map(lambda x: x[index])

    def where(self, mask: Tensor, other: CarState) -> CarState:
        """Rows of self where mask [B], else rows of other."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return CarState(**{k: torch.where(mask.view(-1, *[1] * (a.ndim - 1)), a, b) for k, (a, b) in pairs.items()})


def forward(angle: Tensor) -> Tensor:
    """[..., 2] unit vector along angle [...] rad."""
    return torch.stack((-torch.sin(angle), torch.cos(angle)), -1)


def right(angle: Tensor) -> Tensor:
    """[..., 2] unit vector to the right of angle [...] rad."""
    return torch.stack((torch.cos(angle), torch.sin(angle)), -1)


def rotate(vector: Tensor, angle: Tensor) -> Tensor:
    """Body vector [..., 2] seen in the world, for a body at angle [...] rad."""
    return vector[..., :1] * right(angle) + vector[..., 1:] * forward(angle)


def wheel_levers(like: Tensor) -> Tensor:
    """[4, 2] u, wheel centres from the combined centre of mass, body frame."""
    return like.new_tensor([(x, y - CAR.com_y) for x, y in zip(CAR.wheel_x, CAR.wheel_y, strict=True)])


def wheel_centres(state: CarState) -> Tensor:
    """[B, 4, 2] u."""
    return state.pos[:, None] + rotate(wheel_levers(state.pos)[None], state.heading[:, None])


def hull_origin(state: CarState) -> Tensor:
    """[B, 2] u, the point that Box2D calls the hull's position."""
    return state.pos - CAR.com_y * forward(state.heading)
