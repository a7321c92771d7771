"""One update of ours is one update of Stable-Baselines3: the same data, weights, order and settings, its own code."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from drivetrain.agents import dqn, ppo
from drivetrain.agents.config import PPOConfig
from drivetrain.agents.dqn import DQNLearner
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.ppo import PPOLearner
from drivetrain.agents.replay import Steps
from drivetrain.agents.rollout import Rollout
from drivetrain.agents.sb3_plain import fill_actor_critic, fill_q, plain_actor_critic, plain_q
from drivetrain.agents.sb3_settings import dqn_arguments, ppo_arguments
from drivetrain.agents.sb3_vec import Sb3VecEnv
from drivetrain.policies.cores import Core

T, B, SIZE = 32, 8, 5
SPACES = {"gaussian": Box(-1, 1, (3,), np.float32), "categorical": Discrete(4)}
TOLERANCE = 1e-6
FRAMES = torch.ones(T, B, dtype=torch.int64)


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
        rows |= {"episode_return": self.reward[t], "episode_frames": FRAMES[t], "frames": FRAMES[t]}
        return SimpleNamespace(obs=self.obs[t + 1], lap_finished=None, valid=None, **rows)


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


def shake(module, seed):
    """First weights leave the last layers at rest: nothing of their gradients would be tested."""
    rng = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=rng)


def both(head, seed, epochs):
    """Our learner and its PPO with the same weights, each on a tape of its own with the same things on it."""
    config, space = settings(head, epochs), SPACES[head]
    ours = PPOLearner(Tape(seed, space), config, torch.Generator().manual_seed(seed))
    shake(ours.policy.head, seed)
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
        frames=FRAMES,
        episode_return=tape.reward,
        episode_frames=FRAMES,
        memory=Core(1).start(B, "cpu"),
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


def both_dqn(seed, n_step, soft, gradient_steps):
    """Our DQN learner and its DQN with the same weights, each on a tape of its own with the same things on it."""
    config = DQNConfig(
        num_envs=B,
        num_steps=T,
        hidden=(64, 64),
        batch_size=BATCH,
        buffer_size=4 * T * B,
        learning_starts=1,
        replay_ratio=gradient_steps * BATCH / (T * B),
        learning_rate=1e-4,
        lr_schedule="constant",
        n_step=n_step,
        double=False,
        target_update="soft" if soft else "hard",
        tau=0.05,
        target_every=SYNC if gradient_steps > 1 else 1,
        norm_obs=False,
        random_phase=False,
    )
    ours = DQNLearner(Tape(seed, Discrete(4)), config, torch.Generator().manual_seed(seed))
    shake(ours.policy.net, seed)
    ours.target.load_state_dict(ours.policy.net.state_dict())
    plain = plain_q(ours.policy)
    arguments = dqn_arguments(config) | {"target_update_interval": B, "learning_starts": 0, "train_freq": T}
    arguments |= {"tau": config.tau if soft else 1.0, "policy_kwargs": plain.policy_kwargs, "seed": seed}
    theirs = DQN(plain.policy, Sb3VecEnv(Tape(seed, Discrete(4))), device="cpu", **arguments)
    for net in (theirs.q_net, theirs.q_net_target):
        fill_q(net, ours.policy)
    theirs.set_logger(Logger(None, []))
    return ours, theirs


def collect_dqn(model):
    """T steps of its own, in its own replay. Returns the actions [T, B]."""
    callback = Stop()
    callback.init_callback(model)
    model._last_obs, model._total_timesteps = model.env.reset(), 10**9
    model.ep_info_buffer, model.ep_success_buffer = [], []
    model.collect_rollouts(model.env, callback, TrainFreq(T, TrainFrequencyUnit.STEP), model.replay_buffer)
    return torch.as_tensor(model.replay_buffer.actions[:T, :, 0])


def played(tape, action):
    """What is on a tape, as steps of ours."""
    flags = tape.terminated, tape.truncated
    return Steps(tape.obs[:T], tape.next_obs, action, tape.reward, *flags, FRAMES, tape.reward, FRAMES)


def largest_q_difference(ours, theirs):
    """Between all weights of the online and of the target network."""
    gaps = []
    for net, other in ((ours.policy.net, theirs.q_net), (ours.target, theirs.q_net_target)):
        written = theirs.policy.make_q_net()
        fill_q(written, SimpleNamespace(net=net, obs_norm=ours.policy.obs_norm, reward_scale=1.0))
        pairs = zip(written.parameters(), other.parameters(), strict=True)
        gaps += [float((here - there).detach().abs().max()) for here, there in pairs]
    return max(gaps)


BATCH, SYNC = 32, 10


@pytest.mark.oracle
@pytest.mark.parametrize("gradient_steps", [1, 100])
@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_dqn_updates_move_both_networks_as_its_own(seed, n_step, soft, gradient_steps, monkeypatch):
    ours, theirs = both_dqn(seed, n_step, soft, gradient_steps)
    assert largest_q_difference(ours, theirs) == 0.0
    before = [parameter.detach().clone() for parameter in ours.policy.net.parameters()]
    steps = played(ours.env, collect_dqn(theirs))
    monkeypatch.setattr(dqn, "play", lambda *_: (steps, ours.env.obs[T]))
    places, drawn = [], []
    add, sample = ours.replay.add, ours.replay.sample

    def noted_add(steps):
        places.append(add(steps))
        return places[0]

    def noted_sample(*arguments):
        drawn.append(sample(*arguments)[0])
        return drawn[-1], None

    monkeypatch.setattr(ours.replay, "add", noted_add)
    monkeypatch.setattr(ours.replay, "sample", noted_sample)
    ours.update_once()
    assert ours.gradient_steps == gradient_steps

    place_of = {int(place): divmod(k, B) for k, place in enumerate(places[0].flatten())}
    rows = np.array([place_of[int(place)] for place in torch.cat(drawn)])  # [S, 2] step and lane
    batches = rows.reshape(gradient_steps, BATCH, 2)
    queue = [column for batch in batches for column in (batch[:, 0], batch[:, 1])]
    monkeypatch.setattr(np.random, "randint", lambda *_, **__: queue.pop(0))
    every = 1 if soft or gradient_steps == 1 else SYNC
    for _ in range(gradient_steps // every):
        theirs.train(every, BATCH)
        theirs._on_step()  # where it updates its target network
    assert not queue

    moved = max(float((a - b.detach()).abs().max()) for a, b in zip(before, ours.policy.net.parameters(), strict=True))
    assert moved > 5e-5, "an update that does not move proves nothing"
    assert largest_q_difference(ours, theirs) <= TOLERANCE
