"""Sends what is new in a run folder to an open run at wandb, and keeps count of it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from drivetrain.journal import Tail
from drivetrain.wandb_client import Client, WandbFailure
from drivetrain.wandb_rows import FINAL, Model, best_model, covered_seq, films, models, newest_model, pictures, summary
from drivetrain.wandb_state import State, Tally, file_key, save_state

__all__ = ["Feed"]

BETWEEN_MODELS = 60.0  # s from one upload of a best model to the next


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
        with contextlib.suppress(OSError, WandbFailure):  # removed meanwhile, or no room: the next look tries again
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
