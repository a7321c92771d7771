"""The command `record`: films complete or not at all."""

import io
import itertools
import json
import os
import subprocess
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
from drivetrain.envs.original import OriginalEnv
from drivetrain.envs.viewer import Viewer, load_pygame
from drivetrain.main import main
from drivetrain.scenes import RaceScene

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


@pytest.fixture
def short_lap(monkeypatch):
    """Only the first frames of each episode, so that a test is quick."""
    whole = Drive.episode

    def first_frames(self, seed):
        for tracks_and_state, _ in zip(whole(self, seed), range(30), strict=False):
            yield tracks_and_state

    monkeypatch.setattr(Drive, "episode", first_frames)


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
    # two episodes of 30 frames; a gif has 25 pictures a second, so it shows every other one
    assert len(pictures) == told["frames"] == 30
    assert told["seconds"] == pytest.approx(30 / 25)
    assert (codec.name, rate) == ("gif", 25.0)
    # green grass at the left edge of the first picture: colours survive the palette
    assert np.argmax(pictures[0][60, 3]) == 1


@pytest.mark.usefixtures("short_lap")
def test_a_reader_that_goes_away_does_not_cost_the_film(tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    out = tmp_path / "drive.mp4"
    monkeypatch.setattr(sys, "stdout", Gone())
    assert main(["record", "expert", "--out", str(out), "--episodes", "2", *SMALL]) == 0
    monkeypatch.undo()
    assert len(decoded(out)[0]) == 60  # two episodes of 30 frames


@pytest.mark.usefixtures("short_lap")
@pytest.mark.golden
def test_a_film_shows_what_the_viewer_draws(capsys, tmp_path):
    # with sides divisible by 16 the encoder pads nothing
    out = tmp_path / "drive.mp4"
    assert run(capsys, "record", "expert", "--out", str(out), "--seed", "3", "--size", "320x240")[0] == 0
    pictures = decoded(out)[0]
    drive, viewer = Drive(find_driver("expert")), Viewer((320, 240))
    for shown, (tracks, state) in zip(pictures, drive.episode(3), strict=True):
        drawn = viewer.frame(tracks, state)
        below = slice(50, None)  # the caption lies above
        off = np.abs(shown[below].astype(int) - drawn[below]).max(-1) > 48
        assert off.mean() < 0.01
        assert shown.mean() > 50, "black"


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
        (["expert", "--out", "film.mp4", "--size", "99999x100"], "too large"),
        (["expert", "--out", "film.mp4", "--size", "100x70"], "too small"),
        (["expert"] * 9 + ["--out", "film.mp4", "--size", "1600x1200"], "too large"),
        (["expert"] * 17 + ["--out", "film.mp4"], "too many drivers"),
        (["expert", "--out", "film.mp4", "--env", "CarRacing"], "did you mean CarRacing-v3"),
        (["random", "--out", "film.mp4", "--env", "CartPole"], "did you mean CartPole-v1"),
        (["expert", "--out", "film.mp4", "--env", "CartPole-v1"], "the expert cannot play CartPole-v1"),
        (["random", "--out", "film.mp4", "--env", "CartPole-v1", "--pixels"], "--pixels"),
        (["random", "--out", "film.mp4", "--env", "tabular/Blackjack-v0"], "needs a package that is not installed"),
        (["expert", "--out", "film.mp4", "--length", "0"], "--length"),
        (["expert", "--out", "film.mp4", "--start", "-1"], "--start"),
        (["expert", "nobody", "--out", "film.mp4"], "no such run"),
        (["--out", "film.mp4"], "WHO is missing"),
        (["nobody", "--out", "film.mp4"], "no such run"),
        (["random", "--out", "film.mp4", "--env-args", "a=1"], "--env-args is of no use with racing"),
        (["expert", "human", "--out", "film.mp4"], "use drivetrain watch human"),
        (["expert", "--out", "~nobody-of-this-name/film.mp4"], "no such home folder"),
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


def test_pygame_and_pygame_ce_together_are_refused_with_the_line_that_mends_it(capsys, tmp_path, monkeypatch):
    load_pygame.cache_clear()
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: name)
    assert main(["record", "expert", "--out", str(tmp_path / "film.mp4")]) == 2
    load_pygame.cache_clear()
    assert "pip uninstall -y pygame pygame-ce && pip install pygame-ce" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("short_lap")
def test_several_drivers_are_filmed_side_by_side_until_the_last_has_finished(capsys, tmp_path, monkeypatch):
    whole = Drive.episode

    def some_frames(self, seed):
        count = 20 if self.driver.name == "expert" else 10
        for tracks_and_state, _ in zip(whole(self, seed), range(count), strict=False):
            yield tracks_and_state

    monkeypatch.setattr(Drive, "episode", some_frames)
    out = tmp_path / "both.mp4"
    code, told, _ = run(capsys, "record", "expert", "random", "--out", str(out), "--episodes", "2", *SMALL)
    assert code == 0
    assert (told["frames"], len(told["scores"])) == (40, 4)
    pictures = decoded(out)[0]
    assert pictures[0].shape == (120, 160 + 4 + 160, 3)  # a line of 4 px between them
    # of the first episode; random stops after ten pictures and stays in sight
    moved = [np.abs(a.astype(int) - b).max(-1) > 60 for a, b in itertools.pairwise(pictures[:20])]
    left, right = (np.array([m[:, side].any() for m in moved]) for side in (slice(160), slice(164, None)))
    assert left[10:].sum() > 5
    assert not right[10:].any()
    assert pictures[19][:, 164:].mean() > 50


def test_a_part_of_an_episode_can_be_filmed_and_the_score_is_that_of_the_whole(capsys, tmp_path):
    whole = play_twin(scripted_actor("expert", "continuous"), [3]).scores
    out = tmp_path / "part.gif"
    part = ["--start", "2", "--length", "0.4"]
    code, told, _ = run(capsys, "record", "expert", "--out", str(out), "--seed", "3", *part, *SMALL)
    assert code == 0
    assert told["scores"] == pytest.approx(whole, abs=1e-3)
    assert (told["frames"], told["seconds"]) == (10, 0.4)  # 0.4 s at 25 pictures a second
    part = ["--start", "30"]
    assert main(["record", "expert", "--out", str(tmp_path / "none.mp4"), *part, *SMALL]) == 2
    assert "nothing was filmed" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["part.gif"]


@pytest.mark.usefixtures("short_lap")
@pytest.mark.parametrize("env", ["racing", "CarRacing-v3"])
def test_the_picture_of_car_racing_itself_is_filmed_with_large_pixels(capsys, tmp_path, env):
    out = tmp_path / "pixels.gif"
    assert run(capsys, "record", "expert", "--out", str(out), "--env", env, "--pixels", "--seed", "3")[0] == 0
    large = decoded(out)[0][-1]
    assert large.shape == (288 + 25 + 1, 288, 3)  # three times 96, a caption above, and an even height
    small = large[25 + 1 : 25 + 288 : 3, 1::3]
    world = RacingEnv(obs="pixels") if env == "racing" else OriginalEnv(obs="pixels")
    drive = Drive(find_driver("expert"))
    obs, _ = world.reset(seed=3)
    for _ in zip(drive.episode(3), range(29), strict=False):
        obs, *_ = world.step(drive.env.car_state().controls[0].numpy())
    off = np.abs(small.astype(int) - obs).max(-1) > 24
    assert off.mean() < 0.02


@pytest.mark.parametrize(("picture", "rows"), [("rgb", 96), ("grey", 96), ("palette", 84)])
def test_a_driver_of_pictures_is_filmed_as_it_sees_them(picture, rows):
    driver = find_driver("random")
    task = replace(driver.sim_config, obs="pixels", picture=picture, crop=rows == 84, frame_stack=2)
    scene = RaceScene(replace(driver, sim_config=task), "racing", (160, 120), pixels=True)
    for _, _ in zip(scene.play(0), range(60), strict=False):
        shown = scene.picture()
    assert shown.shape == (rows, 96, 3)
    is_grey = bool((shown[:, :, 0] == shown[:, :, 1]).all() and (shown[:, :, 1] == shown[:, :, 2]).all())
    assert is_grey == (picture == "grey")
    grass = {"rgb": (100, 202, 100), "palette": (100, 202, 100), "grey": (161, 161, 161)}[picture]
    # 0.299 x 100 + 0.587 x 202 + 0.114 x 100 = 160 for grey
    assert (np.abs(shown.astype(int) - grass).max(-1) <= 2).mean() > 0.1


def test_any_environment_that_renders_is_filmed_at_its_own_speed(capsys, tmp_path):
    out = tmp_path / "pole.mp4"
    code, told, _ = run(capsys, "record", "random", "--out", str(out), "--env", "CartPole-v1", "--episodes", "2")
    assert code == 0
    pictures, _, rate = decoded(out)
    assert rate == 50.0  # metadata["render_fps"] of CartPole
    assert sum(told["scores"]) == len(pictures) == told["frames"]  # a reward of 1 a step
    assert pictures[0].shape == (400 + 25 + 1, 600, 3)  # a caption above, and an even height
    assert pictures[0][100:200].mean() > 250  # white paper


def test_arguments_of_an_environment_hold_in_its_film(capsys, tmp_path):
    out, words = tmp_path / "pole.mp4", ["--env", "CartPole-v1", "--env-args", "max_episode_steps=5"]
    code, told, _ = run(capsys, "record", "random", "--out", str(out), *words)
    assert (code, told["scores"], told["frames"]) == (0, [5.0], 5)


def test_a_driver_is_filmed_in_the_colours_it_is_scored_in():
    driver = find_driver("random")
    trained = replace(driver, sim_config=replace(driver.sim_config, obs="pixels", domain_randomize=True))
    scored = replace(driver, sim_config=replace(driver.sim_config, obs="pixels"))
    seen = []
    for who in (trained, scored):
        scene = RaceScene(who, "racing", (160, 120))
        next(scene.play(0))
        seen.append(scene._drive.seen)
    torch.testing.assert_close(*seen, rtol=0, atol=0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parts are told apart by locks")
def test_a_killed_recording_leaves_no_film_and_the_next_one_cleans_up(capsys, tmp_path):
    out = tmp_path / "film.mp4"
    command = [sys.executable, "-m", "drivetrain", "record", "random", "--out", str(out), "--episodes", "1000"]
    nowhere = {name: value for name, value in os.environ.items() if "DISPLAY" not in name and "SDL" not in name}
    child = subprocess.Popen([*command, *SMALL], stdout=subprocess.PIPE, env=nowhere)
    child.stdout.readline()  # the first episode is over
    child.kill()
    child.wait()
    child.stdout.close()
    assert [file.name for file in tmp_path.iterdir()] == [f".film.mp4.{child.pid}.part"]
    assert run(capsys, "record", "random", "--out", str(out), "--length", "0.1", *SMALL)[0] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.invariance
def test_a_driver_filmed_frame_by_frame_drives_as_with_its_frame_skip():
    driver = find_driver("random", frame_skip=3)
    drive = Drive(driver)
    states = [state for _, (_, state) in zip(range(9), drive.episode(5), strict=False)]
    env, actor = RacingEnv(frame_skip=3), driver.actor()
    obs, _ = env.reset(seed=5)
    for decision in range(3):
        action = actor(torch.from_numpy(obs)[None], env.tracks, env.car_state())[0].numpy()
        obs, *_ = env.step(action)
        torch.testing.assert_close(env.car_state().pos, states[3 * decision + 2].pos, rtol=0, atol=0)
