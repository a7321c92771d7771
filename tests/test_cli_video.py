"""Films of a training: made beside it, one at a time, without leaving anything half-made and without changing it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import torch

from drivetrain.agents.checkpoint import MODEL, TRAINER, choose_checkpoint, load_model
from drivetrain.clip import WEIGHTS, film_path
from drivetrain.main import main
from drivetrain.rundir import find_run
from drivetrain.videos import Videos

SHIPPED = find_run("racing-ppo-state")
# 4 cars, 8 steps: 32 steps an update
TINY = ["--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--num-tracks", "2", "--hidden", "8"]
TINY += ["--threads", "1", "--device", "cpu", "--eval-every", "none"]
R = ["--name", "r"]


class NoMirror:
    def close(self): ...
    def abandon(self): ...


@pytest.fixture(autouse=True)
def unhindered(monkeypatch):
    """Other tests that run meanwhile would keep a film of low priority waiting."""
    monkeypatch.setattr("drivetrain.videos.NICENESS", 0)
    monkeypatch.setattr("drivetrain.videos.PATIENCE", 300.0)


@pytest.fixture
def run(tmp_path):
    shutil.copy(SHIPPED / "config.json", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def weights():
    return load_model(choose_checkpoint(SHIPPED / "checkpoints").path)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def wait_until(true, seconds=240.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)


def is_running(pid):
    """Whether a process that is no child of ours is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_film_is_made_by_a_process_beside_and_nothing_else_is_left(run, weights, monkeypatch):
    monkeypatch.setattr("drivetrain.videos.NICENESS", 1)
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, weights)
    child = videos._process
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, child.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 1)
    videos.film(2000, weights)
    videos.film(3000, weights)
    videos.close(patient=True)
    assert said == [
        "no video of step 2,000: the one of step 1,000 is still being made",
        "finishing the video of step 1,000",
        "2 videos were left out in all; a larger --video-every leaves time for each",
    ]
    assert child.returncode == 0
    assert names(run) == ["config.json", "videos", "videos/step_000000001000.mp4"]
    with av.open(str(film_path(run, 1000))) as film:
        stream = film.streams.video[0]
        pictures = [frame.to_ndarray(format="rgb24") for frame in film.decode(stream)]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
    # the shipped driver's lap takes 600 to 800 frames of 0.02 s; every other one is shown
    assert 300 < len(pictures) < 400
    assert pictures[0].shape == (480, 640, 3)
    assert min(picture.mean() for picture in pictures) > 50, "black"


def test_a_film_that_is_stopped_leaves_nothing(run, weights):
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, weights)
    child = videos._process
    wait_until(lambda: any(run.glob("videos/.*.part")))
    assert names(run / "videos") == [f".step_000000001000.mp4.{child.pid}.part"]
    videos.close(patient=False)
    assert said == ["no video of step 1,000: it was stopped"]
    assert child.returncode is not None
    assert names(run) == ["config.json", "videos"]


def test_a_film_that_takes_too_long_is_stopped_at_the_end(run, weights, monkeypatch):
    monkeypatch.setattr("drivetrain.videos.PATIENCE", 0.01)
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, weights)
    videos.close(patient=True)
    assert said == ["finishing the video of step 1,000", "no video of step 1,000: it was stopped"]
    assert names(run) == ["config.json", "videos"]


def test_a_film_that_fails_is_one_line_of_warning_and_the_next_one_is_tried(run, weights):
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, dict(list(weights.items())[1:]))
    videos._process.wait()
    videos.film(2000, weights)
    assert said[0].startswith(f"warning: no video of step 1,000: the network of {run}/{WEIGHTS}/step_")
    assert "\n" not in said[0]
    videos.close(patient=False)
    assert said[1:] == ["no video of step 2,000: it was stopped"]
    assert names(run) == ["config.json", "videos"]


def test_a_crash_is_one_line_of_warning_too(run, weights):
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, weights)
    videos._process.kill()
    videos._process.wait()
    videos.look()
    assert said == ["warning: no video of step 1,000: code -9"]
    assert names(run) == ["config.json", "videos"]
    videos.close(patient=True)


def test_weights_that_cannot_be_laid_down_are_a_warning(run, weights, monkeypatch):
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, {"broken": torch.tensor([float("nan")])})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("drivetrain.videos.save_checkpoint", full)
    videos.film(2000, weights)
    videos.close(patient=True)
    assert said == [
        "warning: no video of step 1,000: broken is not finite",
        "warning: no video of step 2,000: [Errno 28] No space left on device",
    ]
    assert names(run) == ["config.json", "videos"]


PROGRAM = """
import sys, time
from pathlib import Path
from drivetrain.agents.checkpoint import MODEL, TRAINER, choose_checkpoint, load_model
from drivetrain.videos import Videos
videos = Videos(Path(sys.argv[1]), print)
videos.film(1000, load_model(choose_checkpoint(Path(sys.argv[2])).path))
print(videos._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_film_ends_with_its_trainer_and_the_next_trainer_sweeps(run):
    command = [sys.executable, "-c", PROGRAM, str(run), str(SHIPPED / "checkpoints")]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    film = int(trainer.stdout.readline())
    wait_until(lambda: any(run.glob("videos/.*.part")))
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    wait_until(lambda: not is_running(film), seconds=20.0)
    Videos(run, print)
    assert names(run) == ["config.json", "videos"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("drivetrain.trackers.LocalMirror", lambda *_: NoMirror())
    return tmp_path


def call(capsys, *argv):
    code = main([*argv, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out.splitlines()[-1]), captured.err


def newest(run):
    folder = choose_checkpoint(Path("runs", run, "checkpoints"), "last").path
    return {name: (folder / name).read_bytes() for name in (MODEL, TRAINER)}


def test_a_training_films_a_validation_lap_now_and_then(here, capsys):
    code, told, said = call(capsys, "train", "ppo", "racing", *TINY, "--steps", "320", *R, "--video-every", "256")
    assert (code, told["status"]) == (0, "done")
    # updates of 32 steps: 256 is passed once, with the 8th
    assert names(here / "runs/r/videos") == ["step_000000000256.mp4"]
    assert "finishing the video of step 256" in said
    assert not (here / "runs/r" / WEIGHTS).exists()
    assert json.loads((here / "runs/r/config.json").read_text())["video_every"] == 256
    with av.open("runs/r/videos/step_000000000256.mp4") as film:
        assert film.duration / av.time_base == pytest.approx(20.0)  # a beginner uses up all of its 1,000 frames


def test_the_film_shows_the_environment_as_the_agent_knows_it(here, capsys):
    few = ["--num-envs", "4", "--num-steps", "8", "--num-minibatches", "2", "--hidden", "8", "--threads", "1"]
    words = [*few, "--frame-stack", "3", "--env-args", "max_episode_steps=5", "--eval-every", "none"]
    code, told, said = call(capsys, "train", "ppo", "CartPole-v1", *words, "--steps", "320", *R, "--video-every", "256")
    assert (code, told["status"]) == (0, "done"), said
    (film,) = Path("runs/r/videos").iterdir()
    with av.open(str(film)) as film:  # without its own frame stack nothing could act
        assert film.streams.video[0].frames == 3  # every second of five


@pytest.mark.invariance
def test_films_do_not_change_what_is_learned(here, capsys, monkeypatch):
    monkeypatch.setattr("drivetrain.videos.PATIENCE", 0.0)
    plain = ["train", "ppo", "racing", *TINY, "--steps", "320", "--seed", "4"]
    assert call(capsys, *plain, "--name", "without")[0] == 0
    assert call(capsys, *plain, "--name", "with", "--video-every", "32")[0] == 0
    assert newest("with") == newest("without")
    assert names(here / "runs/with/videos") == []  # stopped at the end, and nothing half-made is left


def test_a_resumed_training_goes_on_filming_or_begins_to(here, capsys, monkeypatch):
    filmed = []
    monkeypatch.setattr(Videos, "film", lambda self, step, weights: filmed.append(step))
    call(capsys, "train", "ppo", "racing", *TINY, "--steps", "96", "--name", "r", "--video-every", "64")
    call(capsys, "resume", "r", "--steps", "192")
    call(capsys, "train", "ppo", "racing", *TINY, "--steps", "96", "--name", "s")
    call(capsys, "resume", "s", "--steps", "192", "--video-every", "96")
    assert filmed == [64, 128, 192, 192]  # multiples of 64, then of 96 beyond 96


def test_a_film_that_fails_never_stops_a_training(here, capsys, monkeypatch):
    monkeypatch.setattr("drivetrain.videos.ALONE", {"PYTHONPATH": str(here)})
    (here / "av.py").write_text("raise ImportError('no av here')")
    code, told, said = call(capsys, "train", "ppo", "racing", *TINY, "--steps", "96", *R, "--video-every", "64")
    assert (code, told["status"]) == (0, "done")
    assert "warning: no video of step 64: films need PyAV; got no av here; run: pip install av" in said
    assert names(here / "runs/r/videos") == []


def test_a_training_that_is_interrupted_does_not_wait_for_its_film(here, capsys, monkeypatch):
    begun = Videos.film

    def film_and_interrupt(self, step, weights):
        begun(self, step, weights)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Videos, "film", film_and_interrupt)
    code, told, said = call(capsys, "train", "ppo", "racing", *TINY, "--steps", "1e6", *R, "--video-every", "64")
    assert (code, told["status"]) == (75, "interrupted")
    assert "no video of step 64: it was stopped" in said
    assert names(here / "runs/r/videos") == []
