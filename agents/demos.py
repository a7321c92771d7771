"""Drives kept for later: one safetensors file an episode, states and actions of every frame, and how they came about.

    states      every tensor of CarState [T + 1, …], but for what never changes and `visited`
    visited_at  [N] frame after which each tile had been touched, -1 = never; gives `visited` back
    actions     [T, 3] controls of each frame: steer (-1 full left, 1 full right), gas, brake; as float64 where the
                original was driven, which takes them so
    rewards     [T] of CarRacing-v3
    by_hand     [T] whether a person drove
    keys        [T, K] which of the driving keys were held
    axes        [T, 3] gamepad: steering, gas, brake

The metadata entry `drive` is JSON: world, seed, player, rate, simulator, score, cut. Files are only added, never
changed; each is written aside and renamed, so that none is ever half there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..envs.errors import UserError
from ..envs.gym_single import RacingEnv
from ..envs.spec import DT
from ..envs.state import CarState

FORMAT = 1
SUFFIX = ".safetensors"
RACING = "racing"
"""where our simulator was driven; else it was the original"""
LARGEST = 1 << 28
"""bytes; an episode of an hour would be smaller"""
EXIT_STORAGE = 6
_PHYSICS = (
    *("spec", "track", "state", "frame", "dynamics", "contact", "judge", "actions"),
    *("compiled", "kernel", "kernel_car"),  # what drives on the CPU
)
_STATES = tuple(f.name for f in fields(CarState) if f.name not in ("track", "visited"))
_FRAMES = ("actions", "rewards", "by_hand", "keys", "axes")


@dataclass(frozen=True)
class About:
    """How a drive came about."""

    env: str  # racing, or CarRacing-v3
    seed: int  # of the track
    player: str
    key_names: tuple[str, ...]  # columns of `keys`
    score: float
    cut: bool  # the episode was not driven to its end
    lap_rule: str = "all"
    rate: float = 1 / DT  # frames a second
    simulator: str = ""  # its version; "" is filled in
    format: int = FORMAT


@dataclass(frozen=True)
class Demo:
    """One episode of T frames. The first state is that before the first action."""

    about: About
    states: dict[str, Tensor]  # [T + 1, …] by the names of CarState
    visited_at: Tensor  # [N] int32
    actions: Tensor  # [T, 3] float32; of the original float64
    rewards: Tensor  # [T] float32
    by_hand: Tensor  # [T] bool
    keys: Tensor  # [T, K] bool
    axes: Tensor  # [T, 3] float32

    def __len__(self) -> int:
        return len(self.actions)

    def state(self, frame: int) -> CarState:
        """The car after so many frames, as a batch of one on row 0 of its track."""
        parts = {name: tensor[frame][None] for name, tensor in self.states.items()}
        visited = (self.visited_at >= 0) & (self.visited_at <= frame)
        return CarState(track=torch.zeros(1, dtype=torch.int64), visited=visited[None], **parts)


class DemoRecorder:
    """Collects a drive frame by frame.

    Args:
        start: the car before the first frame, a batch of one.
        key_names: the keys that `add` may be told of.
    """

    def __init__(self, start: CarState, key_names: Sequence[str]) -> None:
        self._key_names = tuple(key_names)
        self._start = start
        self._frames: list[tuple[CarState, tuple[object, ...]]] = []  # the car after each, and its row of _FRAMES

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def has_hand(self) -> bool:
        """Whether a person drove in any frame."""
        place = _FRAMES.index("by_hand")
        return any(row[place] for _, row in self._frames)

    def add(
        self,
        after: CarState,
        controls: np.ndarray,
        reward: float,
        by_hand: bool,
        keys: frozenset[str] = frozenset(),
        axes: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        """A frame: controls [3], and the car after it."""
        row = (controls, reward, by_hand, [name in keys for name in self._key_names], axes)
        self._frames.append((after, row))  # at one go: an interrupt must not leave columns of unequal length

    def finish(self, env: str, seed: int, player: str, score: float, cut: bool, lap_rule: str = "all") -> Demo:
        """The drive so far."""
        about = About(env, seed, player, self._key_names, score, cut, lap_rule)
        cars, rows = [self._start, *(after for after, _ in self._frames)], [row for _, row in self._frames]
        states = {name: torch.cat([getattr(car, name) for car in cars]) for name in _STATES}
        visited = torch.cat([car.visited for car in cars])
        first = visited.to(torch.uint8).argmax(0)  # of equals, argmax finds the first
        visited_at = torch.where(visited.any(0), first, -1).to(torch.int32)
        kinds: dict[str, type] = dict.fromkeys(_FRAMES, np.float32) | {"by_hand": np.bool_, "keys": np.bool_}
        if env != RACING:
            kinds["actions"] = np.float64  # 0.2 rounded to float32 would not drive exactly alike
        columns = {
            name: torch.from_numpy(np.array([row[place] for row in rows], kinds[name]))
            for place, name in enumerate(_FRAMES)
        }
        return Demo(about, states, visited_at, **columns)


@cache
def simulator_version() -> str:
    """The package's version, and a hash of the files that decide how a car moves and what that is worth."""
    folder = Path(__file__).resolve().parent.parent / "envs"
    digest = hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in _PHYSICS))
    return f"drivetrain {version('drivetrain')} {digest.hexdigest()[:12]}"


def save_demo(demo: Demo, folder: Path, stamp: str) -> Path:
    """Adds a drive to a folder, as ENV-seedSEED-STAMP.safetensors, numbered where that exists.

    Raises:
        UserError: it cannot be written (code 6).
    """
    from safetensors.torch import save

    about = asdict(demo.about) | {"simulator": demo.about.simulator or _simulator(demo.about.env)}
    tensors = {f"state/{name}": tensor.contiguous() for name, tensor in demo.states.items()}
    tensors |= {name: getattr(demo, name).contiguous() for name in ("visited_at", *_FRAMES)}
    data = save(tensors, {"drive": json.dumps(about)})
    stem = f"{demo.about.env}-seed{demo.about.seed}-{stamp}"
    part = folder / f".{stem}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path, number = folder / (stem + SUFFIX), 1
        while path.exists():
            number += 1
            path = folder / f"{stem}-{number}{SUFFIX}"
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        fix = "free space, or choose another --out"
        raise UserError(f"cannot keep the drive in {folder}", got=error.strerror, fix=fix, code=EXIT_STORAGE) from error
    finally:
        with contextlib.suppress(OSError):  # an interrupt, too, leaves nothing half there
            part.unlink()
    return path


def _simulator(env: str) -> str:
    return simulator_version() if env == RACING else f"gymnasium {version('gymnasium')}"


def read_demo(path: Path) -> Demo:
    """A drive from its file.

    Raises:
        UserError: missing, damaged, or of another format (code 2).
    """
    from safetensors import SafetensorError, safe_open

    what = f"{path} is no drive"
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(what, got=f"{path.stat().st_size} bytes", allowed=f"up to {LARGEST}")
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("drive", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except OSError as error:
        raise UserError(f"cannot read {path}", got=error.strerror or str(error)) from None
    except (SafetensorError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(what, got=error) from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        got = about.get("format") if isinstance(about, dict) else "no description"
        raise UserError(what, got=got, allowed=f"format {FORMAT}")
    states = {name: tensors.pop(f"state/{name}", torch.empty(0)) for name in _STATES}
    try:
        demo = Demo(About(**about | {"key_names": tuple(about["key_names"])}), states, **tensors)
        lengths = {len(tensor) for tensor in states.values()} | {len(getattr(demo, name)) + 1 for name in _FRAMES}
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged", got=error) from None
    if lengths != {len(demo) + 1}:
        raise UserError(f"{path} is damaged", got=f"columns of {sorted(lengths)} rows")
    return demo


def replay(demo: Demo) -> Iterator[CarState]:
    """Drives it again from its seed: the car before the first action, and after each.

    The states are those of the file where the simulator is of the same version.
    """
    about = demo.about
    if about.env == RACING:
        env = RacingEnv(lap_rule=about.lap_rule)
        env.reset(seed=about.seed)
        yield env.car_state()
        for action in demo.actions.numpy():
            env.step(action)
            yield env.car_state()
        return
    from ..envs.original import OriginalEnv

    original = OriginalEnv()
    original.restart(about.seed)
    yield original.car_state()
    for action in demo.actions.double().numpy():
        original.advance(action)
        yield original.car_state()
    original.close()
