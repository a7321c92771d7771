"""Who shows how to drive: functions from the states of B cars to their controls, whatever the student sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..envs import lidar
from ..envs.actions import action_space, to_controls
from ..envs.errors import UserError
from ..envs.expert import Line, act
from ..envs.observe import observe
from ..envs.sight import look_fast
from ..envs.sim import SimConfig
from ..envs.state import CarState
from ..envs.track import Tracks
from .players import remembers

if TYPE_CHECKING:
    from .build import AnyPolicy


class Teacher(Protocol):
    """What a good driver would do."""

    def __call__(self, tracks: Tracks, state: CarState) -> Tensor:
        """Controls [B, 3] for B cars: steer, gas, brake."""


def expert_teacher(line: Line) -> Teacher:
    """The scripted driver on its plans."""

    def teach(tracks: Tracks, state: CarState) -> Tensor:
        return act(line, tracks, state)

    return teach


def policy_teacher(policy: AnyPolicy, config: SimConfig) -> Teacher:
    """A trained driver, without exploration.

    Args:
        policy: the driver, on the device of the cars.
        config: what it sees and does.

    Raises:
        UserError: it sees pictures, of which it would need those before, but others drive its cars; or it remembers.
    """
    if remembers(policy):
        raise UserError("this teacher remembers what it saw", got="a core", allowed="core=none")
    if config.obs == "pixels":
        raise UserError("this teacher sees pictures", got=config.obs, allowed=("state", "lidar"))

    def teach(tracks: Tracks, state: CarState) -> Tensor:
        if tracks.device.type == "cpu":
            obs = look_fast(tracks, state, config)
        elif config.obs == "lidar":
            obs = lidar.observe(tracks, state, config.beams, config.beam_range)
        else:
            obs = observe(tracks, state)
        return to_controls(config.actions, policy.act(obs))

    return teach


def check_actions(actions: str) -> None:
    """Imitation needs a steering wheel and pedals that are moved by degrees.

    Raises:
        UserError: any other action set.
    """
    if actions not in ("continuous", "pedals"):
        raise UserError("imitation needs actions by degrees", got=actions, allowed=("continuous", "pedals"))


def from_controls(actions: str, controls: Tensor) -> Tensor:
    """Actions [B, A] of the set "continuous" or "pedals" that do what controls [B, 3] do."""
    if actions == "continuous":
        return controls
    return torch.stack((controls[:, 0], controls[:, 1] - controls[:, 2]), 1)


def nearest(actions: str, controls: Tensor) -> Tensor:
    """[B] int64: of the set "discrete" or "macro", the actions that come nearest to what controls [B, 3] do.

    The distance is Euclidean in steering, twice, and gas minus brake. Of macro, which holds every combination, steering
    and pedals are each the nearest.
    """
    count = int(action_space(actions).n)  # type: ignore[union-attr]
    table = to_controls(actions, torch.arange(count, device=controls.device))
    does, wanted = (torch.stack((2 * x[:, 0], x[:, 1] - x[:, 2]), 1) for x in (table, controls))
    return torch.cdist(wanted, does).argmin(1)
