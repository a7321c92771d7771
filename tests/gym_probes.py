"""Hand-made environments that tests look through: what they show, pay and do is known at every step."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

NEVER = 10**9


class Probe(gymnasium.Env[Any, Any]):
    """Shows [a random number of the episode, step, last action, reward so far]; ends after 1 to 6 steps.

    One episode in three is terminated, one truncated, one both. Its random numbers go on through resets without a seed.
    """

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.mark = float(self.np_random.random())
        self.length = int(self.np_random.integers(1, 7))
        self.end = int(self.np_random.integers(3))
        self.t, self.last, self.total = 0, -1, 0.0
        return self._show(), {"mark": self.mark}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += 1
        self.last = int(action)
        reward = self.mark + 0.25 * self.last - 0.125 * self.t
        self.total += reward
        over = self.t >= self.length
        return self._show(), reward, over and self.end != 1, over and self.end != 0, {"t": self.t, "odd": None}

    def _show(self) -> np.ndarray:
        return np.array([self.mark, self.t, self.last, self.total], np.float32)


class Long(Probe):
    """The same, but never over."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(seed=seed)
        self.length = NEVER
        return obs, info


class Homebound(Probe):
    """Cannot be made in a worker."""

    def __init__(self) -> None:
        if multiprocessing.parent_process() is not None:
            raise OSError("far from home")


class Painter(Probe):
    """A picture 20 x 24 of which every pixel is the step of the episode, in colours (10, 20, 30) further on."""

    observation_space = Box(0, 255, (20, 24, 3), np.uint8)

    def _show(self) -> np.ndarray:
        level = int(self.mark * 100) + self.t
        return np.broadcast_to(np.array([10, 20, 30], np.uint8) + np.uint8(level), (20, 24, 3)).copy()


class Faulty(Probe):
    """Goes wrong in one way at one step; the first episode of every lane has 3 steps, the second never ends.

    Args:
        fault: what goes wrong.
        lane_seed: only in the lane that began with this seed; None = in all.
        at: step of the episode; 0 = in its reset.
        when: episode.
    """

    def __init__(self, fault: str, lane_seed: int | None = None, at: int = 2, when: int = 2) -> None:
        self.fault, self.only, self.at, self.when = fault, lane_seed, at, when
        self.seed_given: int | None = None
        self.episode = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seed_given, self.episode = seed, 0
        self.episode += 1
        obs, info = super().reset(seed=seed)
        self.length, self.end = (3 if self.episode == 1 else NEVER), 0
        return (self._break()[0] if self._now() else obs), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        result = super().step(action)
        if not self._now():
            return result
        obs, reward = self._break()
        return obs, reward, *result[2:]

    def _now(self) -> bool:
        return self.episode == self.when and self.t == self.at and self.only in (None, self.seed_given)

    def _break(self) -> tuple[Any, Any]:
        obs = self._show()
        broken: dict[str, tuple[Any, Any]] = {
            "nan": (np.full(4, np.nan, np.float32), 0.0),
            "inf": (np.array([0, 0, np.inf, 0], np.float32), 0.0),
            "nan reward": (obs, math.nan),
            "no reward": (obs, None),
            "shape": (np.zeros(3, np.float32), 0.0),
            "dtype": (np.array(["a", "b", "c", "d"]), 0.0),
        }
        if self.fault == "raise":
            raise RuntimeError("the wheel\ncame off")
        if self.fault == "exit":
            sys.exit(3)
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return broken[self.fault]


def batched(mode: AutoresetMode | None, kind: type[Probe] = Probe) -> Any:
    """A batched version of a probe, in one of Gymnasium's three ways to begin episodes; None does not say which."""

    def make(num_envs: int, **kwargs: Any) -> SyncVectorEnv:
        vec = SyncVectorEnv([lambda: kind(**kwargs)] * num_envs, autoreset_mode=mode or AutoresetMode.NEXT_STEP)
        if mode is None:
            del vec.metadata["autoreset_mode"]
        return vec

    return make


IDS: dict[str, dict[str, Any]] = {
    "Probe-v0": {"entry_point": Probe, "reward_threshold": 2.5},
    "ProbeNext-v0": {"entry_point": Probe, "vector_entry_point": batched(AutoresetMode.NEXT_STEP)},
    "ProbeSame-v0": {"entry_point": Probe, "vector_entry_point": batched(AutoresetMode.SAME_STEP)},
    "ProbeOff-v0": {"entry_point": Probe, "vector_entry_point": batched(AutoresetMode.DISABLED)},
    "ProbeSilent-v0": {"entry_point": Probe, "vector_entry_point": batched(None)},
    "ProbeOther-v0": {"entry_point": Long, "vector_entry_point": batched(AutoresetMode.SAME_STEP, Painter)},
    "ProbeLimited-v0": {"entry_point": Long, "max_episode_steps": 5},
    "Painter-v0": {"entry_point": Painter},
    "PainterNext-v0": {"entry_point": Painter, "vector_entry_point": batched(AutoresetMode.NEXT_STEP, Painter)},
    "Homebound-v0": {"entry_point": Homebound},
    "Faulty-v0": {"entry_point": Faulty},
    "FaultyNext-v0": {"entry_point": Faulty, "vector_entry_point": batched(AutoresetMode.NEXT_STEP, Faulty)},
    "FaultySame-v0": {"entry_point": Faulty, "vector_entry_point": batched(AutoresetMode.SAME_STEP, Faulty)},
}


def register_probes() -> None:
    """Makes them known to Gymnasium, once."""
    for name, what in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, disable_env_checker=True, **what)
