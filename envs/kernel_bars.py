"""The indicators of one picture on the fast path: `indicators.indicators` in scalar float32 for numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .compiled import compiled
from .indicators import FLOOR, LEAST, LOWEST, LYING, RAW_COLUMNS, SCORE_BOX, SIDEWAYS, STEP, UNIT, UPRIGHT, WIDTHS
from .kernel_car import Cars, F, World
from .kernel_road import DEPTH
from .paint import RAW, UNWRITTEN
from .screen import SOURCE
from .spec import RULES
from .view import ROAD_ROWS, SIDE

Array = Any

_ZERO, _ONE, _TALLER = F(0), F(1), F(1.5)
_PLACE = np.array([place * UNIT for place, *_ in UPRIGHT + SIDEWAYS], np.float32)
_LENGTH = np.array(
    [STEP * gain for _, gain, _ in UPRIGHT] + [UNIT * gain for _, gain, _ in SIDEWAYS],
    np.float32,
)
_WIDTH = np.array(WIDTHS, np.float32)
_COLOUR = np.array([colour for *_, colour in UPRIGHT + SIDEWAYS], np.float32)
_UPRIGHTS, _BARS = len(UPRIGHT), len(UPRIGHT + SIDEWAYS)
_FLOOR, _LEAST, _LYING_TOP, _LYING_BOTTOM = F(FLOOR), F(LEAST), F(LYING[0]), F(LYING[1])
_WIDE, _HIGH = F(SOURCE[0] / SIDE), F(SOURCE[1] / SIDE)
_FIRST_ROW, _ROWS, _SIDE, _DEPTH, _TEXT_COLUMNS = ROAD_ROWS, SIDE - ROAD_ROWS, SIDE, DEPTH, RAW_COLUMNS
_BOX_TOP, _BOX_BOTTOM, _BOX_WIDTH = SCORE_BOX[0] - ROAD_ROWS, SCORE_BOX[1] - ROAD_ROWS, SCORE_BOX[3]
_PER_LAP, _PER_FRAME, _LOWEST, _HIGHEST = RULES.lap_reward, RULES.frame_cost, LOWEST, round(RULES.lap_reward)


@compiled(rounds=False)
def paint_bars(i: int, world: World, cars: Cars, style: int, table: Array, levels: Array) -> None:
    """indicators.indicators of car i, into levels."""
    levels[:] = _ZERO
    for bar in range(_BARS):
        if bar == 0:
            vx, vy = cars.velocity[i, 0], cars.velocity[i, 1]
            value = np.sqrt(vx * vx + vy * vy)
        elif bar < _UPRIGHTS:
            value = cars.spin[i, bar - 1]
        elif bar == _UPRIGHTS:
            value = cars.joint[i, 0]
        else:
            value = cars.yaw_rate[i]
        if abs(value) > _LEAST:
            _paint_bar(bar, value, levels)
    _write(_score_row(i, world, cars, len(table)), style, table, levels)


@compiled(rounds=False)
def _paint_bar(bar: int, value: float, levels: Array) -> None:
    start = _PLACE[bar]
    left, right, top, bottom = start, start, _LYING_TOP, _LYING_BOTTOM
    if bar < _UPRIGHTS:
        right = start + _WIDTH[bar]
        end = F(math.trunc(_FLOOR - _LENGTH[bar] * value))
        top, bottom = min(end, _FLOOR), max(end, _FLOOR)
    else:
        end = F(math.trunc(start + _LENGTH[bar] * value))
        left, right = min(end, start), max(end, start) + _ONE
    bottom += _ONE
    first = min(max(int(left / _WIDE), 0), _SIDE)
    last = min(max(int(right / _WIDE) + 1, 0), _SIDE)
    for row in range(_ROWS):
        edge = F(row + _FIRST_ROW) * _HIGH
        high = (min(edge + _HIGH, bottom) - max(edge, top)) / _HIGH
        if high <= _ZERO:
            continue
        for column in range(first, last):
            edge = F(column) * _WIDE
            wide = (min(edge + _WIDE, right) - max(edge, left)) / _WIDE
            cover = max(wide, _ZERO) * high
            for channel in range(3):
                pixel = channel * _DEPTH + row * _SIDE + column
                levels[pixel] += cover * _COLOUR[bar, channel]


@compiled()
def _score_row(i: int, world: World, cars: Cars, rows: int) -> int:
    """indicators.shown_score of car i."""
    score = 0.0
    if cars.frames[i] > 0:
        num_tiles = world.num_tiles[cars.track[i]]
        score = _PER_LAP * cars.visited_count[i] / num_tiles - _PER_FRAME * (cars.frames[i] - 1)
    number = min(max(int(round(score)), _LOWEST), _HIGHEST)
    return rows - 1 if number == 0 and score < 0.0 else number - _LOWEST


@compiled(rounds=False)
def _write(number: int, style: int, table: Array, levels: Array) -> None:
    """indicators._write of one car."""
    if style == UNWRITTEN:
        return
    columns = _TEXT_COLUMNS if style == RAW else _BOX_WIDTH
    for row in range(_BOX_TOP, _BOX_BOTTOM):
        for column in range(columns):
            level = F(table[number, row - _BOX_TOP, column % _BOX_WIDTH])
            for channel in range(3):
                levels[channel * _DEPTH + row * _SIDE + column] = level + _TALLER if level > _ZERO else _ZERO
