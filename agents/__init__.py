"""Learning: how a policy gets better. `PPO`, `DQN`, `Agent` and `load` arrive, with torch, when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import DQN, PPO, Agent, load

__all__ = ["DQN", "PPO", "Agent", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import agent

        return getattr(agent, name)
    raise AttributeError(f"module 'drivetrain.agents' has no attribute {name!r}")
