"""The picture: against CarRacing-v3's own, the compiled path against the plain one, and what can be worked out."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from drivetrain.envs import kernel_picture, picture
from drivetrain.envs.frame import start_states
from drivetrain.envs.indicators import shown_score
from drivetrain.envs.paint import RAW, UNWRITTEN, WRITTEN, paint, plain
from drivetrain.envs.screen import share
from drivetrain.envs.sight import look
from drivetrain.envs.sim import SimConfig
from drivetrain.envs.sprite import hull_cover
from drivetrain.envs.state import CarState
from drivetrain.envs.track import Tracks, pool
from drivetrain.envs.view import ROAD_ROWS


@cache
def scene() -> tuple[Tracks, CarState]:
    """40 cars on four roads, on them and far off, turned and sliding, a few of them in their first second."""
    tracks, count = pool(3, 4), 40
    draw = torch.Generator().manual_seed(0)
    state = start_states(tracks).take(torch.arange(count) % 4)
    n = tracks.num_tiles[state.track]
    index = (torch.rand(count, generator=draw) * n).long()
    far = torch.where(torch.arange(count) < 35, 4.0, 120.0)
    visited = torch.rand(count, tracks.max_tiles, generator=draw) < 0.5
    visited &= torch.arange(tracks.max_tiles) < n[:, None]
    frames = torch.where(torch.arange(count) % 13 == 0, torch.arange(count), 60 + 20 * torch.arange(count))
    return tracks, replace(
        state,
        pos=tracks.centre[state.track, index] + far[:, None] * torch.randn(count, 2, generator=draw),
        heading=6.3 * torch.rand(count, generator=draw),
        velocity=40 * torch.randn(count, 2, generator=draw),
        yaw_rate=4 * torch.randn(count, generator=draw),
        spin=60 * torch.randn(count, 4, generator=draw),
        phase=9 * torch.rand(count, 4, generator=draw),
        joint=0.42 * (2 * torch.rand(count, 4, generator=draw) - 1),
        visited=visited,
        visited_count=visited.sum(1),
        frames=frames,
    )


def compiled(tracks: Tracks, state: CarState, config: SimConfig, colours: object) -> torch.Tensor:
    state = state.map(torch.Tensor.contiguous)
    frame = kernel_picture.make_frame(config)
    out = torch.zeros(len(state.frames), *frame.size, 1 if frame.grey else 3, dtype=torch.uint8)
    kernel_picture.see(tracks, state, colours, frame, torch.arange(len(out)), None, out)
    return out


@pytest.mark.oracle
def test_most_of_a_lap_looks_as_it_does_in_the_original() -> None:
    pytest.importorskip("Box2D")
    from drivetrain.likeness import compare_pictures, draw_states, film_original

    theirs, tracks, states = film_original(3)
    some = torch.cat((torch.arange(50), torch.arange(50, len(theirs), 5)))
    found = compare_pictures(draw_states(tracks, states.take(some)), theirs[some.numpy()])
    assert found.picture <= 0.3
    assert found.road <= 0.3
    assert found.car <= 2.5
    assert found.indicators <= 0.1
    assert found.zoom <= 0.5
    assert found.far_off <= 0.0005


@pytest.mark.oracle
def test_a_car_that_spins_on_the_grass_looks_as_it_does_in_the_original() -> None:
    pytest.importorskip("Box2D")
    from drivetrain.envs.original import OriginalEnv

    env = OriginalEnv(obs="pixels")
    env.restart(8)
    worst, bars = [], []
    for t in range(200):
        env.advance(np.array([math.sin(t / 15), 1.0, 0.0]))
        if t % 20 == 0:
            state = env.car_state()
            ours = look(env.tracks, state, SimConfig(obs="pixels"), plain(state.track))[0].int().numpy()
            error = np.abs(ours - env.core.state)
            worst.append(error[: ROAD_ROWS - 1].mean())
            bars.append(error[ROAD_ROWS:].mean())
    assert max(worst) <= 0.6
    assert max(bars) <= 2.0


OPTIONS = [
    {},
    {"picture": "grey"},
    {"crop": True},
    {"picture_size": 84},
    {"picture": "grey", "picture_size": 64, "crop": True},
    {"domain_randomize": True, "indicators": "random"},
]


@pytest.mark.oracle
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_compiled_path_draws_what_the_plain_one_draws(options: dict) -> None:
    tracks, state = scene()
    # the plain path takes long where the whole road is in view
    state = state.take(torch.arange(0 if options == {} else 14, 40, 1 if options == {} else 2))
    config = SimConfig(obs="pixels", **options)
    lane = torch.arange(len(state.frames))
    colours = paint(5, lane, lane, config.domain_randomize, config.indicators == "random")
    ours = compiled(tracks, state, config, colours).int()
    error = (ours - look(tracks, state, config, colours).int()).abs()
    assert error.max() <= 1
    assert (error > 0).double().mean() < 1e-3


@pytest.mark.invariance
@pytest.mark.parametrize("cars", [1, 2, 33])
def test_cars_drawn_together_look_as_each_does_alone(cars: int) -> None:
    tracks, state = scene()
    config, colours = SimConfig(obs="pixels"), plain(torch.arange(40))
    together = compiled(tracks, state, config, colours)
    few = torch.arange(7, 7 + cars)
    assert torch.equal(compiled(tracks, state.take(few), config, colours.take(few)), together[few])


@pytest.mark.invariance
def test_the_plain_path_draws_a_few_cars_at_a_time_without_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    tracks, state = scene()
    state, colours = state.take(torch.arange(20, 25)), plain(torch.arange(5))
    together = picture.draw(tracks, state, colours)
    monkeypatch.setattr(picture, "AT_ONCE", {"cpu": 1})
    assert (picture.draw(tracks, state, colours).int() - together.int()).abs().max() <= 1


@pytest.mark.golden
def test_the_share_of_a_pixel_beyond_a_line() -> None:
    # A line straight up, 0.25 px left of the middle: three quarters lie beyond. One at 45° through the middle: half;
    # one that leaves a corner with legs of half a side: 1/8; one through a corner: nothing.
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    assert share(torch.tensor(0.25), one, zero).item() == pytest.approx(0.75, abs=1e-4)
    assert share(zero, one, one).item() == pytest.approx(0.5)
    assert share(torch.tensor(-0.5), one, -one).item() == pytest.approx(0.125)
    assert share(torch.tensor(-1.0), one, one).item() == 0
    assert share(torch.tensor(3.0), one, one).item() == pytest.approx(1)


@pytest.mark.golden
def test_a_wheels_stripe_turns_with_it() -> None:
    # The stripe covers 1.2 rad of the rim. From -2.0 to -0.8 rad: cos -2 = -0.416, cos -0.8 = 0.697. From -0.6 to
    # 0.6 rad its front end has gone over the top (sin > 0) and shows at the rim, 1. From 1.0 to 2.2 rad it is below.
    low, high = picture.stripe(torch.tensor([-2.0, -0.6, 1.0]))
    assert low[:2].tolist() == pytest.approx([-0.416, 0.825], abs=1e-3)
    assert high[:2].tolist() == pytest.approx([0.697, 1.0], abs=1e-3)
    assert low[2] == high[2]


@pytest.mark.golden
def test_the_score_is_written_before_the_frame_is_charged() -> None:
    # after reset it is 0; after frame k it is 1000 · visited / N - 0.1 (k - 1), rounded
    tracks, state = scene()
    n = int(tracks.num_tiles[0])
    cars = replace(
        state.take(torch.zeros(3, dtype=torch.int64)),
        track=torch.zeros(3, dtype=torch.int64),
        frames=torch.tensor([0, 1, 31]),
        visited_count=torch.tensor([2, 2, 100]),
    )
    wanted = [0, round(2000 / n), round(100_000 / n - 3)]
    assert (shown_score(tracks, cars) - 100).tolist() == wanted


@pytest.mark.golden
def test_the_score_is_written_in_each_way() -> None:
    tracks, state = scene()
    state = state.take(torch.full((3,), 20))
    style = replace(plain(torch.arange(3)), score=torch.tensor([WRITTEN, RAW, UNWRITTEN]))
    written, raw, unwritten = picture.draw(tracks, state, style)[:, ROAD_ROWS:].float()
    assert written[3:9, :11].mean() > 20  # digits on black
    assert raw[3:9, 11:26].mean() > 20  # seventeen characters reach over the bars
    assert unwritten[3:9, :11].max() == 0
    assert torch.equal(written[:, 30:], raw[:, 30:])


@pytest.mark.golden
def test_flat_ground_and_bars_have_the_levels_that_the_original_shows() -> None:
    # Averaging down takes two levels: grass (102, 204, 102) becomes (100, 202, 100) and its patches (100, 228, 100).
    # At 0.02 a u/s and 20 px a unit, 100 u/s make a bar of 40 px: rows 740 to 780 of 800, so 4.8 of 96 rows; the
    # middle of its column 125 to 150 of 1,000 is column 13.
    tracks, state = scene()
    car = replace(
        state.take(torch.tensor([39])),
        pos=torch.tensor([[-290.0, 200.0]]),
        heading=torch.zeros(1),
        velocity=torch.tensor([[0.0, 100.0]]),
        frames=torch.tensor([500]),
    )
    seen = picture.draw(tracks, car, plain(torch.arange(1)))[0]
    ground = {tuple(pixel) for pixel in seen[:60].reshape(-1, 3).tolist()}
    assert {(100, 202, 100), (100, 228, 100)} <= ground
    assert seen[90, 13].tolist() == [253, 253, 253]
    assert seen[86, 13].tolist() == [0, 0, 0]


@pytest.mark.gpu
@pytest.mark.oracle
def test_a_gpu_draws_what_the_cpu_draws() -> None:
    tracks, state = scene()
    some, config = torch.arange(20, 30), SimConfig(obs="pixels")
    there = pool(3, 4, "cuda")
    ours = look(there, state.take(some).map(lambda x: x.cuda()), config, plain(torch.arange(10, device="cuda")))
    error = (ours.cpu().int() - look(tracks, state.take(some), config, plain(torch.arange(10))).int()).abs()
    assert error.max() <= 1


@pytest.mark.golden
def test_a_car_too_far_away_to_have_a_shape_is_no_wider_than_it_is() -> None:
    # at reset a u has 0.912 px of the large picture: the front bar, 2.4 u wide, lies within 3 of its pixels and their
    # rims, so less than half a column of the small picture to each side of column 48 (3 of 6 in the box)
    cover = hull_cover()[0]
    assert cover[:, [0, 1, 4, 5]].max() == 0
    assert 0 < cover.sum() < 0.5
