"""Pictures of a rollout: stacks at the borders of episodes, memory, values where a lane is cut off, learning."""

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from test_agents_ppo import Answer

from drivetrain.agents.config import PPOConfig
from drivetrain.agents.frames import FrameRecorder
from drivetrain.agents.ppo import PPOLearner, estimate
from drivetrain.agents.rollout import collect
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool
from drivetrain.policies.build import build_policy
from drivetrain.policies.config import PolicyConfig


@pytest.mark.golden
def test_stacks_do_not_reach_back_into_the_episode_before():
    # one lane, pictures of one pixel; before the rollout it saw 1, 2, 3 (k = 3). Acted on: 3, 4, 5 | 10, 11 | 20
    recorder = FrameRecorder(torch.tensor([[[[1, 2, 3]]]], dtype=torch.uint8), 6, 1)
    for level, ends in ((3, False), (4, False), (5, True), (10, False), (11, True), (20, False)):
        recorder.add(torch.tensor([[[[0, 0, level]]]], dtype=torch.uint8))
        recorder.after(torch.tensor([ends]))
    seen = recorder.frames().take(torch.arange(6))[:, 0, 0].tolist()
    assert seen == [[1, 2, 3], [2, 3, 4], [3, 4, 5], [10, 10, 10], [10, 10, 11], [20, 20, 20]]


@pytest.mark.golden
def test_each_picture_is_kept_once():
    recorder = FrameRecorder(torch.zeros(5, 4, 4, 8, dtype=torch.uint8), 10, 2)  # k = 4, T = 10: 13 pictures a lane
    assert recorder.frames().pictures.shape == (13, 5, 4, 4, 2)
    assert recorder.frames().pictures.dtype == torch.uint8
    assert recorder.frames().depth == 4


@pytest.mark.oracle
@pytest.mark.parametrize(("picture", "frame_stack"), [("grey", 1), ("grey", 3), ("rgb", 2)])
def test_a_rollout_gives_back_what_the_simulator_showed(picture, frame_stack):
    config = SimConfig(
        "pixels", "pedals", 4, picture=picture, picture_size=64, crop=True, frame_stack=frame_stack, patience=9
    )
    policy = build_policy(
        Sim(pool(0, 1), 1, config).single_observation_space,
        Box(-1, 1, (2,)),
        PolicyConfig(encoder="cnn", channels=(2, 2), hidden=(4,), shared_trunk=True),
        torch.Generator().manual_seed(0),
    )
    runs = []
    for shown in (None, []):
        sim = Sim(pool(0, 2), 5, config)
        obs = sim.reset()
        sim.scatter(torch.Generator().manual_seed(1))
        if shown is not None:
            step = sim.step

            def spy(action, step=step, shown=shown):
                outcome = step(action)
                shown.append(outcome.obs.clone())
                return outcome

            sim.step = spy
            first = obs.clone()
        memory, noise = policy.core.start(sim.num_envs, "cpu"), torch.Generator().manual_seed(2)
        rollout, last = collect(sim, policy, obs, memory, 40, noise)
        runs.append(rollout.obs.take(torch.arange(200)))
        assert int(rollout.done.sum()) >= 5  # patience and time limits: borders of episodes were crossed
    torch.testing.assert_close(runs[0], torch.stack([first, *shown[:-1]]).flatten(0, 1))
    torch.testing.assert_close(runs[0], runs[1])
    torch.testing.assert_close(last, shown[-1])


class Flicker:
    """Pictures all dark or all bright at random; paid for naming the brightness of the picture *before* the last."""

    device = torch.device("cpu")
    channels = 1
    time_limit = 5

    def __init__(self, num_envs=64, frame_stack=2):
        self.num_envs, self.depth = num_envs, frame_stack
        self.single_observation_space = Box(0, 255, (8, 8, frame_stack), "uint8")
        self.single_action_space = Discrete(2)
        self.generator = torch.Generator().manual_seed(0)
        self.time = torch.zeros(num_envs, dtype=torch.int64)
        self.obs = self._first()

    def _picture(self):
        bright = torch.randint(0, 2, (self.num_envs, 1, 1, 1), generator=self.generator, dtype=torch.uint8)
        return bright.expand(-1, 8, 8, 1) * 255

    def _first(self):
        return self._picture().repeat(1, 1, 1, self.depth)

    def reset(self):
        return self.obs

    exact_state = True

    def scatter(self, generator):
        self.time = torch.randint(0, 5, (self.num_envs,), generator=self.generator)

    def schedule(self, share):
        self.share = share

    def step(self, action):
        self.time += 1
        reward = (action == (self.obs[:, 0, 0, 0] > 0)).float()
        after = torch.cat((self.obs[..., 1:], self._picture()), -1)
        cut = self.time >= 5
        self.time = torch.where(cut, 0, self.time)
        self.obs = torch.where(cut[:, None, None, None], self._first(), after)
        return Answer(self.obs, after, reward, torch.zeros_like(cut), cut)

    def state_tensors(self):
        return {"time": self.time}

    def load_state_tensors(self, tensors):
        self.time = tensors["time"]


SMALL = {"encoder": "cnn", "channels": (8,), "hidden": (16,), "num_envs": 64, "num_steps": 4, "num_minibatches": 2}


@pytest.mark.learning
@pytest.mark.parametrize("shared_trunk", [True, False])
def test_what_the_picture_before_showed_is_learned(shared_trunk):
    cfg = PPOConfig(**SMALL, shared_trunk=shared_trunk, gamma=0.0, learning_rate=3e-3, lr_schedule="constant")
    learner = PPOLearner(Flicker(), cfg, torch.Generator().manual_seed(0), total_steps=12_000)
    for _ in learner.iterate(12_000):
        pass
    dark, bright = torch.zeros(8, 8, 1, dtype=torch.uint8), torch.full((8, 8, 1), 255, dtype=torch.uint8)
    seen = torch.stack([torch.cat(pair, -1) for pair in ((dark, bright), (bright, dark), (dark, dark))])
    assert learner.policy.act(seen).tolist() == [0, 1, 0]


@pytest.mark.oracle
@pytest.mark.parametrize("shared_trunk", [True, False])
def test_advantages_equal_those_of_the_plain_formula_with_every_true_next_observation(shared_trunk):
    cfg = PPOConfig(**SMALL, shared_trunk=shared_trunk, norm_return=False, gamma=0.5, gae_lambda=1.0)
    learner = PPOLearner(Flicker(), cfg, torch.Generator().manual_seed(0))
    env, policy = learner.env, learner.policy
    kept, step = [], env.step

    def spy(action):
        outcome = step(action)
        kept.append(outcome)
        return outcome

    env.step = spy
    rollout, last = collect(env, policy, learner.obs, learner.memory, 4, torch.Generator().manual_seed(3))
    batch = estimate(policy, rollout, last, cfg)
    with torch.no_grad():
        value = policy.value(rollout.obs.take(torch.arange(256))).view(4, 64)
        following = torch.stack([policy.value(outcome.next_obs) for outcome in kept])
    assert 0 < int(rollout.cut.sum()) < 256
    total = torch.zeros(64)
    for t in reversed(range(4)):
        total = rollout.reward[t] + 0.5 * following[t] - value[t] + 0.5 * torch.where(rollout.cut[t], 0.0, total)
        torch.testing.assert_close(batch.advantage.view(4, 64)[t], total)


def test_a_lane_that_is_cut_off_twice_in_a_rollout_is_worth_what_was_seen_each_time():
    env = Flicker()
    cfg = PPOConfig(**SMALL | {"num_steps": 12})
    learner = PPOLearner(env, cfg, torch.Generator().manual_seed(0))
    policy, seen = learner.policy, []
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    play = env.step

    def spy(action):
        step = play(action)
        seen.append(step.next_obs.clone())
        return step

    env.step = spy
    rollout, _ = collect(env, policy, learner.obs, learner.memory, 12, torch.Generator().manual_seed(3))
    assert int(rollout.cut.sum(0).max()) >= 2
    with torch.no_grad():
        wanted = policy.value(torch.stack(seen).flatten(0, 1)).view(rollout.cut.shape)
    torch.testing.assert_close(rollout.cut_value[rollout.cut], wanted[rollout.cut])


def test_after_a_step_that_only_resets_a_stack_begins_with_what_is_seen_behind_it():
    # lane 0 ends its episode in step 0, shows its last picture (30) again in step 1, and begins anew with 40
    seen = [(10, 10), (30, 20), (40, 30)]
    recorder = FrameRecorder(stacked(9, 10), 3, 1)
    begun = [(False, False), (True, False), (False, False)]  # what collect() hands over: rows that are not valid
    for levels, begins in zip(seen, begun, strict=True):
        recorder.add(torch.tensor(levels, dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 1, 1))
        recorder.after(torch.tensor(begins))
    frames = recorder.frames()
    # sample t·B + b: step 2 of lane 0 sees 40 twice, step 2 of lane 1 sees 20 and 30
    assert frames.take(torch.tensor([4, 5]))[:, 0, 0].tolist() == [[40, 40], [20, 30]]
    # the fake row itself still looks back
    assert frames.take(torch.tensor([2]))[0, 0, 0].tolist() == [10, 30]


def stacked(*levels):
    """uint8 [2, 1, 1, k]: two lanes that see the same."""
    return torch.tensor(levels, dtype=torch.uint8).view(1, 1, 1, -1).expand(2, 1, 1, -1)
