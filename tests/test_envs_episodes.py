"""Episodes on fixed seeds: the same as a plain loop, whatever is played side by side."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gym_probes import Faulty, Painter, Probe, register_probes

from drivetrain.envs import episodes
from drivetrain.envs.adapt import GymTask, play_episodes
from drivetrain.envs.errors import UserError
from drivetrain.envs.view import grey

register_probes()
SEEDS = [3, 1_000_000_000, 4, 4, 2_000_000_000, 5, 17, 30]


def by_mark(obs: torch.Tensor) -> torch.Tensor:
    """An action that depends on what is seen alone."""
    return ((obs[:, 0] * 100 + obs[:, 1]) % 3).long()


def plain(env: gymnasium.Env[Any, Any], seed: int, act: Any = by_mark) -> tuple[float, int]:
    obs, _ = env.reset(seed=seed)
    score, frames, over = 0.0, 0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(int(act(torch.as_tensor(obs)[None])[0]))
        score, frames, over = score + reward, frames + 1, terminated or truncated
    return score, frames


@pytest.mark.oracle
@pytest.mark.parametrize("at_once", [1, 3, 128])
def test_episodes_equal_a_plain_loop_however_many_are_played_at_once(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "AT_ONCE", at_once)
    scores, frames = play_episodes(by_mark, GymTask("Probe-v0"), SEEDS)
    expected = [plain(Probe(), seed) for seed in SEEDS]
    assert scores == [score for score, _ in expected]
    assert frames == [count for _, count in expected]
    assert scores[2] == scores[3]


@pytest.mark.oracle
def test_pictures_are_stacked_anew_in_every_episode_on_a_seat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episodes, "PICTURES_AT_ONCE", 2)
    seen: dict[bytes, int] = {}

    def act(obs: torch.Tensor) -> torch.Tensor:
        assert obs.shape[1:] == (20, 24, 2)
        action = (obs[:, 0, 0].long().sum(1) // 2) % 3
        seen.update({row.numpy().tobytes(): int(x) for row, x in zip(obs, action, strict=True)})
        return action

    scores, _ = play_episodes(act, GymTask("Painter-v0", grey=True, frame_stack=2), SEEDS)
    asked = set(seen)
    for seed, score in zip(SEEDS, scores, strict=True):
        env = Painter()
        stack = [grey(torch.from_numpy(env.reset(seed=seed)[0])[None])] * 2
        total, over = 0.0, False
        while not over:
            action = seen[torch.cat(stack, -1)[0].numpy().tobytes()]
            asked.discard(torch.cat(stack, -1)[0].numpy().tobytes())
            obs, reward, terminated, truncated, _ = env.step(action)
            stack = [stack[1], grey(torch.from_numpy(obs)[None])]
            total, over = total + reward, terminated or truncated
        assert score == total
    assert not asked  # nothing was shown that the plain loop does not show


def test_a_real_environment_is_played_as_its_own_loop_plays_it() -> None:
    def act(obs: torch.Tensor) -> torch.Tensor:
        return (obs[:, 2] + 0.3 * obs[:, 3] > 0).long()

    scores, frames = play_episodes(act, GymTask("CartPole-v1"), range(5))
    expected = [plain(gymnasium.make("CartPole-v1"), seed, act) for seed in range(5)]
    assert list(zip(scores, frames, strict=True)) == expected
    assert max(scores) > 100


@pytest.mark.golden
def test_scores_are_the_environments_own_and_frames_count_the_skip() -> None:
    task = GymTask("ProbeLimited-v0", frame_skip=2, norm_reward=True, clip_reward=0.01)
    scores, frames = play_episodes(lambda obs: torch.ones(len(obs), dtype=torch.int64), task, [9])
    mark = float(Probe().reset(seed=9)[1]["mark"])
    # five frames of mark + 0.25·1 − 0.125·t; the limit cuts the third decision after its first frame
    assert scores == [pytest.approx(5 * (mark + 0.25) - 0.125 * 15)]
    assert frames == [5]


def test_no_seeds_are_no_episodes() -> None:
    assert play_episodes(by_mark, GymTask("Probe-v0"), []) == ([], [])


@pytest.mark.parametrize("fault", ["raise", "nan", "nan reward", "shape", "hang"])
def test_a_fault_names_seat_seed_step_and_action_and_closes_everything(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []

    class Sick(Faulty):
        def _now(self) -> bool:
            return self.seed_given == 12 and self.t == 2

        def close(self) -> None:
            closed.append(1)

    gymnasium.register("Sick-v0", lambda: Sick(fault))
    try:
        with pytest.raises(UserError, match="the environment Sick-v0 failed") as caught:
            play_episodes(lambda obs: torch.full((len(obs),), 2), GymTask("Sick-v0", env_timeout=0.3), [10, 11, 12])
    finally:
        del gymnasium.registry["Sick-v0"]
    assert caught.value.code == 5
    assert str(caught.value.got).startswith("lane 2, seed 12, episode 1, step 2")
    assert len(closed) == 3


def test_a_fault_in_a_reset_is_named() -> None:
    class Late(Probe):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            return super().reset(seed=seed) if seed != 8 else super().reset(seed=seed)[0]

    gymnasium.register("Late-v0", Late)
    try:
        with pytest.raises(UserError, match=r"failed in reset\(\): ValueError: too many values") as caught:
            play_episodes(by_mark, GymTask("Late-v0"), [7, 8])
    finally:
        del gymnasium.registry["Late-v0"]
    assert caught.value.got == "lane 1, seed 8, episode 1, step 0"


@pytest.mark.invariance
def test_the_observations_handed_over_are_not_changed_by_later_steps() -> None:
    kept: list[tuple[torch.Tensor, np.ndarray]] = []

    def act(obs: torch.Tensor) -> torch.Tensor:
        kept.append((obs, obs.numpy().copy()))
        return by_mark(obs)

    play_episodes(act, GymTask("Probe-v0"), SEEDS)
    assert all(np.array_equal(obs.numpy(), copy) for obs, copy in kept)


def test_an_episode_without_an_end_is_an_error_that_names_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(Probe):
        def step(self, action: Any) -> Any:
            obs, reward, *_ = super().step(action)
            return obs, reward, False, False, {}

    monkeypatch.setattr("drivetrain.envs.episodes.LONGEST", 50)
    gymnasium.register("Endless-v0", Endless)
    try:
        with pytest.raises(UserError, match="Endless-v0 does not end; got 50 steps with seed 8;") as caught:
            play_episodes(by_mark, GymTask("Endless-v0"), [8])
    finally:
        del gymnasium.registry["Endless-v0"]
    assert caught.value.code == 5
    assert "max_episode_steps" in str(caught.value.fix)
