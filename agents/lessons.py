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
        self.first = torch.ones(num_steps + 1, self.lanes, dtype=torch.bool, device=obs.device)  # begins an episode
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
        self.first[self.step] = done

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Observations [N, …] and answers [N, size], drawn with equal odds and put back."""
        return self._take(torch.randint(len(self), (count,), generator=generator, device=generator.device))

    def windows(self, count: int, length: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """So many stretches of L decisions of one car each, drawn with equal odds and put back.

        Returns:
            Observations [L, K, …], answers [L, K, size], and first [L, K] bool: which begin an episode.
        """
        device = generator.device
        lane = torch.randint(self.lanes, (count,), generator=generator, device=device)
        start = torch.randint(self.step - length + 1, (count,), generator=generator, device=device)
        step = start + torch.arange(length, device=device)[:, None]
        obs, answers = self._take((step * self.lanes + lane).flatten())
        shape = (length, count)
        return (
            obs.unflatten(0, shape),
            {name: kept.unflatten(0, shape) for name, kept in answers.items()},
            self.first[step, lane],
        )

    def _take(self, index: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        if self.pictures is not None:
            obs = self.pictures.frames().take(index)
        else:
            assert self.numbers is not None, "one of both is kept"
            obs = self.numbers.flatten(0, 1)[index]
        return obs, {name: kept.flatten(0, 1)[index] for name, kept in self.answers.items()}
