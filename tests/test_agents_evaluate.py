"""Scores: their statistics, and that an episode depends on its seed alone."""

from __future__ import annotations

import math

import pytest

from drivetrain.agents.evaluate import (
    Scores,
    expert_actor,
    play_original,
    play_original_in_workers,
    play_twin,
    random_actor,
    scripted_actor,
    student_t,
)
from drivetrain.envs.actions import ACTIONS
from drivetrain.envs.errors import UserError
from drivetrain.envs.sim import SimConfig


def scores(*values: float) -> Scores:
    return Scores(tuple(range(len(values))), values, (1,) * len(values), 0.0)


@pytest.mark.golden
def test_statistics_of_four_episodes() -> None:
    # mean 3640/4 = 910; deviations −20 −10 10 20, squares 1000, sd √(1000/3)
    # P10: place 0.1·3 = 0.3 between 890 and 900 → 893; t(3) = 3.182, half-width 3.182·18.257/2
    four = scores(930, 890, 920, 900)
    assert four.mean == 910
    assert four.sd == pytest.approx(math.sqrt(1000 / 3))
    assert (four.min, four.worst_seed) == (890, 1)
    assert four.p10 == pytest.approx(893)
    assert four.failures() == 1
    assert four.failures(901) == 2
    low, high = four.ci95()
    assert high - 910 == pytest.approx(910 - low) == pytest.approx(3.182446 * math.sqrt(1000 / 3) / 2, rel=5e-3)


@pytest.mark.golden
def test_a_single_episode_has_no_spread() -> None:
    one = scores(905.5)
    assert (one.mean, one.sd, one.min, one.p10, one.ci95()) == (905.5, 0.0, 905.5, 905.5, (905.5, 905.5))


@pytest.mark.golden
@pytest.mark.parametrize(
    ("freedom", "table"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (5, 2.5706), (10, 2.2281), (99, 1.9842)]
)
def test_students_t_is_the_tables(freedom: int, table: float) -> None:
    assert student_t(freedom) == pytest.approx(table, rel=5e-3 if freedom < 5 else 1e-3)


@pytest.mark.invariance
@pytest.mark.parametrize("actor", [expert_actor, random_actor])
def test_a_score_does_not_depend_on_the_seeds_played_beside_it(actor: object) -> None:
    together = play_twin(actor(), [5, 9, 2])  # type: ignore[operator]
    assert together.seeds == (5, 9, 2)
    alone = play_twin(actor(), [9])  # type: ignore[operator]
    assert (alone.scores[0], alone.frames[0]) == (together.scores[1], together.frames[1])


def test_rewards_and_limits_of_training_are_no_part_of_a_score() -> None:
    plain = play_twin(random_actor(), [0, 1])
    trained = play_twin(random_actor(), [0, 1], SimConfig(patience=20, gap_cost=50.0))
    assert trained.scores == plain.scores
    assert trained.frames == plain.frames == (1000, 1000)


@pytest.mark.oracle
@pytest.mark.parametrize("actions", ACTIONS)
def test_simulator_and_original_score_the_same_drive_alike(actions: str) -> None:
    pytest.importorskip("Box2D")
    seeds = [3, 4]
    ours = play_twin(random_actor(actions), seeds, SimConfig(actions=actions, frame_skip=4))
    theirs = play_original(random_actor(actions), seeds, SimConfig(actions=actions, frame_skip=4))
    assert ours.frames == theirs.frames
    assert ours.scores == pytest.approx(theirs.scores, abs=1e-3)


@pytest.mark.oracle
def test_the_expert_scores_alike_by_degrees_and_by_pedals() -> None:
    seeds = [1, 8]
    whole, pedals = (
        play_twin(expert_actor(), seeds),
        play_twin(expert_actor("pedals"), seeds, SimConfig(actions="pedals")),
    )
    assert whole.scores == pedals.scores
    assert whole.failures() == 0


def test_drivers_refuse_what_they_cannot_do() -> None:
    with pytest.raises(UserError, match="pedals"):
        expert_actor("macro")
    with pytest.raises(UserError, match="expert"):
        scripted_actor("exprt", "continuous")


@pytest.mark.slow
def test_workers_score_what_one_process_scores() -> None:
    pytest.importorskip("Box2D")
    one = play_original(expert_actor(), range(6))
    two = play_original_in_workers(scripted_actor, "expert", range(6), workers=2)
    assert (one.seeds, one.scores, one.frames) == (two.seeds, two.scores, two.frames)
