"""The observation `lidar`: the car's own motion, and beams from the car to the places where the road ends.

The road is the union of its tiles, so a beam runs on where another part of the track crosses. MOTION_SPEC is the
documentation of record for the first numbers; docs/environment.md repeats it and a test compares the two.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from .observe import OBS_LIMIT, OBS_SPEC, Element
from .observe import observe as observe_state
from .state import CarState
from .track import Tracks

FAN = math.radians(135.0)
"""rad, the outermost beams are so far to the left and to the right of straight ahead"""
SKIN = 0.001
"""u that a tile is taken wider on each side, so that no beam slips through between two of them"""
TINY = 1e-12
"""stands for the approach of a beam that runs exactly along an edge"""
_AT_ONCE = 1 << 22
"""pairs of beam and tile worked on together; bounds the memory"""

REAR_SLIP, BRAKE = "rear wheels' rim speed minus speed of the ground along the car, RL RR", "brake of the last frame"
MOTION_SPEC = (
    *OBS_SPEC[:3],
    Element("rear_slip", 2, "u/s", OBS_SPEC[3].scale, REAR_SLIP),
    *OBS_SPEC[4:6],
    Element("brake", 1, "1", 1.0, BRAKE),
)
MOTION_INDEX = (0, 1, 2, 5, 6, 7, 8, 42)
"""where the observation `state` has the same numbers"""
MOTION_SIZE = sum(element.size for element in MOTION_SPEC)


def beam_angles(beams: int) -> Tensor:
    """[beams] rad against the car's heading, positive left, from the left to the right.

    With u evenly from 1 to -1 the angle is FAN (u + 3 u³) / 4: four times as dense ahead as an even fan. A single beam
    looks straight ahead.
    """
    u = torch.linspace(1.0, -1.0, beams, dtype=torch.float64) if beams > 1 else torch.zeros(1, dtype=torch.float64)
    return (FAN * (u + 3 * u**3) / 4).to(torch.float32)


@cache
def beam_directions(beams: int) -> Tensor:
    """[beams, 2] unit vectors of the beams in the car's frame: to the right, ahead."""
    angles = beam_angles(beams)
    return torch.stack((-torch.sin(angles), torch.cos(angles)), 1)


def observe(tracks: Tracks, state: CarState, beams: int, beam_range: float) -> Tensor:
    """[B, MOTION_SIZE + beams] float32: own motion as MOTION_SPEC says, then measure() as a share of beam_range."""
    motion = observe_state(tracks, state)[:, list(MOTION_INDEX)]
    return torch.cat((motion, measure(tracks, state, beams, beam_range) / beam_range), 1)


def limits(beams: int) -> Tensor:
    """[MOTION_SIZE + beams] float32, the largest size of every number."""
    return torch.cat((torch.full((MOTION_SIZE,), OBS_LIMIT), torch.ones(beams)))


def measure(tracks: Tracks, state: CarState, beams: int, beam_range: float) -> Tensor:
    """[B, beams] u: how far the road goes on from the car's centre of mass along each beam, beam_range at most.

    Where the centre itself is off the road, minus the distance to the first road, and -beam_range if there is none.
    """
    rows = max(1, _AT_ONCE // (beams * tracks.max_tiles))
    parts = [
        _measure(tracks, track, pos, heading, beam_directions(beams).to(pos.device), beam_range)
        for track, pos, heading in zip(
            state.track.split(rows), state.pos.split(rows), state.heading.split(rows), strict=True
        )
    ]
    return torch.cat(parts)


def _measure(
    tracks: Tracks, track: Tensor, pos: Tensor, heading: Tensor, directions: Tensor, beam_range: float
) -> Tensor:
    enter, leave = _crossings(tracks, track, pos, _turned(directions, heading))
    enter, order = enter.sort(-1)
    leave = leave.gather(-1, order)
    first = enter[..., 0]
    # the beam is on the road up to `reach` once it has crossed the tiles so far; the road ends where no tile goes on
    reach = leave.cummax(-1).values
    after = torch.cat((enter[..., 1:], torch.full_like(enter[..., :1], math.inf)), -1)
    ends = (after > reach).to(torch.uint8).argmax(-1, keepdim=True)
    end = reach.gather(-1, ends)[..., 0]
    return torch.where(first > 0, -first.clamp(max=beam_range), end.clamp(max=beam_range))


def _turned(directions: Tensor, heading: Tensor) -> Tensor:
    """[B, beams, 2] directions in the world."""
    sin, cos = torch.sin(heading)[:, None], torch.cos(heading)[:, None]
    aside, ahead = directions[None, :, 0], directions[None, :, 1]
    return torch.stack((aside * cos - ahead * sin, aside * sin + ahead * cos), -1)


def _crossings(tracks: Tracks, track: Tensor, pos: Tensor, beam: Tensor) -> tuple[Tensor, Tensor]:
    """Where beams [B, beams, 2] enter and leave each tile: two [B, beams, N] u.

    Tiles behind the car and tiles not met are (inf, -inf); a tile that the car stands on is entered at 0.
    """
    planes, corners = tracks.planes[track], tracks.corners[track]
    real = torch.arange(tracks.max_tiles, device=pos.device) < tracks.num_tiles[track, None]
    enter, leave = torch.tensor(0.0, device=pos.device), torch.tensor(math.inf, device=pos.device)
    for k in range(4):
        normal = planes[:, :, k, :2]
        inside = (normal * (corners[:, :, k] - pos[:, None])).sum(-1)[:, None] + SKIN  # [B, 1, N]
        rate = beam @ normal.mT
        rate = torch.where(rate == 0, TINY, rate)
        at = inside / rate
        enter = torch.maximum(enter, torch.where(rate < 0, at, 0.0))
        leave = torch.minimum(leave, torch.where(rate > 0, at, math.inf))
    met = (enter <= leave) & real[:, None]
    return torch.where(met, enter, math.inf), torch.where(met, leave, -math.inf)
