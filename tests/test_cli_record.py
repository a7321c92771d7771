"""The commands `record` and `watch`: films complete or not at all, and a window that obeys its keys."""

import json
import sys
from dataclasses import replace

import av
import numpy as np
import pytest
import torch

from drivetrain.agents.evaluate import play_twin, scripted_actor
from drivetrain.drive import Drive
from drivetrain.drivers import find_driver
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.viewer import load_pygame
from drivetrain.film import Film
from drivetrain.main import main

SMALL = ["--size", "160x120"]


def run(capsys, *args):
    """Exit code, the JSON object on the last line of stdout, and stderr."""
    code = main([*args, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err


def decoded(path):
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        return pictures, stream.codec_context, float(stream.average_rate)


@pytest.fixture(scope="module")
def short_lap():
    """Only the first frames of each episode, so that a test is quick."""
    whole = Drive.episode

    def first_frames(self, seed):
        for tracks_and_state, _ in zip(whole(self, seed), range(30), strict=False):
            yield tracks_and_state

    patch = pytest.MonkeyPatch()
    patch.setattr(Drive, "episode", first_frames)
    yield
    patch.undo()


def test_a_film_of_a_whole_lap_has_a_picture_per_frame_and_the_score_of_evaluate(capsys, tmp_path):
    out = tmp_path / "lap.mp4"
    code, told, _ = run(capsys, "record", "expert", "--out", str(out), "--seed", "3", *SMALL)
    expected = play_twin(scripted_actor("expert", "continuous"), [3])
    assert code == 0
    assert told["out"] == str(out)
    assert told["scores"] == pytest.approx(expected.scores, abs=1e-3)
    assert told["frames"] == expected.frames[0]
    assert told["seconds"] == pytest.approx(told["frames"] / 50)
    pictures, codec, rate = decoded(out)
    assert len(pictures) == told["frames"]
    assert pictures[0].shape == (120, 160, 3)
    assert (codec.name, codec.pix_fmt, rate) == ("h264", "yuv420p", 50.0)
    assert [file.name for file in tmp_path.iterdir()] == ["lap.mp4"]


@pytest.mark.usefixtures("short_lap")
@pytest.mark.parametrize("env", ["racing", "CarRacing-v3"])
def test_gif_films_of_several_episodes_in_both_worlds(capsys, tmp_path, env):
    out = tmp_path / "drive.gif"
    code, told, _ = run(capsys, "record", "random", "--out", str(out), "--episodes", "2", "--env", env, *SMALL)
    assert code == 0
    assert len(told["scores"]) == 2
    pictures, codec, rate = decoded(out)
    assert len(pictures) == told["frames"] == 60
    assert (codec.name, rate) == ("gif", 50.0)
    # green grass in the corner of the first picture: colours survive the palette
    assert np.argmax(pictures[0][60, 3]) == 1


@pytest.mark.usefixtures("short_lap")
def test_odd_sizes_are_padded_to_even_ones(capsys, tmp_path):
    code, _, _ = run(capsys, "record", "expert", "--out", str(tmp_path / "odd.mp4"), "--size", "201x151")
    assert code == 0
    assert decoded(tmp_path / "odd.mp4")[0][0].shape == (152, 202, 3)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["expert", "--out", "film.avi"], "film.avi"),
        (["expert", "--out", "film"], "NAME.mp4"),
        (["expert"], "--out is missing"),
        (["expert", "--out", "nowhere/film.mp4"], "does not exist"),
        (["expert", "--out", "film.mp4", "--episodes", "0"], "--episodes"),
        (["expert", "--out", "film.mp4", "--size", "wide"], "WIDTHxHEIGHT"),
        (["expert", "--out", "film.mp4", "--size", "10x10"], "too small"),
        (["expert", "--out", "film.mp4", "--size", "99999x10"], "too large"),
        (["expert", "--out", "film.mp4", "--env", "CarRacing"], "CarRacing-v3"),
        (["nobody", "--out", "film.mp4"], "no such run"),
        (["human", "--out", "film.mp4"], "no such run"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2_and_leaves_nothing(capsys, tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    assert main(["record", *args]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert rest == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="/proc is a folder that nobody, root included, can write"
)
def test_a_folder_that_cannot_be_written_is_refused(capsys):
    assert main(["record", "expert", "--out", "/proc/film.mp4"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write /proc/film.mp4")


def test_a_folder_in_the_films_place_is_refused(capsys, tmp_path):
    (tmp_path / "film.mp4").mkdir()
    assert main(["record", "expert", "--out", str(tmp_path / "film.mp4")]) == 2
    assert "is a folder" in capsys.readouterr().err


def film_breaking_off(path):
    with Film(path, (160, 120)) as film:
        film.add(np.zeros((120, 160, 3), np.uint8))
        raise RuntimeError("car lost")


def test_a_film_that_breaks_off_leaves_the_older_one_in_place(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="car lost"):
        film_breaking_off(path)
    assert path.read_bytes() == b"older"
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.invariance
def test_a_driver_filmed_frame_by_frame_drives_as_with_its_frame_skip():
    driver = replace(find_driver("random"), frame_skip=3)
    drive = Drive(driver)
    states = [state for _, (_, state) in zip(range(9), drive.episode(5), strict=False)]
    env, actor = RacingEnv(frame_skip=3), driver.actor()
    obs, _ = env.reset(seed=5)
    for decision in range(3):
        action = actor(torch.from_numpy(obs)[None], env.tracks, env.car_state())[0].numpy()
        obs, *_ = env.step(action)
        torch.testing.assert_close(env.car_state().pos, states[3 * decision + 2].pos, rtol=0, atol=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
def test_watching_without_a_display_names_record(capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert main(["watch", "expert"]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("error: no display")
    assert "drivetrain record" in first
    assert rest == []


@pytest.mark.usefixtures("short_lap")
def test_a_watched_driver_obeys_the_keys_and_the_window_closes_with_exit_0(capsys, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame = load_pygame()
    # one key per picture: faster, pause, go on, next track, faster, and in the end close the window
    script = iter(["+", "space", "space", "n", "+", "quit"])
    seen = []

    def fake_events():
        key = next(script)
        seen.append(key)
        if key == "quit":
            return [pygame.event.Event(pygame.QUIT)]
        codes = {"space": pygame.K_SPACE, "n": pygame.K_n, "+": pygame.K_PLUS}
        return [pygame.event.Event(pygame.KEYDOWN, key=codes[key], unicode=" " if key == "space" else key)]

    monkeypatch.setattr(pygame.event, "get", fake_events)
    code, told, _ = run(capsys, "watch", "expert", *SMALL)
    assert code == 0
    assert seen[-1] == "quit"
    assert told == {"episodes": 0, "scores": []}


@pytest.mark.usefixtures("short_lap")
def test_watching_a_number_of_episodes_ends_by_itself(capsys, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("drivetrain.watch.PAUSE_AT_END", 0.0)
    code, told, _ = run(capsys, "watch", "random", "--episodes", "2", "--env", "CarRacing-v3", *SMALL)
    assert code == 0
    assert told["episodes"] == len(told["scores"]) == 2


def test_watching_a_human_is_not_built_yet(capsys):
    assert main(["watch", "human"]) == 2
    assert "not built yet" in capsys.readouterr().err
