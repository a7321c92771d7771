"""One frame of the simulator, and the state that a reset leaves: the reference in plain torch.

`kernel.py` does the same for cars on the CPU, several times faster; tests hold the two equal.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .contact import mark, touched_tiles
from .dynamics import move
from .judge import Verdict, judge, touch
from .spec import CAR
from .state import CarState, rotate
from .track import Tracks


def frame(tracks: Tracks, state: CarState, controls: Tensor, lap_rule: str = "all") -> tuple[CarState, Verdict]:
    """Advances B cars by one frame under controls [B, 3] (steer, gas, brake).

    Box2D updates its contacts before it integrates, and the tyre code has run by then: the grip of a frame is that of
    the contacts one frame earlier, and a tile reached by this frame's motion is counted in the next.
    """
    touched, at_start = touch(tracks, state)
    moved = move(state, controls)
    after = replace(
        moved,
        road=touched.road,
        on_start=touched.on_start,
        visited=touched.visited,
        visited_count=touched.visited_count,
        frames=state.frames + 1,
    )
    return after, judge(tracks, state, after, at_start, lap_rule)


def settle(beta: Tensor) -> tuple[Tensor, Tensor]:
    """Box2D's position solver on cars whose hull stands at angle beta [P] and whose wheels stand as if it did not.

    Round by round and pin by pin, the last wheel first, hull and wheel are moved to close the gap, each by its mass and
    the hull also by its lever, until no gap of a round exceeds the slop. The wheels are shifted, not turned.

    Returns:
        Angle of the hull [P] rad, and centre of mass of the car [P, 2] u from where the hull's origin was placed.
    """
    angle = beta.double()
    com = angle.new_tensor((0.0, CAR.hull_com_y))
    offsets = angle.new_tensor(list(zip(CAR.wheel_x, CAR.wheel_y, strict=True)))
    hull, wheels = rotate(com.expand(len(beta), 2), angle), offsets.repeat(len(beta), 1, 1)
    light = 1.0 / CAR.hull_mass + 1.0 / CAR.wheel_mass
    open_ = torch.ones_like(angle, dtype=torch.bool)
    for _ in range(CAR.position_rounds):
        widest = torch.zeros_like(angle)
        for k in reversed(range(4)):
            lever = rotate((offsets[k] - com).expand(len(beta), 2), angle)
            gap = wheels[:, k] - hull - lever
            widest = torch.maximum(widest, gap.norm(dim=-1))
            # impulse that closes the gap: K p = −gap, K = light + lever² / inertia across the lever
            side = torch.stack((-lever[:, 1], lever[:, 0]), -1)
            turning = side / (CAR.hull_inertia * light + lever.square().sum(-1, keepdim=True))
            impulse = -(gap - turning * (side * gap).sum(-1, keepdim=True)) / light * open_[:, None]
            hull = hull - impulse / CAR.hull_mass
            wheels[:, k] += impulse / CAR.wheel_mass
            angle = angle - (side * impulse).sum(-1) / CAR.hull_inertia
        open_ &= widest > CAR.joint_gap
    centre = (CAR.hull_mass * hull + CAR.wheel_mass * wheels.sum(1)) / CAR.mass
    return angle.to(beta.dtype), centre.to(beta.dtype)


def start_states(tracks: Tracks) -> CarState:
    """The state after Gymnasium's reset, one row for every track.

    Reset creates the wheels at unrotated offsets and runs one frame: its contacts see the misplaced wheels, then the
    position solver pulls hull and wheels together.
    """
    track = torch.arange(tracks.num_tracks, device=tracks.device)
    origin, beta = tracks.centre[:, 0], tracks.beta[:, 0]
    offsets = origin.new_tensor(list(zip(CAR.wheel_x, CAR.wheel_y, strict=True)))
    tiles, hit = touched_tiles(tracks, track, origin[:, None] + offsets, beta[:, None].expand(-1, 4))
    visited = mark(torch.zeros_like(tracks.kerb), tiles, hit)

    heading, centre = settle(beta)
    zero, four = torch.zeros_like(beta), torch.zeros(len(track), 4, device=tracks.device)
    return CarState(
        track=track,
        pos=origin + centre,
        heading=heading,
        prev_heading=heading.clone(),
        velocity=torch.zeros_like(origin),
        yaw_rate=zero,
        spin=four,
        phase=four.clone(),
        joint=(beta - heading)[:, None].expand(-1, 4).contiguous(),
        joint_rate=four.clone(),
        press=four.clone(),
        gas=zero.clone(),
        road=hit.any(-1),
        on_start=(hit & (tiles == 0)).any(-1),
        visited=visited,
        visited_count=visited.sum(-1),
        frames=torch.zeros_like(track),
        controls=torch.zeros(len(track), 3, device=tracks.device),
    )
