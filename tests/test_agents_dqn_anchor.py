"""DQN on top of a policy learned before: the large-margin loss that holds it, and its continuation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from drivetrain.agents.dqn import DQNLearner
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.targets import margin_loss
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool

TRACKS = pool(2_000_000_000, 2)
SMALL: dict[str, Any] = {"num_envs": 8, "num_steps": 2, "hidden": (16,), "buffer_size": 2_000, "learning_starts": 32}
SMALL |= {"batch_size": 16, "replay_ratio": 4.0, "reward_scale": 0.05, "target_every": 5, "lr_schedule": "constant"}
HELD: dict[str, Any] = {"anchor_coef": 1.0, "anchor_until": 0.5, "init_learning_rate": 1e-3}
TOTAL = 16 * 40


def learner(seed: int = 1, begin: bool = True, total_steps: int = TOTAL, **settings: Any) -> DQNLearner:
    cfg = DQNConfig(**SMALL | HELD | settings)
    sim = Sim(TRACKS, 8, SimConfig(actions="macro", frame_skip=4, patience=20), seed)
    made = DQNLearner(sim, cfg, torch.Generator().manual_seed(seed), total_steps=total_steps)
    with torch.no_grad():  # a policy with opinions, as that of a clone
        made.policy.net.advantage.last.weight.mul_(200)
    if begin:
        made.begin_from_here(cloned=True)
    return made


def weights(made: DQNLearner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.policy.state_dict().items()}


@pytest.mark.golden
def test_the_margin_loss_is_what_the_best_other_action_lacks_to_stay_behind() -> None:
    q = torch.tensor([[1.0, 0.8, 0.0], [1.0, 0.2, 0.0], [0.0, 2.0, 1.9]], requires_grad=True)
    # ahead by 0.2 of a margin of 0.5: 0.3 is missing; ahead by 0.8: nothing; behind by 2: 2.5
    found = margin_loss(q, torch.tensor([0, 0, 0]), 0.5)
    torch.testing.assert_close(found, torch.tensor([0.3, 0.0, 2.5]))
    found.sum().backward()
    assert q.grad is not None
    assert q.grad.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [-1.0, 1.0, 0.0]]


@pytest.mark.learning
@pytest.mark.parametrize("kind", [{}, {"buffer": "prioritized"}, {"quantiles": 5}, {"dueling": True}])
def test_the_choices_begun_with_are_held_while_values_are_learned(kind: dict[str, Any]) -> None:
    kept = {}
    for coef in (0.0, 10.0):
        small = learner(anchor_coef=coef, anchor_until=1.0, total_steps=10**6, **kind)
        first = copy.deepcopy(small.policy)
        norm = weights(small)["obs_norm.mean"]
        for _ in range(30):
            small.update_once()
        obs = small.replay.obs[:-1][small.replay.valid[:-1]]
        kept[coef] = float((small.policy.act(obs) == first.act(obs)).float().mean())
        assert torch.equal(norm, small.policy.obs_norm.mean) == (coef > 0)  # type: ignore[arg-type]
    assert kept[10.0] > 0.8 > kept[0.0], kept


def test_without_a_replay_they_are_held_too() -> None:
    kept = {}
    fast = {"learning_rate": 1e-2, "init_learning_rate": None, "num_minibatches": 2, "total_steps": 10**6}
    for coef in (0.0, 10.0):
        small = learner(buffer="none", anchor_coef=coef, **fast)
        first, seen = copy.deepcopy(small.policy), []
        for _ in range(30):
            seen.append(small.obs)
            small.update_once()
        obs = torch.cat(seen)
        kept[coef] = float((small.policy.act(obs) == first.act(obs)).float().mean())
    assert kept[10.0] > 0.8 > kept[0.0], kept


@pytest.mark.golden
def test_weight_rate_and_share_of_random_actions_follow_their_own_first_values() -> None:
    rows = {"lr_schedule": "linear", "learning_rate": 1e-3, "init_learning_rate": 4e-4, "eps_fraction": 0.5}
    small = learner(**rows, init_eps=0.1, eps_end=0.0, anchor_coef=2.0, anchor_until=0.25)
    for k in range(20):  # 40 rounds in all: a quarter anchored, half exploring
        assert small._pull() == pytest.approx(2.0 * max(0.0, 1 - k / 10))
        found = small.update_once()
        held = max(0.0, 1 - k / 10)
        assert found["diag/learning_rate"] == pytest.approx(held * 4e-4 + (1 - held) * 1e-3 * (1 - k / 40))
        assert found["diag/epsilon"] == pytest.approx(0.1 * (1 - k / 20))
        assert (small.anchor is None) == (k >= 9)
    first = learner(begin=False, **rows, init_eps=0.1).update_once()
    assert (first["diag/epsilon"], first["diag/learning_rate"]) == (1.0, 1e-3)


@pytest.mark.invariance
def test_nothing_of_this_touches_a_run_that_begins_with_nothing() -> None:
    found = []
    for settings in ({}, {"anchor_coef": 9.0, "anchor_margin": 3.0, "init_eps": 0.3, "init_learning_rate": 1e-5}):
        small = learner(begin=False, **settings)
        found.append(([small.update_once() for _ in range(6)], weights(small)))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())


@pytest.mark.invariance
@pytest.mark.parametrize("stop", [1, 10, 30])  # before learning starts, under the anchor, when it is gone
def test_a_resumed_learner_equals_one_that_never_stopped(stop: int) -> None:
    straight = learner()
    for _ in range(stop):
        straight.update_once()
    tensors, numbers = straight.trainer_state()
    tensors, kept = {name: value.clone() for name, value in tensors.items()}, weights(straight)
    wanted = [straight.update_once() for _ in range(8)]
    resumed = learner(seed=2, begin=False)
    resumed.env.seed = 1  # type: ignore[attr-defined]
    resumed.env._bind()  # type: ignore[attr-defined]
    resumed.policy.load_state_dict(kept)
    resumed.load_trainer_state(tensors, numbers)
    assert [resumed.update_once() for _ in range(8)] == wanted
    for name, value in straight.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[name]), name
    assert (resumed.anchor is None) == (straight.anchor is None) == (stop == 30)
