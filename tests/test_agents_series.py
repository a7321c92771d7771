"""Series: pieces, parts in the order of time, and predictions in their places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from drivetrain.agents.series import Pieces, mixture, split_series, told
from drivetrain.envs.errors import UserError


@pytest.mark.golden
def test_a_step_sees_its_window_and_is_asked_for_the_value_after_it() -> None:
    # values 0, 10, 20 …; pieces of 3 steps that begin at 2 and at 5, a window of 2
    pieces = Pieces(torch.arange(10) * 10.0, 3, 2)
    x, y = pieces.take(torch.tensor([2, 5]))
    assert x[:, 0].tolist() == [[10, 20], [20, 30], [30, 40]] and y[:, 0, 0].tolist() == [30, 40, 50]
    assert x[:, 1].tolist() == [[40, 50], [50, 60], [60, 70]] and y[:, 1, 0].tolist() == [60, 70, 80]


@pytest.mark.golden
def test_no_value_is_in_two_parts_and_the_test_is_the_end() -> None:
    # of 200 values the last 40 are the test; of the 160 before, a quarter for validation: 0–119, 120–159, 160–199
    split = split_series(200, 8, 3, 0.25)

    def values_of(rows: Tensor) -> set[int]:  # a piece touches window − 1 before its first value and one after its last
        return {v for row in rows.tolist() for v in range(row - 2, row + 9)}

    assert values_of(split.train) == set(range(120)) and values_of(split.validation) == set(range(120, 160))
    # beginnings at 160, 168, 176, 184: targets 161 to 192, each once
    assert split.test.tolist() == [160, 168, 176, 184]
    with pytest.raises(UserError, match="too short for its parts; got 30 values"):
        split_series(30, 8, 1, 0.1)


def test_what_is_called_long_enough_is() -> None:
    for steps, window, share in ((8, 1, 0.1), (32, 4, 0.3), (16, 1, 0.9)):
        with pytest.raises(UserError) as caught:
            split_series(steps, steps, window, share)
        least = int(str(caught.value).split("about ")[1].split()[0])
        split = split_series(least + 2, steps, window, share)  # rounding may take one from either part
        assert all(len(part) for part in (split.train, split.validation, split.test))


class Echo(nn.Module):
    """Says the newest value it sees, but nothing sensible where it has seen fewer than four."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def predict(self, x: Tensor) -> Tensor:
        said = x[..., -1:].clone()
        said[:4] = float("nan")
        return said


@pytest.mark.golden
def test_what_is_told_stands_beside_what_came_and_the_first_steps_do_not_count() -> None:
    # targets 161 to 192 of values 0, 1, 2 …; the echo says 160 to 191
    split = split_series(200, 8, 1, 0.25)
    said, true = told(Echo(), torch.arange(200.0, dtype=torch.float64), 1, split.test, 8)  # type: ignore[arg-type]
    assert true.tolist() == list(range(161, 193)) and said.tolist() == list(range(160, 192))


@pytest.mark.golden
def test_a_mixture_repeats_with_its_periods_and_its_noise_is_as_wide_as_asked() -> None:
    def made(periods: tuple[float, ...], noise: float, seed: int = 0) -> Tensor:
        return mixture(periods, 20_000, noise, torch.Generator().manual_seed(seed))

    clean = made((20.0, 8.0), 0.0)
    torch.testing.assert_close(clean[40:], clean[:-40])  # 40 holds both periods
    # mean square: 1/2 of the first, 1/8 of the second, which is half as large
    assert float((clean**2).mean()) == pytest.approx(0.625, rel=1e-3)
    assert float((made((20.0, 8.0), 0.1) - clean).std()) == pytest.approx(0.1, rel=0.03)
    assert not torch.equal(made((20.0,), 0.0, 1), made((20.0,), 0.0, 2))
