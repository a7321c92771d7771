"""The process beside a training that keeps the run at wandb up to date.

It reads what the trainer writes: metrics.jsonl, the checkpoints, the films. A record goes to wandb once a published
checkpoint covers it, because until then a resumption may take it back; the rest follows when the run ends. Standard
input says how the run ended (one word) and, by its own end, that every file is in place. Whatever goes wrong here is
one line for the user and nothing to the training; `drivetrain runs sync` sends later what is missing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from drivetrain.mirror import Tail
from drivetrain.rundir import run_name
from drivetrain.wandb_client import Client, Destination, WandbFailure, quiet_output, reachable, set_up
from drivetrain.wandb_rows import FINAL, Model, best_model, covered_seq, films, models, newest_model, pictures, summary
from drivetrain.wandb_state import State, Tally, file_key, load_state, save_state

__all__ = ["Feed", "main"]

POLL = 2.0  # s between looks at the files
PROBE = 1.5  # s a server has to answer before a run counts as online by default
BETWEEN_MODELS = 60.0  # s from one upload of a best model to the next


def main(argv: list[str]) -> int:
    """Mirror ``RUN`` in ``MODE`` (auto, online, offline) for the trainer with ``PID`` until stdin ends."""
    run, mode, pid = Path(argv[0]), argv[1], int(argv[2])
    if hasattr(os, "nice"):
        os.nice(10)
    talk = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, _leave)

    def say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            print(f"wandb: {text}", file=talk, flush=True)

    ears = Ears()
    while not (run / "metrics.jsonl").exists():  # until then the run may still be refused, and its folder removed
        ears.listen(0.2)
        if ears.closed:
            return 0
    with quiet_output() as said:
        try:
            set_up(run)
            _mirror(run, mode, pid, said, ears, say)
        except Exception as error:  # a full disk, for one; the run goes on without us
            reason = getattr(error, "strerror", None) or f"{error}" or type(error).__name__
            say(f"{reason}; the run goes on, `drivetrain runs sync {run_name(run)}` sends what is missing")
    _leave()


def _mirror(run: Path, mode: str, pid: int, said: Any, ears: Ears, say: Callable[[str], None]) -> None:
    state = load_state(run)
    save_state(run, state)  # the id is ours from here on
    later = f"`drivetrain runs sync {run_name(run)}` sends it"
    client = None
    if mode == "auto" and not reachable(PROBE):
        say(f"the server does not answer; the run is kept offline, {later}")
    elif mode != "offline":
        try:
            to = Destination(run, state.id, online=True, pid=pid, resumed_seq=state.online.seq)
            client = Client(to, said)
            say(f"online{f', {client.url}' if client.url else ''}")
        except WandbFailure as error:
            say(f"{error}; the run is kept offline, {later}")
    else:
        say(f"offline; {later}")
    online = client is not None
    if client is None:
        client = Client(Destination(run, state.id, online=False, pid=pid, resumed_seq=state.offline.seq), said)
    feed = Feed(run, state, client, online)
    while not ears.word and not ears.closed:
        feed.look()
        ears.listen(POLL)
    feed.end(ears.word)
    while not ears.closed:  # the last pictures are being drawn
        ears.listen(POLL)
    arrived = feed.close(ears.word)
    if online and not arrived:
        say(f"not everything has arrived; `drivetrain runs sync {run_name(run)}` sends the rest")


class Ears:
    """What the trainer says: a word when the run has ended, and silence when it is gone."""

    def __init__(self) -> None:
        self.word = ""
        self.closed = False

    def listen(self, seconds: float) -> None:
        """Wait for news, ``seconds`` at most."""
        handle = sys.stdin.fileno()
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(handle, select.POLLIN | select.POLLHUP)
            if not poll.poll(1000 * seconds):
                return
        heard = os.read(handle, 4096)
        self.closed = not heard
        self.word += heard.decode(errors="replace").strip()


class Feed:
    """Sends what is new in a run folder, and keeps count of it.

    Args:
        run: the run folder.
        state: what was sent before; continued and stored.
        client: an open run.
        online: whether it is open at a server.
    """

    def __init__(self, run: Path, state: State, client: Client, online: bool) -> None:
        self._run, self._client, self._online = run, client, online
        self._state, self._tally = state, replace(state.tally(online), seq=client.seq)
        if online and client.seq == 0:  # a server that knows no record of it has no files of it either
            self._tally = Tally()
        self._tail = Tail(run / "metrics.jsonl", client.seq)
        self._waiting: list[dict[str, Any]] = []
        self._found = models(run)
        self._names: list[str] = []
        self._model_at = -BETWEEN_MODELS

    def look(self) -> None:
        """Send what checkpoints cover by now, finished films, and a new best model now and then."""
        if self._refresh():
            self._send_records(covered_seq(self._found))
        self._send_films()
        # offline files need the weights once, at the end: the checkpoints lie beside them
        if self._online and time.monotonic() - self._model_at >= BETWEEN_MODELS:
            self._send_best(["best"])

    def end(self, status: str, last_seq: int | None = None) -> None:
        """Send the rest: the remaining records if nothing can take them back, the best and the newest model."""
        self._refresh()
        everything = last_seq is None and status in FINAL
        self._send_records(sys.maxsize if everything else (last_seq or covered_seq(self._found)))
        self._send_films()
        best, newest = best_model(self._found), newest_model(self._found)
        same = best is not None and newest is not None and best.step == newest.step
        self._send_best(["best", "latest"] if same else ["best"], wait=not same)
        if newest is not None and newest.step != self._tally.latest:
            self._send_model(newest, ["latest"], latest=newest.step)

    def close(self, status: str) -> bool:
        """Send films and pictures that came last and the summary, and close; whether all has arrived.

        Raises:
            WandbFailure: it broke off.
        """
        self._send_films()
        step = int(self._waiting[0]["step"]) if self._waiting else max((m.step for m in self._found), default=0)
        for name in pictures(self._run):
            self._send_file(name, lambda name: self._client.send_picture(name, step))
        self._client.send_summary(summary(self._run, self._found) | {"status": status or "stopped"})
        arrived = self._client.finish(success=status in ("done", "reached"))
        if arrived:
            self._store(replace(self._tally, status=status))
        return arrived

    def _refresh(self) -> bool:
        """Look for new checkpoints; whether there are."""
        folder = self._run / "checkpoints"
        names = sorted(path.name for path in folder.glob("step_*")) if folder.is_dir() else []
        if names == self._names:
            return False
        self._names, self._found = names, models(self._run)
        return True

    def _send_records(self, up_to: int) -> None:
        self._waiting += self._tail.read()
        for record in self._waiting:
            if record["seq"] <= up_to:
                self._client.send_record(record)
        self._waiting = [record for record in self._waiting if record["seq"] > up_to]
        if self._client.seq != self._tally.seq:
            self._tally = replace(self._tally, seq=self._client.seq)
            if not self._online:  # online only the server knows, until it is closed
                self._store(self._tally)

    def _send_films(self) -> None:
        for name, step in films(self._run):
            self._send_file(name, lambda name, step=step: self._client.send_film(name, step))  # type: ignore[misc]

    def _send_file(self, name: str, send: Callable[[str], bool]) -> None:
        with contextlib.suppress(OSError):  # removed meanwhile
            key = file_key(self._run, name)
            if key not in self._tally.files and send(name):
                self._tally = replace(self._tally, files=(*self._tally.files, key))

    def _send_best(self, aliases: list[str], wait: bool = False) -> None:
        best = best_model(self._found)
        if best is not None and best.step != self._tally.best:
            self._send_model(best, aliases, wait, best=best.step)

    def _send_model(self, model: Model, aliases: list[str], wait: bool = False, **sent: int) -> None:
        with contextlib.suppress(WandbFailure):  # the checkpoint was removed this moment: a newer one follows
            self._client.send_model(model, aliases, wait)
            if "latest" in aliases:
                sent["latest"] = model.step
            self._tally = replace(self._tally, **sent)  # type: ignore[arg-type]
            self._model_at = time.monotonic()

    def _store(self, tally: Tally) -> None:
        self._tally = tally
        self._state = self._state.noted(self._online, tally)
        save_state(self._run, self._state)


def _leave(*_: object) -> NoReturn:
    """Out at once: wandb's own exit handlers may wait for a server."""
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
