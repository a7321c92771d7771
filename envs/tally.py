"""How B lanes stand: the flags and rewards of their last step, and their running episodes (no torch here)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


class Tally:
    """Counts of B lanes, in arrays that stay where they are.

    Args:
        num_envs: B.
        skip: frames of a step that is not cut short.
        late: an episode begins in a step of its own, after the one that ended the last (Gymnasium's NEXT_STEP).
    """

    def __init__(self, num_envs: int, skip: int, late: bool = False) -> None:
        self.skip, self.late = skip, late
        self.terminated: Flags = np.zeros(num_envs, np.bool_)
        self.truncated: Flags = np.zeros(num_envs, np.bool_)
        self.done: Flags = np.zeros(num_envs, np.bool_)
        self.valid: Flags = np.ones(num_envs, np.bool_)
        self.reward = np.zeros(num_envs)  # the environment's own
        self.frames = np.full(num_envs, skip, np.int64)  # of the last step
        self.episode_return = np.zeros(num_envs, np.float32)  # up to and with the last step
        self.episode_frames = np.zeros(num_envs, np.int64)
        self.episodes = np.ones(num_envs, np.int64)  # begun so far
        # of the running episode, so 0 where one has just ended
        self._running = np.zeros((3, num_envs))
        self._return, self._length, self.steps = self._running

    def clear(self) -> None:
        """Every lane begins its first episode."""
        self._running[...] = 0
        self.done[...] = False
        self.episodes[...] = 1

    def begin(self) -> None:
        """A step begins. If late, lanes that are done only begin their next episode with it, and take no step."""
        if self.late:
            np.logical_not(self.done, out=self.valid)
            self.steps += self.valid
        else:
            self.steps += 1

    def add(
        self,
        reward: NDArray[Any],
        terminated: Flags,
        truncated: Flags,
        cut_short: tuple[Flags, NDArray[Any]] | None = None,
    ) -> None:
        """What the step led to.

        Args:
            reward, terminated, truncated: [B]; what they hold for lanes that took no step does not count.
            cut_short: which lanes took another number of frames than usual, and how many; each [B].
        """
        if self.late:
            np.multiply(reward, self.valid, out=self.reward)
            np.logical_and(terminated, self.valid, out=self.terminated)
            np.logical_and(truncated, self.valid, out=self.truncated)
            np.multiply(self.valid, self.skip, out=self.frames)
        else:
            self.reward[...], self.terminated[...], self.truncated[...] = reward, terminated, truncated
            self.frames.fill(self.skip)
        if cut_short is not None:
            np.copyto(self.frames, cut_short[1], where=cut_short[0])
        np.logical_or(self.terminated, self.truncated, out=self.done)
        self._return += self.reward
        self._length += self.frames
        self.episode_return[...] = self._return
        self.episode_frames[...] = self._length

    def close(self) -> None:
        """Lanes that are done begin their next episode."""
        self._running[:, self.done] = 0
        self.episodes += self.done
