"""``drivetrain runs board``: TensorBoard on the runs, for this machine alone."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import Field

from drivetrain.board_events import EVENTS, EventFile
from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result
from drivetrain.rundir import find_run, known_runs, run_name

__all__ = ["main"]

HOST = "127.0.0.1"  # the board asks nobody who they are: it is for this machine alone
USUAL_PORT = 6006
LOOK = 5.0  # s between looks for new runs
ON_TOP = ("eval/mean", "train/return", "loss/validation")  # curves that the address puts before all others
SAMPLES = "images=50,text=20,scalars=2000"  # points and pictures that TensorBoard keeps of a curve


class BoardOptions(Options):
    """Options"""

    port: int | None = Field(
        None, ge=1, le=65535, description=f"none = {USUAL_PORT}, or a free one where that is taken"
    )


SPEC = Spec(
    BoardOptions,
    "drivetrain runs board [RUN …]",
    "Curves, films, actions, settings and results of the runs in TensorBoard, at an address of this machine; new runs "
    "appear by themselves. Without a RUN all of them. Ctrl-C ends it.",
    many="run",
)


def main(argv: list[str]) -> Result:
    """Serve TensorBoard until interrupted.

    Raises:
        UserError: no such run, nothing to show, a port in use, or TensorBoard is missing (2).
    """
    parsed = parse(SPEC, argv)
    named = {run_name(path).replace(os.sep, "_"): path for path in map(find_run, parsed.words)}
    for name, path in named.items():
        if not _has_events(path):
            raise UserError(f"the run {name} has nothing for TensorBoard", got=f"no {path / 'tensorboard'}")
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("TensorBoard is missing", fix="python -m pip install tensorboard")
    runs = named or _known()
    if not runs:
        raise UserError("no run has anything for TensorBoard", fix="begin with: drivetrain train ppo racing")
    port = _port(parsed.options.port)
    with tempfile.TemporaryDirectory(prefix="drivetrain-board-") as folder:
        shown = Farm(Path(folder))
        shown.show(runs)
        address = _serve(folder, port)
        many = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
        print(f"TensorBoard with {many}: {address}   (Ctrl-C ends it)")
        print(f"with the scores on top: {_with_pins(address)}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(LOOK)
                shown.show(named or _known())
    print("closed")
    return Result({"address": address, "runs": sorted(runs)})


class Farm:
    """A folder with a folder for each run and links to its event files in it, so that TensorBoard shows these runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shown: set[str] = set()

    def show(self, runs: Mapping[str, Path]) -> None:
        """Link what is new; runs that were deleted go."""
        for name in self._shown - runs.keys():
            shutil.rmtree(self._folder / name)  # links: what they lead to stays
            self._shown.remove(name)
        if not self._shown and runs:
            self._choose_columns(runs)
        for name, path in runs.items():
            self._shown.add(name)
            (self._folder / name).mkdir(exist_ok=True)
            for file in (path / "tensorboard").glob(EVENTS):
                with contextlib.suppress(FileExistsError):
                    os.symlink(file.resolve(), self._folder / name / file.name)

    def _choose_columns(self, runs: Mapping[str, Path]) -> None:
        """The columns of the table of hyper-parameters, in a file of their own beside those of the first run."""
        from drivetrain.board_pages import settings_of

        events = EventFile(self._folder / min(runs))
        events.columns([settings_of(path) for path in runs.values()])
        events.close()


def _known() -> dict[str, Path]:
    return {name: path for name, path in known_runs().items() if _has_events(path)}


def _has_events(path: Path) -> bool:
    return any((path / "tensorboard").glob(EVENTS))


def _port(asked: int | None) -> int:
    """The port to serve at; 0 lets the system choose.

    Raises:
        UserError: the one that is asked for is in use.
    """
    port = asked or USUAL_PORT
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if asked is None:
                return 0
            fix = "leave --port out, and a free one is taken"
            raise UserError(
                "TensorBoard cannot have this port", got=f"--port {port}, {error.strerror}", fix=fix
            ) from None
    return port


def _with_pins(address: str) -> str:
    cards = [{"plugin": "scalars", "tag": tag} for tag in ON_TOP]
    return f"{address}?pinnedCards={quote(json.dumps(cards, separators=(',', ':')))}#timeseries"


def _serve(folder: str, port: int) -> str:
    """Start TensorBoard in threads of this process and a helper that ends with it; returns the address."""
    # what it has to say is about its own insides
    warnings.simplefilter("ignore")
    for name in ("tensorboard", "werkzeug", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from tensorboard import default, program
    from tensorboard.program import TensorBoardServerException

    with _without_words():
        board = program.TensorBoard(default.get_plugins())
        words = ["", "--logdir", folder, "--host", HOST, "--port", str(port), "--reload_interval", str(int(LOOK))]
        board.configure([*words, "--samples_per_plugin", SAMPLES])
        try:
            return str(board.launch())
        except TensorBoardServerException as error:
            raise UserError("TensorBoard could not start", got=error, fix="try another --port") from None


@contextlib.contextmanager
def _without_words() -> Any:
    """TensorBoard greets on stderr that TensorFlow is missing, which nobody here misses."""
    stderr = sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        sys.stderr = nothing
        try:
            yield
        finally:
            sys.stderr = stderr
