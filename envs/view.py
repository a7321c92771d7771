"""What is handed over of a picture of 96 x 96 colours: grey, cropped, smaller, or as numbers of a palette.

The same functions work on the simulator's picture and on the original's, so a driver sees both alike.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .sim import SimConfig

SIDE = 96
"""px, rows and columns of CarRacing-v3's picture"""
ROAD_ROWS = 84
"""rows above the indicators"""
PICTURES = ("rgb", "grey", "palette")
SIZES = (64, 84, 96)

LUMA = (77, 150, 29)
"""weights of red, green and blue in a grey level, of 256 (ITU-R BT.601)"""
PALETTE = (
    (0, 0, 0),  # outside, wheels, indicator box
    (75, 75, 75),  # stripe of a wheel
    (100, 100, 100),  # road, three shades
    (102, 102, 102),
    (105, 105, 105),
    (100, 202, 100),  # grass
    (100, 228, 100),
    (202, 0, 0),  # car
    (253, 0, 0),  # kerb, turning bar
    (253, 253, 253),  # kerb, speed bar, score
    (0, 0, 253),  # front wheels' bars
    (49, 0, 253),  # rear wheels' bars
    (0, 253, 0),  # steering bar
)
"""red, green, blue of the numbers of picture="palette": the flat colours of CarRacing-v3's picture"""


def picture_shape(config: SimConfig) -> tuple[int, int, int]:
    """Rows, columns and channels of an observation; stacked pictures lie side by side in the channels."""
    rows = round(ROAD_ROWS * config.picture_size / SIDE) if config.crop else config.picture_size
    return rows, config.picture_size, channels(config) * config.frame_stack


def channels(config: SimConfig) -> int:
    """Of one picture."""
    return 3 if config.picture == "rgb" else 1


def process(picture: Tensor, config: SimConfig) -> Tensor:
    """One picture as the config asks for it.

    Args:
        picture: uint8 [B, 96, 96, 3].
        config: picture, crop and picture_size count.

    Returns:
        uint8 [B, H, W, C], see picture_shape; grey levels and the area averages of smaller pictures are rounded.
    """
    if config.crop:
        picture = picture[:, :ROAD_ROWS]
    if config.picture == "grey":
        picture = grey(picture)
    rows, columns, _ = picture_shape(config)
    if picture.shape[1:3] != (rows, columns):
        picture = shrink(picture, rows, columns)
    return nearest_colour(picture) if config.picture == "palette" else picture


def grey(picture: Tensor) -> Tensor:
    """uint8 [B, H, W, 1], the brightness of uint8 [B, H, W, 3]."""
    weights = torch.tensor(LUMA, dtype=torch.int32, device=picture.device)
    return (((picture * weights).sum(-1, keepdim=True, dtype=torch.int32) + 128) >> 8).to(torch.uint8)


def shrink(picture: Tensor, rows: int, columns: int) -> Tensor:
    """uint8 [B, rows, columns, C], area averages of uint8 [B, H, W, C], rounded."""
    down, across = (
        size_shares(there, here).to(picture.device)
        for there, here in ((picture.shape[1], rows), (picture.shape[2], columns))
    )
    small = torch.einsum("rh,bhwc,kw->brkc", down, picture.to(torch.float32), across)
    return (small + 0.5).floor().to(torch.uint8)


def nearest_colour(picture: Tensor) -> Tensor:
    """uint8 [B, H, W, 1], the number of the PALETTE's colour that is nearest to each of uint8 [B, H, W, 3]."""
    colours = torch.tensor(PALETTE, dtype=torch.int32, device=picture.device)
    best = torch.full(picture.shape[:-1], 1 << 30, dtype=torch.int32, device=picture.device)
    index = torch.zeros(picture.shape[:-1], dtype=torch.uint8, device=picture.device)
    for number, colour in enumerate(colours):  # one colour at a time: all at once would need a dozen times the memory
        distance = (picture - colour).square().sum(-1, dtype=torch.int32)
        closer = distance < best
        best = torch.where(closer, distance, best)
        index = torch.where(closer, number, index)
    return index[..., None]


def push(stack: Tensor, picture: Tensor) -> Tensor:
    """Stacks uint8 [B, H, W, k·C] with the newest picture [B, H, W, C] behind the others and the oldest gone."""
    return torch.cat((stack[..., picture.shape[-1] :], picture), -1)


def fill(picture: Tensor, frame_stack: int) -> Tensor:
    """The stack at an episode's start: its first picture [B, H, W, C], frame_stack times."""
    return picture.repeat(1, 1, 1, frame_stack)


@cache
def size_shares(there: int, here: int) -> Tensor:
    """[here, there] share of every old pixel in a new one, where `there` pixels are averaged into `here`."""
    edges = torch.arange(here + 1, dtype=torch.float64) * there / here
    old = torch.arange(there, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], old + 1) - torch.maximum(edges[:-1, None], old)
    return (overlap.clamp(min=0) * here / there).to(torch.float32)
