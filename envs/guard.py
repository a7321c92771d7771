"""What goes wrong inside an environment is told apart from what goes wrong here, and where it happened is named.

A Guard sits around every single environment, in this process or in a worker, and reports a fault in `info` instead of
raising it: so both ways look the same from outside, and no worker dies of it (no torch here).
"""

from __future__ import annotations

import copy
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from .codecs import mismatch
from .errors import UserError
from .gym_ids import said
from .gym_task import OURS

FAULT, RESET_FAULT, FRAMES = "fault", "reset_fault", "frames"
"""keys of info: what went wrong in step() or reset(), and the frames of a step that was cut short"""
EXIT_ENVIRONMENT, EXIT_DIVERGED = 5, 4
SOON, AGAIN = 0.01, 1.0
"""s to the next alarm at least, and between those that come until an environment gives up"""
STUBBORN = 5
"""alarms that an environment may swallow"""
SAID_LIMIT = 300  # characters of a stranger's message


@dataclass(frozen=True)
class Place:
    """Where something went wrong."""

    lane: int | None  # None: all lanes are one program, and nobody knows which
    seed: int  # that the lane began with
    episode: int  # 1, 2, … since then
    step: int  # 1, 2, … of the episode; 0 is its reset
    action: Any = None  # that was taken, as the environment got it

    def __str__(self) -> str:
        lane = "unknown" if self.lane is None else self.lane
        where = f"lane {lane}, seed {self.seed}, episode {self.episode}, step {self.step}"
        if self.action is None:
            return where
        action = np.array2string(np.asarray(self.action), precision=5, separator=", ", threshold=6, edgeitems=2)
        return f"{where}, action {' '.join(action.split())}"


def failure(env: str, why: str, place: Place) -> UserError:
    """The error that ends a run because of its environment (5), or of a policy that gave no number (4)."""
    numbers = np.asarray(0.0 if place.action is None else place.action)
    if np.issubdtype(numbers.dtype, np.floating) and not np.isfinite(numbers).all():
        return UserError("the policy gave an action that is no number", got=str(place), code=EXIT_DIVERGED)
    where = " in reset()" if place.step == 0 else ""
    why = why if len(why) <= SAID_LIMIT else f"{why[: SAID_LIMIT - 1]}…"
    return UserError(f"the environment {env} failed{where}: {why}", got=str(place), code=EXIT_ENVIRONMENT)


class Hanging(BaseException):
    """Raised inside an environment that takes too long; no Exception, because environments catch those."""


class Alarm:
    """What SIGALRM calls. It is kept in the process's table of signals, where every Watch finds it."""

    def __init__(self) -> None:
        self.since, self.timeout = 0.0, 0.0
        self.rung = 0  # since the environments began to work

    def __call__(self, _signal: int, _frame: object) -> None:
        left = self.since + self.timeout - time.monotonic()
        if left <= 0:
            self.rung += 1
            if self.rung > STUBBORN:  # it catches everything, and there is no other way out of it
                line = f"error: an environment failed: {no_answer(self.timeout)}, and it catches the interrupt"
                os.write(2, f"{line}; take --vectorization async, where such a one can be ended\n".encode())
                os._exit(EXIT_ENVIRONMENT)
            raise Hanging(no_answer(self.timeout))
        # The one at work began after the alarm was set. Never at once: an alarm between this return and the system
        # call that Python goes back to would not interrupt that call.
        signal.setitimer(signal.ITIMER_REAL, max(left, SOON), AGAIN)


class Watch:
    """Interrupts environments of this process that hang: `with watch:` around their steps, `begin()` at each.

    It needs POSIX's alarm, the main thread, and nobody else who uses the alarm; elsewhere nothing is watched. A call
    into compiled code is interrupted when it comes back to Python.

    Args:
        timeout: s, for one step of one environment.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._alarm = Alarm()
        self._thread = threading.get_ident()
        self._works = False
        if hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGALRM)
            if handler == signal.SIG_DFL:
                signal.signal(signal.SIGALRM, self._alarm)
            elif isinstance(handler, Alarm):
                self._alarm = handler
            self._works = isinstance(handler, Alarm) or handler == signal.SIG_DFL

    @property
    def late(self) -> bool:
        """Whether an environment was interrupted since `with` began: the others need not start."""
        return self._alarm.rung > 0

    def begin(self) -> None:
        """An environment starts to work.

        Raises:
            Hanging: one before it did not give back its turn in time.
        """
        if self.late:
            raise Hanging(no_answer(self._alarm.timeout))
        self._alarm.since = time.monotonic()

    def __enter__(self) -> Watch:
        self._alarm.since, self._alarm.timeout, self._alarm.rung = time.monotonic(), self.timeout, 0
        # an alarm interrupts the main thread, whichever thread has set it
        if self._works and threading.get_ident() == self._thread:
            signal.setitimer(signal.ITIMER_REAL, self.timeout, AGAIN)
        return self

    def __exit__(self, *_error: object) -> None:
        if self._works:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def no_answer(timeout: float) -> str:
    """Why, of an environment that hangs."""
    return f"no answer within {timeout:g} s (--env-timeout)"


class Guard(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Around one environment. Its `info` is empty but for the keys above: nobody here reads more.

    Args:
        env: what may fail.
        skip: frames of a step that is not cut short.
        watch: of this process; None in a worker, whose parent waits no longer than it wants.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], skip: int = 1, watch: Watch | None = None) -> None:
        super().__init__(env)
        space = env.observation_space
        # the usual kind is checked without a call
        self._shape = space.shape if isinstance(space, Box) else None
        self._dtype = space.dtype
        self._space = space
        self._skip, self._watch = skip, watch
        self._counted = _counter(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment's own; after a fault any observation of the space."""
        try:
            if self._watch is not None:
                self._watch.begin()
            obs, _ = self.env.reset(seed=seed, options=options)
            wrong = mismatch(self._space, obs)
            if wrong is None:
                return obs, {}
        except Hanging as late:
            wrong = str(late)
        except (Exception, SystemExit) as error:
            wrong = said(error)
        return self._space.sample(), {RESET_FAULT: wrong}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's own; after a fault any observation of the space, and the episode goes on."""
        counted = self._counted
        before = 0 if counted is None else counted.frames
        try:
            if self._watch is not None:
                self._watch.begin()
            obs, reward, terminated, truncated, _ = self.env.step(action)
            if terminated or truncated:  # the reset that follows may write into the same memory
                obs = copy.deepcopy(obs)
            usual = type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype == self._dtype
            wrong = None if usual else mismatch(self._space, obs)
            if wrong is None:
                frames = self._skip if counted is None else counted.frames - before
                info = {} if frames == self._skip else {FRAMES: frames}
                return obs, float(reward), bool(terminated), bool(truncated), info
        except Hanging as late:
            wrong = str(late)
        except (Exception, SystemExit) as error:
            wrong = said(error)
        return self._space.sample(), 0.0, False, False, {FAULT: wrong}


class FrameCounter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Counts the steps of an environment below wrappers that take several."""

    frames = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment's own."""
        self.frames += 1
        return self.env.step(action)


def _counter(env: gymnasium.Env[Any, Any]) -> Any:
    """What counts the frames below env, in an attribute `frames`; None where every step is one frame."""
    base: Any = env.unwrapped
    if base.spec is not None and base.spec.id.startswith(OURS) and hasattr(base, "frames"):
        return base  # it holds actions for several frames by itself
    layer: Any = env
    while isinstance(layer, gymnasium.Wrapper) and not isinstance(layer, FrameCounter):
        layer = layer.env
    return layer if isinstance(layer, FrameCounter) else None
