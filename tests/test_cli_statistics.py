"""Statistics of few runs: numbers by hand, against obvious float64 loops, and against those of rliable."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivetrain.statistics import (
    difference,
    draw,
    improvement,
    improvement_p,
    interval,
    iqm,
    optimality_gap,
    ordered_interval,
    share_above,
)

RLIABLE = json.loads((Path(__file__).parent / "data" / "rliable.json").read_text(encoding="utf-8"))
THREE_BY_FIVE = np.random.default_rng(3).normal([[100.0], [120.0], [90.0]], [[10.0], [30.0], [5.0]], (3, 5))


def tasks_of(name: str) -> list[np.ndarray]:
    """rliable's matrix of runs and tasks as one array a task."""
    return list(np.array(RLIABLE["scores"][name]).T)


def draws_of(rows: list[str]) -> list[np.ndarray]:
    parts = [row.split("|") for row in rows]
    return [np.array([[int(digit) for digit in row[task]] for row in parts]) for task in range(len(parts[0]))]


def loop_iqm(scores: list[float]) -> float:
    ordered = sorted(scores)
    cut = math.floor(len(ordered) / 4)
    middle = ordered[cut : len(ordered) - cut]
    return math.fsum(middle) / len(middle)


def loop_percentile(values: list[float], percent: float) -> float:
    """Linear between the two nearest of the ordered values."""
    ordered = sorted(values)
    place = percent / 100 * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


# ---- golden ----------------------------------------------------------------------------------------------------------


@pytest.mark.golden
def test_the_iqm_leaves_out_a_quarter_at_either_end_rounded_down() -> None:
    # 8 runs: two at either end go, 3 + 4 + 5 + 6 = 18 over 4
    assert iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == pytest.approx((2 + 3 + 4 + 5) / 4)
    # 5 runs: one at either end; 3 runs: none
    assert iqm(np.array([1.0, 2, 3, 4, 100])) == pytest.approx(3.0)
    assert iqm(np.array([1.0, 2, 6])) == pytest.approx(3.0)


@pytest.mark.golden
def test_the_gap_counts_what_is_missing_and_no_surplus() -> None:
    # short by 100, 0 and, above the target, 0: a third of 100
    assert optimality_gap(500.0)(np.array([400.0, 500.0, 900.0])) == pytest.approx(100 / 3)


@pytest.mark.golden
def test_the_probability_of_improvement_counts_pairs() -> None:
    # (3, 1), (3, 3), (2, 1), (2, 3): won, tied, won, lost
    a, b = [np.array([3.0, 2.0])], [np.array([1.0, 3.0])]
    same = [np.array([[0, 1]])]
    assert improvement(a, b, (same, same)) == pytest.approx((2.5 / 4,) * 3)


@pytest.mark.golden
def test_chance_alone_parts_three_from_three_in_two_of_twenty_deals() -> None:
    a, b = [np.array([4.0, 5.0, 6.0])], [np.array([1.0, 2.0, 3.0])]
    assert improvement_p(a, b, np.random.default_rng(0)) == pytest.approx(2 / 20)
    # 5 against 5: two of 252
    five = [np.arange(5.0)], [np.arange(5.0) + 9]
    assert improvement_p(*five, np.random.default_rng(0)) == pytest.approx(2 / 252)


@pytest.mark.golden
def test_the_profile_counts_strictly_above() -> None:
    found = share_above([np.array([1.0, 2.0])], np.array([0.5, 1.0, 2.0]), [np.array([[0, 1]])])
    assert found.value.tolist() == [1.0, 0.5, 0.0]


@pytest.mark.golden
def test_a_median_of_times_may_be_infinite() -> None:
    values = np.array([10.0, 20.0, math.inf])
    assert ordered_interval(values, np.array([[0, 0, 1], [2, 2, 1], [1, 1, 1]])) == (20.0, 10.0, math.inf)
    # two of four never arrived: between 20 and never lies never
    assert ordered_interval(np.array([10.0, 20.0, math.inf, math.inf]), np.array([[0, 1, 2, 3]]))[0] == math.inf


# ---- rliable ---------------------------------------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize("name", ["x", "y"])
def test_numbers_and_intervals_equal_those_of_rliable(name: str) -> None:
    group, tasks = RLIABLE["groups"][name], tasks_of(name)
    draws = draws_of(group["draws"])
    assert interval(tasks, iqm, draws) == pytest.approx(group["iqm"], rel=1e-12)
    # its mean is the mean over tasks of means over runs: the mean of all, for every task has as many runs
    assert interval(tasks, lambda scores: scores.mean(-1), draws) == pytest.approx(group["mean"], rel=1e-12)
    assert interval(tasks, optimality_gap(1.0), draws) == pytest.approx(group["gap"], rel=1e-12)


@pytest.mark.golden
def test_the_probability_of_improvement_equals_that_of_rliable() -> None:
    stored = RLIABLE["improvement"]
    draws = draws_of(stored["draws_x"]), draws_of(stored["draws_y"])
    assert improvement(tasks_of("x"), tasks_of("y"), draws) == pytest.approx(stored["value"], rel=1e-12)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["x", "y"])
def test_performance_profiles_equal_those_of_rliable(name: str) -> None:
    group = RLIABLE["groups"][name]
    found = share_above(tasks_of(name), np.array(RLIABLE["taus"]), draws_of(group["draws"]))
    for ours, theirs in zip(found, ("share", "low", "high"), strict=True):
        assert ours == pytest.approx(group["profile"][theirs], abs=1e-12)


@pytest.mark.golden
@pytest.mark.parametrize("name", ["x", "y"])
def test_intervals_of_our_own_draws_lie_within_the_scatter_of_rliable(name: str) -> None:
    # its ends were found 12 times with other random numbers: ours may be one more such time, within 5 deviations
    scatter, tasks = RLIABLE["scatter"][name], tasks_of(name)
    draws = draw(np.random.default_rng(0), [len(task) for task in tasks], scatter["resamples"])
    ends = np.array(interval(tasks, iqm, draws)[1:])
    assert (np.abs(ends - scatter["mean"]) < 5 * np.array(scatter["sd"])).all()


# ---- obvious loops ---------------------------------------------------------------------------------------------------


@pytest.mark.oracle
def test_intervals_of_three_groups_of_five_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    for scores in THREE_BY_FIVE:
        draws = draw(rng, [5], 2_000)
        resampled = [loop_iqm([float(scores[run]) for run in row]) for row in draws[0]]
        wanted = [loop_iqm(scores.tolist()), *(loop_percentile(resampled, percent) for percent in (2.5, 97.5))]
        assert interval([scores], iqm, draws) == pytest.approx(wanted, rel=1e-13)


@pytest.mark.oracle
def test_the_probability_of_improvement_equals_a_loop() -> None:
    a, b = np.round(THREE_BY_FIVE[0], -1), np.round(THREE_BY_FIVE[1][:4], -1)  # rounded: there are ties
    rng = np.random.default_rng(1)
    draws = draw(rng, [5], 500), draw(rng, [4], 500)

    def loop(x: np.ndarray, y: np.ndarray) -> float:
        return sum((p > q) + 0.5 * (p == q) for p, q in itertools.product(x, y)) / (len(x) * len(y))

    resampled = [loop(a[i], b[j]) for i, j in zip(draws[0][0], draws[1][0], strict=True)]
    wanted = [loop(a, b), loop_percentile(resampled, 2.5), loop_percentile(resampled, 97.5)]
    assert improvement([a], [b], draws) == pytest.approx(wanted, rel=1e-13)


@pytest.mark.oracle
def test_the_difference_equals_a_loop() -> None:
    a, b, _ = THREE_BY_FIVE
    rng = np.random.default_rng(2)
    draws = draw(rng, [5], 500), draw(rng, [5], 500)
    pairs = zip(draws[0][0], draws[1][0], strict=True)
    resampled = [loop_iqm(a[i].tolist()) - loop_iqm(b[j].tolist()) for i, j in pairs]
    wanted = [loop_percentile(resampled, 2.5), loop_percentile(resampled, 97.5)]
    found = difference([a], [b], iqm, draws)
    assert found.value == pytest.approx(loop_iqm(a.tolist()) - loop_iqm(b.tolist()))
    assert found[1:] == pytest.approx(wanted, rel=1e-12)


@pytest.mark.oracle
def test_the_permutation_test_equals_that_of_mann_and_whitney() -> None:
    from scipy.stats import mannwhitneyu

    for a, b in itertools.permutations(THREE_BY_FIVE, 2):
        wanted = mannwhitneyu(a, b, method="exact").pvalue
        assert improvement_p([a], [b], np.random.default_rng(0)) == pytest.approx(wanted)


@pytest.mark.oracle
def test_random_deals_of_many_runs_come_near_all_deals() -> None:
    from scipy.stats import mannwhitneyu

    rng = np.random.default_rng(7)
    a, b = rng.normal(0.0, 1.0, 11), rng.normal(0.7, 1.0, 11)  # 705,432 ways to deal: too many to try
    exact = mannwhitneyu(a, b, method="exact").pvalue
    deviation = math.sqrt(exact * (1 - exact) / 10_000)
    assert improvement_p([a], [b], rng) == pytest.approx(exact, abs=5 * deviation)


@pytest.mark.invariance
def test_a_curve_is_its_places_one_by_one() -> None:
    curve = np.random.default_rng(4).normal(size=(7, 5))  # [G, N]
    draws = draw(np.random.default_rng(5), [5], 300)
    together = interval([curve], iqm, draws)
    for place in range(7):
        alone = interval([curve[place]], iqm, draws)
        assert [float(part[place]) for part in together] == pytest.approx([float(part) for part in alone], rel=1e-15)


@pytest.mark.invariance
def test_episodes_of_a_run_are_drawn_together() -> None:
    # two runs, each with equal episodes: the profile of episodes is that of runs
    runs = np.array([1.0, 3.0])
    draws = draw(np.random.default_rng(6), [2], 200)
    levels = np.array([0.0, 2.0, 4.0])
    of_episodes = share_above([np.repeat(runs[:, None], 50, axis=1)], levels, draws)
    of_runs = share_above([runs], levels, draws)
    for ours, theirs in zip(of_episodes, of_runs, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), min_size=1, max_size=3), st.floats(-5, 5))
def test_intervals_hold_their_value_and_move_with_the_scores(runs: list[list[float]], shift: float) -> None:
    tasks = [np.array(task) for task in runs]
    draws = draw(np.random.default_rng(0), [len(task) for task in tasks], 200)
    found = interval(tasks, iqm, draws)
    assert found.low <= found.high
    moved = interval([task + shift for task in tasks], iqm, draws)
    assert np.array(moved) == pytest.approx(np.array(found) + shift, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_two_groups_share_one_probability(a: list[int], b: list[int]) -> None:
    x, y = [np.array(a, float)], [np.array(b, float)]
    rng = np.random.default_rng(0)
    draws = draw(rng, [len(a)], 100), draw(rng, [len(b)], 100)
    there, back = improvement(x, y, draws), improvement(y, x, draws[::-1])
    assert float(there.value + back.value) == pytest.approx(1.0)
    assert float(there.low + back.high) == pytest.approx(1.0)
