"""Pictures of a rollout, each stored once: what was seen at a step is a stack of them, made when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frames:
    """Observations of T steps of B environments that see the last k pictures.

    An episode that begins inside the rollout begins with k times its first picture (Mnih et al. 2015 leave it open;
    Gymnasium's FrameStackObservation pads in the same way).
    """

    pictures: Tensor  # [k - 1 + T, B, H, W, C] uint8; the first k - 1 rows are from before the rollout
    oldest: Tensor  # [T, B] int64, row of the first picture that an observation may hold

    @property
    def depth(self) -> int:
        """Pictures in a stack, k."""
        return len(self.pictures) - len(self.oldest) + 1

    def take(self, index: Tensor) -> Tensor:
        """Observations uint8 [N, H, W, C·k] of samples index [N] int64; sample t·B + b is step t of lane b."""
        lanes, depth = self.oldest.shape[1], self.depth
        step, lane = torch.div(index, lanes, rounding_mode="floor"), index % lanes
        if depth == 1:
            return self.pictures[step, lane]
        rows = step[:, None] + torch.arange(depth, device=index.device)
        rows = torch.maximum(rows, self.oldest[step, lane][:, None])
        stacks = self.pictures[rows, lane[:, None]]  # [N, k, H, W, C]
        return stacks.permute(0, 2, 3, 1, 4).flatten(3)


class FrameRecorder:
    """Fills a Frames step by step.

    Args:
        obs: uint8 [B, H, W, C·k], the first observation.
        num_steps: T.
        channels: C, of one picture.
    """

    def __init__(self, obs: Tensor, num_steps: int, channels: int) -> None:
        self.depth, self.channels = obs.shape[-1] // channels, channels
        lanes, *size, _ = obs.shape
        self.pictures = obs.new_empty(self.depth - 1 + num_steps, lanes, *size, channels)
        earlier = obs[..., : -channels or None].unflatten(-1, (-1, channels)) if self.depth > 1 else None
        if earlier is not None:
            self.pictures[: self.depth - 1] = earlier.permute(3, 0, 1, 2, 4)
        self.oldest = torch.zeros(num_steps, lanes, dtype=torch.int64, device=obs.device)
        self.step = 0

    def add(self, obs: Tensor) -> None:
        """Keeps the newest picture of obs uint8 [B, H, W, C·k], what is acted on in this step."""
        self.pictures[self.depth - 1 + self.step] = obs[..., -self.channels :]

    def after(self, done: Tensor) -> None:
        """Goes on to the next step; lanes done [B] bool begin a new episode there.

        In an environment that resets itself in a step of its own, these are the lanes that have just done so.
        """
        self.step += 1
        if self.step < len(self.oldest):
            begin = self.depth - 1 + self.step
            self.oldest[self.step] = torch.where(done, begin, self.oldest[self.step - 1])

    def frames(self) -> Frames:
        """What was recorded."""
        return Frames(self.pictures, self.oldest)
