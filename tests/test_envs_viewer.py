"""Pictures from above, and the window they are shown in."""

import importlib.metadata
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from drivetrain.envs import viewer
from drivetrain.envs.errors import UserError
from drivetrain.envs.frame import start_states
from drivetrain.envs.hud import PANEL, hud_height
from drivetrain.envs.track import Tracks, pool
from drivetrain.envs.viewer import ASPHALT, BODY_LIGHT, CAR_AT, DRIVEN, SIZE, VIEW_WIDTH, Viewer, frame_rgb, load_pygame
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
    ahead = CAR_AT * (SIZE[1] - hud_height(SIZE)) / (SIZE[0] / viewer.VIEW_WIDTH)
    assert ahead > 35.0
