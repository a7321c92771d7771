"""What a student learns from: every observation so far, with what the teacher would have done there."""

from __future__ import annotations

import torch
from torch import Tensor

from .frames import FrameRecorder


class Lessons:
    """Room for T decisions of B cars. A picture is stored once, uint8, in however many stacks it is seen.

    Args:
        obs: [B, …], the first observation.
        num_steps: T.
        channels: of one picture; None for numbers.
        answers: sizes of what is kept beside each observation, by name.
    """

    def __init__(self, obs: Tensor, num_steps: int, channels: int | None, answers: dict[str, int]) -> None:
        self.lanes, self.step = len(obs), 0
        self.pictures = None if channels is None else FrameRecorder(obs, num_steps, channels)
        self.numbers = obs.new_empty(num_steps, *obs.shape) if channels is None else None
        self.answers = {
            name: torch.zeros(num_steps, self.lanes, size, device=obs.device) for name, size in answers.items()
        }

    def __len__(self) -> int:
        """Observations that it holds."""
        return self.step * self.lanes

    def add(self, obs: Tensor, answers: dict[str, Tensor]) -> None:
        """Keeps what B cars see now, obs [B, …], and the answers to it, [B, size] by name."""
        if self.pictures is not None:
            self.pictures.add(obs)
        if self.numbers is not None:
            self.numbers[self.step] = obs
        for name, answer in answers.items():
            self.answers[name][self.step] = answer

    def after(self, done: Tensor) -> None:
        """Goes on to the next decision; lanes done [B] bool begin a new episode there."""
        if self.pictures is not None:
            self.pictures.after(done)
        self.step += 1

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Observations [N, …] and answers [N, size], drawn with equal odds and put back."""
        index = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        if self.pictures is not None:
            obs = self.pictures.frames().take(index)
        else:
            assert self.numbers is not None, "one of both is kept"
            obs = self.numbers.flatten(0, 1)[index]
        return obs, {name: kept.flatten(0, 1)[index] for name, kept in self.answers.items()}
