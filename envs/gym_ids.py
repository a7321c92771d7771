"""Ids of Gymnasium environments: which there are, what is missing, what the registry says of one (no torch here)."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator, registry

from .errors import UserError, nearest
from .gym_task import OURS, GymTask
from .spec import RULES

__all__ = ["check_env_id", "find_spec", "not_made", "reward_threshold", "said", "time_limit"]

PROVIDERS = (
    (r"ALE/", "ale_py"),
    (r"(highway|merge|roundabout|parking|intersection|racetrack|exit|lane-keeping|two-way|u-turn)-", "highway_env"),
    (r"(MiniGrid|BabyAI)-", "minigrid"),
)
"""ids that a package of their own registers, and the module that does it"""
DISTRIBUTIONS = {
    "ale_py": "ale-py",
    "highway_env": "highway-env",
    "cv2": "opencv-python-headless",
    "Box2D": '"gymnasium[box2d]"',
    "mujoco": '"gymnasium[mujoco]"',
    "jax": '"gymnasium[jax]"',
    "pygame": "pygame-ce",
}
"""what pip calls a module that is called otherwise in Python"""
REFUSALS = (ValueError, AssertionError, gymnasium.error.Error)
"""what gymnasium.make, and constructors, raise at a value that they do not take"""
UNKNOWN = "unknown environment"
MODULE_OF_USER = "for one of your own import its module (on the command line --import MODULE)"


def check_env_id(env: str, also: Iterable[str] = ()) -> str:
    """The id itself, where such an environment is registered and its program can be imported.

    Args:
        env: an id.
        also: other names that the caller knows, to be suggested where one is nearest.

    Raises:
        UserError: unknown (names the nearest), or a package is missing (says how to install it).
    """
    spec = find_spec(env, also)
    try:
        if isinstance(spec.entry_point, str):
            load_env_creator(spec.entry_point)
    except Exception as error:  # importing a stranger's module may fail in any way
        raise not_made(env, error) from error
    return env


def find_spec(env: str, also: Iterable[str] = ()) -> EnvSpec:
    """What the registry says of an id; a package that registers it is imported first.

    Raises:
        UserError: unknown, or its package is missing.
    """
    GymTask(env)
    if env not in registry:
        _import_provider(env)
    try:
        return gymnasium.spec(env)
    except Exception as error:
        known = [*also, *registry]
        family = env.rpartition("-v")[0] or env
        versions = sorted((name for name in known if name.rpartition("-v")[0] == family), key=_version)
        near = versions[-1] if versions else nearest(env, known)
        fix = f"did you mean {near}? If not, {MODULE_OF_USER}" if near else MODULE_OF_USER
        raise UserError(UNKNOWN, got=env, fix=fix) from error


def reward_threshold(env: str) -> float | None:
    """The return from which on the registry calls an environment solved; None where it does not say.

    Raises:
        UserError: as find_spec.
    """
    threshold = find_spec(env).reward_threshold
    return None if threshold is None else float(threshold)


def time_limit(task: GymTask) -> int | None:
    """Decisions after which the registry, or the environment's arguments, cut an episode off; None where none says.

    An environment may cut its episodes off by a rule of its own that nobody can read from outside.

    Raises:
        UserError: as find_spec.
    """
    spec = find_spec(task.env)
    if task.env.startswith(OURS):
        return math.ceil(RULES.time_limit / task.skip)
    args = {**spec.kwargs, **task.env_args}
    limits = [
        math.ceil(frames / skip)
        for frames, skip in (
            (args.get("max_episode_steps", spec.max_episode_steps), task.skip),
            # of Atari; its own skip is switched off where the usual preparation has one
            (args.get("max_num_frames_per_episode"), task.skip if task.atari else args.get("frameskip", 1)),
        )
        if isinstance(frames, int) and frames > 0 and isinstance(skip, int)
    ]
    return min(limits, default=None)


def not_made(env: str, error: BaseException, args: Mapping[str, Any] | None = None) -> UserError:
    """What to tell where an environment could not be made: what is missing, or what it said.

    Args:
        env: its id.
        error: what making it raised.
        args: the user's arguments for gymnasium.make: where there are any, a value it refuses is one of them.
    """
    got = said(error)
    line = _install_line(error)
    if line is not None:
        return UserError(f"the environment {env} needs a package that is not installed", got=got, fix=line)
    if isinstance(error, TypeError) or (args and isinstance(error, REFUSALS)):
        return UserError(f"the environment {env} cannot be made", got=got, fix="check --env-args")
    return UserError(f"the environment {env} cannot be made", got=got, code=5)


def said(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _import_provider(env: str) -> None:
    for pattern, module in PROVIDERS:
        if re.match(pattern, env):
            try:
                found = importlib.import_module(module)
            except ImportError as error:
                raise not_made(env, error) from error
            gymnasium.register_envs(found)


def _install_line(error: BaseException) -> str | None:
    told = re.findall(r"pip install [^`]+", str(error))
    if told:
        return str(told[-1]).strip()  # what comes before is needed only where there are no wheels
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        return f"pip install {DISTRIBUTIONS.get(module, module)}"
    return None


def _version(env: str) -> int:
    number = env.rpartition("-v")[2]
    return int(number) if number.isdigit() else -1
