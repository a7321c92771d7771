"""The two growing files of a run: metrics.jsonl and eval.csv.

One line per record, handed to the system at once. A kill loses at most the line being written, which the next opening
cuts off. Going on from an older checkpoint moves the records after it into a side file: no doubles, nothing deleted.
A full disk does not stop training: lines wait in memory until there is room.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from drivetrain.output import dumps

__all__ = ["EvalFile", "MetricsFile", "Tail", "is_number", "read_metrics"]

EVAL_HEADER = "step,set,seed,score,frames"


class LineFile:
    """Appends whole lines; what cannot be written now is kept and tried again with the next line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending = b""
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._end = _cut_to_last_newline(self._handle)

    @property
    def is_behind(self) -> bool:
        """Whether lines wait for room on the disk."""
        return bool(self._pending)

    def append(self, line: str) -> None:
        """Add a line; returns even if the disk is full."""
        self._pending += line.encode() + b"\n"
        with contextlib.suppress(OSError):  # `is_behind` tells; `close` raises
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            OSError: still no room.
        """
        if not self._pending:
            return
        os.ftruncate(self._handle, self._end)  # a half-written line of an earlier attempt
        left = self._pending
        while left:
            left = left[os.write(self._handle, left) :]
        self._end += len(self._pending)
        self._pending = b""

    def close(self) -> None:
        """Write what waits, make it durable and close.

        Raises:
            OSError: the lines could not be stored.
        """
        if self._handle < 0:
            return
        try:
            self.flush()
            os.fsync(self._handle)
        finally:
            os.close(self._handle)
            self._handle = -1


class MetricsFile:
    """metrics.jsonl: a record is ``seq, step, frames, seconds`` and metrics; ``seq`` counts from 1 without gaps."""

    def __init__(self, path: Path, keep_seq: int | None = None) -> None:
        """Open for appending.

        Args:
            path: the file, made when absent.
            keep_seq: move records with a larger ``seq`` aside (resuming from a checkpoint); None keeps all.
        """
        if keep_seq is not None and path.exists():
            _move_tail(path, lambda line: _seq(line) <= keep_seq)
        self._file = LineFile(path)
        self.seq = max((_seq(line) for line in _lines(path)), default=0)

    @property
    def is_behind(self) -> bool:
        """Whether records wait for room on the disk."""
        return self._file.is_behind

    def append(self, step: int, frames: int, seconds: float, metrics: Mapping[str, object]) -> dict[str, object]:
        """Add a record; returns it. Metrics that are not finite are stored as null."""
        self.seq += 1
        record = {"seq": self.seq, "step": step, "frames": frames, "seconds": round(seconds, 3)} | _rounded(metrics)
        self._file.append(dumps(record))
        return record

    def close(self) -> None:
        """Make everything durable.

        Raises:
            OSError: records could not be stored.
        """
        self._file.close()


class EvalFile:
    """eval.csv: one row per validation episode."""

    def __init__(self, path: Path, keep_step: int | None = None) -> None:
        """Open for appending; rows of a step after ``keep_step`` are moved aside."""
        if keep_step is not None and path.exists():
            _move_tail(path, lambda line: _eval_step(line) <= keep_step)
        self._file = LineFile(path)
        if self._file._end == 0:
            self._file.append(EVAL_HEADER)

    def append(self, step: int, group: str, episodes: Iterable[tuple[int, float, int]]) -> None:
        """Add one validation: (seed, score, frames) of each episode; ``group`` says which set of tracks it was."""
        for seed, score, length in episodes:
            self._file.append(f"{step},{group},{seed},{score:.3f},{length}")

    def close(self) -> None:
        """Make everything durable.

        Raises:
            OSError: rows could not be stored.
        """
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records of a metrics.jsonl, without a last line that is not whole."""
    records = []
    for line in _lines(path):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


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
        records = [_record(line) for line in whole.splitlines()]
        return [record for record in records if record is not None and record["seq"] > self._after]


def _record(line: bytes) -> dict[str, Any] | None:
    """A line of metrics.jsonl; None for one that is damaged: the lines after it must be seen nevertheless."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(record, dict) and all(type(record.get(name)) is int for name in ("seq", "step"))
    return record if whole and isinstance(record.get("seconds", 0.0), (int, float)) else None


def is_number(value: object) -> bool:
    """Whether a value of a record is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line


def _move_tail(path: Path, keep: Callable[[bytes], bool]) -> None:
    """Rewrite ``path`` with the lines to keep; the others are appended to ``NAME.superseded``."""
    lines = list(_lines(path))
    stays = [line for line in lines if keep(line)]
    goes = [line for line in lines if not keep(line)]
    if not goes:
        return
    with open(path.with_name(path.name + ".superseded"), "ab") as side:  # first the copy, then the removal
        side.writelines(goes)
        side.flush()
        os.fsync(side.fileno())
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.writelines(stays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _seq(line: bytes) -> int:
    try:
        return int(json.loads(line)["seq"])
    except (ValueError, KeyError, TypeError):
        return 0


def _eval_step(line: bytes) -> int:
    first = line.split(b",", 1)[0]
    return int(first) if first.isdigit() else 0


def _cut_to_last_newline(handle: int) -> int:
    """Drop an unfinished last line; returns the length of what stays."""
    end = os.fstat(handle).st_size
    position = end
    while position > 0:
        start = max(0, position - 65536)
        block = os.pread(handle, position - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        position = start
    else:
        keep = 0
    if keep != end:
        os.ftruncate(handle, keep)
    return keep


def _rounded(metrics: Mapping[str, object]) -> dict[str, object]:
    """Seven significant digits: what a float32 holds."""
    return {name: float(f"{value:.7g}") if isinstance(value, float) else value for name, value in metrics.items()}
