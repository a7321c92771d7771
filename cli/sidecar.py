"""What stands beside an exported graph, for programs that know nothing of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drivetrain import __version__
from drivetrain.agents.config import ORIGINAL, RACING

if TYPE_CHECKING:
    from gymnasium.spaces import Space

    from drivetrain.drivers import Driver
    from drivetrain.envs.gym_task import GymTask
    from drivetrain.envs.sim import SimConfig
    from drivetrain.policies.export import Port

__all__ = ["Facts", "facts_of", "sidecar"]

FORMAT = 1
IDS = {RACING: "drivetrain/Racing-v0", ORIGINAL: ORIGINAL}
CONTROLS = {
    "continuous": ["steering, -1 full left to 1 full right", "gas, 0 to 1", "brake, 0 to 1"],
    "pedals": ["steering, -1 full left to 1 full right", "gas where positive, brake where negative, -1 to 1"],
}


@dataclass(frozen=True)
class Facts:
    """What the world of a run is like, apart from the network."""

    env: Mapping[str, Any]  # id, arguments, and frames that an action is held for
    spaces: tuple[Space[Any], Space[Any]]  # of observations and actions, the environment's own
    preprocessing: Mapping[str, Any]  # what is done to observations before they are put into the graph
    action: Any  # what the numbers of an action mean; None = see the environment's documentation
    frame_stack: int  # observations that the network sees at once


def facts_of(driver: Driver) -> Facts:
    """Of a run.

    Raises:
        UserError: its environment cannot be made.
    """
    if driver.env in IDS:
        return _of_racing(driver.env, driver.sim_config)
    from drivetrain.agents.worlds import gym_task

    return _of_gym(gym_task(driver.env, driver.record))


def sidecar(driver: Driver, facts: Facts, ports: tuple[tuple[Port, ...], tuple[Port, ...]], error: float) -> Any:
    """Everything a program needs in order to run the graph, as JSON has it."""
    observation, action = map(space_record, facts.spaces)
    inputs, outputs = ([port._asdict() for port in side] for side in ports)
    return {
        "format": FORMAT,
        "drivetrain": __version__,
        "run": driver.name,
        "algo": driver.record.get("algo", "ppo"),
        "step": driver.step,
        "env": facts.env,
        "observation_space": observation,
        "action_space": action,
        "preprocessing": facts.preprocessing,
        "action": facts.action,
        "inputs": inputs,
        "outputs": outputs,
        "max_abs_error": error,
    }


def space_record(space: Space[Any]) -> dict[str, Any]:
    """A space in words and numbers; an edge that is null has no end."""
    from gymnasium import spaces

    kind = {"type": type(space).__name__}
    if isinstance(space, spaces.Box):
        # a picture's edges are all alike
        low, high = (edge.flat[0] if (edge == edge.flat[0]).all() else edge for edge in (space.low, space.high))
        return kind | {"shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    if isinstance(space, spaces.Discrete):
        return kind | {"n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        return kind | {"nvec": space.nvec.tolist(), "start": space.start.tolist(), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return kind | {"shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Dict):
        return kind | {"spaces": {key: space_record(part) for key, part in space.spaces.items()}}
    if isinstance(space, spaces.Tuple):
        return kind | {"spaces": [space_record(part) for part in space.spaces]}
    return kind


def _of_racing(name: str, task: SimConfig) -> Facts:
    from drivetrain.envs.actions import DISCRETE, MACRO, action_space
    from drivetrain.envs.sight import observation_space
    from drivetrain.envs.task import task_of

    rows = {"discrete": DISCRETE, "macro": MACRO}.get(task.actions)
    action: Any = CONTROLS.get(task.actions)
    if rows is not None:
        action = [dict(zip(("steering", "gas", "brake"), row, strict=True)) for row in rows]
    stack = task.frame_stack if task.obs == "pixels" else 1
    env = {"id": IDS[name], "args": dict(task_of(task)), "frame_skip": task.frame_skip}
    seen = _picture(task) if task.obs == "pixels" else _elements(task)
    return Facts(env, (observation_space(task), action_space(task.actions)), seen, action, stack)


def _elements(task: SimConfig) -> dict[str, Any]:
    """The numbers of an observation one by one."""
    from drivetrain.envs.lidar import MOTION_SPEC, beam_angles
    from drivetrain.envs.observe import OBS_SPEC

    if task.obs == "state":
        return {"frame_stack": 1, "elements": [element._asdict() for element in OBS_SPEC]}
    beams = {"angles": beam_angles(task.beams).tolist(), "unit": "rad, positive left", "range": task.beam_range}
    return {"frame_stack": 1, "elements": [element._asdict() for element in MOTION_SPEC], "beams": beams}


def _picture(task: SimConfig) -> dict[str, Any]:
    """What became of CarRacing-v3's picture, in the order in which it is done."""
    from drivetrain.envs import view

    rows, columns, _ = view.picture_shape(task)
    return {
        "source": f"picture of CarRacing-v3, uint8 [{view.SIDE}, {view.SIDE}, 3]: red, green, blue",
        "picture": task.picture,
        "crop": f"rows 0 to {view.ROAD_ROWS - 1}" if task.crop else None,
        "grey": _grey() if task.picture == "grey" else None,
        "size": [rows, columns],
        "resize": _resize() if columns != view.SIDE else None,
        "palette": view.PALETTE if task.picture == "palette" else None,
        "frame_stack": task.frame_stack,
    }


def _grey() -> str:
    from drivetrain.envs.view import LUMA

    red, green, blue = LUMA
    return f"({red} red + {green} green + {blue} blue + 128) >> 8"


def _resize() -> str:
    return "area averages, rounded to the nearest level, halves up"


def _of_gym(task: GymTask) -> Facts:
    from drivetrain.envs.codecs import ObsCodec
    from drivetrain.envs.preprocess import one_lane

    lane = one_lane(task)
    try:
        spaces = lane.observation_space, lane.action_space
    finally:
        lane.close()
    env = {"id": task.env, "args": dict(task.env_args), "frame_skip": task.skip, "atari": task.atari}
    seen: dict[str, Any] = {"numbers": "gymnasium.spaces.utils.flatten(observation_space, observation), float32"}
    if ObsCodec(spaces[0]).picture:
        grey = task.grey and not task.atari
        side = None if task.atari else task.resize
        seen = {
            "picture": "grey" if grey else "as it is, channels last",
            "grey": _grey() if grey else None,
            "size": None if side is None else [side, side],
            "resize": None if side is None else _resize(),
        }
    return Facts(env, spaces, seen | {"frame_stack": task.frame_stack}, None, task.frame_stack)
