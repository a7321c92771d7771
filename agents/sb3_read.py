"""What a zip of Stable-Baselines3 holds, read without running anything in it.

`data` is JSON, in which objects are pickled texts beside a plain description; only the description is read. Weights are
read by torch's reader of tensors alone. With trust the zip is opened by Stable-Baselines3 itself, which runs code that
the zip brings along.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..envs.errors import UserError

LARGEST_DATA = 64 * 2**20
"""bytes of JSON; a real one has some thousands"""
LARGEST_WEIGHTS = 4 * 2**30
"""bytes"""
NUMBER = re.compile(r"-?(?:inf|\d+\.?\d*(?:e[+-]?\d+)?)")
ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "ELU": "elu", "SiLU": "silu", "GELU": "gelu"}


@dataclass(frozen=True)
class Sb3Zip:
    """A zip as far as it can be read without running it."""

    path: Path
    weights: Mapping[str, Tensor]  # of policy.pth
    data: Mapping[str, Any]  # JSON

    @property
    def policy_class(self) -> str:
        """Module of the policy's class, as the zip describes it; may be empty."""
        entry = self.data.get("policy_class")
        return str(entry.get("__module__", "")) if isinstance(entry, dict) else ""

    @property
    def kwargs(self) -> Mapping[str, Any]:
        """Arguments of the policy, where they are plain; classes as their names."""
        entry = self.data.get("policy_kwargs")
        return entry if isinstance(entry, dict) else {}

    @property
    def use_sde(self) -> bool:
        """Whether noise depends on the state."""
        return self.data.get("use_sde") is True

    def reach(self, size: int) -> Tensor:
        """[size] how large, up or down, each number of an observation may be; infinite where nothing plain is said."""
        entry, found = self.data.get("observation_space"), torch.full((size,), math.inf)
        if not isinstance(entry, dict):
            return found
        edges = []
        for name in ("low", "high"):
            numbers = [float(text) for text in NUMBER.findall(str(entry.get(name)))]
            if len(numbers) not in (1, size):  # a long list is cut short, as in 1 2 ... 8 9
                return found
            edges.append(torch.tensor(numbers).abs().expand(size))
        return torch.maximum(*edges)

    def activation(self, default: str) -> str:
        """Nonlinearity of the fully connected layers; default where nothing is said.

        Raises:
            UserError: none of ours.
        """
        written = str(self.kwargs.get("activation_fn", f"activation.{default}'"))
        found = re.search(r"(\w+)'?>?$", written)
        name = found[1] if found else written
        if name not in ACTIVATIONS:
            raise UserError(
                f"{self.path} has an activation that our networks do not have", got=name, allowed=ACTIVATIONS
            )
        return ACTIVATIONS[name]


def read_zip(path: Path) -> Sb3Zip:
    """Reads a zip without running anything in it.

    Raises:
        UserError: no zip of Stable-Baselines3, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            data = json.loads(_member(archive, "data", LARGEST_DATA))
            weights = _tensors(_member(archive, "policy.pth", LARGEST_WEIGHTS))
    except FileNotFoundError:
        raise UserError("no such file", got=str(path)) from None
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(data, dict):
        raise _damaged(path, "data is no JSON object")
    return Sb3Zip(path, weights, data)


def _member(archive: zipfile.ZipFile, name: str, largest: int) -> bytes:
    size = archive.getinfo(name).file_size
    if size > largest:
        raise ValueError(f"{name} has {size} bytes")
    return archive.read(name)


def _tensors(content: bytes) -> dict[str, Tensor]:
    try:
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what the reader may stumble over in a damaged file is open
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"policy.pth holds more than weights ({why})") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise ValueError("policy.pth is no list of weights")
    bad = [name for name, value in found.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise ValueError(f"{bad[0]} is not finite")
    return {str(name): value for name, value in found.items()}


def _damaged(path: Path, why: object) -> UserError:
    return UserError(f"{path} is no model of Stable-Baselines3, or damaged", got=why)
