"""Pictures from above, and the window they are shown in."""

import importlib.metadata
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from drivetrain.envs.camera import whole_track
from drivetrain.envs.cars import livery
from drivetrain.envs.errors import UserError
from drivetrain.envs.frame import start_states
from drivetrain.envs.hud import AMBER, PANEL, font, hud_height
from drivetrain.envs.panel import Axis, Choice, Mind, help_height
from drivetrain.envs.seen import BEAM, POINT, Seen, seen_in_world, seen_pictures
from drivetrain.envs.sim import SimConfig
from drivetrain.envs.tags import place_tags
from drivetrain.envs.track import Tracks, pool
from drivetrain.envs.viewer import (
    ASPHALT,
    BODY_LIGHT,
    CAR_AT,
    DRIVEN,
    SIZE,
    VIEW_WIDTH,
    Cast,
    Shot,
    Viewer,
    frame_rgb,
    load_pygame,
)
from drivetrain.envs.window import Window


@pytest.fixture(scope="module")
def tracks() -> Tracks:
    return pool(0, 2)


def car_on(tracks, tile, row=0, turned=0.0):
    """A car on the centre line at a tile of a track, turned away from its direction."""
    start = start_states(tracks).take(torch.tensor([row]))
    heading = tracks.beta[row, tile][None] + turned
    visited = torch.arange(tracks.max_tiles)[None] <= tile
    return replace(
        start,
        pos=tracks.centre[row, tile][None],
        heading=heading,
        visited=visited,
        visited_count=visited.sum(1),
        frames=torch.tensor([100]),
    )


def seen(picture, right, ahead):
    """Colour of the world at a place in the car's frame, u: right of and ahead of the hull's origin."""
    height, width, _ = picture.shape
    scale = width / VIEW_WIDTH
    row = CAR_AT * (height - hud_height((width, height))) - scale * ahead
    return tuple(int(v) for v in picture[round(row), round(width / 2 + scale * right)])


@pytest.mark.parametrize("size", [SIZE, (600, 400), (321, 243)])
def test_a_picture_has_the_size_asked_for(tracks, size):
    picture = frame_rgb(tracks, car_on(tracks, 50), size=size, caption="expert")
    assert picture.shape == (size[1], size[0], 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize("tile", [20, 110, 200])
def test_the_camera_follows_the_car_and_looks_where_it_goes(tracks, tile):
    picture = frame_rgb(tracks, car_on(tracks, tile))
    assert seen(picture, 0.0, 1.5) == BODY_LIGHT  # the stripe on the nose, 1.5 u ahead of the hull's origin
    assert seen(picture, 3.0, 3.5 * 2) == ASPHALT  # road not yet reached
    assert seen(picture, 3.0, -3.5 * 1) == DRIVEN  # road behind the car


def test_a_car_across_the_road_is_drawn_upwards_all_the_same(tracks):
    picture = frame_rgb(tracks, car_on(tracks, 20, turned=1.5))
    assert seen(picture, 0.0, 1.5) == BODY_LIGHT
    # half the road's width is 6.67 u: 12 u ahead of a car that stands across, there is grass
    assert seen(picture, 0.0, 12.0)[1] > 150


def test_instruments_fill_the_lower_edge_and_change_with_the_car(tracks):
    state = car_on(tracks, 20)
    slow = frame_rgb(tracks, state)
    fast = frame_rgb(tracks, replace(state, velocity=torch.tensor([[0.0, 80.0]])))
    top = SIZE[1] - hud_height(SIZE)
    assert tuple(slow[top + 10, 4]) == PANEL
    assert np.array_equal(slow[:top], fast[:top])
    assert not np.array_equal(slow[top:], fast[top:])


def test_the_same_state_gives_the_same_picture_and_rows_are_their_own(tracks):
    state = car_on(tracks, 40)
    both = state.map(lambda x: torch.cat((x, x)))
    both = replace(both, track=torch.tensor([0, 1]))
    first = frame_rgb(tracks, both, row=0)
    np.testing.assert_array_equal(first, frame_rgb(tracks, state))
    assert not np.array_equal(first, frame_rgb(tracks, both, row=1))


def test_the_camera_lags_behind_a_turn_and_catches_up(tracks):
    painter = Viewer((320, 240))
    state = car_on(tracks, 20)
    painter.frame(tracks, state)
    turned = replace(state, heading=state.heading + 0.5, frames=state.frames + 1)
    at_once = painter.frame(tracks, turned)
    settled = painter.frame(tracks, replace(turned, frames=state.frames + 200))
    square = frame_rgb(tracks, replace(turned, frames=state.frames + 200), size=(320, 240))
    assert not np.array_equal(at_once[:180], square[:180])
    np.testing.assert_array_equal(settled, square)


def test_a_picture_too_small_to_read_is_refused(tracks):
    with pytest.raises(UserError, match="too small"):
        frame_rgb(tracks, car_on(tracks, 1), size=(80, 60))


def test_two_pygames_in_one_environment_are_refused_with_the_fix(monkeypatch):
    load_pygame.cache_clear()
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: object())
    with pytest.raises(UserError, match="pip uninstall -y pygame pygame-ce && pip install pygame-ce"):
        load_pygame()
    load_pygame.cache_clear()


def test_importing_the_environments_does_not_import_pygame_and_drawing_says_nothing():
    code = (
        "import sys, drivetrain.envs.viewer, drivetrain.envs.gym_single, drivetrain.envs.gym_vector\n"
        "assert 'pygame' not in sys.modules\n"
        "drivetrain.envs.viewer.Viewer()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_a_window_without_a_display_names_the_command_that_needs_none(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="drivetrain record") as caught:
        Window((320, 240), "test")
    assert caught.value.code == 2


def test_a_window_tells_keys_and_that_it_was_closed(tracks, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = load_pygame()
    window = Window((320, 240), "test")
    window.show(Viewer((320, 240)).draw(tracks, car_on(tracks, 3)), fps=1000)
    window.pressed()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_SPACE, unicode=" "))
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_PLUS, unicode="+"))
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_ESCAPE, unicode="\x1b"))
    assert window.pressed() == ["space", "+", "escape"]
    assert window.is_open
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.pressed() == []
    assert not window.is_open
    window.close()
    window.close()


def test_the_view_is_wide_enough_for_the_fastest_car():
    # 100 u/s is the fastest a car goes; half a second of road ahead must be in the picture
    ahead = CAR_AT * (SIZE[1] - hud_height(SIZE)) / (SIZE[0] / VIEW_WIDTH)
    assert ahead > 35.0


# ---- several cars, cameras and panels -------------------------------------------------------------------------------


def shot(tracks, *cars, size=SIZE, **settings):
    """Picture uint8 [height, width, 3] of cars on one track."""
    cast = tuple(Cast(f"driver {index}", car) for index, car in enumerate(cars))
    surface = Viewer(size).shoot(tracks, Shot(cast, **settings))
    pixels = load_pygame().image.tobytes(surface, "RGB")
    return np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], 3)


def count(picture, colour):
    """Pixels of exactly this colour."""
    return int((picture == np.array(colour)).all(-1).sum())


def test_a_map_that_grew_tile_by_tile_is_the_map_drawn_at_once_and_an_episode_begins_anew(tracks):
    painter = Viewer((480, 360))
    for tile in (3, 10, 40):
        grown = painter.frame(tracks, car_on(tracks, tile))
    corner = np.s_[:100, 370:]
    # the map's lines overlap by a pixel at their ends, in the order in which they were drawn
    off = np.abs(grown[corner].astype(int) - frame_rgb(tracks, car_on(tracks, 40), size=(480, 360))[corner]).max(-1)
    assert (off > 40).mean() < 0.01
    np.testing.assert_array_equal(
        painter.frame(tracks, car_on(tracks, 2))[corner], frame_rgb(tracks, car_on(tracks, 2), size=(480, 360))[corner]
    )


def test_a_ghost_is_drawn_beside_the_followed_car_in_its_own_colour(tracks):
    own, ghost = car_on(tracks, 50), car_on(tracks, 52)
    body = livery(1).body
    alone, together = shot(tracks, own), shot(tracks, own, ghost)
    assert count(alone, body) == 0
    # the hull alone has over an eighth of 2 x 4.2 u, at 11.7 px a unit; its sign and its dot come on top
    assert count(together, body) > 8.4 / 8 * (SIZE[0] / VIEW_WIDTH) ** 2
    other = shot(tracks, own, ghost, followed=1)
    assert seen(other, 0.0, 1.5) == livery(1).light
    assert not np.array_equal(together, other)


def protan(colour):
    """A colour as somebody without long-wave cones sees it (Viénot, Brettel and Mollon 1999), linear RGB."""
    linear = (np.array(colour) / 255) ** 2.2
    return np.array([[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]) @ linear


def deutan(colour):
    """The same without middle-wave cones."""
    linear = (np.array(colour) / 255) ** 2.2
    return np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]) @ linear


@pytest.mark.parametrize("sight", [protan, deutan])
def test_colours_of_drivers_stay_apart_for_the_colour_blind(sight):
    colours = [np.clip(sight(livery(index).body), 0, 1) ** (1 / 2.2) for index in range(9)]
    apart = [np.abs(a - b).max() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(apart) > 0.09  # of 1, in the channel that differs most; numbers and signs tell the rest
    assert all(livery(index) != livery(other) for index in range(17) for other in range(index))


def test_north_up_keeps_the_car_in_the_middle_whatever_its_heading(tracks):
    room = SIZE[1] - hud_height(SIZE)
    for turned in (0.0, 2.0):
        picture = shot(tracks, car_on(tracks, 20, turned=turned), camera="north")
        middle = picture[room // 2 - 40 : room // 2 + 40, SIZE[0] // 2 - 40 : SIZE[0] // 2 + 40]
        assert count(middle, livery(0).body) > 100
    ahead = car_on(tracks, 20)
    assert not np.array_equal(shot(tracks, ahead, camera="north"), shot(tracks, ahead))


def test_the_whole_track_is_in_the_picture_beside_the_panels(tracks):
    line = tracks.centre[0, : int(tracks.num_tiles[0])].double().numpy()
    camera = whole_track(line, (960, 640), (200, 50, 600, 500), margin=10.0)
    places = camera.pixels(line)
    assert places[:, 0].min() > 200
    assert places[:, 0].max() < 800
    assert places[:, 1].min() > 50
    assert places[:, 1].max() < 550
    # north is up: the northernmost point has the smallest row
    assert places[:, 1].argmin() == line[:, 1].argmax()
    picture = shot(tracks, car_on(tracks, 30), camera="track")
    # 31 of some 300 tiles were touched
    assert 0.05 < count(picture, DRIVEN) / count(picture, ASPHALT) < 0.25


def test_tags_hide_neither_each_other_nor_a_car():
    cars = [(300.0, 200.0)] * 16 + [(20.0, 20.0)]
    sizes = [(60 + index, 18) for index in range(17)]
    corners = place_tags(cars, sizes, (600, 400), distance=20.0)
    boxes = [(x, y, x + w, y + h) for (x, y), (w, h) in zip(corners, sizes, strict=True)]
    boxes.append((290, 190, 310, 210))
    for index, (left, top, right, bottom) in enumerate(boxes):
        assert min(left, top) >= 0
        assert right <= 600
        assert bottom <= 400
        for other in boxes[:index]:
            assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]


def test_the_mind_of_a_policy_is_shown_and_changes_nothing_else(tracks):
    car = car_on(tracks, 20)
    axis = Axis("steering", ("left", "right"), -1.0, 1.0, 0.2, -0.1, 0.4)
    plain = shot(tracks, car)
    continuous = shot(tracks, car, mind=Mind(512.0, (axis,)))
    choices = tuple(Choice(f"action {index}", 0.2, "20 %") for index in range(15))
    discrete = shot(tracks, car, mind=Mind(-3.0, choices=choices, chosen=4))
    for picture in (continuous, discrete):
        changed = (picture != plain).any(-1)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        assert columns.min() > 0.75 * SIZE[0]
        assert rows.max() < SIZE[1] - hud_height(SIZE)
        assert count(picture, AMBER) > count(plain, AMBER)


def test_a_small_picture_leaves_standings_and_policy_out(tracks):
    mind = Mind(512.0, (Axis("steering", ("left", "right"), -1.0, 1.0, 0.2, -0.1, 0.4),))
    for size, shown in (((320, 240), False), ((480, 360), True)):
        plain = shot(tracks, car_on(tracks, 20), size=size)
        assert (shot(tracks, car_on(tracks, 20), size=size, mind=mind) != plain).any() == shown


def test_a_line_of_help_takes_its_own_room_and_drops_the_last_entries_where_it_is_narrow(tracks):
    entries = tuple((f"key{index}", "what it does") for index in range(9))
    for size in (SIZE, (320, 240)):
        picture = shot(tracks, car_on(tracks, 20), size=size, help=entries)
        strip = picture[size[1] - help_height(size) :]
        assert tuple(strip[1, 1]) == PANEL
        assert (strip != PANEL).any()
        # nothing is cut in two at the edges
        assert (strip[:, :3] == PANEL).all()
        assert (strip[:, -3:] == PANEL).all()
    with_keys = shot(tracks, car_on(tracks, 20), help=entries, keys=entries, banner="hidden by the box")
    assert tuple(with_keys[SIZE[1] // 2 - 60, SIZE[0] // 2 + 60]) != tuple(shot(tracks, car_on(tracks, 20))[300, 540])


def test_look_ahead_points_lie_on_the_centre_line(tracks):
    found = seen_in_world(tracks, car_on(tracks, 40, turned=0.3), SimConfig())
    line = tracks.centre[0, 40:73].double().numpy()
    away = np.linalg.norm(found.points[:, None] - line, axis=-1).min(1)
    assert found.points.shape == (12, 2)
    assert away.max() < 1e-3  # the car stands on a centre point, so the points ahead are centre points
    assert count(shot(tracks, car_on(tracks, 40), seen=found), POINT) > 100


def test_beams_end_at_the_edge_of_the_road(tracks):
    config = SimConfig(obs="lidar", beams=9, beam_range=200.0)
    car = car_on(tracks, 40)
    found = seen_in_world(tracks, car, config)
    assert found.beams.shape == (9, 2)
    line = tracks.centre[0, : int(tracks.num_tiles[0])].double().numpy()
    away = np.linalg.norm(found.beams[:, None] - line, axis=-1).min(1)
    # half the road's width is 6.67 u; between two centre points the edge is a little nearer to one of them
    assert (np.abs(away - 6.67) < 0.5).all()
    assert count(shot(tracks, car, seen=found), BEAM) > 100


def test_a_stack_of_pictures_is_shown_in_the_lower_left_corner(tracks):
    obs = torch.zeros(84, 96, 2, dtype=torch.uint8)
    obs[..., 1] = 200
    pictures = seen_pictures(obs, SimConfig(obs="pixels", picture="grey", crop=True, frame_stack=2)).pictures
    assert [picture.shape for picture in pictures] == [(84, 96, 3)] * 2
    picture = shot(tracks, car_on(tracks, 20), seen=Seen(pictures=pictures))
    assert count(picture[SIZE[1] // 2 :, : SIZE[0] // 2], (200, 200, 200)) > 2 * 84 * 96
    assert count(picture, (0, 0, 0)) > 2 * 84 * 96
    grass = seen_pictures(torch.full((4, 4, 1), 5, dtype=torch.uint8), SimConfig(obs="pixels", picture="palette"))
    assert tuple(grass.pictures[0][0, 0]) == (100, 202, 100)


def test_texts_are_cut_to_their_room_and_may_be_empty():
    face = font(load_pygame(), 20)
    assert face.fitted("short", 500) == "short"
    cut = face.fitted("a driver with a very long name", 100)
    assert cut.endswith("…")
    assert face.width(cut) <= 100
    assert face.render("", (255, 255, 255)).get_height() == face.height


def test_a_window_knows_which_keys_are_held(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = load_pygame()
    window = Window((320, 240), "test")
    window.pressed()
    for kind, key in ((pygame.KEYDOWN, pygame.K_UP), (pygame.KEYDOWN, pygame.K_a), (pygame.KEYUP, pygame.K_UP)):
        pygame.event.post(pygame.event.Event(kind, key=key, unicode=""))
    assert window.pressed() == ["up", "a"]
    assert window.held == {"a"}
    pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
    window.pressed()
    assert window.held == set()
    window.close()
