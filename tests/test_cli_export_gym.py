"""The command `export` for runs on Gymnasium environments: the graph takes and gives what the environment does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch
from gymnasium.spaces import Box, MultiDiscrete

from drivetrain.agents.build import build, make_config
from drivetrain.agents.checkpoint import save_checkpoint
from drivetrain.agents.worlds import gym_task, spaces_of
from drivetrain.envs.adapt import GymBatch
from drivetrain.main import main

WALL = "drivetrain-test/Wall-v0"


class Wall(gymnasium.Env[Any, Any]):
    """Shows pictures with the channels first; takes a table of actions that do not begin at 0."""

    observation_space = Box(0, 255, (3, 40, 60), np.uint8)
    action_space = MultiDiscrete([[2, 3]], start=[[5, 1]])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        return self._picture(), 1.0, False, False, {}

    def _picture(self) -> Any:
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if WALL not in gymnasium.registry:
        gymnasium.register(WALL, Wall)


def exported(capsys: pytest.CaptureFixture[str], algo: str, env: str, **settings: Any) -> tuple[Any, Any, Any]:
    """A fresh network saved as a run: its policy, its graph, and the page beside it."""
    record = {"algo": algo, "env": env, "seed": 0} | settings
    generator = torch.Generator().manual_seed(0)
    policy = build(algo, make_config(algo, record), spaces_of(env, record), generator)
    policy.obs_norm.update(torch.randn(50, policy.obs_shape[-1], generator=generator) * 3)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    folder = Path("runs", "mine")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(record))
    save_checkpoint(folder / "checkpoints", 7, policy.state_dict(), {}, {})
    assert main(["export", "mine", "--out", "mine.onnx", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["max_abs_error"] <= 1e-5
    assert sorted(os.listdir()) == ["mine.onnx", "mine.onnx.json", "runs"]
    return policy, onnxruntime.InferenceSession("mine.onnx"), json.loads(Path("mine.onnx.json").read_text())


@pytest.mark.conformance
@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_numbers_go_in_as_the_environment_shows_them(algo, capsys):
    policy, graph, page = exported(capsys, algo, "CartPole-v1", hidden=[16])
    env = gymnasium.make(page["env"]["id"], **page["env"]["args"])
    obs, _ = env.reset(seed=1)
    scores = {"ppo": "logits", "dqn": "q"}[algo]
    for _ in range(30):
        action, score = graph.run(["action", scores], {"observation": obs[None]})
        assert env.action_space.contains(action[0])
        assert action.tolist() == policy.act(torch.as_tensor(obs[None])).tolist() == [score[0].argmax()]
        obs, _, terminated, truncated, _ = env.step(action[0])
        if terminated or truncated:
            obs, _ = env.reset()
    assert page["observation_space"]["low"][1] is None  # no end
    assert page["action_space"] == {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}
    assert (page["algo"], page["step"], page["run"]) == (algo, 7, "mine")


@pytest.mark.conformance
def test_a_choice_of_observations_goes_in_as_the_page_says(capsys):
    policy, graph, page = exported(capsys, "ppo", "FrozenLake-v1")
    env = gymnasium.make("FrozenLake-v1")
    assert page["preprocessing"]["numbers"].startswith("gymnasium.spaces.utils.flatten(")
    for obs in (0, 3, 15):
        row = gymnasium.spaces.utils.flatten(env.observation_space, obs).astype(np.float32)[None]
        assert graph.run(["action"], {"observation": row})[0] == policy.act(torch.as_tensor(row)).numpy()


@pytest.mark.conformance
def test_continuous_actions_come_in_the_range_of_the_environment(capsys):
    _, graph, page = exported(capsys, "ppo", "Pendulum-v1")
    env = gymnasium.make("Pendulum-v1")
    obs = np.stack([env.reset(seed=k)[0] for k in range(50)])
    (action,) = graph.run(["action"], {"observation": 5 * obs})
    assert all(env.action_space.contains(row) for row in action)
    assert float(np.ptp(action)) > 0.5
    assert (page["action_space"]["low"], page["action_space"]["high"]) == (-2.0, 2.0)


@pytest.mark.conformance
def test_pictures_are_prepared_as_the_page_says_and_remembered_by_the_graph(capsys):
    settings = {"encoder": "cnn", "channels": [4, 4], "hidden": [16], "grey": True, "resize": 32, "frame_stack": 3}
    policy, graph, page = exported(capsys, "ppo", WALL, **settings)
    told = page["preprocessing"]
    assert (told["picture"], told["size"], told["frame_stack"]) == ("grey", [32, 32], 3)
    batch = GymBatch(gym_task(WALL, settings), 2, 0, "cpu", 0.99)
    obs = batch.reset()
    memory, start = np.zeros((2, 32, 32, 2), np.uint8), np.array([True, True])
    try:
        for _ in range(6):
            given = {"observation": obs[..., -1:].numpy(), "memory": memory, "start": start}
            action, memory = graph.run(["action", "next_memory"], given)
            flat = policy.act(obs)
            assert action.shape == (2, 1, 2)
            assert (action - [[5, 1]]).reshape(2, 2).tolist() == flat.tolist()
            assert all(Wall.action_space.contains(row) for row in action)
            obs, start = batch.step(flat).obs.clone(), np.array([False, False])
    finally:
        batch.close()
