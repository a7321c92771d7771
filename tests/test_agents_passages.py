"""Q-learning with memory: every episode as if it were alone, gradients as of an obvious loop, what is learned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_agents_memory import CORES, CUT, DIES, SIZES, Cue, Tape
from torch import Tensor

from drivetrain.agents.dqn import DQNLearner
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.passages import Passage, choices, play_through
from drivetrain.policies.cores import Memory

STEPS = 8


def learner_on(env: Any, core: str, **settings: Any) -> DQNLearner:
    cfg = DQNConfig(
        **{"num_envs": env.num_envs, "num_steps": STEPS, "buffer": "none", "num_minibatches": 1, "core": core}
        | {"random_phase": False, "lr_schedule": "constant", "update_epochs": 1, "gamma": 0.9, "q_lambda": 0.7}
        | SIZES
        | settings
    )
    made = DQNLearner(env, cfg, torch.Generator().manual_seed(0), total_steps=10_000)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # what begins at rest would hide mistakes
        for parameter in made.policy.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    return made


def played(made: DQNLearner, memory: Memory | None = None) -> tuple[Passage, tuple[Tensor, Memory]]:
    start = made.env.reset(), memory or made.memory
    epsilon = torch.full((made.env.num_envs,), 0.5)
    return play_through(made.env, made.policy, start, epsilon, STEPS, made.generator)


def values_alone(made: DQNLearner, obs: list[Tensor]) -> Tensor:
    """[K, A] values at an episode's observations, one by one from nothing."""
    policy, found = made.policy, []
    memory = policy.core.start(1, "cpu")
    for seen in obs:
        q, kept = policy.q_with(policy.obs_norm(seen[None]), memory)
        memory = Memory(kept, torch.tensor([False]))
        found.append(q[0])
    return torch.stack(found)


EPISODES = [(0, 0, 3), (0, 3, 6), (0, 6, 7), (0, 7, 8), (1, 0, 1), (1, 1, 8)]
"""of Tape(DIES, CUT): lane, first step, one past the last"""


def beyond(tape: Tape, lane: int, end: int, last: Tensor) -> Tensor:
    return tape.next_obs[end - 1, lane] if end < STEPS else last[lane]


@pytest.mark.parametrize("core", CORES)
def test_what_follows_a_step_is_judged_from_the_memory_of_its_own_episode(core: str) -> None:
    tape = Tape(DIES, CUT)
    made = learner_on(tape, core)
    passage, (last, memory) = played(made)
    assert passage.first.T.tolist() == [[c == "x" for c in lane] for lane in ("x..x..xx", "xx......")]
    with torch.no_grad():
        for lane, first, end in EPISODES:
            seen = [*(tape.obs[t, lane] for t in range(first, end)), beyond(tape, lane, end, last)]
            wanted = values_alone(made, seen).amax(1)[1:]
            found = passage.next_value[first:end, lane]
            died = tape.terminated[first:end, lane]  # what is behind a death counts for nothing
            torch.testing.assert_close(found[~died], wanted[~died])
        after, _ = made.policy.q_with(made.policy.obs_norm(last), memory)
        whole = values_alone(made, [*(tape.obs[t, 1] for t in range(1, STEPS)), last[1]])
    torch.testing.assert_close(after[1], whole[-1])


def loss_by_hand(made: DQNLearner, passage: Passage, last: Tensor, tape: Tape, skip: set[tuple[int, int]]) -> Tensor:
    """Huber loss of the λ-returns in Python, episode by episode and step by step."""
    cfg, errors = made.cfg, []
    for lane, first, end in EPISODES:
        seen = [*(tape.obs[t, lane] for t in range(first, end)), beyond(tape, lane, end, last)]
        q = values_alone(made, seen)
        later = float(q[-1].detach().max())
        for t in reversed(range(first, end)):
            best = float(q[t - first + 1].detach().max())
            future = 0.0 if bool(tape.terminated[t, lane]) else cfg.q_lambda * later + (1 - cfg.q_lambda) * best
            later = float(tape.reward[t, lane]) + cfg.gamma * future
            gap = q[t - first, int(passage.action[t, lane])] - later
            if (lane, t) not in skip:
                errors.append(0.5 * gap**2 if abs(gap) < 1 else gap.abs() - 0.5)
    return torch.stack(errors).mean()


@pytest.mark.parametrize("core", CORES)
def test_a_gradient_step_equals_a_loop_over_episodes(core: str) -> None:
    tape = Tape(DIES, CUT)
    made, again = learner_on(tape, core), learner_on(tape, core)
    passage, (last, _) = played(made)
    loss = loss_by_hand(again, passage, last, tape, set())
    loss.backward()
    (found,) = made._learn_through(passage, 0.0)  # at a rate of 0 nothing moves, and the gradient stays
    assert float(found[0]) == pytest.approx(float(loss), rel=1e-5)
    torch.nn.utils.clip_grad_norm_(again.policy.parameters(), made.cfg.max_grad_norm)
    for one, other in zip(made.policy.parameters(), again.policy.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("core", CORES)
def test_rows_in_which_an_environment_resets_itself_teach_nothing(core: str) -> None:
    # lane 0 dies at 2 and is reset in row 3; lane 1 runs through
    tape = Tape(["..x.....", "........"], ["........"] * 2, ["xxx.xxxx", "xxxxxxxx"])
    tape.reward[3, 0] = torch.nan
    made = learner_on(tape, core)
    passage, _ = played(made)
    assert passage.first.T.tolist() == [[c == "x" for c in lane] for lane in ("x...x...", "x.......")]
    assert passage.samples(torch.tensor([1, 0])).tolist() == [k for k in range(16) if k != 7]  # row 3 of lane 0
    (found,) = made._learn_through(passage, 1e-3)
    assert bool(torch.isfinite(found).all())
    assert all(bool(torch.isfinite(p).all()) for p in made.policy.parameters())


@pytest.mark.parametrize("core", CORES)
def test_what_is_wanted_is_the_same_however_lanes_are_shared_out(core: str) -> None:
    made = learner_on(Tape(DIES, CUT), core)
    passage, _ = played(made)
    normed = made.policy.obs_norm(passage.obs)
    whole, kept = choices(made.policy.net, normed, passage.kept, passage.first, 1)
    parts, pieces = choices(made.policy.net, normed, passage.kept, passage.first, 2)
    assert torch.equal(whole, parts)
    torch.testing.assert_close(kept, pieces)
    with torch.no_grad():
        for lane, first, end in EPISODES:
            wanted = values_alone(made, [passage.obs[t, lane] for t in range(first, end)]).argmax(1)
            assert whole[first:end, lane].tolist() == wanted.tolist()


def cue_learner(core: str, seed: int = 0, **settings: Any) -> DQNLearner:
    cfg = DQNConfig(
        **{"num_envs": 64, "num_steps": 16, "num_minibatches": 4, "hidden": (32,), "core": core, "core_size": 32}
        | {"learning_rate": 3e-3, "random_phase": False, "norm_obs": False, "gamma": 0.9, "buffer": "none"}
        | {"eps_end": 0.0, "eps_fraction": 0.7, "core_heads": 2}
        | settings
    )
    return DQNLearner(Cue(), cfg, torch.Generator().manual_seed(seed), total_steps=20_000)


@pytest.mark.learning
@pytest.mark.parametrize(("core", "low", "high"), [("none", 0.35, 0.65), *((core, 0.97, 1.0) for core in CORES)])
def test_a_sign_seen_four_steps_ago_is_followed_with_memory_and_guessed_without(
    core: str, low: float, high: float
) -> None:
    *_, last = cue_learner(core).iterate(20_000)
    assert low <= last["train/return"] <= high


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("anchored", [False, True])
def test_a_continued_training_is_the_same_bit_for_bit(core: str, anchored: bool) -> None:
    whole, begun, resumed = (cue_learner(core) for _ in range(3))
    for learner in (whole, begun):
        if anchored:
            learner.begin_from_here(True)
        learner.update_once()
    begun.update_once()
    tensors, values = begun.trainer_state()
    resumed.policy.load_state_dict(begun.policy.state_dict())
    resumed.load_trainer_state({name: tensor.clone() for name, tensor in tensors.items()}, values)
    assert (resumed.anchor is not None) == anchored
    resumed.update_once()
    for _ in range(2):
        whole.update_once()
    for one, other in zip(whole.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.memory.kept, resumed.memory.kept)
    assert torch.equal(whole.held_memory, resumed.held_memory)


def test_memory_and_replay_do_not_go_together() -> None:
    with pytest.raises(ValueError, match="core=gru needs buffer=none"):
        DQNConfig(core="gru")
    with pytest.raises(ValueError, match="num_minibatches=8 must not be above num_envs=4"):
        DQNConfig(core="gru", buffer="none", num_envs=4, num_steps=16, num_minibatches=8)
