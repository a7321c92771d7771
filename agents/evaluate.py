"""Scores on fixed seeds: one fresh episode per seed, in the batched simulator or in the original.

A driver is an `Actor`: a function of what it may look at, so that a network (observations), the expert (tracks and
states) and the random driver share one loop. Rows of a batch are fixed for the whole evaluation: row i is seed i.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from ..envs.actions import action_space
from ..envs.errors import UserError
from ..envs.expert import Line, act, build_lines
from ..envs.noise import hash_u32
from ..envs.original import OriginalEnv, controls_of, read_states
from ..envs.sight import look_fast
from ..envs.sim import Sim, SimConfig
from ..envs.state import CarState
from ..envs.track import Tracks, build_tracks, centreline_of_seed
from .cores import available_cores

THRESHOLD = 900.0
"""score from which an episode of racing counts as a success"""
EPISODES_FOR_WORKERS = 60
"""episodes of the original from which another process, seconds in starting, is worth while"""
PICTURE_EPISODES_FOR_WORKERS = 6
"""the same where it draws pictures"""
_NOISE_STREAM = 7


class Actor(Protocol):
    """A driver: actions of B cars from observations [B, O], tracks and states, whichever it needs."""

    def __call__(self, obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        """Actions as the environment's action set asks: float [B, A] or int64 [B]."""


@dataclass(frozen=True)
class Scores:
    """Episodes in the order of their seeds. A score is the sum of the environment's own rewards of one episode."""

    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    frames: tuple[int, ...]
    seconds: float
    actions: tuple[dict[str, Any], ...] = ()  # how often which was taken, see ActionCounts.table; () = not counted

    @property
    def mean(self) -> float:
        return math.fsum(self.scores) / len(self.scores)

    @property
    def sd(self) -> float:
        """Sample standard deviation; 0 for a single episode."""
        n, mean = len(self.scores), self.mean
        return math.sqrt(math.fsum((x - mean) ** 2 for x in self.scores) / (n - 1)) if n > 1 else 0.0

    @property
    def min(self) -> float:
        return min(self.scores)

    @property
    def worst_seed(self) -> int:
        """Seed of the lowest score."""
        return self.seeds[self.scores.index(self.min)]

    @property
    def p10(self) -> float:
        """The score that one episode in ten stays below (linear between neighbours)."""
        ordered = sorted(self.scores)
        place = 0.1 * (len(ordered) - 1)
        below = int(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    def failures(self, threshold: float = THRESHOLD) -> int:
        """Episodes below threshold."""
        return sum(score < threshold for score in self.scores)

    def ci95(self) -> tuple[float, float]:
        """95 % interval of the mean over such episodes, by Student's t; both ends are the mean for one episode."""
        n = len(self.scores)
        half = student_t(n - 1) * self.sd / math.sqrt(n) if n > 1 else 0.0
        return self.mean - half, self.mean + half


def student_t(freedom: int) -> float:
    """The 97.5 % point of Student's t.

    Exact for 1 and 2 degrees of freedom; above, the expansion in 1/freedom around the normal distribution
    (Abramowitz and Stegun 26.7.5), within 0.5 % at 3 and 0.01 % from 10 on.
    """
    if freedom < 1:
        raise ValueError(f"freedom: got {freedom}; allowed 1 or more")
    if freedom <= 2:
        return (12.706204736, 4.302652730)[freedom - 1]
    z = 1.959963985
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def expert_actor(actions: str = "continuous") -> Actor:
    """The scripted driver. It steers and uses its pedals by degrees, so it needs such an action set.

    Raises:
        UserError: actions is neither "continuous" nor "pedals".
    """
    if actions not in ("continuous", "pedals"):
        raise UserError("the expert cannot drive with these actions", got=actions, allowed=("continuous", "pedals"))
    planned: list[tuple[Tracks, Line]] = []

    def actor(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        del obs
        if not planned or planned[0][0] is not tracks:
            planned[:] = [(tracks, build_lines(tracks))]
        controls = act(planned[0][1], tracks, state)
        if actions == "continuous":
            return controls
        # never both pedals at once, so their difference says it all
        return torch.stack((controls[:, 0], controls[:, 1] - controls[:, 2]), 1)

    return actor


def random_actor(actions: str = "continuous", seed: int = 0) -> Actor:
    """Uniform draws from the action space, by a hash of (seed, the track's seed, frame) and of nothing else."""
    space = action_space(actions)

    def actor(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        del obs
        road = tracks.seed[state.track]
        size = space.shape[0] if space.shape else 1
        draws = [hash_u32(seed, road, state.frames, _NOISE_STREAM + k) for k in range(size)]
        if not space.shape:
            return draws[0] % int(space.n)  # type: ignore[union-attr]
        share = torch.stack(draws, 1).to(torch.float64) / 2**32
        low, high = (torch.as_tensor(edge, device=share.device) for edge in (space.low, space.high))  # type: ignore[union-attr]
        return (low + (high - low) * share).to(torch.float32)

    return actor


@lru_cache(maxsize=2)
def _roads(seeds: tuple[int, ...], device: str) -> Tracks:
    """Tables of these seeds' roads; kept, because a training run validates on the same ones again and again."""
    return build_tracks([centreline_of_seed(seed) for seed in seeds], seeds, device)


def scored(config: SimConfig | None, colours: bool = False) -> SimConfig:
    """The task of a driver as it is scored: how it was paid, and what colours it was shown, belongs to training.

    ``colours`` shows other ones in every episode.
    """
    plain = replace(config or SimConfig(), domain_randomize=colours, indicators="original")
    return replace(plain, gap_cost=0.0, gap_cost_start=None, patience=0)


def play_twin(
    actor: Actor,
    seeds: Sequence[int],
    sim_config: SimConfig | None = None,
    device: torch.device | str = "cpu",
    count: Callable[[Tensor, Tensor], None] | None = None,
    colours: bool = False,
) -> Scores:
    """One episode per seed in the batched simulator, all at once.

    Args:
        actor: who drives.
        seeds: of the tracks.
        sim_config: the task.
        device: where.
        count: is shown the actions of every step, and [B] bool whose episode is not over yet.
        colours: other ones in every episode.
    """
    began = time.monotonic()
    tracks = _roads(tuple(seeds), str(device))
    sim = Sim(tracks, len(seeds), scored(sim_config, colours))
    obs = sim.reset()
    score = torch.zeros(len(seeds), dtype=torch.float64, device=tracks.device)
    frames = torch.zeros(len(seeds), dtype=torch.int64, device=tracks.device)
    live = torch.ones(len(seeds), dtype=torch.bool, device=tracks.device)
    with torch.inference_mode():
        while bool(live.any()):
            action = actor(obs, tracks, sim.state)
            if count is not None:
                count(action, live)
            outcome = sim.step(action)
            obs = outcome.obs
            score += torch.where(live, outcome.reward.double(), 0.0)
            frames += torch.where(live, outcome.frames, 0)
            live &= ~outcome.done
    return Scores(tuple(seeds), tuple(score.tolist()), tuple(frames.tolist()), time.monotonic() - began)


def play_original(
    actor: Actor,
    seeds: Sequence[int],
    sim_config: SimConfig | None = None,
    count: Callable[[Tensor], None] | None = None,
    colours: bool = False,
) -> Scores:
    """One episode per seed in the original CarRacing-v3, side by side in this process, decisions taken as a batch.

    Args:
        actor: who drives.
        seeds: of the episodes.
        sim_config: the task.
        count: is shown the actions of every step.
        colours: other ones in every episode, as the original draws them with domain_randomize.

    Raises:
        UserError: Box2D missing.
    """
    began = time.monotonic()
    config = scored(sim_config, colours)
    envs = [OriginalEnv.of(config) for _ in seeds]
    for env, seed in zip(envs, seeds, strict=True):
        env.restart(seed)
    tracks = build_tracks([env.line for env in envs], seeds)
    scores, frames = [0.0] * len(envs), [0] * len(envs)
    live = list(range(len(envs)))
    with torch.inference_mode():
        while live:
            seen, state = _look([envs[row] for row in live], tracks, live, config)
            action = actor(seen, tracks, state)
            if count is not None:
                count(action)
            controls = controls_of(config.actions, action)
            still = []
            for place, row in enumerate(live):
                reward, terminated, truncated, _ = envs[row].advance(controls[place])
                scores[row] += reward
                if terminated or truncated:
                    frames[row] = envs[row].frames
                    envs[row].close()
                else:
                    still.append(row)
            live = still
    return Scores(tuple(seeds), tuple(scores), tuple(frames), time.monotonic() - began)


def _look(
    envs: Sequence[OriginalEnv], tracks: Tracks, rows: Sequence[int], config: SimConfig
) -> tuple[Tensor, CarState]:
    """Observations and states of some originals, of which each drives on its row of tracks."""
    state = replace(read_states(envs, tracks.max_tiles), track=torch.tensor(rows))
    if config.obs == "pixels":
        return torch.stack([torch.from_numpy(env.observation()) for env in envs]), state
    return look_fast(tracks, state.map(Tensor.contiguous), config), state


def play_original_in_workers(
    make_actor: Callable[[str, str], Actor],
    who: str,
    seeds: Sequence[int],
    sim_config: SimConfig | None = None,
    workers: int | None = None,
    colours: bool = False,
) -> Scores:
    """play_original, the seeds shared out among this process and spawned ones.

    Args:
        make_actor: a function at the top of a module: (who, actions) -> Actor. It runs inside each worker, so that only
            plain data crosses over.
        who: what make_actor understands: "expert", "random", a run folder.
        seeds, sim_config, colours: as play_original takes them.
        workers: processes, this one included; None = one per core, but a single one for few episodes.
    """
    config = sim_config or SimConfig()
    few = EPISODES_FOR_WORKERS if config.obs != "pixels" else PICTURE_EPISODES_FOR_WORKERS
    count = workers or (available_cores() if len(seeds) >= few else 1)
    count = min(count, len(seeds))
    if count == 1:
        return play_original(make_actor(who, config.actions), seeds, config, colours=colours)
    began = time.monotonic()
    parts = [tuple(seeds[k::count]) for k in range(count)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count - 1, mp_context=context) as pool:
        jobs = [pool.submit(_part, make_actor, who, part, config, colours) for part in parts[1:]]
        # this process plays while the others start
        played = [play_original(make_actor(who, config.actions), parts[0], config, colours=colours)]
        played += [job.result() for job in jobs]
    by_seed = {
        seed: (score, frames)
        for part in played
        for seed, score, frames in zip(part.seeds, part.scores, part.frames, strict=True)
    }
    scores, frames = zip(*(by_seed[seed] for seed in seeds), strict=True)
    return Scores(tuple(seeds), scores, frames, time.monotonic() - began)


def _part(
    make_actor: Callable[[str, str], Actor], who: str, seeds: Sequence[int], config: SimConfig, colours: bool
) -> Scores:
    torch.set_num_threads(1)
    return play_original(make_actor(who, config.actions), seeds, config, colours=colours)


def scripted_actor(who: str, actions: str) -> Actor:
    """The drivers that need no run: "expert" and "random".

    Raises:
        UserError: any other name.
    """
    if who == "expert":
        return expert_actor(actions)
    if who == "random":
        return random_actor(actions)
    raise UserError("unknown scripted driver", got=who, allowed=("expert", "random"))
