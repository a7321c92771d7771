"""The replay against lists of episodes: stacks, borders, the ring, the write head, limits, priorities, checkpoints."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.priorities import SumTree
from drivetrain.agents.replay import Replay, Steps, check_replay, newest, replay_bytes
from drivetrain.envs.errors import UserError


@dataclass
class Told:
    """One transition as the obvious implementation keeps it: in the list of its episode."""

    place: int
    position: int  # on an endless tape of the lane's rows
    reach: int  # position of the oldest picture that its observation needs
    obs: torch.Tensor
    action: int
    reward: float
    terminated: bool
    truncated: bool
    next_obs: torch.Tensor


@dataclass
class Teller:
    """Lanes that make up episodes; every picture, or first number of an observation, tells its lane and moment."""

    lanes: int
    depth: int  # pictures in a stack; 0 = numbers
    next_step: bool  # resets take a step of their own, as in Gymnasium's NEXT_STEP mode
    odds: float  # of a death, and of a time limit, at every step
    rng: torch.Generator
    count: int = 0
    stacks: list = field(default_factory=list)
    fake: list = field(default_factory=list)
    episodes: list = field(default_factory=list)  # [lane] → episodes → Told
    position: list = field(default_factory=list)

    def __post_init__(self):
        self.stacks = [self._fresh() for _ in range(self.lanes)]
        self.fake = [False] * self.lanes
        self.episodes = [[[]] for _ in range(self.lanes)]
        self.position = [max(0, self.depth - 1)] * self.lanes
        self.begun = [0] * self.lanes  # where the pictures of the running episode begin
        self.obs = torch.stack(self.stacks)

    def _picture(self):
        self.count += 1
        if not self.depth:
            return torch.tensor([float(self.count), -1.0])
        return torch.tensor([self.count // 256, self.count % 256], dtype=torch.uint8).view(1, 2, 1)

    def _fresh(self):
        picture = self._picture()
        return picture.repeat(1, 1, self.depth) if self.depth else picture

    def _next(self, stack):
        return torch.cat((stack[..., 1:], self._picture()), -1) if self.depth else self._picture()

    def steps(self, num_steps):
        """Steps of all lanes, and the transitions among them with the row [t][b] each came from."""
        rows, told = [], []
        for t in range(num_steps):
            obs, nexts, flags, new = torch.stack(self.stacks), [], [], []
            for b in range(self.lanes):
                action = int(torch.randint(0, 5, (), generator=self.rng))
                reward = float(torch.randn((), generator=self.rng))
                if self.fake[b]:
                    self.fake[b] = False
                    new.append(self._fresh())
                    nexts.append(new[-1])
                    flags.append((action, 77.0, False, False, False))
                    continue
                dead, cut = (bool(torch.rand((), generator=self.rng) < self.odds) for _ in range(2))
                after = self._next(self.stacks[b])
                row = Told(-1, self.position[b], self._reach(b), obs[b], action, reward, dead, cut, after)
                told.append((t, b, row))
                self.episodes[b][-1].append(row)
                self.position[b] += 2 if cut and not dead else 1
                nexts.append(after)
                flags.append((action, reward, dead, cut, True))
                if dead or cut:
                    self.episodes[b].append([])
                    self.begun[b] = self.position[b]
                    self.fake[b] = self.next_step
                    new.append(after if self.next_step else self._fresh())
                else:
                    new.append(after)
            self.stacks = new
            rows.append((obs, torch.stack(nexts), *(torch.tensor(column) for column in zip(*flags, strict=True))))
        self.obs = torch.stack(self.stacks)
        obs, nexts, action, reward, dead, cut, valid = (torch.stack(column) for column in zip(*rows, strict=True))
        channels = 1 if self.depth else None
        nothing = torch.zeros_like(action)
        steps = Steps(
            newest(obs, channels),
            newest(nexts, channels),
            action,
            reward,
            dead,
            cut,
            nothing,
            nothing.float(),
            nothing,
            valid=valid if self.next_step else None,
        )
        return steps, told

    def _reach(self, b):
        return max(self.begun[b], self.position[b] - max(0, self.depth - 1))

    def alive(self, rows):
        """(episode, index in it) of every transition that a ring of so many rows still holds with all its pictures."""
        return [
            (episode, k)
            for b in range(self.lanes)
            for episode in self.episodes[b]
            for k, row in enumerate(episode)
            if row.reach > self.position[b] - rows
        ]


def wanted(episode, k, n, gamma):
    """What the transition k of an episode is worth over n steps, in plain float64."""
    total, j = 0.0, 0
    for j, row in enumerate(episode[k : k + n]):
        total += gamma**j * row.reward
    return total, (0.0 if row.terminated else gamma ** (j + 1)), row.next_obs


CASES = [
    # lanes, pictures, next_step, odds, rows, steps an addition, additions
    (1, 0, False, 0.2, 12, 1, 60),
    (3, 0, False, 0.1, 24, 4, 30),
    (3, 0, True, 0.2, 24, 4, 30),
    (2, 1, False, 0.3, 17, 3, 30),
    (2, 3, False, 0.15, 19, 4, 30),
    (3, 4, True, 0.15, 23, 5, 30),
    (2, 4, False, 0.0, 25, 7, 10),
    (4, 2, True, 0.5, 40, 6, 12),
]


def filled(lanes, depth, next_step, odds, rows, prioritized=False, seed=0):
    teller = Teller(lanes, depth, next_step, odds, torch.Generator().manual_seed(seed))
    return teller, Replay(teller.obs, rows, 1 if depth else None, prioritized)


def tell(teller, replay, num_steps):
    steps, told = teller.steps(num_steps)
    places = replay.add(steps)
    for t, b, row in told:
        row.place = int(places[t, b])
    return places


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prioritized", [False, True])
def test_every_transition_comes_back_as_a_list_of_episodes_tells_it(case, prioritized):
    *settings, num_steps, additions = case
    teller, replay = filled(*settings, prioritized)
    rows = settings[-1]
    for turn in range(additions):
        tell(teller, replay, num_steps)
        alive = teller.alive(rows)
        assert sorted(replay.valid.nonzero()[:, 0].tolist()) == sorted(e[k].place for e, k in alive)
        assert int(replay.size) == len(alive)
        newest_of = [episodes[-1] or episodes[-2] for episodes in teller.episodes]
        assert replay._latest(torch.arange(replay.lanes)).tolist() == [episode[-1].place for episode in newest_of]
        if prioritized:
            assert replay.tree.levels[0][: replay.nowhere].nonzero()[:, 0].tolist() == sorted(
                e[k].place for e, k in alive
            )
        places = torch.tensor([e[k].place for e, k in alive])
        n, gamma = 1 + turn % 4, 0.8
        found = replay.transitions(places, n, gamma)
        told = [wanted(e, k, n, gamma) for e, k in alive]
        torch.testing.assert_close(found.obs, torch.stack([e[k].obs for e, k in alive]))
        assert found.action.tolist() == [e[k].action for e, k in alive]
        torch.testing.assert_close(found.return_, torch.tensor([x[0] for x in told]))
        torch.testing.assert_close(found.discount, torch.tensor([x[1] for x in told]))
        for i, (_, discount, next_obs) in enumerate(told):
            assert discount == 0 or torch.equal(found.next_obs[i], next_obs)  # what follows a death does not count


@pytest.mark.oracle
@pytest.mark.parametrize("case", CASES)
def test_the_newest_steps_can_be_read_in_their_order(case):
    *settings, num_steps, additions = case
    teller, replay = filled(*settings)
    for _ in range(additions):
        steps, told = teller.steps(num_steps)
        places = replay.add(steps)
        seen = replay.see(places.flatten()).view(*places.shape, *teller.obs.shape[1:])
        after = replay.after(places.flatten()).view_as(seen)
        assert (places == replay.nowhere).sum() == places.numel() - len(told)
        for t, b, row in told:
            assert torch.equal(seen[t, b], row.obs)
            if not row.terminated:
                assert torch.equal(after[t, b], row.next_obs)


def test_each_picture_is_stored_once():
    replay = Replay(torch.zeros(5, 84, 84, 4, dtype=torch.uint8), 10, 1, False)
    assert replay.obs.shape == (51, 84, 84, 1)  # ten rows a lane, and a place for what is forgotten
    assert replay.obs.dtype == torch.uint8


# ---- drawing -------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("case", [*CASES[:6], (3, 0, False, 0.1, 24, 4, 3)])
def test_uniform_draws_reach_every_transition_alike_and_nothing_else(case):
    *settings, num_steps, additions = case
    teller, replay = filled(*settings)
    for _ in range(additions):
        tell(teller, replay, num_steps)
    alive = [e[k].place for e, k in teller.alive(settings[-1])]
    drawn, probability = replay.sample(400 * len(alive), torch.Generator().manual_seed(3))
    assert probability is None
    counts = torch.bincount(drawn, minlength=replay.nowhere + 1)
    assert set(counts.nonzero()[:, 0].tolist()) == set(alive)
    # 400 ± 20 each; over a hundred of them 5 standard deviations leave room
    assert (counts[alive] - 400).abs().max() < 100


@pytest.mark.oracle
def test_prioritised_draws_follow_the_priorities():
    teller, replay = filled(3, 0, False, 0.1, 24, True)
    for _ in range(20):
        tell(teller, replay, 4)
    alive = torch.tensor([e[k].place for e, k in teller.alive(24)])
    error = torch.linspace(-2.0, 4.0, len(alive))
    replay.judge(alive, error, 0.6)
    share = (error.abs() + 1e-6).double() ** 0.6
    share = share / share.sum()
    drawn, probability = replay.sample(200_000, torch.Generator().manual_seed(3))
    counts = torch.bincount(drawn, minlength=replay.nowhere)[alive] / 200_000
    torch.testing.assert_close(counts.double(), share, atol=2e-3, rtol=0.03)
    where = {int(place): i for i, place in enumerate(alive)}
    expected = share[[where[int(place)] for place in drawn[:500]]]
    torch.testing.assert_close(probability[:500], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.golden
def test_new_transitions_have_the_highest_priority_given_so_far():
    teller, replay = filled(1, 0, False, 0.0, 12, True)
    first = tell(teller, replay, 2).flatten()
    assert replay.tree.levels[0][first].tolist() == [1.0, 1.0]
    replay.judge(first, torch.tensor([-8.0, 0.5]), 1.0)  # (8 + 10⁻⁶)¹
    second = tell(teller, replay, 2).flatten()
    assert replay.tree.levels[0][second].tolist() == pytest.approx([8.0, 8.0], rel=1e-5)
    assert replay.tree.levels[0][first].tolist() == pytest.approx([8.0, 0.5], rel=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("size", [1, 5, 32, 33, 1_000, 40_000])
def test_the_tree_draws_in_proportion_after_many_updates(size):
    rng = torch.Generator().manual_seed(size)
    tree, plain = SumTree(size, torch.device("cpu")), torch.zeros(size, dtype=torch.float64)
    for _ in range(20):
        index = torch.randint(0, size, (50,), generator=rng).unique()
        value = torch.rand(len(index), generator=rng, dtype=torch.float64) * (
            torch.rand(len(index), generator=rng) > 0.3
        )
        tree.update(index, value)
        plain[index] = value
    index = torch.tensor([0])
    tree.update(index, torch.tensor([1.0]))
    plain[0] = 1.0
    torch.testing.assert_close(tree.levels[-1].sum(), plain.sum())
    drawn, probability = tree.sample(100_000, rng)
    torch.testing.assert_close(probability, plain[drawn] / plain.sum())
    assert (plain[drawn] > 0).all()
    share = torch.bincount(drawn, minlength=size) / 100_000
    assert (share - plain / plain.sum()).abs().max() < 2e-4  # one point in each of 100,000 ranges: nearly exact


# ---- checkpoints and memory ----------------------------------------------------------------------------------------


@pytest.mark.invariance
@pytest.mark.parametrize("additions", [1, 9])
@pytest.mark.parametrize("case", [CASES[1], CASES[5]])
def test_a_replay_put_back_goes_on_as_if_never_stopped(case, additions):
    *settings, num_steps, _ = case
    teller, replay = filled(*settings, True)
    for _ in range(additions):
        tell(teller, replay, num_steps)
    replay.judge(replay.sample(4, torch.Generator().manual_seed(1))[0], torch.tensor([3.0, 1.0, 2.0, 0.1]), 0.5)
    saved = {name: value.clone() for name, value in replay.state_tensors().items()}
    other = Replay(torch.zeros_like(teller.obs), settings[-1], replay.channels, True)
    other.load_state_tensors(saved)
    for _ in range(7):
        steps, _ = teller.steps(num_steps)
        assert torch.equal(replay.add(steps), other.add(steps))
    drawn, again = (r.sample(64, torch.Generator().manual_seed(2))[0] for r in (replay, other))
    assert torch.equal(drawn, again)
    for here, there in zip(replay.transitions(drawn, 3, 0.9), other.transitions(drawn, 3, 0.9), strict=True):
        assert torch.equal(here, there)


def test_a_replay_that_is_hardly_used_makes_a_small_checkpoint():
    teller, replay = filled(2, 0, False, 0.0, 1_000)
    tell(teller, replay, 5)
    assert replay.state_tensors()["obs"].shape == (2, 6, 2)


@pytest.mark.golden
def test_the_estimate_is_what_is_allocated():
    numbers, pictures = Box(-1, 1, (6,), np.float32), Box(0, 255, (20, 30, 4), np.uint8)
    cases = (
        (numbers, None, torch.zeros(8, 6), 20_000, True),
        (pictures, 1, torch.zeros(8, 20, 30, 4).byte(), 1_000, False),
    )
    for space, channels, obs, rows, prioritized in cases:
        replay = Replay(obs, rows, channels, prioritized)
        held = sum(value.nbytes for value in vars(replay).values() if isinstance(value, torch.Tensor))
        held += sum(level.nbytes for level in replay.tree.levels) if prioritized else 0
        assert replay_bytes(space, channels, 8 * rows, prioritized) == pytest.approx(held, rel=0.01)


@pytest.mark.conformance
def test_a_replay_that_does_not_fit_is_refused_with_the_size_that_fits():
    # a million pictures of 84 x 84: 7,056 + 16 bytes each, 7.07 GB; half is free, and 0.9 of that is suggested
    space = Box(0, 255, (84, 84, 4), np.uint8)
    cfg = DQNConfig(encoder="cnn", buffer_size=1_000_000)
    with pytest.raises(UserError) as caught:
        check_replay(space, 1, cfg, 7_072_000_000 // 2)
    assert caught.value.code == 8
    assert "450,000" in str(caught.value)
    assert "\n" not in str(caught.value)
    check_replay(space, 1, cfg, 7_072_000_000)
    check_replay(space, 1, cfg, None)
    check_replay(space, 1, DQNConfig(encoder="cnn", buffer_size=1_000_000, buffer="none"), 0)


@pytest.mark.parametrize("prioritized", [True, False])
@pytest.mark.parametrize("depth", [1, 3])
def test_an_interrupted_episode_is_cut_off_where_it_was_seen_last(depth, prioritized):
    # rewards 1, 2, 4 from pictures 10, 11, 12; 13 was seen last; then a new episode with 50, 51, …
    channels = 1 if depth > 1 else None
    seen = lambda *levels: torch.tensor(levels, dtype=torch.uint8).view(1, 1, 1, -1)
    stack = seen(*[10] * depth) if channels else seen(10).float()[:, 0, 0]
    replay = Replay(stack, 12, channels, prioritized)
    one = lambda level: seen(level) if channels else seen(level).float()[:, 0, 0]

    def add(first, *rewards):
        count, zeros = len(rewards), torch.zeros(len(rewards), 1, dtype=torch.int64)
        obs = torch.stack([one(first + k) for k in range(count)])
        after = torch.stack([one(first + k + 1) for k in range(count)])
        never = torch.zeros(count, 1, dtype=torch.bool)
        reward = torch.tensor(rewards)[:, None]
        return replay.add(Steps(obs, after, zeros, reward, never, never, zeros, zeros.float(), zeros))

    places = add(10, 1.0, 2.0, 4.0).flatten()
    replay.interrupt(seen(*[50] * depth) if channels else one(50))
    later = add(50, 8.0, 16.0).flatten()
    found = replay.transitions(torch.cat((places, later[:1])), 5, 0.5)
    # 1 + ½·2 + ¼·4 with ⅛ of what follows 13; 2 + ½·4 with ¼; 4 with ½; 8 + ½·16 with ¼ of what follows 52
    assert found.return_.tolist() == [3.0, 4.0, 4.0, 16.0]
    assert found.discount.tolist() == [0.125, 0.25, 0.5, 0.25]
    last = found.next_obs.reshape(4, -1).tolist()
    assert last == ([[11, 12, 13]] * 3 + [[50, 51, 52]] if depth == 3 else [[13.0]] * 3 + [[52.0]])
    assert replay.see(later).reshape(2, -1).tolist() == (
        [[50, 50, 50], [50, 50, 51]] if depth == 3 else [[50.0], [51.0]]
    )
    drawn, _ = replay.sample(2_000, torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {*places.tolist(), *later.tolist()}
