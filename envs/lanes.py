"""B environments behind Gymnasium's vector interface: opened, stepped, watched, and closed (no torch here)."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Sequence
from multiprocessing import connection
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from .codecs import mismatch
from .errors import UserError
from .guard import EXIT_ENVIRONMENT, FAULT, FRAMES, RESET_FAULT, Hanging, Watch, no_answer
from .gym_ids import find_spec, not_made, said
from .gym_task import GymTask
from .preprocess import LaneMaker

PATIENCE = 2.0
"""s that a worker has to end by itself"""
FIRST_TRAINING_SEED, SEEDS = 2_000_000_000, 2**31
"""many environments take no seed of more than 31 bits"""

BROKEN = (Exception, SystemExit, Hanging)
"""what may come out of a stranger's program; an interrupt by the user is none of it"""
Results = tuple[Any, NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class Fault(Exception):
    """An environment failed.

    Args:
        why: what happened.
        lane: where; None where nobody knows.
        at_reset: it did not happen in a step but in a reset.
    """

    def __init__(self, why: str, lane: int | None, at_reset: bool = False) -> None:
        super().__init__(why)
        self.why, self.lane, self.at_reset = why, lane, at_reset


class Lanes:
    """B environments of a task.

    Args:
        task: what to make, and how.
        num_envs: B.

    Raises:
        UserError: they cannot be made.
    """

    vec: VectorEnv[Any, Any, Any]
    kind: str
    """sync, async or native"""

    def __init__(self, task: GymTask, num_envs: int) -> None:
        self.task, self.num_envs = task, num_envs
        self._watch = Watch(task.env_timeout)
        self._closed = False
        try:
            # to start a process takes longer than a step
            with Watch(task.env_timeout * num_envs):
                self.vec, self.kind = _open(task, num_envs, self._watch)
        except Hanging as late:
            raise UserError(f"the environment {task.env} cannot be made", got=late, code=EXIT_ENVIRONMENT) from None
        try:
            self.autoreset = _autoreset(task, self.vec)
        except UserError:
            self.close()
            raise

    def reset(self, seeds: Sequence[int]) -> Any:
        """Begins anew, lane i with seeds[i]; a native environment takes the first for all. Returns observations.

        Raises:
            Fault: an environment failed.
        """
        seed: Any = seeds[0] if self.kind == "native" else list(seeds)
        try:
            if isinstance(self.vec, AsyncVectorEnv):
                self.vec.reset_async(seed=seed)
                obs, info = self.vec.reset_wait(self.task.env_timeout)
            else:
                with self._watch:
                    obs, info = self.vec.reset(seed=seed)
        except BROKEN as error:
            raise self._fault(error, at_reset=True) from error
        self._look_for_faults(obs, info)
        return obs

    def step(self, action: NDArray[Any]) -> Results:
        """One step of every lane, in Gymnasium's own form.

        Raises:
            Fault: an environment failed.
        """
        try:
            if isinstance(self.vec, AsyncVectorEnv):
                self.vec.step_async(action)
                results = self.vec.step_wait(self.task.env_timeout)
            else:
                with self._watch:
                    results = self.vec.step(action)
        except BROKEN as error:
            raise self._fault(error) from error
        self._look_for_faults(results[0], results[4])
        return results

    def restart(self, lanes: NDArray[np.bool_]) -> Any:
        """Begins new episodes in lanes [B], of environments that leave it to others. Returns observations of all.

        Raises:
            Fault: an environment failed.
        """
        try:
            with self._watch:
                obs, info = self.vec.reset(options={"reset_mask": lanes.copy()})
        except BROKEN as error:
            raise self._fault(error, at_reset=True) from error
        self._look_for_faults(obs, info)
        return obs

    def cut_short(self, info: dict[str, Any]) -> tuple[NDArray[np.bool_], NDArray[Any]] | None:
        """Which lanes took fewer frames than usual, because an episode ended, and how many; None where none did."""
        last = info.get("final_info", {})
        return (last[f"_{FRAMES}"], last[FRAMES]) if self.kind != "native" and FRAMES in last else None

    def close(self) -> None:
        """Lets go of the environments and of every process of theirs; once is enough."""
        if self._closed:
            return
        self._closed = True
        if isinstance(self.vec, AsyncVectorEnv):
            _stop(self.vec)
            return
        with contextlib.suppress(Exception, Hanging), self._watch:
            self.vec.close()

    def _fault(self, error: BaseException, at_reset: bool = False) -> Fault:
        """What came out of the environments, with the lane where that can be known."""
        if isinstance(error, Hanging):
            return Fault(str(error), None, at_reset)
        if not isinstance(self.vec, AsyncVectorEnv):
            return Fault(said(error), None, at_reset)
        if isinstance(error, multiprocessing.TimeoutError):
            waiting = [lane for lane, pipe in enumerate(self.vec.parent_pipes) if not pipe.poll(0)]
            return Fault(no_answer(self.task.env_timeout), next(iter(waiting), None), at_reset)
        # a pipe breaks a moment before its process is gone
        connection.wait([process.sentinel for process in self.vec.processes], timeout=1.0)
        for lane, process in enumerate(self.vec.processes):
            if process.exitcode is not None:
                return Fault(f"its process died (exit code {process.exitcode})", lane, at_reset)
        return Fault(said(error), None, at_reset)

    def _look_for_faults(self, obs: Any, info: dict[str, Any]) -> None:
        if self.kind == "native":
            space = self.vec.observation_space
            usual = type(obs) is np.ndarray and obs.shape == space.shape and obs.dtype == space.dtype
            wrong = None if usual else mismatch(space, obs)
            if wrong is not None:
                raise Fault(wrong, None)
            return
        found = [(int(info[f"_{key}"].argmax()), key) for key in (FAULT, RESET_FAULT) if key in info]
        if found:  # the first lane: where one hangs, those behind it are not asked any more
            lane, key = min(found)
            raise Fault(str(info[key][lane]), lane, key == RESET_FAULT)


def lane_seed(seed: int) -> int:
    """A seed that every environment takes: training seeds beyond 31 bits begin again with the first training seed."""
    if seed < SEEDS:
        return seed
    return FIRST_TRAINING_SEED + (seed - FIRST_TRAINING_SEED) % (SEEDS - FIRST_TRAINING_SEED)


def _open(task: GymTask, num_envs: int, watch: Watch) -> tuple[VectorEnv[Any, Any, Any], str]:
    maker = LaneMaker(find_spec(task.env), task, training=True, watch=watch)
    kind = task.vectorization
    if kind in ("auto", "native"):
        native = _native(maker, num_envs, asked=kind == "native")
        if native is not None:
            return native, "native"
        kind = "sync"
    try:
        if kind == "async":
            return _processes(maker, num_envs), kind
        return SyncVectorEnv([maker] * num_envs, copy=False, autoreset_mode=AutoresetMode.SAME_STEP), kind
    except UserError:
        raise
    except Exception as error:
        raise not_made(task.env, error) from error


def _native(maker: LaneMaker, num_envs: int, asked: bool) -> VectorEnv[Any, Any, Any] | None:
    """The environment's own batched version; None where there is none that does what the single one does."""
    task, spec = maker.task, maker.spec
    why = None
    if spec.vector_entry_point is None:
        why = "it has none"
    elif task.atari or task.frame_skip > 1:
        why = "frame_skip and atari are done to single environments"
    if why is None:
        single = maker()
        spaces = single.observation_space, single.action_space
        single.close()
        try:
            vec = gymnasium.make_vec(spec, num_envs, vectorization_mode="vector_entry_point", **task.env_args)
            if spaces == (vec.single_observation_space, vec.single_action_space):
                return vec
            vec.close()
            why = "its spaces are not those of the single environment"
        except Exception as error:
            why = said(error)
    if not asked:
        return None
    fix = "take sync or async"
    raise UserError(f"the environment {task.env} has no batched version of its own to use", got=why, fix=fix)


def _processes(maker: LaneMaker, num_envs: int) -> AsyncVectorEnv:
    """A worker each, not forked off this process: a fork would leave the threads of torch in a bad state."""
    methods = multiprocessing.get_all_start_methods()
    method = "forkserver" if "forkserver" in methods else "spawn"
    if method == "forkserver":
        multiprocessing.get_context(method).set_forkserver_preload([__name__])
    lane = LaneMaker(maker.spec, maker.task, maker.training).in_worker
    vec = AsyncVectorEnv.__new__(AsyncVectorEnv)
    try:
        vec.__init__(  # type: ignore[misc]  # made in two steps, so that there is something to stop if the second fails
            [lane] * num_envs, copy=False, context=method, autoreset_mode=AutoresetMode.SAME_STEP
        )
    except BaseException as error:
        if hasattr(vec, "processes"):
            _stop(vec)
        if isinstance(error, (EOFError, ConnectionError)):
            what = f"the workers of {maker.task.env} did not start"
            fix = 'their own messages say why; a script has to begin its work below if __name__ == "__main__"'
            raise UserError(what, got=said(error), fix=fix, code=EXIT_ENVIRONMENT) from error
        raise
    return vec


def _autoreset(task: GymTask, vec: VectorEnv[Any, Any, Any]) -> AutoresetMode:
    mode = vec.metadata.get("autoreset_mode")
    if isinstance(mode, AutoresetMode):
        return mode
    allowed = "metadata['autoreset_mode'], a gymnasium.vector.AutoresetMode"
    what = f"the batched version of {task.env} does not say how it resets itself"
    raise UserError(what, got=mode, allowed=allowed, fix="say it there, or take sync")


def _stop(vec: AsyncVectorEnv) -> None:
    """Ends the workers: asks them, then tells them, then makes them."""
    started = [process for process in vec.processes if process.pid is not None]
    for pipe in vec.parent_pipes:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            pipe.send(("close", None))
    _wait(started, PATIENCE)
    for process in started:
        process.terminate()
    _wait(started, PATIENCE)
    for process in started:
        process.kill()
        process.join()
    for pipe in vec.parent_pipes:
        with contextlib.suppress(OSError, AttributeError):
            pipe.close()
    vec.error_queue.close()
    vec.closed = True


def _wait(processes: Sequence[Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
