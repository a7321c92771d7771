"""The batched simulator: tracks, cars and rules behind reset and step.

`decide` is the reference in plain torch and runs on every device. On the CPU the same decision is taken by `kernel.py`;
deleting the lines that call it leaves correct code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from . import kernel
from .actions import action_space, to_controls
from .errors import UserError, nearest
from .frame import frame, start_states
from .noise import TRACK_STREAM, hash_u32
from .observe import OBS_SIZE, observe
from .paint import Paint, paint
from .sight import OBSERVATIONS, Eyes, observation_space
from .spec import GAP_MARGIN, GAP_REACH, RULES
from .state import CarState
from .track import Tracks
from .view import PICTURES, SIZES, channels

LAP_RULES = ("all", "percent")
INDICATORS = ("original", "random")
MAX_BEAMS = 256


@dataclass(frozen=True)
class SimConfig:
    """What a driver sees, does and is paid for."""

    obs: str = "state"
    actions: str = "continuous"
    frame_skip: int = 1
    """frames an action is held for"""
    lap_rule: str = "all"
    picture: str = "rgb"
    """colours of obs="pixels": rgb, grey, or numbers of view.PALETTE"""
    picture_size: int = 96
    """px, columns of a picture"""
    crop: bool = False
    """leave out the rows of indicators"""
    frame_stack: int = 1
    """pictures that an observation holds, the newest last"""
    indicators: str = "original"
    """ "random": the score is written in another way in every episode, as versions of the original do"""
    domain_randomize: bool = False
    """other colours in every episode"""
    beams: int = 19
    """of obs="lidar" """
    beam_range: float = 40.0
    """u, how far a beam reaches"""
    hide_motion: bool = False
    """of numbers: those that tell how fast the car moves are 0 (observe.MOTION); nobody drives well then who forgets"""
    gap_cost: float = 0.0
    """training pay: what a gap in the row of touched tiles costs, and a lap given up; 0 pays as CarRacing-v3 does"""
    gap_cost_start: float | None = None
    """training: what gap_cost begins with where that is less (see Sim.schedule); None = no rise"""
    patience: int = 0
    """training: frames without a new tile after which an episode ends as hopeless; 0 = never"""

    def __post_init__(self) -> None:
        known = {
            "obs": OBSERVATIONS,
            "lap_rule": LAP_RULES,
            "picture": PICTURES,
            "picture_size": SIZES,
            "indicators": INDICATORS,
        }
        for name, allowed in known.items():
            got = getattr(self, name)
            if got not in allowed:
                near = nearest(str(got), map(str, allowed))
                raise UserError(f"unknown {name}", got=got, allowed=allowed, fix=f"try {near}" if near else None)
        action_space(self.actions)
        self._check_sight()
        if self.frame_skip < 1:
            raise UserError("frame_skip is too small", got=self.frame_skip, allowed="1 or more")
        if self.patience < 0:
            raise UserError("patience is negative", got=self.patience, allowed="0 (never) or more")
        if not 0.0 <= self.gap_cost < math.inf:
            raise UserError("gap_cost is no cost", got=self.gap_cost, allowed="0 (as in CarRacing-v3) or more")
        if self.gap_cost_start is not None and not 0.0 < self.gap_cost_start < math.inf:
            raise UserError("gap_cost_start is no cost", got=self.gap_cost_start, allowed="more than 0")

    def _check_sight(self) -> None:
        if self.frame_stack < 1:
            raise UserError("frame_stack is too small", got=self.frame_stack, allowed="1 or more")
        if self.frame_stack > 1 and self.obs != "pixels":
            raise UserError(
                "only pictures are stacked", got=f"frame_stack={self.frame_stack}, obs={self.obs}", allowed="1"
            )
        if not 1 <= self.beams <= MAX_BEAMS:
            raise UserError("beams is out of range", got=self.beams, allowed=f"1 to {MAX_BEAMS}")
        if not 0.0 < self.beam_range < math.inf:
            raise UserError("beam_range is no distance", got=self.beam_range, allowed="more than 0")
        if self.hide_motion and self.obs == "pixels":
            fix = "pictures show no motion with crop=True and frame_stack=1"
            raise UserError("hide_motion hides numbers", got="obs=pixels", allowed="state, lidar", fix=fix)
        if self.picture == "palette" and self.domain_randomize:
            raise UserError("a palette needs the original's colours", got="domain_randomize", fix='use picture="rgb"')


@dataclass(frozen=True)
class Lanes:
    """Book-keeping of B lanes: which episode runs, and how the training rewards stand."""

    episode: Tensor  # [B] int64
    far: Tensor  # [B] int64, farthest tile along the road that was reached
    gaps: Tensor  # [B] int64, gaps in the row of touched tiles behind it
    idle: Tensor  # [B] int64, frames since a new tile was touched


@dataclass(frozen=True)
class Outcome:
    """What a step led to. `next_obs` and the episode fields describe the moment before any reset."""

    obs: Tensor  # [B, …], the first of a new episode where one ended
    next_obs: Tensor  # [B, …], what the action led to
    reward: Tensor  # [B]
    terminated: Tensor  # [B] bool: the future is worth nothing
    truncated: Tensor  # [B] bool: the future is cut off
    lap_finished: Tensor  # [B] bool
    frames: Tensor  # [B] int64, simulator frames of this step
    episode_return: Tensor  # [B] score of the episode so far, by the rules of CarRacing-v3
    episode_frames: Tensor  # [B] int64

    @property
    def done(self) -> Tensor:
        """[B] bool: an episode ended."""
        return self.terminated | self.truncated

    @property
    def valid(self) -> None:
        """Every row is a transition."""


def decide(
    tracks: Tracks, state: CarState, lanes: Lanes, controls: Tensor, config: SimConfig
) -> tuple[CarState, Lanes, dict[str, Tensor]]:
    """Holds controls [B, 3] for the frames of one step and stops each car at the frame that ends its episode."""
    zero, never = torch.zeros_like(state.heading), torch.zeros_like(state.frames, dtype=torch.bool)
    total = {"reward": zero, "terminated": never, "truncated": never, "lap_finished": never}
    total |= {"frames": torch.zeros_like(state.frames), "episode_return": zero}
    ended = never
    for _ in range(config.frame_skip):
        after, verdict = frame(tracks, state, controls, config.lap_rule)
        outside = verdict.terminated & ~verdict.lap_finished
        per_tile = RULES.lap_reward / tracks.num_tiles[after.track]
        score = after.visited_count * per_tile - RULES.frame_cost * after.frames
        correction = RULES.out_of_field - verdict.gained * per_tile + RULES.frame_cost
        reward = verdict.reward
        far, gaps = lanes.far, lanes.gaps
        if config.gap_cost > 0:
            far = farthest(after.visited, far)
            gaps = count_gaps(after.visited, far)
        idle = torch.where(verdict.gained > 0, 0, lanes.idle + 1)
        lost = (idle >= config.patience) if config.patience else never
        reward = torch.where(outside, reward, reward - config.gap_cost * (gaps - lanes.gaps + lost))
        latest = {
            "reward": total["reward"] + reward,
            "terminated": verdict.terminated | lost,
            "truncated": verdict.truncated,
            "lap_finished": verdict.lap_finished,
            "frames": total["frames"] + 1,
            "episode_return": score + torch.where(outside, correction, zero),
        }
        total = {name: torch.where(ended, total[name], value) for name, value in latest.items()}
        state = state.where(ended, after)
        lanes = replace(
            lanes,
            far=torch.where(ended, lanes.far, far),
            gaps=torch.where(ended, lanes.gaps, gaps),
            idle=torch.where(ended, lanes.idle, idle),
        )
        ended = total["terminated"] | total["truncated"]
    return state, lanes, total | {"episode_frames": state.frames}


_RESULT = [f.name for f in fields(Outcome) if f.name not in ("obs", "next_obs")]


def farthest(visited: Tensor, far: Tensor) -> Tensor:
    """[B] int64: the farthest tile touched within reach of the one before, of visited [B, N] and far [B]."""
    tile = torch.arange(visited.shape[1], device=far.device)
    ahead = visited & (tile > far[:, None]) & (tile <= far[:, None] + GAP_REACH)
    return torch.maximum(far, torch.where(ahead, tile, 0).amax(1))


def count_gaps(visited: Tensor, far: Tensor) -> Tensor:
    """[B] int64: runs of untouched tiles that began clearly behind tile far [B], of visited [B, N]."""
    tile = torch.arange(1, visited.shape[1], device=far.device)
    begins = visited[:, :-1] & ~visited[:, 1:] & (tile <= far[:, None] - GAP_MARGIN)
    return begins.sum(1)


class Sim:
    """B cars on P tracks. Episode 0 of lane i is on track i mod P, later ones on a hash of (seed, lane, episode).

    Args:
        tracks: the roads, on the device where everything shall happen.
        num_envs: B.
        config: see SimConfig.
        seed: of the later episodes' tracks.
        fast: None takes the compiled kernel on the CPU; False forces plain torch.
    """

    exact_state = True
    """whether state_tensors hold the running episodes"""

    def __init__(
        self, tracks: Tracks, num_envs: int, config: SimConfig | None = None, seed: int = 0, fast: bool | None = None
    ) -> None:
        if num_envs < 1:
            raise UserError("num_envs is too small", got=num_envs, allowed="1 or more")
        self.tracks, self.num_envs, self.config, self.seed = tracks, num_envs, config or SimConfig(), seed
        self.full_gap_cost = self.config.gap_cost
        self.device = tracks.device
        self.single_observation_space: Box = observation_space(self.config)
        self.single_action_space: Box | Discrete = action_space(self.config.actions)
        self.channels = channels(self.config) if self.config.obs == "pixels" else None
        self.time_limit = math.ceil(RULES.time_limit / self.config.frame_skip)
        self.lane = torch.arange(num_envs, device=self.device)
        self.start = start_states(tracks)
        self.fast = self.device.type == "cpu" if fast is None else fast
        self.state: CarState = self.start.take(self.lane % tracks.num_tracks)
        self.lanes = self._fresh_lanes()
        self.paint = self._paint()
        self.eyes = Eyes(self.config, num_envs, self.device, self.fast)
        self._bind()

    def reset(self, paint: Paint | None = None) -> Tensor:
        """Starts episode 0 of every lane. Returns obs [B, …].

        Args:
            paint: of every lane's world until its episode ends; None = as the config says.
        """
        self.state = self.start.take(self.lane % self.tracks.num_tracks)
        self.lanes = self._fresh_lanes()
        self.paint = paint or self._paint()
        self._bind()
        return self.observe()

    def scatter(self, generator: torch.Generator) -> None:
        """Uses up a random part of every lane's time limit, so that lanes do not run out of it together."""
        limit = torch.tensor(RULES.time_limit, device=generator.device)
        used = torch.rand(self.num_envs, generator=generator, device=generator.device) * limit
        self.state.frames.copy_(used.long())

    def schedule(self, share: float) -> None:
        """Sets what gaps cost when this share of a training (0 to 1) is done.

        With a gap_cost_start the cost rises from there until half of the training is done: to drive fast is learned
        first, to leave nothing out second.
        """
        if self.config.gap_cost_start is None:
            return
        start = min(self.config.gap_cost_start, self.full_gap_cost)
        left = max(0.0, 1.0 - 2.0 * share)
        self.charge(self.full_gap_cost + (start - self.full_gap_cost) * left)

    def charge(self, gap_cost: float) -> None:
        """From now on, gaps cost so much in training (see SimConfig)."""
        self.config = replace(self.config, gap_cost=gap_cost)
        self._set_rules()

    def observe(self) -> Tensor:
        """[B, …] of the present state; a stack of pictures begins anew with it."""
        return self.eyes.open(self.tracks, self.state, self.paint)

    def step(self, action: Tensor) -> Outcome:
        """One decision for every car, and a new episode where one ended (SAME_STEP).

        Args:
            action: as the action set asks: float [B, A] or int64 [B]; no gradient flows through a step.

        Returns:
            Tensors that the next step may overwrite.
        """
        controls = to_controls(self.config.actions, action.detach())
        if self.fast:
            kernel.decide(self._world, self._start, self._cars, self._lanes, self._out, controls.numpy(), self._rules)
            if self._whole:
                return self._outcome
            result = {name: getattr(self._outcome, name) for name in _RESULT}
        else:
            self.state, self.lanes, result = decide(self.tracks, self.state, self.lanes, controls, self.config)
        next_obs = self.eyes.look(self.tracks, self.state, self.paint)
        done = result["terminated"] | result["truncated"]
        return Outcome(obs=self._restart(done, next_obs), next_obs=next_obs, **result)

    def _restart(self, done: Tensor, next_obs: Tensor) -> Tensor:
        """Puts the lanes of done [B] on their next track. Returns obs [B, …] after it."""
        if self.fast:
            if not bool(done.any()):
                return next_obs
            kernel.restart(self._start, self._cars, self._lanes, done.numpy(), self.seed)
        else:
            episode = self.lanes.episode + done
            fresh = self.start.take(self._draw(self.lane, episode))
            self.state = fresh.where(done, self.state)
            kept = {f.name: torch.where(done, 0, getattr(self.lanes, f.name)) for f in fields(Lanes)}
            self.lanes = Lanes(**kept | {"episode": episode})
        self.paint = self._paint().where(done, self.paint)
        return self.eyes.reopen(self.tracks, self.state, self.paint, done, next_obs)

    def restart(self, lanes: Tensor) -> Tensor:
        """Begins the next episode of the lanes [B] bool. Returns obs [B, …] of all."""
        return self._restart(lanes, self.observe() if self._whole else self.eyes.seen)

    @property
    def _whole(self) -> bool:
        """Whether the kernel does all there is: it also observes, and begins new episodes."""
        return self.fast and self.config.obs == "state" and not self.config.hide_motion

    def _draw(self, lane: Tensor, episode: Tensor) -> Tensor:
        drawn = hash_u32(self.seed, lane, episode, TRACK_STREAM)
        return torch.where(episode == 0, lane, drawn) % self.tracks.num_tracks

    def _paint(self) -> Paint:
        config = self.config
        random = config.domain_randomize, config.indicators == "random"
        return paint(self.seed, self.lane, self.lanes.episode, *random)

    def _fresh_lanes(self) -> Lanes:
        return Lanes(*(torch.zeros(self.num_envs, dtype=torch.int64, device=self.device) for _ in fields(Lanes)))

    def _bind(self) -> None:
        """Numpy views of the memory that the kernel works on."""
        if not self.fast:
            return
        self.state = self.state.map(lambda x: x.contiguous())
        b, flag, count = self.num_envs, torch.bool, torch.int64
        whole = self._whole
        self._outcome = Outcome(
            obs=torch.zeros(b, OBS_SIZE if whole else 0),
            next_obs=torch.zeros(b, OBS_SIZE if whole else 0),
            reward=torch.zeros(b),
            terminated=torch.zeros(b, dtype=flag),
            truncated=torch.zeros(b, dtype=flag),
            lap_finished=torch.zeros(b, dtype=flag),
            frames=torch.zeros(b, dtype=count),
            episode_return=torch.zeros(b),
            episode_frames=torch.zeros(b, dtype=count),
        )
        self._world = kernel.views(self.tracks, kernel.World)
        self._cars = kernel.views(self.state, kernel.Cars)
        self._lanes = kernel.views(self.lanes, kernel.Lanes)
        self._out = kernel.views(self._outcome, kernel.Result)
        start = [getattr(self.start, name).contiguous().numpy() for name in kernel.Start._fields[:-1]]
        self._start = kernel.Start._make([*start, observe(self.tracks, self.start).numpy()])
        self._set_rules()

    def _set_rules(self) -> None:
        config = self.config
        percent = config.lap_rule == "percent"
        self._rules = (config.frame_skip, percent, config.gap_cost, config.patience, self.seed, self._whole)

    def close(self) -> None:
        """There is nothing to let go of."""

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name: what an exact resume needs."""
        cars = {f"car.{f.name}": getattr(self.state, f.name) for f in fields(CarState)}
        lanes = {f"lane.{f.name}": getattr(self.lanes, f.name) for f in fields(Lanes)}
        return cars | lanes | ({"seen": self.eyes.seen} if self.config.frame_stack > 1 else {})

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what state_tensors gave.

        Raises:
            UserError: a tensor is missing or has another shape.
        """
        for name, here in self.state_tensors().items():
            there = tensors.get(name)
            if there is None or there.shape != here.shape:
                got = None if there is None else tuple(there.shape)
                raise UserError(f"simulator state {name} does not fit", got=got, allowed=tuple(here.shape))
            here.copy_(there)
        self.paint = self._paint()
