"""A study on disk: what is searched, which trials there are, who works on them, and what became of those who died.

runs/STUDY/
    study.json      what is searched, and how
    journal.jsonl   every trial, in Optuna's journal; whoever shares this file works on the same study
    workers/        one folder a living worker, with its lock
    logs/           what workers and trials said
    report.md       and its pictures

Trials are runs of their own beside it, ``runs/STUDY-t007-s0`` for trial 7 and seed 0.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from drivetrain.envs.errors import UserError
from drivetrain.lock import RunLock, holder
from drivetrain.rundir import read_json, write_json
from drivetrain.sweep_space import Dimension, used_value

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

__all__ = ["WAIT", "Outcome", "Study", "StudyRecord", "Worker", "optuna_or_hint", "read_record"]

JOURNAL = "journal.jsonl"
WAIT: Literal["wait"] = "wait"  # nothing to begin now, but a trial that runs elsewhere may have to be repeated
SILENCE = 120.0  # s after which a worker of another machine counts as dead, where its lock cannot be seen from here
PULSE = 10.0  # s between two signs of life


class StudyRecord(BaseModel):
    """study.json: what is searched, and how"""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    algo: str
    env: str
    fixed: dict[str, Any]  # options of train that hold for all trials
    objective: Literal["score", "steps", "seconds", "processor"]
    seed: int = Field(ge=0)
    seeds: int = Field(ge=1)
    space: dict[str, Dimension]
    first: dict[str, bool | int | float | str]  # the first trial: the defaults, moved inside the space
    moved: tuple[str, ...] = ()  # fields of which the default is outside
    grid: tuple[int, ...]  # steps at which trials are compared
    trials: int = Field(ge=1)
    retries: int = Field(ge=0)
    sampler: Literal["tpe", "random"]
    pruner: Literal["median", "none"]
    prune_after: int = Field(ge=0)
    prune_from: int = Field(ge=0)
    confirm: int = Field(ge=0)

    @property
    def rises(self) -> bool:
        """Whether more is better."""
        return self.objective == "score"


@dataclass(frozen=True)
class Outcome:
    """What became of a trial."""

    state: Literal["complete", "pruned", "failed", "interrupted"]
    value: float | None = None
    reason: str = ""
    retry: bool = False  # worth another try with the same parameters
    other_seeds: bool = False  # the same seeds would fail again
    facts: Mapping[str, Any] | None = None  # stored with the trial


class Worker:
    """The lock of a process that works on trials; it dies with the process."""

    def __init__(self, study: Path) -> None:
        self.name = f"{socket.gethostname()}.{os.getpid()}.{time.time_ns() % 10**9}"
        self.folder = study / "workers" / self.name
        self.folder.mkdir(parents=True)
        self._lock = RunLock(self.folder)
        self._beaten = time.monotonic()

    def beat(self) -> None:
        """A sign of life for machines that cannot see the lock."""
        now = time.monotonic()
        if now - self._beaten >= PULSE:
            self._beaten = now
            with contextlib.suppress(OSError):
                os.utime(self._lock.path)

    def leave(self) -> None:
        """No trial is in hand any more."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)


class Study:
    """The trials of a study; every change is in the journal when a method returns."""

    def __init__(self, path: Path, record: StudyRecord) -> None:
        optuna = optuna_or_hint()
        self.path, self.record = path, record
        (path / "logs").mkdir(exist_ok=True)
        (path / "workers").mkdir(exist_ok=True)
        self._turn = optuna.storages.journal.JournalFileOpenLock(str(path / "turn"))
        journal = str(path / JOURNAL)
        lock = optuna.storages.journal.JournalFileOpenLock(journal)
        _mend(path / JOURNAL, lock)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(journal, lock_obj=lock))
        self.optuna = optuna.create_study(
            study_name=path.name,
            storage=storage,
            direction="maximize" if record.rises else "minimize",
            pruner=self._pruner(),
            load_if_exists=True,
        )

    @property
    def sign(self) -> int:
        """+1 or −1: reported scores times this have the direction of the objective."""
        return 1 if self.record.rises else -1

    def trials(self) -> list[FrozenTrial]:
        """Every trial, tries of the same one included, in the order of their begin."""
        return self.optuna.get_trials(deepcopy=False)

    def begin(self) -> None:
        """Put the defaults first in a study that has no trial yet."""
        with self._my_turn():
            if not self.trials():
                attrs = {"first": True, "default": not self.record.moved}
                self.optuna.enqueue_trial(dict(self.record.first), user_attrs=attrs)

    def claim(self, worker: str) -> Trial | Literal["wait"] | None:
        """A trial to run now, WAIT, or None when all are done."""
        from optuna.trial import TrialState

        with self._my_turn():
            self._bury()
            trials = self.trials()
            states = [trial.state for trial in trials]
            begun = sum("after" not in trial.user_attrs for trial in trials)
            if TrialState.WAITING not in states and begun >= self.record.trials:
                return WAIT if TrialState.RUNNING in states else None
            self.optuna.sampler = self._sampler(len(trials))
            trial = self.optuna.ask(self._distributions())
            trial.set_user_attr("worker", worker)
            return trial

    def values(self, trial: Trial | FrozenTrial) -> dict[str, bool | int | float | str]:
        """The options that a trial tries."""
        space = self.record.space
        return {name: used_value(space[name], trial.params[name]) for name in space if name in trial.params}

    def settle(self, number: int, outcome: Outcome) -> bool:
        """Note how a trial ended; False when it had been given up as dead before."""
        with self._my_turn():
            trial = self.trials()[number]
            if trial.state.is_finished():
                return False
            self._close(trial, outcome)
            return True

    def bury(self) -> None:
        """Mark trials whose worker is dead as failed, and queue them again."""
        with self._my_turn():
            self._bury()

    def seeds_of(self, trial: Trial | FrozenTrial) -> list[int]:
        """The seeds of a trial: the same for all, others where those of an earlier try were the trouble."""
        first = self.record.seed + int(trial.user_attrs.get("shift", 0)) * self.record.seeds
        return list(range(first, first + self.record.seeds))

    def run_path(self, end: str) -> Path:
        """Folder of a run that belongs to the study."""
        return self.path.with_name(f"{self.path.name}-{end}")

    def _bury(self) -> None:
        from optuna.trial import TrialState

        for trial in self.trials():
            if trial.state != TrialState.RUNNING:
                continue
            worker = trial.user_attrs.get("worker")
            # only a dead process leaves a trial without a name: naming it takes the same turn as beginning it
            if worker is None or not _lives(self.path / "workers" / str(worker)):
                self._close(trial, Outcome("failed", reason="its worker was killed", retry=True))
                name = Path(str(worker)).name
                if worker is not None and name not in ("", ".."):  # the journal may come from anywhere
                    shutil.rmtree(self.path / "workers" / name, ignore_errors=True)

    def _close(self, trial: FrozenTrial, outcome: Outcome) -> None:
        """End a running trial; the next try is queued first, so that a kill in between loses nothing."""
        from optuna.trial import TrialState

        attrs = trial.user_attrs
        tries = int(attrs.get("tries", 1))
        counts = outcome.state != "interrupted"  # stopping by hand is no fault of the trial's
        queued = any(other.user_attrs.get("after") == trial.number for other in self.trials())
        if outcome.retry and not queued and (not counts or tries <= self.record.retries):
            more = {"after": trial.number, "root": attrs.get("root", trial.number), "tries": tries + int(counts)}
            more |= {"shift": int(attrs.get("shift", 0)) + int(outcome.other_seeds)}
            more |= {key: attrs[key] for key in ("first", "default") if key in attrs}
            params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            self.optuna.enqueue_trial(params, user_attrs=more)
        storage = self.optuna._storage
        for key, value in {"reason": outcome.reason, **(outcome.facts or {})}.items():
            storage.set_trial_user_attr(trial._trial_id, key, value)
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(outcome.state, TrialState.FAIL)
        self.optuna.tell(trial.number, outcome.value if state == TrialState.COMPLETE else None, state=state)

    @contextlib.contextmanager
    def _my_turn(self) -> Iterator[None]:
        """One process at a time decides which trial comes next. Works wherever a file can be created exclusively."""
        self._turn.acquire()
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # taken from us after a long sleep
                self._turn.release()

    def _distributions(self) -> dict[str, BaseDistribution]:
        from optuna import distributions

        made: dict[str, BaseDistribution] = {}
        for name, d in self.record.space.items():
            if d.kind == "choice":
                made[name] = distributions.CategoricalDistribution(d.choices)
            elif d.kind == "int":
                made[name] = distributions.IntDistribution(int(d.low), int(d.high), log=d.log)
            else:
                made[name] = distributions.FloatDistribution(float(d.low), float(d.high), log=d.log)
        return made

    def _sampler(self, begun: int) -> Any:
        """A new one for every trial: what it draws depends on the study alone, not on which worker asks."""
        from optuna import samplers

        seed = (self.record.seed * 1_000_003 + begun) % 2**32
        if self.record.sampler == "random":
            return samplers.RandomSampler(seed=seed)
        return samplers.TPESampler(seed=seed, n_startup_trials=min(10, max(2, self.record.trials // 4)))

    def _pruner(self) -> Any:
        from optuna import pruners

        if self.record.pruner == "none":
            return pruners.NopPruner()
        return pruners.MedianPruner(n_startup_trials=self.record.prune_after, n_warmup_steps=self.record.prune_from)


def read_record(path: Path) -> StudyRecord:
    """study.json of a study folder.

    Raises:
        UserError: missing or damaged (code 2).
    """
    file = path / "study.json"
    if not file.is_file():
        raise UserError("no such study", got=path, fix="begin one: drivetrain sweep ALGO ENV --name STUDY")
    try:
        return StudyRecord.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file} is damaged", got=f"{where}: {first['msg']}", fix="restore it from a copy") from None


def write_record(path: Path, record: StudyRecord) -> None:
    """Write study.json in one piece."""
    write_json(path / "study.json", record.model_dump(mode="json"))


def optuna_or_hint() -> Any:
    """Optuna, without its chatter.

    Raises:
        UserError: it is not installed (code 2).
    """
    try:
        import optuna
    except ImportError as error:
        fix = "install it with `python -m pip install 'optuna>=5,<6'`"
        raise UserError("the package optuna is missing", got=str(error), fix=fix) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _lives(folder: Path) -> bool:
    """Whether a worker is there. On this machine its lock says so; of another machine also its last sign of life."""
    if holder(folder) is not None:
        return True
    if folder.name.rsplit(".", 2)[0] == socket.gethostname():
        return False
    try:
        beaten = (folder / "lock").stat().st_mtime
        # the clock of the disk, which both machines share, and not ours
        now = folder.parent / f".now-{os.getpid()}"
        now.touch()
        present = now.stat().st_mtime
        now.unlink()
    except OSError:
        return False
    return present - beaten < SILENCE


def _mend(journal: Path, lock: Any) -> None:
    """Cut off a last line that a power failure left unfinished: the next line would be written behind it."""
    if not journal.exists() or not journal.stat().st_size:
        return
    lock.acquire()
    try:
        with open(journal, "rb+") as file:
            data = file.read()
            if not data.endswith(b"\n"):
                file.truncate(data.rfind(b"\n") + 1)
    finally:
        lock.release()
