"""One car on the fast path: its frame and its observation in scalar float32, compiled by numba.

Function by function this repeats `dynamics`, `contact`, `judge` and `observe`; tests hold it equal to them.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .compiled import compiled
from .observe import LOOK_AHEAD, OBS_LIMIT, OBS_SPEC
from .spec import CAR, DT, ROAD
from .track import CELL, GRID

F = np.float32
Array = Any

_ZERO, _ONE, _HALF = F(0), F(1), F(0.5)
_DT, _MASS, _INERTIA, _WHEEL_INERTIA = F(DT), F(CAR.mass), F(CAR.inertia), F(CAR.wheel_inertia)
_ROUNDS, _TOP_PRESS = F(CAR.solver_rounds * CAR.joint_inertia), F(CAR.servo_torque * DT)
_ORBIT_LOSS, _ORBIT_BACK = F(CAR.orbit_share / 2), F(CAR.orbit_share / 3)
_PUSH, _FLOOR, _REACT = (
    F(DT * CAR.engine_power / CAR.spin_inertia),
    F(CAR.engine_floor),
    F(DT * CAR.wheel_radius / CAR.spin_inertia),
)
_RAMP, _BRAKE_SPIN, _BRAKE_LOCK, _SLIP_GAIN = F(CAR.gas_ramp), F(CAR.brake_spin), F(CAR.brake_lock), F(CAR.slip_gain)
_GRIP_ROAD, _GRIP_GRASS, _RADIUS, _HALF_WIDTH = (
    F(CAR.grip_road),
    F(CAR.grip_grass),
    F(CAR.wheel_radius),
    F(CAR.wheel_half_width),
)
_SERVO_GAIN, _SERVO_RATE, _LIMIT = F(CAR.servo_gain), F(CAR.servo_rate), F(CAR.joint_limit)
_STOP, _MAX_SPEED, _MARGIN = F(CAR.joint_limit + CAR.joint_slop), F(CAR.max_speed), F(CAR.contact_margin)
_COM_Y, _PLAYFIELD = F(CAR.com_y), F(ROAD.playfield)
_LEVER_X = np.array(CAR.wheel_x, np.float32)
_LEVER_Y = np.array([y - CAR.com_y for y in CAR.wheel_y], np.float32)
_HULL_MASS, _WHEEL_MASS, _HULL_Y = F(CAR.hull_mass), F(CAR.wheel_mass), F(CAR.hull_com_y - CAR.com_y)
_FARTHEST = F(max(math.hypot(x, y - CAR.com_y) for x, y in zip(CAR.wheel_x, CAR.wheel_y, strict=True)) + 0.01)
_CELL, _GRID_HALF = F(CELL), F(GRID * CELL / 2)
_LAST = GRID - 1
_SCALE = np.array([1.0 / e.scale for e in OBS_SPEC], np.float32)
_AHEAD = np.array(LOOK_AHEAD, np.int64)
_OBS_LIMIT = F(OBS_LIMIT)


class World(NamedTuple):
    """The tables of Tracks that the kernel reads, as numpy views."""

    num_tiles: Array
    centre: Array
    normal: Array
    beta: Array
    kerb: Array
    corners: Array
    planes: Array
    cell: Array
    cell_tiles: Array
    nearest: Array


class Cars(NamedTuple):
    """CarState as numpy views; field by field the same names."""

    track: Array
    pos: Array
    heading: Array
    prev_heading: Array
    velocity: Array
    yaw_rate: Array
    spin: Array
    phase: Array
    joint: Array
    joint_rate: Array
    press: Array
    gas: Array
    road: Array
    on_start: Array
    visited: Array
    visited_count: Array
    frames: Array
    controls: Array


@compiled()
def _cell_of(v: float) -> int:
    return min(max(int(math.floor((v + _GRID_HALF) / _CELL)), 0), _LAST)


@compiled()
def _apart(world: World, row: int, tile: int, pose: tuple) -> bool:
    """contact._apart for one tile and one wheel; pose = (x, y, sin, cos) of the wheel."""
    x, y, sin, cos = pose
    deepest = F(-np.inf)
    for k in range(4):
        nx, ny = world.planes[row, tile, k, 0], world.planes[row, tile, k, 1]
        gap = nx * x + ny * y - world.planes[row, tile, k, 2]
        deepest = max(deepest, gap)
        if gap > _MARGIN:
            extent = _HALF_WIDTH * abs(nx * cos + ny * sin) + _RADIUS * abs(ny * cos - nx * sin)
            if gap - extent > _MARGIN:
                return True
    if deepest <= _ZERO:  # the wheel's centre is on the tile
        return False
    low_f = low_r = F(np.inf)
    high_f = high_r = F(-np.inf)
    for k in range(4):
        dx, dy = world.corners[row, tile, k, 0] - x, world.corners[row, tile, k, 1] - y
        reach = dy * cos - dx * sin
        low_f, high_f = min(low_f, reach), max(high_f, reach)
        reach = dx * cos + dy * sin
        low_r, high_r = min(low_r, reach), max(high_r, reach)
    return max(low_f, -high_f) - _RADIUS > _MARGIN or max(low_r, -high_r) - _HALF_WIDTH > _MARGIN


@compiled()
def _touch(i: int, k: int, world: World, cars: Cars, pose: tuple) -> bool:
    """judge.touch for wheel k of car i at a pose (x, y, sin, cos); whether it newly touches tile 0."""
    row = cars.track[i]
    listed = world.cell[row, _cell_of(pose[1]), _cell_of(pose[0])]
    on_road = on_start = False
    for slot in range(world.cell_tiles.shape[2]):
        tile = world.cell_tiles[row, listed, slot]
        if tile < 0:
            break
        # A tile already counted can only matter for the road flag, or as tile 0.
        if (on_road and tile > 0 and cars.visited[i, tile]) or _apart(world, row, tile, pose):
            continue
        on_road = True
        on_start |= tile == 0
        if not cars.visited[i, tile]:
            cars.visited[i, tile] = True
            cars.visited_count[i] += 1
    newly = on_start and not cars.on_start[i, k]
    cars.road[i, k] = on_road
    cars.on_start[i, k] = on_start
    return newly


@compiled()
def _tyre(i: int, k: int, cars: Cars, brake: float, ground: tuple) -> tuple:
    """dynamics.tyres for wheel k of car i over ground passing at (ahead, aside) u/s; the force (ahead, aside)."""
    spin = cars.spin[i, k]
    if k >= 2:
        spin += _PUSH * cars.gas[i] / (abs(spin) + _FLOOR)
    if brake >= _BRAKE_LOCK:
        spin = _ZERO
    elif brake > _ZERO:
        slow = min(_BRAKE_SPIN * brake, abs(spin))
        spin = spin - slow if spin > _ZERO else spin + slow
    cars.phase[i, k] += _DT * spin
    ahead = _SLIP_GAIN * (_RADIUS * spin - ground[0])
    aside = -_SLIP_GAIN * ground[1]
    force = F(math.sqrt(ahead * ahead + aside * aside))
    grip = _GRIP_ROAD if cars.road[i, k] else _GRIP_GRASS
    if force > grip:
        scale = grip / force
        ahead *= scale
        aside *= scale
    cars.spin[i, k] = spin - _REACT * ahead
    return ahead, aside


@compiled()
def _cap(vx: float, vy: float) -> tuple:
    """What Box2D takes from a body at velocity (x, y)."""
    speed = F(math.sqrt(vx * vx + vy * vy))
    if speed <= _MAX_SPEED:
        return _ZERO, _ZERO
    share = _MAX_SPEED / speed - _ONE
    return vx * share, vy * share


@compiled()
def _is_fast(vx: float, vy: float, yaw_rate: float) -> bool:
    """Whether any part of a car may be beyond the cap; a cheap test that lets nearly all cars off."""
    near = _MAX_SPEED - _FARTHEST * abs(yaw_rate)
    return near < _ZERO or vx * vx + vy * vy > near * near


@compiled()
def _cap_car(vx: float, vy: float, yaw_rate: float, before: tuple, now: tuple) -> tuple:
    """dynamics.speed_cap at the angle `before`, shared at `now` (sine, cosine): (x, y, turn) that a car loses."""
    lost_x = lost_y = lost_turn = _ZERO
    for k in range(-1, 4):
        lx, ly, mass = _ZERO, _HULL_Y, _HULL_MASS
        if k >= 0:
            lx, ly, mass = _LEVER_X[k], _LEVER_Y[k], _WHEEL_MASS
        sin, cos = before
        x, y = _cap(vx - yaw_rate * (lx * sin + ly * cos), vy + yaw_rate * (lx * cos - ly * sin))
        sin, cos = now
        lost_x += mass * x
        lost_y += mass * y
        lost_turn += mass * ((lx * cos - ly * sin) * y - (lx * sin + ly * cos) * x)
    return lost_x / _MASS, lost_y / _MASS, lost_turn / _INERTIA


@compiled()
def _wheels(i: int, world: World, cars: Cars, brake: float) -> tuple:
    """Tyres and contacts of car i at its present pose: (force x, force y, torque, newly touches tile 0, cap)."""
    heading, yaw_rate, vx, vy = cars.heading[i], cars.yaw_rate[i], cars.velocity[i, 0], cars.velocity[i, 1]
    sin_h, cos_h = F(math.sin(heading)), F(math.cos(heading))
    sin_p, cos_p = F(math.sin(cars.prev_heading[i])), F(math.cos(cars.prev_heading[i]))
    sin, cos, joint = sin_h, cos_h, F(np.nan)
    force_x = force_y = torque = _ZERO
    at_start = False
    fast = _is_fast(vx, vy, yaw_rate)
    lost = (_ZERO, _ZERO, _ZERO)
    if fast:
        lost = _cap_car(vx, vy, yaw_rate, (sin_p, cos_p), (sin_h, cos_h))
    for k in range(4):
        if cars.joint[i, k] != joint:
            joint = cars.joint[i, k]
            sin, cos = F(math.sin(heading + joint)), F(math.cos(heading + joint))
        lx, ly = _LEVER_X[k], _LEVER_Y[k]
        ground_x = vx + yaw_rate * -(lx * sin_p + ly * cos_p)
        ground_y = vy + yaw_rate * (lx * cos_p + ly * -sin_p)
        if fast:
            slower_x, slower_y = _cap(ground_x, ground_y)
            ground_x += slower_x
            ground_y += slower_y
        ground = (ground_x * -sin + ground_y * cos, ground_x * cos + ground_y * sin)
        ahead, aside = _tyre(i, k, cars, brake, ground)
        push_x, push_y = ahead * -sin + aside * cos, ahead * cos + aside * sin
        lever_x, lever_y = lx * cos_h + ly * -sin_h, lx * sin_h + ly * cos_h
        force_x += push_x
        force_y += push_y
        torque += lever_x * push_y - lever_y * push_x
        # The tyre has used the road flag of the frame before by now: Box2D updates its contacts after it.
        at_start |= _touch(i, k, world, cars, (cars.pos[i, 0] + lever_x, cars.pos[i, 1] + lever_y, sin, cos))
    return force_x, force_y, torque, at_start, lost


@compiled()
def _steer(i: int, cars: Cars, steer: float) -> float:
    """dynamics.servo_rates and the joints of car i; returns the sum of the changes of the joint rates."""
    change = _ZERO
    for k in range(4):
        joint = cars.joint[i, k]
        error = (-steer if k < 2 else _ZERO) - joint
        rate = min(_SERVO_GAIN * abs(error), _SERVO_RATE)
        if error < _ZERO:
            rate = -rate
        elif error == _ZERO:
            rate = _ZERO
        press = _ZERO
        if abs(joint) >= _LIMIT:
            press = cars.press[i, k] + _ROUNDS * (rate if joint > _ZERO else -rate)
            if press > _ZERO:
                press, rate = min(press, _TOP_PRESS), _ZERO
            else:
                press = _ZERO
        cars.press[i, k] = press
        moved = joint + _DT * rate
        if abs(joint) >= _LIMIT:
            moved = min(max(moved, -_STOP), _STOP)
        change += rate - cars.joint_rate[i, k]
        cars.joint[i, k] = moved
        cars.joint_rate[i, k] = rate
    return change


@compiled()
def drive_frame(i: int, world: World, cars: Cars, controls: tuple) -> bool:
    """frame.frame of car i but for the verdict; whether a wheel newly touches tile 0."""
    steer, gas, brake = controls
    cars.gas[i] += min(min(max(gas, _ZERO), _ONE) - cars.gas[i], _RAMP)
    force_x, force_y, torque, at_start, lost = _wheels(i, world, cars, brake)
    reaction = _WHEEL_INERTIA * _steer(i, cars, steer)
    turned = _DT * cars.yaw_rate[i]
    kept = _ONE - _ORBIT_LOSS * (turned * turned)
    yaw_rate = kept * cars.yaw_rate[i] + lost[2] + (_DT * torque - reaction) / _INERTIA
    vx = cars.velocity[i, 0] + lost[0] + (_DT / _MASS) * force_x
    vy = cars.velocity[i, 1] + lost[1] + (_DT / _MASS) * force_y
    heading = cars.heading[i]
    slower = (_ZERO, _ZERO, _ZERO)
    if _is_fast(vx, vy, yaw_rate):
        pose = (F(math.sin(heading)), F(math.cos(heading)))
        slower = _cap_car(vx, vy, yaw_rate, pose, pose)
    turn = _DT * yaw_rate
    turned = _DT * (yaw_rate + slower[2])
    back = _ORBIT_BACK * turn * turn * turn
    for k in range(4):
        cars.joint[i, k] += turn - turned + back
    cars.yaw_rate[i] = yaw_rate
    cars.velocity[i, 0] = vx
    cars.velocity[i, 1] = vy
    cars.prev_heading[i] = heading
    cars.pos[i, 0] += _DT * (vx + slower[0])
    cars.pos[i, 1] += _DT * (vy + slower[1])
    cars.heading[i] += turned - back
    cars.frames[i] += 1
    return at_start


@compiled()
def _locate(world: World, row: int, x: float, y: float) -> tuple:
    """observe.locate of one place: (index, share, offset, normal x, normal y)."""
    n = world.num_tiles[row]
    start = world.nearest[row, _cell_of(y), _cell_of(x)]
    index, least = 0, F(np.inf)
    for shift in range(-2, 3):
        try_at = (start + shift + n) % n
        dx, dy = world.centre[row, try_at, 0] - x, world.centre[row, try_at, 1] - y
        gap = dx * dx + dy * dy
        if gap < least:
            index, least = try_at, gap
    away_x, away_y = x - world.centre[row, index, 0], y - world.centre[row, index, 1]
    if world.normal[row, index, 0] * away_y - world.normal[row, index, 1] * away_x < _ZERO:
        index = index - 1 if index > 0 else n - 1
    hx, hy = world.centre[row, index, 0], world.centre[row, index, 1]
    ax, ay = world.centre[row, index + 1, 0] - hx, world.centre[row, index + 1, 1] - hy
    share = ((x - hx) * ax + (y - hy) * ay) / max(ax * ax + ay * ay, F(1e-6))
    share = min(max(share, _ZERO), _ONE)
    nx = world.normal[row, index, 0] + share * (world.normal[row, index + 1, 0] - world.normal[row, index, 0])
    ny = world.normal[row, index, 1] + share * (world.normal[row, index + 1, 1] - world.normal[row, index, 1])
    length = max(F(math.sqrt(nx * nx + ny * ny)), F(1e-6))
    nx, ny = nx / length, ny / length
    offset = (x - hx - share * ax) * nx + (y - hy - share * ay) * ny
    return index, share, offset, nx, ny


@compiled()
def observe_car(i: int, world: World, cars: Cars, out: Array) -> None:
    """observe.observe of car i, into out [OBS_SIZE]."""
    row, x, y = cars.track[i], cars.pos[i, 0], cars.pos[i, 1]
    sin, cos = F(math.sin(cars.heading[i])), F(math.cos(cars.heading[i]))
    index, share, offset, nx, ny = _locate(world, row, x, y)
    vx, vy, yaw_rate = cars.velocity[i, 0], cars.velocity[i, 1], cars.yaw_rate[i]
    if _is_fast(vx, vy, yaw_rate):
        pose = (F(math.sin(cars.prev_heading[i])), F(math.cos(cars.prev_heading[i])))
        slower_x, slower_y, _ = _cap_car(vx, vy, yaw_rate, pose, pose)
        vx += slower_x
        vy += slower_y
    speed_ahead = vx * -sin + vy * cos
    out[0] = speed_ahead * _SCALE[0]
    out[1] = (vx * cos + vy * sin) * _SCALE[1]
    out[2] = yaw_rate * _SCALE[2]
    for k in range(4):
        out[3 + k] = (_RADIUS * cars.spin[i, k] - (speed_ahead + yaw_rate * _LEVER_X[k])) * _SCALE[3]
        out[9 + k] = _ONE if cars.road[i, k] else _ZERO
    out[7] = (cars.joint[i, 0] + cars.joint[i, 1]) * _HALF * _SCALE[4]
    out[8] = cars.gas[i]
    out[13] = offset * _SCALE[7]
    out[14] = sin * nx - cos * ny
    out[15] = cos * nx + sin * ny
    many = len(_AHEAD)
    for k in range(many):
        at = index + _AHEAD[k]
        px, py = world.centre[row, at, 0], world.centre[row, at, 1]
        dx = px + share * (world.centre[row, at + 1, 0] - px) - x
        dy = py + share * (world.centre[row, at + 1, 1] - py) - y
        out[16 + k] = (dx * cos + dy * sin) * _SCALE[10]
        out[16 + many + k] = (dy * cos - dx * sin) * _SCALE[11]
    for k in range(3):
        out[16 + 2 * many + k] = cars.controls[i, k]
    for k in range(len(out)):
        out[k] = min(max(out[k], -_OBS_LIMIT), _OBS_LIMIT)


@compiled()
def is_outside(i: int, cars: Cars) -> bool:
    """Whether the hull's origin of car i has left the playing field."""
    x, y = cars.pos[i, 0], cars.pos[i, 1]
    if max(abs(x), abs(y)) < _PLAYFIELD - _ONE:
        return False
    x += _COM_Y * F(math.sin(cars.heading[i]))
    y -= _COM_Y * F(math.cos(cars.heading[i]))
    return max(abs(x), abs(y)) > _PLAYFIELD
