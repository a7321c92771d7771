"""Films of a training: made beside it, one at a time, without leaving anything half-made and without changing it."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
import torch

from drivetrain.agents.checkpoint import choose_checkpoint, load_model
from drivetrain.clip import WEIGHTS, film_path
from drivetrain.rundir import find_run
from drivetrain.videos import Videos

SHIPPED = find_run("racing-ppo-state")


@pytest.fixture
def run(tmp_path):
    shutil.copy(SHIPPED / "config.json", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def weights():
    return load_model(choose_checkpoint(SHIPPED / "checkpoints").path)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def wait_until(true, seconds=60.0):
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


def test_a_film_is_made_by_a_process_beside_and_nothing_else_is_left(run, weights):
    said = []
    videos = Videos(run, said.append)
    videos.film(1000, weights)
    child = videos._process
    assert os.getpriority(os.PRIO_PROCESS, child.pid) >= os.getpriority(os.PRIO_PROCESS, 0)
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


TRAINER = """
import sys, time
from pathlib import Path
from drivetrain.agents.checkpoint import choose_checkpoint, load_model
from drivetrain.videos import Videos
videos = Videos(Path(sys.argv[1]), print)
videos.film(1000, load_model(choose_checkpoint(Path(sys.argv[2])).path))
print(videos._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_film_ends_with_its_trainer_and_the_next_trainer_sweeps(run):
    command = [sys.executable, "-c", TRAINER, str(run), str(SHIPPED / "checkpoints")]
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    film = int(trainer.stdout.readline())
    wait_until(lambda: any(run.glob("videos/.*.part")))
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    wait_until(lambda: not is_running(film), seconds=20.0)
    Videos(run, print)
    assert names(run) == ["config.json", "videos"]
