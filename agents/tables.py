"""Tables of numbers in CSV files, however long: read in pieces into a scratch file that is mapped into memory."""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..envs.errors import UserError

CHUNK = 65_536
"""rows that are held before they go to the scratch file"""


@dataclass(frozen=True)
class Table:
    """Numbers [N, K] and the names of the columns."""

    names: tuple[str, ...]
    values: NDArray[np.float64]

    def column(self, name: str) -> NDArray[np.float64]:
        """[N] of the column of that name.

        Raises:
            UserError: there is none.
        """
        if name not in self.names:
            raise UserError("no such column", got=name, allowed=self.names)
        return self.values[:, self.names.index(name)]


def read_table(path: Path, columns: int = 1, rows: int = 1) -> Table:
    """A CSV file of finite numbers; its first line may hold names.

    Args:
        path: the file.
        columns: that there must be at least.
        rows: of numbers that there must be at least.

    Raises:
        UserError: it cannot be read, or holds text, NaN, infinity or lines of unequal length; names the line.
    """
    scratch = tempfile.TemporaryFile()  # noqa: SIM115 - the mapping outlives this function
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            names, count = _copy(path, file, scratch, columns)
    except OSError as error:
        raise UserError(f"cannot read {path}", got=error.strerror, fix="check the path") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is no text file", got="bytes that are not UTF-8", fix="save it as CSV") from None
    if count < rows:
        what = f"{path} is empty" if count == 0 else f"{path} holds too few rows of numbers"
        raise UserError(what, got=count, allowed=f"{rows} or more")
    scratch.flush()
    shape = (count, len(names))
    # copy on write: torch wants tensors that it may write to, and the scratch file vanishes with the mapping
    return Table(names, np.memmap(scratch, np.float64, "c", shape=shape))


def _copy(path: Path, file: IO[str], scratch: IO[bytes], columns: int) -> tuple[tuple[str, ...], int]:
    """Numbers from one to the other; returns the names of the columns and the count of rows."""
    names: tuple[str, ...] = ()
    chunk: list[list[float]] = []
    count = 0
    for line, cells in _lines(path, file):
        if not names:
            names = _names(path, cells, columns)
            if not any(_is_number(cell) for cell in cells):
                continue
        if len(cells) != len(names):
            raise UserError(
                f"{path}, line {line} has another number of columns", got=len(cells), allowed=f"{len(names)}"
            )
        chunk.append([_number(path, line, name, cell) for name, cell in zip(names, cells, strict=True)])
        count += 1
        if len(chunk) == CHUNK:
            scratch.write(np.asarray(chunk, np.float64).tobytes())
            chunk.clear()
    scratch.write(np.asarray(chunk, np.float64).tobytes())
    return names, count


def _lines(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every line that is not empty."""
    reader = csv.reader(file)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num} is no line of a CSV file", got=error) from None


def _names(path: Path, cells: list[str], columns: int) -> tuple[str, ...]:
    """The names in the first line, or x, y, y2 … where it holds numbers."""
    if len(cells) < columns:
        allowed = f"{columns} or more, with commas between them"
        raise UserError(f"{path} has too few columns", got=len(cells), allowed=allowed)
    if any(_is_number(cell) for cell in cells):
        return _numbered(len(cells))
    names = tuple(cell.strip() for cell in cells)
    if len(set(names)) < len(names) or not all(names):
        raise UserError(f"{path}, line 1: the columns need names of their own", got=",".join(names))
    return names


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(["x", "y", *(f"y{k}" for k in range(2, count))][:count])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(path: Path, line: int, name: str, cell: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        got = repr(cell) if cell.strip() else "an empty cell"
        raise UserError(f"{path}, line {line}, column {name} holds no number", got=got) from None
    if not math.isfinite(number):
        raise UserError(f"{path}, line {line}, column {name} is not finite", got=cell.strip())
    return number
