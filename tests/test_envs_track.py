"""Roads: equal to Gymnasium's, and tables that never miss a tile."""

import numpy as np
import pytest
import torch

from drivetrain.envs.contact import touched_tiles
from drivetrain.envs.spec import CAR, ROAD
from drivetrain.envs.track import CELL, GRID, PAD, build_tracks, centreline_from_points, centreline_of_seed, pool


@pytest.fixture(scope="module")
def tracks():
    return pool(0, 8)


@pytest.mark.golden
def test_the_first_roads_have_the_published_tiles_kerbs_and_points():
    # counts and points read off gymnasium 1.4.0
    wanted = {0: (319, 75), 1: (275, 55), 2: (335, 85), 3: (271, 47)}
    lines = {seed: centreline_of_seed(seed) for seed in wanted}
    assert {seed: (len(line.points), int(line.kerb.sum())) for seed, line in lines.items()} == wanted
    np.testing.assert_allclose(lines[0].points[0], (-0.247676, -0.089021, 220.385378, -52.163562), atol=1e-6)
    np.testing.assert_allclose(lines[0].points[100], (1.430485, 0.153575, 16.406178, 123.40775), atol=1e-6)


@pytest.mark.oracle
def test_roads_equal_gymnasiums_point_for_point_and_kerb_for_kerb():
    car_racing = pytest.importorskip("gymnasium.envs.box2d.car_racing")
    env = car_racing.CarRacing()
    env._render = lambda mode: None
    for seed in (*range(12), 123456789, 2_000_000_007):
        env.reset(seed=seed)
        line = centreline_of_seed(seed)
        assert np.array_equal(np.array(env.track), line.points), f"seed {seed}"
        # every tile and every kerb is one polygon of the original's road
        assert len(env.road_poly) == len(line.points) + line.kerb.sum(), f"seed {seed}"


@pytest.mark.oracle
def test_a_road_rebuilt_from_its_points_has_the_same_kerbs():
    line = centreline_of_seed(5)
    assert np.array_equal(centreline_from_points(line.points).kerb, line.kerb)


@pytest.mark.oracle
def test_the_nearest_point_table_equals_a_search_over_all_points(tracks):
    middle = (torch.arange(GRID) + 0.5) * CELL - GRID * CELL / 2
    places = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1).view(-1, 2)
    points = tracks.centre[0, : tracks.num_tiles[0]]
    gap = torch.cdist(places, points)
    chosen = gap.gather(1, tracks.nearest[0].long().view(-1, 1))[:, 0]
    torch.testing.assert_close(chosen, gap.amin(1), atol=1e-3, rtol=0)


@pytest.mark.oracle
def test_looking_up_a_cell_finds_every_tile_that_a_search_over_all_tiles_finds(tracks):
    # wheels thrown over the road and its edges, far outside too; the full search is the same test on all tiles
    rng = torch.Generator().manual_seed(0)
    cars = 400
    track = torch.randint(0, tracks.num_tracks, (cars,), generator=rng)
    point = (torch.rand(cars, 4, generator=rng) * tracks.num_tiles[track][:, None]).long()
    centre = tracks.centre[track[:, None], point] + (torch.rand(cars, 4, 2, generator=rng) - 0.5) * 20
    centre[:20] *= 3.0
    angle = torch.rand(cars, 4, generator=rng) * 7
    tiles, hit = touched_tiles(tracks, track, centre, angle)

    everything = torch.arange(tracks.max_tiles)
    full = tracks.map(lambda x: x)
    lists = torch.full((tracks.num_tracks, 2, tracks.max_tiles), -1, dtype=torch.int16)
    for row in range(tracks.num_tracks):
        lists[row, 1, : tracks.num_tiles[row]] = everything[: tracks.num_tiles[row]].to(torch.int16)
    object.__setattr__(full, "cell", torch.ones_like(tracks.cell))
    object.__setattr__(full, "cell_tiles", lists)
    all_tiles, all_hit = touched_tiles(full, track, centre, angle)

    for car in range(cars):
        for wheel in range(4):
            found = set(tiles[car, wheel][hit[car, wheel]].tolist())
            assert found == set(all_tiles[car, wheel][all_hit[car, wheel]].tolist()), (car, wheel)
    assert hit.any(-1).sum() > 300


@pytest.mark.golden
def test_tile_hulls_are_counter_clockwise_and_their_planes_point_outwards(tracks):
    for row in range(tracks.num_tracks):
        n = int(tracks.num_tiles[row])
        corners, planes = tracks.corners[row, :n], tracks.planes[row, :n]
        edge = corners.roll(-1, 1) - corners
        turn = edge[:, :, 0] * edge.roll(-1, 1)[:, :, 1] - edge[:, :, 1] * edge.roll(-1, 1)[:, :, 0]
        assert (turn >= -1e-3).all()
        inside = corners.mean(1, keepdim=True)
        assert ((planes[..., :2] * inside).sum(-1) < planes[..., 2]).all()
        torch.testing.assert_close(planes[..., :2].norm(dim=-1), torch.ones(n, 4))


@pytest.mark.golden
def test_padded_points_repeat_the_beginning_of_the_road(tracks):
    n = int(tracks.num_tiles[3])
    assert torch.equal(tracks.centre[3, n : n + PAD], tracks.centre[3, :PAD])


@pytest.mark.invariance
def test_a_road_does_not_depend_on_the_pool_it_is_in(tracks):
    alone = pool(3, 1)
    n = int(alone.num_tiles[0])
    assert torch.equal(alone.centre[0, : n + PAD], tracks.centre[3, : n + PAD])
    assert torch.equal(alone.nearest[0], tracks.nearest[3])
    assert torch.equal(alone.corners[0], tracks.corners[3, :n])


def test_a_road_that_leaves_the_look_up_grid_is_still_found():
    # The outermost cells stretch to infinity: a road pushed far off keeps all its contacts.
    points = centreline_of_seed(0).points.copy()
    points[:, 2] += 40.0
    moved = build_tracks([centreline_from_points(points)])
    tile = int(moved.centre[0, :300, 0].argmax())
    assert float(moved.centre[0, tile, 0]) > GRID * CELL / 2
    middle = moved.corners[0, tile].mean(0)
    tiles, hit = touched_tiles(moved, torch.zeros(1, dtype=torch.int64), middle.expand(1, 4, 2), torch.zeros(1, 4))
    assert tile in tiles[hit].tolist()


def test_specification_is_self_consistent():
    # 7.06 + 4 · 0.06048 = 7.30192, and the inertia given for hull and wheels together
    assert CAR.mass == pytest.approx(7.30192)
    assert CAR.com_y == pytest.approx(-0.0804592, abs=1e-7)
    assert CAR.inertia == pytest.approx(19.1706458, abs=1e-6)
    assert pytest.approx(333.333, abs=1e-3) == ROAD.playfield
