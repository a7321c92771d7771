"""PPO: arithmetic by hand, probe environments with known answers, one task that must be learned."""

from dataclasses import dataclass

import pytest
import torch
from gymnasium.spaces import Box, Discrete

from drivetrain.agents.adam import Adam
from drivetrain.agents.config import PPOConfig
from drivetrain.agents.ppo import Batch, PPOLearner, estimate, ppo_loss
from drivetrain.agents.returns import gae
from drivetrain.agents.rollout import Rollout
from drivetrain.agents.schedules import adapt_to_kl, linear
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool
from drivetrain.policies.heads import Gaussian


def column(*values, dtype=torch.float32):
    return torch.tensor(values, dtype=dtype)[:, None]


@pytest.mark.golden
def test_gae_bootstraps_through_a_time_limit_but_does_not_leak_across_it():
    # γ = λ = ½; V(s) = ½, ¼, 0 and V(s') = ¼, 2, 4; reward 1.
    # t2: 1 + ½·4 − 0 = 3.   t1 (truncated): 1 + ½·2 − ¼ = 1.75, nothing of t2.   t0: 1 + ½·¼ − ½ + ¼·1.75 = 1.0625
    advantage = gae(
        column(1.0, 1.0, 1.0),
        column(0.5, 0.25, 0.0),
        column(0.25, 2.0, 4.0),
        column(False, False, False, dtype=torch.bool),
        column(False, True, False, dtype=torch.bool),
        0.5,
        0.5,
    )
    torch.testing.assert_close(advantage, column(1.0625, 1.75, 3.0))


@pytest.mark.golden
def test_gae_gives_a_terminated_state_no_future_even_if_time_ran_out_with_it():
    # t1 ends for good and by time at once: 1 − ¼ = 0.75.   t0: 1 + ½·¼ − ½ + ¼·0.75 = 0.8125
    flags = column(False, True, dtype=torch.bool)
    advantage = gae(column(1.0, 1.0), column(0.5, 0.25), column(0.25, 8.0), flags, flags, 0.5, 0.5)
    torch.testing.assert_close(advantage, column(0.8125, 0.75))


@pytest.mark.golden
def test_the_loss_is_the_clipped_surrogate_plus_value_error_minus_entropy():
    # σ = 1, μ = 0; old log-probabilities are set so that the ratios are 2, ½, 1 at advantages 1, −1, 3; ε = 0.2:
    #   min(2·1, 1.2·1) = 1.2;  min(½·−1, 0.8·−1) = −0.8;  3  →  policy loss −(1.2 − 0.8 + 3)/3 = −1.133333
    # values 1, 2, 3 against returns 0, 2, 5: ½·(1 + 0 + 4)/3 = 0.833333;  entropy ½ ln 2πe = 1.418939
    # total = −1.133333 + 0.5·0.833333 − 0.01·1.418939 = −0.730856
    cfg = PPOConfig(clip_coef=0.2, vf_coef=0.5, ent_coef=0.01, norm_adv=False)
    pi = Gaussian(torch.zeros(3, 1), torch.zeros(1))
    raw = torch.tensor([[0.3], [-0.2], [0.0]])
    old = pi.log_prob(raw) - torch.tensor([2.0, 0.5, 1.0]).log()
    batch = Batch(torch.zeros(3, 1), raw, old, torch.tensor([1.0, -1.0, 3.0]), torch.tensor([0.0, 2.0, 5.0]))
    total, parts = ppo_loss(pi, torch.tensor([1.0, 2.0, 3.0]), batch, cfg)
    assert float(parts["loss/policy"]) == pytest.approx(-1.133333, abs=1e-5)
    assert float(parts["loss/value"]) == pytest.approx(0.833333, abs=1e-5)
    assert float(parts["loss/entropy"]) == pytest.approx(1.418939, abs=1e-5)
    assert float(total) == pytest.approx(-0.730856, abs=1e-5)
    # KL: mean of (r − 1) − ln r = (1 − 0.693147) + (−0.5 + 0.693147) + 0 = 0.5, over 3
    assert float(parts["diag/approx_kl"]) == pytest.approx(0.5 / 3, abs=1e-5)
    assert float(parts["diag/clip_fraction"]) == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.golden
def test_a_clipped_sample_has_no_gradient_and_an_open_one_has():
    # ratio 2 with a positive advantage is beyond the clip: the mean must not move further
    cfg = PPOConfig(norm_adv=False, vf_coef=0.0)
    for ratio, moved in ((2.0, False), (1.1, True)):
        mean = torch.zeros(1, 1, requires_grad=True)
        pi = Gaussian(mean, torch.zeros(1))
        raw = torch.tensor([[0.7]])
        old = pi.log_prob(raw).detach() - torch.tensor([ratio]).log()
        batch = Batch(torch.zeros(1, 1), raw, old, torch.ones(1), torch.zeros(1))
        ppo_loss(pi, torch.zeros(1), batch, cfg)[0].backward()
        assert (float(mean.grad.abs()) > 0) == moved


@pytest.mark.golden
def test_advantages_are_standardised_in_each_minibatch_but_a_single_one_is_left_as_it_is():
    # ratios 1: the policy loss is minus the mean advantage, 0 once standardised; its gradient with respect to the mean
    # of sample i is −A_i (a_i − μ)/3 with A = (−1, 0, 1) out of (2, 4, 6), whose sd is 2
    cfg = PPOConfig(vf_coef=0.0)
    mean = torch.zeros(3, 1, requires_grad=True)
    raw = torch.ones(3, 1)
    pi = Gaussian(mean, torch.zeros(1))
    batch = Batch(mean, raw, pi.log_prob(raw).detach(), torch.tensor([2.0, 4.0, 6.0]), torch.zeros(3))
    total, _ = ppo_loss(pi, torch.zeros(3), batch, cfg)
    total.backward()
    assert float(total.detach()) == pytest.approx(0.0, abs=1e-6)
    assert mean.grad[:, 0].tolist() == pytest.approx([1 / 3, 0.0, -1 / 3], abs=1e-6)
    one = Batch(*(x[:1].detach() for x in batch[:5]))
    assert float(ppo_loss(Gaussian(torch.zeros(1, 1), torch.zeros(1)), torch.zeros(1), one, cfg)[0]) == -2.0


@pytest.mark.golden
def test_schedules_follow_steps_and_kl():
    assert [linear(1e-3, s, 100) for s in (0, 25, 100, 150)] == pytest.approx([1e-3, 7.5e-4, 0.0, 0.0])
    # above 2·0.01 slower by 1.5, below 0.005 faster, between unchanged, and never beyond the ends
    assert adapt_to_kl(3e-4, 0.021, 0.01) == pytest.approx(2e-4)
    assert adapt_to_kl(2e-4, 0.004, 0.01) == pytest.approx(3e-4)
    assert adapt_to_kl(2e-4, 0.012, 0.01) == 2e-4
    assert adapt_to_kl(1e-2, 0.0, 0.01) == 1e-2
    assert adapt_to_kl(1e-5, 9.0, 0.01) == 1e-5


@pytest.mark.oracle
def test_adam_equals_torchs_own_bit_for_bit_and_goes_on_from_what_it_saved():
    rng = torch.Generator().manual_seed(0)
    shapes = (30, 4), (7,)
    ours = [torch.nn.Parameter(torch.randn(shape, generator=rng)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    adam, wanted = Adam(ours, 1e-5), torch.optim.Adam(theirs, eps=1e-5, fused=True)
    for turn in range(20):
        rate = 1e-3 * (1 + turn % 3)  # an adaptive rate changes from step to step
        for group in wanted.param_groups:
            group["lr"] = rate
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=rng)
            q.grad = p.grad.clone()
        if turn == 10:
            saved = {name: value.clone() for name, value in adam.state_tensors().items()}
            adam = Adam(ours, 1e-5)
            adam.load_state_tensors(saved)
        adam.step(rate)
        wanted.step()
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    assert adam.state_tensors()["1.step"] == 20


@dataclass
class Answer:
    obs: torch.Tensor
    next_obs: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor

    @property
    def frames(self):
        return torch.ones(len(self.reward), dtype=torch.int64)

    episode_frames = frames

    @property
    def episode_return(self):
        return self.reward

    valid = None

    @property
    def lap_finished(self):
        return self.terminated


class Probe:
    """Tiny batched environments, after Andy Jones's probes: each isolates one thing that a learner may get wrong."""

    device = torch.device("cpu")
    channels = time_limit = None
    single_observation_space = Box(-2.0, 2.0, (1,))

    def __init__(self, kind, num_envs=64):
        self.kind, self.num_envs = kind, num_envs
        self.single_action_space = Discrete(2)
        self.generator = torch.Generator().manual_seed(0)
        self.time = torch.zeros(num_envs, dtype=torch.int64)
        self.obs = self._draw()

    def _draw(self):
        coin = torch.randint(0, 2, (self.num_envs,), generator=self.generator).float() * 2 - 1
        fixed = torch.zeros(self.num_envs)
        return (coin if self.kind in ("sight", "choice") else fixed)[:, None]

    def reset(self):
        return self.obs

    exact_state = True

    def scatter(self, generator):
        self.time = torch.randint(0, 5, (self.num_envs,), generator=self.generator)

    def schedule(self, share):
        self.share = share

    def step(self, action):
        self.time += 1
        never = torch.zeros(self.num_envs, dtype=torch.bool)
        if self.kind == "constant":  # one step, reward 1: V = 1
            reward, ended, cut, after = torch.ones(self.num_envs), ~never, never, self.obs
        elif self.kind == "sight":  # one step, reward is the observation: V(±1) = ±1
            reward, ended, cut, after = self.obs[:, 0], ~never, never, self.obs
        elif self.kind == "delay":  # two steps, reward 1 at the end: V(0) = γ, V(1) = 1
            late = self.obs[:, 0] > 0.5
            reward, ended, cut, after = late.float(), late, never, torch.ones(self.num_envs, 1)
        elif self.kind == "choice":  # one step, reward 1 if the action is the sign of the observation
            reward = ((action * 2 - 1).float() == self.obs[:, 0]).float()
            ended, cut, after = ~never, never, self.obs
        else:  # "endless": reward 1 for ever, cut off every 5 steps: V = 1/(1 − γ)
            reward, ended, cut, after = torch.ones(self.num_envs), never, self.time >= 5, self.obs
        done = ended | cut
        self.time = torch.where(done, 0, self.time)
        self.obs = torch.where(done[:, None], self._draw(), after)
        return Answer(self.obs, after, reward, ended, cut)

    def state_tensors(self):
        return {"time": self.time}

    def load_state_tensors(self, tensors):
        self.time = tensors["time"]


def train_probe(kind, steps=60_000, **settings):
    cfg = PPOConfig(
        **{"num_envs": 64, "num_steps": 16, "num_minibatches": 4, "hidden": (32,), "gamma": 0.8, "norm_obs": False}
        | {"lr_schedule": "linear", "learning_rate": 5e-3}
        | settings
    )
    learner = PPOLearner(Probe(kind), cfg, torch.Generator().manual_seed(0), total_steps=steps)
    for _ in learner.iterate(steps):
        pass
    return learner.policy


def values(policy, *obs):
    with torch.no_grad():
        normed = policy.value(policy.obs_norm(torch.tensor(obs)[:, None]))
        return policy.return_norm.invert(normed[:, None])[:, 0].tolist()


@pytest.mark.learning
@pytest.mark.parametrize(
    ("kind", "obs", "wanted"),
    [
        ("constant", (0.0,), [1.0]),
        ("sight", (-1.0, 1.0), [-1.0, 1.0]),
        ("delay", (0.0, 1.0), [0.8, 1.0]),
        ("endless", (0.0,), [5.0]),
    ],
)
def test_values_of_probe_environments_come_out_within_two_percent(kind, obs, wanted):
    policy = train_probe(kind, norm_return=kind != "constant")
    assert values(policy, *obs) == pytest.approx(wanted, rel=0.02, abs=0.02)


@pytest.mark.golden
def test_an_update_ends_after_the_epoch_that_moved_the_policy_beyond_its_target():
    sizes = {"num_envs": 64, "num_steps": 16, "num_minibatches": 4, "update_epochs": 5, "learning_rate": 1e-2}
    for target, epochs in ((1e-9, 1.0), (1e9, 5.0)):
        cfg = PPOConfig(**sizes, target_kl=target)
        learner = PPOLearner(Probe("choice"), cfg, torch.Generator().manual_seed(0))
        assert learner.update_once()["diag/epochs"] == epochs


@pytest.mark.golden
def test_the_linear_schedule_runs_over_the_steps_of_the_training():
    # two updates of 1,024 of 2,048 steps: the rate of the first is whole, that of the second half
    cfg = PPOConfig(num_envs=64, num_steps=16, learning_rate=1e-3, lr_schedule="linear")
    learner = PPOLearner(Probe("choice"), cfg, torch.Generator().manual_seed(0))
    assert [row["diag/learning_rate"] for row in learner.iterate(2048)] == pytest.approx([1e-3, 5e-4])


@pytest.mark.invariance
def test_actions_are_judged_through_the_normaliser_they_were_taken_through():
    # with a single gradient step an update, the policy has not moved when it is compared: every ratio is 1
    cfg = PPOConfig(num_envs=64, num_steps=16, num_minibatches=1, update_epochs=1, hidden=(8,))
    learner = PPOLearner(Probe("sight"), cfg, torch.Generator().manual_seed(0))
    with torch.no_grad():
        learner.policy.head.logits.weight.mul_(300)  # a policy with opinions, so that a shift would be seen
    for _ in range(4):
        metrics = learner.update_once()
        assert abs(metrics["diag/approx_kl"]) < 1e-6
        assert metrics["diag/clip_fraction"] == 0.0
    assert abs(float(learner.policy.obs_norm.mean)) > 1e-4  # it did move


@pytest.mark.golden
def test_an_environment_is_told_how_much_of_the_training_is_done():
    cfg = PPOConfig(num_envs=64, num_steps=16)
    learner = PPOLearner(Probe("choice"), cfg, torch.Generator().manual_seed(0))
    assert [learner.env.share for _ in learner.iterate(4096)] == [0.0, 0.25, 0.5, 0.75]


def test_first_episodes_begin_at_random_times_only_if_asked_for():
    tracks = pool(0, 2)
    for random_phase in (True, False):
        sim = Sim(tracks, 64, SimConfig())
        PPOLearner(sim, PPOConfig(num_envs=64, random_phase=random_phase), torch.Generator().manual_seed(0))
        used = sim.state.frames
        assert (len(used.unique()) > 50) == random_phase
        assert 0 <= int(used.min()) <= int(used.max()) < 1000


@pytest.mark.learning
def test_the_right_choice_is_learned_and_taken_without_exploration():
    policy = train_probe("choice", steps=30_000)
    assert policy.act(torch.tensor([[-1.0], [1.0]])).tolist() == [0, 1]
    probabilities = policy.pi(torch.tensor([[-1.0], [1.0]])).logits.detach().exp()
    assert float(probabilities[0, 0]) > 0.95
    assert float(probabilities[1, 1]) > 0.95


@pytest.mark.golden
def test_only_a_time_limit_is_bootstrapped_from_the_true_next_observation():
    learner = PPOLearner(
        Probe("endless", 2),
        PPOConfig(num_envs=2, num_steps=2, num_minibatches=1, norm_return=False, norm_obs=False, gamma=0.5),
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():  # V(x) = x
        policy = learner.policy
        policy.value = lambda normed: normed[:, 0]
    flags = torch.tensor([[True, True], [False, False]])
    none = torch.zeros_like(flags)
    obs = torch.tensor([[[0.5], [0.5]], [[0.1], [0.1]]])
    rollout = Rollout(
        obs=obs,
        cut_obs=torch.full((2, 2, 1), 1.5),
        value=None,
        raw_action=torch.zeros(2, 2, dtype=torch.int64),
        log_prob=torch.zeros(2, 2),
        reward=torch.ones(2, 2),
        terminated=flags & torch.tensor([True, False]),
        truncated=flags & torch.tensor([False, True]),
        frames=torch.ones(2, 2, dtype=torch.int64),
        episode_return=torch.zeros(2, 2),
        episode_frames=torch.zeros(2, 2, dtype=torch.int64),
        memory=learner.memory,
        lap_finished=none,
    )
    batch = estimate(policy, rollout, torch.tensor([[0.3], [0.3]]), learner.cfg)
    # lane 0 died at t0: 1 − 0.5;  lane 1 was cut: 1 + ½·1.5 − 0.5;  t1 of both: 1 + ½·0.3 − 0.1
    torch.testing.assert_close(batch.advantage, torch.tensor([0.5, 1.25, 1.05, 1.05]))


def small_learner(seed, tracks):
    cfg = PPOConfig(num_envs=32, num_steps=8, num_minibatches=2, update_epochs=2, hidden=(16,))
    sim = Sim(tracks, 32, SimConfig(actions="pedals", frame_skip=2, gap_cost=50.0, patience=40), seed)
    return PPOLearner(sim, cfg, torch.Generator().manual_seed(seed))


@pytest.mark.invariance
def test_a_resumed_learner_equals_one_that_never_stopped():
    tracks = pool(0, 4)
    straight = small_learner(1, tracks)
    for _ in range(4):
        straight.update_once()
    tensors, numbers = straight.trainer_state()
    tensors = {name: value.clone() for name, value in tensors.items()}
    weights = {name: value.clone() for name, value in straight.policy.state_dict().items()}
    wanted = [straight.update_once() for _ in range(3)]
    resumed = small_learner(2, tracks)
    resumed.env.seed = 1
    resumed.env._bind()
    resumed.policy.load_state_dict(weights)
    resumed.load_trainer_state(tensors, numbers)
    assert [resumed.update_once() for _ in range(3)] == wanted
    for name, value in straight.policy.state_dict().items():
        assert torch.equal(value, resumed.policy.state_dict()[name]), name
    assert resumed.steps == straight.steps == 7 * 256


@pytest.mark.invariance
def test_equal_seeds_give_equal_weights_and_different_seeds_do_not():
    tracks = pool(0, 4)
    weights = []
    for seed in (5, 5, 6):
        learner = small_learner(seed, tracks)
        for _ in range(2):
            learner.update_once()
        weights.append(torch.cat([p.detach().flatten() for p in learner.policy.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.learning
def test_a_car_learns_to_drive_in_seconds():
    # Random driving earns about 10 in the first 6 s of a road; a tenth of a million steps must give several times that.
    tracks = pool(2_000_000_000, 8)
    cfg = PPOConfig(num_envs=256, num_steps=16, num_minibatches=4, gamma=0.97)
    sim = Sim(tracks, 256, SimConfig(actions="pedals", frame_skip=4, gap_cost=50.0, patience=40))
    learner = PPOLearner(sim, cfg, torch.Generator().manual_seed(0))
    *_, last = learner.iterate(160_000)
    assert last["train/return"] > 150, last
