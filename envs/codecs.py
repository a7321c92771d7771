"""Between an environment's own spaces and the two kinds of observation and four kinds of action that policies know.

Observations become numbers float32 [B, O] in the order of gymnasium.spaces.utils.flatten_space, or pictures uint8
[B, H, W, C]. Actions come as flat as they can be, counted from 0. Arrays are numpy's (no torch here).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from gymnasium.spaces.utils import flatdim, flatten_space
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from .errors import UserError

SMALLEST_PICTURE = 16
"""px; what is smaller on a side is a board of numbers"""
PICTURE_CHANNELS = (1, 3, 4)
READABLE = "Box, Discrete, MultiDiscrete, MultiBinary, and Dict or Tuple of these"
ACTIONS = "Box, Discrete, MultiDiscrete, MultiBinary"
OWN_WRAPPER = "wrap it in an environment of your own that turns it into one of these"

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Leaf:
    """A part of an observation that has no parts."""

    path: Path
    space: Space[Any]

    @property
    def name(self) -> str:
        """Where it is, for a message."""
        return "observation" + "".join(f"[{key!r}]" for key in self.path)


class ObsCodec:
    """Turns observations into what a policy reads.

    Args:
        space: of one environment.

    Raises:
        UserError: a kind of space that no network here reads, or pictures beside something else.
    """

    space: Box
    """of one observation: numbers float32 [O], or a picture uint8 [H, W, C]"""

    def __init__(self, space: Space[Any]) -> None:
        self._raw = space
        self.leaves = tuple(_leaves(space, ()))
        self.picture = len(self.leaves) == 1 and is_picture(self.leaves[0].space)
        mixed = [leaf for leaf in self.leaves if is_picture(leaf.space)]
        if mixed and not self.picture:
            what = "an observation that holds a picture and something else cannot be read"
            raise UserError(what, got=" ".join(str(space).split()), allowed="one picture, or numbers", fix=OWN_WRAPPER)
        if self.picture:
            shape = self.leaves[0].space.shape or ()
            self._channels_first = _channels_first(shape)
            picture = (*shape[1:], shape[0]) if self._channels_first else shape if len(shape) == 3 else (*shape, 1)
            self.space = Box(0, 255, picture, np.uint8)
        else:
            self.space = _numbers(space)
        sizes = [flatdim(leaf.space) for leaf in self.leaves]
        ends = np.cumsum(sizes).tolist()
        # the usual kind has a short way
        self._box_alone = isinstance(space, Box) and not self.picture
        self._columns = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]

    def empty(self, num_envs: int) -> NDArray[Any]:
        """Room for the observations of B environments."""
        return np.zeros((num_envs, *self.space.shape), self.space.dtype)

    def read_each(self, raw: Sequence[Any]) -> NDArray[Any]:
        """[N, O] or [N, H, W, C] of N observations, one by one as environments give them."""
        out = self.empty(len(raw))
        if self._box_alone:
            self.read(np.stack(raw), out)
            return out
        room: Any = create_empty_array(self._raw, len(raw))
        self.read(concatenate(self._raw, raw, room), out)
        return out

    def read(self, raw: Any, out: NDArray[Any]) -> None:
        """Writes B observations, batched as gymnasium.vector does it, into out [B, O] or [B, H, W, C]."""
        if self.picture:
            seen = np.asarray(_at(raw, self.leaves[0].path))
            out[...] = np.moveaxis(seen, 1, -1) if self._channels_first else seen.reshape(out.shape)
            return
        if self._box_alone:
            _copy(np.asarray(raw), out)
            return
        for leaf, columns in zip(self.leaves, self._columns, strict=True):
            part = np.asarray(_at(raw, leaf.path))
            if isinstance(leaf.space, Discrete):
                _one_hot(part.reshape(-1, 1) - leaf.space.start, out[:, columns], np.zeros(1, np.int64))
            elif isinstance(leaf.space, MultiDiscrete):
                sizes = leaf.space.nvec.reshape(-1)
                begins = np.concatenate(([0], np.cumsum(sizes)[:-1]))
                index = part.reshape(len(out), -1) - leaf.space.start.reshape(-1)
                _one_hot(index, out[:, columns], begins)
            else:
                _copy(part, out[:, columns])


class ActionCodec:
    """Turns what a policy does into what an environment takes.

    Args:
        space: of one environment.

    Raises:
        UserError: a kind of space that no head here writes.
    """

    space: Box | Discrete | MultiDiscrete | MultiBinary
    """of one action as the policy gives it: one-dimensional, counted from 0"""

    def __init__(self, space: Space[Any]) -> None:
        if not isinstance(space, (Box, Discrete, MultiDiscrete, MultiBinary)):
            got = " ".join(str(space).split())
            raise UserError("an action of a kind that no policy here gives", got=got, allowed=ACTIONS, fix=OWN_WRAPPER)
        self._shape: tuple[int, ...] = space.shape or ()
        self._dtype = space.dtype
        self._whole = np.issubdtype(space.dtype, np.integer)
        self._start: Any = 0
        self._limits: tuple[NDArray[Any], NDArray[Any]] | None = None
        if isinstance(space, Box):
            with np.errstate(over="ignore"):
                low, high = (edge.astype(np.float32).reshape(-1) for edge in (space.low, space.high))
            self.space = Box(low, high, dtype=np.float32)
            self._limits = space.low, space.high
        elif isinstance(space, Discrete):
            self.space, self._start = Discrete(int(space.n)), space.start
        elif isinstance(space, MultiDiscrete):
            self.space, self._start = MultiDiscrete(space.nvec.reshape(-1)), space.start
        else:
            self.space = MultiBinary(math.prod(space.shape))

        self._shifted = bool(np.any(self._start))

    def decode(self, action: NDArray[Any]) -> NDArray[Any]:
        """[B, …] as B environments take them, of actions [B] or [B, A] of `space`."""
        action = action.reshape(len(action), *self._shape)
        if self._limits is None:
            return (action + self._start if self._shifted else action).astype(self._dtype, copy=False)
        if self._whole:
            action = np.rint(action)
        # float32 rounds some edges outwards
        low, high = self._limits
        return np.clip(action, low, high).astype(self._dtype, copy=False)


def is_picture(space: Space[Any]) -> bool:
    """Levels 0 to 255 as uint8 in two dimensions, or three with the channels first or last."""
    if not isinstance(space, Box) or space.dtype != np.uint8 or len(space.shape) not in (2, 3):
        return False
    sides = sorted(space.shape)[-2:] if len(space.shape) == 3 else space.shape
    return min(sides) >= SMALLEST_PICTURE and bool((space.low == 0).all()) and bool((space.high == 255).all())


def mismatch(space: Space[Any], seen: Any, name: str = "observation") -> str | None:
    """How an observation breaks its own space; None where it does not. Limits of a Box are not looked at: many break
    them, and networks do not mind."""
    if isinstance(space, Dict):
        if not isinstance(seen, dict) or set(seen) != set(space.spaces):
            got = sorted(map(str, seen)) if isinstance(seen, dict) else type(seen).__name__
            return f"the {name} has {got}, its space says {sorted(space.spaces)}"
        parts = [mismatch(part, seen[key], f"{name}[{key!r}]") for key, part in space.spaces.items()]
        return next(filter(None, parts), None)
    if isinstance(space, Tuple):
        if not isinstance(seen, tuple) or len(seen) != len(space.spaces):
            count = len(seen) if isinstance(seen, tuple) else "no"
            return f"the {name} has {count} parts, its space says {len(space.spaces)}"
        parts = [mismatch(part, seen[key], f"{name}[{key}]") for key, part in enumerate(space.spaces)]
        return next(filter(None, parts), None)
    if isinstance(space, Box):
        array = np.asarray(seen)
        if array.shape != space.shape:
            return f"the {name} has shape {array.shape}, its space says {space.shape}"
        if array.dtype != space.dtype and not np.can_cast(array.dtype, space.dtype, "same_kind"):
            return f"the {name} is {array.dtype}, its space says {space.dtype}"
        return None
    return None if space.contains(seen) else f"the {name} is {seen}, its space says {space}"


def _leaves(space: Space[Any], path: Path) -> Iterator[Leaf]:
    if isinstance(space, Dict):
        for key, part in space.spaces.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(space, Tuple):
        for place, part in enumerate(space.spaces):
            yield from _leaves(part, (*path, place))
    elif isinstance(space, (Box, Discrete, MultiDiscrete, MultiBinary)):
        yield Leaf(path, space)
    else:
        what = f"an {Leaf(path, space).name} of a kind that no network here reads"
        raise UserError(what, got=" ".join(str(space).split()), allowed=READABLE, fix=OWN_WRAPPER)


def _channels_first(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[2] not in PICTURE_CHANNELS and shape[0] < shape[2]


def _numbers(space: Space[Any]) -> Box:
    flat = flatten_space(space)
    assert isinstance(flat, Box)
    with np.errstate(over="ignore"):
        low, high = flat.low.astype(np.float32).reshape(-1), flat.high.astype(np.float32).reshape(-1)
    return Box(low, high, dtype=np.float32)


def _at(raw: Any, path: Path) -> Any:
    for key in path:
        raw = raw[key]
    return raw


def _copy(part: NDArray[Any], out: NDArray[Any]) -> None:
    """Into out [B, S], as float32."""
    if part.dtype == out.dtype:
        out[...] = part.reshape(out.shape)
        return
    with np.errstate(over="ignore"):  # infinity is noticed where observations are checked
        np.copyto(out, part.reshape(out.shape), casting="unsafe")


def _one_hot(index: NDArray[Any], out: NDArray[Any], begins: NDArray[Any]) -> None:
    """Ones in out [B, S] at columns begins [K] + index [B, K]."""
    out[...] = 0
    np.put_along_axis(out, index + begins, 1, 1)
