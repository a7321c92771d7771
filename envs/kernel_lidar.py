"""The observation `lidar` on the fast path, compiled by numba.

`lidar.measure` cuts every beam with every tile; here a beam hops from tile to tile by the look-up grid. Tests hold the
two equal.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from .compiled import compiled
from .kernel import share_out
from .kernel_car import Array, Cars, F, World, observe_car
from .kernel_car import _cell_of as cell_of
from .lidar import MOTION_INDEX, SKIN, TINY
from .observe import OBS_SIZE
from .spec import ROAD

_ZERO, _ONE, _SKIN, _TINY, _FAR = F(0), F(1), F(SKIN), F(TINY), F(np.inf)
_MOTION = np.array(MOTION_INDEX, np.int64)
_TILE = F(2 * math.hypot(2 * ROAD.half_width, ROAD.step))
"""u, more than any two places of a tile are apart"""


@compiled()
def _cross(world: World, row: int, tile: int, origin: tuple, beam: tuple) -> tuple:
    """lidar._crossings of one tile and one beam: (enter, leave) u, not met where enter > leave."""
    enter, leave = _ZERO, _FAR
    for k in range(4):
        nx, ny = world.planes[row, tile, k, 0], world.planes[row, tile, k, 1]
        dx, dy = world.corners[row, tile, k, 0] - origin[0], world.corners[row, tile, k, 1] - origin[1]
        inside = nx * dx + ny * dy + _SKIN
        rate = nx * beam[0] + ny * beam[1]
        if rate == _ZERO:
            rate = _TINY
        at = inside / rate
        if rate < _ZERO:
            enter = max(enter, at)
        else:
            leave = min(leave, at)
    return enter, leave


@compiled()
def _on_tile(world: World, row: int, origin: tuple) -> bool:
    """Whether a place (x, y) is on the road."""
    listed = world.cell[row, cell_of(origin[1]), cell_of(origin[0])]
    for slot in range(world.cell_tiles.shape[2]):
        tile = world.cell_tiles[row, listed, slot]
        if tile < 0:
            return False
        enter, leave = _cross(world, row, tile, origin, (_ONE, _ZERO))
        if enter <= _ZERO and leave >= _ZERO:
            return True
    return False


@compiled()
def _along(world: World, row: int, origin: tuple, beam: tuple, limit: float) -> float:
    """u, how far the road goes on along a beam that begins on it, limit at most."""
    reach, before = _ZERO, -_ONE
    while before < reach < limit:
        before = reach
        x, y = origin[0] + reach * beam[0], origin[1] + reach * beam[1]
        listed = world.cell[row, cell_of(y), cell_of(x)]
        for slot in range(world.cell_tiles.shape[2]):
            tile = world.cell_tiles[row, listed, slot]
            if tile < 0:
                break
            enter, leave = _cross(world, row, tile, origin, beam)
            if enter <= reach:
                reach = max(reach, leave)
    return min(reach, limit)


@compiled()
def _turned(direction: Array, turn: tuple) -> tuple:
    """A direction of the car's frame in the world; turn = (sine, cosine) of the heading."""
    sin, cos = turn
    return direction[0] * cos - direction[1] * sin, direction[0] * sin + direction[1] * cos


@compiled()
def _search(world: World, row: int, origin: tuple, turn: tuple, directions: Array, limit: float, out: Array) -> None:
    """Writes for every beam from a place off the road minus the distance to the first road, u; -limit if none."""
    for k in range(len(directions)):
        out[k] = -limit
    near = limit + _TILE
    for tile in range(world.num_tiles[row]):
        dx, dy = world.corners[row, tile, 0, 0] - origin[0], world.corners[row, tile, 0, 1] - origin[1]
        if dx * dx + dy * dy > near * near:
            continue
        for k in range(len(directions)):
            enter, leave = _cross(world, row, tile, origin, _turned(directions[k], turn))
            if enter <= leave:
                out[k] = max(out[k], -enter)


@compiled()
def _observe(lo: int, hi: int, state: Array, world: World, cars: Cars, wanted: tuple, out: Array) -> None:
    """lidar.observe of cars lo to hi; state [OBS_SIZE] is room to work in, wanted = (directions, beam_range, which)."""
    directions, limit, which = wanted
    motion = len(_MOTION)
    for i in range(lo, hi):
        if not which[i]:
            continue
        observe_car(i, world, cars, state)
        for k in range(motion):
            out[i, k] = state[_MOTION[k]]
        row, origin = cars.track[i], (cars.pos[i, 0], cars.pos[i, 1])
        turn = (F(math.sin(cars.heading[i])), F(math.cos(cars.heading[i])))
        beams = out[i, motion:]
        if _on_tile(world, row, origin):
            for k in range(len(directions)):
                beams[k] = _along(world, row, origin, _turned(directions[k], turn), limit)
        else:
            _search(world, row, origin, turn, directions, limit, beams)
        for k in range(len(directions)):
            beams[k] = beams[k] / limit


def observe(world: World, cars: Cars, directions: Array, beam_range: float, which: Array, out: Array) -> None:
    """Writes the observations of the cars which [B] bool into out [B, MOTION_SIZE + beams].

    Args:
        world, cars: kernel.views of tracks and cars.
        directions: lidar.beam_directions as an array [beams, 2].
        beam_range: u.
        which: cars to look at; the other rows of out stay as they are.
        out: float32.
    """
    rooms = [np.empty(OBS_SIZE, np.float32) for _ in range(torch.get_num_threads())]
    share_out(_observe, len(out), (world, cars, (directions, F(beam_range), which), out), rooms)
