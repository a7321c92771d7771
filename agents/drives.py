"""Recorded drives as examples: what any driver would have seen at each decision, and what was done there.

A drive holds states, so what was seen is drawn anew, for any kind of observation, when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..envs.errors import UserError
from ..envs.paint import paint
from ..envs.sight import look, look_fast
from ..envs.sim import SimConfig
from ..envs.state import CarState
from ..envs.track import Tracks, build_tracks, centreline_of_seed
from ..envs.view import fill, push
from .demos import RACING, SUFFIX, Demo, read_demo, simulator_version
from .teachers import check_actions, from_controls

AT_ONCE = 256
"""pictures that are drawn together"""


class Examples(NamedTuple):
    """D decisions, of one drive or of several behind each other."""

    obs: Tensor  # [D, …] what the driver saw
    action: Tensor  # [D, A] what was done until the next decision


class Decisions(NamedTuple):
    """D decisions of one drive, and what was seen when they were over."""

    obs: Tensor  # [D + 1, …]
    action: Tensor  # [D, A]
    reward: Tensor  # [D] of CarRacing-v3, summed


def drives_in(place: Path) -> list[Path]:
    """Files of a folder of drives, in the order of their names; or the one file.

    Raises:
        UserError: there is none.
    """
    files = sorted(place.glob(f"*{SUFFIX}")) if place.is_dir() else [place]
    if not files or not files[0].is_file():
        got = f"{place} without any {SUFFIX}" if place.is_dir() else f"no {place}"
        raise UserError("there are no recorded drives", got=got, fix="`drivetrain watch human` records them")
    return files


T = TypeVar("T")


def split(drives: Sequence[T], share: float, seed: int) -> tuple[list[T], list[T]]:
    """Drives to learn from and to be tested on, whole episodes: about share of them, at least one of two or more."""
    order = torch.randperm(len(drives), generator=torch.Generator().manual_seed(seed)).tolist()
    held = min(max(round(share * len(drives)), min(1, len(drives) - 1)), len(drives) - 1)
    return [drives[k] for k in sorted(order[held:])], [drives[k] for k in sorted(order[:held])]


def read_drive(path: Path) -> Demo:
    """A drive of this version of the simulator.

    Raises:
        UserError: missing or damaged; of the original, or of another version, whose states may look otherwise here.
    """
    demo = read_demo(path)
    if demo.about.env == RACING and demo.about.simulator != simulator_version():
        what = f"{path} was driven in another version of the simulator"
        fix = "take the version that recorded it, or record anew"
        raise UserError(what, got=demo.about.simulator, allowed=simulator_version(), fix=fix)
    if len(demo) == 0:
        raise UserError(f"{path} holds no frame", got="an empty drive", allowed="1 frame or more")
    return demo


def examples(demo: Demo, config: SimConfig) -> Examples:
    """decisions(), without the last observation, at which nothing was done."""
    found = decisions(demo, config)
    return Examples(found.obs[:-1], found.action)


def decisions(demo: Demo, config: SimConfig) -> Decisions:
    """What a driver of a task would have seen every frame_skip frames, and the mean of what was done in between.

    Args:
        demo: of T frames; the last decision may be of fewer.
        config: what is seen and done; its actions by degrees.

    Raises:
        UserError: actions that are choices.
    """
    check_actions(config.actions)
    tracks = build_tracks([centreline_of_seed(demo.about.seed)], [demo.about.seed])
    skip, frames = config.frame_skip, len(demo)
    at = torch.arange(0, frames, skip)
    looks = torch.cat((at, torch.tensor([frames])))
    obs = torch.cat([_seen(demo, tracks, part, config) for part in looks.split(AT_ONCE)])
    if config.obs == "pixels" and config.frame_stack > 1:
        obs = _stacked(obs, config.frame_stack)
    missing = len(at) * skip - frames
    controls = pad(demo.actions.float(), (0, 0, 0, missing))
    counts = torch.full((len(at), 1), float(skip))
    counts[-1] = frames - int(at[-1])
    held = controls.view(len(at), skip, 3).sum(1) / counts
    reward = pad(demo.rewards.float(), (0, missing)).view(len(at), skip).sum(1)
    return Decisions(obs, from_controls(config.actions, held), reward)


def _seen(demo: Demo, tracks: Tracks, frames: Tensor, config: SimConfig) -> Tensor:
    """[K, …] what was seen after so many frames [K]; of stacked pictures the newest alone."""
    parts = {name: tensor[frames] for name, tensor in demo.states.items()}
    when = demo.visited_at[None].expand(len(frames), -1)
    state = CarState(
        track=torch.zeros(len(frames), dtype=torch.int64), visited=(when >= 0) & (when <= frames[:, None]), **parts
    )
    if config.obs != "pixels":
        return look_fast(tracks, state.map(Tensor.contiguous), config)
    zero = torch.zeros(len(frames), dtype=torch.int64)
    colours = paint(demo.about.seed, zero, zero, False, config.indicators == "random")
    return look(tracks, state, replace(config, frame_stack=1), colours)


def _stacked(pictures: Tensor, depth: int) -> Tensor:
    """[D, H, W, C·k] of an episode's pictures [D, H, W, C]; it begins with the first alone, as in Frames."""
    stack, rows = fill(pictures[:1], depth), []
    for k in range(len(pictures)):
        stack = push(stack, pictures[k : k + 1]) if k else stack
        rows.append(stack)
    return torch.cat(rows)
