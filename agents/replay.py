"""Experience kept on the device: a ring of rows for each lane, from which transitions are drawn and put together.

A row holds what was seen, the action taken there and what came of it; what that led to is seen in the row behind. Where
an episode is cut off by time, its last observation takes a row of its own, which is no transition; nor is the row at
the write head, which is seen but not acted in yet. Such rows are never drawn, and sums of rewards end at them.

Of pictures, each row keeps the newest only; an observation is a stack of them, made when it is asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from gymnasium.spaces import Box
from torch import Tensor

from ..envs.errors import UserError
from .dqn_config import DQNConfig
from .priorities import SumTree
from .targets import n_step

EXIT_MEMORY = 8
HEADROOM = 0.9
"""of what is free, that a suggested size fills: a training needs more than its replay"""
TRIES = 8
"""rows looked at for each that is drawn: nearly all are transitions"""
SMALLEST_ERROR = 1e-6
"""added to errors, so that no priority is 0 (Schaul et al. 2016, section 3.3)"""
ROW_BYTES = 8 + 4 + 3 + 1
"""of a row beside what was seen: action, reward, three flags, age"""
TREE_BYTES = 8.3
"""of a priority and its share of the sums"""


@dataclass(frozen=True)
class Steps:
    """T steps of B lanes in the order they were taken. Of pictures only the newest in every stack."""

    obs: Tensor  # [T, B, O]; pictures uint8 [T, B, H, W, C]
    next_obs: Tensor  # the same of what the action led to, before any reset
    action: Tensor  # [T, B] int64, counted from 0
    reward: Tensor  # [T, B]
    terminated: Tensor  # [T, B] bool: the future is worth nothing
    truncated: Tensor  # [T, B] bool: the future is cut off
    frames: Tensor  # [T, B] int64
    episode_return: Tensor  # [T, B] score of the running episode
    episode_frames: Tensor  # [T, B] int64
    lap_finished: Tensor | None = None  # [T, B] bool
    valid: Tensor | None = None  # [T, B] bool: False is no transition; None = all are

    @property
    def done(self) -> Tensor:
        """[T, B] bool."""
        return self.terminated | self.truncated

    @property
    def num_samples(self) -> int:
        """Transitions; waits for the device where some rows are none."""
        return self.reward.numel() if self.valid is None else int(self.valid.sum())


class Transitions(NamedTuple):
    """S transitions of up to n steps to learn from."""

    obs: Tensor  # [S, O]; pictures uint8 [S, H, W, C·k]
    action: Tensor  # [S] int64
    return_: Tensor  # [S] discounted sum of the rewards
    discount: Tensor  # [S] of the value of next_obs
    next_obs: Tensor  # as obs


class Replay:
    """The newest transitions of B lanes, at places numbered lane·R + row.

    Args:
        obs: [B, …], the first observations.
        rows: R, of each lane.
        channels: C, of one picture; None where observations are numbers.
        prioritized: draw in proportion to priorities, otherwise every transition alike.
    """

    def __init__(self, obs: Tensor, rows: int, channels: int | None, prioritized: bool) -> None:
        self.lanes, self.rows, self.channels = len(obs), rows, channels
        self.depth = 1 if channels is None else obs.shape[-1] // channels
        size, device = self.lanes * rows, obs.device
        self.nowhere = size  # a place for what is to be forgotten
        self.obs = torch.zeros(size + 1, *newest(obs, channels).shape[1:], dtype=obs.dtype, device=device)
        self.action = torch.zeros(size + 1, dtype=torch.int64, device=device)
        self.reward = torch.zeros(size + 1, device=device)
        self.terminated, self.truncated, self.valid = (
            torch.zeros(size + 1, dtype=torch.bool, device=device) for _ in range(3)
        )
        self.age = torch.zeros(size + 1, dtype=torch.uint8, device=device)  # earlier pictures of the same episode
        self.first = torch.arange(self.lanes, device=device) * rows  # [B] place of row 0
        self.head = torch.zeros(self.lanes, dtype=torch.int64, device=device)  # row that is seen, but not acted in yet
        self.top = torch.ones((), dtype=torch.int64, device=device)  # rows in use, of the fullest lane
        self.tree = SumTree(size, device) if prioritized else None
        self.highest = torch.ones((), device=device)  # priority of what was never learned from
        pictures = obs[..., None, :] if channels is None else obs.unflatten(-1, (self.depth, channels))
        for k in range(self.depth):  # what the first stacks hold are earlier pictures of the stacks to come
            self.obs[self.first + k], self.age[self.first + k] = pictures[..., k, :], k
        self.head.fill_(self.depth - 1)
        self.top.fill_(self.depth)

    def add(self, steps: Steps) -> Tensor:
        """Takes up steps that go on from where the last ones ended; returns the place of each, [T, B].

        At most R/2 − k steps, or a lane would overtake itself.
        """
        valid = torch.ones_like(steps.terminated) if steps.valid is None else steps.valid
        cut = steps.truncated & ~steps.terminated & valid
        taken = valid.long() + cut.long()
        before = torch.cat((torch.zeros_like(taken[:1]), taken.cumsum(0)))  # [T + 1, B] rows since the old head
        row = self.head + before
        place = torch.where(valid, self.first + row[:-1] % self.rows, self.nowhere)
        behind = torch.where(valid, self.first + (row[:-1] + 1) % self.rows, self.nowhere)
        head = self.first + row[-1] % self.rows
        if self.depth > 1:
            age = self._ages(before, steps.done & valid)
            self.age[behind] = (age[:-1] + 1).clamp(max=self.depth - 1).to(torch.uint8)
            self.age[place], self.age[head] = age[:-1].to(torch.uint8), age[-1].to(torch.uint8)
        # What the actions led to comes first: where an episode did not end it is what is seen next, where it ended for
        # good the next episode takes its place.
        self.obs[behind] = steps.next_obs
        self.obs[place] = steps.obs
        self.action[place], self.reward[place] = steps.action, steps.reward
        self.terminated[place], self.truncated[place] = steps.terminated, steps.truncated
        self.valid[behind] = False
        self.valid[place] = valid
        self.head.copy_(row[-1] % self.rows)
        self.top.copy_(torch.maximum(self.top, row[-1].max() + 1).clamp(max=self.rows))
        gone = self._forget(head)
        if self.tree is not None:
            self._enter(torch.cat((place.flatten(), behind.flatten(), gone)))
        return place

    def interrupt(self, obs: Tensor) -> None:
        """Every lane begins a new episode with obs [B, …], and what was seen last there leads nowhere."""
        old = self.first + self.head
        self.head.copy_((self.head + 1) % self.rows)
        head = self.first + self.head
        self.obs[head], self.age[head], self.valid[head] = newest(obs, self.channels), 0, False
        self.top.copy_(torch.maximum(self.top, self.head.max() + 1).clamp(max=self.rows))
        gone = self._forget(head)
        if self.tree is not None:
            self._enter(torch.cat((old, gone)))

    def _ages(self, before: Tensor, done: Tensor) -> Tensor:
        """[T + 1, B] earlier pictures of the same episode, up to k − 1, that each new row may look back on."""
        at_head = self.age[self.first + self.head].long()
        begun = torch.cat((-at_head[None], torch.where(done, before[1:], -self.rows)))
        return (before - begun.cummax(0).values).clamp(max=self.depth - 1)

    def _forget(self, head: Tensor) -> Tensor:
        """Rows at places head [B] are no transitions, nor are those whose stacks reach back to them. Returns all."""
        ahead = torch.arange(self.depth, device=head.device)[:, None]
        places = self.first + (self.head + ahead) % self.rows  # [k, B]
        self.valid[places] &= self.age[places] < ahead
        return places.flatten()

    def _enter(self, places: Tensor) -> None:
        """Gives the rows at places the highest priority, or none if they are no transitions."""
        assert self.tree is not None
        kept = torch.where(places == self.nowhere, self.first[0] + self.head[0], places)  # a row that is no transition
        self.tree.update(kept, torch.where(self.valid[kept], self.highest, 0.0))

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Places [S] of transitions, and the probability [S] with which each was drawn; None = all alike."""
        if self.tree is not None:
            return self.tree.sample(count, generator)
        point = torch.empty(TRIES, count, dtype=torch.float64, device=self.head.device).uniform_(generator=generator)
        at = (point * (self.lanes * self.top)).long()
        lane = torch.div(at, self.top, rounding_mode="floor").clamp(max=self.lanes - 1)
        place = self.first[lane] + at % self.top
        found = self.valid[place].to(torch.uint8).max(0)
        drawn = place.gather(0, found.indices[None])[0]
        return torch.where(found.values.bool(), drawn, self._latest(lane[0])), None

    def _latest(self, lane: Tensor) -> Tensor:
        """Places of the newest transitions of lanes [S]; a last observation of a cut-off episode may come behind."""
        row = self.head[lane]
        last = self.first[lane] + (row - 1) % self.rows
        return torch.where(self.valid[last], last, self.first[lane] + (row - 2) % self.rows)

    def judge(self, places: Tensor, error: Tensor, alpha: float) -> None:
        """Sets the priorities of places [S] with errors [S] to (|error| + ε)^α (Schaul et al. 2016, eq. 1)."""
        assert self.tree is not None
        priority = (error.abs() + SMALLEST_ERROR) ** alpha
        self.tree.update(places, priority)
        self.highest.copy_(torch.maximum(self.highest, priority.max()))

    def transitions(self, places: Tensor, steps: int, gamma: float) -> Transitions:
        """What happened from places [S] on, up to a number of steps ahead and never beyond an episode or the head."""
        lane = torch.div(places, self.rows, rounding_mode="floor")
        first, row = self.first[lane], places - self.first[lane]
        ahead = first[:, None] + (row[:, None] + torch.arange(steps, device=places.device)) % self.rows  # [S, n]
        came = n_step(self.reward[ahead], self.terminated[ahead], self.truncated[ahead], self.valid[ahead], gamma)
        behind = first + (row + came.length) % self.rows
        return Transitions(self.see(places), self.action[places], came.return_, came.discount, self.see(behind))

    def see(self, places: Tensor) -> Tensor:
        """Observations [S, …] at places [S]."""
        if self.depth == 1:
            return self.obs[places]
        lane = torch.div(places, self.rows, rounding_mode="floor").clamp(max=self.lanes - 1)
        first = self.first[lane]
        back = torch.arange(self.depth - 1, -1, -1, device=places.device)
        back = torch.minimum(back, self.age[places].long()[:, None])  # [S, k]
        stacks = self.obs[first[:, None] + ((places - first)[:, None] - back) % self.rows]  # [S, k, H, W, C]
        return stacks.permute(0, 2, 3, 1, 4).flatten(3)

    def after(self, places: Tensor) -> Tensor:
        """Observations [S, …] that the actions at places [S] led to; of deaths, whatever."""
        lane = torch.div(places, self.rows, rounding_mode="floor").clamp(max=self.lanes - 1)
        first = self.first[lane]
        return self.see(first + (places - first + 1) % self.rows)

    @property
    def size(self) -> Tensor:
        """Transitions that may be drawn, on the device."""
        return self.valid.sum()

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that changes, by name; of the rows only those that are in use."""
        used = int(self.top)
        rows = {
            name: value[: self.nowhere].view(self.lanes, self.rows, *value.shape[1:]) for name, value in self._rows()
        }
        tensors = {name: value[:, :used] for name, value in rows.items()}
        if self.tree is not None:
            tensors |= {f"tree.{name}": value for name, value in self.tree.state_tensors().items()}
        return tensors | {"head": self.head, "top": self.top, "highest": self.highest}

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what state_tensors gave, into a replay made alike.

        Raises:
            KeyError: something is missing.
        """
        used = int(tensors["top"])
        for name, value in self._rows():
            value[: self.nowhere].view(self.lanes, self.rows, *value.shape[1:])[:, :used] = tensors[name].to(
                value.device
            )
        if self.tree is not None:
            self.tree.load_state_tensors({name.removeprefix("tree."): value for name, value in tensors.items()})
        for name in ("head", "top", "highest"):
            getattr(self, name).copy_(tensors[name])

    def _rows(self) -> list[tuple[str, Tensor]]:
        names = ("obs", "action", "reward", "terminated", "truncated", "valid", "age")
        return [(name, getattr(self, name)) for name in names]


def newest(obs: Tensor, channels: int | None) -> Tensor:
    """The newest picture [..., H, W, C] of stacks [..., H, W, C·k]; numbers as they are."""
    return obs if channels is None else obs[..., -channels:]


def replay_bytes(observations: Box, channels: int | None, transitions: int, prioritized: bool) -> int:
    """Bytes that a replay holds.

    Args:
        observations: the space of one lane's.
        channels: of one picture; None where observations are numbers.
        transitions: in the replay.
        prioritized: with priorities.
    """
    *size, last = observations.shape
    seen = math.prod(size) * channels if channels is not None else 4 * math.prod((*size, last))
    return int(transitions * (seen + ROW_BYTES + (TREE_BYTES if prioritized else 0)))


def check_replay(observations: Box, channels: int | None, cfg: DQNConfig, free: int | None) -> None:
    """Refuses a replay that does not fit.

    Args:
        observations: the space of one lane's.
        channels: of one picture; None where observations are numbers.
        cfg: settings.
        free: bytes of memory on the device; None = unknown.

    Raises:
        UserError: more is needed than is free (code 8); names a size that fits and leaves some memory.
    """
    if cfg.buffer == "none" or free is None:
        return
    needed = replay_bytes(observations, channels, cfg.buffer_size, cfg.buffer == "prioritized")
    if needed <= free:
        return
    fits = int(HEADROOM * free * (cfg.buffer_size / needed))
    raise UserError(
        f"out of memory: a replay of {cfg.buffer_size:,} transitions needs {needed / 2**30:.1f} GiB",
        got=f"{free / 2**30:.1f} GiB free",
        allowed=f"up to {fits:,}",
        fix=f"take --buffer-size {fits}",
        code=EXIT_MEMORY,
    )
