"""The instruments below the picture of CarRacing-v3: bars of speed, wheel spins, steering and turning, and the score.

Bars are upright rectangles, so the share of a pixel under one is a product of two overlaps. How the score is written is
looked up: `score.npz` holds what Gymnasium's own picture shows for every number (benchmarks/score_table.py makes it).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .paint import RAW, UNWRITTEN, Paint
from .screen import SOURCE
from .spec import RULES
from .state import CarState
from .track import Tracks
from .view import ROAD_ROWS, SIDE

UNIT, STEP = 25.0, 20.0
"""px of the original's own picture, width and height of the grid that the bars are laid out on"""
FLOOR = SOURCE[1] - STEP
"""row on which upright bars stand"""
LYING = (SOURCE[1] - 4 * STEP, SOURCE[1] - 2 * STEP)
"""rows between which the other bars lie"""
UPRIGHT = (  # place, length per unit, colour: speed and the four wheels
    (5, 0.02, (255.0, 255.0, 255.0)),
    (7, 0.01, (0.0, 0.0, 255.0)),
    (8, 0.01, (0.0, 0.0, 255.0)),
    (9, 0.01, (51.0, 0.0, 255.0)),
    (10, 0.01, (51.0, 0.0, 255.0)),
)
SIDEWAYS = (  # steering of the front left wheel and turning rate
    (20, -10.0, (0.0, 255.0, 0.0)),
    (30, -0.8, (255.0, 0.0, 0.0)),
)
WIDTHS = tuple(UNIT + (place + 1 not in (other for other, *_ in UPRIGHT)) for place, *_ in UPRIGHT)
"""px: a filled shape includes its rim, which the next bar paints over"""
LEAST = 1e-4
"""smaller values have no bar"""
SCORE_BOX = (87, 93, 0, 11)
"""px, rows and columns of the written score: first, behind the last, first, behind the last"""
LOWEST = -100
"""first number of the table of scores"""
RAW_COLUMNS = 26
"""px that seventeen characters take"""


@cache
def score_table() -> Tensor:
    """uint8 [S, rows, columns] of SCORE_BOX: every score from LOWEST to that of a lap, and behind them minus zero."""
    with np.load(Path(__file__).with_name("score.npz"), allow_pickle=False) as table:
        return torch.from_numpy(table["score"])


def indicators(tracks: Tracks, state: CarState, paint: Paint) -> Tensor:
    """Levels [B, SIDE - ROAD_ROWS, SIDE, 3] of cars [B]."""
    device = state.pos.device
    levels = torch.zeros(len(state.heading), SIDE - ROAD_ROWS, SIDE, 3, device=device)
    speed = state.velocity.norm(dim=-1)
    values = (speed, *state.spin.unbind(1), state.joint[:, 0], state.yaw_rate)
    for k, (value, (place, gain, colour)) in enumerate(zip(values, UPRIGHT + SIDEWAYS, strict=True)):
        start = torch.full_like(value, place * UNIT)
        if gain > 0:
            top, floor = torch.trunc(FLOOR - STEP * gain * value), torch.full_like(value, FLOOR)
            columns, rows = (start, start + WIDTHS[k]), (torch.minimum(top, floor), torch.maximum(top, floor) + 1)
        else:
            end = torch.trunc(start + UNIT * gain * value)
            columns = torch.minimum(start, end), torch.maximum(start, end) + 1
            rows = torch.full_like(value, LYING[0]), torch.full_like(value, LYING[1] + 1)
        cover = _overlap(*columns, SOURCE[0], 0)[:, None] * _overlap(*rows, SOURCE[1], ROAD_ROWS)[..., None]
        cover = torch.where((value.abs() > LEAST)[:, None, None], cover, 0.0)[..., None]
        levels = levels + cover * torch.tensor(colour, device=device)
    return _write(levels, shown_score(tracks, state), paint.score)


def shown_score(tracks: Tracks, state: CarState) -> Tensor:
    """[B] int64, row of score_table that shows the score before this frame is charged."""
    num_tiles = tracks.num_tiles[state.track]
    paid = RULES.lap_reward * state.visited_count / num_tiles - RULES.frame_cost * (state.frames - 1)
    score = torch.where(state.frames > 0, paid, 0.0)
    number = torch.round(score).long().clamp(LOWEST, round(RULES.lap_reward))
    return torch.where((number == 0) & (score < 0), len(score_table()) - 1, number - LOWEST)


def _overlap(first: Tensor, last: Tensor, source: int, skip: int) -> Tensor:
    """[B, SIDE - skip] share of every column or row from `skip` on that is between first and last [B] px."""
    edge = torch.arange(skip, SIDE + 1, device=first.device) * (source / SIDE)
    inside = torch.minimum(edge[1:], last[:, None]) - torch.maximum(edge[:-1], first[:, None])
    return inside.clamp(min=0) * (SIDE / source)


def _write(levels: Tensor, row: Tensor, style: Tensor) -> Tensor:
    """The score over levels [B, SIDE - ROAD_ROWS, SIDE, 3], in each car's style [B]."""
    table = score_table().to(levels.device)
    text = table[row].to(torch.float32)
    text = torch.where(text > 0, text + 1.5, 0.0)[..., None]  # the table's levels are those after truncation
    top, bottom, left, right = SCORE_BOX
    rows = slice(top - ROAD_ROWS, bottom - ROAD_ROWS)
    style = style[:, None, None, None]
    levels[:, rows, left:right] = torch.where(style == UNWRITTEN, levels[:, rows, left:right], text)
    digits = text.repeat(1, 1, 3, 1)[:, :, :RAW_COLUMNS]  # which digits they are has never meant anything
    levels[:, rows, :RAW_COLUMNS] = torch.where(style == RAW, digits, levels[:, rows, :RAW_COLUMNS])
    return levels
