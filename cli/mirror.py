"""The process beside a training: mirrors metrics.jsonl to TensorBoard and draws curve.png at the end.

It reads the file that the trainer writes, so it can neither slow, stop nor change a run, and the trainer imports
neither TensorBoard nor matplotlib. It ends when its standard input does: with the trainer, however that ended.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

POLL = 2.0  # s between looks at the file


def main(argv: list[str]) -> int:
    """Mirror ``RUN`` until stdin ends: ``RUN AFTER_SEQ PURGE_STEP``; a purge step of -1 means a new run."""
    run, after, purge = Path(argv[0]), int(argv[1]), int(argv[2])
    if hasattr(os, "nice"):
        os.nice(10)
    events = Events(run / "tensorboard", purge)
    tail = Tail(run / "metrics.jsonl", after)
    _warm_plots()
    while not _input_ended(POLL):
        events.write(tail.read())
    events.write(tail.read())
    events.close()
    from drivetrain.curve import draw_curve

    draw_curve(run)
    return 0


class Tail:
    """The records that were appended to a metrics.jsonl since the last look."""

    def __init__(self, path: Path, after_seq: int) -> None:
        self._path, self._after, self._position = path, after_seq, 0

    def read(self) -> list[dict[str, Any]]:
        """Whole new lines only; a line being written comes with the next look."""
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            file.seek(self._position)
            block = file.read()
        whole = block[: block.rfind(b"\n") + 1]
        self._position += len(whole)
        records = [json.loads(line) for line in whole.splitlines()]
        return [record for record in records if record.get("seq", 0) > self._after]


class Events:
    """A TensorBoard event file, written without importing torch."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))
        if purge_step >= 0:  # tells TensorBoard to forget what an abandoned continuation wrote after this step
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def write(self, records: list[dict[str, Any]]) -> None:
        """One event per record, one scalar per metric."""
        for record in records:
            scalars = [
                self._summary.Value(tag=name, simple_value=value)
                for name, value in record.items()
                if "/" in name and isinstance(value, (int, float))
            ]
            if scalars:
                event = self._event(wall_time=time.time(), step=record["step"], summary=self._summary(value=scalars))
                self._writer.add_event(event)
        if records:
            self._writer.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._writer.close()


def _warm_plots() -> None:
    """Load matplotlib now, while the trainer is busy starting; the end of a run then waits for nothing."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def _input_ended(timeout: float) -> bool:
    if not hasattr(select, "poll"):  # no select on pipes here: look once, at the end
        sys.stdin.buffer.read()
        return True
    ready, _, _ = select.select([sys.stdin], [], [], timeout)
    return bool(ready) and not os.read(sys.stdin.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
