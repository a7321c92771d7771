"""What a verb hands back, and where its words go.

Under ``--json`` the last line of stdout is one JSON object and everything else goes to stderr; verbs need not know:
``main`` points ``sys.stdout`` at stderr while a verb runs and prints the result itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Failure", "Result", "console", "dumps"]


class Result(NamedTuple):
    """The JSON object of a verb and the exit code of the process."""

    values: Mapping[str, object]
    code: int = 0


class Failure(Exception):
    """A run that had begun and failed: the cause, and what ``--json`` prints about the run."""

    def __init__(self, cause: BaseException, values: Mapping[str, object]) -> None:
        super().__init__(str(cause))
        self.cause, self.values = cause, values


def console() -> Console:
    """A rich console on the present ``sys.stdout``; plain text when that is no terminal."""
    import sys

    from rich.console import Console

    stream = sys.stdout
    # without a terminal there is no width to fit: tables must not lose their ends
    return Console(file=stream, highlight=False, width=None if stream.isatty() else 140)


def dumps(values: object, indent: int | None = None) -> str:
    """JSON text that every reader accepts: not-a-number and infinity become null, big integers become strings."""
    return json.dumps(_plain(values), indent=indent, allow_nan=False, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # readers that keep numbers as doubles lose integers above 2^53
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "tolist"):  # numpy and torch, scalars and arrays
        return _plain(value.tolist())
    return str(value)
