"""Which Gymnasium environment, and what is done to its observations, actions and rewards (no torch here)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import UserError, nearest

VECTORIZATIONS = ("auto", "sync", "async", "native")
OURS = "drivetrain/"
"""ids of environments that skip frames by themselves, as their argument frame_skip says"""
ATARI_SKIP = 4
ATARI_SIDE = 84
LARGEST_SIDE = 1024


@dataclass(frozen=True)
class GymTask:
    """One Gymnasium environment as an agent meets it.

    Raises:
        UserError: a value out of its range.
    """

    env: str
    """a registered id; one that would import a module ("module:id") is refused"""
    env_args: Mapping[str, Any] = field(default_factory=dict)
    """keyword arguments of the environment, values as JSON has them"""
    frame_skip: int = 1
    """steps of the environment that an action is held for"""
    frame_stack: int = 1
    """observations that the agent sees at once, the newest last"""
    grey: bool = False
    """of pictures: brightness instead of colours"""
    resize: int | None = None
    """of pictures: rows and columns, px; None = as they are"""
    atari: bool = False
    """Atari's usual preparation: idle starts, a skip of 4, the brighter of two frames, grey, 84 x 84 px"""
    vectorization: str = "auto"
    """sync: one after the other; async: a process each; native: its own batched version; auto: native, else sync"""
    norm_reward: bool = False
    """divide training rewards by the running standard deviation of the discounted return"""
    clip_reward: float | None = None
    """training rewards, normalised or not, are clipped to ± this; None = are not"""
    env_timeout: float = 60.0
    """s, time for one step of one environment, after which it counts as hanging"""

    def __post_init__(self) -> None:
        if not self.env or ":" in self.env:
            alone = "import its module yourself (on the command line --import MODULE) and give the id alone"
            raise UserError("no id of an environment", got=self.env or "nothing", fix=alone)
        self._check_args()
        for name, value in (("frame_skip", self.frame_skip), ("frame_stack", self.frame_stack)):
            if value < 1:
                raise UserError(f"{name} is too small", got=value, allowed="1 or more")
        if self.resize is not None and not 8 <= self.resize <= LARGEST_SIDE:
            raise UserError("resize is out of range", got=self.resize, allowed=f"8 to {LARGEST_SIDE} px")
        if self.vectorization not in VECTORIZATIONS:
            near = nearest(self.vectorization, VECTORIZATIONS)
            fix = f"did you mean {near}?" if near else None
            raise UserError("unknown vectorization", got=self.vectorization, allowed=VECTORIZATIONS, fix=fix)
        for name, number in (("clip_reward", self.clip_reward), ("env_timeout", self.env_timeout)):
            if number is not None and not 0 < number < math.inf:
                raise UserError(f"{name} is out of range", got=number, allowed="more than 0")

    def _check_args(self) -> None:
        allowed = "a mapping from names to values that JSON has: numbers, texts, true, false, null, lists, maps"
        if not isinstance(self.env_args, Mapping) or not all(isinstance(name, str) for name in self.env_args):
            raise UserError("env_args is no mapping from names", got=repr(self.env_args), allowed=allowed)
        try:
            json.dumps(dict(self.env_args))
        except (TypeError, ValueError) as error:
            raise UserError("env_args holds what JSON has not", got=str(error), allowed=allowed) from None

    @property
    def skip(self) -> int:
        """Frames of one decision, where no episode ends between."""
        if self.env.startswith(OURS):
            return self.frame_skip * int(self.env_args.get("frame_skip", 1))
        return ATARI_SKIP if self.atari and self.frame_skip == 1 else self.frame_skip
