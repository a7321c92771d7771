"""Run folders: how they are named, found, made and described.

runs/NAME/
    config.json     every setting as resolved
    code.json       commit, hash of uncommitted changes, versions, device, command
    metrics.jsonl   the truth: one line a record
    result.json     how it ended: what `train --json` printed
    tensorboard/    a mirror of metrics.jsonl
    wandb/          what wandb keeps of the run, and what it has been sent
    checkpoints/    immutable directories, see drivetrain.agents.checkpoint
    eval.csv        every validation episode
    videos/         films of the training, where --video-every asked for them
    curve.png       return over steps
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drivetrain.envs.errors import UserError, nearest
from drivetrain.lock import RunLock, holder
from drivetrain.output import dumps

__all__ = [
    "RunDir",
    "create_run",
    "expanded",
    "find_run",
    "known_runs",
    "open_run",
    "read_json",
    "read_or_empty",
    "read_run_config",
    "run_name",
    "write_json",
]

RUNS = Path("runs")
BASELINES = RUNS / "baselines"
# beside the source tree, so that a shipped driver is found from any folder
SHIPPED = Path(__file__).resolve().parent.parent / "runs" / "baselines"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=@-]{0,127}")
# words that mean something else where a run may stand
TAKEN = ("baselines", "compare", "drives", "expert", "human", "random")
LARGEST_JSON = 4 * 2**20  # bytes


class RunDir:
    """A run folder that this process writes: it holds the lock until ``close``."""

    def __init__(self, path: Path, lock: RunLock, made: list[Path]) -> None:
        self.path = path
        self._lock = lock
        self._made = made  # folders that did not exist before, outermost first

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"

    def write_json(self, name: str, values: Mapping[str, object]) -> None:
        """Write a small JSON file in one piece: a reader sees the old or the new one."""
        write_json(self.path / name, values)

    def close(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    def discard(self) -> None:
        """Undo the creation: remove the folder, and parents that were made for it and hold nothing else."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in reversed(self._made):
            try:
                parent.rmdir()
            except OSError:
                break


def create_run(name: str | None, prefix: str, typed: bool = True) -> RunDir:
    """Make a new, empty, locked run folder.

    Args:
        name: a plain name (the folder is ``runs/NAME``), a path when it holds a separator, or None for
            ``PREFIX-YYYYmmdd-HHMMSS``, numbered when that exists.
        prefix: begin of the automatic name, such as ``ppo-racing-1``.
        typed: the user typed the name; only then it may be a path.

    Raises:
        UserError: unsuitable name, existing folder, or a place that cannot be written (code 2).
    """
    stem = f"{prefix}-{time.strftime('%Y%m%d-%H%M%S')}"
    path = RUNS / stem if name is None else _checked_path(name, typed)
    made = _make_parents(path.parent)
    number = 1
    while True:
        try:
            path.mkdir()  # fails when it exists: of two processes only one gets the name
            break
        except FileExistsError:
            if name is not None:
                fix = f"go on with `drivetrain resume {name}`, or choose another --name"
                raise UserError("the run exists already", got=path, fix=fix) from None
            number += 1
            path = RUNS / f"{stem}-{number}"
        except OSError as error:
            _remove(made)
            raise _cannot_write(path, error) from None
    try:
        return RunDir(path, RunLock(path), made)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        _remove(made)
        raise _cannot_write(path, error) from None


def open_run(name: str) -> RunDir:
    """Lock an existing run for going on.

    Raises:
        UserError: no such run or not writable (2), in use (7).
    """
    path = find_run(name)
    try:
        return RunDir(path, RunLock(path), [])
    except OSError as error:
        raise _cannot_write(path, error) from None


def find_run(name: str) -> Path:
    """The folder of a run: a path where ``name`` holds a separator, else ``runs/NAME``, else a baseline.

    Raises:
        UserError: there is none, or it is no run folder (code 2).
    """
    if _is_path(name):
        places = [expanded(name)]
    elif NAME.fullmatch(name):
        places = [RUNS / name, BASELINES / name, SHIPPED / name]
    else:
        raise UserError("no such run", got=name, fix="list the runs with `drivetrain runs`")
    for path in places:
        if (path / "config.json").is_file():
            return path
    existing = [path for path in places if path.is_dir()]
    if existing:
        raise UserError(f"{existing[0]} is no run folder", got="no config.json in it", fix="see `drivetrain runs`")
    near = nearest(name, known_runs())
    fix = f"did you mean {near}?" if near else "list the runs with `drivetrain runs`"
    raise UserError("no such run", got=name, fix=fix)


def known_runs() -> dict[str, Path]:
    """Name and folder of every run in ``runs/``, ``runs/baselines/`` and the shipped baselines; first found wins."""
    found: dict[str, Path] = {}
    for place in (RUNS, BASELINES, SHIPPED):
        if not place.is_dir():
            continue
        for path in sorted(place.iterdir()):
            if not path.name.startswith(".") and (path / "config.json").is_file():  # . = half deleted
                found.setdefault(path.name, path)
    return found


def run_name(path: Path) -> str:
    """How to call a run on the command line: its plain name where that finds it, else its path."""
    plain = path.name
    places = (RUNS / plain, BASELINES / plain, SHIPPED / plain)
    first = next((place for place in places if (place / "config.json").is_file()), None)
    return plain if first is not None and first.resolve() == path.resolve() else str(path)


def read_run_config(path: Path) -> dict[str, Any]:
    """``config.json`` of a run folder.

    Raises:
        UserError: missing or damaged (code 2).
    """
    return read_json(path / "config.json")


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write a small JSON file in one piece: a reader sees the old or the new one.

    Raises:
        OSError: no room, or no right to write; the old one is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(dumps(values, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: missing, too large, or no JSON object (code 2).
    """
    values: object = None
    try:
        if path.stat().st_size <= LARGEST_JSON:
            values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}", got=error.strerror) from None
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path} is damaged", got="no JSON object", fix="restore it from a copy")
    return values


def read_or_empty(path: Path) -> dict[str, Any]:
    """A JSON object from a file, empty where there is none that can be read."""
    try:
        return read_json(path)
    except UserError:
        return {}


def check_new_name(name: str | None, typed: bool = True) -> None:
    """Refuse a name before anything slow happens; ``create_run`` asks again.

    Raises:
        UserError: unsuitable, or the folder exists (code 2).
    """
    if name is None:
        return
    path = _checked_path(name, typed)
    if path.exists() or path.is_symlink():
        who = f" ({holder(path)} trains there)" if holder(path) else ""
        fix = f"go on with `drivetrain resume {name}`, or choose another --name"
        raise UserError(f"the run exists already{who}", got=path, fix=fix)


def expanded(path: str) -> Path:
    """A path with the home folder that ``~`` or ``~NAME`` stands for.

    Raises:
        UserError: there is none (code 2).
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError("no such home folder", got=path, fix="write the path in full") from error


def _is_path(name: str) -> bool:
    return os.sep in name or (os.altsep is not None and os.altsep in name) or name in (".", "..")


def _checked_path(name: str, typed: bool) -> Path:
    if "\0" in name or not name:
        raise UserError("unsuitable run name", got=repr(name), allowed="letters, digits and . _ + = @ -")
    if _is_path(name):
        if not typed:
            raise UserError("a run named in a file cannot be a path", got=name, fix="give --name on the command line")
        path = expanded(name)
        if path.name in ("", ".", ".."):
            raise UserError("unsuitable run name", got=name, fix="end the path with the name of the run")
        return path
    if name in TAKEN or not NAME.fullmatch(name):
        allowed = f"letters, digits and . _ + = @ -, none of {', '.join(TAKEN)}"
        raise UserError("unsuitable run name", got=name, allowed=allowed)
    return RUNS / name


def _make_parents(folder: Path) -> list[Path]:
    """Make the folders above a run; returns those that did not exist, outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    made: list[Path] = []
    for path in reversed(missing):
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            _remove(made)
            raise _cannot_write(path, error) from None
        made.append(path)
    return made


def _remove(folders: list[Path]) -> None:
    for folder in reversed(folders):
        try:
            folder.rmdir()
        except OSError:
            return


def _cannot_write(path: Path, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(f"cannot write {path}", got=reason, fix="choose another place with --name PATH")
