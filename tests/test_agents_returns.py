"""Advantages against an obvious loop in float64, on many generated rollouts; rows that are no transitions."""

from dataclasses import dataclass

import pytest
import torch
from gymnasium.spaces import Box, Discrete

from drivetrain.agents.config import PPOConfig
from drivetrain.agents.ppo import PPOLearner
from drivetrain.agents.returns import gae

CASES = 2_000


@pytest.mark.oracle
def test_gae_equals_a_sum_over_each_episode_on_generated_rollouts():
    # each case is a lane of its own length, flags, rewards and values; all lanes of a length go in together
    rng = torch.Generator().manual_seed(1)
    for steps in range(1, 21):
        shape = (steps, CASES // 20)
        gamma, lam = (float(torch.rand((), generator=rng)) for _ in range(2))
        reward, value, next_value = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(3))
        terminated, truncated = (torch.rand(shape, generator=rng) < 0.2 for _ in range(2))
        fast = gae(reward, value, next_value, terminated, truncated, gamma, lam)
        rows = zip(*(x.T.tolist() for x in (reward, value, next_value, terminated, truncated, fast)), strict=True)
        for r, v, after, died, cut, found in rows:
            for t in range(steps):
                total, weight = 0.0, 1.0
                for k in range(t, steps):
                    total += weight * (r[k] + gamma * (0.0 if died[k] else after[k]) - v[k])
                    weight *= gamma * lam
                    if died[k] or cut[k]:
                        break
                assert found[t] == pytest.approx(total, abs=1e-10)


@dataclass
class Answer:
    obs: torch.Tensor
    next_obs: torch.Tensor
    reward: torch.Tensor
    terminated: torch.Tensor
    truncated: torch.Tensor
    valid: torch.Tensor
    frames: torch.Tensor
    episode_return: torch.Tensor
    episode_frames: torch.Tensor
    lap_finished = None


class NextStep:
    """Reward 1 in each of 5 steps, then a time limit; the environment resets itself in a step of its own.

    That step is poisoned: what it holds must not be learned from.
    """

    device = torch.device("cpu")
    channels = time_limit = None
    exact_state = True
    single_observation_space = Box(-2.0, 2.0, (1,))
    single_action_space = Discrete(2)

    def __init__(self, num_envs, poison):
        self.num_envs, self.poison = num_envs, poison
        self.time = torch.arange(num_envs) % 6

    def reset(self):
        return torch.zeros(self.num_envs, 1)

    def scatter(self, generator):
        pass

    def schedule(self, share):
        pass

    def step(self, action):
        fake = self.time == 5  # the episode is over, the action is ignored
        cut = self.time == 4
        self.time = (self.time + 1) % 6
        zeros, never = torch.zeros(self.num_envs), torch.zeros(self.num_envs, dtype=torch.bool)
        obs = zeros[:, None]
        reward = torch.where(fake, self.poison, 1.0)
        return Answer(obs, obs, reward, never, cut, ~fake, (~fake).long(), zeros + 5.0, cut.long() * 5)

    def state_tensors(self):
        return {}

    def load_state_tensors(self, tensors):
        pass


def learn(poison):
    cfg = PPOConfig(num_envs=12, num_steps=12, num_minibatches=3, update_epochs=2, hidden=(8,), gamma=0.8)
    learner = PPOLearner(NextStep(12, poison), cfg, torch.Generator().manual_seed(0))
    for _ in range(5):
        metrics = learner.update_once()
    return learner, metrics


def test_rows_in_which_an_environment_resets_itself_are_not_learned_from():
    (plain, _), (poisoned, metrics) = learn(0.0), learn(1e9)
    for name, value in plain.policy.state_dict().items():
        assert torch.equal(value, poisoned.policy.state_dict()[name]), name
    # five of six rows are decisions: 5 updates of 144 rows; each episode that ended returned 5
    assert poisoned.steps == poisoned.frames == 5 * 144 * 5 // 6
    assert metrics["train/return"] == 5.0
    assert metrics["train/episodes"] == 5 * 144 // 6
