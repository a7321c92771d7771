"""Roads: Gymnasium's generator for a given random stream, and the tables that the simulator reads.

The walk between checkpoints follows `CarRacing._create_track` of Gymnasium 1.4 operation by operation in float64, so
that the points of a seed are equal to the last bit; only the random draws and the loop over attempts stay in numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .compiled import compiled
from .spec import CAR, ROAD

PAD = 64
"""centre points repeated behind the last one, so that looking ahead needs no modulo"""
CELL = 4.0
"""u, side of a cell of the look-up grid"""
GRID = 128
"""cells a side; the outermost cells stretch to infinity"""
MAX_LIST = 24
"""tiles a cell may list; the build raises beyond it"""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Centreline:
    """One road. points [n, 4] float64: (alpha, beta, x, y) as in Gymnasium's `env.track`; kerb [n] bool."""

    points: Float64
    kerb: NDArray[np.bool_]


@dataclass(frozen=True)
class Tracks:
    """P roads as tensors; N = tiles of the longest. Index n + i wraps to i in `centre` and `normal`, for i < PAD."""

    seed: Tensor  # [P] int64, -1 where unknown
    num_tiles: Tensor  # [P] int64
    centre: Tensor  # [P, N + PAD, 2] u
    normal: Tensor  # [P, N + PAD, 2] unit, to the right of the direction of travel
    beta: Tensor  # [P, N + PAD] rad, the road's angle as the generator left it
    kerb: Tensor  # [P, N] bool
    corners: Tensor  # [P, N, 4, 2] u, convex hull of the tile, counter-clockwise
    planes: Tensor  # [P, N, 4, 3] outward normal and offset of the hull's edges
    cell: Tensor  # [P, GRID, GRID] int16, row of `cell_tiles`; 0 is the empty list
    cell_tiles: Tensor  # [P, R, K] int16, tiles a wheel centred in the cell might touch; -1 fills up
    nearest: Tensor  # [P, GRID, GRID] int16, centre point nearest to the cell's middle

    @property
    def num_tracks(self) -> int:
        return self.seed.shape[0]

    @property
    def max_tiles(self) -> int:
        return self.corners.shape[1]

    @property
    def device(self) -> torch.device:
        return self.seed.device

    def map(self, fn: Callable[[Tensor], Tensor]) -> Tracks:
        """The same tables with fn applied to every tensor."""
        return replace(self, **{f.name: fn(getattr(self, f.name)) for f in fields(self)})

    def to(self, device: torch.device | str) -> Tracks:
        """The same tables on a device."""
        return self.map(lambda x: x.to(device))


def generate(rng: np.random.Generator) -> Centreline:
    """The next road of a random stream: exactly what Gymnasium's environment would build from `np_random` = rng."""
    while True:
        ok, points, kerb = _road(rng.random(2 * ROAD.checkpoints))
        if ok:
            return Centreline(points, kerb)


def centreline_of_seed(seed: int) -> Centreline:
    """The road of `CarRacing-v3` after `reset(seed=seed)`."""
    return generate(np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed))))


def centreline_from_points(points: Float64) -> Centreline:
    """A road from centre points [n, 4] (alpha, beta, x, y), such as the original's `env.unwrapped.track`."""
    points = np.ascontiguousarray(points, dtype=np.float64)
    return Centreline(points, _kerbs(points))


def pool(first_seed: int, num_tracks: int, device: torch.device | str = "cpu") -> Tracks:
    """The roads of seeds first_seed … first_seed + num_tracks − 1."""
    seeds = range(first_seed, first_seed + num_tracks)
    return build_tracks([centreline_of_seed(s) for s in seeds], seeds, device)


def build_tracks(
    lines: Sequence[Centreline], seeds: Sequence[int] | None = None, device: torch.device | str = "cpu"
) -> Tracks:
    """Tables of the given roads, in their order."""
    count, longest = len(lines), max(len(line.points) for line in lines)
    arrays: dict[str, NDArray[Any]] = {
        "seed": np.full(count, -1, np.int64) if seeds is None else np.asarray(list(seeds), np.int64),
        "num_tiles": np.asarray([len(line.points) for line in lines], np.int64),
        "centre": np.zeros((count, longest + PAD, 2), np.float32),
        "normal": np.zeros((count, longest + PAD, 2), np.float32),
        "beta": np.zeros((count, longest + PAD), np.float32),
        "kerb": np.zeros((count, longest), np.bool_),
        "corners": np.zeros((count, longest, 4, 2), np.float32),
        "planes": np.zeros((count, longest, 4, 3), np.float32),
        "cell": np.zeros((count, GRID, GRID), np.int16),
        "nearest": np.zeros((count, GRID, GRID), np.int16),
    }
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        lists = list(threads.map(lambda row: _fill(arrays, row, lines[row]), range(count)))
    rows, width = max(len(x) for x in lists), max(x.shape[1] for x in lists)
    arrays["cell_tiles"] = np.full((count, rows, width), -1, np.int16)
    for row, listed in enumerate(lists):
        arrays["cell_tiles"][row, : len(listed), : listed.shape[1]] = listed
    return Tracks(**{name: torch.from_numpy(array).to(device) for name, array in arrays.items()})


def _fill(arrays: dict[str, NDArray[Any]], row: int, line: Centreline) -> NDArray[np.int16]:
    """Writes one road into the tables; returns its cells' lists of tiles."""
    n = len(line.points)
    wrapped = line.points[np.arange(n + PAD) % n]
    arrays["centre"][row, : n + PAD] = wrapped[:, 2:]
    arrays["beta"][row, : n + PAD] = wrapped[:, 1]
    arrays["normal"][row, : n + PAD] = np.stack((np.cos(wrapped[:, 1]), np.sin(wrapped[:, 1])), 1)
    arrays["kerb"][row, :n] = line.kerb
    corners, planes = arrays["corners"][row, :n], arrays["planes"][row, :n]
    _tiles(line.points, corners, planes)
    lists, fullest = _cells(corners, planes, CAR.wheel_reach + 0.01, arrays["cell"][row])
    if fullest > MAX_LIST:
        raise ValueError(f"{fullest} tiles of track {row} share a cell of the look-up grid; allowed {MAX_LIST}")
    _nearest(arrays["centre"][row, :n], arrays["nearest"][row])
    return lists[:, :fullest]


def cell_index(xy: Tensor) -> Tensor:
    """[...] int64 column or row of the look-up grid for coordinates [...] u."""
    return ((xy + GRID * CELL / 2) / CELL).floor().clamp(0, GRID - 1).long()


@compiled(allocates=True)
def _checkpoints(draws: Float64) -> Float64:
    count = len(draws) // 2
    out = np.empty((count, 3))
    for c in range(count):
        noise = 0.0 + (2 * math.pi * 1 / count - 0.0) * draws[2 * c]
        alpha = 2 * math.pi * c / count + noise
        third = ROAD_RADIUS / 3
        rad = third + (ROAD_RADIUS - third) * draws[2 * c + 1]
        if c == 0:
            alpha = 0.0
            rad = 1.5 * ROAD_RADIUS
        if c == count - 1:
            alpha = 2 * math.pi * c / count
            rad = 1.5 * ROAD_RADIUS
        out[c, 0] = alpha
        out[c, 1] = rad * math.cos(alpha)
        out[c, 2] = rad * math.sin(alpha)
    return out


@compiled(allocates=True)
def _walk(checkpoints: Float64) -> Float64:
    count = len(checkpoints)
    track = np.empty((2500, 4))
    x, y, beta = 1.5 * ROAD_RADIUS, 0.0, 0.0
    dest, laps, used = 0, 0, 0
    other_side = False
    while True:
        alpha = math.atan2(y, x)
        if other_side and alpha > 0:
            laps += 1
            other_side = False
        if alpha < 0:
            other_side = True
            alpha += 2 * math.pi
        while alpha > checkpoints[dest % count, 0]:
            dest += 1
            if dest % count == 0:
                alpha -= 2 * math.pi
        r1x, r1y = math.cos(beta), math.sin(beta)
        proj = r1x * (checkpoints[dest % count, 1] - x) + r1y * (checkpoints[dest % count, 2] - y)
        while beta - alpha > 1.5 * math.pi:
            beta -= 2 * math.pi
        while beta - alpha < -1.5 * math.pi:
            beta += 2 * math.pi
        prev_beta = beta
        proj *= 6.0
        if proj > 0.3:
            beta -= min(ROAD_TURN, abs(0.001 * proj))
        if proj < -0.3:
            beta += min(ROAD_TURN, abs(0.001 * proj))
        x += -r1y * ROAD_STEP
        y += r1x * ROAD_STEP
        track[used, 0], track[used, 1], track[used, 2], track[used, 3] = alpha, prev_beta * 0.5 + beta * 0.5, x, y
        used += 1
        if laps > 4 or used == 2500:
            return track[:used]


@compiled(allocates=True)
def _road(draws: Float64) -> tuple[bool, Float64, NDArray[np.bool_]]:
    count = len(draws) // 2
    track = _walk(_checkpoints(draws))
    start_alpha = 2 * math.pi * (-0.5) / count
    first, last = -1, -1
    for i in range(len(track) - 1, 0, -1):
        if track[i, 0] > start_alpha and track[i - 1, 0] <= start_alpha:
            if last == -1:
                last = i
            else:
                first = i
                break
    if first == -1:
        return False, track[:0], np.zeros(0, np.bool_)
    track = track[first : last - 1].copy()
    dx = math.cos(track[0, 1]) * (track[0, 2] - track[-1, 2])
    dy = math.sin(track[0, 1]) * (track[0, 3] - track[-1, 3])
    return math.sqrt(dx * dx + dy * dy) <= ROAD_STEP, track, _kerbs(track)


@compiled(allocates=True)
def _kerbs(track: Float64) -> NDArray[np.bool_]:
    n = len(track)
    border = np.zeros(n, np.bool_)
    for i in range(n):
        good, oneside = True, 0
        for back in range(KERB_RUN):
            turn = track[i - back, 1] - track[i - back - 1, 1]
            good &= abs(turn) > ROAD_TURN * 0.2
            oneside += int(turn > 0) - int(turn < 0)
        border[i] = good and abs(oneside) == KERB_RUN
    for i in range(n):
        for back in range(KERB_RUN):
            border[i - back] |= border[i]
    return border


@compiled(allocates=True)
def _tiles(track: Float64, corners: NDArray[np.float32], planes: NDArray[np.float32]) -> None:
    """Convex hull, counter-clockwise, of [L_i, R_i, R_{i-1}, L_{i-1}], in float32 as Box2D keeps it."""
    quad = np.empty((4, 2), np.float32)
    for i in range(len(track)):
        for side in range(2):
            for back in range(2):
                beta, x, y = track[i - back, 1], track[i - back, 2], track[i - back, 3]
                sign = 2.0 * side - 1.0
                k = side if back == 0 else 3 - side
                quad[k, 0] = x + sign * ROAD_HALF_WIDTH * math.cos(beta)
                quad[k, 1] = y + sign * ROAD_HALF_WIDTH * math.sin(beta)
        start = 0
        for k in range(1, 4):
            if quad[k, 0] > quad[start, 0] or (quad[k, 0] == quad[start, 0] and quad[k, 1] < quad[start, 1]):
                start = k
        size, at = 0, start
        while True:  # gift wrapping
            corners[i, size] = quad[at]
            size += 1
            ahead = (at + 1) % 4
            for k in range(4):
                ex, ey = float(quad[ahead, 0]) - quad[at, 0], float(quad[ahead, 1]) - quad[at, 1]
                kx, ky = float(quad[k, 0]) - quad[at, 0], float(quad[k, 1]) - quad[at, 1]
                cross = ex * ky - ey * kx
                if k != at and (cross < 0 or (cross == 0 and kx * kx + ky * ky > ex * ex + ey * ey)):
                    ahead = k
            at = ahead
            if at == start or size == 4:
                break
        for k in range(4):
            a = min(k, size - 1)
            b = a + 1 if a + 1 < size else 0
            corners[i, k] = corners[i, a]
            ex, ey = float(corners[i, b, 0]) - corners[i, a, 0], float(corners[i, b, 1]) - corners[i, a, 1]
            length = math.sqrt(ex * ex + ey * ey)
            planes[i, k, 0], planes[i, k, 1] = ey / length, -ex / length
            planes[i, k, 2] = (ey * corners[i, a, 0] - ex * corners[i, a, 1]) / length


@compiled(allocates=True)
def _cell_of(v: float) -> int:
    return min(max(int(math.floor((v + GRID * CELL / 2) / CELL)), 0), GRID - 1)


@compiled(allocates=True)
def _cells(
    corners: NDArray[np.float32], planes: NDArray[np.float32], reach: float, cell: NDArray[np.int16]
) -> tuple[NDArray[np.int16], int]:
    """Lists for every cell the tiles within reach of it; cell [GRID, GRID] gets the row. Returns (lists, longest)."""
    lists = np.full((GRID * GRID // 4, MAX_LIST), -1, np.int16)
    sizes = np.zeros(len(lists), np.int64)
    rows, fullest = 1, 1
    half = CELL / 2
    for i in range(len(corners)):
        x0, x1 = corners[i, :, 0].min() - reach, corners[i, :, 0].max() + reach
        y0, y1 = corners[i, :, 1].min() - reach, corners[i, :, 1].max() + reach
        for cy in range(_cell_of(y0), _cell_of(y1) + 1):
            for cx in range(_cell_of(x0), _cell_of(x1) + 1):
                mx, my = (cx + 0.5) * CELL - GRID * half, (cy + 0.5) * CELL - GRID * half
                border = cx == 0 or cy == 0 or cx == GRID - 1 or cy == GRID - 1
                apart = False
                for k in range(4):
                    nx, ny = planes[i, k, 0], planes[i, k, 1]
                    apart |= nx * mx + ny * my - planes[i, k, 2] - half * (abs(nx) + abs(ny)) > reach
                if apart and not border:
                    continue
                if cell[cy, cx] == 0:
                    cell[cy, cx] = rows
                    rows += 1
                row = cell[cy, cx]
                sizes[row] += 1
                fullest = max(fullest, sizes[row])
                if sizes[row] <= MAX_LIST:
                    lists[row, sizes[row] - 1] = i
    return lists[:rows], fullest


@compiled(allocates=True)
def _within(centre: NDArray[np.float32], among: NDArray[np.int16], square: tuple[float, float, float]) -> int:
    """Moves to the front of `among` the points that may be nearest to some place of a square (x, y, side); how many."""
    x, y, side = square
    best = np.float32(np.inf)
    squared = np.empty(len(among), np.float32)
    for k in range(len(among)):
        squared[k] = (centre[among[k], 0] - x) ** 2 + (centre[among[k], 1] - y) ** 2
        best = min(best, squared[k])
    limit = (math.sqrt(best) + side * 1.4143) ** 2
    kept = 0
    for k in range(len(among)):
        if squared[k] <= limit:
            among[kept] = among[k]
            kept += 1
    return kept


@compiled(allocates=True)
def _nearest(centre: NDArray[np.float32], out: NDArray[np.int16]) -> None:
    """Nearest centre point of every cell's middle: candidates are thinned over squares of 8, then 2 cells a side."""
    half = np.float32(GRID * CELL / 2)
    coarse, fine = np.empty(len(centre), np.int16), np.empty(len(centre), np.int16)
    for block in range((GRID // 8) ** 2):
        bx, by = block % (GRID // 8) * 8, block // (GRID // 8) * 8
        for k in range(len(centre)):
            coarse[k] = k
        kept = _within(centre, coarse, ((bx + 4) * CELL - half, (by + 4) * CELL - half, 8 * CELL))
        for part in range(16):
            px, py = bx + part % 4 * 2, by + part // 4 * 2
            fine[:kept] = coarse[:kept]
            left = _within(centre, fine[:kept], ((px + 1) * CELL - half, (py + 1) * CELL - half, 2 * CELL))
            for corner in range(4):
                cx, cy = px + corner % 2, py + corner // 2
                mx, my = np.float32((cx + 0.5) * CELL) - half, np.float32((cy + 0.5) * CELL) - half
                best = np.float32(np.inf)
                for k in range(left):
                    squared = (centre[fine[k], 0] - mx) ** 2 + (centre[fine[k], 1] - my) ** 2
                    if squared < best:
                        best, out[cy, cx] = squared, fine[k]


ROAD_RADIUS, ROAD_STEP, ROAD_TURN = ROAD.radius, ROAD.step, ROAD.turn_rate
ROAD_HALF_WIDTH, KERB_RUN = ROAD.half_width, ROAD.kerb_run
