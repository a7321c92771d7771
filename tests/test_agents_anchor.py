"""Reinforcement on top of what was learned before: the divergence, the warm-up, the anchor, and their continuation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from drivetrain.agents.anchor import Anchor, judging, kl_divergence, set_std
from drivetrain.agents.config import PPOConfig
from drivetrain.agents.ppo import PPOLearner
from drivetrain.agents.rollout import collect
from drivetrain.envs.errors import UserError
from drivetrain.envs.observe import OBS_SIZE
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool
from drivetrain.policies.build import build_policy
from drivetrain.policies.distributions import (
    IMPOSSIBLE,
    Bernoulli,
    Beta,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
)

TRACKS = pool(2_000_000_000, 2)
SIZES: dict[str, Any] = {"num_envs": 8, "num_steps": 8, "num_minibatches": 2, "update_epochs": 2, "hidden": (8,)}
HELD: dict[str, Any] = {"critic_warmup": 2, "anchor_coef": 1.0, "anchor_until": 0.5}


def learner(seed: int = 1, begin: bool = True, total_steps: int = 64 * 12, **settings: Any) -> PPOLearner:
    cfg = PPOConfig(**SIZES | HELD | settings)
    sees = {"obs": "pixels", "picture": "grey", "picture_size": 64, "frame_stack": 2} if cfg.encoder == "cnn" else {}
    sim = Sim(TRACKS, 8, SimConfig(actions="pedals", frame_skip=4, patience=20, **sees), seed)
    made = PPOLearner(sim, cfg, torch.Generator().manual_seed(seed), total_steps=total_steps)
    if begin:
        made.begin_from_here(cloned=False)
    return made


def weights(policy: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in policy.state_dict().items()}


def double(*shape: int, low: float = -1.0, high: float = 1.0, seed: int = 0) -> Tensor:
    return torch.empty(*shape, dtype=torch.float64).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


@pytest.mark.golden
def test_the_divergence_of_two_normals_is_the_one_worked_out_by_hand() -> None:
    # N(1, 2²) from N(0, 1): ½ (4 + 1 − 1 − 2 ln 2) = 2 − ln 2; a second, equal side adds nothing
    p = Gaussian(torch.tensor([[1.0, 3.0]]), torch.tensor([math.log(2), 0.0]))
    q = Gaussian(torch.tensor([[0.0, 3.0]]), torch.zeros(2))
    assert float(kl_divergence(p, q)) == pytest.approx(2 - math.log(2))
    # a coin of ½ from one of ¼: ½ ln 2 + ½ ln ⅔
    coin = [Categorical(torch.tensor([[share, 1 - share]]).log()) for share in (0.5, 0.25)]
    assert float(kl_divergence(*coin)) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


@pytest.mark.oracle
def test_every_divergence_equals_torchs_own_in_float64() -> None:
    from torch.distributions import Bernoulli as TorchBernoulli
    from torch.distributions import Beta as TorchBeta
    from torch.distributions import Categorical as TorchCategorical
    from torch.distributions import Independent, Normal
    from torch.distributions import kl_divergence as torchs

    a, b = double(7, 3, seed=1), double(7, 3, seed=2)
    spread, other = double(3, seed=3), double(3, seed=4)
    shapes = [double(7, 3, low=1.0, high=9.0, seed=seed) for seed in (5, 6, 7, 8)]
    rows = [double(7, 3, 4, low=-3.0, high=3.0, seed=seed).log_softmax(-1) for seed in (9, 10)]
    pairs: list[tuple[Distribution, Distribution, Any, Any]] = [
        (Gaussian(a, spread), Gaussian(b, other), Normal(a, spread.exp()), Normal(b, other.exp())),
        (Beta(*shapes[:2]), Beta(*shapes[2:]), TorchBeta(*shapes[:2]), TorchBeta(*shapes[2:])),
        (Bernoulli(a), Bernoulli(b), TorchBernoulli(logits=a), TorchBernoulli(logits=b)),
        (MultiCategorical(rows[0]), MultiCategorical(rows[1]), *(TorchCategorical(logits=x) for x in rows)),
    ]
    for p, q, wanted, from_ in pairs:
        torch.testing.assert_close(kl_divergence(p, q), torchs(Independent(wanted, 1), Independent(from_, 1)))
        torch.testing.assert_close(kl_divergence(p, p), torch.zeros(7, dtype=torch.float64), atol=1e-12, rtol=0)
    one, two = (x[:, 0] for x in rows)
    wanted = torchs(TorchCategorical(logits=one), TorchCategorical(logits=two))
    torch.testing.assert_close(kl_divergence(Categorical(one), Categorical(two)), wanted)
    with pytest.raises(TypeError, match="Beta to Gaussian"):
        kl_divergence(Gaussian(a, spread), Beta(*shapes[:2]))


@pytest.mark.golden
def test_choices_that_fill_up_rows_of_unequal_length_add_nothing_and_give_finite_gradients() -> None:
    logits = torch.tensor([[[0.0, 1.0, IMPOSSIBLE], [0.5, 0.0, -0.5]]], requires_grad=True)
    p = MultiCategorical(torch.tensor([[[2.0, 0.0, IMPOSSIBLE], [0.0, 0.0, 0.0]]]).log_softmax(-1))
    found = kl_divergence(p, MultiCategorical(logits.log_softmax(-1)))
    short = (
        Categorical(torch.tensor([[2.0, 0.0]]).log_softmax(-1)),
        Categorical(torch.tensor([[0.0, 1.0]]).log_softmax(-1)),
    )
    long = Categorical(torch.zeros(1, 3).log_softmax(-1)), Categorical(torch.tensor([[0.5, 0.0, -0.5]]).log_softmax(-1))
    torch.testing.assert_close(found, kl_divergence(*short) + kl_divergence(*long))
    found.sum().backward()
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())


@pytest.mark.invariance
@pytest.mark.parametrize("shared", [True, False])
def test_in_the_warm_up_only_the_value_is_learned_and_frozen_parts_have_no_gradient_at_all(shared: bool) -> None:
    small = learner(shared_trunk=shared)
    before = weights(small.policy)
    for turn in range(3):
        small.update_once()
        kept = {n: torch.equal(before[n], value) for n, value in small.policy.state_dict().items()}
        acts = {n for n in kept if n.startswith(("actor.", "head.", "obs_norm."))}
        judges = {n for n in kept if n.startswith(("critic.", "value_head.", "return_norm."))}
        assert acts | judges == set(kept)
        assert all(kept[n] for n in acts) == (turn < 2), turn  # two updates of warm-up
        assert not any(kept[n] for n in judges if n.endswith(("weight", "mean")))
        for name, parameter in small.policy.named_parameters():
            assert (parameter.grad is None) == (name in acts and turn < 2), name
    assert judging(small.policy) == [name in judges for name, _ in small.policy.named_parameters()]


@pytest.mark.invariance
def test_nothing_of_this_touches_a_run_that_begins_with_nothing() -> None:
    found = []
    for settings in ({}, {"critic_warmup": 7, "anchor_coef": 9.0, "init_std": 0.1, "init_learning_rate": 1e-5}):
        small = learner(begin=False, **settings)
        metrics = [small.update_once() for _ in range(2)]
        assert all("loss/anchor" not in row for row in metrics)
        found.append((metrics, weights(small.policy)))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][name]) for name, value in found[0][1].items())


@pytest.mark.golden
def test_the_weight_of_the_anchor_falls_to_nothing_and_then_it_is_let_go() -> None:
    # 12 updates of 64 steps, half of them anchored: before update k the weight is 1 − k/6
    small = learner(critic_warmup=0)
    for k in range(12):
        assert small._pull() == pytest.approx(max(0.0, 1 - k / 6))
        assert ("loss/anchor" in small.update_once()) == (k < 6)
    assert small.anchor is None
    assert not any(name.startswith("anchor.") for name in small.trainer_state()[0])


@pytest.mark.learning
def test_an_anchor_holds_the_policy_near_to_where_it_began() -> None:
    away = {}
    obs = torch.randn(64, OBS_SIZE, generator=torch.Generator().manual_seed(0))
    fast = {"lr_schedule": "constant", "init_learning_rate": 1e-2, "critic_warmup": 0, "total_steps": 10**6}
    for coef in (0.0, 100.0):
        small = learner(anchor_coef=coef, **fast)
        before = Anchor(small.policy, 8)
        for _ in range(6):
            small.update_once()
        with torch.no_grad():
            features = before.features(obs[None], None, 1)
            away[coef] = float(before.divergence(features, small.policy.pi(small.policy.obs_norm(obs))).mean())
    assert away[100.0] < 0.1 * away[0.0]


@pytest.mark.invariance
@pytest.mark.parametrize("core", ["none", "gru"])
def test_an_anchor_decides_what_the_policy_decided_in_every_step_of_a_rollout(core: str) -> None:
    small = learner(core=core, core_size=8)
    anchor = Anchor(small.policy, 8)
    obs, memory = small.obs, small.memory
    for _ in range(12):  # of eight steps: episodes end and begin in between
        rollout, obs = collect(small.env, small.policy, obs, memory, 8, small.generator)
        memory = rollout.memory
        features = anchor.features(rollout.obs, rollout.first, 2)
        again = small.policy.head(features).log_prob(rollout.raw_action.flatten(0, 1))
        torch.testing.assert_close(again, rollout.log_prob.flatten(), rtol=1e-4, atol=1e-5)
    assert float(rollout.episode_frames.max()) < 12 * 8 * 4  # some did end


def test_an_anchor_sees_pictures_too() -> None:
    small = learner(encoder="cnn", channels=(4,), num_steps=8, critic_warmup=0)
    assert small.update_once()["loss/anchor"] < small.update_once()["loss/anchor"]


@pytest.mark.golden
def test_policy_and_value_learn_at_rates_of_their_own() -> None:
    # the first step of Adam is as long as the learning rate in every weight that has a gradient
    cfg = {"critic_learning_rate": 1e-2, "init_learning_rate": 1e-4, "critic_warmup": 0, "anchor_coef": 0.0}
    small = learner(**cfg, lr_schedule="constant", num_minibatches=1, update_epochs=1)
    before = weights(small.policy)
    small.update_once()
    moved = {n: float((value.detach() - before[n]).abs().max()) for n, value in small.policy.named_parameters()}
    for name, size in moved.items():
        wanted = 1e-2 if name.startswith(("critic.", "value_head.")) else 1e-4
        assert size == pytest.approx(wanted, rel=0.05), name


@pytest.mark.golden
def test_a_clone_is_given_a_spread_and_a_learned_one_is_kept() -> None:
    learned = learner(begin=False, log_std_init=-2.0)
    for cloned, std, wanted in ((False, None, math.exp(-2)), (True, None, 0.3), (False, 0.2, 0.2), (True, 0.2, 0.2)):
        small = learner(begin=False, log_std_init=-2.0, init_std=std)
        small.policy.load_state_dict(learned.policy.state_dict())
        small.begin_from_here(cloned)
        pi = small.policy.pi(small.obs)
        assert isinstance(pi, Gaussian)
        torch.testing.assert_close(pi.log_std.exp(), torch.full((2,), wanted))
    with pytest.raises(UserError, match=r"init_std.*0\.05.*allowed 0\.301.*log_std_min to -3") as error:
        learner(log_std_min=-1.2, init_std=0.05)
    assert "\n" not in str(error.value)
    chooses = build_policy(Box(-1, 1, (3,)), Discrete(4), PPOConfig(), torch.Generator())
    before = weights(chooses)
    set_std(chooses, 0.1)  # choices have no spread
    assert all(torch.equal(before[name], value) for name, value in chooses.state_dict().items())


@pytest.mark.invariance
@pytest.mark.parametrize("core", ["none", "gru"])
@pytest.mark.parametrize("stop", [1, 4, 7])  # in the warm-up, under the anchor, when it is gone
def test_a_resumed_learner_equals_one_that_never_stopped(stop: int, core: str) -> None:
    straight = learner(core=core, core_size=8)
    for _ in range(stop):
        straight.update_once()
    tensors, numbers = straight.trainer_state()
    tensors = {name: value.clone() for name, value in tensors.items()}
    kept = weights(straight.policy)
    wanted = [straight.update_once() for _ in range(4)]
    resumed = learner(seed=2, begin=False, core=core, core_size=8)
    resumed.env.seed = 1  # type: ignore[attr-defined]
    resumed.env._bind()  # type: ignore[attr-defined]
    resumed.policy.load_state_dict(kept)
    resumed.load_trainer_state(tensors, numbers)
    assert [resumed.update_once() for _ in range(4)] == wanted
    for name, value in straight.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[name]), name
    assert (resumed.warmup, resumed.anchor is None) == (straight.warmup, straight.anchor is None)
