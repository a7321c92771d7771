"""Any Gymnasium environment as a batch: the same numbers as an obvious loop over single environments."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gym_probes import Faulty, Painter, Probe, register_probes
from gymnasium.spaces import Box, Discrete

from drivetrain.envs.adapt import GymBatch, GymStep, GymTask, carried, spaces_of
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_view import GymView
from drivetrain.envs.lanes import lane_seed
from drivetrain.envs.tally import Tally
from drivetrain.envs.view import grey, shrink

register_probes()
B, T, SEED = 3, 40, 2_000_000_000
SAME = [("Probe-v0", "sync"), ("Probe-v0", "async"), ("ProbeSame-v0", "native"), ("ProbeOff-v0", "native")]
KINDS = [*SAME, ("ProbeNext-v0", "native")]


def actions(steps: int, lanes: int = B) -> np.ndarray:
    """[T, B] of Discrete(3)."""
    return np.random.default_rng(5).integers(3, size=(steps, lanes))


def obvious(env: gymnasium.Env, seed: int, given: np.ndarray, late: bool) -> list[dict[str, object]]:
    """One lane, step by step; late: a step after each end only resets."""
    obs, _ = env.reset(seed=seed)
    rows: list[dict[str, object]] = [{"obs": obs}]
    total, frames, over = 0.0, 0, False
    for action in given:
        if over and late:
            obs, _ = env.reset()
            rows.append({"obs": obs, "valid": False, "reward": 0.0, "terminated": False, "truncated": False})
            rows[-1] |= {"frames": 0, "episode_return": 0.0, "episode_frames": 0}
            total, frames, over = 0.0, 0, False
            continue
        next_obs, reward, terminated, truncated, _ = env.step(action)
        total, frames, over = total + reward, frames + 1, terminated or truncated
        row = {"obs": next_obs, "next_obs": next_obs, "valid": True, "reward": reward, "frames": 1}
        row |= {"terminated": terminated, "truncated": truncated, "episode_return": total, "episode_frames": frames}
        if over and not late:
            row["obs"], _ = env.reset()
            total, frames = 0.0, 0
        rows.append(row)
    return rows


def kept(step: GymStep) -> GymStep:
    """A copy: the next step may overwrite what it holds."""
    return GymStep(*(None if x is None else x.clone() for x in step))


def played(batch: GymBatch, given: np.ndarray) -> tuple[torch.Tensor, list[GymStep]]:
    first = batch.reset().clone()
    return first, [kept(batch.step(torch.from_numpy(row))) for row in given]


@pytest.mark.oracle
@pytest.mark.parametrize(("env", "kind"), KINDS)
def test_a_batch_gives_what_each_lane_alone_gives(env: str, kind: str) -> None:
    late, given = env == "ProbeNext-v0", actions(T)
    batch = GymBatch(GymTask(env, vectorization=kind), B, SEED)
    first, steps = played(batch, given)
    batch.close()
    ends = {"terminated": 0, "truncated": 0, "both": 0, "fake": 0}
    for lane in range(B):
        rows = obvious(Probe(), SEED + lane, given[:, lane], late)
        assert torch.equal(first[lane], torch.from_numpy(rows[0]["obs"]))
        for step, row in zip(steps, rows[1:], strict=True):
            for name, value in row.items():
                got = getattr(step, name)
                if name == "valid" and not late:
                    assert got is None
                    continue
                assert torch.equal(got[lane], torch.as_tensor(value, dtype=got.dtype)), (name, lane)
            ends["both"] += row["terminated"] and row["truncated"]
            ends["terminated"] += row["terminated"]
            ends["truncated"] += row["truncated"]
            ends["fake"] += not row["valid"]
    assert min(ends["terminated"], ends["truncated"], ends["both"]) > 3
    assert (ends["fake"] > 3) == late


def test_auto_takes_the_batched_version_where_it_does_what_the_single_one_does() -> None:
    for env, kind in (("ProbeNext-v0", "native"), ("ProbeOther-v0", "sync"), ("Probe-v0", "sync")):
        batch = GymBatch(GymTask(env), 2, 0)
        assert batch._lanes.kind == kind, env
        batch.close()
    batch = GymBatch(GymTask("ProbeNext-v0", frame_skip=2), 2, 0)
    assert batch._lanes.kind == "sync"
    batch.close()


def test_a_batched_version_that_cannot_be_used_is_refused_only_where_it_was_asked_for() -> None:
    for env, why in (("Probe-v0", "it has none"), ("ProbeOther-v0", "spaces"), ("ProbeSilent-v0", "how it resets")):
        with pytest.raises(UserError, match=why) as caught:
            GymBatch(GymTask(env, vectorization="native"), 2, 0)
        assert caught.value.code == 2


def test_cartpole_takes_gymnasiums_own_batched_version_with_its_time_limit() -> None:
    batch = GymBatch(GymTask("CartPole-v1"), 4, SEED)
    assert (batch._lanes.kind, batch.time_limit, batch.channels) == ("native", 500, None)
    assert batch.single_action_space == Discrete(2)
    reference = gymnasium.make_vec("CartPole-v1", 4)
    raw, _ = reference.reset(seed=SEED)
    assert np.array_equal(batch.reset().numpy(), raw)
    for row in np.random.default_rng(0).integers(2, size=(200, 4)):
        raw, reward, terminated, _, _ = reference.step(row)
        step = batch.step(torch.from_numpy(row))
        assert np.array_equal(step.obs.numpy(), raw)
        assert np.array_equal(step.reward.numpy(), reward)
        assert np.array_equal(step.terminated.numpy(), terminated)
        assert step.valid is not None
        assert torch.equal(step.valid, step.reward > 0)  # CartPole pays 1 in every step, and 0 in those that reset


@pytest.mark.golden
def test_an_action_is_held_for_frame_skip_frames_and_rewards_are_summed() -> None:
    batch = GymBatch(GymTask("ProbeLimited-v0", frame_skip=3), 1, SEED)
    first = batch.reset().clone()
    mark = float(first[0, 0])
    steps = [kept(batch.step(torch.tensor([2]))) for _ in range(3)]
    # the reward of frame t is mark + 0.25·2 − 0.125·t; the limit of 5 frames cuts the second decision after 2
    pays = [mark + 0.5 - 0.125 * t for t in range(1, 6)]
    assert steps[0].reward.tolist() == pytest.approx([sum(pays[:3])])
    assert steps[1].reward.tolist() == pytest.approx([sum(pays[3:])])
    assert [int(step.frames) for step in steps] == [3, 2, 3]
    assert [bool(step.truncated) for step in steps] == [False, True, False]
    assert [int(step.episode_frames) for step in steps] == [3, 5, 3]
    assert float(steps[1].episode_return) == pytest.approx(sum(pays))
    assert steps[1].next_obs[0, 1] == 5
    assert batch.time_limit == 2


@pytest.mark.parametrize("env", ["Painter-v0", "PainterNext-v0"])
@pytest.mark.oracle
def test_pictures_are_grey_small_and_stacked_anew_with_every_episode(env: str) -> None:
    late, given, depth = env == "PainterNext-v0", actions(T), 3
    task = GymTask(env, grey=True, resize=10, frame_stack=depth)
    batch = GymBatch(task, B, SEED)
    assert (batch.channels, batch.single_observation_space) == (1, Box(0, 255, (10, 10, depth), np.uint8))
    first, steps = played(batch, given)

    def small(picture: object) -> torch.Tensor:
        return shrink(grey(torch.from_numpy(picture)[None]), 10, 10)[0]

    for lane in range(B):
        rows = obvious(Painter(), SEED + lane, given[:, lane], late)
        stack = [small(rows[0]["obs"])] * depth
        assert torch.equal(first[lane], torch.cat(stack, -1))
        for step, row in zip(steps, rows[1:], strict=True):
            if row["valid"]:
                stack = [*stack[1:], small(row["next_obs"])]
                assert torch.equal(step.next_obs[lane], torch.cat(stack, -1))
            if (not row["valid"]) if late else (row["terminated"] or row["truncated"]):
                stack = [small(row["obs"])] * depth
            assert torch.equal(step.obs[lane], torch.cat(stack, -1))


def test_numbers_are_stacked_too() -> None:
    batch = GymBatch(GymTask("ProbeLimited-v0", frame_stack=2), 1, SEED)
    assert batch.single_observation_space.shape == (8,)
    first = batch.reset().clone()
    assert torch.equal(first[0, :4], first[0, 4:])
    steps = [kept(batch.step(torch.tensor([1]))) for _ in range(5)]
    assert steps[1].obs[0, [1, 5]].tolist() == [1, 2]
    assert steps[4].next_obs[0, [1, 5]].tolist() == [4, 5]
    assert steps[4].obs[0, [1, 5]].tolist() == [0, 0]


@pytest.mark.oracle
@pytest.mark.parametrize("env", ["Probe-v0", "ProbeNext-v0"])
def test_norm_reward_divides_by_the_spread_of_the_discounted_return(env: str) -> None:
    gamma, given = 0.9, actions(T)
    plain = GymBatch(GymTask(env), B, SEED)
    scaled = GymBatch(GymTask(env, norm_reward=True), B, SEED, gamma=gamma)
    (_, raw), (_, paid) = played(plain, given), played(scaled, given)
    returns, seen = [0.0] * B, []
    for before, after in zip(raw, paid, strict=True):
        valid = [True] * B if before.valid is None else before.valid.tolist()
        rewards = [float(x) for x in before.reward]
        for lane in range(B):
            returns[lane] = gamma * returns[lane] + rewards[lane]
            seen += [returns[lane]] if valid[lane] else []
        spread = np.sqrt(np.var(np.array(seen, np.float64)) + 1e-8)
        assert after.reward.tolist() == pytest.approx([float(np.clip(x / spread, -10, 10)) for x in rewards], rel=1e-5)
        assert torch.equal(after.episode_return, before.episode_return)
        for lane in range(B):
            if bool(before.terminated[lane] | before.truncated[lane]):
                returns[lane] = 0.0


@pytest.mark.golden
def test_what_a_lane_says_in_a_step_that_only_resets_it_does_not_count() -> None:
    tally, ends = Tally(2, skip=4, late=True), np.array([True, False])
    for reward, over in ((1.5, ends), (7.0, ~ends), (0.5, ends)):  # lane 0 ends, only resets, and ends at once
        tally.begin()
        tally.add(np.full(2, reward), over, over)
        if over[0]:
            assert tally.valid.tolist() == [True, reward == 1.5]
            assert float(tally.episode_return[0]) == reward
            assert tally.episode_frames[0] == 4
        else:
            assert (tally.valid[0], tally.reward[0], tally.frames[0], tally.done[0]) == (False, 0.0, 0, False)
            assert float(tally.episode_return[1]) == 1.5 + 7.0
        tally.close()
    assert tally.episodes.tolist() == [3, 2]


def test_clip_reward_limits_what_is_paid_and_leaves_the_score_alone() -> None:
    given = actions(T)
    (_, raw), (_, paid) = (played(GymBatch(GymTask("Probe-v0", clip_reward=c), B, SEED), given) for c in (None, 0.3))
    for before, after in zip(raw, paid, strict=True):
        assert torch.equal(after.reward, before.reward.clamp(-0.3, 0.3))
        assert torch.equal(after.episode_return, before.episode_return)
    assert max(float(step.reward.max()) for step in raw) > 0.3


def test_a_loaded_batch_keeps_its_statistics_and_begins_new_episodes() -> None:
    task = GymTask("Probe-v0", norm_reward=True)
    batch, other = GymBatch(task, B, SEED), GymBatch(task, B, SEED)
    first, _ = played(batch, actions(T))
    assert torch.equal(first, other.reset())
    other.load_state_tensors({name: x.clone() for name, x in batch.state_tensors().items()})
    assert torch.equal(other.state_tensors()["reward_moments"], batch.state_tensors()["reward_moments"])
    again = other.reset()
    assert not torch.isin(again[:, 0], first[:, 0]).any()  # other seeds, so other marks
    expected = [Probe().reset(seed=SEED + B + lane)[0] for lane in range(B)]
    assert torch.equal(again, torch.from_numpy(np.stack(expected)))


@pytest.mark.golden
def test_seeds_stay_within_31_bits_and_apart_from_those_of_tests() -> None:
    assert [lane_seed(s) for s in (0, 1_000_000_000, 2_000_000_000, 2**31 - 1)] == [0, 10**9, 2 * 10**9, 2**31 - 1]
    assert [lane_seed(s) for s in (2**31, 2**31 + 5)] == [2_000_000_000, 2_000_000_005]
    assert all(2_000_000_000 <= lane_seed(2_000_000_000 + 1000 * run) < 2**31 for run in range(0, 10**6, 7919))


def test_spaces_are_those_of_a_batch_and_nothing_stays_open() -> None:
    for task in (GymTask("Painter-v0", resize=12, frame_stack=4), GymTask("Probe-v0"), GymTask("CartPole-v1")):
        batch = GymBatch(task, 2, 0)
        assert spaces_of(task) == (batch.single_observation_space, batch.single_action_space)
        assert batch.reset().shape == (2, *batch.single_observation_space.shape)


def test_what_is_for_pictures_is_refused_for_numbers() -> None:
    for task in (GymTask("Probe-v0", grey=True), GymTask("Probe-v0", resize=20)):
        with pytest.raises(UserError, match="for pictures"):
            spaces_of(task)
    with pytest.raises(UserError, match="Atari"):
        spaces_of(GymTask("Probe-v0", atari=True))
    with pytest.raises(UserError, match="num_envs"):
        GymBatch(GymTask("Probe-v0"), 0, 0)


def test_a_batch_may_be_closed_twice() -> None:
    for env, kind in KINDS:
        batch = GymBatch(GymTask(env, vectorization=kind), 2, 0)
        batch.close()
        batch.close()


def test_numbers_that_change_device_keep_their_kind_and_value() -> None:
    numbers = [torch.tensor([0.1, -2.5]), torch.tensor([True, False]), torch.tensor([2**40, 3])]
    there = carried(numbers, torch.device("cpu"))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(there, numbers, strict=True))


@pytest.mark.gpu
def test_a_batch_on_the_gpu_gives_what_one_on_the_cpu_gives() -> None:
    for task in (GymTask("Probe-v0"), GymTask("Painter-v0", grey=True, frame_stack=2), GymTask("ProbeNext-v0")):
        here, there = (GymBatch(task, B, SEED, device) for device in ("cpu", "cuda"))
        assert torch.equal(here.reset(), there.reset().cpu())
        for row in torch.from_numpy(actions(T)):
            a, b = here.step(row), there.step(row.cuda())
            assert all(x is None or torch.equal(x, y.cpu()) for x, y in zip(a, b, strict=True))


def test_a_view_of_grey_pictures_hands_on_what_it_cannot_make_greyer() -> None:
    view = GymView(Box(0, 255, (20, 20, 1), np.uint8), GymTask("Painter-v0", grey=True), torch.device("cpu"))
    picture = np.arange(400, dtype=np.uint8).reshape(1, 20, 20, 1)
    assert torch.equal(view.prepare(picture), torch.from_numpy(picture))


def test_the_faulty_probe_is_sound_where_no_fault_is_due() -> None:
    env = Faulty("raise", lane_seed=1)
    env.reset(seed=0)
    assert [env.step(0)[2] for _ in range(3)] == [False, False, True]
