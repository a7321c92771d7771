"""Policies as those who drive: with one face whether they remember or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeGuard

import torch
from torch import Tensor

from ..envs.state import CarState
from ..envs.track import Tracks
from ..policies.cores import Memory
from ..policies.policy import Policy
from ..policies.qnet import QPolicy
from .evaluate import Actor

if TYPE_CHECKING:
    from .build import AnyPolicy


class Decider(Protocol):
    """Whoever decides on sight."""

    def act(self, obs: Tensor) -> Tensor:
        """Actions [B, …] for observations [B, …]."""


class Recall:
    """A policy that remembers, for those who keep its memory; see envs.episodes.Recall.

    Args:
        policy: one with a core.
    """

    def __init__(self, policy: AnyPolicy) -> None:
        self.policy = policy

    def start(self, num_lanes: int) -> Tensor:
        """Memory [B, M] of lanes that have seen nothing."""
        return self.policy.core.start(num_lanes, self.policy.device).kept

    def decide(self, obs: Tensor, memory: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [B, …] without exploration, and what is remembered [B, M]; first [B] bool begin an episode."""
        return self.policy.act_with(obs, Memory(memory, first))


class OneLane:
    """A policy that plays one episode after the other in one environment, without exploration."""

    def __init__(self, policy: AnyPolicy) -> None:
        self.policy = policy
        self.begin()

    def begin(self) -> None:
        """What is seen next is the first observation of an episode."""
        policy = self.policy
        self.memory = policy.core.start(1, policy.device) if policy.remembers else None

    def act(self, obs: Tensor) -> Tensor:
        """Action [1, …] for an observation [1, …]."""
        if self.memory is None:
            return self.policy.act(obs)
        action, kept = self.policy.act_with(obs, self.memory)
        self.memory = Memory(kept, torch.zeros_like(self.memory.first))
        return action


def remembers(policy: object) -> TypeGuard[Policy | QPolicy]:
    """Whether it is a policy with memory."""
    return isinstance(policy, Policy | QPolicy) and policy.remembers


def racing_actor(policy: Decider) -> Actor:
    """A policy as a driver, without exploration. Where it remembers, it knows cars by their row or their track."""
    if not remembers(policy):

        def on_sight(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
            del tracks, state
            return policy.act(obs)

        return on_sight
    recall = Recall(policy)
    kept: dict[str, Tensor] = {}

    def actor(obs: Tensor, tracks: Tracks, state: CarState) -> Tensor:
        # where episodes have ended and their cars are gone, one car is left to each track that is still driven
        rows = state.track if len(obs) < tracks.num_tracks else torch.arange(len(obs), device=obs.device)
        if "table" not in kept:
            kept["table"] = recall.start(max(len(obs), tracks.num_tracks))
        action, kept["table"][rows] = recall.decide(obs, kept["table"][rows], state.frames == 0)
        return action

    return actor
