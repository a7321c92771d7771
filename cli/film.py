"""Films: pictures in, one mp4 or gif out, complete or not there at all."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from drivetrain.envs.errors import UserError

__all__ = ["FORMATS", "Film", "check_target"]

FORMATS = ("mp4", "gif")


def check_target(out: str) -> Path:
    """The path of a film that can be written.

    Raises:
        UserError: another kind of file, a folder that is missing or cannot be written, a folder of that name.
    """
    path = Path(out).expanduser()
    if path.suffix.lower().lstrip(".") not in FORMATS:
        raise UserError("unknown kind of film", got=out or "nothing", allowed=tuple(f"NAME.{x}" for x in FORMATS))
    if path.is_dir():
        raise UserError(f"{path} is a folder", fix="name a file in it, such as " + str(path / "drive.mp4"))
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist", got=out, fix=f"run: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"the folder {path.parent} cannot be written", got=out, fix="choose another --out")
    return path


class Film:
    """A film being written; leaving the ``with`` block normally gives it its name, an exception removes it.

    Args:
        path: .mp4 (H.264) or .gif; an older file is replaced in the end.
        size: px, (width, height) of the pictures; an odd side is padded by one, or players would refuse the file.
        fps: pictures a second.

    Raises:
        UserError: the file cannot be made, or PyAV is missing.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: int = 50) -> None:
        try:
            import av
        except ImportError as error:
            raise UserError("films need PyAV", got=str(error), fix="run: pip install av") from error
        self.path, self.fps, self.frames = path, fps, 0
        self._av = av
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        kind = path.suffix.lower().lstrip(".")
        options = {"movflags": "+faststart"} if kind == "mp4" else {}
        try:
            self._temporary.touch()  # PyAV opens its file only with the first picture
            self._container = av.open(str(self._temporary), "w", format=kind, options=options)
        except OSError as error:
            self._temporary.unlink(missing_ok=True)
            raise UserError(f"cannot write {path}", got=error.strerror, fix="choose another --out") from error
        self._stream: Any
        self._graph: Any = None
        width, height = size[0] + size[0] % 2, size[1] + size[1] % 2
        if kind == "mp4":
            self._stream = self._container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "20"})
            self._stream.pix_fmt = "yuv420p"
        else:
            self._stream = self._container.add_stream("gif", rate=fps)
            self._stream.pix_fmt = "pal8"
            self._graph = _palette_graph(av, width, height, fps)
        self._stream.width, self._stream.height = width, height

    def add(self, picture: np.ndarray) -> None:
        """Append a picture uint8 [height, width, 3]."""
        height, width, _ = picture.shape
        if width % 2 or height % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = self.frames, Fraction(1, self.fps)
        self.frames += 1
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
            if self._graph is not None:
                self._graph.push(None)
                self._drain()
            self._encode(None)
            self._container.close()
            os.replace(self._temporary, self.path)
        except BaseException:
            self._discard()
            raise

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
        self._temporary.unlink(missing_ok=True)


def _palette_graph(av: Any, width: int, height: int, fps: int) -> Any:
    """A filter that gives each picture its own best 256 colours, one picture at a time."""
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, fps))
    split, sink = graph.add("split"), graph.add("buffersink")
    make, use = graph.add("palettegen", "stats_mode=single"), graph.add("paletteuse", "new=1:dither=none")
    source.link_to(split)
    split.link_to(make, 0, 0)
    split.link_to(use, 1, 0)
    make.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph
