"""What of a run has reached wandb: RUN/wandb/mirrored.json.

The id of the run at wandb is made once and stays, through every resumption. Two tallies are kept: of what lies in
offline files, and of what the server is known to hold. A tally counts only what was closed properly, or, for rows, what
the server itself reported.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from drivetrain.envs.errors import UserError
from drivetrain.lock import RunLock
from drivetrain.rundir import write_json

__all__ = ["FOLDER", "State", "Tally", "file_key", "load_state", "save_state", "take_turn"]

FOLDER = "wandb"
FILE = "mirrored.json"
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH = 12


@dataclass(frozen=True)
class Tally:
    """What one destination has."""

    seq: int = 0  # of the last record
    files: tuple[str, ...] = ()  # films and pictures, by path inside the run folder and size
    best: int = -1  # step of the best model sent, -1 before the first
    latest: int = -1  # step of the newest model sent
    status: str = ""  # how the run had ended when it was sent last


@dataclass(frozen=True)
class State:
    """The id and both tallies."""

    id: str
    offline: Tally = field(default_factory=Tally)
    online: Tally = field(default_factory=Tally)

    def tally(self, online: bool) -> Tally:
        """What lies in offline files, or what the server has."""
        return self.online if online else self.offline

    def noted(self, online: bool, tally: Tally) -> State:
        """With another tally."""
        return replace(self, online=tally) if online else replace(self, offline=tally)


def take_turn(run: Path, patience: float = math.inf) -> RunLock:
    """Wait until nobody else sends this run: after a kill the mirror of the former trainer is still at work.

    Raises:
        UserError: somebody is at it for longer than ``patience`` s (code 7).
        OSError: no room, or no right to write.
    """
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    end = time.monotonic() + patience
    while True:
        try:
            return RunLock(folder)
        except UserError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)


def load_state(run: Path) -> State:
    """The state of a run folder; a new one with a new id where there is none, or none that can be read.

    ``WANDB_RUN_ID`` names a new run, as it does for wandb itself: an agent of a sweep at wandb sets it.
    """
    try:
        values = json.loads((run / FOLDER / FILE).read_text(encoding="utf-8"))
        return State(str(values["id"]), _tally(values["offline"]), _tally(values["online"]))
    except (OSError, ValueError, KeyError, TypeError):
        return State(os.environ.get("WANDB_RUN_ID") or "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH)))


def save_state(run: Path, state: State) -> None:
    """Write in one piece, by whoever has his turn: a reader sees the old or the new state.

    Raises:
        OSError: no room, or no right to write.
    """
    write_json(run / FOLDER / FILE, asdict(state))


def file_key(run: Path, name: str) -> str:
    """How a film or picture is remembered: a picture that was drawn anew is another.

    Raises:
        OSError: it is gone.
    """
    return f"{name}:{(run / name).stat().st_size}"


def _tally(values: Mapping[str, Any]) -> Tally:
    files = tuple(str(name) for name in values["files"])
    return Tally(int(values["seq"]), files, int(values["best"]), int(values["latest"]), str(values["status"]))
