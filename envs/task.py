"""What a driver sees and does, from the loose keyword arguments that Gymnasium hands over."""

from __future__ import annotations

from typing import Any, TypedDict, cast

import numpy as np
from typing_extensions import Unpack

from .errors import UserError
from .sim import SimConfig


class Task(TypedDict, total=False):
    """The fields of SimConfig that belong to the task, not to training."""

    obs: str
    actions: str
    frame_skip: int
    lap_rule: str
    picture: str
    picture_size: int
    crop: bool
    indicators: str
    domain_randomize: bool
    frame_stack: int
    beams: int
    beam_range: float
    hide_motion: bool


_NUMBERS: dict[type, tuple[tuple[type, ...], str]] = {
    int: ((int, np.integer), "a whole number"),
    float: ((int, float, np.integer, np.floating), "a number"),
}


def sim_config(**task: Unpack[Task]) -> SimConfig:
    """A SimConfig of the arguments; numpy's numbers will do as well as Python's.

    Raises:
        UserError: a value of another type, unknown, or out of range.
    """
    default = SimConfig()
    return SimConfig(**{name: _checked(name, value, type(getattr(default, name))) for name, value in task.items()})


def task_of(config: SimConfig) -> Task:
    """The arguments that make this config, but for what belongs to training."""
    return cast(Task, {name: getattr(config, name) for name in Task.__annotations__})


def _checked(name: str, value: Any, kind: type) -> Any:
    if kind is str:
        return str(value)
    if kind is bool:
        if not isinstance(value, (bool, np.bool_)):
            raise UserError(f"{name} is neither on nor off", got=repr(value), allowed="True, False")
        return bool(value)
    allowed, words = _NUMBERS[kind]
    if isinstance(value, bool) or not isinstance(value, allowed):
        raise UserError(f"{name} is not {words}", got=repr(value))
    return kind(value)
