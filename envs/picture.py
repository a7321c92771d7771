"""The picture of CarRacing-v3 [B, 96, 96, 3], in plain torch: the reference that `kernel_picture.py` is held equal to.

The original paints 1,000 by 800 pixels and averages them down to 96 by 96. Here each of the 96 by 96 is computed at
once from the area that a shape covers of it: a shape is an intersection of half-planes, and the part of a pixel on one
side of a line is known exactly (`beyond`). Opposite sides of a strip combine exactly where they are parallel; the two
directions of a quadrangle are taken as independent, which is exact but at corners.

Screen coordinates: column and row in pixels of the small picture, so pixel (r, c) is the square [c, c+1] x [r, r+1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .indicators import indicators
from .paint import HULL, KERB, SHADE, STRIPE, Paint
from .screen import CAR_AT, SOURCE, Camera, beyond, camera, line, middles, share, strip
from .spec import CAR, ROAD
from .sprite import HULL_BOX, LEVELS, hull_cover
from .state import CarState, forward, right, wheel_centres
from .track import Tracks
from .view import ROAD_ROWS, SIDE

PATCH_SIDE = ROAD.playfield / 20
TRUNCATION = (0.9999, 1.0)
"""averaging down loses fractions twice: level x comes out as the whole part of 0.9999 x - 1"""
STRIPE_ANGLE = 1.2
"""rad of a wheel's rim that its stripe covers"""
TILE_REACH = 0.5 * math.hypot(ROAD.step, 2 * ROAD.half_width) + ROAD.kerb_width + ROAD.step
"""u, farthest that a tile or its kerb reaches from its centre point"""
RIM = 0.5 * SIDE / SOURCE[0]
"""px of the small picture: half a pixel of the large one, by which a filled shape reaches over its corners"""
AT_ONCE = {"cpu": 32, "cuda": 1024}
"""cars painted at once, by device: few fit a processor's cache, and many keep a GPU busy"""


def draw(tracks: Tracks, state: CarState, paint: Paint) -> Tensor:
    """uint8 [B, 96, 96, 3] of cars [B]."""
    cars = torch.arange(len(state.heading), device=state.pos.device).split(AT_ONCE.get(state.pos.device.type, 32))
    return torch.cat([_draw(tracks, state.take(part), paint.take(part)) for part in cars])


def _draw(tracks: Tracks, state: CarState, paint: Paint) -> Tensor:
    view = camera(state)
    levels = ground(view, paint)
    levels = road(tracks, state, view, paint, levels)
    levels = car(state, view, levels)
    levels = torch.cat((levels, indicators(tracks, state, paint)), 1)
    return (levels * TRUNCATION[0] - TRUNCATION[1]).clamp(min=0).to(torch.uint8)


def ground(view: Camera, paint: Paint) -> Tensor:
    """Levels [B, ROAD_ROWS, SIDE, 3] of the field, its lighter squares, and the black around it."""
    column, row = middles(view.origin.device)
    shares = []
    for axis in range(2):  # of the world
        step_right = (view.across[:, axis] * view.size[:, 0])[:, None, None]
        step_down = (-view.ahead[:, axis] * view.size[:, 1])[:, None, None]
        place = view.origin[:, axis, None, None] + step_right * (column - CAR_AT[0]) + step_down * (row - CAR_AT[1])
        # how deep inside a lighter stripe, of which there is one in two
        stripe = place - 2 * PATCH_SIDE * torch.floor(place / (2 * PATCH_SIDE) + 0.25)
        lighter = share(PATCH_SIDE / 2 - (stripe - PATCH_SIDE / 2).abs(), step_right, step_down)
        field = share(ROAD.playfield - place.abs(), step_right, step_down)
        shares.append((lighter, field))
    (lighter_x, field_x), (lighter_y, field_y) = shares
    lighter, field = (lighter_x * lighter_y)[..., None], (field_x * field_y)[..., None]
    grass, patch = paint.grass[:, None, None], paint.patch[:, None, None]
    return (torch.trunc(grass) + lighter * (torch.trunc(patch) - torch.trunc(grass))) * field


def road(tracks: Tracks, state: CarState, view: Camera, paint: Paint, levels: Tensor) -> Tensor:
    """The road over levels [B, ROAD_ROWS, SIDE, 3]: tiles in their shades, kerbs on one of their sides."""
    total = torch.zeros_like(levels[..., :1])
    colours = torch.zeros_like(levels)
    shades = torch.trunc(paint.road[:, None] + SHADE * torch.arange(3, device=levels.device)[:, None])  # [B, 3, 3]
    kerbs = torch.tensor(KERB, device=levels.device)
    for tile, there in in_sight(tracks, state, view):
        on_tile, on_kerb = tile_shares(tracks, state.track, tile, view)
        touched = state.visited.gather(1, tile[:, None])[:, 0]
        shade = shades[torch.arange(len(tile), device=tile.device), torch.where(touched, 0, tile % 3)]
        for cover, colour in ((on_tile, shade), (on_kerb, kerbs[tile % 2])):
            cover = torch.where(there[:, None, None], cover, 0.0)[..., None]
            total = total + cover
            colours = colours + cover * colour[:, None, None]
    return levels * (1 - total.clamp(max=1)) + colours / total.clamp(min=1)


def in_sight(tracks: Tracks, state: CarState, view: Camera) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs (tile [B] int64, whether it counts [B] bool) until every tile that a picture may show was named."""
    away = tracks.centre[state.track, : tracks.max_tiles] - view.origin[:, None]
    margin = TILE_REACH / view.size + 1
    across = (away * view.across[:, None]).sum(-1) / view.size[:, :1]
    down = -(away * view.ahead[:, None]).sum(-1) / view.size[:, 1:]
    tile = torch.arange(tracks.max_tiles, device=away.device)
    seen = (across.abs() < SIDE / 2 + margin[:, :1]) & (tile < tracks.num_tiles[state.track, None])
    seen &= (down > -CAR_AT[1] - margin[:, 1:]) & (down < ROAD_ROWS - CAR_AT[1] + margin[:, 1:])
    order = seen.int().argsort(dim=1, descending=True, stable=True)
    for k in range(int(seen.sum(1).max())):
        yield order[:, k], seen.gather(1, order[:, k : k + 1])[:, 0]


def tile_shares(tracks: Tracks, track: Tensor, tile: Tensor, view: Camera) -> tuple[Tensor, Tensor]:
    """[B, ROAD_ROWS, SIDE] share of each pixel on tile [B] int64, and on its kerb."""
    before = torch.where(tile == 0, tracks.num_tiles[track] - 1, tile - 1)
    point, normal = (torch.stack((x[track, before], x[track, tile]), 1) for x in (tracks.centre, tracks.normal))
    ahead = torch.stack((-normal[..., 1], normal[..., 0]), -1)
    ends = beyond(line(view, point, ahead))
    along = strip(ends[:, 0], 1 - ends[:, 1])

    side = torch.sign(tracks.beta[track, before] - tracks.beta[track, tile])
    offsets = torch.stack((-torch.ones_like(side), torch.ones_like(side), side), 1) * ROAD.half_width
    offsets[:, 2] += side * ROAD.kerb_width
    rims = point[:, :, None] + offsets[:, None, :, None] * normal[:, :, None]  # [B, 2, 3, 2]
    step = rims[:, 1] - rims[:, 0]
    inward = torch.stack((-step[..., 1], step[..., 0]), -1) * torch.sign(offsets)[..., None]
    inward = inward / inward.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    inside = beyond(line(view, rims[:, 0], inward))
    on_tile = along * strip(inside[:, 0], inside[:, 1])
    beside = torch.where(side[:, None, None] < 0, inside[:, 0], inside[:, 1])
    on_kerb = along * strip(inside[:, 2], 1 - beside)
    return on_tile, torch.where(tracks.kerb[track, tile][:, None, None], on_kerb, 0.0)


def car(state: CarState, view: Camera, levels: Tensor) -> Tensor:
    """Wheels, their stripes, and the hull over levels [B, ROAD_ROWS, SIDE, 3]."""
    centre, angle = wheel_centres(state), state.heading[:, None] + state.joint
    aside, ahead = right(angle), forward(angle)
    rim = RIM * view.size[:, :1, None]
    half_width, radius = CAR.wheel_half_width + rim, CAR.wheel_radius
    left = beyond(line(view, centre - half_width * aside, aside))
    right_ = beyond(line(view, centre + half_width * aside, -aside))
    wide = strip(left, right_)
    low, high = stripe(state.phase)

    def rectangle(bottom: Tensor, top: Tensor) -> Tensor:
        """[B, 4, ROAD_ROWS, SIDE] share within the wheel from bottom to top [B, 4], of its radius."""
        below = beyond(line(view, centre + (radius * bottom[..., None] - rim) * ahead, ahead))
        above = beyond(line(view, centre + (radius * top[..., None] + rim) * ahead, -ahead))
        return wide * strip(below, above) * (top > bottom)[..., None, None]

    tyres, stripes = rectangle(-torch.ones_like(low), torch.ones_like(low)), rectangle(low, high)
    grey = torch.tensor(STRIPE, device=levels.device)
    for wheel in range(4):
        tyre, mark = tyres[:, wheel, ..., None], stripes[:, wheel, ..., None]
        levels = levels * (1 - tyre) + mark * grey
    top, bottom, left_column, right_column = HULL_BOX
    hull = hull_cover().to(levels.device)[state.frames.clamp(max=LEVELS - 1)][..., None]
    box = levels[:, top:bottom, left_column:right_column]
    painted = box * (1 - hull) + hull * torch.tensor(HULL, device=levels.device)
    levels[:, top:bottom, left_column:right_column] = painted
    return levels


def stripe(phase: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper end of a wheel's stripe, of its radius, for phases [...]; equal where it is out of sight."""
    ends = [
        torch.where(torch.sin(a) > 0, torch.sign(torch.cos(a)), torch.cos(a)) for a in (phase, phase + STRIPE_ANGLE)
    ]
    hidden = (torch.sin(phase) > 0) & (torch.sin(phase + STRIPE_ANGLE) > 0)
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    return low, torch.where(hidden, low, high)
