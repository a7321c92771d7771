"""Who does the trials: a worker is a process that takes one after the other, a crew is the workers of one machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.agents.cores import available_cores
from drivetrain.envs.errors import UserError
from drivetrain.main import split_imports
from drivetrain.options import parse
from drivetrain.stopping import StopRequest
from drivetrain.sweep_space import as_flags
from drivetrain.sweep_study import Outcome, Study, StudyRecord, Worker
from drivetrain.sweep_trial import Launch, last_error, launch, run_trial

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["Crew", "arguments_of", "machine_options", "options_text", "work"]

PAUSE = 1.0  # s before asking again for a trial where there is none yet
GIVEN_UP = 3  # times that a worker may fail to get going before the crew gives up


def work(study: Study, stop: StopRequest, here: Mapping[str, Any], start: Launch = launch) -> None:
    """Do trials until none is left, ``stop`` is requested, or the process that hired this one is gone.

    Args:
        study: whose trials.
        stop: ends the trial in hand as interrupted.
        here: options of train that belong to this machine.
        start: starts a run.

    Raises:
        UserError: the defaults themselves cannot be trained (code 2).
    """
    boss = os.getppid()

    def stopped() -> bool:
        return stop.requested or os.getppid() != boss

    worker = Worker(study.path)
    try:
        while not stopped():
            trial = study.claim(worker.name)
            if trial is None:
                return
            if isinstance(trial, str):  # WAIT
                worker.beat()
                time.sleep(PAUSE)
                continue
            outcome = _attempt(study, trial, worker, stopped, here, start)
            study.settle(trial.number, outcome)
            if outcome.state == "failed" and not outcome.retry and trial.user_attrs.get("first"):
                raise UserError("the defaults cannot be trained", got=outcome.reason, fix="mend that and begin again")
    finally:
        worker.leave()


def _attempt(
    study: Study, trial: Trial, worker: Worker, stopped: Callable[[], bool], here: Mapping[str, Any], start: Launch
) -> Outcome:
    """A trial, from its parameters to its outcome."""
    from optuna.exceptions import UpdateFinishedTrialError

    commands = []
    try:
        for seed in study.seeds_of(trial):
            path = study.run_path(f"t{trial.number:03d}-s{seed}")
            commands.append((path, arguments_of(study, study.values(trial), seed, path, here)))
    except UserError as error:  # two values that do not go together
        return Outcome("failed", reason=f"unsuitable together: {error}")
    try:
        return run_trial(study, trial, worker, commands, stopped, start)
    except UpdateFinishedTrialError:
        return Outcome("failed", reason="given up as dead by another worker")


def arguments_of(
    study: Study, values: Mapping[str, object], seed: int, path: Path, here: Mapping[str, Any]
) -> list[str]:
    """The command line of one run, checked.

    Raises:
        UserError: options that do not go together (code 2).
    """
    from drivetrain.train import train_spec

    record = study.record
    spec = train_spec(record.algo, record.env)
    own: dict[str, object] = {"seed": seed, "name": str(path)}
    if "group" in spec.model.model_fields:
        own["group"] = study.path.name
    words = as_flags(dict(record.fixed) | dict(values) | dict(here) | own)
    parse(spec, words)
    return [*import_words(), "train", record.algo, record.env, *words]


def options_text(study: Study, values: Mapping[str, object]) -> str:
    """The command that trains with these values, to be typed."""
    import shlex

    record = study.record
    words = as_flags({**{k: v for k, v in record.fixed.items() if k != "track"}, **values})
    return " ".join(["drivetrain", *import_words(), "train", record.algo, record.env, *map(shlex.quote, words)])


def import_words() -> list[str]:
    """The ``--import`` flags of this command line, for the commands it starts."""
    return [word for module in split_imports(sys.argv[1:])[1] for word in ("--import", module)]


def machine_options(record: StudyRecord, typed: Mapping[str, Any], workers: int) -> dict[str, Any]:
    """What every run here is given: the options typed, and its share of the cores where nobody says otherwise."""
    from drivetrain.train import train_spec

    if "threads" not in typed:
        spec = train_spec(record.algo, record.env)
        if parse(spec, as_flags(record.fixed)).source["threads"] == "default":
            return {**typed, "threads": max(1, available_cores() // (record.seeds * workers))}
    return dict(typed)


class Crew:
    """The workers of this machine, each a process; one that is killed is replaced."""

    def __init__(self, study: Path, size: int, here: Mapping[str, Any]) -> None:
        self._study, self._here = study, here
        self._failures = 0
        self._members = [self._hire(k) for k in range(size)]

    def look(self, more: bool) -> bool:
        """Replace who died, while there is ``more`` to do; returns whether anybody is at work.

        Raises:
            UserError: they cannot get going.
        """
        working = False
        for k, (process, log) in enumerate(self._members):
            code = process.poll()
            if code is None:
                working = True
            elif code > 0 and code != 75:
                self._failures += 1
                said = last_error(log) or "no message"
                if code == 2 or self._failures >= GIVEN_UP:
                    raise UserError("a worker failed", got=said, fix=f"see {log}", code=code)
                self._members[k] = self._hire(k)
            elif code < 0 and more:
                self._members[k] = self._hire(k)
                working = True
        return working

    def dismiss(self) -> None:
        """Ask all to stop cleanly and wait for them."""
        for process, _ in self._members:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process, _ in self._members:
            process.wait()

    def _hire(self, k: int) -> tuple[subprocess.Popen[bytes], Path]:
        log = self._study / "logs" / f"worker-{k}.log"
        command = [sys.executable, "-P", "-m", "drivetrain", *import_words(), "sweep", "worker", str(self._study)]
        with open(log, "ab") as file:
            # a session of its own: Ctrl-C reaches this process alone, which then stops them in order
            process = subprocess.Popen(
                [*command, *as_flags(self._here)],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return process, log
