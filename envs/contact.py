"""Which road tiles a wheel touches: separating axes on the tiles that its cell of the look-up grid lists.

The list of a cell holds every tile within a wheel's reach of the cell, so no tile is missed wherever a car goes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .spec import CAR
from .state import forward, right
from .track import Tracks, cell_index


def touched_tiles(tracks: Tracks, track: Tensor, centre: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Tiles that may be touched, [B, 4, K] int64 (-1 fills up), and whether they are, [B, 4, K] bool.

    A wheel touches a tile when no axis of either keeps them more than two polygon skins of Box2D apart.

    Args:
        tracks: the roads.
        track: [B] int64, row of tracks.
        centre: [B, 4, 2] u, wheel centres.
        angle: [B, 4] rad, wheel angles in the world.
    """
    column, row = cell_index(centre[..., 0]), cell_index(centre[..., 1])
    listed = tracks.cell[track[:, None], row, column].long()
    tiles = tracks.cell_tiles[track[:, None], listed].long()
    shape = track[:, None, None], tiles.clamp(min=0)
    return tiles, (tiles >= 0) & ~_apart(tracks.corners[shape], tracks.planes[shape], centre, angle)


def _apart(corners: Tensor, planes: Tensor, centre: Tensor, angle: Tensor) -> Tensor:
    """[B, 4, K] bool for tiles [B, 4, K, 4, …] against wheels [B, 4]."""
    along, across = forward(angle)[:, :, None, None], right(angle)[:, :, None, None]
    normal, middle = planes[..., :2], centre[:, :, None, None]
    extent = CAR.wheel_half_width * (normal * across).sum(-1).abs() + CAR.wheel_radius * (normal * along).sum(-1).abs()
    gap = ((normal * middle).sum(-1) - planes[..., 2] - extent).amax(-1)
    offset = corners - middle
    for axis, half in ((along, CAR.wheel_radius), (across, CAR.wheel_half_width)):
        reach = (offset * axis).sum(-1)
        gap = torch.maximum(gap, torch.maximum(reach.amin(-1), -reach.amax(-1)) - half)
    return gap > CAR.contact_margin


def mark(visited: Tensor, tiles: Tensor, hit: Tensor) -> Tensor:
    """visited [B, N] with the tiles [B, 4, K] that are hit added; nothing is changed in place."""
    size = visited.shape[1]
    spare = torch.cat((visited, visited.new_zeros(len(visited), 1)), 1)
    index = torch.where(hit, tiles, size).flatten(1)
    return spare.scatter(1, index, torch.ones_like(index, dtype=torch.bool))[:, :size]
