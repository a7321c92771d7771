"""The page on one's own environment: its program works as it stands there, and its errors are what one would see."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from drivetrain.envs.adapt import GymBatch, GymTask, play_episodes, reward_threshold, spaces_of, time_limit
from drivetrain.envs.errors import UserError
from drivetrain.envs.guard import Place, failure
from drivetrain.options import flag
from drivetrain.tasks import task_models

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "own_environment.md").read_text(encoding="utf-8")


@pytest.fixture
def ferry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's module, as a reader would import it."""
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "ferry.py").write_text(program, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("ferry")
    del sys.modules["ferry"], gymnasium.registry["Ferry-v0"]


def steer(obs: torch.Tensor) -> torch.Tensor:
    """Against the current, and towards the pier."""
    return (2 / torch.pi * torch.asin((obs[:, 2] - 2 * obs[:, 1]).clamp(-0.95, 0.95)))[:, None]


def test_the_page_s_environment_is_one_that_can_be_solved_and_is_not_solved_by_chance(ferry: Any) -> None:
    check_env(ferry.Ferry(), skip_render_check=True)
    task = GymTask("Ferry-v0")
    assert (time_limit(task), reward_threshold("Ferry-v0")) == (100, 1.9)
    assert spaces_of(task) == (ferry.Ferry.observation_space, ferry.Ferry.action_space)
    assert min(play_episodes(steer, task, range(30))[0]) > 1.9
    chance = torch.Generator().manual_seed(0)
    random, _ = play_episodes(lambda obs: torch.rand(len(obs), 1, generator=chance) * 2 - 1, task, range(100))
    assert -0.8 < float(np.mean(random)) < -0.2  # the page says about -0.5


def test_the_page_s_environment_runs_as_a_batch(ferry: Any) -> None:
    batch = GymBatch(GymTask("Ferry-v0"), 4, 0)
    obs, ends = batch.reset(), 0
    for _ in range(300):
        step = batch.step(steer(obs))
        obs, ends = step.obs, ends + int(step.terminated.sum())
    assert ends > 10


def test_the_page_s_error_line_is_what_a_failing_environment_says(ferry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = re.findall(r"^error: (the environment Ferry-v0 failed.*)$", PAGE, re.MULTILINE)
    place = Place(3, 2_000_000_003, 7, 12, np.array([0.25], np.float32))
    assert line == str(failure("Ferry-v0", "ValueError: math domain error", place))

    def broken(self: Any, action: Any) -> Any:
        raise ValueError("math domain error")

    monkeypatch.setattr(ferry.Ferry, "step", broken)
    batch = GymBatch(GymTask("Ferry-v0"), 4, 2_000_000_000)
    batch.reset()
    with pytest.raises(UserError) as caught:
        batch.step(torch.full((4, 1), 0.25))
    assert caught.value.code == 5
    assert str(caught.value) == line.replace("lane 3", "lane 0").replace("003,", "000,").replace(
        "episode 7, step 12", "episode 1, step 1"
    )


class Fleet(SyncVectorEnv):
    """A batched class that keeps no time: never over, whatever it is told."""

    def __init__(self, num_envs: int, **given: Any) -> None:
        from ferry import Ferry

        self.given = given
        super().__init__([Ferry] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def test_a_batched_class_is_told_the_time_limit_and_has_to_keep_it_itself(ferry: Any) -> None:
    assert "it is given `max_episode_steps` as a keyword argument" in PAGE
    del gymnasium.registry["Ferry-v0"]
    gymnasium.register("Ferry-v0", ferry.Ferry, vector_entry_point=Fleet, max_episode_steps=100)
    for kind, cut in (("auto", 0), ("sync", 2)):
        batch = GymBatch(GymTask("Ferry-v0", vectorization=kind), 2, 0)
        batch.reset()
        away = torch.full((2, 1), 1.0)  # straight up the river for ever
        assert sum(int(batch.step(away).truncated.sum()) for _ in range(150)) == cut
    fleet = gymnasium.make_vec("Ferry-v0", 1, vectorization_mode="vector_entry_point")
    assert fleet.given["max_episode_steps"] == 100  # type: ignore[attr-defined]


def test_every_option_on_the_page_exists() -> None:
    from drivetrain.agents.config import PPOConfig
    from drivetrain.train import RunOptions

    models = (*task_models("Ferry-v0"), PPOConfig, RunOptions)
    known = {flag(name) for model in models for name in model.model_fields} | {"--import", "--help", "--env", "--no"}
    assert set(re.findall(r"--[a-z-]+[a-z]", PAGE)) <= known
    table = set(re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE))
    assert {flag(name) for name in GymTask.__dataclass_fields__ if name != "env"} <= table | {
        "--resize",
        "--clip-reward",
    }
