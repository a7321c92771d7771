"""One update of ours is one update of Stable-Baselines3: the same data, weights, order and settings, its own code."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from drivetrain.agents import ppo
from drivetrain.agents.config import PPOConfig
from drivetrain.agents.ppo import PPOLearner
from drivetrain.agents.rollout import Rollout
from drivetrain.agents.sb3_plain import fill_actor_critic, plain_actor_critic
from drivetrain.agents.sb3_settings import ppo_arguments
from drivetrain.agents.sb3_vec import Sb3VecEnv

T, B, SIZE = 32, 8, 5
SPACES = {"gaussian": Box(-1, 1, (3,), np.float32), "categorical": Discrete(4)}
TOLERANCE = 1e-6


class Tape:
    """T steps of B lanes that were drawn beforehand and do not listen to actions; a third of the ends is by time."""

    num_envs, device, channels, time_limit = B, torch.device("cpu"), None, None

    def __init__(self, seed, action_space):
        rng = torch.Generator().manual_seed(seed)
        self.single_observation_space = Box(-9, 9, (SIZE,), np.float32)
        self.single_action_space = action_space
        self.obs = torch.randn(T + 1, B, SIZE, generator=rng)
        self.reward = torch.randn(T, B, generator=rng)
        ends = torch.rand(T, B, generator=rng)
        self.terminated, self.truncated = ends < 0.06, (ends > 0.04) & (ends < 0.1)  # a few of them both at once
        last = torch.randn(T, B, SIZE, generator=rng)
        self.next_obs = torch.where((self.terminated | self.truncated)[..., None], last, self.obs[1:])
        self.at = 0

    def reset(self):
        self.at = 0
        return self.obs[0]

    def scatter(self, generator):
        pass

    def schedule(self, share):
        pass

    def step(self, action):
        t, self.at = self.at, self.at + 1
        rows = {name: getattr(self, name)[t] for name in ("next_obs", "reward", "terminated", "truncated")}
        return SimpleNamespace(obs=self.obs[t + 1], episode_return=self.reward[t], valid=None, **rows)


class Stop(BaseCallback):
    def _on_step(self):
        return True


def settings(head, epochs):
    return PPOConfig(
        num_envs=B,
        num_steps=T,
        update_epochs=epochs,
        num_minibatches=4,
        head="gaussian" if head == "gaussian" else "auto",
        learning_rate=3e-4,
        lr_schedule="constant",
        max_grad_norm=0.5,
        ent_coef=0.01,
        log_std_init=0.0,
        norm_obs=False,
        norm_return=False,
        random_phase=False,
    )


def both(head, seed, epochs):
    """Our learner and its PPO with the same weights, each on a tape of its own with the same things on it."""
    config, space = settings(head, epochs), SPACES[head]
    ours = PPOLearner(Tape(seed, space), config, torch.Generator().manual_seed(seed))
    with torch.no_grad():  # first weights leave the policy at rest: nothing of its gradients would be tested
        for parameter in ours.policy.head.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed + 1))
    plain = plain_actor_critic(ours.policy)
    env = Sb3VecEnv(Tape(seed, space))
    arguments = ppo_arguments(config) | {"policy_kwargs": plain.policy_kwargs, "seed": seed, "device": "cpu"}
    theirs = PPO(plain.policy, env, **arguments)
    fill_actor_critic(theirs.policy, ours.policy)
    theirs.set_logger(Logger(None, []))
    return ours, theirs


def collect(model):
    """Its own rollout, in its own buffer."""
    callback = Stop()
    callback.init_callback(model)
    model._last_obs, model._last_episode_starts = model.env.reset(), np.ones(B, bool)
    model.ep_info_buffer, model.ep_success_buffer = [], []
    assert model.collect_rollouts(model.env, callback, model.rollout_buffer, T)
    return model.rollout_buffer


def as_ours(buffer, tape):
    """What its buffer recorded, as a rollout of ours."""
    actions = torch.as_tensor(buffer.actions)
    return Rollout(
        obs=torch.as_tensor(buffer.observations),
        cut_obs=tape.next_obs,
        raw_action=actions[..., 0].long() if buffer.action_dim == 1 else actions,
        log_prob=torch.as_tensor(buffer.log_probs),
        value=None,
        reward=tape.reward,  # its own rewards have the worth of what was cut off added
        terminated=tape.terminated,
        truncated=tape.truncated,
        frames=torch.ones(T, B, dtype=torch.int64),
        episode_return=tape.reward,
        episode_frames=torch.ones(T, B, dtype=torch.int64),
    )


def largest_difference(ours, theirs):
    """Between all weights, ours written in the shapes of the other."""
    plain = plain_actor_critic(ours.policy)
    written = type(theirs.policy)(theirs.observation_space, theirs.action_space, lambda _: 0.0, **plain.policy_kwargs)
    fill_actor_critic(written, ours.policy)
    pairs = zip(written.state_dict().items(), theirs.policy.state_dict().items(), strict=True)
    gaps = []
    for (name, here), (other, there) in pairs:
        assert name == other
        gaps.append(float((here - there).abs().max()))
    return max(gaps)


@pytest.mark.oracle
@pytest.mark.parametrize("head", SPACES)
@pytest.mark.parametrize("seed", range(5))
def test_advantages_and_returns_equal_its_rollout_buffers_through_ends_and_time_limits(head, seed):
    # It adds γ·V(s') to the reward of a step whose episode was cut off and ends the episode there; ours keeps the
    # reward and takes V(s') for the value that follows: r + γ·V(s') − V(s) either way.
    ours, theirs = both(head, seed, 1)
    buffer, tape = collect(theirs), ours.env
    assert int(tape.truncated.sum()) > 5
    assert int((tape.terminated & ~tape.truncated).sum()) > 5
    assert bool((tape.terminated & tape.truncated).any())
    batch = ppo.estimate(ours.policy, as_ours(buffer, tape), tape.obs[T], ours.cfg)
    np.testing.assert_allclose(batch.advantage.view(T, B).numpy(), buffer.advantages, atol=1e-5)
    np.testing.assert_allclose(batch.return_.view(T, B).numpy(), buffer.returns, atol=1e-5)


@pytest.mark.oracle
@pytest.mark.parametrize("epochs", [1, 10])
@pytest.mark.parametrize("head", SPACES)
@pytest.mark.parametrize("seed", range(5))
def test_one_ppo_update_moves_every_weight_as_its_own(head, seed, epochs, monkeypatch):
    ours, theirs = both(head, seed, epochs)
    before = [parameter.detach().clone() for parameter in ours.policy.parameters()]
    assert largest_difference(ours, theirs) == 0.0
    rollout = as_ours(collect(theirs), ours.env)
    monkeypatch.setattr(ppo, "collect", lambda *_: (rollout, ours.env.obs[T]))
    order = torch.Generator()
    order.set_state(ours.generator.get_state())
    ours.update_once()

    def same_order(size):
        """Its rows are lane by lane, ours step by step."""
        index = torch.randperm(size, generator=order)
        return ((index % B) * T + index // B).numpy()

    monkeypatch.setattr(np.random, "permutation", same_order)
    theirs.train()
    moved = max(float((a - b.detach()).abs().max()) for a, b in zip(before, ours.policy.parameters(), strict=True))
    assert moved > 5e-4, "an update that does not move proves nothing"
    assert largest_difference(ours, theirs) <= TOLERANCE
