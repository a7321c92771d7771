"""The simulator against Box2D: roads, motion, contacts, laps. The slow ones are the published sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("Box2D")

from drivetrain.envs.frame import start_states
from drivetrain.envs.original import OriginalEnv, read_states
from drivetrain.envs.track import build_tracks
from drivetrain.parity import (
    contact_parity,
    lap_parity,
    main,
    motion_parity,
    random_controls,
    track_parity,
)


@pytest.mark.oracle
def test_twenty_roads_are_equal_point_for_point() -> None:
    assert track_parity(range(20)) == 20


@pytest.mark.oracle
def test_a_reset_leaves_the_car_as_box2d_does() -> None:
    envs = [OriginalEnv() for _ in range(12)]
    for seed, env in enumerate(envs):
        env.restart(seed)
    tracks = build_tracks([env.line for env in envs])
    theirs, ours = read_states(envs, tracks.max_tiles), start_states(tracks)
    for name, column in vars(ours).items():
        # rounding in float32: 240 u are known to 1.5e-5 u, angles to 2e-7 rad
        atol = 4e-5 if name == "pos" else 1e-6
        torch.testing.assert_close(column, getattr(theirs, name), rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.oracle
def test_two_laps_of_the_expert_take_the_same_frames_and_score() -> None:
    for lap in lap_parity([1, 8]):
        assert lap["frames"] == lap["frames_original"]
        assert lap["gap"] < 1e-3


@pytest.mark.oracle
def test_random_drives_stay_together() -> None:
    gaps = motion_parity(range(4), random_controls(4, 150, 0))
    assert gaps.position.max() < 0.02
    assert gaps.reward.max() < 1e-4


@pytest.mark.oracle
def test_wheels_touch_the_tiles_that_they_touch_in_box2d() -> None:
    wrong, compared = contact_parity(range(4), 1000)
    assert compared >= 1000
    assert wrong == 0


@pytest.mark.slow
@pytest.mark.oracle
def test_the_published_parity_holds() -> None:
    report = main([]).values
    assert report["tracks_equal"] is True
    assert report["position_error_max"] <= 0.2
    assert report["reward_error_max"] < 1e-3
    assert report["contact_mismatches"] == 0
    assert report["wheel_frames"] >= 3000
    assert report["score_gap"] < 1e-3
    assert report["laps_of_equal_length"] == 20


@pytest.mark.slow
@pytest.mark.oracle
def test_of_a_hundred_random_drives_nearly_all_stay_within_a_fifth_of_a_unit() -> None:
    # a spin at 100 u/s multiplies rounding errors: a few may part further
    gaps = motion_parity(range(100), random_controls(100, 250, 1))
    assert (gaps.position.max(1) <= 0.2).sum() >= 97
    assert np.median(gaps.position[:, -1]) < 0.02
