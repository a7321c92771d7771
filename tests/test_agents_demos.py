"""Drives kept for later: what is written comes back, and nothing is ever half there."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from drivetrain.agents.demos import Demo, DemoRecorder, read_demo, replay, save_demo, simulator_version
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv

KEYS = ("left", "right", "up", "down")


@pytest.fixture(scope="module")
def demo() -> Demo:
    """Forty frames on track 3: gas, then gas and a little to the right."""
    env = RacingEnv()
    env.reset(seed=3)
    recorder, score = DemoRecorder(env.car_state(), KEYS), 0.0
    for frame in range(40):
        controls = np.array([0.1 * (frame >= 30), 0.5, 0.0], np.float32)
        _, reward, *_ = env.step(controls)
        score += reward
        recorder.add(env.car_state(), controls, reward, frame >= 30, frozenset({"up"}), (0.0, 0.5, 0.0))
    return recorder.finish("racing", 3, "Grace", score, cut=True)


def equal(demo: Demo, other: Demo) -> None:
    assert other.about == replace(demo.about, simulator=other.about.simulator)
    for name, tensor in demo.states.items():
        torch.testing.assert_close(other.states[name], tensor, rtol=0, atol=0)
    for name in ("visited_at", "actions", "rewards", "by_hand", "keys", "axes"):
        torch.testing.assert_close(getattr(other, name), getattr(demo, name), rtol=0, atol=0)


def test_a_drive_comes_back_as_it_was_kept(demo, tmp_path):
    path = save_demo(demo, tmp_path / "new" / "folder", "20300102-030405")
    assert path.name == "racing-seed3-20300102-030405.safetensors"
    back = read_demo(path)
    equal(demo, back)
    assert back.about.simulator == simulator_version()
    assert len(back) == 40
    assert back.by_hand.sum() == 10
    assert back.keys.tolist() == [[False, False, True, False]] * 40
    assert float(back.rewards.sum()) == pytest.approx(back.about.score, abs=1e-4)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_version_of_the_simulator_covers_what_drives_on_the_cpu(monkeypatch):
    read, whole = set(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path.name) or whole(path))
    assert simulator_version.__wrapped__() == simulator_version()
    assert {"kernel.py", "kernel_car.py", "compiled.py", "state.py", "dynamics.py"} <= read


class Interrupted(frozenset):
    """Keys that Ctrl-C strikes at when they are looked at."""

    def __contains__(self, key):
        raise KeyboardInterrupt


def test_an_interrupt_while_a_frame_is_noted_leaves_whole_frames():
    env = RacingEnv()
    env.reset(seed=3)
    recorder = DemoRecorder(env.car_state(), KEYS)
    recorder.add(env.car_state(), np.zeros(3), 0.0, True)
    with pytest.raises(KeyboardInterrupt):
        recorder.add(env.car_state(), np.zeros(3), 0.0, True, Interrupted())
    demo = recorder.finish("racing", 3, "Grace", 0.0, cut=True)
    assert {len(getattr(demo, name)) for name in ("actions", "rewards", "by_hand", "keys", "axes")} == {1}
    assert {len(tensor) for tensor in demo.states.values()} == {2}


@pytest.mark.oracle
def test_the_actions_driven_again_from_the_seed_give_the_same_states(demo):
    states = list(replay(demo))
    assert len(states) == 41
    for frame, state in enumerate(states):
        for name, kept in vars(demo.state(frame)).items():
            torch.testing.assert_close(getattr(state, name), kept, rtol=0, atol=0, msg=f"{name} of frame {frame}")
    assert demo.state(40).visited_count == demo.state(40).visited.sum()


def test_files_are_only_added(demo, tmp_path):
    names = [save_demo(demo, tmp_path, "now").name for _ in range(3)]
    assert names == [f"racing-seed3-now{end}.safetensors" for end in ("", "-2", "-3")]


def test_a_drive_that_cannot_be_kept_leaves_nothing(demo, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(UserError, match="cannot keep the drive") as caught:
        save_demo(demo, blocked, "now")
    assert caught.value.code == 6
    assert blocked.read_text() == "in the way"


def test_a_rename_that_fails_leaves_nothing_behind(demo, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        save_demo(demo, tmp_path, "now")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_a_drive_is_written_leaves_nothing_behind(demo, tmp_path, monkeypatch):
    def struck(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", struck)
    with pytest.raises(KeyboardInterrupt):
        save_demo(demo, tmp_path, "now")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_drive_is_refused_in_one_line(demo, tmp_path):
    from safetensors.torch import save

    path = save_demo(demo, tmp_path, "now")
    whole = path.read_bytes()
    about = {"format": 1, "env": "racing"}
    cases = {
        "short": (whole[: len(whole) // 2], "no drive"),
        "text": (b"hello", "no drive"),
        "weights": (save({"w": torch.zeros(2)}), "no description"),
        "future": (save({"w": torch.zeros(2)}, {"drive": json.dumps(about | {"format": 99})}), "got 99"),
        "fields": (save({"w": torch.zeros(2)}, {"drive": json.dumps(about)}), "damaged"),
    }
    for name, (data, said) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=said) as caught:
            read_demo(tmp_path / name)
        assert caught.value.code == 2
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        read_demo(tmp_path / "missing")


def test_columns_of_unequal_length_or_of_none_are_damage(demo, tmp_path):
    for damaged in (replace(demo, actions=demo.actions[:-1]), replace(demo, rewards=torch.tensor(1.0))):
        with pytest.raises(UserError, match="damaged"):
            read_demo(save_demo(damaged, tmp_path, "now"))
