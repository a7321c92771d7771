"""Any Gymnasium environment that draws itself, as a scene."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator

from drivetrain.envs.errors import UserError
from drivetrain.envs.guard import EXIT_ENVIRONMENT, FAULT, RESET_FAULT, Hanging, Place, Watch, failure
from drivetrain.envs.gym_ids import find_spec
from drivetrain.envs.lanes import lane_seed
from drivetrain.scenes import ORIGINAL, RACING, titles_of

if TYPE_CHECKING:
    from drivetrain.drivers import Driver
    from drivetrain.envs.gym_task import GymTask

__all__ = ["GymScene", "check_environment"]

T = TypeVar("T")
USUAL_FPS = 30  # where an environment does not say
LONGEST = 10_000  # frames of an episode that has no time limit


def check_environment(name: str) -> str:
    """The environment behind a name: "racing", "CarRacing-v3" (the original), or a registered id that can be drawn.

    Raises:
        UserError: unknown, or it has no picture.
    """
    if name in (RACING, "drivetrain/Racing-v0"):
        return RACING
    if name == ORIGINAL:
        return name
    modes = _render_modes(find_spec(name, (RACING,)))
    if modes is not None and "rgb_array" not in modes:
        got = ", ".join(map(str, modes)) or "no render modes"
        raise UserError(f"the environment {name} cannot be rendered", got=got, allowed="one with rgb_array")
    return name


class GymScene:
    """A driver in an environment that is not ours, drawn by that environment.

    Args:
        name: a registered id, from `check_environment`. A program with a window opens it first: SDL looks for a
            screen once, and here it is told that there is none.
        driver: who acts: random, or a run whose observations and actions are those of the environment.

    Raises:
        UserError: the environment cannot be made or drawn here, or the driver does not fit it (2); it failed (5).
    """

    def __init__(self, name: str, driver: Driver) -> None:
        self._name = name
        task = _task(driver, name)
        self._watch = Watch(task.env_timeout)
        self._env = _make(task)
        try:
            self._begin, self._act = _actions_of(driver, task, self._env)
            self._drawn = self._probe()
        except BaseException:
            self.close()
            raise
        self.titles = titles_of(driver, name)
        self.fps = _rate(self._env.metadata.get("render_fps"))
        self.score, self.frames = 0.0, 0

    @property
    def size(self) -> tuple[int, int]:
        """px, (width, height) of the pictures."""
        return self._drawn.shape[1], self._drawn.shape[0]

    def play(self, seed: int) -> Iterator[None]:
        """Plays the episode of a seed; stops after each step."""
        env = self._env
        obs, info = self._safely(lambda: env.reset(seed=lane_seed(seed)))
        if RESET_FAULT in info:
            raise failure(self._name, info[RESET_FAULT], Place(0, seed, 1, 0))
        env.action_space.seed(seed % 2**32)
        self._begin()
        self.score, self.frames = 0.0, 0
        done = False
        while not done and self.frames < LONGEST:
            action = self._act(obs)
            obs, reward, terminated, truncated, info = self._safely(partial(env.step, action))
            self.frames += 1
            wrong = info.get(FAULT, None if math.isfinite(reward) else f"the reward is {reward}")
            if wrong is not None or (wrong := _not_finite(obs)) is not None:
                raise failure(self._name, wrong, Place(0, seed, 1, self.frames, action))
            self.score += float(reward)
            done = terminated or truncated
            yield

    def picture(self) -> np.ndarray:
        """uint8 [height, width, 3] of the step just played."""
        self._drawn = self._safely(lambda: _as_picture(self._env.render()))
        return self._drawn

    def close(self) -> None:
        """Let go of the environment."""
        with contextlib.suppress(Exception), _pygame_stays():  # its own clean-up must not cost us the film
            self._env.close()

    def _probe(self) -> np.ndarray:
        """The first picture: whether there are pictures at all shows only here."""
        try:
            with _no_devices(), self._watch:
                self._watch.begin()
                self._env.reset(seed=0)
                return _as_picture(self._env.render())
        except Hanging as late:
            what = f"the environment {self._name} cannot be drawn here"
            raise UserError(what, got=late, code=EXIT_ENVIRONMENT) from None
        except Exception as error:
            raise UserError(f"the environment {self._name} cannot be drawn here", got=_said(error)) from error

    def _safely(self, call: Callable[[], T]) -> T:
        try:
            with self._watch:
                self._watch.begin()
                return call()
        except Hanging as late:
            raise UserError(f"the environment {self._name} failed: {late}", code=EXIT_ENVIRONMENT) from None
        except Exception as error:
            what = f"the environment {self._name} failed"
            raise UserError(what, got=_said(error), code=EXIT_ENVIRONMENT) from error


def _not_finite(obs: Any) -> str | None:
    """What is wrong with the numbers of an observation; None = nothing."""
    for part in obs.values() if isinstance(obs, dict) else obs if isinstance(obs, tuple) else (obs,):
        if isinstance(part, dict | tuple):
            if (wrong := _not_finite(part)) is not None:
                return wrong
        elif np.issubdtype(np.asarray(part).dtype, np.floating) and not np.isfinite(part).all():
            return "an observation is not finite"
    return None


def _render_modes(spec: EnvSpec) -> list[str] | None:
    """What the class behind an id says it can render; None where it does not say."""
    try:
        creator: Any = spec.entry_point
        if isinstance(creator, str):
            creator = load_env_creator(creator)
        return list(creator.metadata["render_modes"])
    except Exception:  # making it will say what is missing
        return None


def _task(driver: Driver, name: str) -> GymTask:
    """The environment as the driver knows it, and drawn."""
    from drivetrain.agents.worlds import gym_task

    task = gym_task(name, driver.record if driver.env == name else {})
    return replace(task, env_args={**task.env_args, "render_mode": "rgb_array"})


def _make(task: GymTask) -> gymnasium.Env[Any, Any]:
    from drivetrain.envs.preprocess import one_lane

    try:
        return one_lane(task)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"the environment {task.env} cannot be made here", got=_said(error)) from error


def _actions_of(
    driver: Driver, task: GymTask, env: gymnasium.Env[Any, Any]
) -> tuple[Callable[[], None], Callable[[Any], Any]]:
    """What to do at the begin of an episode, and from an observation to an action."""
    if driver.key == "random":
        return lambda: None, lambda _obs: env.action_space.sample()
    name = task.env
    if driver.key == "expert":
        raise UserError(f"the expert cannot play {name}", allowed=f"{RACING}, {ORIGINAL}", fix="take random, or a run")
    from drivetrain.agents.players import OneLane
    from drivetrain.agents.worlds import spaces_of
    from drivetrain.envs.reader import Reader
    from drivetrain.learner import load_policy_of

    if driver.env != name:
        pairs = zip(spaces_of(driver.env, driver.record), spaces_of(name, {}), strict=True)
        for what, (ours, theirs) in zip(("observations", "actions"), pairs, strict=True):
            if ours != theirs:
                what, fix = f"the {what} of {driver.name} are not those of {name}", f"take --env {driver.env}"
                raise UserError(what, got=_short(ours), allowed=_short(theirs), fix=fix)
    player, reader = OneLane(load_policy_of(Path(driver.key))), Reader(env, task)

    def begin() -> None:
        reader.begin()
        player.begin()

    return begin, lambda obs: reader.action(player.act(reader.read(obs)))


def _as_picture(drawn: object) -> np.ndarray:
    """uint8 [height, width, 3] of what render() gave.

    Raises:
        TypeError: that is no picture.
    """
    picture = np.asarray(drawn)
    if picture.ndim != 3 or picture.shape[2] not in (3, 4) or picture.dtype != np.uint8:
        raise TypeError(f"render() gave {type(drawn).__name__}, no picture [height, width, 3]")
    return picture[:, :, :3]


@contextlib.contextmanager
def _no_devices() -> Iterator[None]:
    """SDL, which many environments draw with, looks for a screen and a sound card once; it is to find none."""
    names = [name for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER") if name not in os.environ]
    os.environ.update(dict.fromkeys(names, "dummy"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]


@contextlib.contextmanager
def _pygame_stays() -> Iterator[None]:
    """Environments that draw with pygame shut down all of it when they close: fonts and windows that are ours, too."""
    pygame: Any = sys.modules.get("pygame")
    if pygame is None:
        yield
        return
    kept = pygame.quit, pygame.display.quit
    pygame.quit = pygame.display.quit = lambda: None
    try:
        yield
    finally:
        pygame.quit, pygame.display.quit = kept


def _rate(fps: object) -> Fraction:
    """Pictures a second, from what an environment's metadata say."""
    if isinstance(fps, (int, float)) and 0.1 <= fps <= 1000:
        return Fraction(fps).limit_denominator(100)
    return Fraction(USUAL_FPS)


def _short(space: object) -> str:
    text = " ".join(str(space).split())  # a Box with many numbers is printed in several lines
    return text if len(text) <= 80 else f"{text[:79]}…"


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
