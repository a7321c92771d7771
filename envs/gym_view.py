"""Observations of Gymnasium environments on the device where they are wanted: grey, resized, stacked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray
from torch import Tensor

from .errors import UserError
from .gym_task import GymTask
from .view import grey, push, shrink


class GymView:
    """What is done to observations after they were read.

    Args:
        space: of one observation as it was read: numbers float32 [O], or a picture uint8 [H, W, C].
        task: grey, resize and frame_stack count.
        device: where observations shall be.

    Raises:
        UserError: something that only pictures can have is asked of numbers.
    """

    space: Box
    """of what comes out: float32 [O·k], or uint8 [H, W, C·k]"""

    def __init__(self, space: Box, task: GymTask, device: torch.device) -> None:
        self.device, self._depth = device, task.frame_stack
        picture = len(space.shape) == 3
        # what an Atari game shows is grey and small already
        self._grey = task.grey and not task.atari
        self._side = None if task.atari else task.resize
        if not picture and (self._grey or self._side is not None):
            got = f"{task.env} shows {space.shape[0]} numbers"
            raise UserError("grey and resize are for pictures", got=got, fix="leave them out")
        low, high = space.low, space.high
        self.channels: int | None = None
        if picture:
            rows, columns, channels = space.shape
            rows, columns = (rows, columns) if self._side is None else (self._side, self._side)
            self.channels = 1 if self._grey else channels
            low, high = (np.full((rows, columns, self.channels), edge, np.uint8) for edge in (0, 255))
        low, high = (np.concatenate([edge] * self._depth, -1) for edge in (low, high))
        # observations are handed on as they were read, in the same memory
        self.untouched = device.type == "cpu" and self._depth == 1 and not self._grey and self._side is None
        self.space = Box(low, high, dtype=space.dtype.type)  # type: ignore[union-attr]

    def prepare(self, seen: NDArray[Any]) -> Tensor:
        """The newest observations of B environments, of what was read: [B, …], not yet stacked."""
        picture = torch.from_numpy(seen).to(self.device)
        if self._grey and picture.shape[-1] > 1:
            picture = grey(picture[..., :3])
        if self._side is not None and picture.shape[1:3] != (self._side, self._side):
            picture = shrink(picture, self._side, self._side)
        return picture

    def first(self, newest: Tensor) -> Tensor:
        """[B, …] at the start of an episode: its first observation, as often as the stack is deep."""
        return torch.cat([newest] * self._depth, -1) if self._depth > 1 else newest

    def next(self, stack: Tensor, newest: Tensor) -> Tensor:
        """[B, …] after a step."""
        return push(stack, newest) if self._depth > 1 else newest
