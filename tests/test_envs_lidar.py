"""Beams: their length against an obvious search in float64, and the compiled path against the plain one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from drivetrain.envs import kernel, kernel_lidar, lidar
from drivetrain.envs.errors import UserError
from drivetrain.envs.frame import start_states
from drivetrain.envs.observe import OBS_SPEC, observe
from drivetrain.envs.sight import observation_space
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.state import CarState, forward
from drivetrain.envs.track import Centreline, Tracks, build_tracks, pool

STEP = 0.02
"""u between two places that the obvious search looks at"""


@cache
def scene() -> tuple[Tracks, CarState]:
    """400 cars on eight roads: along the centre line, off it by up to some thirty u, in all directions."""
    tracks, count = pool(5, 8), 400
    draw = torch.Generator().manual_seed(0)
    state = start_states(tracks).take(torch.arange(count) % 8)
    index = (torch.rand(count, generator=draw) * tracks.num_tiles[state.track]).long()
    aside = 9 * torch.randn(count, generator=draw)
    pos = tracks.centre[state.track, index] + aside[:, None] * tracks.normal[state.track, index]
    heading = 6.3 * torch.rand(count, generator=draw)
    speed = 40 * torch.rand(count, 2, generator=draw) - 20
    return tracks, replace(
        state,
        pos=pos,
        heading=heading,
        velocity=speed,
        yaw_rate=speed[:, 0] / 10,
        spin=60 * torch.rand(count, 4, generator=draw),
        controls=torch.rand(count, 3, generator=draw),
    )


def compiled(tracks: Tracks, state: CarState, beams: int, beam_range: float) -> torch.Tensor:
    out = torch.full((len(state.heading), lidar.MOTION_SIZE + beams), torch.nan)
    views = kernel.views(tracks, kernel.World), kernel.views(state.map(torch.Tensor.contiguous), kernel.Cars)
    which = np.ones(len(out), np.bool_)
    kernel_lidar.observe(*views, lidar.beam_directions(beams).numpy(), beam_range, which, out.numpy())
    return out


def on_road(tracks: Tracks, row: int, places: np.ndarray, wider: float) -> np.ndarray:
    """[n] bool of places [n, 2]: on some tile, all of them tried; tiles are made wider by so many u on each side."""
    found = np.zeros(len(places), np.bool_)
    corners = tracks.corners[row, : tracks.num_tiles[row]].double().numpy()
    close = np.linalg.norm(corners[:, 0] - places[0], axis=1) < 45
    for quad in corners[close]:
        inside = np.ones(len(places), np.bool_)
        for a, b in zip(quad, np.roll(quad, -1, 0), strict=True):
            edge = b - a
            if (length := np.hypot(*edge)) > 0:
                inside &= (edge[0] * (places[:, 1] - a[1]) - edge[1] * (places[:, 0] - a[0])) / length >= -wider
        found |= inside
    return found


def searched(tracks: Tracks, state: CarState, car: int, angle: float, beam_range: float, wider: float) -> float:
    """The length of one beam: steps of STEP u until the road ends, or off the road until it begins."""
    way = np.arange(0, beam_range, STEP)
    heading = float(state.heading[car]) + angle
    beam = np.array([-np.sin(heading), np.cos(heading)])
    here = on_road(tracks, int(state.track[car]), state.pos[car].double().numpy() + way[:, None] * beam, wider)
    changes = np.flatnonzero(here != here[0])
    length = way[changes[0]] if len(changes) else beam_range
    return length if here[0] else -length


@pytest.mark.oracle
def test_a_beam_ends_where_a_search_step_by_step_finds_the_end_of_the_road() -> None:
    tracks, state = scene()
    state, beams, reach = state.take(torch.arange(25)), 9, 25.0
    found = lidar.measure(tracks, state, beams, reach)
    angles, off = lidar.beam_angles(beams).tolist(), 0
    for car in range(len(found)):
        for k, angle in enumerate(angles):
            # a beam that grazes an edge may end anywhere between the ends on narrower and on wider tiles
            ends = [searched(tracks, state, car, angle, reach, wider) for wider in (1e-6, 2 * lidar.SKIN)]
            assert min(ends) - STEP <= found[car, k] <= max(ends) + STEP, (car, k)
            off += ends[0] < 0
    assert 25 < off < 180  # both cars on the road and off it were looked at


@pytest.mark.oracle
@pytest.mark.parametrize(("beams", "beam_range"), [(19, 40.0), (1, 5.0), (256, 150.0)])
def test_the_compiled_path_sees_what_the_plain_one_sees(beams: int, beam_range: float) -> None:
    tracks, state = scene()
    plain = lidar.observe(tracks, state, beams, beam_range)
    torch.testing.assert_close(compiled(tracks, state, beams, beam_range), plain, rtol=0, atol=1e-5)


@pytest.mark.invariance
def test_cars_do_not_see_each_other_and_the_memory_bound_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tracks, state = scene()
    together = lidar.observe(tracks, state, 7, 40.0)
    monkeypatch.setattr(lidar, "_AT_ONCE", 1)
    # torch rounds the end of a row in another way than its middle, and where rows end depends on the number of threads
    torch.testing.assert_close(lidar.observe(tracks, state, 7, 40.0), together, rtol=0, atol=1e-5)
    quick = compiled(tracks, state, 7, 40.0)
    assert torch.equal(compiled(tracks, state.take(torch.arange(77, 78)), 7, 40.0), quick[77:78])


def straight() -> Tracks:
    """A road of 100 points straight up from (0, 0), 13.33 u wide, closed by a long tile."""
    y = 3.5 * np.arange(100)
    return build_tracks([Centreline(np.stack((0 * y, 0 * y, 0 * y, y - 150), 1), np.zeros(100, np.bool_))])


@pytest.mark.golden
def test_beams_on_a_straight_road() -> None:
    # 3 beams look 135° left, ahead, 135° right. The edges are 6.667 u aside, so 6.667 / sin 45° = 9.428 u off; from
    # 2 u to the right of the middle it is 8.667 / sin 45° = 12.257 u and 4.667 / sin 45° = 6.600 u
    tracks = straight()
    start = start_states(tracks)
    middle = replace(start, pos=torch.tensor([[0.0, 0.0]]), heading=torch.zeros(1))
    assert lidar.measure(tracks, middle, 3, 40.0)[0].tolist() == pytest.approx([9.428, 40.0, 9.428], abs=2e-3)
    aside = replace(middle, pos=torch.tensor([[2.0, 0.0]]))
    assert lidar.measure(tracks, aside, 3, 40.0)[0].tolist() == pytest.approx([12.257, 40.0, 6.600], abs=2e-3)
    # 10 u to the right of the middle the road begins 3.333 u to the left: 3.333 / sin 45° = 4.714 u behind to the left
    outside = replace(middle, pos=torch.tensor([[10.0, 0.0]]))
    assert lidar.measure(tracks, outside, 3, 40.0)[0].tolist() == pytest.approx([-4.714, -40.0, -40.0], abs=2e-3)
    share = lidar.observe(tracks, outside, 3, 40.0)[0, lidar.MOTION_SIZE :].tolist()
    assert share == pytest.approx([-4.714 / 40, -1, -1], abs=1e-4)


@pytest.mark.golden
def test_the_fan_is_symmetric_and_four_times_as_dense_ahead() -> None:
    # 135° (u + 3 u³) / 4 at u = 1, 1/2, 0, -1/2, -1: 135, 135 · 0.875 / 4 = 29.53, 0
    assert torch.rad2deg(lidar.beam_angles(5)).tolist() == pytest.approx([135, 29.53, 0, -29.53, -135], abs=0.01)
    assert lidar.beam_angles(1).tolist() == [0]
    beam = forward(torch.tensor(0.5) + lidar.beam_angles(4))
    sin, cos = np.sin(0.5), np.cos(0.5)
    right, ahead = lidar.beam_directions(4).unbind(1)
    torch.testing.assert_close(torch.stack((right * cos - ahead * sin, right * sin + ahead * cos), 1), beam)


def test_from_any_heading_a_car_on_the_grass_sees_some_road_and_that_it_is_off() -> None:
    tracks = straight()
    start = start_states(tracks)
    many = start.take(torch.zeros(360, dtype=torch.int64))
    turned = replace(many, pos=torch.tensor([[16.0, 20.0]]).repeat(360, 1), heading=torch.deg2rad(torch.arange(360.0)))
    seen = lidar.measure(tracks, turned, 19, 40.0)
    assert (seen <= 0).all()
    assert (seen > -40).any(1).all()


@pytest.mark.golden
def test_own_motion_is_that_of_the_state() -> None:
    tracks, state = scene()
    names = [(element.name, k) for element in OBS_SPEC for k in range(element.size)]
    wanted = [
        *(("speed_ahead", 0), ("speed_aside", 0), ("yaw_rate", 0), ("wheel_slip", 2), ("wheel_slip", 3)),
        *(("steering", 0), ("gas", 0), ("controls", 2)),
    ]
    columns = [names.index(name) for name in wanted]
    assert sum(element.size for element in lidar.MOTION_SPEC) == len(columns) == lidar.MOTION_SIZE
    assert torch.equal(lidar.observe(tracks, state, 2, 40.0)[:, : len(columns)], observe(tracks, state)[:, columns])


@pytest.mark.conformance
@pytest.mark.parametrize("fast", [False, True])
def test_the_simulator_shows_it_and_stays_within_its_space(fast: bool) -> None:
    config = SimConfig(obs="lidar", beams=5, frame_skip=20)
    sim = Sim(pool(0, 3), 4, config, fast=fast)
    space = sim.single_observation_space
    assert space == observation_space(config)
    assert space.shape == (13,)
    obs = sim.reset()
    ended = 0
    for _ in range(60):
        assert all(row in space for row in obs.numpy())
        outcome = sim.step(torch.tensor([[0.0, 0.4, 0.0]]).repeat(4, 1))
        obs = outcome.obs
        same = (outcome.obs == outcome.next_obs).all(1)
        assert (same | outcome.done).all()
        torch.testing.assert_close(obs, lidar.observe(sim.tracks, sim.state, 5, 40.0), rtol=0, atol=1e-5)
        ended += int(outcome.done.sum())
    assert ended > 0


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"beams": 257}, {"beam_range": 0.0}, {"beam_range": float("nan")}])
def test_impossible_beams_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="beam"):
        SimConfig(obs="lidar", **wrong)
