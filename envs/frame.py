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
from .state import CarState, forward
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


def start_states(tracks: Tracks) -> CarState:
    """The state after Gymnasium's reset, one row for every track.

    Reset creates the wheels at unrotated offsets and runs one frame: its contacts see the misplaced wheels, then the
    position solver turns hull and joints against each other about the common centre of mass.
    """
    track = torch.arange(tracks.num_tracks, device=tracks.device)
    origin, beta = tracks.centre[:, 0], tracks.beta[:, 0]
    offsets = origin.new_tensor(list(zip(CAR.wheel_x, CAR.wheel_y, strict=True)))
    tiles, hit = touched_tiles(tracks, track, origin[:, None] + offsets, beta[:, None].expand(-1, 4))
    visited = mark(torch.zeros_like(tracks.kerb), tiles, hit)

    twist = CAR.start_twist * torch.sin(beta)
    wheels = offsets.mean(0) * (4 * CAR.wheel_mass)
    hull = forward(beta) * (CAR.hull_mass * CAR.hull_com_y)
    zero, four = torch.zeros_like(beta), torch.zeros(len(track), 4, device=tracks.device)
    return CarState(
        track=track,
        pos=origin + (hull + wheels) / CAR.mass,
        heading=beta - twist,
        prev_heading=beta - twist,
        velocity=torch.zeros_like(origin),
        yaw_rate=zero,
        spin=four,
        phase=four.clone(),
        joint=twist[:, None].expand(-1, 4).contiguous(),
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
