"""How like the two pictures are: whole laps of the expert in the original, and the simulator's pictures beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from drivetrain.agents.evaluate import expert_actor
from drivetrain.envs.original import OriginalEnv, read_states
from drivetrain.envs.paint import plain
from drivetrain.envs.sight import Eyes
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.sprite import LEVELS
from drivetrain.envs.state import CarState
from drivetrain.envs.track import Tracks, build_tracks
from drivetrain.envs.view import ROAD_ROWS

__all__ = ["REGIONS", "Likeness", "compare_pictures", "picture_parity"]

FAR_OFF = 24
"""levels"""
CAR_ROWS, CAR_COLUMNS = slice(65, 79), slice(43, 53)
"""px, the box that hull and wheels lie in when the camera has come close"""
REGIONS = ("picture", "road", "car", "indicators", "opening zoom")

Pictures = NDArray[np.uint8]


@dataclass(frozen=True)
class Likeness:
    """Mean absolute errors in levels over pictures of a lap. The row above the indicators counts for none of them."""

    picture: float  # all but the indicators
    road: float  # the same without the car's box and the opening zoom
    car: float  # the car's box without the opening zoom
    indicators: float
    zoom: float  # all but the indicators, while the camera comes closer
    far_off: float  # share of pixels, indicators left out, with a channel off by more than FAR_OFF levels
    frames: int


def compare_pictures(ours: Pictures, theirs: Pictures) -> Likeness:
    """Of two films of one lap, uint8 [T, 96, 96, 3] each, from the reset on."""
    error = np.abs(ours.astype(np.int16) - theirs)
    above = error[:, : ROAD_ROWS - 1]
    near = above[LEVELS:]
    car = near[:, CAR_ROWS, CAR_COLUMNS]
    rest = near.size - car.size
    return Likeness(
        picture=float(above.mean()),
        road=float(near.sum(dtype=np.int64) - car.sum(dtype=np.int64)) / rest if rest else float("nan"),
        car=float(car.mean()) if car.size else float("nan"),
        indicators=float(error[:, ROAD_ROWS:].mean()),
        zoom=float(above[:LEVELS].mean()),
        far_off=float((above.max(-1) > FAR_OFF).mean()),
        frames=len(error),
    )


def picture_parity(seeds: Sequence[int]) -> tuple[list[Likeness], list[Likeness]]:
    """One lap of the expert per seed.

    Returns:
        For every lap, the likeness of the simulator's pictures of the original's own cars; and that of the pictures of
        a lap in the simulator beside the lap in the original, frame by frame.
    """
    drawn, driven = [], []
    for seed in seeds:
        theirs, tracks, states = film_original(seed)
        drawn.append(compare_pictures(draw_states(tracks, states), theirs))
        ours = film_twin(tracks)
        both = min(len(ours), len(theirs))
        driven.append(compare_pictures(ours[:both], theirs[:both]))
    return drawn, driven


def mean_likeness(laps: Sequence[Likeness]) -> Likeness:
    """The mean of laps, of equal weight, and the sum of their frames."""
    table = np.array([[getattr(lap, f.name) for f in fields(Likeness)] for lap in laps])
    *means, _ = table.mean(0).tolist()
    picture, road, car, indicators, zoom, far_off = means
    return Likeness(picture, road, car, indicators, zoom, far_off, frames=sum(lap.frames for lap in laps))


def film_original(seed: int) -> tuple[Pictures, Tracks, CarState]:
    """The expert's lap in the original: pictures [T, 96, 96, 3] from the reset on, the road, and the cars [T]."""
    env = OriginalEnv(obs="pixels")
    env.restart(seed)
    tracks, actor = build_tracks([env.line], [seed]), expert_actor()
    pictures, states = [env.core.state], [read_states([env], tracks.max_tiles)]
    over = False
    while not over:
        controls = actor(states[-1].pos, tracks, states[-1])[0].double().numpy()
        _, terminated, truncated, _ = env.advance(controls)
        pictures.append(env.core.state)
        states.append(read_states([env], tracks.max_tiles))
        over = terminated or truncated
    columns = {f.name: torch.cat([getattr(state, f.name) for state in states]) for f in fields(CarState)}
    return np.stack(pictures), tracks, CarState(**columns)


def draw_states(tracks: Tracks, states: CarState) -> Pictures:
    """The simulator's pictures [T, 96, 96, 3] of cars [T] on a single road."""
    states = replace(states, track=torch.zeros_like(states.frames)).map(Tensor.contiguous)
    eyes = Eyes(SimConfig(obs="pixels"), len(states.frames), states.pos.device, fast=True)
    return eyes.open(tracks, states, plain(states.track)).numpy()


def film_twin(tracks: Tracks) -> Pictures:
    """The expert's lap in the simulator on a single road: pictures [T, 96, 96, 3] from the reset on."""
    sim, actor = Sim(tracks, 1, SimConfig(obs="pixels")), expert_actor()
    pictures, over = [sim.reset()[0].numpy().copy()], False
    while not over:
        outcome = sim.step(actor(sim.state.pos, tracks, sim.state))
        pictures.append(outcome.next_obs[0].numpy().copy())
        over = bool(outcome.done)
    return np.stack(pictures)
