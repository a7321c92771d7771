"""The scripted driver: a racing line and a speed profile per track, pure pursuit and a grip guard per frame.

Plans are made once for all tracks at a time; a decision is a few tensor operations on B cars, whatever drives them: the
batched simulator or the original. Every plan has the same number of points (PlanConfig.num_points) at equal
distances along the lap, so that a place on the line is an index and nothing is padded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .spec import CAR
from .state import CarState, forward, right
from .track import Tracks

WHEELBASE = CAR.wheel_y[0] - CAR.wheel_y[2]
"""u, from rear to front axle"""
GRIP = 4 * CAR.grip_road / CAR.mass
"""u/s², all four tyres at their limit on the road"""
REAR_AXLE = CAR.wheel_y[2] - CAR.com_y
"""u, of the rear axle ahead of the centre of mass"""


@dataclass(frozen=True)
class ExpertSettings:
    """Settings of the scripted driver, chosen on tracks of the validation seeds (no failure on 2,000 of them)."""

    num_points: int = 512
    """points of a line, about 2 u apart"""
    max_offset: float = 4.0
    """u, farthest the line leaves the centre of the road; at 4.0 every wheel still touches every tile"""
    line_steps: int = 120
    """gradient steps at each of the four resolutions of the line"""
    a_lat: float = 140.0
    """u/s², sideways acceleration that the speed profile allows"""
    a_brake: float = 90.0
    """u/s², braking that the speed profile allows"""
    v_max: float = 98.0
    """u/s"""
    smooth: int = 19
    """points, odd: window of the mean that smooths the curvature"""
    look_base: float = 7.5
    """u, distance to the point steered at, standing still"""
    look_time: float = 0.18
    """s, its growth with speed"""
    understeer: float = 0.007
    """s/u, more steering angle per speed"""
    yaw_damping: float = 0.04
    """rad of steering per rad/s of yaw rate beyond what the angle asks for"""
    yaw_accel: float = 195.0
    """u/s², bound of the yaw rate asked for, times speed"""
    ahead_time: float = 0.15
    """s, the target speed is the smallest of the profile this far ahead"""
    gas_gain: float = 1.0
    """gas per u/s too slow"""
    brake_gain: float = 0.03
    """brake per u/s too fast"""
    brake_max: float = 0.3
    """largest brake; above it the tyres have too little grip left for the turn"""
    grip_share: float = 0.94
    """share of the grip that a turn may use before the gas is closed"""
    slip_max: float = 0.15
    """rad, side slip angle beyond which the gas is closed"""


SEEABLE = replace(
    ExpertSettings(),
    max_offset=3.5,
    a_lat=150.0,
    a_brake=120.0,
    v_max=90.0,
    gas_gain=0.1,
    brake_gain=0.08,
    brake_max=0.4,
)
"""A teacher of drivers that see pictures: it brakes late and hard, within the 37 u of road that a picture shows ahead.

A student cannot learn to brake for what it does not see. The gentle gas is for its sake too: pedals that turn over
within a unit of speed cannot be copied by whoever knows the speed less exactly. The line stays half a unit further
from the edges of the road, so that a student who strays a little still touches every tile.
"""


@dataclass(frozen=True)
class Line:
    """Plans for P tracks, M points each."""

    points: Tensor  # [P, M, 2] u, evenly spaced along the lap
    speed: Tensor  # [P, M] u/s
    spacing: Tensor  # [P] u between points
    config: ExpertSettings

    def to(self, device: torch.device | str) -> Line:
        """The same plans on another device."""
        return Line(self.points.to(device), self.speed.to(device), self.spacing.to(device), self.config)


def build_lines(tracks: Tracks, config: ExpertSettings | None = None) -> Line:
    """Racing line and speed profile of every track, on the tracks' device."""
    config = config or ExpertSettings()
    # float64: the line is the minimum of a sum of squared second differences, small numbers from large ones
    centre = tracks.centre[:, : int(tracks.num_tiles.max())].double()
    line = racing_line(centre, tracks.num_tiles, config)
    whole = torch.full_like(tracks.num_tiles, config.num_points)
    points, spacing = resample(line, whole, config.num_points)
    return Line(points.float(), speed_profile(points, spacing, config).float(), spacing.float(), config)


def resample(points: Tensor, count: Tensor, num_points: int) -> tuple[Tensor, Tensor]:
    """Closed polylines cut into equal lengths.

    Args:
        points: [P, K, 2] u, the first count[p] of row p are its corners.
        count: [P] int64.
        num_points: M, points wanted per row.

    Returns:
        [P, M, 2] u, starting at point 0, and [P] u, the distance between them along the polyline.
    """
    rows, width = points.shape[:2]
    index = torch.arange(width + 1, device=points.device).expand(rows, -1)
    closed = torch.where(index < count[:, None], index, 0)  # point `count` is point 0 again, and so are all beyond
    corner = points.gather(1, closed[..., None].expand(-1, -1, 2))
    length = (corner[:, 1:] - corner[:, :-1]).norm(dim=-1)
    arc = torch.cat((torch.zeros_like(length[:, :1]), length.cumsum(1)), 1)
    step = arc[:, -1] / num_points
    wanted = torch.arange(num_points, device=points.device) * step[:, None]
    before = (torch.searchsorted(arc, wanted, right=True) - 1).clamp(max=width - 1)
    share = (wanted - arc.gather(1, before)) / length.gather(1, before).clamp(min=1e-9)
    first = corner.gather(1, before[..., None].expand(-1, -1, 2))
    second = corner.gather(1, before[..., None].expand(-1, -1, 2) + 1)
    return torch.lerp(first, second, share[..., None]), step


def racing_line(centre: Tensor, count: Tensor, config: ExpertSettings) -> Tensor:
    """Points [P, M, 2] u of the least bent closed line within max_offset of the centre line [P, K, 2].

    Minimises the sum of squared second differences of the points c + e n over the offsets |e| <= max_offset: a convex
    problem, solved by projected gradient steps with Nesterov's momentum, from coarse to fine, because gradient steps
    on a fine line take very long over its long waves.
    """
    offset = torch.zeros(centre.shape[0], config.num_points // 8, dtype=centre.dtype, device=centre.device)
    for level in (8, 4, 2, 1):
        road, _ = resample(centre, count, config.num_points // level)
        tangent = road.roll(-1, 1) - road.roll(1, 1)
        tangent = tangent / tangent.norm(dim=-1, keepdim=True)
        normal = torch.stack((tangent[..., 1], -tangent[..., 0]), -1)
        offset = _least_bent(road, normal, offset, config)
        if level > 1:
            between = (offset + offset.roll(-1, 1)) / 2
            offset = torch.stack((offset, between), -1).flatten(1)
    return road + offset[..., None] * normal


def _least_bent(road: Tensor, normal: Tensor, offset: Tensor, config: ExpertSettings) -> Tensor:
    """Offsets [P, M] after line_steps accelerated projected gradient steps from offset."""
    probe, weight = offset, 1.0
    for _ in range(config.line_steps):
        bend = _second_difference(road + probe[..., None] * normal)
        # gradient of half the sum of squares; 16 bounds the curvature of the squared second difference
        slope = (_second_difference(bend) * normal).sum(-1)
        new = (probe - slope / 17.0).clamp(-config.max_offset, config.max_offset)
        next_weight = (1.0 + (1.0 + 4.0 * weight**2) ** 0.5) / 2.0
        probe = new + ((weight - 1.0) / next_weight) * (new - offset)
        offset, weight = new, next_weight
    return offset


def _second_difference(points: Tensor) -> Tensor:
    return points.roll(1, 1) - 2.0 * points + points.roll(-1, 1)


def speed_profile(points: Tensor, spacing: Tensor, config: ExpertSettings) -> Tensor:
    """Speeds [P, M] u/s: v = min(v_max, sqrt(a_lat / curvature)), low enough to brake in time for what follows.

    Braking: v_i² <= v_j² + 2 a_brake (s_j - s_i) for every later point j. The smallest of these bounds is found by
    doubling: after k rounds each point knows the best of the next 2^k.
    """
    heading = points.roll(-1, 1) - points
    before = heading.roll(1, 1)
    turn = torch.atan2(before[..., 0] * heading[..., 1] - before[..., 1] * heading[..., 0], (before * heading).sum(-1))
    curvature = (turn / spacing[:, None]).abs()
    half = config.smooth // 2
    smoothed = torch.stack([curvature.roll(shift, 1) for shift in range(-half, half + 1)]).mean(0)
    square = (config.a_lat / smoothed.clamp(min=1e-6)).clamp(max=config.v_max**2)
    reach = 1
    while reach < square.shape[1]:
        square = torch.minimum(square, square.roll(-reach, 1) + 2.0 * config.a_brake * reach * spacing[:, None])
        reach *= 2
    return square.sqrt()


def act(line: Line, tracks: Tracks, state: CarState) -> Tensor:
    """Controls [B, 3] of the scripted driver: steer (-1 full left), gas, brake.

    Args:
        line: plans of build_lines(tracks).
        tracks: where the cars drive; state.track says on which row.
        state: B cars.
    """
    del tracks  # all that matters of them is in the line; kept so that every driver is called alike
    cfg = line.config
    ahead, side = forward(state.heading), right(state.heading)
    along = (state.velocity * ahead).sum(-1)
    across = (state.velocity * side).sum(-1)
    speed = state.velocity.norm(dim=-1)
    points, spacing = line.points[state.track], line.spacing[state.track]
    here = (points - state.pos[:, None]).square().sum(-1).argmin(1)

    rear = state.pos + REAR_AXLE * ahead
    goal = _point_at(points, here + (cfg.look_base + cfg.look_time * along.clamp(min=0)) / spacing)
    gap = goal - rear
    left = -(gap * side).sum(-1)
    # a circle through the rear axle along the heading and through the goal bends by 2 left / distance²
    angle = torch.atan(2.0 * WHEELBASE * left / gap.square().sum(-1).clamp(min=1.0)) * (1.0 + cfg.understeer * along)
    most = cfg.yaw_accel / speed.clamp(min=1.0)
    wanted_yaw = torch.minimum(torch.maximum(along * torch.tan(angle) / WHEELBASE, -most), most)
    angle = angle - cfg.yaw_damping * (state.yaw_rate - wanted_yaw)

    target = _slowest_ahead(line, state.track, here, cfg.ahead_time * along.clamp(min=0) / spacing)
    used = (state.yaw_rate * speed).abs() / GRIP
    room = (1.0 - (used / cfg.grip_share).square()).clamp(min=0).sqrt()
    gas = torch.minimum((cfg.gas_gain * (target - along)).clamp(0, 1), room)
    slip = torch.atan2(across, along.clamp(min=1.0)).abs()
    gas = torch.where(slip > cfg.slip_max, 0.0, gas)
    brake = (cfg.brake_gain * (along - target)).clamp(0, cfg.brake_max) * (1.0 - used.square()).clamp(min=0).sqrt()
    return torch.stack(((-angle).clamp(-1, 1), gas, brake), -1)


SITUATION = ("speed", "side_speed", "yaw_rate", "offset", "heading_error", "target_speed")
"""what situation() tells, in this order"""


def situation(line: Line, state: CarState) -> Tensor:
    """[B, 6] of SITUATION: how B cars move and stand to their lines; all numbers are around 1 or smaller.

    Speeds along the car and of the profile are in 50 u/s, the side speed in 5 u/s, positive to the right; the yaw rate
    is in rad/s, the distance from the line in 4 u and the heading error in rad, all positive to the left.
    """
    ahead = forward(state.heading)
    points = line.points[state.track]
    here = (points - state.pos[:, None]).square().sum(-1).argmin(1)
    rows, count = torch.arange(len(here), device=here.device), points.shape[1]
    tangent = points[rows, (here + 1) % count] - points[rows, (here - 1) % count]
    tangent = tangent / tangent.norm(dim=-1, keepdim=True)
    gap = state.pos - points[rows, here]
    columns = (
        (state.velocity * ahead).sum(-1) / 50.0,
        (state.velocity * right(state.heading)).sum(-1) / 5.0,
        state.yaw_rate,
        _cross(tangent, gap) / 4.0,
        torch.atan2(_cross(tangent, ahead), (tangent * ahead).sum(-1)),
        line.speed[state.track, here] / 50.0,
    )
    return torch.stack(columns, -1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _point_at(points: Tensor, place: Tensor) -> Tensor:
    """[B, 2] of points [B, M, 2] at the fractional indices place [B], wrapping."""
    below = place.floor()
    rows = torch.arange(len(place), device=place.device)
    first = below.long() % points.shape[1]
    return torch.lerp(points[rows, first], points[rows, (first + 1) % points.shape[1]], (place - below)[:, None])


def _slowest_ahead(line: Line, track: Tensor, here: Tensor, reach: Tensor) -> Tensor:
    """[B] u/s, smallest speed of the profile over the next reach [B] points (at most 20)."""
    step = torch.arange(20, device=here.device)
    ahead = line.speed[track[:, None], (here[:, None] + step) % line.speed.shape[1]]
    return torch.where(step <= reach[:, None], ahead, torch.inf).amin(1)
