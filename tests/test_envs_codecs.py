"""Every kind of space: observations as Gymnasium's flatten gives them, pictures, actions that environments accept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Sequence, Space, Text, Tuple
from gymnasium.spaces.utils import flatten
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from drivetrain.envs.codecs import ActionCodec, ObsCodec, is_picture, mismatch
from drivetrain.envs.errors import UserError

BOX = Box(-2, 2, (2, 3), np.float64)
NUMBERS: dict[str, Space[Any]] = {
    "box": BOX,
    "one number": Box(-1, 1, (), np.float32),
    "whole numbers": Box(-5, 90, (4,), np.int32),
    "a small board of bytes": Box(0, 255, (7, 7, 3), np.uint8),
    "memory of bytes": Box(0, 255, (128,), np.uint8),
    "unbounded": Box(-np.inf, np.inf, (3,), np.float32),
    "discrete": Discrete(5),
    "discrete from -2": Discrete(5, start=-2),
    "multi-discrete": MultiDiscrete([3, 2, 4]),
    "multi-discrete from 1": MultiDiscrete([3, 2], start=[1, 5]),
    "multi-discrete table": MultiDiscrete([[3, 2], [4, 5]]),
    "multi-binary": MultiBinary(4),
    "multi-binary table": MultiBinary((2, 3)),
    "dict": Dict({"z": BOX, "a": Discrete(3), "m": MultiBinary(2)}),
    "tuple": Tuple((Discrete(2), BOX, MultiDiscrete([2, 2]))),
    "nested": Dict({"b": Tuple((Discrete(3, start=1), BOX)), "a": Dict({"x": Box(0, 1, (2,))})}),
}


def batch_of(space: Space[Any], count: int) -> tuple[list[Any], Any]:
    """Samples one by one, and as a vector environment batches them."""
    space.seed(3)
    samples = [space.sample() for _ in range(count)]
    return samples, concatenate(space, samples, create_empty_array(space, count))


@pytest.mark.oracle
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_those_of_gymnasiums_flatten(name: str) -> None:
    space = NUMBERS[name]
    codec = ObsCodec(space)
    samples, batch = batch_of(space, 6)
    out = codec.empty(6)
    out[...] = 7.5  # what was there before must not show through
    codec.read(batch, out)
    expected = np.stack([np.asarray(flatten(space, sample), np.float32).reshape(-1) for sample in samples])
    assert out.dtype == np.float32
    assert np.array_equal(out, expected)
    assert np.array_equal(codec.read_each(samples), expected)
    assert codec.space.shape == out.shape[1:]
    assert all(codec.space.contains(row) for row in out)


@pytest.mark.parametrize(
    ("shape", "axes", "ours"),
    [
        ((20, 24, 3), (0, 1, 2), (20, 24, 3)),
        ((20, 24, 1), (0, 1, 2), (20, 24, 1)),
        ((20, 24, 12), (0, 1, 2), (20, 24, 12)),
        ((3, 20, 24), (1, 2, 0), (20, 24, 3)),
        ((4, 84, 84), (1, 2, 0), (84, 84, 4)),
        ((12, 84, 84), (1, 2, 0), (84, 84, 12)),
    ],
)
@pytest.mark.golden
def test_pictures_have_their_channels_last(
    shape: tuple[int, ...], axes: tuple[int, ...], ours: tuple[int, ...]
) -> None:
    space = Box(0, 255, shape, np.uint8)
    codec = ObsCodec(space)
    samples, batch = batch_of(space, 2)
    out = codec.empty(2)
    codec.read(batch, out)
    assert codec.picture
    assert codec.space == Box(0, 255, ours, np.uint8)
    assert all(np.array_equal(row, sample.transpose(axes)) for row, sample in zip(out, samples, strict=True))


def test_a_picture_without_channels_gets_one_and_a_picture_alone_in_a_dict_is_a_picture() -> None:
    space = Dict({"camera": Box(0, 255, (20, 30), np.uint8)})
    codec = ObsCodec(space)
    samples, batch = batch_of(space, 2)
    out = codec.empty(2)
    codec.read(batch, out)
    assert codec.space == Box(0, 255, (20, 30, 1), np.uint8)
    assert np.array_equal(out[1, :, :, 0], samples[1]["camera"])


def test_what_is_no_picture() -> None:
    for space in (
        Box(0, 255, (20, 20, 3), np.float32),
        Box(0, 1, (20, 20, 3), np.uint8),
        Box(0, 255, (20, 15), np.uint8),
        Box(0, 255, (2, 20, 20, 3), np.uint8),
        Discrete(3),
    ):
        assert not is_picture(space)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (Text(5), "observation of a kind"),
        (Dict({"a": Discrete(2), "b": Sequence(Discrete(2))}), r"observation\['b'\] of a kind"),
        (Dict({"eye": Box(0, 255, (20, 20, 3), np.uint8), "speed": Box(0, 1, (1,))}), "a picture and something else"),
    ],
)
def test_an_observation_that_no_network_reads_is_refused_with_what_is_allowed(space: Space[Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        ObsCodec(space)
    assert caught.value.code == 2
    assert caught.value.allowed
    assert caught.value.fix


ACTIONS: dict[str, tuple[Space[Any], Space[Any]]] = {
    "box": (Box(-2, 3, (4,), np.float32), Box(-2, 3, (4,), np.float32)),
    "box table": (Box(-1, 1, (2, 3), np.float64), Box(-1, 1, (6,), np.float32)),
    "one number": (Box(0, 1, (), np.float32), Box(0, 1, (1,), np.float32)),
    "edges that float32 rounds outwards": (Box(-0.1, 0.1, (2,), np.float64), Box(-0.1, 0.1, (2,), np.float32)),
    "whole numbers": (Box(-3, 5, (2,), np.int64), Box(-3, 5, (2,), np.float32)),
    "discrete": (Discrete(4), Discrete(4)),
    "discrete from 3": (Discrete(4, start=3), Discrete(4)),
    "multi-discrete": (MultiDiscrete([2, 3]), MultiDiscrete([2, 3])),
    "multi-discrete from 1": (MultiDiscrete([2, 3], start=[1, -4]), MultiDiscrete([2, 3])),
    "multi-discrete table": (MultiDiscrete([[2, 3], [4, 5]]), MultiDiscrete([2, 3, 4, 5])),
    "multi-binary": (MultiBinary(3), MultiBinary(3)),
    "multi-binary table": (MultiBinary((2, 2)), MultiBinary(4)),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_what_a_policy_does_is_an_action_of_the_environment(name: str) -> None:
    theirs, ours = ACTIONS[name]
    codec = ActionCodec(theirs)
    assert codec.space == ours
    ours.seed(1)
    given = np.stack([np.asarray(ours.sample()) for _ in range(5)])
    if isinstance(ours, Box):
        given = np.concatenate((given, ours.low[None], ours.high[None]))
    taken = codec.decode(given)
    assert batch_space(theirs, len(given)).contains(taken)
    for action, single in zip(given, iterate(batch_space(theirs, len(given)), taken), strict=True):
        assert theirs.contains(single)
        start = getattr(theirs, "start", 0)
        expected = np.rint(action) if theirs.dtype == np.int64 and isinstance(theirs, Box) else action
        assert np.allclose(np.asarray(single - start).reshape(-1), np.asarray(expected).reshape(-1), atol=1e-6)


def test_actions_of_another_kind_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(UserError, match="MultiDiscrete") as caught:
        ActionCodec(Tuple((Discrete(2), Box(0, 1, (1,)))))
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("space", "seen", "said"),
    [
        (BOX, np.zeros((3, 2)), r"shape \(3, 2\), its space says \(2, 3\)"),
        (Box(0, 1, (2,), np.float32), np.zeros(2, complex), "complex128, its space says float32"),
        (Box(0, 9, (2,), np.int64), np.zeros(2), "float64, its space says int64"),
        (Discrete(3), 3, r"the observation is 3, its space says Discrete\(3\)"),
        (Discrete(3), np.zeros(2), "its space says Discrete"),
        (MultiBinary(2), np.array([0, 2], np.int8), "its space says MultiBinary"),
        (Dict({"a": Discrete(2)}), {"b": 1}, r"has \['b'\], its space says \['a'\]"),
        (Dict({"a": Discrete(2)}), np.zeros(2), "has ndarray, its space says"),
        (Dict({"a": Tuple((Discrete(2), BOX))}), {"a": (1, np.zeros(6))}, r"observation\['a'\]\[1\] has shape \(6,\)"),
        (Tuple((Discrete(2),)), (1, 1), "has 2 parts, its space says 1"),
    ],
)
def test_an_observation_that_breaks_its_space_is_told_how(space: Space[Any], seen: Any, said: str) -> None:
    wrong = mismatch(space, seen)
    assert wrong is not None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(wrong)


@pytest.mark.parametrize("name", NUMBERS)
def test_an_observation_that_keeps_its_space_passes(name: str) -> None:
    space = NUMBERS[name]
    space.seed(0)
    assert mismatch(space, space.sample()) is None


def test_numbers_of_another_precision_or_beyond_the_limits_pass() -> None:
    box = Box(-1, 1, (2,), np.float32)
    for seen in (np.zeros(2), np.array([0, 5]), [0.5, 2.0], np.array([9.0, -9.0], np.float32)):
        assert mismatch(box, seen) is None
