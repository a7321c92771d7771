"""Drives go to Minari and come back as they were, driven again; what was not driven here is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer

from drivetrain.agents.cloning import load
from drivetrain.agents.demos import Demo, DemoRecorder, save_demo
from drivetrain.agents.exchange import export_minari, import_minari
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.sim import SimConfig
from drivetrain.main import main


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def drive(seed: int, frames: int = 30) -> Demo:
    env, rng, score = RacingEnv(), np.random.default_rng(seed), 0.0
    env.reset(seed=seed)
    recorder = DemoRecorder(env.car_state(), ("up",))
    for _ in range(frames):
        controls = rng.uniform([-0.2, 0.3, 0.0], [0.2, 1.0, 0.02]).astype(np.float32)
        _, reward, *_ = env.step(controls)
        score += reward
        recorder.add(env.car_state(), controls, reward, True)
    return recorder.finish("racing", seed, "Grace", score, cut=True)


def files_of(folder: Path, *demos: Demo) -> list[Path]:
    return [save_demo(demo, folder, "1") for demo in demos]


def test_drives_come_back_from_a_dataset_as_they_were(tmp_path: Path) -> None:
    demos = [drive(5), drive(6, 12)]
    assert export_minari(files_of(tmp_path / "drives", *demos), SimConfig(), "racing/mine-v0") == 42
    for demo, back in zip(demos, import_minari("racing/mine-v0"), strict=True):
        assert (back.about.seed, back.about.player, back.about.cut) == (demo.about.seed, "Grace", True)
        assert back.about.score == pytest.approx(demo.about.score, abs=1e-4)
        assert torch.equal(back.actions, demo.actions)
        assert all(torch.equal(back.states[name], value) for name, value in demo.states.items())
    assert len(load("minari:racing/mine-v0")) == 2


def test_a_dataset_holds_one_observation_more_than_actions_and_the_sums_of_rewards(tmp_path: Path) -> None:
    demo = drive(5, 10)
    config = SimConfig(obs="lidar", beams=3, actions="pedals", frame_skip=4)
    export_minari(files_of(tmp_path, demo), config, "racing/beams-v0")
    episode = next(iter(minari.load_dataset("racing/beams-v0").iterate_episodes()))
    assert (len(episode.observations), len(episode.actions)) == (4, 3)  # 4 + 4 + 2 frames
    rewards = demo.rewards.numpy()
    np.testing.assert_allclose(episode.rewards, [rewards[:4].sum(), rewards[4:8].sum(), rewards[8:].sum()], atol=1e-5)
    assert episode.truncations.tolist() == [False, False, True]
    assert not episode.terminations.any()
    with pytest.raises(UserError, match=r"the actions of racing/beams-v0 are not those of a car; got Box"):
        import_minari("racing/beams-v0")


def test_datasets_that_are_not_there_or_already_there_or_badly_named_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such dataset here; got racing/none-v0"):
        import_minari("racing/none-v0")
    files = files_of(tmp_path, drive(5, 3))
    export_minari(files, SimConfig(), "racing/mine-v0")
    with pytest.raises(UserError, match="this dataset is there already; got racing/mine-v0"):
        export_minari(files, SimConfig(), "racing/mine-v0")
    with pytest.raises(UserError, match="Minari does not take this dataset"):
        export_minari(files, SimConfig(), "no id")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": None}, "got no seed"),
        ({"rewards": [0.5, 0.5, 0.5]}, r"got reward 0\.500 in frame 0; allowed 5\.979"),
    ],
)
def test_episodes_that_were_not_driven_here_are_refused(change: dict[str, Any], said: str) -> None:
    demo = drive(5, 3)
    parts: dict[str, Any] = {
        "seed": 5,
        "observations": [np.zeros(2, np.float32)] * 4,
        "actions": list(demo.actions.numpy()),
        "rewards": demo.rewards.tolist(),
        "terminations": [False] * 3,
        "truncations": [False, False, True],
        "infos": {},
    }
    minari.create_dataset_from_buffers(
        "other/cars-v0",
        [EpisodeBuffer(id=0, **(parts | change))],
        observation_space=Box(-1, 1, (2,)),
        action_space=Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)),
    )
    with pytest.raises(UserError, match=rf"episode 0 of other/cars-v0 was not driven here; {said}"):
        import_minari("other/cars-v0")


def test_a_folder_of_drives_is_exported_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files_of(tmp_path / "drives", drive(5, 4), replace(drive(6, 5)))
    assert main(["export", str(tmp_path / "drives"), "--to", "minari", "--out", "racing/cli-v0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["racing/cli-v0"]
    assert minari.load_dataset("racing/cli-v0").total_steps == 9
    assert main(["export", str(tmp_path / "none"), "--to", "minari", "--out", "racing/b-v0", "--json"]) == 2
    assert "there are no recorded drives" in capsys.readouterr().out
