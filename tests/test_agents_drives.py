"""Recorded drives as examples: what is drawn anew is what a driver saw, and episodes are never cut in two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.agents.demos import DemoRecorder, read_demo, save_demo
from drivetrain.agents.drives import drives_in, examples, read_drive, split
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.sim import SimConfig

SEED, SKIP = 7, 4


def drive(decisions: int, last: int = SKIP, **task: Any) -> tuple[Path, Any, list[np.ndarray], np.ndarray]:
    """A recorder of frames, and what another driver sees and does who decides every SKIP frames the same."""
    rng = np.random.default_rng(0)
    actions = rng.uniform([-0.3, 0.2, 0.0], [0.3, 1.0, 0.05], (decisions, 3)).astype(np.float32)
    env, seen = RacingEnv(frame_skip=SKIP, **task), []
    obs, _ = env.reset(seed=SEED)
    for action in actions:
        seen.append(obs)
        obs, *_ = env.step(action)
    single = RacingEnv()
    single.reset(seed=SEED)
    recorder = DemoRecorder(single.car_state(), ("up",))
    for k, action in enumerate(actions):
        for _ in range(SKIP if k < decisions - 1 else last):
            _, reward, *_ = single.step(action)
            recorder.add(single.car_state(), action, reward, True)
    return recorder.finish("racing", SEED, "Grace", 0.0, cut=True), actions, seen, rng  # type: ignore[return-value]


@pytest.mark.parametrize(
    "task",
    [
        {"obs": "state"},
        {"obs": "state", "hide_motion": True},
        {"obs": "lidar", "beams": 7},
        {"obs": "pixels", "picture": "grey", "picture_size": 64, "frame_stack": 3},
        {"obs": "pixels", "crop": True},
    ],
    ids=str,
)
def test_what_is_drawn_anew_is_what_was_seen(task: dict[str, Any]) -> None:
    demo, actions, seen, _ = drive(9, **task)
    found = examples(demo, SimConfig(frame_skip=SKIP, **task))  # type: ignore[arg-type]
    wanted = torch.as_tensor(np.stack(seen))
    if task["obs"] == "pixels":  # plain torch and the kernel round otherwise
        assert int((found.obs.int() - wanted.int()).abs().max()) <= 1
    else:
        torch.testing.assert_close(found.obs, wanted, atol=2e-6, rtol=0)
    torch.testing.assert_close(found.action, torch.as_tensor(actions))


def test_the_last_decision_counts_the_frames_that_it_had() -> None:
    demo, actions, *_ = drive(3, last=1)
    found = examples(demo, SimConfig(frame_skip=SKIP, actions="pedals"))  # type: ignore[arg-type]
    # 4 + 4 + 1 frames; pedals are gas minus brake
    wanted = np.stack((actions[:, 0], actions[:, 1] - actions[:, 2]), 1)
    torch.testing.assert_close(found.action, torch.as_tensor(wanted))


def test_what_changes_between_two_decisions_is_averaged() -> None:
    demo, actions, *_ = drive(4)
    found = examples(demo, SimConfig(frame_skip=2 * SKIP))  # type: ignore[arg-type]
    torch.testing.assert_close(found.action, torch.as_tensor((actions[::2] + actions[1::2]) / 2))


def test_actions_that_are_choices_are_refused() -> None:
    with pytest.raises(UserError, match="imitation needs actions by degrees"):
        examples(drive(1)[0], SimConfig(actions="macro"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "share", "held"), [(1, 0.5, 0), (2, 0.1, 1), (10, 0.2, 2), (10, 0.99, 9), (5, 0.0, 1)]
)
def test_whole_drives_are_held_back(count: int, share: float, held: int) -> None:
    files = [Path(f"{k}.safetensors") for k in range(count)]
    learned, tested = split(files, share, seed=3)
    assert sorted(learned + tested) == files
    assert len(tested) == held
    assert split(files, share, seed=3) == (learned, tested)


def test_drives_of_other_kinds_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are no recorded drives; got .* without any \.safetensors"):
        drives_in(tmp_path)
    with pytest.raises(UserError, match=r"there are no recorded drives; got no .*nowhere"):
        drives_in(tmp_path / "nowhere")
    demo: Any = drive(2)[0]
    old = save_demo(replace(demo, about=replace(demo.about, simulator="drivetrain 0.0.1 abc")), tmp_path, "1")
    with pytest.raises(UserError, match=r"another version of the simulator; got drivetrain 0\.0\.1 abc; allowed driv"):
        read_drive(old)
    empty = replace(demo, states={name: tensor[:1] for name, tensor in demo.states.items()})
    empty = replace(
        empty, **{name: getattr(demo, name)[:0] for name in ("actions", "rewards", "by_hand", "keys", "axes")}
    )
    path = save_demo(empty, tmp_path, "2")
    with pytest.raises(UserError, match="holds no frame"):
        read_drive(path)
    torn = tmp_path / "racing-seed1-3.safetensors"
    torn.write_bytes(old.read_bytes()[:200])
    with pytest.raises(UserError, match="is no drive"):
        read_drive(torn)
    assert drives_in(tmp_path) == sorted([old, path, torn])
    assert len(read_demo(old)) == 2 * SKIP
