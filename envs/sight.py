"""What a driver sees: the space of an observation, and the observation itself from tracks and cars."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from . import kernel, picture
from .observe import OBS_LIMIT, OBS_SIZE, observe
from .paint import Paint
from .state import CarState
from .track import Tracks
from .view import fill, picture_shape, process, push

if TYPE_CHECKING:
    from .sim import SimConfig

OBSERVATIONS = ("state", "pixels")


def observation_space(config: SimConfig) -> Box:
    """Of one car: float32 [OBS_SIZE] of the state, or uint8 [H, W, C·k] of pixels."""
    if config.obs == "pixels":
        return Box(0, 255, picture_shape(config), np.uint8)
    return Box(-OBS_LIMIT, OBS_LIMIT, (OBS_SIZE,), np.float32)


def look(tracks: Tracks, state: CarState, config: SimConfig, paint: Paint) -> Tensor:
    """Observations [B, …] of cars, in plain torch; of stacked pictures only the newest, uint8 [B, H, W, C]."""
    if config.obs == "pixels":
        return process(picture.draw(tracks, state, paint), config)
    return observe(tracks, state)


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
        else:
            first = look(tracks, state, self.config, paint)
            if self.config.obs == "pixels":
                first = fill(first, self.config.frame_stack)
            self.seen = torch.where(fresh.view(-1, *[1] * (seen.ndim - 1)), first, seen)
        return self.seen

    def _stacked(self, picture: Tensor) -> Tensor:
        return push(self.seen, picture) if self.config.frame_stack > 1 else picture

    def _other(self) -> Tensor:
        """The buffer that does not hold what is seen now."""
        return self._buffers[self.seen.data_ptr() == self._buffers[0].data_ptr()]

    def _compiled(self, tracks: Tracks, state: CarState, paint: Paint, fresh: Tensor | None, out: Tensor) -> Tensor:
        """Writes into out the observations of all cars, or of the fresh ones alone; returns out."""
        if self.config.obs == "state":
            seen = torch.empty_like(out)
            kernel.observe(kernel.views(tracks, kernel.World), kernel.views(state, kernel.Cars), seen.numpy())
        else:
            seen = self._stacked(look(tracks, state, self.config, paint))
            if fresh is not None and self.config.obs == "pixels":
                seen = fill(look(tracks, state, self.config, paint), self.config.frame_stack)
        if fresh is None:
            return out.copy_(seen)
        out[fresh] = seen[fresh]
        return out
