"""What a training needs in memory, and what is said where there is not enough."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box

from drivetrain import memory
from drivetrain.envs.errors import UserError

SPACE = Box(-1, 1, (4,), np.float32)
CONFIG: dict[str, Any] = {
    "num_envs": 16,
    "num_steps": 128,
    "num_minibatches": 4,
    "hidden": (64, 64),
    "shared_trunk": False,
    "frame_stack": 1,
}


def refusal(monkeypatch: pytest.MonkeyPatch, free: int, **changes: Any) -> str:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    with pytest.raises(UserError) as caught:
        memory.check_memory({**CONFIG, **changes}, SPACE, "cpu")
    assert caught.value.code == 8
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_steps": 10**9}, ["num_steps 1000000000", "steps per environment", "lower --num-steps"]),
        ({"num_envs": 10**9}, ["num_envs 1000000000", "environments", "lower --num-envs"]),
        ({"num_envs": 10**9, "num_tracks": 500}, ["num_envs 1000000000", "environments", "lower --num-envs"]),
        ({"num_tracks": 10**9}, ["num_tracks 1000000000", "tracks", "lower --num-tracks"]),
        ({"hidden": (10**6, 10**6)}, ["lower --hidden"]),
    ],
)
def test_the_option_that_is_too_large_is_named_and_no_other(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: list[str]
) -> None:
    said = refusal(monkeypatch, 2**33, **changes)
    assert all(word in said for word in words), said
    assert said.count("--") == 1
    assert "cars" not in said


@pytest.mark.parametrize("name", ["num_envs", "num_steps", "num_tracks"])
def test_what_is_suggested_fits_and_leaves_a_tenth(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    free = 2**33
    said = refusal(monkeypatch, free, **{name: 10**9})
    most = int(said.partition("up to about ")[2].partition(" ")[0].replace(",", ""))
    # rounded down to two digits: at worst 10.999… becomes 10, a loss of one part in eleven
    need = memory.needed_memory({**CONFIG, name: most}, SPACE)
    assert 0.9 * free * 10 / 11 < need <= 0.9 * free
    memory.check_memory({**CONFIG, name: most}, SPACE, "cpu")


def test_a_suggestion_is_left_out_where_lowering_one_option_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refusal(monkeypatch, 2**20, num_envs=10**9, num_tracks=10**4)  # the tracks alone take a gigabyte
    assert "allowed" not in said
    assert "--num-envs" in said
