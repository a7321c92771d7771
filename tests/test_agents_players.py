"""A policy with memory drives everywhere as it does step by step on its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gym_probes import register_probes

from drivetrain.agents.agent import DQN, PPO, Agent, load
from drivetrain.agents.evaluate import play_original, play_twin
from drivetrain.agents.players import OneLane, Recall, racing_actor
from drivetrain.agents.worlds import play
from drivetrain.envs.adapt import GymTask, play_episodes
from drivetrain.envs.errors import UserError
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool
from drivetrain.policies.cores import Memory
from drivetrain.policies.policy import Policy

register_probes()
SIZES = {"core_size": 8, "core_layers": 2, "core_heads": 2, "core_context": 4, "hidden": (8,), "device": "cpu"}
CORES = ("gru", "transformer")


def shake(agent: Agent) -> None:
    """Moves every weight: what begins at rest would hide mistakes."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(1)
        for parameter in agent.policy.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


def agent_of(env: str, core: str, **settings: object) -> PPO:
    few = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2}
    agent = PPO(env, core=core, **(SIZES | few | settings))  # type: ignore[arg-type]
    shake(agent)
    return agent


def policy_of(agent: Agent) -> Policy:
    assert isinstance(agent.policy, Policy)
    return agent.policy


@pytest.mark.parametrize("core", CORES)
def test_cars_of_a_batch_remember_their_own_episode(core: str) -> None:
    agent = agent_of("racing", core, num_tracks=2, frame_skip=8)
    policy, seeds = policy_of(agent), (1_000_000_000, 1_000_000_001, 1_000_000_002)
    config = SimConfig(actions="pedals", frame_skip=8)
    together = play_twin(racing_actor(policy), seeds, config)
    for row, seed in enumerate(seeds):
        sim = Sim(pool(seed, 1), 1, config)
        obs, lane, score = sim.reset(), OneLane(policy), 0.0
        for _ in range(200):
            outcome = sim.step(lane.act(obs))
            score, obs = score + float(outcome.reward), outcome.obs
            if bool(outcome.done):
                break
        assert score == pytest.approx(together.scores[row], abs=0.02)


def test_cars_in_the_original_remember_their_own_episode_when_others_have_ended() -> None:
    agent = agent_of("racing", "gru", num_tracks=2, frame_skip=8)
    policy, config = policy_of(agent), SimConfig(actions="pedals", frame_skip=8)
    together = play_original(racing_actor(policy), (0, 1, 2), config)
    alone = [play_original(racing_actor(policy), (seed,), config).mean for seed in (0, 1, 2)]
    assert together.scores == pytest.approx(alone, abs=1e-6)


def test_rows_keep_their_memory_when_others_are_gone() -> None:
    agent = agent_of("racing", "gru", num_tracks=2)
    policy = policy_of(agent)
    actor, tracks = racing_actor(policy), pool(1_000_000_000, 3)
    sim = Sim(tracks, 3, SimConfig(actions="pedals"))
    first = sim.reset().clone()
    actor(first, tracks, sim.state)
    outcome = sim.step(torch.zeros(3, 2))
    wanted = policy.act_with(first, policy.core.start(3, "cpu"))[1]
    wanted = policy.act_with(outcome.obs, Memory(wanted, torch.zeros(3, dtype=torch.bool)))[0]
    rest = torch.tensor([0, 2])
    found = actor(outcome.obs[rest], tracks, sim.state.take(rest))
    torch.testing.assert_close(found, wanted[rest])


@pytest.mark.parametrize("core", CORES)
def test_episodes_of_gymnasium_are_played_with_the_memory_of_each(core: str) -> None:
    agent = agent_of("CartPole-v1", core)
    policy, task = policy_of(agent), GymTask("CartPole-v1")
    seeds = range(1_000_000_000, 1_000_000_140)  # more than seats
    together, _ = play_episodes(Recall(policy), task, seeds)
    assert play("CartPole-v1", agent.task, policy, seeds, "cpu").scores == tuple(together)
    alone = [play_episodes(Recall(policy), task, [seed])[0][0] for seed in (*seeds[:3], *seeds[-3:])]
    assert alone == [*together[:3], *together[-3:]]
    assert len(set(together)) > 2


@pytest.mark.parametrize("core", CORES)
def test_predict_hands_memory_out_and_takes_it_back(core: str) -> None:
    agent = agent_of("CartPole-v1", core)
    obs = np.random.default_rng(0).normal(size=(6, 2, 4)).astype(np.float32)
    starts = np.zeros((6, 2), bool)
    starts[3, 1] = True
    state, found = None, []
    for seen, start in zip(obs, starts, strict=True):
        action, state = agent.predict(seen, state, start, deterministic=True)
        found.append(action)
    policy = policy_of(agent)
    first = torch.as_tensor(starts)
    first[0] = True
    with torch.no_grad():
        normed = policy.obs_norm(torch.as_tensor(obs).flatten(0, 1))
        features, kept = policy.over_time(normed, policy.core.start(2, "cpu").kept, first)
        wanted = policy.head(features).mode().view(6, 2)
    assert np.array_equal(np.stack(found), wanted.numpy())
    assert state is not None
    np.testing.assert_allclose(state[0], kept.numpy(), atol=1e-5)
    one, alone = agent.predict(obs[0, 0])
    assert alone is not None
    assert np.ndim(one) == 0
    with pytest.raises(UserError, match=r"the memory does not fit; got \[1, "):
        agent.predict(obs[0], alone)


def test_a_policy_with_memory_is_saved_and_loaded(tmp_path: Path) -> None:
    agent = agent_of("CartPole-v1", "lstm")
    agent.learn(64).save(tmp_path / "run")
    again = load(tmp_path / "run")
    obs = np.zeros((3, 4), np.float32)
    for _ in range(2):
        one, other = (who.predict(obs, deterministic=True) for who in (agent, again))
        assert np.array_equal(one[0], other[0])
        assert one[1] is not None
        assert other[1] is not None
        assert np.array_equal(one[1][0], other[1][0])


def q_agent(env: str, core: str, **settings: object) -> DQN:
    few = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "buffer": "none", "quantiles": 0, "munchausen": False}
    agent = DQN(env, core=core, **(SIZES | few | settings))  # type: ignore[arg-type]
    shake(agent)
    return agent


@pytest.mark.parametrize("core", CORES)
def test_action_values_with_memory_drive_as_one_by_one(core: str) -> None:
    policy, config = (
        q_agent("racing", core, num_tracks=2, frame_skip=8).policy,
        SimConfig(actions="macro", frame_skip=8),
    )
    seeds = (1_000_000_000, 1_000_000_001)
    together = play_twin(racing_actor(policy), seeds, config)
    sim = Sim(pool(seeds[1], 1), 1, config)
    obs, lane, score = sim.reset(), OneLane(policy), 0.0
    for _ in range(200):
        outcome = sim.step(lane.act(obs))
        score, obs = score + float(outcome.reward), outcome.obs
        if bool(outcome.done):
            break
    assert score == pytest.approx(together.scores[1], abs=0.02)


@pytest.mark.parametrize("core", CORES)
def test_action_values_with_memory_are_saved_and_predict_from_what_they_are_given(tmp_path: Path, core: str) -> None:
    agent = q_agent("CartPole-v1", core)
    agent.learn(64).save(tmp_path / "run")
    again = load(tmp_path / "run")
    obs = np.random.default_rng(0).normal(size=(6, 2, 4)).astype(np.float32)
    state, found = None, []
    for seen in obs:
        action, state = again.predict(seen, state, deterministic=True)
        found.append(action)
    policy, first = agent.policy, torch.zeros(6, 2, dtype=torch.bool)
    first[0] = True
    with torch.no_grad():
        normed = policy.obs_norm(torch.as_tensor(obs).flatten(0, 1))
        values, _ = policy.net.over_time(normed, policy.core.start(2, "cpu").kept, first)
    assert np.array_equal(np.stack(found), values.mean(-1).argmax(-1).view(6, 2).numpy())


@pytest.mark.parametrize(
    ("algo", "settings", "why"),
    [
        ("dqn", {"core": "gru"}, "core=gru needs buffer=none"),
        ("ppo", {"core": "gru", "backend": "sb3"}, "Stable-Baselines3 trains no policy with memory"),
    ],
)
def test_who_has_no_memory_says_so(algo: str, settings: dict[str, object], why: str) -> None:
    from drivetrain.agents.build import build_learner

    with pytest.raises(UserError, match=why):
        build_learner(algo, "CartPole-v1", {"num_envs": 4, "num_steps": 8, **settings}, 0, "cpu")
