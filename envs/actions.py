"""The four action sets, and what each of their actions does to steering wheel and pedals.

Whatever the set, a car is driven by controls [B, 3] float32: steer (-1 full left, 1 full right), gas, brake (0 to 1).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from .errors import UserError, nearest

ACTIONS = ("continuous", "pedals", "discrete", "macro")
"""names of the action sets"""

DISCRETE = (
    (0.0, 0.0, 0.0),  # 0 nothing
    (0.6, 0.0, 0.0),  # 1 right
    (-0.6, 0.0, 0.0),  # 2 left
    (0.0, 0.2, 0.0),  # 3 gas
    (0.0, 0.0, 0.8),  # 4 brake
)
"""controls of CarRacing-v3's own five actions"""

MACRO_STEER = (-0.4, -0.15, 0.0, 0.15, 0.4)
MACRO_PEDALS = ((1.0, 0.0), (0.0, 0.0), (0.0, 0.12))
"""(gas, brake): full gas, coast, a brake that slows the car at about 36 u/s²"""
MACRO = tuple((steer, gas, brake) for steer in MACRO_STEER for gas, brake in MACRO_PEDALS)
"""controls of the 15 combinations: index = 3 x steering position + pedal"""

_TABLES = {"discrete": DISCRETE, "macro": MACRO}
_SHAPES = {"continuous": (3,), "pedals": (2,), "discrete": (), "macro": ()}


def action_space(name: str) -> Box | Discrete:
    """The Gymnasium space of one car's action.

    continuous: Box [3] steer, gas, brake; pedals: Box [2] steer, gas (positive) or brake (negative);
    discrete: 5 actions; macro: 15.

    Raises:
        UserError: unknown name.
    """
    _check_name(name)
    if name == "continuous":
        return Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
    if name == "pedals":
        return Box(-1.0, 1.0, (2,), np.float32)
    return Discrete(len(_TABLES[name]))


def to_controls(name: str, action: Tensor) -> Tensor:
    """Controls [B, 3] float32 of a batch of actions.

    Args:
        name: one of ACTIONS.
        action: continuous [B, 3] or pedals [B, 2] float, discrete or macro [B] int64; values are taken as valid
            (check_action checks them). Steer is clipped to [-1, 1] and gas to [0, 1]; the brake of `continuous` is
            passed on as given, because CarRacing-v3 stores it unclipped.

    Raises:
        UserError: unknown name.
    """
    if name in _TABLES:
        return _table(name, action.device)[action.long()]  # uint8 would be taken for a mask
    action = action.to(torch.float32)
    if name == "continuous":
        return torch.cat((action[:, :1].clamp(-1, 1), action[:, 1:2].clamp(0, 1), action[:, 2:3]), 1)
    _check_name(name)
    action = action.clamp(-1, 1)
    pedal = action[:, 1:2]
    return torch.cat((action[:, :1], pedal.clamp(min=0), (-pedal).clamp(min=0)), 1)


def check_action(name: str, action: np.ndarray | Tensor, num_envs: int | None = None) -> None:
    """Refuse an action that no car can carry out.

    Args:
        name: one of ACTIONS.
        action: as to_controls takes it; numpy or torch.
        num_envs: how many cars it is for; None for a single action without the batch dimension.

    Raises:
        UserError: wrong shape, wrong dtype, NaN or infinite number, index out of range, unknown name.
    """
    _check_name(name)
    shape = _SHAPES[name] if num_envs is None else (num_envs, *_SHAPES[name])
    if tuple(action.shape) != shape:
        raise UserError(f"wrong shape of a {name!r} action", got=tuple(action.shape), allowed=str(shape))
    integer, real = _kind(action)
    if name in _TABLES:
        if not integer:
            raise UserError(f"wrong dtype of a {name!r} action", got=action.dtype, allowed="integers")
        count = len(_TABLES[name])
        if bool(((action < 0) | (action >= count)).any()):
            raise UserError(f"a {name!r} action out of range", got=_listed(action), allowed=f"0 to {count - 1}")
        return
    if not (integer or real):
        raise UserError(f"wrong dtype of a {name!r} action", got=action.dtype, allowed="real numbers")
    finite = action.isfinite() if isinstance(action, Tensor) else np.isfinite(action)
    if not bool(finite.all()):
        raise UserError(f"a {name!r} action is not finite", got=_listed(action), allowed="finite numbers")


def _check_name(name: str) -> None:
    if name not in ACTIONS:
        close = nearest(str(name), ACTIONS)
        fix = f"did you mean {close!r}?" if close else None
        raise UserError("unknown action set", got=repr(name), allowed=ACTIONS, fix=fix)


def _kind(action: np.ndarray | Tensor) -> tuple[bool, bool]:
    """(integer, floating point)"""
    if isinstance(action, Tensor):
        real = action.dtype.is_floating_point
        return not (real or action.dtype.is_complex or action.dtype == torch.bool), real
    return action.dtype.kind in "iu", action.dtype.kind == "f"


def _listed(action: np.ndarray | Tensor) -> str:
    return str(action.tolist())


@cache
def _table(name: str, device: torch.device) -> Tensor:
    """[n, 3] float32; kept per device so that a step copies nothing from the host"""
    return torch.tensor(_TABLES[name], dtype=torch.float32, device=device)
