"""The fast path on the CPU: whole decisions of all cars, compiled by numba, in place on the state's memory.

A car is computed alone from start to end (`kernel_car.py`), so neither the batch size nor the number of threads can
change a bit. `sim.decide` is the reference that tests hold this equal to.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import torch

from .compiled import compiled
from .kernel_car import Array, Cars, F, World, drive_frame, is_outside, observe_car
from .noise import MASK, TRACK_STREAM
from .spec import GAP_MARGIN, GAP_REACH, RULES

MIN_SHARE = 64
"""cars that make a second thread worth its wake-up"""

_ZERO = F(0)
_TIME_LIMIT, _LAP_REWARD, _FRAME_COST = RULES.time_limit, RULES.lap_reward, RULES.frame_cost
_OUT_OF_FIELD, _LAP_PERCENT = RULES.out_of_field, RULES.lap_percent


class Start(NamedTuple):
    """What reset leaves on each track, as numpy views; velocities, spins and counters are zero there."""

    pos: Array
    heading: Array
    joint: Array
    road: Array
    on_start: Array
    visited: Array
    visited_count: Array
    obs: Array


class Lanes(NamedTuple):
    """Book-keeping of an episode beside the car: sim.Lanes as numpy views."""

    episode: Array
    far: Array
    gaps: Array
    idle: Array


class Result(NamedTuple):
    """What a decision led to, written by the kernel: sim.Outcome as numpy views."""

    obs: Array
    next_obs: Array
    reward: Array
    terminated: Array
    truncated: Array
    lap_finished: Array
    frames: Array
    episode_return: Array
    episode_frames: Array


def views(source: Any, kind: Any) -> Any:
    """The tensors of a dataclass as a tuple of numpy views of the same memory."""
    return kind(*(getattr(source, name).numpy() for name in kind._fields))


@compiled()
def _observe(lo: int, hi: int, world: World, cars: Cars, out: Array) -> None:
    for i in range(lo, hi):
        observe_car(i, world, cars, out[i])


@compiled()
def _mix(x: int) -> int:
    """noise._mix of one number."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & MASK
    return x ^ (x >> 16)


@compiled()
def hash_u32(seed: int, lane: int, episode: int, stream: int) -> int:
    """noise.hash_u32 of one lane."""
    key = _mix((seed & MASK) ^ 0x9E3779B9)
    for word in ((seed >> 32) & MASK, lane, episode, stream):
        key = _mix((key + word * 0x9E3779B1) & MASK)
    return key


@compiled()
def _restart(i: int, start: Start, cars: Cars, lanes: Lanes, seed: int) -> None:
    """sim._restart of lane i: the next episode on a track drawn by the hash."""
    lanes.episode[i] += 1
    lanes.far[i] = lanes.gaps[i] = lanes.idle[i] = 0
    row = hash_u32(seed, i, lanes.episode[i], TRACK_STREAM) % len(start.heading)
    cars.track[i] = row
    cars.heading[i] = cars.prev_heading[i] = start.heading[row]
    cars.yaw_rate[i] = cars.gas[i] = _ZERO
    cars.visited_count[i] = start.visited_count[row]
    cars.frames[i] = 0
    for k in range(2):
        cars.pos[i, k] = start.pos[row, k]
        cars.velocity[i, k] = _ZERO
    for k in range(3):
        cars.controls[i, k] = _ZERO
    for k in range(4):
        cars.spin[i, k] = cars.phase[i, k] = cars.joint_rate[i, k] = cars.press[i, k] = _ZERO
        cars.joint[i, k] = start.joint[row, k]
        cars.road[i, k] = start.road[row, k]
        cars.on_start[i, k] = start.on_start[row, k]
    for k in range(cars.visited.shape[1]):
        cars.visited[i, k] = start.visited[row, k]


@compiled()
def _new_gaps(i: int, n: int, cars: Cars, lanes: Lanes) -> int:
    """sim.count_gaps of car i, less what it was before; lanes.far and lanes.gaps are brought up to date."""
    far = lanes.far[i]
    for tile in range(far + 1, min(far + GAP_REACH, n - 1) + 1):
        if cars.visited[i, tile]:
            lanes.far[i] = tile
    gaps = 0
    for tile in range(1, lanes.far[i] - GAP_MARGIN + 1):
        gaps += cars.visited[i, tile - 1] and not cars.visited[i, tile]
    new = gaps - lanes.gaps[i]
    lanes.gaps[i] = gaps
    return new


@compiled()
def _decide(
    lo: int, hi: int, world: World, start: Start, cars: Cars, lanes: Lanes, out: Result, controls: Array, rules: tuple
) -> None:
    """sim.decide of cars lo to hi; rules = (frame_skip, percent, gap_cost, patience, seed, whole).

    whole: the observation and the restart too.
    """
    frame_skip, percent, gap_cost, patience, seed, whole = rules
    for i in range(lo, hi):
        n = world.num_tiles[cars.track[i]]
        action = (controls[i, 0], controls[i, 1], controls[i, 2])
        for k in range(3):
            cars.controls[i, k] = controls[i, k]
        paid, frames = 0.0, 0
        while frames < frame_skip:
            before = cars.visited_count[i] if cars.frames[i] > 0 else 0
            at_start = drive_frame(i, world, cars, action)
            frames += 1
            count = cars.visited_count[i]
            gained = count - before
            reward = gained * (_LAP_REWARD / n) - _FRAME_COST
            lanes.idle[i] += 1
            if gained > 0:
                lanes.idle[i] = 0
                if gap_cost > 0.0:
                    reward -= gap_cost * _new_gaps(i, n, cars, lanes)
            done = count == n or (percent and at_start and count > _LAP_PERCENT * n)
            outside = is_outside(i, cars)
            lost = patience > 0 and lanes.idle[i] >= patience
            if lost:
                reward -= gap_cost
            paid += _OUT_OF_FIELD if outside else reward
            out.truncated[i] = cars.frames[i] >= _TIME_LIMIT
            out.terminated[i] = done or outside or lost
            out.lap_finished[i] = done and not outside
            if out.terminated[i] or out.truncated[i]:
                break
        total = count * (_LAP_REWARD / n) - _FRAME_COST * cars.frames[i]
        if outside:  # the frame that leaves the field pays its own reward instead
            total += _OUT_OF_FIELD - (count - before) * (_LAP_REWARD / n) + _FRAME_COST
        out.reward[i] = paid
        out.frames[i] = frames
        out.episode_return[i] = total
        out.episode_frames[i] = cars.frames[i]
        if whole:
            _answer(i, world, start, cars, lanes, out, seed)


@compiled()
def _answer(i: int, world: World, start: Start, cars: Cars, lanes: Lanes, out: Result, seed: int) -> None:
    """What car i sees after its step, and after the restart if its episode ended."""
    observe_car(i, world, cars, out.next_obs[i])
    if out.terminated[i] or out.truncated[i]:
        _restart(i, start, cars, lanes, seed)
        for k in range(out.obs.shape[1]):
            out.obs[i, k] = start.obs[cars.track[i], k]
    else:
        for k in range(out.obs.shape[1]):
            out.obs[i, k] = out.next_obs[i, k]


@compiled()
def _restart_all(lo: int, hi: int, start: Start, cars: Cars, lanes: Lanes, done: Array, seed: int) -> None:
    for i in range(lo, hi):
        if done[i]:
            _restart(i, start, cars, lanes, seed)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, "drivetrain-kernel")


def share_out(kernel: Any, count: int, args: tuple, own: Sequence[Any] | None = None, least: int = MIN_SHARE) -> None:
    """Calls a kernel on 0 to count, cut into one part a thread; the calling thread does the first part itself.

    Args:
        kernel: (first, behind the last, [what is the thread's own], *args).
        count: cars.
        args: for all parts.
        own: for every thread, something that no other uses.
        least: cars that make a second thread worth its wake-up.
    """
    parts = max(1, min(torch.get_num_threads(), count // least))
    edges = [count * k // parts for k in range(parts + 1)]
    calls = [(edges[k], edges[k + 1], *(() if own is None else (own[k],)), *args) for k in range(parts)]
    rest = [_threads(parts - 1).submit(kernel, *call) for call in calls[1:]]
    kernel(*calls[0])
    for part in rest:
        part.result()


def observe(world: World, cars: Cars, out: Array) -> None:
    """Writes the observations of all cars into out [B, OBS_SIZE]."""
    share_out(_observe, len(out), (world, cars, out))


def decide(world: World, start: Start, cars: Cars, lanes: Lanes, out: Result, controls: Array, rules: tuple) -> None:
    """One decision of all cars under controls [B, 3], and a new episode where one ended; memory is changed in place."""
    share_out(_decide, len(controls), (world, start, cars, lanes, out, controls, rules))


def restart(start: Start, cars: Cars, lanes: Lanes, done: Array, seed: int) -> None:
    """The next episode of the lanes done [B] bool; memory is changed in place."""
    share_out(_restart_all, len(done), (start, cars, lanes, done, seed))


def warm() -> None:
    """Compiles every kernel, or loads them from the cache that numba keeps beside this file."""
    from .sight import OBSERVATIONS
    from .sim import Sim, SimConfig
    from .track import pool

    tracks = pool(0, 1)
    for obs in OBSERVATIONS:
        sim = Sim(tracks, 1, SimConfig(obs=obs))
        sim.reset()
        sim.step(torch.zeros(1, 3))
        sim.restart(torch.ones(1, dtype=torch.bool))
