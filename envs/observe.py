"""The observation `state`: what a driver feels and the road ahead, in the car's own frame.

OBS_SPEC is the documentation of record: docs/environment.md repeats it and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .dynamics import shared, speed_cap
from .spec import CAR, ROAD
from .state import CarState, forward, right, wheel_levers
from .track import Tracks, cell_index

LOOK_AHEAD = (1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30)
"""centre points ahead of the car (3.5 u apart) whose places it sees"""


class Element(NamedTuple):
    """One entry of the observation: size numbers, each the quantity in `unit` divided by `scale`."""

    name: str
    size: int
    unit: str
    scale: float
    meaning: str


OBS_SPEC = (
    Element("speed_ahead", 1, "u/s", 50.0, "velocity along the car"),
    Element("speed_aside", 1, "u/s", 10.0, "velocity to the car's right"),
    Element("yaw_rate", 1, "rad/s", 2.0, "turning rate, positive left"),
    Element("wheel_slip", 4, "u/s", 10.0, "rim speed minus speed of the ground along the car, wheels FL FR RL RR"),
    Element("steering", 1, "rad", 0.4, "mean angle of the front wheels, positive left"),
    Element("gas", 1, "1", 1.0, "level of the engine, which follows the pedal with a delay"),
    Element("on_road", 4, "1", 1.0, "1 where the wheel touches the road, else 0, wheels FL FR RL RR"),
    Element("offset", 1, "u", ROAD.half_width, "distance from the centre line, positive right; 1 is the road's edge"),
    Element("heading_sin", 1, "1", 1.0, "sine of the car's heading against the road's, positive left"),
    Element("heading_cos", 1, "1", 1.0, "cosine of the same angle"),
    Element("ahead_right", len(LOOK_AHEAD), "u", 20.0, "centre line ahead: places to the car's right"),
    Element("ahead_forward", len(LOOK_AHEAD), "u", 50.0, "the same places: distances in front of the car"),
    Element("controls", 3, "1", 1.0, "steer, gas and brake of the last frame"),
)
MOTION = ("speed_ahead", "speed_aside", "yaw_rate", "wheel_slip", "rear_slip")
"""elements that tell how fast the car moves"""
OBS_SIZE = sum(element.size for element in OBS_SPEC)
OBS_LIMIT = 20.0
"""numbers are clipped to this size, far off the road"""


def places_of(names: Collection[str], spec: Sequence[Element]) -> list[int]:
    """Numbers of an observation that belong to elements of these names."""
    rows = [element.name for element in spec for _ in range(element.size)]
    return [place for place, name in enumerate(rows) if name in names]


_REFINE = 2
"""centre points tried on either side of the look-up grid's answer"""


@dataclass(frozen=True)
class Place:
    """Where B cars are along their road."""

    index: Tensor  # [B] int64, centre point behind the car
    share: Tensor  # [B] 0 to 1, of the way to the next point
    offset: Tensor  # [B] u, to the right of the centre line
    normal: Tensor  # [B, 2] the road's normal there


def locate(tracks: Tracks, track: Tensor, pos: Tensor) -> Place:
    """Projects places [B, 2] on the centre lines of tracks [B] int64. Depends on the place alone, not on the past."""
    num_tiles = tracks.num_tiles[track]
    start = tracks.nearest[track, cell_index(pos[:, 1]), cell_index(pos[:, 0])].long()
    tries = torch.arange(-_REFINE, _REFINE + 1, device=pos.device)
    near = (start[:, None] + tries + num_tiles[:, None]) % num_tiles[:, None]
    gap = ((tracks.centre[track[:, None], near] - pos[:, None]) ** 2).sum(-1)
    index = near.gather(1, gap.argmin(1, keepdim=True))[:, 0]
    normal, away = tracks.normal[track, index], pos - tracks.centre[track, index]
    behind = normal[:, 0] * away[:, 1] - normal[:, 1] * away[:, 0] < 0
    index = torch.where(behind, index - 1 + torch.where(index == 0, num_tiles, 0), index)

    here, there = tracks.centre[track, index], tracks.centre[track, index + 1]
    along = there - here
    share = (((pos - here) * along).sum(-1) / (along**2).sum(-1).clamp(min=1e-6)).clamp(0, 1)
    normal = torch.lerp(tracks.normal[track, index], tracks.normal[track, index + 1], share[:, None])
    normal = normal / torch.sqrt((normal**2).sum(-1, keepdim=True)).clamp(min=1e-6)
    offset = ((pos - here - share[:, None] * along) * normal).sum(-1)
    return Place(index, share, offset, normal)


def observe(tracks: Tracks, state: CarState) -> Tensor:
    """[B, OBS_SIZE] float32, laid out as OBS_SPEC says."""
    place = locate(tracks, state.track, state.pos)
    ahead, aside = forward(state.heading), right(state.heading)
    capped, _ = shared(speed_cap(state.velocity, state.yaw_rate, state.prev_heading), state.prev_heading)
    velocity = state.velocity + capped
    speed_ahead, speed_aside = (velocity * ahead).sum(-1), (velocity * aside).sum(-1)
    levers = wheel_levers(state.pos)
    ground = speed_ahead[:, None] + state.yaw_rate[:, None] * levers[:, 0]
    slip = CAR.wheel_radius * state.spin - ground

    points = place.index[:, None] + torch.tensor(LOOK_AHEAD, device=state.pos.device)
    rows, share = state.track[:, None], place.share[:, None, None]
    road = torch.lerp(tracks.centre[rows, points], tracks.centre[rows, points + 1], share) - state.pos[:, None]
    parts = (
        speed_ahead[:, None],
        speed_aside[:, None],
        state.yaw_rate[:, None],
        slip,
        state.joint[:, :2].mean(1, keepdim=True),
        state.gas[:, None],
        state.road.to(torch.float32),
        place.offset[:, None],
        -(ahead * place.normal).sum(-1, keepdim=True),
        (aside * place.normal).sum(-1, keepdim=True),
        (road * aside[:, None]).sum(-1),
        (road * ahead[:, None]).sum(-1),
        state.controls,
    )
    scaled = [part * (1.0 / element.scale) for part, element in zip(parts, OBS_SPEC, strict=True)]
    return torch.cat(scaled, 1).clamp(-OBS_LIMIT, OBS_LIMIT)
