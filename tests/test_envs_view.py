"""What is handed over of a picture: grey, smaller, cropped, numbers of a palette, stacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drivetrain.envs.sim import SimConfig
from drivetrain.envs.view import PALETTE, fill, grey, nearest_colour, picture_shape, process, push, shrink


@pytest.mark.golden
def test_grey_is_brightness() -> None:
    # (77 R + 150 G + 29 B + 128) // 256: red 19,763 // 256 = 77; grass 41,028 // 256 = 160; white 65,408 // 256 = 255
    colours = torch.tensor([[[[255, 0, 0], [100, 202, 100], [255, 255, 255], [0, 0, 0]]]], dtype=torch.uint8)
    assert grey(colours).flatten().tolist() == [77, 160, 255, 0]


@pytest.mark.golden
def test_a_smaller_picture_averages_areas() -> None:
    # three columns into two: (0 + 90/2) / 1.5 = 30 and (90/2 + 30) / 1.5 = 50; two rows into one: (30 + 61) / 2 = 45.5,
    # which rounds up, and 50
    rows = torch.tensor([[[0], [90], [30]], [[61], [61], [35]]], dtype=torch.uint8)[None]
    assert shrink(rows[:, :1], 1, 2).flatten().tolist() == [30, 50]
    # second row: (61 + 30.5) / 1.5 = 61 and (30.5 + 35) / 1.5 = 43.67, so (30 + 61) / 2 = 45.5 and 46.83
    assert shrink(rows, 1, 2).flatten().tolist() == [46, 47]


@pytest.mark.golden
def test_the_number_of_a_colour_is_that_of_the_nearest_in_the_palette() -> None:
    flat = torch.tensor(PALETTE, dtype=torch.uint8).view(1, 1, -1, 3)
    assert nearest_colour(flat).flatten().tolist() == list(range(len(PALETTE)))
    near = torch.tensor([[[[98, 205, 99], [230, 20, 10], [60, 60, 60]]]], dtype=torch.uint8)
    assert [PALETTE[k] for k in nearest_colour(near).flatten().tolist()] == [(100, 202, 100), (253, 0, 0), (75, 75, 75)]


@pytest.mark.conformance
@pytest.mark.parametrize("picture", ["rgb", "grey", "palette"])
@pytest.mark.parametrize("size", [64, 84, 96])
@pytest.mark.parametrize("crop", [False, True])
def test_every_option_gives_the_shape_it_promises(picture: str, size: int, crop: bool) -> None:
    # 84 of 96 rows are left without indicators: 56 of 64, 73.5 -> 74 of 84
    config = SimConfig(obs="pixels", picture=picture, picture_size=size, crop=crop)
    whole = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8))
    seen = process(whole, config)
    assert seen.dtype == torch.uint8
    assert tuple(seen.shape[1:]) == picture_shape(config)
    assert seen.shape[1] == ({64: 56, 84: 74, 96: 84}[size] if crop else size)


@pytest.mark.golden
def test_the_newest_picture_of_a_stack_is_the_last() -> None:
    first, second = torch.full((1, 1, 1, 1), 7, dtype=torch.uint8), torch.full((1, 1, 1, 1), 9, dtype=torch.uint8)
    stack = fill(first, 3)
    assert stack.flatten().tolist() == [7, 7, 7]
    assert push(stack, second).flatten().tolist() == [7, 7, 9]
