"""The command `watch`: a window that obeys its keys, ghosts, and drives by hand that are kept."""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from drivetrain.agents.demos import read_demo, replay
from drivetrain.agents.evaluate import play_twin
from drivetrain.drive import Drive
from drivetrain.drivers import find_driver
from drivetrain.envs.errors import UserError
from drivetrain.envs.hands import Hands
from drivetrain.envs.viewer import CAMERAS, Viewer, load_pygame
from drivetrain.main import main
from drivetrain.show import MORE, SPEEDS, TIME, Show
from drivetrain.stage import Key, _keys

SMALL = ["--size", "320x240"]
RUN = "racing-ppo-state"


def run(capsys, *args):
    """Exit code, the JSON object on the last line of stdout, and stderr."""
    code = main([*args, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err


@pytest.fixture
def unseen(monkeypatch):
    """Windows that nobody sees, and no waiting at an episode's end."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setattr("drivetrain.show.PAUSE_AT_END", 0.0)


@pytest.fixture
def short_lap(monkeypatch):
    """Episodes of 30 frames."""
    whole = Drive.advance

    def advance(self):
        whole(self)
        self.done = self.done or self.frames >= 30

    monkeypatch.setattr(Drive, "advance", advance)


@pytest.fixture
def typed(monkeypatch, unseen):
    """Types one entry a picture: keys to press ("+"), to hold ("up down"), to let go of ("up up"), or "quit"."""
    pygame = load_pygame()
    entries = []

    def events():
        if not entries:
            return []
        words = entries.pop(0).split()
        if words == ["quit"]:
            return [pygame.event.Event(pygame.QUIT)]
        if len(words) == 2:
            kind = pygame.KEYDOWN if words[1] == "down" else pygame.KEYUP
            return [pygame.event.Event(kind, key=pygame.key.key_code(words[0]), unicode="")]
        names = {"+": pygame.K_PLUS, ".": pygame.K_PERIOD, "f1": pygame.K_F1, "tab": pygame.K_TAB}
        pressed = []
        for word in words:
            code = names.get(word) or pygame.key.key_code(word)
            pressed.append(pygame.event.Event(pygame.KEYDOWN, key=code, unicode=word if len(word) == 1 else ""))
            pressed.append(pygame.event.Event(pygame.KEYUP, key=code))
        return pressed

    monkeypatch.setattr(pygame.event, "get", events)
    return entries.extend


# ---- time -----------------------------------------------------------------------------------------------------------


class FakeStage:
    """Ten frames an episode, each drawn as its number."""

    fps = 50.0
    keys = (Key("n", "next", "next"),)

    def begin(self, seed):
        self.frame = 0

    def advance(self, held):
        self.frame += 1
        return self.frame <= 10

    def draw(self, frame):
        return self.frame

    def press(self, key):
        return None

    def results(self):
        return [("nobody", 1.0, self.frame)]

    def finish(self, cut):
        self.cut = cut
        return []


class FakeWindow:
    """Notes what it is shown; closed by "q"."""

    def __init__(self, *keys):
        self.keys, self.shown, self.rates, self.held, self.is_open = list(keys), [], [], set(), True

    def show(self, picture, fps):
        self.shown.append(picture)
        self.rates.append(fps)

    def pressed(self):
        return self.keys.pop(0).split() if self.keys else []

    def close(self):
        self.is_open = False


@pytest.fixture
def played(monkeypatch):
    """Plays an episode of the fake stage with these keys, one entry a picture; returns the window and the stage."""
    monkeypatch.setattr("drivetrain.show.PAUSE_AT_END", 0.0)

    def play(*keys):
        window, stage = FakeWindow(*keys), FakeStage()
        Show(window, stage).play(0)
        return window, stage

    return play


def test_every_frame_is_shown_at_the_speed_of_the_race(played):
    window, stage = played()
    assert window.shown == list(range(1, 11))
    assert set(window.rates) == {50.0}
    assert stage.cut is False


def test_a_pause_holds_the_frame_and_a_step_goes_on_by_one(played):
    # frame 1, then the pause: three pictures of it; two steps; a picture of the pause, in which it is ended
    window, _ = played("space", "", "", ".", ".", "", "space")
    assert window.shown == [1, 1, 1, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]


def test_faster_leaves_pictures_out_and_slower_takes_more_time(played):
    window, _ = played("+")  # after frame 1, twice as fast: every second frame is shown
    assert window.shown == [1, 3, 5, 7, 9]
    window, _ = played("- -")  # a quarter
    assert window.shown == list(range(1, 11))
    assert window.rates[1:] == [50.0 * 0.25] * 9
    window, _ = played("- - - - - -")
    assert window.rates[-1] == 50.0 * min(SPEEDS)


def test_next_and_quit_leave_the_episode_which_counts_as_cut(played):
    for key in ("n", "q", "escape"):
        window, stage = played("", key)
        assert window.shown == [1, 2]
        assert stage.cut is True
        assert window.is_open == (key == "n")


def test_a_pause_holds_an_episodes_end_and_a_step_goes_on(played, monkeypatch):
    monkeypatch.setattr("drivetrain.show.PAUSE_AT_END", 1.0)
    # ten frames, and the first picture of the end; the pause, in which 1.0 s of 30 pictures a second do not run out;
    # and the 29 pictures that were left
    window, stage = played(*[""] * 10, "space", *[""] * 50, "space")
    assert window.shown == [*range(1, 11), *[11] * (1 + 50 + 1 + 29)]
    assert stage.cut is False
    window, stage = played(*[""] * 10, "space", "", ".", *[""] * 50)
    assert window.shown == [*range(1, 11), 11, 11, 11]
    assert stage.cut is False


def test_who_drives_is_waited_for_although_a_key_is_still_held_from_before():
    window, stage = FakeWindow("", "", "", "q"), FakeStage()
    window.held = {"up"}
    Show(window, stage, Hands()).play(0)
    assert window.shown == [0] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_show_as_closing_does_and_cost_no_drive_that_is_being_kept(number):
    class Struck(FakeStage):
        def advance(self, held):
            if self.frame == 3:
                os.kill(os.getpid(), number)
            return super().advance(held)

        def finish(self, cut):
            os.kill(os.getpid(), number)
            super().finish(cut)
            return [Path("kept")]

    window, stage = FakeWindow(), Struck()
    show = Show(window, stage)
    with show.stop:
        assert show.play(0) is False
    assert stage.cut is True
    assert show.kept == [Path("kept")]
    assert show.stop.requested
    assert window.shown == [1, 2, 3, 4]


# ---- the command ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there is always a display")
@pytest.mark.parametrize("who", ["expert", "human"])
def test_watching_without_a_display_names_record(capsys, monkeypatch, who):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    assert main(["watch", who]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("error: no display")
    assert "drivetrain record" in first
    assert rest == []


@pytest.fixture
def shots(monkeypatch):
    """What each picture of the viewer shows."""
    whole, taken = Viewer.shoot, []

    def shoot(self, tracks, shot):
        taken.append((int(tracks.seed[0]), shot))
        return whole(self, tracks, shot)

    monkeypatch.setattr(Viewer, "shoot", shoot)
    return taken


@pytest.mark.usefixtures("short_lap")
@pytest.mark.parametrize("spelt", [str, str.upper], ids=["small", "capitals"])
def test_a_watched_run_obeys_every_key_and_the_window_closes_with_exit_0(capsys, typed, shots, spelt):
    keys = ["c", "c", "c", "v", "", "v", "h", "", "f1", "", "+", "-", "tab", "", "n", "", "quit"]
    typed([spelt(key) if len(key) == 1 else key for key in keys])
    code, told, _ = run(capsys, "watch", RUN, "expert", *SMALL)
    assert code == 0
    assert told == {"episodes": 0, "scores": [], "drives": []}
    # a key shows from the picture after that on which it was pressed
    assert len(shots) == len(keys)
    pictures = [shot for _, shot in shots]
    assert [shot.camera for shot in pictures[:5]] == [*CAMERAS, CAMERAS[0], CAMERAS[0]]
    assert [index for index, shot in enumerate(pictures) if shot.seen is not None] == [4, 5]
    assert [index for index, shot in enumerate(pictures) if shot.keys] == [7, 8]
    assert [index for index, shot in enumerate(pictures) if "2x" in shot.caption] == [11]
    assert [shot.followed for shot in pictures] == [0] * 13 + [1] * 4
    assert [seed for seed, _ in shots] == [0] * 15 + [1] * 2


@pytest.mark.usefixtures("unseen", "short_lap")
def test_watching_a_number_of_episodes_ends_by_itself(capsys):
    code, told, _ = run(capsys, "watch", "random", "--episodes", "2", "--env", "CarRacing-v3", *SMALL)
    assert code == 0
    assert told["episodes"] == len(told["scores"]) == 2


@pytest.mark.usefixtures("unseen", "short_lap")
def test_ghosts_drive_on_the_same_track_each_for_itself(capsys):
    code, told, _ = run(capsys, "watch", RUN, "expert", "random", "--episodes", "1", "--seed", "5", *SMALL)
    assert code == 0
    alone = []
    for who in (RUN, "expert", "random"):
        drive = Drive(find_driver(who))
        list(drive.episode(5))
        alone.append(drive.score)
    assert told["scores"] == pytest.approx(alone)


@pytest.mark.usefixtures("unseen")
def test_any_environment_that_renders_can_be_watched(capsys):
    code, told, _ = run(capsys, "watch", "random", "--env", "CartPole-v1", "--episodes", "1", "--seed", "3", *SMALL)
    assert code == 0
    assert told["scores"][0] >= 8  # a reward of 1 a step, and a pole needs some to fall


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["expert", "--episodes", "0"], "--episodes"),
        (["expert", "--env", "Nowhere-v0"], "unknown environment"),
        (["random", "--env", "CartPole-v7"], "CartPole-v"),
        (["human", "human"], "one wheel"),
        (["expert"] * 18, "up to 16"),
        (["random", "random", "--env", "CartPole-v1"], "ghosts need a track"),
        (["human", "--env", "CartPole-v1"], "by hand"),
        (["expert", "--env", "CartPole-v1"], "expert"),
        (["expert", "--size", "10x10"], "too small"),
        (["human", "--out", __file__], "is no folder"),
        (["human", "--out", "x" * 300], "unsuitable name"),
        (["human", "--out", "a\0b"], "unsuitable name"),
        (["human", "--out", "~nobody-of-this-name/drives"], "no such home folder"),
        (["nobody"], "no such run"),
        (["human", "--player", "A\nB"], "no name"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(capsys, typed, args, said):
    typed(["quit"])
    assert main(["watch", *args]) == 2
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert rest == []


def test_a_link_that_leads_nowhere_is_no_folder_for_drives(capsys, typed, tmp_path):
    typed(["quit", "quit"])
    (tmp_path / "drives").symlink_to(tmp_path / "gone")
    for out in ("drives", "drives/mine"):
        assert main(["watch", "human", "--out", str(tmp_path / out)]) == 2
        assert "is no folder" in capsys.readouterr().err


@pytest.mark.usefixtures("unseen")
def test_an_environment_without_pictures_is_refused(capsys, monkeypatch):
    import gymnasium

    class Blind(gymnasium.Env):
        metadata = {"render_modes": ["ansi"]}  # noqa: RUF012

    gymnasium.register("Blind-v0", entry_point=Blind)
    try:
        assert main(["watch", "random", "--env", "Blind-v0"]) == 2
    finally:
        del gymnasium.registry["Blind-v0"]
    assert "cannot be rendered; got ansi" in capsys.readouterr().err


def test_every_key_of_the_window_is_explained_in_the_docs():
    page = (Path(__file__).resolve().parent.parent / "docs" / "watch.md").read_text(encoding="utf-8")
    table = page.split("## Keys")[1].split("## What")[0].replace("`", "")
    named = {word.strip(",") for row in table.splitlines() for word in row.split("|")[1:2] for word in word.split()}
    keys = (*MORE, *TIME, *_keys(True, True), *_keys(False, False))
    assert {word.replace("−", "-") for key in keys for word in key.name.split()} <= named


# ---- by hand --------------------------------------------------------------------------------------------------------


@pytest.mark.oracle
@pytest.mark.parametrize("env", ["racing", "CarRacing-v3"])
def test_a_drive_by_hand_that_is_closed_is_kept_and_can_be_driven_again(capsys, typed, tmp_path, env):
    # two pictures in which nobody touches a key; 20 frames of gas, 10 of gas and left; then the window is closed
    typed(["", "", "up down", *[""] * 20, "left down", *[""] * 10, "quit"])
    out = ["--out", str(tmp_path / "kept"), "--player", "Ada", "--env", env, "--seed", "7"]
    code, told, _ = run(capsys, "watch", "human", *out, *SMALL)
    assert code == 0
    assert told["episodes"] == 0
    (path,) = (tmp_path / "kept").iterdir()
    assert told["drives"] == [str(path)]
    demo = read_demo(path)
    assert (demo.about.env, demo.about.seed, demo.about.player, demo.about.cut) == (env, 7, "Ada", True)
    assert demo.about.rate == 50.0
    # the picture that notices the key is the last of the waiting; each later one shows a frame
    assert len(demo) == 32
    assert demo.by_hand.all()
    held = dict(zip(demo.about.key_names, demo.keys.T.tolist(), strict=True))
    assert all(held["up"])
    assert held["left"] == [False] * 21 + [True] * 11
    # the gas pedal goes down by 0.06 a frame, 3 a second; the wheel turns by 0.06 to the left
    np.testing.assert_allclose(demo.actions[:3], [[0, 0.06, 0], [0, 0.12, 0], [0, 0.18, 0]], atol=1e-6)
    np.testing.assert_allclose(demo.actions[21:23, 0], [-0.06, -0.12], atol=1e-6)
    for frame, state in enumerate(replay(demo)):
        for name, kept in vars(demo.state(frame)).items():
            torch.testing.assert_close(getattr(state, name), kept, rtol=0, atol=0, msg=f"{name} of frame {frame}")


@pytest.mark.usefixtures("short_lap")
def test_a_car_is_taken_over_and_given_back_and_the_drive_says_which_frames_were_whose(capsys, typed, tmp_path):
    typed(["", "t", "up down", *[""] * 8, "up up", "t"])
    out = ["--out", str(tmp_path), "--episodes", "1"]
    assert run(capsys, "watch", "expert", *out, *SMALL)[0] == 0
    (path,) = tmp_path.iterdir()
    demo = read_demo(path)
    # frames 1 and 2 are the expert's; "t" is pressed at the second picture and again at the thirteenth
    assert demo.by_hand.tolist() == [False] * 2 + [True] * 11 + [False] * 17
    assert demo.about.cut is False
    assert demo.about.player == "human and expert"
    assert demo.actions[2:13, 2].abs().sum() == 0
    # from rest at the third frame, 0.06 a frame from the fourth on, as in the test before
    np.testing.assert_allclose(demo.actions[2:6, 1], [0, 0.06, 0.12, 0.18], atol=1e-6)


def test_a_drive_by_hand_survives_two_interrupts_the_second_while_it_is_written(capsys, typed, tmp_path, monkeypatch):
    whole, fsync = Drive.advance, os.fsync

    def advance(self):
        whole(self)
        if self.frames == 10:
            os.kill(os.getpid(), signal.SIGINT)

    def struck(handle):
        os.kill(os.getpid(), signal.SIGINT)
        fsync(handle)

    monkeypatch.setattr(Drive, "advance", advance)
    monkeypatch.setattr(os, "fsync", struck)
    typed(["", "up down"])
    code, told, _ = run(capsys, "watch", "human", "--out", str(tmp_path), *SMALL)
    assert code == 0
    (path,) = tmp_path.iterdir()
    assert told["drives"] == [str(path)]
    assert len(read_demo(path)) == 10


def test_a_drive_by_hand_is_told_of_although_the_world_failed(capsys, typed, tmp_path, monkeypatch):
    whole = Drive.advance

    def advance(self):
        if self.frames == 10:
            raise UserError("the world failed", code=5)
        whole(self)

    monkeypatch.setattr(Drive, "advance", advance)
    typed(["", "up down"])
    # under the folder of the user's home, as the shell would leave it in --out=~/drives
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["watch", "human", "--out", "~/drives", *SMALL]) == 5
    (path,) = (tmp_path / "drives").iterdir()
    said = capsys.readouterr()
    assert said.out == f"kept {path}\n"
    assert said.err == "error: the world failed\n"


@pytest.mark.usefixtures("short_lap")
def test_an_episode_without_a_hand_is_not_kept(capsys, typed, tmp_path):
    typed([""])
    assert run(capsys, "watch", "expert", "--episodes", "1", "--out", str(tmp_path), *SMALL)[0] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.invariance
def test_a_run_drives_here_as_it_is_scored():
    driver = find_driver(RUN)
    drive = Drive(driver)
    frames = sum(1 for _ in drive.episode(11))
    expected = play_twin(driver.actor(), [11], driver.sim_config)
    assert frames == expected.frames[0]
    assert drive.score == pytest.approx(expected.scores[0], abs=1e-3)
