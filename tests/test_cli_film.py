"""Films: whole or not there at all, playable, at the right speed, whatever happens to their writer."""

import os
import signal
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from drivetrain.envs.errors import UserError
from drivetrain.film import Film, check_target, copies, film_rate, sweep_parts

SIZE = (64, 48)


def picture(level, size=SIZE):
    return np.full((size[1], size[0], 3), level, np.uint8)


def decoded(path):
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        times = []
        pictures = []
        for frame in film.decode(stream):
            pictures.append(frame.to_ndarray(format="rgb24"))
            times.append(frame.time)
        return pictures, times, stream.codec_context, Fraction(stream.average_rate), film.duration / av.time_base


def make(path, levels, fps=50, size=SIZE):
    with Film(path, size, fps) as film:
        for level in levels:
            film.add(picture(level, size))
    return film


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_an_mp4_is_h264_with_even_sides_and_has_every_picture_in_its_place(tmp_path):
    levels = [20, 60, 100, 140, 180, 220] * 5
    film = make(tmp_path / "film.mp4", levels, size=(63, 47))
    pictures, times, codec, rate, seconds = decoded(tmp_path / "film.mp4")
    assert (codec.name, codec.pix_fmt, rate) == ("h264", "yuv420p", 50)
    assert pictures[0].shape == (48, 64, 3)
    assert [round(float(p.mean()) / 20) * 20 for p in pictures] == levels
    assert times == pytest.approx([i / 50 for i in range(30)])
    assert seconds == film.seconds == pytest.approx(30 / 50)
    assert names(tmp_path) == ["film.mp4"]


def test_a_gif_keeps_flat_colours_to_the_last_bit_and_holds_each_picture_long_enough(tmp_path):
    flags = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (1, 2, 3)]
    with Film(tmp_path / "film.gif", SIZE, 25) as film:
        for colour in flags:
            film.add(np.full((48, 64, 3), colour, np.uint8), times=2)
    pictures, times, codec, rate, _ = decoded(tmp_path / "film.gif")
    assert (codec.name, rate) == ("gif", 25)
    assert (film.frames, film.seconds) == (8, 0.32)
    assert times == pytest.approx([0.04 * i for i in range(8)])
    assert [tuple(p[24, 32]) for p in pictures] == [colour for colour in flags for _ in range(2)]


@pytest.mark.golden
@pytest.mark.parametrize(
    ("kind", "wanted", "given"),
    [
        ("mp4", 50, 50),
        ("mp4", 4, 4),
        ("mp4", 125, 60),  # no screen shows more
        ("gif", 50, 25),
        ("gif", 30, 25),
        ("gif", 15, Fraction(100, 7)),  # 6.67 hundredths of a second are counted as 7
        ("gif", 4, 4),
    ],
)
def test_a_film_has_the_rate_of_the_race_or_what_its_kind_can_show(kind, wanted, given):
    assert film_rate(kind, Fraction(wanted)) == given


@pytest.mark.golden
def test_frames_are_left_out_or_repeated_so_that_the_speed_stays_right():
    # 50 frames a second in a film of 25: every second one, the first included
    assert [copies(i, Fraction(50, 25)) for i in range(6)] == [1, 0, 1, 0, 1, 0]
    # 50 in 40, a step of 1.25: frames 0, 1.25, 2.5, 3.75 are due, so one in five is left out
    assert sum(copies(i, Fraction(50, 40)) for i in range(500)) == 400
    # 10 in 25, a step of 0.4: 2.5 pictures each
    assert [copies(i, Fraction(10, 25)) for i in range(4)] == [3, 2, 3, 2]


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_film_that_breaks_off_leaves_the_older_one_in_place(tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    path.write_bytes(b"older")

    def break_off():
        with Film(path, SIZE) as film:
            film.add(picture(0))
            raise RuntimeError("car lost")

    with pytest.raises(RuntimeError, match="car lost"):
        break_off()
    assert path.read_bytes() == b"older"
    assert names(tmp_path) == [path.name]


def test_a_film_replaces_an_older_one_of_its_name(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"older")
    make(tmp_path / "film.mp4", [100] * 3)
    assert len(decoded(tmp_path / "film.mp4")[0]) == 3


ENDLESS = """
import sys, numpy, pathlib
from drivetrain.film import Film
noise = numpy.random.default_rng(0).integers(0, 256, (8, 48, 64, 3), numpy.uint8)
with Film(pathlib.Path(sys.argv[1]), (64, 48)) as film:
    while True:
        for picture in noise:
            film.add(picture)
        print(film.frames, flush=True)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="parts are told apart by locks")
@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_killed_recording_leaves_no_film_and_the_next_one_sweeps_what_is_left(tmp_path, suffix):
    path = tmp_path / f"film.{suffix}"
    child = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path)], stdout=subprocess.PIPE)
    for _ in range(10):
        child.stdout.readline()
    part = f".{path.name}.{child.pid}.part"
    assert names(tmp_path) == [part]
    sweep_parts(tmp_path, path.name)
    assert names(tmp_path) == [part], "it is still being written"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert names(tmp_path) == [part]
    make(path, [100] * 3)
    assert names(tmp_path) == [path.name]
    assert len(decoded(path)[0]) == 3


def test_parts_of_one_film_or_of_all_are_swept_and_nothing_else(tmp_path):
    for name in (".film.mp4.1.part", ".film.mp4.1.partial", ".other.mp4.1.part", "film.mp4.1.part"):
        (tmp_path / name).write_bytes(b"")
    sweep_parts(tmp_path, "film.mp4")
    assert names(tmp_path) == [".film.mp4.1.partial", ".other.mp4.1.part", "film.mp4.1.part"]
    sweep_parts(tmp_path)
    assert names(tmp_path) == [".film.mp4.1.partial", "film.mp4.1.part"]


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
@pytest.mark.parametrize("limit", [0, 5_000])
def test_a_full_disk_ends_with_code_6_and_leaves_nothing(tmp_path, suffix, limit):
    script = f"""
import pathlib, resource, sys, numpy
from drivetrain.envs.errors import UserError
from drivetrain.film import Film
noise = numpy.random.default_rng(0).integers(0, 256, (200, 48, 64, 3), numpy.uint8)
import av.filter.graph
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    with Film(pathlib.Path(sys.argv[1]), (64, 48)) as film:
        for picture in noise:
            film.add(picture)
except UserError as error:
    print(error)
    sys.exit(error.code)
"""
    path = tmp_path / f"film.{suffix}"
    ended = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 6, ended.stderr
    assert ended.stdout.startswith(f"the film {path} could not be stored; got File too large; free space")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("film.avi", "unknown kind of film; got film.avi; allowed NAME.mp4, NAME.gif"),
        ("mp4", "unknown kind of film"),
        ("", "unknown kind of film; got nothing"),
        ("nowhere/film.mp4", "the folder nowhere does not exist; got nowhere/film.mp4; run: mkdir -p nowhere"),
        ("folder.mp4", "folder.mp4 is a folder; name a file in it, such as folder.mp4/drive.mp4"),
        ("a\0b.mp4", "unsuitable name for a film"),
        ("file.txt/film.mp4", "the folder file.txt does not exist"),
        ("x" * 300 + ".mp4", "unsuitable name for a film"),
    ],
)
def test_a_name_that_cannot_be_written_is_refused(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file.txt").write_text("")
    with pytest.raises(UserError) as caught:
        check_target(name)
    assert said in str(caught.value)
    assert caught.value.code == 2


def test_a_suffix_in_capitals_is_as_good(tmp_path):
    make(check_target(str(tmp_path / "FILM.MP4")), [10] * 2)
    assert len(decoded(tmp_path / "FILM.MP4")[0]) == 2


@pytest.mark.parametrize("name", ["10:30 a.mp4", "%d [x]*?.gif", "fünf.mp4"])
def test_any_name_will_do(tmp_path, name):
    make(check_target(str(tmp_path / name)), [10] * 3)
    assert names(tmp_path) == [name]
    with open(tmp_path / name, "rb") as film, av.open(film) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_a_missing_encoder_is_a_users_error(tmp_path, monkeypatch):
    def unknown(*_):
        raise ValueError("no filter palettegen")

    monkeypatch.setattr("drivetrain.film._palette_graph", unknown)
    with pytest.raises(UserError, match="this PyAV cannot make a film in gif; got no filter palettegen; run: pip"):
        Film(tmp_path / "film.gif", SIZE)
    assert names(tmp_path) == []


def test_a_film_that_cannot_be_opened_is_a_users_error(tmp_path, monkeypatch):
    path = tmp_path / "film.mp4"

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UserError, match=r"cannot write .*; got Permission denied; choose another --out") as caught:
        Film(path, SIZE)
    assert caught.value.code == 2
