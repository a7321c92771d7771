"""Episodes on fixed seeds, played side by side in single environments so that decisions are taken as a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .codecs import ActionCodec, ObsCodec
from .errors import UserError
from .guard import EXIT_ENVIRONMENT, FAULT, FRAMES, RESET_FAULT, Guard, Place, Watch, failure
from .gym_ids import find_spec
from .gym_task import GymTask
from .gym_view import GymView
from .lanes import lane_seed
from .preprocess import LaneMaker, one_lane

LONGEST = 100_000
"""decisions of an episode, from which on it counts as endless"""
AT_ONCE, PICTURES_AT_ONCE = 128, 16
"""environments that exist at a time; one that draws pictures may take much memory"""


class Recall(Protocol):
    """Who decides with memory."""

    def start(self, num_lanes: int) -> Tensor:
        """Memory [N, M] of lanes that have seen nothing."""

    def decide(self, obs: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Actions for observations [N, …], and what is remembered [N, M]; first [N] bool begin an episode."""


@dataclass
class Seat:
    """One environment, and the episode that it plays."""

    lane: int
    env: Guard
    place: int = 0  # of the episode among the seeds
    seed: int = 0
    obs: Any = None  # what it shows now, in its own form
    steps: int = 0
    score: float = 0.0
    frames: int = 0


def play_episodes(
    act: Callable[[Tensor], Tensor] | Recall,
    task: GymTask,
    seeds: Sequence[int],
    device: torch.device | str = "cpu",
    count: Callable[[Tensor], None] | None = None,
) -> tuple[list[float], list[int]]:
    """One fresh episode per seed: the environment's own rewards and whole games, however it is paid in training.

    Args:
        act: actions [N] or [N, A] of N observations [N, …], as spaces_of describes them; or who decides with memory.
        task: what to play.
        seeds: of the episodes.
        device: where act wants its observations.
        count: shown the actions of every step.

    Returns:
        Sum of rewards and number of frames of each episode, in the order of the seeds.

    Raises:
        UserError: no such environment, or it cannot be made (2); it failed (5).
    """
    watch = Watch(task.env_timeout)
    maker = LaneMaker(find_spec(task.env), task, training=False, watch=watch)
    seats = [Seat(0, one_lane(task))]
    try:
        codec = ObsCodec(seats[0].env.observation_space)
        many = min(len(seeds), PICTURES_AT_ONCE if codec.picture else AT_ONCE)
        with watch:
            seats += [Seat(lane, maker()) for lane in range(1, many)]
        game = Game(task, codec, GymView(codec.space, task, torch.device(device)), watch, count)
        return game.play(_Forgetful(act) if callable(act) else act, seats, seeds)
    finally:
        for seat in seats:
            seat.env.close()


class _Forgetful:
    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        self.act = act

    def start(self, num_lanes: int) -> Tensor:
        return torch.zeros(num_lanes, 0)

    def decide(self, obs: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        del first
        return self.act(obs), memory


class Game:
    """Plays episodes one after the other on every seat.

    Args:
        task: what is played.
        codec: reads its observations.
        view: what is done to them.
        watch: interrupts it where it hangs.
        count: shown the actions of every step.
    """

    def __init__(
        self,
        task: GymTask,
        codec: ObsCodec,
        view: GymView,
        watch: Watch,
        count: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.task, self.codec, self.view, self.watch, self.count = task, codec, view, watch, count

    def play(self, who: Recall, seats: Sequence[Seat], seeds: Sequence[int]) -> tuple[list[float], list[int]]:
        """Scores and frames, as play_episodes returns them."""
        actions = ActionCodec(seats[0].env.action_space)
        scores, frames = [0.0] * len(seeds), [0] * len(seeds)
        waiting = iter(enumerate(seeds))
        live = [self._begin(seat, *episode) for seat, episode in zip(seats, waiting, strict=False)]
        if not live:
            return scores, frames
        stack = self.view.first(self._look(live))
        memory = who.start(len(live))
        first = torch.ones(len(live), dtype=torch.bool, device=stack.device)
        while live:
            with torch.inference_mode():
                chosen, memory = who.decide(stack, memory, first)
                if self.count is not None:
                    self.count(chosen)
                taken = actions.decode(chosen.cpu().numpy())
            over = self._advance(live, taken)
            fresh, stay = list[int](), list[int]()
            for place in range(len(live)):
                seat = live[place]
                if over[place]:
                    scores[seat.place], frames[seat.place] = seat.score, seat.frames
                    episode = next(waiting, None)
                    if episode is None:
                        continue
                    self._begin(seat, *episode)
                    fresh.append(len(stay))
                stay.append(place)
            if len(stay) < len(live):
                live, stack, memory = [live[place] for place in stay], stack[stay], memory[stay]
            first = torch.zeros(len(live), dtype=torch.bool, device=stack.device)
            if live:
                newest = self._look(live)
                stack = self.view.next(stack, newest)
                if fresh:
                    stack[fresh], first[fresh] = self.view.first(newest[fresh]), True
        return scores, frames

    def _begin(self, seat: Seat, place: int, seed: int) -> Seat:
        seat.place, seat.seed, seat.steps, seat.score, seat.frames = place, seed, 0, 0.0, 0
        with self.watch:
            seat.obs, info = seat.env.reset(seed=lane_seed(seed))
        if RESET_FAULT in info:
            raise self._failed(seat, info[RESET_FAULT])
        return seat

    def _advance(self, live: Sequence[Seat], taken: NDArray[Any]) -> list[bool]:
        """Which episodes are over after one step of each."""
        over = []
        with self.watch:
            for seat, action in zip(live, taken, strict=True):
                seat.steps += 1
                seat.obs, reward, terminated, truncated, info = seat.env.step(action)
                if FAULT in info:
                    raise self._failed(seat, info[FAULT], action)
                if not math.isfinite(reward):
                    raise self._failed(seat, f"the reward is {reward}", action)
                seat.score += reward
                seat.frames += info.get(FRAMES, self.task.skip)
                over.append(terminated or truncated)
                if seat.steps >= LONGEST and not over[-1]:
                    raise self._endless(seat)
        return over

    def _look(self, live: Sequence[Seat]) -> Tensor:
        """The newest observations [N, …]."""
        seen = self.codec.read_each([seat.obs for seat in live])
        if not self.codec.picture and not np.isfinite(seen).all():
            row, number = (int(x) for x in np.argwhere(~np.isfinite(seen))[0])
            raise self._failed(live[row], f"number {number} of the observation is {seen[row, number]}")
        return self.view.prepare(seen)

    def _endless(self, seat: Seat) -> UserError:
        what = f"an episode of {self.task.env} does not end"
        fix = "give it a time limit: --env-args max_episode_steps=1000"
        return UserError(what, got=f"{seat.steps:,} steps with seed {seat.seed}", fix=fix, code=EXIT_ENVIRONMENT)

    def _failed(self, seat: Seat, why: str, action: Any = None) -> UserError:
        return failure(self.task.env, why, Place(seat.lane, seat.seed, 1, seat.steps, action))
