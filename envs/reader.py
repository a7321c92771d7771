"""One environment of a task, step by step, as a policy sees it and acts in it: a batch of one."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from torch import Tensor

from .codecs import ActionCodec, ObsCodec
from .gym_task import GymTask
from .gym_view import GymView


class Reader:
    """Turns an environment's observations into a policy's, and its actions back.

    Args:
        env: whose spaces count.
        task: grey, resize and frame_stack count.

    Raises:
        UserError: a kind of space that no policy here knows.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], task: GymTask) -> None:
        self._codec, self._actions = ObsCodec(env.observation_space), ActionCodec(env.action_space)
        self._view = GymView(self._codec.space, task, torch.device("cpu"))
        self._stack: Tensor | None = None

    def begin(self) -> None:
        """What is read next is the first observation of an episode."""
        self._stack = None

    def read(self, obs: Any) -> Tensor:
        """[1, …] of the newest observation, in the environment's own form."""
        newest = self._view.prepare(self._codec.read_each([obs]))
        self._stack = self._view.first(newest) if self._stack is None else self._view.next(self._stack, newest)
        return self._stack

    def action(self, action: Tensor) -> Any:
        """In the environment's own form, of a policy's [1, …]."""
        return self._actions.decode(action.cpu().numpy())[0]
