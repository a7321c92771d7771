"""Callbacks of Stable-Baselines3 watch our agents learn: its EvalCallback, CheckpointCallback and the like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger

from .agent import Trainable
from .sb3_vec import Sb3VecEnv
from .sb3_zip import export_sb3

AGENT = TypeVar("AGENT", bound=Trainable)


class WatchedModel:
    """What callbacks look at in a model, of an agent of ours; `agent` is the agent."""

    def __init__(self, agent: Trainable) -> None:
        self.agent = agent
        self.logger = Logger(None, [])
        self._lanes = Sb3VecEnv(agent.learner.env)

    @property
    def num_timesteps(self) -> int:
        """Decisions so far, all lanes together."""
        return self.agent.steps

    def get_env(self) -> Sb3VecEnv:
        """The lanes that are learned on; to step them disturbs the training."""
        return self._lanes

    def get_vec_normalize_env(self) -> None:
        """There is none: our normaliser is part of the policy."""

    def predict(
        self,
        observation: ArrayLike,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """As Agent.predict."""
        return self.agent.predict(observation, state, episode_start, deterministic)

    def save(self, path: str | Path) -> None:
        """Writes the run folder path; or if that ends in .zip, a zip that Stable-Baselines3 opens."""
        if Path(path).suffix != ".zip":
            self.agent.save(path)
            return
        lanes = self._lanes
        made = export_sb3(self.agent.policy, self.agent.config, (lanes.observation_space, lanes.action_space))
        Path(path).write_bytes(made.content)

    def dump_logs(self) -> None:
        """Forgets what was recorded."""
        self.logger.dump(self.num_timesteps)


def learn_with_callback(agent: AGENT, total_steps: int, callback: BaseCallback | Sequence[BaseCallback]) -> AGENT:
    """Trains an agent until its steps reach total_steps, or a callback says that it is enough.

    Callbacks are called once an update, not once a step of the lanes: their eval_freq, save_freq and the like count
    updates. The metrics of the update are in their `locals["metrics"]` and in their logger.
    """
    watcher = callback if isinstance(callback, BaseCallback) else CallbackList(list(callback))
    model = WatchedModel(agent)
    watcher.init_callback(cast(BaseAlgorithm, model))
    watcher.on_training_start({"self": model, "total_timesteps": total_steps}, {})
    watcher.on_rollout_start()
    for metrics in agent.iterate(total_steps):
        for name, value in metrics.items():
            model.logger.record(name, value)
        watcher.update_locals({"metrics": metrics})
        watcher.on_rollout_end()
        if not watcher.on_step():
            break
        watcher.on_rollout_start()
    watcher.on_training_end()
    return agent
