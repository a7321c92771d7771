"""A student of recorded drives does what was done in them, and is tested on whole drives that it never saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from drivetrain.agents.cloning import CloningLearner, build_cloning
from drivetrain.agents.demos import DemoRecorder, save_demo
from drivetrain.agents.drives import Examples
from drivetrain.agents.imitation_config import ImitateConfig
from drivetrain.envs.errors import UserError
from drivetrain.envs.expert import SEEABLE, act, build_lines
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.track import pool
from drivetrain.journal import read_metrics
from drivetrain.main import main
from drivetrain.policies.build import build_policy
from drivetrain.policies.config import PolicyConfig

TASK: dict[str, Any] = {"obs": "state", "actions": "pedals", "frame_skip": 2}
QUICK: dict[str, Any] = {"hidden": (64, 64), "num_updates": 50, "batch_size": 128, "warmup": 20}


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drives of the expert, of 300 frames each, on training tracks."""
    folder = tmp_path_factory.mktemp("drives")
    for seed in range(2_000_000_000, 2_000_000_004):
        env, tracks = RacingEnv(), pool(seed, 1)
        line = build_lines(tracks, SEEABLE)
        env.reset(seed=seed)
        recorder = DemoRecorder(env.car_state(), ("up",))
        for _ in range(300):
            controls = act(line, tracks, env.car_state())[0].numpy().astype(np.float32)
            _, reward, *_ = env.step(controls)
            recorder.add(env.car_state(), controls, reward, False)
        save_demo(recorder.finish("racing", seed, "expert", 0.0, cut=True), folder, "1")
    return folder


def learner_of(drives: Path, **settings: Any) -> CloningLearner:
    cfg = ImitateConfig(teacher="drives", drives=str(drives), held_share=0.25, **(QUICK | settings))
    return build_cloning(cfg, TASK, 0, "cpu", 60_000)


def test_a_student_learns_what_was_done_and_the_drives_held_back_agree(drives: Path) -> None:
    learner = learner_of(drives)
    # 300 frames are 150 decisions; one drive of four is held back
    assert (len(learner.learned.obs), len(learner.held.obs)) == (450, 150)
    before, history = learner.validation(), list(learner.iterate(60_000))
    assert history[-1]["loss/imitation"] < 0.15 * history[0]["loss/imitation"]
    assert history[-1]["loss/validation"] < 0.3 * before
    # 60,000 samples of 128 are 469 updates, in rounds of 50
    assert (learner.updates, learner.steps) == (500, 64_000)
    does = learner.policy.act(learner.learned.obs)
    assert float((does - learner.learned.action)[:, 0].abs().mean()) < 0.03


def test_samples_that_are_held_back_are_never_learned_from(drives: Path) -> None:
    one, other = learner_of(drives), learner_of(drives)
    other.held = Examples(other.held.obs * 0, other.held.action * 0)
    for learner in (one, other):
        learner.update_once()
    weights = zip(one.policy.parameters(), other.policy.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_the_loss_is_the_weighted_one_of_imitation_by_hand() -> None:
    policy = build_policy(*_spaces(), PolicyConfig(hidden=(4,)), torch.Generator().manual_seed(0))
    nothing = Examples(torch.zeros(1, 43), torch.tensor([[0.02, -0.5]]))
    cfg = ImitateConfig(loss_beta=0.2, steer_scale=5.0, pedal_coef=0.5)
    learner = CloningLearner(policy, nothing, nothing, cfg, torch.Generator(), 1)
    with torch.no_grad():
        for parameter in policy.head.parameters():
            parameter.zero_()  # steering 0 and pedals 0
    # steering 5 · 0.02 = 0.1 < 0.2: ½ · 0.1² / 0.2 = 0.025; pedals 0.5 ≥ 0.2: ½ · (0.5 − 0.1) = 0.2
    assert learner.validation() == pytest.approx(0.025 + 0.2, abs=1e-6)


def _spaces() -> Any:
    from drivetrain.agents.worlds import spaces_of

    return spaces_of("racing", TASK)


def test_a_mirrored_picture_is_steered_the_other_way(drives: Path) -> None:
    task = {"obs": "pixels", "actions": "pedals", "frame_skip": 30, "picture": "grey", "picture_size": 64}
    cfg = ImitateConfig(teacher="drives", drives=str(drives), encoder="cnn", channels=(4,), hidden=(8,), batch_size=4)
    learner = build_cloning(cfg, task, 0, "cpu", 100)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    loss = learner._loss
    learner._loss = lambda policy, obs, action: seen.append((obs, action)) or loss(policy, obs, action)  # type: ignore[assignment, func-returns-value]
    learner._learn()
    (obs, action), known = seen[0], learner.learned
    for k in range(4):
        same = [(known.obs == obs[k]).flatten(1).all(1), (known.obs == obs[k].flip(1)).flatten(1).all(1)]
        index = int(same[int(k < 2)].nonzero()[0])
        sign = -1.0 if k < 2 else 1.0
        assert float(action[k, 0]) == pytest.approx(sign * float(known.action[index, 0]))
        assert float(action[k, 1]) == float(known.action[index, 1])


def test_cloning_on_the_command_line(
    drives: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["pretrain", "imitate", "--obs", "state", "--teacher", "drives", "--drives", str(drives), "--name", "c"]
    argv += ["--steps", "5000", "--hidden", "16", "--num-updates", "10", "--threads", "1", "--device", "cpu"]
    assert main([*argv, "--eval-every", "none", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["status"], result["steps"] >= 5000, result["frames"]) == ("done", True, 0)
    rows = read_metrics(tmp_path / "runs/c/metrics.jsonl")
    assert "loss/validation" in rows[-1]
    assert main(["evaluate", "c", "--episodes", "1", "--json"]) == 0
    capsys.readouterr()
    for more, said in (
        (["--drives", "nowhere"], "there are no recorded drives"),
        (["--v-max", "80"], "--v-max is of no use with --teacher drives"),
    ):
        assert main([*argv[:-8], *more, "--name", "d", "--json"]) == 2
        assert said in capsys.readouterr().out
        assert not (tmp_path / "runs/d").exists()
    assert main(["pretrain", "imitate", "--drives", str(drives), "--name", "d", "--json"]) == 2
    assert "--drives is of no use with --teacher expert" in capsys.readouterr().out


def test_no_drives_a_blind_encoder_and_memory_are_refused(drives: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there are no recorded drives"):
        learner_of(tmp_path)
    with pytest.raises(UserError, match="the encoder cnn does not read these observations"):
        learner_of(drives, encoder="cnn")
    with pytest.raises(UserError, match="drives teach students without memory; got core=gru"):
        learner_of(drives, core="gru")
