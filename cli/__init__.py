"""drivetrain: train neural-network drivers, watch them, and score them in the original CarRacing-v3.

Importing this package registers ``drivetrain/Racing-v0`` with Gymnasium. Nothing heavy is imported: torch arrives
with the first environment or agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import register, registry

if TYPE_CHECKING:
    from drivetrain.envs.original import OriginalEnv
    from drivetrain.envs.original import OriginalEnv as original

__all__ = ["OriginalEnv", "__version__", "original"]

__version__ = "0.1.0"

# The time limit of 1,000 frames is the environment's own, at every frame skip: no max_episode_steps here.
if "drivetrain/Racing-v0" not in registry:
    register(
        id="drivetrain/Racing-v0",
        entry_point="drivetrain.envs.gym_single:RacingEnv",
        vector_entry_point="drivetrain.envs.gym_vector:RacingVectorEnv",
        reward_threshold=900.0,
    )


def __getattr__(name: str) -> Any:
    """``drivetrain.original`` and ``drivetrain.OriginalEnv``, imported when first asked for (they need Box2D)."""
    if name in ("original", "OriginalEnv"):
        from drivetrain.envs.original import OriginalEnv

        return OriginalEnv
    raise AttributeError(f"module 'drivetrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "original", "OriginalEnv"])
