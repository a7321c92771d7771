"""Agents answer in the actions of the environment that they were trained in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from drivetrain.agents import DQN, PPO, load
from drivetrain.agents.sb3_zip import export_sb3
from drivetrain.envs.errors import UserError


class Shifted(gymnasium.Env[Any, Any]):
    """Choices that begin at -5, or whole numbers in two rows; it ends every other step."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def __init__(self, whole: bool = False) -> None:
        box = gymnasium.spaces.Box(-2, 3, (2, 3), np.int64)
        self.action_space = box if whole else gymnasium.spaces.Discrete(3, start=-5)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.t += 1
        return np.full(3, 0.1 * self.t, np.float32), 1.0, self.t == 2, False, {}


@pytest.mark.parametrize(("make", "whole"), [(DQN, False), (PPO, False), (PPO, True)])
def test_predict_answers_in_the_environments_own_actions(make: Any, whole: bool, tmp_path: Path) -> None:
    gymnasium.register("Shifted-v0", Shifted)
    try:
        settings: dict[str, Any] = {"env_args": {"whole": whole}, "device": "cpu", "num_envs": 2}
        agent = make("Shifted-v0", **settings, num_steps=4, **({"num_minibatches": 1} if make is PPO else {}))
        agent.save(tmp_path / "run")
        space = Shifted(whole).action_space
        for who in (agent, load(tmp_path / "run")):
            for deterministic in (True, False):
                alone, _ = who.predict(np.zeros(3, np.float32), deterministic=deterministic)
                many, _ = who.predict(np.zeros((4, 3), np.float32), deterministic=deterministic)
                assert space.contains(alone), alone
                assert all(space.contains(action) for action in many)
        vec = make_vec_env(lambda: Shifted(whole), n_envs=2)
        assert evaluate_policy(agent, vec, n_eval_episodes=4)[0] == 2.0
        if not whole:
            policy = agent.policy
            spaces = Shifted.observation_space, space
            for plain in (False, True):
                with pytest.raises(UserError, match="Stable-Baselines3 counts actions from 0; got start -5"):
                    export_sb3(policy, agent.config, spaces, plain)
    finally:
        del gymnasium.registry["Shifted-v0"]
