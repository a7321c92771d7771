"""What a driver sees: the space of an observation, and the observation itself from tracks and cars."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from . import kernel, kernel_lidar, kernel_picture, lidar, picture
from .observe import MOTION, OBS_LIMIT, OBS_SIZE, OBS_SPEC, observe, places_of
from .paint import Paint
from .state import CarState
from .track import Tracks
from .view import fill, nearest_colour, picture_shape, process, push

if TYPE_CHECKING:
    from .sim import SimConfig

OBSERVATIONS = ("state", "lidar", "pixels")


def observation_space(config: SimConfig) -> Box:
    """Of one car: float32 [OBS_SIZE] of state, float32 [MOTION_SIZE + beams] of lidar, uint8 [H, W, C·k] of pixels."""
    if config.obs == "pixels":
        return Box(0, 255, picture_shape(config), np.uint8)
    if config.obs == "lidar":
        limits = lidar.limits(config.beams).numpy()
        return Box(-limits, limits, dtype=np.float32)
    return Box(-OBS_LIMIT, OBS_LIMIT, (OBS_SIZE,), np.float32)


def look(tracks: Tracks, state: CarState, config: SimConfig, paint: Paint) -> Tensor:
    """Observations [B, …] of cars, in plain torch; of stacked pictures only the newest, uint8 [B, H, W, C]."""
    if config.obs == "pixels":
        return process(picture.draw(tracks, state, paint), config)
    if config.obs == "lidar":
        return _hidden(lidar.observe(tracks, state, config.beams, config.beam_range), config)
    return _hidden(observe(tracks, state), config)


def look_fast(
    tracks: Tracks, state: CarState, config: SimConfig, fresh: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """look() by compiled kernels, for cars on the CPU and observations of numbers; of few cars ten times less work.

    Args:
        tracks, state: contiguous, on the CPU.
        config: obs "state" or "lidar".
        fresh: [B] bool, cars to look at; None = all.
        out: [B, O] to write into, other rows stay as they are; None = a new tensor.
    """
    out = torch.empty(len(state.heading), *observation_space(config).shape) if out is None else out
    world, cars = kernel.views(tracks, kernel.World), kernel.views(state, kernel.Cars)
    if config.obs == "lidar":
        which = np.ones(len(out), np.bool_) if fresh is None else fresh.numpy()
        directions = lidar.beam_directions(config.beams).numpy()
        kernel_lidar.observe(world, cars, directions, config.beam_range, which, out.numpy())
    elif fresh is None:
        kernel.observe(world, cars, out.numpy())
    else:
        kernel.observe(world, cars, (seen := torch.empty_like(out)).numpy())
        out[fresh] = seen[fresh]
    return _hidden(out, config)


def _hidden(obs: Tensor, config: SimConfig) -> Tensor:
    """The same observations [B, O] without what the task hides of them."""
    if config.hide_motion:
        obs[:, places_of(MOTION, lidar.MOTION_SPEC if config.obs == "lidar" else OBS_SPEC)] = 0.0
    return obs


class Eyes:
    """What B drivers see over time: it stacks pictures, and takes the compiled path where there is one.

    Args:
        config: what is seen.
        num_envs: B.
        device: of the simulator.
        fast: use the compiled kernels.
    """

    def __init__(self, config: SimConfig, num_envs: int, device: torch.device, fast: bool) -> None:
        self.config, self.fast = config, fast
        space = observation_space(config)
        dtype = torch.uint8 if config.obs == "pixels" else torch.float32
        # compiled code writes into one what it reads in the other
        self._buffers = [
            torch.zeros(num_envs, *space.shape, dtype=dtype, device=device) for _ in range(2 if fast else 1)
        ]
        self.seen = self._buffers[0]
        # numbers of a palette are found in a finished picture
        drawn = replace(config, picture="rgb", frame_stack=1) if config.picture == "palette" else config
        self._frame = kernel_picture.make_frame(drawn) if fast and config.obs == "pixels" else None

    def open(self, tracks: Tracks, state: CarState, paint: Paint) -> Tensor:
        """[B, …] of cars that are looked at for the first time."""
        return self.reopen(tracks, state, paint, torch.ones_like(state.track, dtype=torch.bool), self.seen)

    def look(self, tracks: Tracks, state: CarState, paint: Paint) -> Tensor:
        """[B, …] of cars after a step."""
        if self.fast:
            self.seen = self._compiled(tracks, state, paint, None, self._other())
        else:
            self.seen = self._stacked(look(tracks, state, self.config, paint))
        return self.seen

    def reopen(self, tracks: Tracks, state: CarState, paint: Paint, fresh: Tensor, seen: Tensor) -> Tensor:
        """[B, …]: seen where not fresh [B] bool, and there what is seen for the first time; seen is left as it is."""
        if self.fast:
            self.seen = self._compiled(tracks, state, paint, fresh, self._other().copy_(seen))
        elif self.config.obs == "pixels":
            lanes = fresh.nonzero()[:, 0]  # waits for a GPU, but to draw all cars again would take far longer
            self.seen = seen
            if len(lanes):
                first = look(tracks, state.take(lanes), self.config, paint.take(lanes))
                self.seen = seen.index_copy(0, lanes, fill(first, self.config.frame_stack))
        else:
            self.seen = torch.where(fresh[:, None], look(tracks, state, self.config, paint), seen)
        return self.seen

    def _stacked(self, picture: Tensor) -> Tensor:
        return push(self.seen, picture) if self.config.frame_stack > 1 else picture

    def _other(self) -> Tensor:
        """The buffer that does not hold what is seen now."""
        return self._buffers[self.seen.data_ptr() == self._buffers[0].data_ptr()]

    def _compiled(self, tracks: Tracks, state: CarState, paint: Paint, fresh: Tensor | None, out: Tensor) -> Tensor:
        """Writes into out the observations of all cars, or of the fresh ones alone; returns out."""
        if self._frame is None:
            return look_fast(tracks, state, self.config, fresh, out)
        lanes = torch.arange(len(out)) if fresh is None else fresh.nonzero()[:, 0]
        if self.config.picture == "palette":
            colours = torch.empty(*out.shape[:3], 3, dtype=torch.uint8)
            kernel_picture.see(tracks, state, paint, self._frame, lanes, None, colours)
            numbers = nearest_colour(colours[lanes])
            out[lanes] = self._stacked(numbers) if fresh is None else fill(numbers, self.config.frame_stack)
        else:
            before = self.seen if fresh is None else None
            kernel_picture.see(tracks, state, paint, self._frame, lanes, before, out)
        return out
