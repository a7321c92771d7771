"""What a frame is worth and whether it ends the episode."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .contact import mark, touched_tiles
from .spec import ROAD, RULES
from .state import CarState, hull_origin, wheel_centres
from .track import Tracks


@dataclass(frozen=True)
class Verdict:
    """B cars after one frame."""

    reward: Tensor  # [B]
    gained: Tensor  # [B] int64, tiles paid for in this frame
    terminated: Tensor  # [B] bool: lap finished or out of the field
    truncated: Tensor  # [B] bool: time limit
    lap_finished: Tensor  # [B] bool


def touch(tracks: Tracks, state: CarState) -> tuple[CarState, Tensor]:
    """Contacts at the poses of state: road flags, tiles visited, and whether a wheel newly touches tile 0, [B] bool."""
    tiles, hit = touched_tiles(tracks, state.track, wheel_centres(state), state.heading[:, None] + state.joint)
    visited = mark(state.visited, tiles, hit)
    on_start = (hit & (tiles == 0)).any(-1)
    return replace(state, road=hit.any(-1), on_start=on_start, visited=visited, visited_count=visited.sum(-1)), (
        on_start & ~state.on_start
    ).any(-1)


def judge(tracks: Tracks, before: CarState, after: CarState, at_start: Tensor, lap_rule: str) -> Verdict:
    """Rewards and ends of the frame from before to after.

    Args:
        tracks: the roads.
        before: cars at the start of the frame.
        after: cars at its end, frames already counted.
        at_start: [B] bool, a wheel newly touched tile 0 in this frame.
        lap_rule: "all" tiles (CarRacing-v3 as released), or "percent" of them on reaching tile 0.
    """
    num_tiles = tracks.num_tiles[after.track]
    # Tiles touched during reset are paid with the first frame, as in the original.
    gained = after.visited_count - torch.where(before.frames == 0, 0, before.visited_count)
    reward = gained * (RULES.lap_reward / num_tiles) - RULES.frame_cost
    lap_finished = after.visited_count == num_tiles
    if lap_rule == "percent":
        lap_finished = lap_finished | (at_start & (after.visited_count > RULES.lap_percent * num_tiles))
    out = (hull_origin(after).abs() > ROAD.playfield).any(-1)
    return Verdict(
        reward=torch.where(out, RULES.out_of_field, reward),
        gained=gained,
        terminated=lap_finished | out,
        truncated=after.frames >= RULES.time_limit,
        lap_finished=lap_finished & ~out,
    )
