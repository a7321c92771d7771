"""The picture on the fast path: what `sight.Eyes` hands over, drawn car by car, compiled by numba.

`picture.draw` and `view.process` are the reference that tests hold this equal to. A row is finished before the next is
begun: ground, road, car, the truncation of averaging down, grey.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .compiled import compiled
from .indicators import score_table
from .kernel import share_out, views
from .kernel_bars import paint_bars
from .kernel_car import Cars, F, World
from .kernel_road import DEPTH, PLANE, make_line, paint_ground, paint_road, part
from .paint import HULL, STRIPE, Paint
from .picture import RIM, STRIPE_ANGLE, TRUNCATION
from .screen import FIRST_ZOOM, LAST_ZOOM, SOURCE
from .spec import CAR, DT
from .sprite import HULL_BOX, LEVELS, hull_cover
from .state import CarState
from .track import Tracks
from .view import LUMA, ROAD_ROWS, SIDE, picture_shape, size_shares

if TYPE_CHECKING:
    from .sim import SimConfig

Array = Any

LEAST_SHARE = 2
"""pictures that make a second thread worth its wake-up"""

_ZERO, _ONE, _TWO = F(0), F(1), F(2)
_COM_Y, _HALF_WIDTH, _RADIUS = F(CAR.com_y), F(CAR.wheel_half_width), F(CAR.wheel_radius)
_LEVER_X = np.array(CAR.wheel_x, np.float32)
_LEVER_Y = np.array([y - CAR.com_y for y in CAR.wheel_y], np.float32)
_DT, _FIRST_ZOOM, _LAST_ZOOM = F(DT), F(FIRST_ZOOM), F(LAST_ZOOM)
_WIDE, _HIGH = F(SOURCE[0] / SIDE), F(SOURCE[1] / SIDE)
_KEPT, _LOST = F(TRUNCATION[0]), F(TRUNCATION[1])
_STRIPE_ANGLE, _RIM = F(STRIPE_ANGLE), F(RIM)
_STRIPE, _HULL = np.array(STRIPE, np.float32), np.array(HULL, np.float32)
_CAR_TOP, _CAR_BOTTOM, _CAR_LEFT, _CAR_RIGHT = HULL_BOX
_CAR_BLOCK = 44
"""first of the eight columns that car and wheels lie in"""
_LEVELS, _ROWS, _SIDE, _ALL = LEVELS, ROAD_ROWS, SIDE, SIDE * SIDE
_PLANE, _DEPTH = PLANE, DEPTH
_RED, _GREEN, _BLUE = (F(weight) for weight in LUMA)
_WEIGHTS, _ROUND = F(sum(LUMA)), F(sum(LUMA) / 2)


class Colours(NamedTuple):
    """paint.Paint as numpy views."""

    road: Array
    grass: Array
    patch: Array
    score: Array


class Work(NamedTuple):
    """Memory that one thread draws in."""

    layers: Array  # [4 · PLANE] see kernel_road; clean between pictures
    levels: Array  # [3 · DEPTH] see kernel_road
    colours: Array  # [9] road, grass, patch
    wheels: Array  # [4, 6, 6] lines of each wheel: left, right, back, front, and the ends of its stripe
    picture: Array  # [SIDE * SIDE * 3] uint8, before it is made smaller
    line: Array  # [SIDE * 3] a row of it, with the ones beside it averaged in
    small: Array  # [SIDE * SIDE * 3] uint8, before it is stacked


class Frame(NamedTuple):
    """How pictures are handed over."""

    rows: int  # of the picture before it is made smaller: all, or without indicators
    grey: bool
    size: tuple[int, int]  # rows and columns handed over
    stack: int
    row_first: Array  # [rows] of the larger picture's rows, the first that counts
    row_share: Array  # [rows, K] and how much each of the next ones counts
    column_first: Array
    column_share: Array
    hull: Array  # sprite.hull_cover
    score: Array  # indicators.score_table


@compiled(rounds=False)
def _view(i: int, cars: Cars) -> tuple:
    """screen.camera of car i: (x, y, across x, across y, width, height)."""
    seconds = min(_DT * F(cars.frames[i] + 1), _ONE)
    scale = _FIRST_ZOOM * (_ONE - seconds) + _LAST_ZOOM * seconds
    cos, sin = np.cos(cars.heading[i]), np.sin(cars.heading[i])
    x, y = cars.pos[i, 0] + _COM_Y * sin, cars.pos[i, 1] - _COM_Y * cos
    return x, y, cos, sin, _WIDE / scale, _HIGH / scale


@compiled(rounds=False)
def _keep(line: tuple, lines: Array, wheel: int, k: int) -> None:
    for number in range(6):
        lines[wheel, k, number] = line[number]


@compiled(rounds=False)
def _wheel_lines(i: int, cars: Cars, view: tuple, lines: Array) -> None:
    """picture.car: the sides of the wheels of car i, and of their stripes."""
    cos, sin = np.cos(cars.heading[i]), np.sin(cars.heading[i])
    rim = _RIM * view[4]
    half_width = _HALF_WIDTH + rim
    for wheel in range(4):
        x = cars.pos[i, 0] + _LEVER_X[wheel] * cos - _LEVER_Y[wheel] * sin
        y = cars.pos[i, 1] + _LEVER_X[wheel] * sin + _LEVER_Y[wheel] * cos
        angle = cars.heading[i] + cars.joint[i, wheel]
        c, s = np.cos(angle), np.sin(angle)
        first, second = cars.phase[i, wheel], cars.phase[i, wheel] + _STRIPE_ANGLE
        one, two = np.cos(first), np.cos(second)
        one = np.sign(one) if np.sin(first) > _ZERO else one
        two = np.sign(two) if np.sin(second) > _ZERO else two
        low, high = min(one, two), max(one, two)
        if (np.sin(first) > _ZERO and np.sin(second) > _ZERO) or low == high:
            high, low = -_TWO, _TWO  # out of sight
        _keep(make_line(view, (x - half_width * c, y - half_width * s), (c, s)), lines, wheel, 0)
        _keep(make_line(view, (x + half_width * c, y + half_width * s), (-c, -s)), lines, wheel, 1)
        for k, reach, way in ((2, -_ONE, _ONE), (3, _ONE, -_ONE), (4, low, _ONE), (5, high, -_ONE)):
            far = _RADIUS * reach - way * rim
            place = (x - far * s, y + far * c)
            _keep(make_line(view, place, (-s * way, c * way)), lines, wheel, k)


@compiled(rounds=False)
def _line_part(lines: Array, wheel: int, k: int, row: int, column: int) -> float:
    f = lines[wheel, k, 0] + lines[wheel, k, 1] * F(column) + lines[wheel, k, 2] * F(row)
    return part(f, lines[wheel, k, 3], lines[wheel, k, 4], lines[wheel, k, 5])


@compiled(rounds=False)
def _paint_car(row: int, frames: int, lines: Array, hull: Array, levels: Array) -> None:
    """picture.car over a row of levels."""
    for wheel in range(4):
        spot = levels[_CAR_BLOCK:]
        for k in range(8):
            column = _CAR_BLOCK + k
            wide = _line_part(lines, wheel, 0, row, column) + _line_part(lines, wheel, 1, row, column) - _ONE
            long = _line_part(lines, wheel, 2, row, column) + _line_part(lines, wheel, 3, row, column) - _ONE
            mark = _line_part(lines, wheel, 4, row, column) + _line_part(lines, wheel, 5, row, column) - _ONE
            wide = max(wide, _ZERO)
            tyre, mark = wide * max(long, _ZERO), wide * max(mark, _ZERO)
            for channel in range(3):
                at = channel * _DEPTH + k
                spot[at] = spot[at] * (_ONE - tyre) + mark * _STRIPE[channel]
    zoom = min(frames, _LEVELS - 1)
    for column in range(_CAR_LEFT, _CAR_RIGHT):
        cover = hull[zoom, row - _CAR_TOP, column - _CAR_LEFT]
        for channel in range(3):
            at = channel * _DEPTH + column
            levels[at] += cover * (_HULL[channel] - levels[at])


@compiled(rounds=False)
def _lay_road(row: int, layers: Array, levels: Array) -> None:
    """The end of picture.road for a row of levels; layers are clean behind it."""
    spot = layers[row * _SIDE :]
    for k in range(_SIDE):
        total = spot[k]
        under, scale = max(_ONE - total, _ZERO), _ONE / max(total, _ONE)
        spot[k] = _ZERO
        for channel in range(3):
            over = spot[(channel + 1) * _PLANE + k] * scale
            levels[channel * _DEPTH + k] = levels[channel * _DEPTH + k] * under + over
            spot[(channel + 1) * _PLANE + k] = _ZERO


@compiled(rounds=False)
def _averaged(level: float) -> float:
    """A level after averaging down, a whole number."""
    return np.floor(max(level * _KEPT - _LOST, _ZERO))


@compiled(rounds=False)
def _put(levels: Array, count: int, grey: bool, out: Array) -> None:
    """Writes `count` pixels of levels to the beginning of out; `grey` as view.grey."""
    if grey:
        for k in range(count):
            red, green, blue = _averaged(levels[k]), _averaged(levels[_DEPTH + k]), _averaged(levels[2 * _DEPTH + k])
            out[k] = np.int32((_RED * red + _GREEN * green + _BLUE * blue + _ROUND) / _WEIGHTS)
    else:
        for k in range(count):
            for channel in range(3):
                out[3 * k + channel] = np.int32(_averaged(levels[channel * _DEPTH + k]))


@compiled(rounds=False)
def _draw(i: int, world: World, cars: Cars, paint: Colours, work: Work, frame: Frame, out: Array) -> None:
    """picture.draw of car i, grey if wanted, into out, flat."""
    view = _view(i, cars)
    for k in range(3):
        work.colours[k] = paint.road[i, k]
        work.colours[3 + k] = np.floor(paint.grass[i, k])
        work.colours[6 + k] = np.floor(paint.patch[i, k])
    paint_road(cars.track[i], i, world, cars.visited, view, work.colours, work.layers)
    _wheel_lines(i, cars, view, work.wheels)
    channels = 1 if frame.grey else 3
    for row in range(_ROWS):
        paint_ground(row, view, work.colours, work.levels)
        _lay_road(row, work.layers, work.levels)
        if _CAR_TOP <= row < _CAR_BOTTOM:
            _paint_car(row, cars.frames[i], work.wheels, frame.hull, work.levels)
        _put(work.levels, _SIDE, frame.grey, out[row * _SIDE * channels :])
    if frame.rows > _ROWS:
        paint_bars(i, world, cars, paint.score[i], frame.score, work.levels)
        _put(work.levels, _DEPTH, frame.grey, out[_ROWS * _SIDE * channels :])


@compiled(rounds=False)
def _shrink(frame: Frame, work: Work, out: Array, channels: int) -> None:
    """view.shrink of work.picture into out, flat."""
    rows, columns = frame.size
    width = _SIDE * channels
    line = work.line[:width]
    for row in range(rows):
        line[:] = _ZERO
        for k in range(frame.row_share.shape[1]):
            share = frame.row_share[row, k]
            above = work.picture[(frame.row_first[row] + k) * width :]
            for place in range(width):
                line[place] += share * F(above[place])
        small = out[row * columns * channels :]
        for column in range(columns):
            beside = line[frame.column_first[column] * channels :]
            for channel in range(channels):
                total = F(0.5)
                for k in range(frame.column_share.shape[1]):
                    total += frame.column_share[column, k] * beside[k * channels + channel]
                small[column * channels + channel] = np.int32(total)


@compiled()
def _stack(picture: Array, before: Array, out: Array, channels: int, stack: int, fresh: bool) -> None:
    """view.push of a picture behind a stack, or view.fill where fresh, into out; all flat."""
    depth, size = channels * stack, len(out)
    if not fresh:
        later = before[channels:]
        for k in range(len(later)):
            out[k] = later[k]
    for copy in range(0 if fresh else stack - 1, stack):
        for channel in range(channels):
            newest, shown = out[copy * channels + channel :: depth], picture[channel::channels]
            for pixel in range(size // depth):
                newest[pixel] = shown[pixel]


@compiled()
def _see(
    lo: int, hi: int, work: Work, lanes: Array, tables: tuple, frame: Frame, before: Array, out: Array, fresh: bool
) -> None:
    """What lanes lo to hi of the list see, into out; tables = (world, cars, paint)."""
    world, cars, paint = tables
    channels = 1 if frame.grey else 3
    whole = frame.size[0] == frame.rows and frame.size[1] == _SIDE
    for k in range(lo, hi):
        i = lanes[k]
        alone = frame.stack == 1
        drawn, small = work.picture, work.small
        if whole:
            drawn = out[i] if alone else small
        elif alone:
            small = out[i]
        _draw(i, world, cars, paint, work, frame, drawn)
        if not whole:
            _shrink(frame, work, small, channels)
        if not alone:
            _stack(small, before[i], out[i], channels, frame.stack, fresh)


@cache
def _memory(parts: int) -> list[Work]:
    """What each of so many threads draws in."""
    real, whole = np.float32, SIDE * SIDE * 3
    return [
        Work(
            np.zeros(4 * PLANE, real),
            np.zeros(3 * DEPTH, real),
            np.zeros(9, real),
            np.zeros((4, 6, 6), real),
            np.zeros(whole, np.uint8),
            np.zeros(SIDE * 3, real),
            np.zeros(whole, np.uint8),
        )
        for _ in range(parts)
    ]


def make_frame(config: SimConfig) -> Frame:
    """How a config wants its pictures."""
    rows, columns, _ = picture_shape(config)
    high = ROAD_ROWS if config.crop else SIDE
    scales = *_taps(high, rows), *_taps(SIDE, columns)
    tables = hull_cover().numpy(), score_table().numpy()
    return Frame(high, config.picture == "grey", (rows, columns), config.frame_stack, *scales, *tables)


def _taps(there: int, here: int) -> tuple[Array, Array]:
    """view.size_shares without its zeros: the first old pixel of every new one, and the shares of the next ones."""
    full = size_shares(there, here).numpy()
    wide = int((full > 0).sum(1).max())
    first = np.minimum((full > 0).argmax(1), there - wide)
    return first, np.stack([row[at : at + wide] for row, at in zip(full, first, strict=True)])


def see(
    tracks: Tracks, state: CarState, paint: Paint, frame: Frame, lanes: Tensor, before: Tensor | None, out: Tensor
) -> None:
    """Pictures of the lanes [K] int64, written into their rows of out uint8 [B, H, W, C·k].

    Args:
        tracks, state, paint: of all B cars, contiguous, on the CPU.
        frame: see make_frame.
        lanes: which cars.
        before: what they saw before, as out; None where they see for the first time.
        out: where to write; other rows stay as they are.
    """
    tables = views(tracks, World), views(state, Cars), views(paint, Colours)
    flat = out.view(len(out), -1).numpy()
    earlier = flat if before is None else before.view(len(out), -1).numpy()
    args = lanes.numpy(), tables, frame, earlier, flat, before is None
    share_out(_see, len(lanes), args, own=_memory(torch.get_num_threads()), least=LEAST_SHARE)
