"""The process beside a training: mirrors the run folder to TensorBoard and draws curve.png at the end.

It reads the files that the trainer writes, so it can neither slow, stop nor change a run, and the trainer imports
neither TensorBoard nor matplotlib. It ends when its standard input does: with the trainer, however that ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import struct
import sys
import time
from pathlib import Path

from drivetrain.board_events import EventFile
from drivetrain.board_pages import code_page, outcome, result_page, settings_of, settings_page
from drivetrain.journal import Tail
from drivetrain.rundir import read_or_empty
from drivetrain.wandb_rows import films, histograms, pictures

__all__ = ["main"]

POLL = 2.0  # s between looks at the file
LARGEST_PICTURE = 4 * 2**20  # bytes
SENT = ".films.json"  # in the folder of event files: names of the films that are in them


def main(argv: list[str]) -> int:
    """Mirror ``RUN`` until stdin ends: ``RUN AFTER_SEQ KEEP_UNTIL``; -1 as the last means a new run.

    A run that goes on from a checkpoint keeps what TensorBoard has up to its step, and the rest is forgotten.
    """
    run, after, keep_until = Path(argv[0]), int(argv[1]), int(argv[2])
    if hasattr(os, "nice"):
        os.nice(10)
    mirror = Mirror(run, after, keep_until)
    _warm_plots()
    while not _input_ended(POLL):
        mirror.look()
    mirror.end()
    return 0


class Mirror:
    """From a run folder to an event file.

    Args:
        run: the run folder.
        after_seq: records up to this one are there already.
        keep_until: see ``EventFile``.
    """

    def __init__(self, run: Path, after_seq: int, keep_until: int) -> None:
        self._run, self._keep_until = run, keep_until
        self._events = EventFile(run / "tensorboard", keep_until)
        self._tail = Tail(run / "metrics.jsonl", after_seq)
        self._films = Films(run, keep_until)
        self._began = time.time()
        self._origin: float | None = None  # when the training's own clock stood at 0, s since 1970
        self._introduced = False

    def look(self) -> None:
        """Take over what is new."""
        if not self._introduced:
            self._introduce()
        for record in self._tail.read():
            if self._origin is None:
                self._origin = time.time() - record.get("seconds", 0.0)
            # not the moment at which it is read: TensorBoard draws curves over this clock, too
            when = self._origin + record.get("seconds", 0.0)
            scalars = {name: value for name, value in record.items() if "/" in name}
            self._events.scalars(record["step"], scalars, when)
            self._events.histograms(record["step"], histograms(record))
        self._show_films()
        self._events.flush()

    def end(self) -> None:
        """Take over the rest, and how it came out."""
        from drivetrain.curve import draw_curve

        self.look()
        draw_curve(self._run)
        result = outcome(self._run)
        if result:
            step = result["steps"]
            results = {f"result/{name}": result.get(name) for name in ("best", "score", "steps_per_s")}
            self._events.scalars(step, results)
            self._events.text(step, "run/result", result_page(result))
            for name in pictures(self._run):
                self._show_picture(step, name)
            self._events.ended(step, str(result.get("status")))
        self._events.close()

    def _introduce(self) -> None:
        """The settings, as soon as they are there; a run that goes on may have new ones."""
        settings, code = settings_of(self._run), read_or_empty(self._run / "code.json")
        if not settings or not code:
            return
        self._introduced = True
        step = self._keep_until + 1  # the step from which an earlier attempt to go on is forgotten
        self._events.text(step, "run/settings", settings_page(self._run))
        self._events.text(step, "run/code", code_page(self._run))
        self._events.settings(settings, self._began)
        if settings.get("video_every"):
            _warm_films()

    def _show_films(self) -> None:
        from drivetrain.board_films import gif_of

        for name, step in self._films.new():
            with contextlib.suppress(OSError, ValueError, ImportError):  # no film, or nothing to read it with
                data, size = gif_of(self._run / name)
                self._events.image(step, "film/episode", data, size)

    def _show_picture(self, step: int, name: str) -> None:
        with contextlib.suppress(OSError, struct.error):
            data = (self._run / name).read_bytes()
            if data.startswith(b"\x89PNG") and len(data) <= LARGEST_PICTURE:
                width, height = struct.unpack(">II", data[16:24])
                self._events.image(step, f"pictures/{name.removesuffix('.png')}", data, (width, height))


class Films:
    """Which films are not in the event files yet.

    A run that goes on makes films after its checkpoint anew: those lying there are of a continuation that is forgotten.
    """

    def __init__(self, run: Path, keep_until: int) -> None:
        self._run, self._keep_until, self._began = run, keep_until, time.time()
        self._record = run / "tensorboard" / SENT
        known = read_or_empty(self._record).get("films")
        steps = dict(films(run))
        kept = known if isinstance(known, list) and keep_until >= 0 else []
        self._sent = {name for name in kept if steps.get(name, 0) <= keep_until}

    def new(self) -> list[tuple[str, int]]:
        """Name and step of each; they are noted first, because a film that is missing is better than one twice."""
        found = [
            (name, step) for name, step in films(self._run) if name not in self._sent and self._is_ours(name, step)
        ]
        if found:
            self._sent |= {name for name, _ in found}
            with contextlib.suppress(OSError):
                self._record.write_text(json.dumps({"films": sorted(self._sent)}) + "\n", encoding="utf-8")
        return found

    def _is_ours(self, name: str, step: int) -> bool:
        with contextlib.suppress(OSError):
            return step <= self._keep_until or (self._run / name).stat().st_mtime >= self._began
        return False


def _warm_plots() -> None:
    """Load matplotlib now, while the trainer is busy starting; the end of a run then waits for nothing."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def _warm_films() -> None:
    with contextlib.suppress(ImportError):  # then there will be none
        import av  # noqa: F401
        import PIL.GifImagePlugin  # noqa: F401


def _input_ended(timeout: float) -> bool:
    if not hasattr(select, "poll"):  # no select on pipes here: look once, at the end
        sys.stdin.buffer.read()
        return True
    ready, _, _ = select.select([sys.stdin], [], [], timeout)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
