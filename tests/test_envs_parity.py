"""The simulator against Box2D: roads, motion, contacts, laps. The slow ones are the published sizes."""

from __future__ import annotations

import pytest

pytest.importorskip("Box2D")

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
def test_a_hundred_random_drives_stay_within_a_fifth_of_a_unit() -> None:
    gaps = motion_parity(range(100), random_controls(100, 250, 1))
    assert gaps.position.max() <= 0.2
