"""Will it fit? An estimate of the memory a training needs, compared with what is free, before anything is allocated.

The estimate counts only what surely is needed at the same time, so that nothing that would fit is refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.envs.errors import UserError

if TYPE_CHECKING:
    from gymnasium.spaces import Box

__all__ = ["check_memory", "free_memory", "needed_memory"]

EXIT_MEMORY = 8
TRACK = 110_000  # bytes of a track on the device, look-up tables included
CAR = 470  # bytes of a car's state, its memory of visited tiles included
SAMPLE = 60  # bytes of a sample beside its observations: actions, rewards, flags, advantage, return

HEADROOM = 0.9  # of what is free, that a suggestion may fill
COUNTED = {"num_envs": "environments", "num_steps": "steps per environment", "num_tracks": "tracks"}


def needed_memory(config: Mapping[str, Any], observations: Box) -> int:
    """Bytes that training with these settings holds at once, a lower bound.

    Args:
        config: every option of `train`.
        observations: the space of one car's.
    """
    samples, obs_size = config["num_envs"] * config["num_steps"], math.prod(observations.shape)
    if len(observations.shape) == 3:
        return samples * (obs_size // config["frame_stack"] + SAMPLE) + _whatever(config)  # each picture once, uint8
    widths = [obs_size, *config["hidden"]]
    weights = sum(a * b for a, b in itertools.pairwise(widths)) * (1 if config["shared_trunk"] else 2)
    rollout = samples * (3 * 4 * obs_size + SAMPLE)  # obs, next_obs, standardised obs
    activations = samples // config["num_minibatches"] * 4 * sum(config["hidden"])
    learner = 4 * 4 * weights  # weights, gradients and the two moments of Adam
    return int(_whatever(config) + rollout + activations + learner)


def _whatever(config: Mapping[str, Any]) -> int:
    """Bytes of cars and tracks."""
    return int(config["num_envs"] * CAR + config.get("num_tracks", 0) * TRACK)


def free_memory(device: str) -> int | None:
    """Bytes that are free on the device, as far as the system tells; a container's limit counts."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info()[0])
    found = [value for value in (_meminfo(), _container()) if value is not None]
    return min(found, default=None)


def check_memory(config: Mapping[str, Any], observations: Box, device: str) -> None:
    """Refuse what cannot fit.

    Raises:
        UserError: more is needed than is free (code 8); names the option that takes most, and how far it may go.
    """
    needed, free = needed_memory(config, observations), free_memory(device)
    if free is None or needed <= free:
        return
    least = _least(config)
    without = {name: needed_memory({**config, name: value}, observations) for name, value in least.items()}
    name = min(without, key=lambda name: without[name])
    allowed = None
    if name in COUNTED and without[name] < HEADROOM * free:  # the need grows with it in a straight line
        per_one = (needed - without[name]) / (config[name] - least[name])
        most = least[name] + int((HEADROOM * free - without[name]) / per_one)
        allowed = f"up to about {_rounded(most):,} {COUNTED[name]}"
    raise UserError(
        f"out of memory: this training needs more than {needed / 2**30:.1f} GiB",
        got=f"{free / 2**30:.1f} GiB free, {name} {config[name]}",
        allowed=allowed,
        fix=f"lower --{name.replace('_', '-')}",
        code=EXIT_MEMORY,
    )


def _least(config: Mapping[str, Any]) -> dict[str, Any]:
    """What takes memory and can be lowered, and how far down."""
    least = {"num_envs": config["num_minibatches"], "num_steps": 1, "hidden": (1,) * len(config["hidden"])}
    return least | ({"num_tracks": 1} if "num_tracks" in config else {})


def _rounded(count: int) -> int:
    """The two leading digits: more would pretend that the estimate is exact."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return count // unit * unit


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or no limit ("max")
        return None
