"""Films: pictures in, one mp4 or gif out, complete or not there at all.

A film is written under a hidden name beside its own, ``.NAME.PID.part``, and renamed when it is whole. A process that
is killed can leave such a part behind, never a broken film; the next film of that name removes it.
"""

from __future__ import annotations

import contextlib
import math
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from drivetrain.envs.errors import UserError
from drivetrain.rundir import expanded

try:
    import fcntl
except ImportError:  # no flock on this system: parts left behind by a kill stay until somebody removes them
    fcntl = None  # type: ignore[assignment]

__all__ = ["FORMATS", "Film", "check_target", "copies", "film_rate", "sweep_parts"]

FORMATS = ("mp4", "gif")
MP4_FPS, GIF_FPS = 60, 25
"""pictures a second, the most a film gets: screens show no more, and viewers show a faster gif slowly"""
EXIT_STORAGE = 6


def check_target(out: str) -> Path:
    """The path of a film that can be written.

    Raises:
        UserError: another kind of file, a folder that is missing or cannot be written, a folder of that name.
    """
    if "\0" in out:
        raise UserError("unsuitable name for a film", got=repr(out), fix="choose another --out")
    path = expanded(out)
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise UserError("unknown kind of film", got=out or "nothing", allowed=tuple(f"NAME.{x}" for x in FORMATS))
    try:
        taken, there = path.is_dir(), path.parent.is_dir()
    except OSError as error:  # a name too long
        raise UserError("unsuitable name for a film", got=error.strerror, fix="choose another --out") from error
    if taken:
        raise UserError(f"{path} is a folder", fix="name a file in it, such as " + str(path / "drive.mp4"))
    if not there:
        raise UserError(f"the folder {path.parent} does not exist", got=out, fix=f"run: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"the folder {path.parent} cannot be written", got=out, fix="choose another --out")
    return path


def film_rate(kind: str, wanted: Fraction) -> Fraction:
    """Pictures a second that a kind of film can have, the wanted number or the next below it.

    A gif counts the time of a picture in whole hundredths of a second.
    """
    if kind != "gif":
        return min(wanted, Fraction(MP4_FPS))
    return Fraction(100, math.ceil(100 / min(wanted, Fraction(GIF_FPS))))


def copies(frame: int, step: Fraction) -> int:
    """How often frame 0, 1, 2, … is shown in a film that goes on by ``step`` frames from picture to picture."""
    return math.ceil((frame + 1) / step) - math.ceil(frame / step)


def sweep_parts(folder: Path, name: str | None = None) -> None:
    """Remove what killed recordings left in a folder, of all films or of that name; a part being written stays."""
    if fcntl is None:
        return
    head = "." if name is None else f".{name}."
    for part in folder.iterdir():
        # compared as plain text: a film may be called [a]*.mp4
        if not (part.name.startswith(head) and part.name.endswith(".part")):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(part, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its writer lives
                part.unlink()
            finally:
                os.close(handle)


class Film:
    """A film being written; leaving the ``with`` block normally gives it its name, an exception removes it.

    Args:
        path: .mp4 (H.264) or .gif; an older file is replaced in the end.
        size: px, (width, height) of the pictures; an odd side is padded by one, or players would refuse the file.
        fps: pictures a second; of a gif, what `film_rate` gave.
        threads: of the encoder; 0 = as many as it likes.

    Raises:
        UserError: the file cannot be made, or PyAV is missing (2); storage failed later, the disk is full say (6).
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction | int = 50, threads: int = 0) -> None:
        try:
            import av
        except ImportError as error:
            raise UserError("films need PyAV", got=str(error), fix="run: pip install av") from error
        self.path, self.fps, self.frames = path, Fraction(fps), 0
        self._av = av
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._lock = -1
        kind = path.suffix.lower().lstrip(".")
        options = {"movflags": "+faststart"} if kind == "mp4" else {}
        try:
            sweep_parts(path.parent, path.name)
            self._lock = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            if fcntl is not None:
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # file: or a name with a colon in it would be taken for a protocol
            self._container = av.open(f"file:{self._part}", "w", format=kind, options=options)
        except OSError as error:
            self._remove_part()
            raise UserError(f"cannot write {path}", got=error.strerror, fix="choose another --out") from error
        try:
            self._stream, self._graph = self._coders(kind, size)
        except Exception as error:
            self._discard()
            fix = "run: pip install --upgrade av"
            raise UserError(f"this PyAV cannot make a film in {kind}", got=error, fix=fix) from error
        self._stream.codec_context.thread_count = threads

    @property
    def seconds(self) -> float:
        """Length so far."""
        return float(self.frames / self.fps)

    def add(self, picture: np.ndarray, times: int = 1) -> None:
        """Append a picture uint8 [height, width, 3], shown for one or several pictures' time."""
        height, width, _ = picture.shape
        if width % 2 or height % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        for _ in range(times):
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = self.frames, 1 / self.fps
            self.frames += 1
            with self._storing():
                if self._graph is None:
                    self._encode(frame)
                else:
                    self._graph.push(frame)
                    self._drain()

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: object, value: object, trace: TracebackType | None) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            with self._storing():
                if self._graph is not None:
                    self._graph.push(None)
                    self._drain()
                self._encode(None)
                self._container.close()
                os.fsync(self._lock)
                os.replace(self._part, self.path)
        except BaseException:
            self._discard()
            raise
        os.close(self._lock)
        self._lock = -1

    @contextlib.contextmanager
    def _storing(self) -> Any:
        try:
            yield
        except OSError as error:
            what = f"the film {self.path} could not be stored"
            fix = "free space, or choose another --out"
            raise UserError(what, got=error.strerror, fix=fix, code=EXIT_STORAGE) from error

    def _coders(self, kind: str, size: tuple[int, int]) -> tuple[Any, Any]:
        """The encoder's stream, and the filter before it if there is one."""
        width, height = size[0] + size[0] % 2, size[1] + size[1] % 2
        graph: Any = None
        if kind == "mp4":
            coding = {"preset": "veryfast", "crf": "20"}
            stream: Any = self._container.add_stream("libx264", rate=self.fps, options=coding)
            stream.pix_fmt = "yuv420p"
        else:
            stream = self._container.add_stream("gif", rate=self.fps)
            stream.pix_fmt = "pal8"
            graph = _palette_graph(self._av, width, height, self.fps)
        stream.width, stream.height = width, height
        return stream, graph

    def _encode(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _drain(self) -> None:
        while True:
            try:
                frame = self._graph.pull()
            except (self._av.error.BlockingIOError, self._av.error.EOFError):
                return
            self._encode(frame)

    def _discard(self) -> None:
        with contextlib.suppress(Exception):  # what went wrong first is what the user must hear of
            self._container.close()
        self._remove_part()

    def _remove_part(self) -> None:
        if self._lock >= 0:
            self._part.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1


def _palette_graph(av: Any, width: int, height: int, fps: Fraction) -> Any:
    """A filter that gives each picture its own best 256 colours, one picture at a time."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=1 / fps)
    split, sink = graph.add("split"), graph.add("buffersink")
    make, use = graph.add("palettegen", "stats_mode=single"), graph.add("paletteuse", "new=1:dither=none")
    source.link_to(split)
    split.link_to(make, 0, 0)
    split.link_to(use, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
