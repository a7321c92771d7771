"""Road and grass of one picture on the fast path: `picture.ground` and `picture.road` in scalar float32 for numba.

A tile is painted over the few pixels that it covers, eight columns at a time, because so many fit into one
instruction of the processor. `layers` [4 · PLANE] holds the share of each pixel under road and kerbs, and their red,
green and blue, `levels` [3 · DEPTH] the red, green and blue of a row. The compiler only finds its way to such
instructions where indices cannot be negative and arrays cannot overlap: hence flat arrays with fixed distances.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiled import compiled
from .kernel_car import F, World
from .paint import KERB, SHADE
from .picture import PATCH_SIDE, TILE_REACH
from .screen import CAR_AT, FLATTEST
from .spec import ROAD
from .view import ROAD_ROWS, SIDE

Array = Any
BLOCK = 8
"""columns painted at once"""
PLANE = ROAD_ROWS * SIDE
"""from one part of `layers` to the next"""
DEPTH = (SIDE - ROAD_ROWS) * SIDE
"""from one channel of `levels` to the next: room for a row, or for all rows of indicators"""

_ZERO, _ONE, _HALF, _QUARTER, _TWO = F(0), F(1), F(0.5), F(0.25), F(2)
_FLATTEST, _SPARE = F(FLATTEST), F(1.5)
_LEFT, _TOP = F(CAR_AT[0] - 0.5), F(CAR_AT[1] - 0.5)
_HALF_WIDTH, _RIM = F(ROAD.half_width), F(ROAD.half_width + ROAD.kerb_width)
_PLAYFIELD, _PATCH, _TILE_REACH = F(ROAD.playfield), F(PATCH_SIDE), F(TILE_REACH)
_SHADES = np.array([0.0, SHADE, 2 * SHADE], np.float32)
_KERB = np.array(KERB, np.float32)
_ROWS, _SIDE, _BLOCKS = ROAD_ROWS, SIDE, SIDE // BLOCK
_LAST_ROW, _LAST_COLUMN = F(ROAD_ROWS), F(SIDE)
_PLANE, _GREEN, _BLUE = PLANE, DEPTH, 2 * DEPTH
_TINY, _FAR = F(1e-6), F(1e9)


@compiled(rounds=False)
def make_line(view: tuple, point: tuple, normal: tuple) -> tuple:
    """screen.line, with what screen.share needs of its slopes: (at, right, down, far, near, gain).

    view = (x, y, across x, across y, width, height) of the camera; `at` is the distance in the middle of pixel (0, 0).
    """
    x, y, ax, ay, width, height = view
    px, py = point
    nx, ny = normal
    right = (nx * ax + ny * ay) * width
    down = (nx * ay - ny * ax) * height
    at = nx * (x - px) + ny * (y - py) - right * _LEFT - down * _TOP
    a, b = abs(right), abs(down)
    steep = max(a, b) * _FLATTEST
    a, b = max(a, steep), max(b, steep)
    return at, right, down, (a + b) * _HALF, (a - b) * _HALF, _HALF / (a * b)


@compiled(rounds=False)
def part(f: float, far: float, near: float, gain: float) -> float:
    """screen.share of a pixel whose middle is f beyond the line."""
    f = min(max(f, -far), far)
    p, q, r = f + far, max(f + near, _ZERO), max(f - near, _ZERO)
    return (p * p - q * q - r * r) * gain


@compiled(rounds=False)
def _narrow(first: float, last: float, f: float, right: float, far: float) -> tuple:
    """The columns from first to last, without those where f + column x right is below -far."""
    edge = (-far - f) / (right if abs(right) > _TINY else _TINY)
    if right > _TINY:
        return max(first, edge), last
    if right < -_TINY:
        return first, min(last, edge)
    return (first, last) if f > -far else (_LAST_COLUMN, -_ONE)


@compiled(rounds=False)
def paint_ground(row: int, view: tuple, colours: Array, levels: Array) -> None:
    """picture.ground of a row, into levels; colours [9] = road, grass, patch, whole numbers."""
    x, y, ax, ay, width, height = view
    below = F(row) - _TOP
    stride_x, stride_y = ax * width, ay * width
    down_x, down_y = ay * height, -ax * height
    x += down_x * below - stride_x * _LEFT
    y += down_y * below - stride_y * _LEFT
    far_x, near_x, gain_x = slopes(stride_x, down_x)
    far_y, near_y, gain_y = slopes(stride_y, down_y)
    period = _TWO * _PATCH
    red, green, blue = colours[3], colours[4], colours[5]
    more_red, more_green, more_blue = colours[6] - red, colours[7] - green, colours[8] - blue
    for column in range(_SIDE):
        px, py = x + stride_x * F(column), y + stride_y * F(column)
        sx = px - period * np.floor(px / period + _QUARTER)
        sy = py - period * np.floor(py / period + _QUARTER)
        lighter = part(_PATCH * _HALF - abs(sx - _PATCH * _HALF), far_x, near_x, gain_x)
        lighter *= part(_PATCH * _HALF - abs(sy - _PATCH * _HALF), far_y, near_y, gain_y)
        field = part(_PLAYFIELD - abs(px), far_x, near_x, gain_x)
        field *= part(_PLAYFIELD - abs(py), far_y, near_y, gain_y)
        levels[column] = (red + lighter * more_red) * field
        levels[column + _GREEN] = (green + lighter * more_green) * field
        levels[column + _BLUE] = (blue + lighter * more_blue) * field


@compiled(rounds=False)
def slopes(right: float, down: float) -> tuple:
    """What `part` needs of a distance that grows by right a column and by down a row."""
    a, b = abs(right), abs(down)
    steep = max(a, b) * _FLATTEST
    a, b = max(a, steep), max(b, steep)
    return (a + b) * _HALF, (a - b) * _HALF, _HALF / (a * b)


@compiled(rounds=False)
def paint_road(track: int, i: int, world: World, visited: Array, view: tuple, colours: Array, layers: Array) -> None:
    """picture.road of a car, into layers."""
    x, y, ax, ay, width, height = view
    n = world.num_tiles[track]
    margin_x, margin_y = _TILE_REACH / width + _ONE, _TILE_REACH / height + _ONE
    for tile in range(n):
        dx, dy = world.centre[track, tile, 0] - x, world.centre[track, tile, 1] - y
        across = (dx * ax + dy * ay) / width
        if abs(across) >= _LEFT + _HALF + margin_x:
            continue
        down = (dx * ay - dy * ax) / height
        if down <= -_TOP - _HALF - margin_y or down >= _LAST_ROW - _TOP - _HALF + margin_y:
            continue
        shade = _ZERO if visited[i, tile] else _SHADES[tile % 3]
        _paint_tile(track, tile, tile - 1 if tile > 0 else n - 1, world, view, colours, shade, layers)


@compiled(rounds=False)
def _paint_tile(
    track: int, tile: int, before: int, world: World, view: tuple, colours: Array, shade: float, layers: Array
) -> None:
    """picture.tile_shares of a tile, added to layers in its colours; kerbs are painted along with their tile."""
    start = _rib(track, before, world)
    stop = _rib(track, tile, world)
    begin = make_line(view, (start[0], start[1]), (-start[3], start[2]))
    end = make_line(view, (stop[0], stop[1]), (stop[3], -stop[2]))
    left, right = _side(view, start, stop, -_HALF_WIDTH), _side(view, start, stop, _HALF_WIDTH)
    kerb_side = _ZERO
    if world.kerb[track, tile]:
        kerb_side = np.sign(world.beta[track, before] - world.beta[track, tile])
    rim = _side(view, start, stop, kerb_side * _RIM)
    beside = _turned(left if kerb_side < _ZERO else right)
    low_left = rim if kerb_side < _ZERO else left
    low_right = rim if kerb_side > _ZERO else right
    painted = (F(math.trunc(colours[0] + shade)), F(math.trunc(colours[1] + shade)), F(math.trunc(colours[2] + shade)))
    kerb = (_KERB[tile % 2, 0], _KERB[tile % 2, 1], _KERB[tile % 2, 2])
    first_row, last_row = _row_range(view, start, stop)
    for row in range(first_row, last_row):
        down = F(row)
        first, last = _narrow(_ZERO, _LAST_COLUMN, begin[0] + begin[2] * down, begin[1], begin[3])
        first, last = _narrow(first, last, end[0] + end[2] * down, end[1], end[3])
        first, last = _narrow(first, last, low_left[0] + low_left[2] * down, low_left[1], low_left[3])
        first, last = _narrow(first, last, low_right[0] + low_right[2] * down, low_right[1], low_right[3])
        if first > last:
            continue
        blocks = int(first) // BLOCK, min(int(last) // BLOCK + 1, _BLOCKS)
        _paint_blocks(row, blocks, (begin, end, left, right), painted, layers)
        if kerb_side != _ZERO:
            _paint_blocks(row, blocks, (begin, end, beside, rim), kerb, layers)


@compiled(rounds=False)
def _rib(track: int, point: int, world: World) -> tuple:
    """(x, y, normal x, normal y) of a centre point."""
    centre, normal = world.centre, world.normal
    return centre[track, point, 0], centre[track, point, 1], normal[track, point, 0], normal[track, point, 1]


@compiled(rounds=False)
def _side(view: tuple, start: tuple, stop: tuple, offset: float) -> tuple:
    """The road's rim at an offset to the right, between two points (x, y, normal x, normal y); inside is positive."""
    ax, ay = start[0] + offset * start[2], start[1] + offset * start[3]
    bx, by = stop[0] + offset * stop[2], stop[1] + offset * stop[3]
    dx, dy = bx - ax, by - ay
    scale = (_ONE if offset > _ZERO else -_ONE) / max(np.sqrt(dx * dx + dy * dy), _TINY)
    return make_line(view, (ax, ay), (-dy * scale, dx * scale))


@compiled(rounds=False)
def _row_range(view: tuple, start: tuple, stop: tuple) -> tuple:
    """Rows that a tile and its kerb may reach: the first, and that behind the last."""
    x, y, ax, ay, _, height = view
    low, high = _FAR, -_FAR  # an infinity would break the promise that all numbers are finite
    for end in (start, stop):
        for offset in (-_RIM, _RIM):
            dx, dy = end[0] + offset * end[2] - x, end[1] + offset * end[3] - y
            down = (dx * ay - dy * ax) / height
            low, high = min(low, down), max(high, down)
    first = min(max(low + _TOP - _SPARE, _ZERO), _LAST_ROW)
    last = min(max(high + _TOP + _SPARE + _ONE, _ZERO), _LAST_ROW)
    return int(first), int(last)


@compiled(rounds=False)
def _turned(line: tuple) -> tuple:
    """The same line with its other side positive."""
    at, right, down, far, near, gain = line
    return -at, -right, -down, far, near, gain


@compiled(rounds=False)
def _paint_blocks(row: int, blocks: tuple, lines: tuple, colour: tuple, layers: Array) -> None:
    """Adds a quadrangle, given by two pairs of opposite sides, to the blocks of a row."""
    begin, end, left, right = lines
    red, green, blue = colour
    down = F(row)
    f0, f1 = begin[0] + begin[2] * down, end[0] + end[2] * down
    f2, f3 = left[0] + left[2] * down, right[0] + right[2] * down
    for block in range(blocks[0], blocks[1]):
        spot = layers[row * _SIDE + block * BLOCK :]
        column = F(block * BLOCK)
        for k in range(BLOCK):
            c = column + F(k)
            along = part(f0 + begin[1] * c, begin[3], begin[4], begin[5])
            along += part(f1 + end[1] * c, end[3], end[4], end[5]) - _ONE
            wide = part(f2 + left[1] * c, left[3], left[4], left[5])
            wide += part(f3 + right[1] * c, right[3], right[4], right[5]) - _ONE
            cover = max(along, _ZERO) * max(wide, _ZERO)
            spot[k] += cover
            spot[k + _PLANE] += cover * red
            spot[k + 2 * _PLANE] += cover * green
            spot[k + 3 * _PLANE] += cover * blue
