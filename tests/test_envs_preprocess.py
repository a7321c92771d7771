"""What is done to single environments: skipped frames, and the usual preparation of Atari games."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gym_probes import Probe, register_probes
from gymnasium.spaces import Box, Discrete

from drivetrain.envs.adapt import GymBatch, GymTask, play_episodes, spaces_of, time_limit
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_ids import find_spec
from drivetrain.envs.preprocess import LaneMaker, LifeLoss, SkipFrames

register_probes()
SEED, IDLE = 2_000_000_000, 30


class Console(gymnasium.Env[Any, Any]):
    """Like ale_py's: three lives, one lost every 50 frames; every frame pays 1; the screen's level is the frame."""

    observation_space = Box(0, 255, (210, 160, 3), np.uint8)
    action_space = Discrete(4)

    def __init__(self, frameskip: int = 4) -> None:
        self._frameskip = frameskip
        self.ale = SimpleNamespace(lives=lambda: 3 - self.t // 50, getScreenGrayscale=self._draw)
        self.t = 0

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE", "LEFT", "RIGHT"]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self._screen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.t += self._frameskip
        return self._screen(), 1.0, self.t >= 150, False, {}

    def _screen(self) -> np.ndarray:
        return np.full((210, 160, 3), self.t, np.uint8)

    def _draw(self, out: np.ndarray) -> None:
        out[...] = self.t


@pytest.fixture(autouse=True)
def _console(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Under the name that ale_py's games are found by."""
    module: Any = ModuleType("ale_py_stand_in")
    module.Console = Console
    monkeypatch.setitem(sys.modules, "ale_py_stand_in", module)
    gymnasium.register("Console-v0", "ale_py_stand_in:Console", kwargs={})
    yield
    del gymnasium.registry["Console-v0"]


ATARI = GymTask("Console-v0", atari=True, frame_stack=4)


@pytest.mark.golden
def test_an_atari_game_is_grey_small_stacked_and_skips_four_frames() -> None:
    assert spaces_of(ATARI) == (Box(0, 255, (84, 84, 4), np.uint8), Discrete(4))
    batch = GymBatch(ATARI, 1, SEED)
    assert (batch._lanes.kind, batch.channels) == ("sync", 1)
    obs = batch.reset()
    idle = int(obs[0, 0, 0, 0])  # idle frames of the start, which belong to no decision
    assert 1 <= idle <= IDLE
    step = batch.step(torch.tensor([1]))
    # of the frames idle + 3 and idle + 4 the brighter one is seen
    assert step.obs[0, 0, 0].tolist() == [idle, idle, idle, idle + 4]
    assert (float(step.reward), int(step.frames), int(step.episode_frames)) == (4.0, 4, 4)


@pytest.mark.golden
def test_a_lost_life_ends_an_episode_in_training_and_the_game_goes_on() -> None:
    batch = GymBatch(ATARI, 1, SEED)
    at = int(batch.reset()[0, 0, 0, 0])
    ends, levels = [], []
    for _ in range(60):
        step = batch.step(torch.tensor([0]))
        if bool(step.terminated):
            ends.append((int(step.episode_frames), float(step.episode_return)))
            levels.append((int(step.next_obs[0, 0, 0, -1]), int(step.obs[0, 0, 0, -1])))
        if len(ends) == 3:
            break
    # a decision is 4 frames, cut where the game is over; after a lost life one idle decision begins the next episode
    first = -(-(50 - at) // 4) * 4
    assert ends[0] == (first, float(first))
    assert levels[0][0] == at + first
    assert levels[0][1] == at + first + 4
    second = -(-(100 - levels[0][1]) // 4) * 4
    assert ends[1] == (second, float(second))
    last = levels[1][1]
    assert ends[2] == (150 - last, 150.0 - last)
    assert levels[2][1] <= IDLE  # a new game


@pytest.mark.golden
def test_whole_games_are_played_for_scores() -> None:
    scores, frames = play_episodes(lambda obs: torch.zeros(len(obs), dtype=torch.int64), ATARI, [1, 2])
    assert scores == [float(x) for x in frames]
    assert all(150 - IDLE <= count < 150 for count in frames)


def test_a_size_and_a_skip_of_ones_own_hold_for_atari() -> None:
    task = GymTask("Console-v0", atari=True, frame_skip=2, resize=42)
    assert spaces_of(task)[0] == Box(0, 255, (42, 42, 1), np.uint8)
    batch = GymBatch(task, 2, SEED)
    batch.reset()
    assert batch.step(torch.zeros(2, dtype=torch.int64)).frames.tolist() == [2, 2]


def test_without_opencv_the_line_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="needs a package that is not installed") as caught:
        spaces_of(ATARI)
    assert "pip install" in str(caught.value.fix)


def test_a_game_of_another_kind_is_no_atari_game() -> None:
    with pytest.raises(UserError, match="Atari") as caught:
        GymBatch(GymTask("Probe-v0", atari=True), 1, 0)
    assert caught.value.code == 2


def test_a_limit_of_frames_counts_in_decisions() -> None:
    spec = find_spec("Console-v0")
    spec.kwargs["max_num_frames_per_episode"] = 1000
    assert time_limit(ATARI) == 250
    assert time_limit(GymTask("Console-v0")) == 1000
    assert time_limit(GymTask("Console-v0", {"frameskip": 4})) == 250


def test_a_seed_begins_a_new_game_whatever_is_left_of_the_last() -> None:
    env = LifeLoss(Console(frameskip=1))
    env.reset(seed=0)
    for _ in range(50):
        over = env.step(0)[2]
    assert over
    assert env.reset()[0].max() == 51
    assert env.reset(seed=0)[0].max() == 0


def test_a_skip_stops_at_the_end_of_an_episode() -> None:
    env = SkipFrames(Probe(), 100)
    env.reset(seed=3)
    core: Any = env.unwrapped
    obs, reward, terminated, truncated, _ = env.step(1)
    assert terminated or truncated
    assert obs[1] == core.length
    assert reward == pytest.approx(core.total)


def test_a_lane_is_made_from_the_registrys_record_alone() -> None:
    spec = find_spec("Probe-v0")
    del gymnasium.registry["Probe-v0"]
    try:
        assert LaneMaker(spec, GymTask("Probe-v0"), training=True)().observation_space == Probe.observation_space
    finally:
        gymnasium.registry["Probe-v0"] = spec


SLEEPER = """
import os, pathlib, time
import gymnasium
from gymnasium.spaces import Discrete

class Sleeper(gymnasium.Env):
    observation_space = action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        pathlib.Path(f"asleep_{os.getpid()}").touch()
        time.sleep(90)

if __name__ == "__main__":
    from drivetrain.envs.gym_task import GymTask
    from drivetrain.envs.lanes import Lanes

    gymnasium.register("Sleeper-v0", "sleeper:Sleeper")
    lanes = Lanes(GymTask("Sleeper-v0", vectorization="async"), 2)
    lanes.reset([0, 1])
    lanes.step([0, 0])
"""


def test_workers_end_with_a_killed_parent_in_the_middle_of_a_step(tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(SLEEPER, encoding="utf-8")
    parent = subprocess.Popen([sys.executable, "sleeper.py"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": "."})
    try:
        found = wait_for(
            lambda: [int(path.name[7:]) for path in tmp_path.glob("asleep_*")], lambda pids: len(pids) == 2
        )
    finally:
        parent.kill()
        parent.wait()
    awake = wait_for(lambda: [pid for pid in found if alive(pid)], lambda pids: not pids)
    for pid in awake:
        os.kill(pid, signal.SIGKILL)
    assert (len(found), awake) == (2, [])


def wait_for(look: Callable[[], list[int]], enough: Callable[[list[int]], bool]) -> list[int]:
    """What is seen as soon as it is enough, or after half a minute."""
    deadline = time.monotonic() + 30
    while not enough(look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return look()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False
