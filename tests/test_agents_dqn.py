"""DQN: a gradient step by hand, rounds, schedules, worlds whose values are known, pictures, exact continuation."""

import copy
from dataclasses import dataclass

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from test_agents_frames import Flicker

from drivetrain.agents.dqn import DQNLearner, explore, play, q_target
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.replay import Transitions
from drivetrain.policies.qnet import QNet

SMALL = {"num_envs": 16, "num_steps": 4, "hidden": (32,), "batch_size": 64, "buffer_size": 4_000, "learning_starts": 64}
SMALL |= {"norm_obs": False, "n_step": 1, "random_phase": False}
PQN = {"buffer": "none", "num_steps": 8, "num_minibatches": 2, "update_epochs": 4}


@dataclass
class Answer:
    obs: torch.Tensor
    next_obs: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    valid: torch.Tensor | None = None
    lap_finished = None

    @property
    def frames(self):
        return torch.ones(len(self.reward), dtype=torch.int64)

    episode_frames = frames

    @property
    def episode_return(self):
        return self.reward


class Graph:
    """A small decision process: from state s action a leads to NEXT[s][a], pays PAY[s][a], and in some cases ends.

    Episodes are cut off after `limit` steps; a new one begins anywhere. With next_step a reset takes a step of its own,
    in which the action is ignored and the reward is not a number.
    """

    NEXT = torch.tensor([[1, 2, 0], [3, 0, 1], [3, 4, 2], [4, 0, 1], [0, 1, 2]])
    PAY = torch.tensor([[0.0, 0.2, 0.1], [1.0, 0.0, 0.3], [0.0, -1.0, 0.2], [0.5, 2.0, 0.0], [0.0, 0.0, 1.0]])
    DEADLY = torch.tensor([[False, False, False], [False] * 3, [False] * 3, [False, True, False], [False, False, True]])

    device = torch.device("cpu")
    exact_state = True
    channels = None
    single_observation_space = Box(0.0, 1.0, (5,))
    single_action_space = Discrete(3, start=2)

    def __init__(self, num_envs=16, limit=4, next_step=False, seed=0):
        self.num_envs, self.time_limit, self.next_step = num_envs, limit, next_step
        self.generator = torch.Generator().manual_seed(seed)
        self.state, self.time = self._draw(), torch.zeros(num_envs, dtype=torch.int64)
        self.ended = torch.zeros(num_envs, dtype=torch.bool)
        self.actions = []

    def _draw(self):
        return torch.randint(0, 5, (self.num_envs,), generator=self.generator)

    def _see(self, state):
        return torch.nn.functional.one_hot(state, 5).float()

    def reset(self):
        return self._see(self.state)

    def scatter(self, generator):
        self.time = torch.randint(0, self.time_limit, (self.num_envs,), generator=generator)

    def schedule(self, share):
        self.share = share

    def step(self, action):
        self.actions.append(action.clone())
        a, s = action - 2, self.state
        assert int(a.min()) >= 0
        fake = self.ended.clone()
        self.time = torch.where(fake, 0, self.time + 1)
        after = torch.where(fake, self._draw(), self.NEXT[s, a])
        dead, cut = self.DEADLY[s, a] & ~fake, (self.time >= self.time_limit) & ~fake
        done = dead | cut
        reward = torch.where(fake, torch.nan, self.PAY[s, a])
        if self.next_step:
            self.ended, self.state = done, after
            return Answer(self._see(after), self._see(after), reward, dead, cut, ~fake)
        self.time = torch.where(done, 0, self.time)
        self.state = torch.where(done, self._draw(), after)
        return Answer(self._see(self.state), self._see(after), reward, dead, cut)

    def state_tensors(self):
        return {"state": self.state, "time": self.time, "ended": self.ended, "generator": self.generator.get_state()}

    def load_state_tensors(self, tensors):
        self.state, self.time, self.ended = tensors["state"].clone(), tensors["time"].clone(), tensors["ended"].clone()
        self.generator.set_state(tensors["generator"])

    @classmethod
    def values(cls, gamma, policy=None):
        """Q* [5, 3] by value iteration; with a policy [5, 3] of probabilities its Q."""
        q = torch.zeros(5, 3, dtype=torch.float64)
        for _ in range(2_000):
            v = q.max(1).values if policy is None else (policy * q).sum(1)
            q = cls.PAY + gamma * v[cls.NEXT] * ~cls.DEADLY
        return q


def learner(env=None, seed=0, total_steps=20_000, **settings):
    cfg = DQNConfig(**SMALL | settings)
    return DQNLearner(env or Graph(cfg.num_envs), cfg, torch.Generator().manual_seed(seed), total_steps=total_steps)


def see_all(policy):
    return policy.q_values(torch.eye(5)).double()


# ---- one gradient step by hand -------------------------------------------------------------------------------------


def frozen_step(**settings):
    """A learner with some replay and a target network of its own, and the batch its next gradient step will draw."""
    made = learner(replay_ratio=1e-9, **settings)
    for _ in range(20):
        made.update_once()
    rng = torch.Generator().manual_seed(9)
    for net, size in ((made.policy.net, 0.5), (made.target, 0.7)):
        for parameter in net.parameters():
            parameter.data.normal_(generator=rng).mul_(size)
    if made.replay.tree is not None:
        places = made.replay.valid.nonzero()[:, 0]
        made.replay.judge(places, torch.rand(len(places), generator=rng), made.cfg.priority_alpha)
    state = made.generator.get_state()
    places, probability = made.replay.sample(made.cfg.batch_size, made.generator)
    made.generator.set_state(state)
    return made, places, probability


def by_hand(made, places, probability, beta):
    """The network after one step of plain Adam on the loss of a loop over the batch, and the new priorities."""
    cfg, online, target = made.cfg, copy.deepcopy(made.policy.net), made.target
    replay, losses, errors = made.replay, [], []
    share = None if probability is None else [float(p) for p in probability]
    for k, place in enumerate(places.tolist()):
        lane, row = divmod(place, replay.rows)
        total, ends = 0.0, False
        for j in range(cfg.n_step):
            at = lane * replay.rows + (row + j) % replay.rows
            if j and not replay.valid[at]:
                break
            total += cfg.gamma**j * float(replay.reward[at])
            behind, power, ends = lane * replay.rows + (row + j + 1) % replay.rows, j + 1, bool(replay.terminated[at])
            if ends or replay.truncated[at]:
                break
        seen, after = replay.obs[place][None], replay.obs[behind][None]
        with torch.no_grad():
            judged = target(after)[0, :, 0]
            chosen = int((online(after)[0, :, 0] if cfg.double else judged).argmax())
            wanted = total if ends else total + cfg.gamma**power * float(judged[chosen])
        value = online(seen)[0, int(replay.action[place]), 0]
        gap = wanted - value
        size = gap.abs()
        loss = 0.5 * gap**2 if cfg.loss == "mse" or float(size.detach()) <= 1 else size - 0.5
        if share is not None:
            count = len(replay.valid.nonzero())
            loss = loss * (count * share[k]) ** -beta / max((count * p) ** -beta for p in share)
        losses.append(loss)
        errors.append(abs(float(gap.detach())))
    optimizer = torch.optim.Adam(online.parameters(), cfg.learning_rate, eps=cfg.adam_eps)
    torch.stack(losses).mean().backward()
    torch.nn.utils.clip_grad_norm_(online.parameters(), cfg.max_grad_norm)
    optimizer.step()
    return online, [(error + 1e-6) ** cfg.priority_alpha for error in errors]


@pytest.mark.oracle
@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize(("buffer", "loss"), [("uniform", "huber"), ("uniform", "mse"), ("prioritized", "huber")])
@pytest.mark.parametrize("next_step", [True, False])
def test_a_gradient_step_equals_a_loop_over_its_batch(double, n_step, buffer, loss, next_step):
    settings = {"double": double, "n_step": n_step, "buffer": buffer, "loss": loss, "gamma": 0.7}
    settings["max_grad_norm"] = 0.1 if n_step == 3 else 10.0  # gradients here have norms between
    env = Graph(16, next_step=next_step)
    made, places, probability = frozen_step(
        env=env, **settings, priority_alpha=0.6, priority_beta=0.3, priority_beta_end=0.8, total_steps=2_560
    )
    share = made.steps / 2_560  # so far: β is between its ends
    wanted, priorities = by_hand(made, places, probability, 0.3 + 0.5 * share)
    before = copy.deepcopy(made.target.state_dict())
    ((batch, again, probability),) = made._drawn(1)
    assert torch.equal(again, places)
    made._learn_from(batch, places, probability, made.cfg.learning_rate)
    for here, there in zip(made.policy.net.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in made.target.state_dict().items())
    if probability is not None:
        torch.testing.assert_close(
            made.replay.tree.levels[0][places], torch.tensor(priorities, dtype=torch.float64), rtol=1e-3, atol=1e-5
        )


@pytest.mark.oracle
@pytest.mark.parametrize("next_step", [True, False])
def test_a_gradient_step_without_replay_equals_a_loop_over_the_newest_steps(next_step):
    env = Graph(8, next_step=next_step)
    kind = PQN | {"num_envs": 8, "num_minibatches": 1, "update_epochs": 1, "gamma": 0.7, "q_lambda": 0.6}
    made = learner(env, **kind, reward_scale=2.0)
    made.update_once()
    steps, _ = play(env, made.policy, made.obs, torch.full((8,), 0.5), 8, torch.Generator().manual_seed(0))
    online, losses = copy.deepcopy(made.policy.net), []
    for b in range(8):
        later = None
        for t in reversed(range(8)):
            if steps.valid is not None and not steps.valid[t, b]:
                continue
            best = float(online(steps.next_obs[t, b][None]).max().detach())
            ended = bool(steps.terminated[t, b] or steps.truncated[t, b])
            future = best if later is None or ended else 0.6 * later + 0.4 * best
            later = 2.0 * float(steps.reward[t, b]) + (0.0 if steps.terminated[t, b] else 0.7 * future)
            gap = later - online(steps.obs[t, b][None])[0, int(steps.action[t, b]), 0]
            losses.append(torch.where(gap.abs() <= 1, 0.5 * gap**2, gap.abs() - 0.5))
    torch.stack(losses).mean().backward()
    places = made.replay.add(steps)
    (found,) = made._newest(steps, places, 0.0)
    assert float(found[0]) == pytest.approx(float(torch.stack(losses).mean().detach()), rel=1e-4)
    for here, there in zip(made.policy.net.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.golden
def test_targets_take_no_gradient():
    made = learner()
    for settings in ({}, {"double": False}, {"munchausen": True}):
        batch = Transitions(torch.eye(5), torch.zeros(5).long(), torch.ones(5), torch.ones(5), torch.eye(5).flip(0))
        for judge in (made.target, made.policy.net):
            assert not q_target(made.policy.net, judge, batch, DQNConfig(**SMALL | settings), None).requires_grad
    for _ in range(4):
        made.update_once()
    assert made.gradient_steps > 0
    assert all(p.grad is None and not p.requires_grad for p in made.target.parameters())


class Table(torch.nn.Module):
    """Stands for a network: values [5, A, N] by state."""

    def __init__(self, values):
        super().__init__()
        self.values = torch.as_tensor(values)

    def forward(self, normed, generator=None):
        return self.values[normed.argmax(-1)]


@pytest.mark.golden
def test_munchausen_targets_by_hand():
    # one transition, state 0 → 1, action 0, r = 1, γ = ½; target network q(0) = (0, ln 3), q(1) = (0, 0), τ = 1:
    # π(0|0) = ¼: bonus 0.5·ln ¼ = −0.693147; soft value of state 1: ln 2 = 0.693147.
    # target 1 − 0.693147 + ½·0.693147 = 0.653426; twice the scale of rewards adds 1
    table = Table([[[0.0], [1.0986123]], [[0.0], [0.0]]])
    batch = Transitions(torch.eye(5)[[0]], torch.tensor([0]), torch.ones(1), torch.tensor([0.5]), torch.eye(5)[[1]])
    kind = {"munchausen": True, "munchausen_alpha": 0.5, "munchausen_tau": 1.0, "munchausen_clip": -9.0}
    for scale, wanted in ((1.0, 0.653426), (2.0, 1.653426)):
        cfg = DQNConfig(**kind, reward_scale=scale)
        assert q_target(table, table, batch, cfg, None).tolist() == [[pytest.approx(wanted, abs=1e-5)]]


# ---- rounds and schedules ------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_as_many_transitions_are_replayed_as_the_ratio_says():
    # 64 new transitions a round, ratio 2.5, batches of 64: 2.5 gradient steps a round on average, from the third
    # round on, when 192 transitions are there
    made = learner(replay_ratio=2.5, learning_starts=192)
    counts = []
    for _ in range(8):
        made.update_once()
        counts.append(made.gradient_steps)
    assert counts == [0, 0, 2, 5, 7, 10, 12, 15]


@pytest.mark.golden
def test_a_hard_target_is_copied_at_its_time_and_never_between():
    made = learner(replay_ratio=1.0, target_every=3)  # one gradient step a round
    gaps = []
    for _ in range(9):
        made.update_once()
        pairs = zip(made.target.parameters(), made.policy.net.parameters(), strict=True)
        gaps.append(max(float((a - b).detach().abs().max()) for a, b in pairs))
    assert [gap == 0.0 for gap in gaps] == [False, False, True] * 3


@pytest.mark.golden
def test_a_soft_target_goes_a_share_of_the_way_in_every_gradient_step():
    made = learner(replay_ratio=1.0, target_update="soft", tau=0.25)
    made.update_once()
    for _ in range(3):
        before = [p.clone() for p in made.target.parameters()]
        made.update_once()
        for old, new, here in zip(before, made.target.parameters(), made.policy.net.parameters(), strict=True):
            torch.testing.assert_close(new, 0.75 * old + 0.25 * here)


def test_other_weights_given_before_learning_reach_the_target_network():
    made, other = learner(replay_ratio=1.0, target_every=1_000), learner(seed=1)
    made.policy.load_state_dict(other.policy.state_dict())
    made.update_once()
    assert made.gradient_steps == 1
    for here, there in zip(made.target.parameters(), other.policy.net.parameters(), strict=True):
        assert torch.equal(here, there)


@pytest.mark.golden
def test_epsilon_falls_linearly_and_stays():
    # 10 rounds of 64 of 640 steps; from 1 to 0.1 over the first half: 1, 0.82, 0.64, 0.46, 0.28, then 0.1
    made = learner(total_steps=640, eps_start=1.0, eps_end=0.1, eps_fraction=0.5)
    seen = [row["diag/epsilon"] for row in made.iterate(640)]
    assert seen == pytest.approx([1.0, 0.82, 0.64, 0.46, 0.28] + [0.1] * 5)


@pytest.mark.golden
def test_the_learning_rate_falls_to_zero_over_the_training_or_stays():
    assert [r["diag/learning_rate"] for r in learner(learning_rate=1e-3).iterate(256)] == pytest.approx(
        [1e-3, 7.5e-4, 5e-4, 2.5e-4]
    )
    constant = learner(learning_rate=1e-3, lr_schedule="constant")
    assert {r["diag/learning_rate"] for r in constant.iterate(256)} == {1e-3}


@pytest.mark.golden
def test_actions_are_random_as_often_as_epsilon_says_lane_by_lane():
    # the best action is 1 of 4; at random it is taken ¼ of the time: share of others ¾·ε
    q = torch.tensor([[0.0, 9.0, 1.0, 2.0]]).expand(4_000, 4)
    epsilon = torch.tensor([0.0, 0.2, 0.6, 1.0]).repeat_interleave(1_000)
    action = explore(q, epsilon, torch.Generator().manual_seed(0)).view(4, 1_000)
    for lane, share in enumerate((0.0, 0.15, 0.45, 0.75)):
        assert float((action[lane] != 1).float().mean()) == pytest.approx(share, abs=0.05)
    others = [int((action[3] == k).sum()) for k in range(4)]
    assert min(others) > 200


def test_what_is_played_explores_less_and_less():
    made = learner(total_steps=6_400, eps_end=0.0, eps_fraction=0.5, learning_starts=2_000)
    with torch.no_grad():
        made.policy.net.advantage.last.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    for _ in range(30):  # 1,920 steps: below learning_starts
        made.update_once()
    chosen = (torch.stack(made.env.actions) == 3).float().mean(1)  # action 1 of a space that starts at 2
    first, last = chosen[:40].mean(), chosen[-40:].mean()
    # ε is near 1 − 0.05 in the first 40 steps and near 0.5 in the last: 1 − ⅔·ε
    assert float(first) == pytest.approx(1 - 2 / 3 * 0.9, abs=0.08)
    assert float(last) == pytest.approx(1 - 2 / 3 * 0.5, abs=0.08)


@pytest.mark.golden
def test_lanes_stand_on_a_ladder_if_asked_to():
    made = learner(eps_start=0.3, eps_end=0.3, eps_ladder=7.0, learning_starts=2_000)
    with torch.no_grad():
        made.policy.net.advantage.last.bias.copy_(torch.tensor([0.0, 5.0, 0.0]))
    for _ in range(30):
        made.update_once()
    strayed = (torch.stack(made.env.actions) != 3).float().mean(0)
    assert float(strayed[0]) == pytest.approx(0.2, abs=0.08)
    assert float(strayed[8:].max()) < 0.05


@pytest.mark.parametrize("next_step", [False, True])
def test_the_normaliser_follows_the_steps_collected_and_only_after_the_round(next_step):
    made = learner(Graph(16, limit=2, next_step=next_step), norm_obs=True, num_steps=8, learning_starts=2_000)
    env, step, seen = made.env, made.env.step, []

    def spy(action):
        assert torch.equal(made.policy.obs_norm.mean, torch.zeros(5))
        seen.append(torch.eye(5)[env.state[~env.ended]])  # a step that only resets is none
        return step(action)

    env.step = spy
    made.update_once()
    torch.testing.assert_close(made.policy.obs_norm.mean, torch.cat(seen).mean(0))
    assert sum(len(rows) for rows in seen) == made.steps


def test_an_environment_may_overwrite_what_it_handed_out():
    class Reusing(Graph):
        """Answers in the same tensors every time."""

        def reset(self):
            return self._keep("obs", super().reset())

        def _keep(self, name, value):
            if not hasattr(self, f"kept_{name}"):
                setattr(self, f"kept_{name}", torch.empty_like(value))
            return getattr(self, f"kept_{name}").copy_(value)

        def step(self, action):
            answer = super().step(action)
            names = ("obs", "next_obs", "reward", "terminated", "truncated")
            return Answer(*(self._keep(name, getattr(answer, name)) for name in names))

    weights = []
    for env in (Graph(16), Reusing(16)):
        made = learner(env)
        for _ in range(5):
            made.update_once()
        weights.append(torch.cat([p.detach().flatten() for p in made.policy.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("buffer", ["uniform", "prioritized", "none"])
def test_steps_that_environments_use_to_reset_are_no_steps(buffer):
    made = learner(Graph(16, limit=2, next_step=True), buffer=buffer, num_minibatches=1, norm_obs=True)
    rows, fakes = 0, 0
    step = made.env.step

    def spy(action):
        nonlocal rows, fakes
        fakes, rows = fakes + int(made.env.ended.sum()), rows + 16
        return step(action)

    made.env.step = spy
    for _ in range(10):
        metrics = made.update_once()
    assert fakes > 100
    assert made.steps == rows - fakes
    assert all(abs(value) < 1e9 for value in metrics.values())  # their rewards are not numbers
    assert all(bool(p.isfinite().all()) for p in made.policy.parameters())


# ---- worlds whose values are known ---------------------------------------------------------------------------------

FIT = {"learning_rate": 3e-3, "gamma": 0.8, "replay_ratio": 8.0, "target_every": 25, "eps_end": 1.0, "loss": "mse"}


@pytest.mark.learning
@pytest.mark.parametrize(
    ("next_step", "settings"),
    [
        (False, {}),
        (True, {}),
        (True, {"buffer": "prioritized", "double": False}),
        (False, {"dueling": True, "target_update": "soft", "tau": 0.1, "norm_obs": True}),
        (False, {"quantiles": 8, "loss": "huber"}),
        (False, {"noisy": True, "eps_start": 0.5, "eps_end": 0.5}),
        (False, {"layer_norm": True, "reward_scale": 0.2}),
        (False, PQN | {"q_lambda": 0.0}),
        (True, PQN | {"q_lambda": 0.0}),
    ],
)
def test_the_values_of_a_decision_process_are_those_of_value_iteration(next_step, settings):
    made = learner(Graph(16, next_step=next_step), **FIT | settings)
    for _ in made.iterate(6_000):
        pass
    wanted = Graph.values(0.8)
    torch.testing.assert_close(see_all(made.policy), wanted, atol=0.03, rtol=0.01)
    assert made.policy.act(torch.eye(5)).tolist() == (wanted.argmax(1) + 2).tolist()


@pytest.mark.learning
def test_time_limits_do_not_make_the_future_worthless():
    # a world that goes on for ever and pays 1: Q = 1/(1 − γ) = 5, though every episode is cut off after 4 steps
    class Endless(Graph):
        PAY = torch.ones(5, 3)
        DEADLY = torch.zeros(5, 3, dtype=torch.bool)

    for settings in (
        {"n_step": 1},
        {"n_step": 3},
        {"n_step": 3, "buffer": "prioritized"},
        PQN | {"q_lambda": 0.7},
    ):
        made = learner(Endless(16), **FIT | settings)
        for _ in made.iterate(6_000):
            pass
        assert see_all(made.policy).flatten().tolist() == pytest.approx([5.0] * 15, rel=0.03)


@pytest.mark.learning
def test_lambda_returns_of_a_greedy_policy_give_its_values():
    made = learner(Graph(16), **FIT | PQN | {"num_steps": 16, "q_lambda": 0.8, "eps_end": 0.05, "eps_fraction": 0.5})
    for _ in made.iterate(20_000):
        pass
    wanted = Graph.values(0.8)
    assert made.policy.act(torch.eye(5)).tolist() == (wanted.argmax(1) + 2).tolist()
    torch.testing.assert_close(see_all(made.policy).max(1).values, wanted.max(1).values, atol=0.15, rtol=0.05)


PIXELS = {"encoder": "cnn", "channels": (8,), "hidden": (16,), "num_envs": 64, "num_steps": 4, "n_step": 1}
PIXELS |= {"gamma": 0.0, "learning_rate": 3e-3, "batch_size": 128, "replay_ratio": 2.0, "buffer_size": 4_000}


@pytest.mark.learning
@pytest.mark.parametrize("buffer", ["uniform", "none"])
def test_what_the_picture_before_showed_is_learned(buffer):
    cfg = DQNConfig(**PIXELS, buffer=buffer, learning_starts=256)
    made = DQNLearner(Flicker(), cfg, torch.Generator().manual_seed(0), total_steps=12_000)
    for _ in made.iterate(12_000):
        pass
    dark, bright = torch.zeros(8, 8, 1, dtype=torch.uint8), torch.full((8, 8, 1), 255, dtype=torch.uint8)
    seen = torch.stack([torch.cat(pair, -1) for pair in ((dark, bright), (bright, dark), (dark, dark))])
    assert made.policy.act(seen).tolist() == [0, 1, 0]


# ---- exact continuation --------------------------------------------------------------------------------------------

KINDS = [
    {},
    {"buffer": "prioritized", "noisy": True, "quantiles": 4, "dueling": True, "n_step": 3},
    {"target_update": "soft", "norm_obs": True, "munchausen": True, "buffer_size": 600},
    {"buffer": "none", "num_minibatches": 2, "norm_obs": True},
]


def state_of(made):
    tensors, numbers = made.trainer_state()
    return (
        {name: value.clone() for name, value in tensors.items()},
        numbers,
        {name: value.clone() for name, value in made.policy.state_dict().items()},
    )


@pytest.mark.invariance
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind) or "plain")
@pytest.mark.parametrize("pictures", [False, True])
def test_a_resumed_learner_equals_one_that_never_stopped(kind, pictures):
    def fresh(seed):
        if not pictures:
            return learner(Graph(16, seed=seed), seed=seed, replay_ratio=2.3, total_steps=2_000, **kind)
        cfg = DQNConfig(**PIXELS | {"num_envs": 8, "batch_size": 32, "buffer_size": 600, "learning_starts": 64} | kind)
        return DQNLearner(Flicker(8), cfg, torch.Generator().manual_seed(seed), total_steps=2_000)

    straight = fresh(1)
    for _ in range(9):
        straight.update_once()
    tensors, numbers, weights = state_of(straight)
    env = copy.deepcopy(straight.env)
    wanted = [straight.update_once() for _ in range(12)]
    resumed = fresh(2)
    resumed.env = env  # of the tiny worlds here not all that changes is in their checkpoints
    resumed.policy.load_state_dict(weights)
    resumed.load_trainer_state(tensors, numbers)
    assert [resumed.update_once() for _ in range(12)] == wanted
    for name, value in straight.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[name]), name
    assert resumed.steps == straight.steps
    assert resumed.gradient_steps == straight.gradient_steps > 0


def test_without_its_replay_a_resumed_learner_fills_a_new_one_before_it_goes_on():
    made = learner(checkpoint_replay=False, learning_starts=128)
    for _ in range(6):
        made.update_once()
    tensors, numbers, weights = state_of(made)
    assert not any(name.startswith("replay.") for name in tensors)
    resumed = learner(seed=3, checkpoint_replay=False, learning_starts=128)
    resumed.policy.load_state_dict(weights)
    resumed.load_trainer_state(tensors, numbers)
    before = resumed.gradient_steps
    assert before == made.gradient_steps > 0
    resumed.update_once()
    assert resumed.gradient_steps == before
    resumed.update_once()
    assert resumed.gradient_steps > before


@pytest.mark.invariance
def test_equal_seeds_give_equal_weights_and_different_seeds_do_not():
    weights = []
    for seed in (5, 5, 6):
        made = learner(seed=seed)
        for _ in range(5):
            made.update_once()
        weights.append(torch.cat([p.detach().flatten() for p in made.policy.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# ---- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"eps_start": 0.1, "eps_end": 0.2}, "eps_end"),
        ({"quantiles": 5, "loss": "mse"}, "Huber"),
        ({"buffer": "none", "quantiles": 5}, "needs a replay"),
        ({"buffer": "none", "munchausen": True}, "needs a replay"),
        ({"buffer": "none", "num_envs": 3, "num_steps": 1, "num_minibatches": 2}, "must divide"),
        ({"num_envs": 100, "num_steps": 50, "buffer_size": 10_000}, "buffer_size"),
        ({"buffer_size": 10_000, "learning_starts": 8_000}, "learning_starts"),
        ({"gamma": 1.5}, "gamma"),
        ({"replay_ratio": 0.0}, "replay_ratio"),
        ({"learning_rate": float("inf")}, "finite"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, why):
    with pytest.raises(ValueError, match=why):
        DQNConfig(**settings)


def test_every_setting_is_explained():
    assert all(field.description for field in DQNConfig.model_fields.values())


def test_a_network_for_every_setting_is_built_from_the_config_alone():
    assert QNet((5,), 3, DQNConfig(hidden=(8,), dueling=True, quantiles=3, noisy=True))(torch.zeros(2, 5)).shape == (
        2,
        3,
        3,
    )
