"""What can be trained on, and the options that each kind of environment takes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from drivetrain.agents.config import ORIGINAL, RACING, RacingTraining
from drivetrain.envs.errors import UserError
from drivetrain.options import Options

__all__ = ["GymOptions", "LaneOptions", "TaskOptions", "check_recorded", "environment", "task_models"]

ALIASES = {"racing": RACING, "drivetrain/Racing-v0": RACING}


class TaskOptions(Options):
    """What the driver sees, does and is scored by"""

    obs: Literal["state", "lidar", "pixels"] = Field(
        "state", description="what the driver sees: the car's state and the road ahead, beams, or pictures"
    )
    actions: Literal["continuous", "pedals", "discrete", "macro"] = Field(
        "continuous", description="what it can do: three controls, steer and pedals, 5 choices, or 15 choices"
    )
    frame_skip: int = Field(1, ge=1, le=100, description="frames an action is held for, 0.02 s each")
    lap_rule: Literal["all", "percent"] = Field("all", description="tiles a finished lap needs: all, or 95 percent")
    picture: Literal["rgb", "grey", "palette"] = Field(
        "rgb", description="of pixels: three colours, brightness, or numbers of colours"
    )
    picture_size: Literal[64, 84, 96] = Field(96, description="of pixels: columns of a picture, px")
    crop: bool = Field(False, description="of pixels: leave out the rows of indicators")
    frame_stack: int = Field(1, ge=1, le=16, description="of pixels: pictures in an observation, a decision apart")
    indicators: Literal["original", "random"] = Field(
        "original", description="of pixels: random = the score is written in another way in every episode"
    )
    domain_randomize: bool = Field(False, description="of pixels: other colours in every training episode")
    beams: int = Field(19, ge=1, le=256, description="of lidar: number of beams")
    beam_range: float = Field(40.0, gt=0, description="of lidar: how far a beam reaches, u")
    hide_motion: bool = Field(
        False, description="of state and lidar: speeds, turning and slip read 0, so that driving needs a --core"
    )


class LaneOptions(Options):
    """How a Gymnasium environment is run"""

    vectorization: Literal["auto", "sync", "async", "native"] = Field(
        "auto",
        description="many environments at once: one after the other (sync), a process each (async), or by a batched "
        "version of its own (native); auto = native where there is one, else sync",
    )
    env_timeout: float = Field(60.0, gt=0, description="time that a step may take before it counts as hanging, s")
    norm_reward: bool = Field(False, description="divide training rewards by the spread of the discounted return")
    clip_reward: float | None = Field(None, gt=0, description="training rewards are clipped to ± this; none = are not")


class GymOptions(LaneOptions):
    """The environment"""

    env_args: dict[str, Any] = Field({}, description="keyword arguments for gymnasium.make: a=1,b=text, or JSON")
    frame_skip: int = Field(1, ge=1, le=100, description="steps of the environment that an action is held for")
    frame_stack: int = Field(1, ge=1, le=16, description="observations that the agent sees at once, the newest last")
    grey: bool = Field(False, description="of pictures: brightness instead of colours")
    resize: int | None = Field(None, ge=8, le=1024, description="of pictures: rows and columns, px; none = as they are")
    atari: bool = Field(
        False, description="Atari's usual preparation: skip of 4, 84 px, grey, idle starts, a lost life ends training"
    )


def environment(word: str) -> str:
    """The environment behind a word of the command line.

    Raises:
        UserError: there is none; names the nearest, or the package that is missing.
    """
    if word in ALIASES:
        return ALIASES[word]
    from drivetrain.envs.gym_ids import check_env_id

    return word if word == ORIGINAL else check_env_id(word, ALIASES)


def check_recorded(env: str) -> None:
    """Refuses the environment of a run that nothing registers here.

    Raises:
        UserError: says how to bring it back, or which package is missing.
    """
    from drivetrain.envs.gym_ids import UNKNOWN, find_spec

    if env in (RACING, ORIGINAL):
        return
    try:
        find_spec(env)
    except UserError as error:
        if error.what != UNKNOWN:
            raise
        what = "the environment of this run is not known here"
        raise UserError(what, got=env, fix="import the module that registers it: --import MODULE") from error


def task_models(env: str) -> tuple[type[BaseModel], ...]:
    """The options that an environment takes."""
    if env == RACING:
        return (TaskOptions, RacingTraining)
    return (TaskOptions, LaneOptions) if env == ORIGINAL else (GymOptions,)
