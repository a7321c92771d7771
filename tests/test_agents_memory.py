"""PPO with memory: nothing crosses a border between episodes, and what has to be remembered is learned."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from drivetrain.agents.config import PPOConfig
from drivetrain.agents.ppo import PPOLearner, estimate
from drivetrain.agents.returns import gae
from drivetrain.agents.rollout import collect
from drivetrain.policies.cores import Memory

CORES = ("gru", "lstm", "transformer")
SIZES = {"core_size": 8, "core_layers": 2, "core_heads": 2, "core_context": 4, "hidden": (8,)}


class Tape:
    """Hand-made episodes that are played whatever is done: B lanes, T steps, the flags as given."""

    device, channels, time_limit, exact_state = torch.device("cpu"), None, None, True
    single_observation_space, single_action_space = Box(-5.0, 5.0, (2,)), Discrete(3)

    def __init__(self, terminated: list[str], truncated: list[str], valid: list[str] | None = None) -> None:
        self.terminated, self.truncated = flags(terminated), flags(truncated)
        self.valid = None if valid is None else flags(valid)
        self.num_envs, self.t = self.terminated.shape[1], 0
        generator = torch.Generator().manual_seed(7)
        steps = len(self.terminated)
        self.obs = torch.randn(steps + 1, self.num_envs, 2, generator=generator)
        self.next_obs = torch.randn(steps, self.num_envs, 2, generator=generator)
        self.reward = torch.randn(steps, self.num_envs, generator=generator)

    def reset(self) -> Tensor:
        self.t = 0
        return self.obs[0]

    def schedule(self, share: float) -> None: ...

    def step(self, action: Tensor) -> Any:
        t, self.t = self.t, self.t + 1
        done = self.terminated[t] | self.truncated[t]
        after = torch.where(done[:, None], self.next_obs[t], self.obs[t + 1])
        zero = torch.zeros(self.num_envs)
        return SimpleNamespace(
            obs=self.obs[t + 1],
            next_obs=after,
            reward=self.reward[t],
            terminated=self.terminated[t],
            truncated=self.truncated[t],
            frames=torch.ones(self.num_envs, dtype=torch.int64),
            episode_return=zero,
            episode_frames=zero.long(),
            lap_finished=None,
            valid=None if self.valid is None else self.valid[t],
        )


def flags(lanes: list[str]) -> Tensor:
    """[T, B] of one string of dots and crosses a lane."""
    return torch.tensor([[mark == "x" for mark in lane] for lane in lanes]).T


def learner_on(env: Any, core: str, steps: int, **settings: Any) -> PPOLearner:
    cfg = PPOConfig(
        **{"num_envs": env.num_envs, "num_steps": steps, "num_minibatches": 1, "core": core, "random_phase": False}
        | {"norm_adv": False, "lr_schedule": "constant", "update_epochs": 1, "norm_return": False}
        | SIZES
        | settings
    )
    learner = PPOLearner(env, cfg, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # what begins at rest would hide mistakes
        for parameter in learner.policy.parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    return learner


def judged_alone(learner: PPOLearner, obs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Log probabilities [K, A] and values [K] of an episode's observations, one by one from nothing."""
    policy, logits, value = learner.policy, [], []
    memory = policy.core.start(1, "cpu")
    with torch.no_grad():
        for seen in obs:
            pi, worth, kept = policy.step(policy.obs_norm(seen[None]), memory)
            assert worth is not None
            memory = Memory(kept, torch.tensor([False]))
            logits.append(pi.logits[0])  # type: ignore[union-attr]
            value.append(worth[0])
    return torch.stack(logits), torch.stack(value)


# lane 0: dies at 2, cut off at 5, dies at 6 (an episode of one step); lane 1: cut off at 0, then goes on
DIES, CUT = ["..x...x.", "........"], [".....x..", "x......."]


@pytest.mark.parametrize("core", CORES)
def test_what_is_recorded_is_what_each_episode_gives_alone(core: str) -> None:
    tape = Tape(DIES, CUT)
    learner = learner_on(tape, core, 8)
    rollout, last = collect(tape, learner.policy, tape.reset(), learner.memory, 8, learner.generator)
    assert rollout.first is not None
    assert rollout.value is not None
    assert rollout.cut_value is not None
    assert rollout.first.T.tolist() == [[c == "x" for c in lane] for lane in ("x..x..xx", "xx......")]
    for lane, first, end, cut in (
        (0, 0, 3, False),
        (0, 3, 6, True),
        (0, 6, 7, False),
        (1, 0, 1, True),
        (1, 1, 8, False),
    ):
        seen = [tape.obs[t, lane] for t in range(first, end)] + [tape.next_obs[end - 1, lane]]
        logits, value = judged_alone(learner, seen)
        action = rollout.raw_action[first:end, lane]
        torch.testing.assert_close(rollout.log_prob[first:end, lane], logits[:-1].gather(1, action[:, None])[:, 0])
        torch.testing.assert_close(rollout.value[first:end, lane], value[:-1])
        if cut:
            torch.testing.assert_close(rollout.cut_value[end - 1, lane], value[-1])
    # the last episode of lane 1 goes on behind the rollout
    _, value = judged_alone(learner, [*(tape.obs[t, 1] for t in range(1, 8)), last[1]])
    with torch.no_grad():
        after = learner.policy.value_with(learner.policy.obs_norm(last), rollout.memory)
    torch.testing.assert_close(after[1], value[-1])
    assert rollout.memory.first.tolist() == [False, False]


@pytest.mark.parametrize("core", CORES)
def test_advantages_take_the_worth_of_a_cut_episode_from_its_own_memory(core: str) -> None:
    tape = Tape(DIES, CUT)
    learner = learner_on(tape, core, 8)
    rollout, last = collect(tape, learner.policy, tape.reset(), learner.memory, 8, learner.generator)
    batch = estimate(learner.policy, rollout, last, learner.cfg)
    assert rollout.value is not None
    following = torch.zeros(8, 2)
    for lane, first, end in ((0, 0, 3), (0, 3, 6), (0, 6, 7), (0, 7, 8), (1, 0, 1), (1, 1, 8)):
        beyond = tape.next_obs[end - 1, lane] if end < 8 else last[lane]
        _, value = judged_alone(learner, [*(tape.obs[t, lane] for t in range(first, end)), beyond])
        following[first:end, lane] = value[1:]
    wanted = gae(tape.reward, rollout.value, following, tape.terminated, tape.truncated, 0.99, 0.95)
    torch.testing.assert_close(batch.advantage.view(8, 2), wanted)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("parts", [1, 2])
def test_the_first_minibatch_finds_the_probabilities_of_the_rollout_again(core: str, parts: int) -> None:
    tape = Tape(DIES, CUT)
    learner = learner_on(tape, core, 8, num_minibatches=parts)
    memory = Memory(torch.randn(learner.memory.kept.shape), torch.tensor([False, False]))
    if core == "transformer":
        memory.kept[:, -1] = 3.0  # steps that its episode is old
    rollout, last = collect(tape, learner.policy, tape.reset(), memory, 8, learner.generator)
    batch = estimate(learner.policy, rollout, last, learner.cfg)
    for samples, sequence in learner._lanes(rollout, memory):
        assert sequence is not None
        taken = batch.take(samples)
        assert isinstance(taken.obs, Tensor)
        features, _ = learner.policy.over_time(taken.obs, sequence.kept, sequence.first)
        log_prob = learner.policy.head(features).log_prob(taken.raw_action)
        torch.testing.assert_close(log_prob, taken.log_prob)


@pytest.mark.parametrize("core", CORES)
def test_rows_in_which_an_environment_resets_itself_are_left_out_and_end_what_was_remembered(core: str) -> None:
    # lane 0 dies at 2 and is reset in row 3; lane 1 runs through
    tape = Tape(["..x.....", "........"], ["........"] * 2, ["xxx.xxxx", "xxxxxxxx"])
    learner = learner_on(tape, core, 8)
    rollout, _ = collect(tape, learner.policy, tape.reset(), learner.memory, 8, learner.generator)
    assert rollout.first is not None
    assert rollout.first.T.tolist() == [[c == "x" for c in lane] for lane in ("x...x...", "x.......")]
    (_, sequence), *_ = learner._lanes(rollout, learner.memory)
    assert sequence is not None
    assert sequence.rows is not None
    assert len(sequence.rows) == 15
    logits, _ = judged_alone(learner, [tape.obs[t, 0] for t in range(4, 8)])
    action = rollout.raw_action[4:, 0]
    torch.testing.assert_close(rollout.log_prob[4:, 0], logits.gather(1, action[:, None])[:, 0])


class Cue:
    """A sign is shown in the first step of an episode; in the last it pays to do what it said."""

    device, channels, time_limit, exact_state = torch.device("cpu"), None, None, True
    single_observation_space, single_action_space = Box(-1.0, 1.0, (2,)), Discrete(2)

    def __init__(self, num_envs: int = 64, length: int = 4) -> None:
        self.num_envs, self.length = num_envs, length
        self.generator = torch.Generator().manual_seed(3)
        self.time = torch.arange(num_envs) % length
        self.sign = self._draw()

    def _draw(self) -> Tensor:
        return torch.randint(0, 2, (self.num_envs,), generator=self.generator)

    def _look(self) -> Tensor:
        shown = torch.where(self.time == 0, self.sign * 2.0 - 1.0, 0.0)
        return torch.stack((shown, (self.time == self.length - 1).float()), 1)

    def reset(self) -> Tensor:
        return self._look()

    def schedule(self, share: float) -> None: ...

    def step(self, action: Tensor) -> Any:
        last = self.time == self.length - 1
        reward = (last & (action == self.sign)).float()
        self.time = torch.where(last, 0, self.time + 1)
        self.sign = torch.where(last, self._draw(), self.sign)
        obs, never = self._look(), torch.zeros_like(last)
        return SimpleNamespace(
            obs=obs,
            next_obs=obs,
            reward=reward,
            terminated=last,
            truncated=never,
            frames=torch.ones(self.num_envs, dtype=torch.int64),
            episode_return=reward,
            episode_frames=self.time,
            lap_finished=None,
            valid=None,
        )

    def state_tensors(self) -> dict[str, Tensor]:
        return {"time": self.time, "sign": self.sign, "generator": self.generator.get_state()}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        self.time, self.sign = tensors["time"], tensors["sign"]
        self.generator.set_state(tensors["generator"])


def cue_learner(core: str, **settings: Any) -> PPOLearner:
    cfg = PPOConfig(
        **{"num_envs": 64, "num_steps": 16, "num_minibatches": 4, "hidden": (32,), "core": core, "core_size": 32}
        | {"learning_rate": 5e-3, "lr_schedule": "linear", "random_phase": False, "norm_obs": False, "gamma": 0.9}
        | settings
    )
    return PPOLearner(Cue(), cfg, torch.Generator().manual_seed(0))


@pytest.mark.learning
@pytest.mark.parametrize(("core", "low", "high"), [("none", 0.35, 0.65), *((core, 0.97, 1.0) for core in CORES)])
def test_a_sign_seen_four_steps_ago_is_followed_with_memory_and_guessed_without(
    core: str, low: float, high: float
) -> None:
    learner = cue_learner(core)
    *_, last = learner.iterate(20_000)
    assert low <= last["train/return"] <= high


@pytest.mark.parametrize("core", CORES)
def test_a_continued_training_is_the_same_bit_for_bit(core: str) -> None:
    whole, begun, resumed = (cue_learner(core) for _ in range(3))
    for learner in (whole, begun):
        learner.total_steps = 5_000
        learner.update_once()
    begun.update_once()
    tensors, values = begun.trainer_state()
    resumed.policy.load_state_dict(begun.policy.state_dict())
    resumed.load_trainer_state({name: tensor.clone() for name, tensor in tensors.items()}, values)
    resumed.total_steps = 5_000
    resumed.update_once()
    for _ in range(2):
        whole.update_once()
    for one, other in zip(whole.policy.parameters(), resumed.policy.parameters(), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(whole.memory.kept, resumed.memory.kept)


def test_minibatches_of_lanes_need_lanes() -> None:
    with pytest.raises(ValueError, match="num_minibatches=8 must not be more than num_envs=4"):
        PPOConfig(core="gru", num_envs=4, num_steps=16, num_minibatches=8)
