"""What the network of a run thinks, as the viewer shows it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drivetrain.agents.build import load_policy
from drivetrain.agents.insight import Insight, insight
from drivetrain.envs.actions import MACRO_STEER, action_space
from drivetrain.envs.panel import Axis, Choice, Mind
from drivetrain.rundir import read_run_config

if TYPE_CHECKING:
    from torch import Tensor

    from drivetrain.drivers import Driver

__all__ = ["Reader", "mind_of"]

AXES = {
    "continuous": (("steering", ("left", "right")), ("gas", ("none", "full")), ("brake", ("none", "full"))),
    "pedals": (("steering", ("left", "right")), ("pedals", ("brake", "gas"))),
}
DISCRETE_NAMES = ("nothing", "right", "left", "gas", "brake")
_PEDALS = ("gas", "coast", "brake")  # in the order of MACRO_PEDALS


class Reader:
    """Reads the mind of a run.

    Args:
        driver: a run, no scripted driver.

    Raises:
        UserError: its weights are damaged.
    """

    def __init__(self, driver: Driver) -> None:
        checkpoint = Path(driver.key)
        self._policy = load_policy(read_run_config(checkpoint.parent.parent), checkpoint)
        self._actions = driver.sim_config.actions

    def __call__(self, obs: Tensor) -> Mind:
        """What it thinks of one observation [1, …]."""
        return mind_of(insight(self._policy, obs), self._actions)


def mind_of(found: Insight, actions: str) -> Mind:
    """The first row of an insight into a policy with such an action set, for people."""
    value = float(found.value[0])
    if found.q is not None:
        q = found.q[0].tolist()
        low, spread = min(q), max(max(q) - min(q), 1e-6)
        named = zip(_names(actions, len(q)), q, strict=True)
        return Mind(
            value,
            choices=tuple(Choice(name, (points - low) / spread, f"{points:.1f}") for name, points in named),
            chosen=q.index(max(q)),
        )
    if found.probs is not None:
        probs = found.probs[0].tolist()
        choices = tuple(
            Choice(name, share, f"{100 * share:.0f} %")
            for name, share in zip(_names(actions, len(probs)), probs, strict=True)
        )
        return Mind(value, choices=choices, chosen=probs.index(max(probs)))
    if found.mean is None or found.below is None or found.above is None:
        return Mind(value)
    space = action_space(actions)
    rows = (space.low, space.high, found.mean[0], found.below[0], found.above[0])  # type: ignore[union-attr]
    axes = (
        Axis(name, ends, *numbers)
        for (name, ends), *numbers in zip(AXES[actions], *(row.tolist() for row in rows), strict=True)
    )
    return Mind(value, tuple(axes))


def _names(actions: str, count: int) -> tuple[str, ...]:
    if actions == "discrete":
        return DISCRETE_NAMES
    if actions == "macro":
        return tuple(f"{_side(steer)} {pedal}" for steer in MACRO_STEER for pedal in _PEDALS)
    return tuple(str(index) for index in range(count))


def _side(steer: float) -> str:
    """L2, L1, 0, R1 or R2: which way, and how far."""
    if steer == 0:
        return "0"
    far = sorted({abs(other) for other in MACRO_STEER if other}).index(abs(steer)) + 1
    return f"{'L' if steer < 0 else 'R'}{far}"
