"""The run of a supervised training: its options, its folder, its records and the way it ends.

A *step* is one update; a *frame* is one sample that the network was shown. Everything decides on steps, never on the
clock.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Parsed, Spec, flag, parse
from drivetrain.output import Failure, Result
from drivetrain.rundir import RunDir, check_new_name, create_run, run_name
from drivetrain.stopping import StopRequest
from drivetrain.trackers import Trackers
from drivetrain.train import RECORDED, part_of
from drivetrain.wandb_options import TrackOptions, tracking

if TYPE_CHECKING:
    from torch import nn

    from drivetrain.agents.fit import Fit

__all__ = ["Study", "StudyOptions", "pretrain", "refuse_in_vain", "study_spec"]

MODEL = TypeVar("MODEL", bound=BaseModel)
EXIT_DIVERGED, EXIT_STORAGE, EXIT_INTERRUPTED = 4, 6, 75
SHOWN_EVERY = 2.0  # s between lines on the screen


class StudyOptions(TrackOptions):
    """The run"""

    steps: int = Field(4_000, ge=1, description="length of the training: updates, of every network that is trained")
    seed: int = Field(0, ge=0, le=10**12, description="of weights, of the split, of the order of samples, of noise")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto = cuda if present")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads; none = one per core")
    name: str | None = Field(None, description="name of the run in runs/, or a path; none = made from the time")
    checkpoint_every: int | None = Field(None, ge=1, description="updates between checkpoints; none = at the end")


@dataclass(frozen=True)
class Study:
    """What a run trains, and what it says about it at the end."""

    model: nn.Module  # what checkpoints hold: one predictor, or several by name
    fits: Mapping[str, Fit]  # by name; "" where there is one
    score: Callable[[], dict[str, Any]]  # "score", and what else the result should hold
    draw: Callable[[Path], list[str]]  # writes pictures into the run folder; returns lines for people
    notes: tuple[str, ...] = ()  # for people, before training begins


@dataclass
class Clock:
    """Where the time went, s."""

    seconds: float = 0.0  # updates
    eval_seconds: float = 0.0  # looks at the losses, and scores
    shown_at: float = field(default_factory=lambda: -math.inf)


def study_spec(
    task: str, model: type[BaseModel], summary: str, defaults: Callable[[Mapping[str, object]], dict[str, Any]]
) -> Spec[Any]:
    """The command line of a task, with its own defaults, which may depend on what was asked for."""
    usage = f"drivetrain pretrain {task}"
    return Spec(model, usage, summary, preset=defaults, config=True, file_extras=RECORDED)


def pretrain(
    task: str,
    spec: Spec[Any],
    argv: list[str],
    check: Callable[[Parsed[Any]], None],
    make: Callable[[Any], tuple[str, Callable[[], Study]]],
) -> Result:
    """From a command line to a run folder.

    Args:
        task: the word on the command line.
        spec: its options.
        argv: what comes after the task.
        check: refuses options that do not go together.
        make: (options) -> what is learned, in a word, and what builds the study. It reads all data, so that bad
            data is refused before anything is written.
    """
    parsed = parse(spec, argv)
    if parsed.extras.get("algo", task) != task:
        raise UserError("the config file is for another task", got=parsed.extras["algo"], allowed=task)
    check(parsed)
    settings = part_of(parsed.options, StudyOptions)
    typed = parsed.source["name"] == "flag"
    check_new_name(settings.name, typed)
    tracked = tracking(settings)
    with StopRequest() as stop:
        options = _resolve(parsed.options)
        settings = part_of(options, StudyOptions)
        what, build = make(options)
        stop.check()
        run = create_run(settings.name, f"{task}-{settings.seed}", typed)
        trackers = Trackers(run.path, tracked).begin()
        try:
            _write_records(run, task, what, options, ["pretrain", task, *argv])
            study = build()
            stop.check()
            session = StudySession(study, run, settings, trackers)
            session.greet(f"{task}: {what}, run {run_name(run.path)}")
        except BaseException:  # an interrupt too: nothing half-made stays behind
            trackers.abandon()
            run.discard()
            raise
        return session.train(stop)


def refuse_in_vain(parsed: Parsed[Any], names: tuple[str, ...], because: str, fix: str) -> None:
    """Refuse flags that were typed in vain."""
    for name in names:
        if parsed.source[name] == "flag":
            raise UserError(f"{flag(name)} is of no use {because}", fix=fix)


class StudySession:
    """Runs fits in a run folder.

    Args:
        study: what is trained.
        run: where it is written; locked by this process.
        settings: the run's options.
        trackers: who listens.
    """

    def __init__(self, study: Study, run: RunDir, settings: StudyOptions, trackers: Trackers) -> None:
        from drivetrain.journal import MetricsFile

        self.study, self.run, self.settings, self.trackers = study, run, settings, trackers
        self.metrics = MetricsFile(run.path / "metrics.jsonl")
        self.clock = Clock()
        self.found: dict[str, Any] = {"score": None}
        self.unstored: OSError | None = None

    @property
    def steps(self) -> int:
        """Updates so far, of the network that has most."""
        return max(fit.steps for fit in self.study.fits.values())

    def greet(self, title: str) -> None:
        """Say what begins."""
        from drivetrain.device import describe_device
        from drivetrain.progress import say

        for line in (f"{title}, {describe_device(self.settings.device)}", *self.study.notes):
            say(line)

    def train(self, stop: StopRequest) -> Result:
        """Train to the end, or until `stop` is requested.

        Raises:
            Failure: diverged (4), storage failed (6), or whatever stopped it.
        """
        from drivetrain.progress import say

        status, lines = "failed", list[str]()
        stop.on_first = lambda: say("stopping after this update; once more stops at once")
        try:
            status = self._loop(stop)
            for fit in self.study.fits.values():
                fit.finish()
            with self._timed("eval_seconds"):
                self.found = self.study.score()
            self._save()
            lines = self._draw()
        except KeyboardInterrupt:
            status = "interrupted"
        except Exception as error:
            from drivetrain.session import Diverged

            status = "diverged" if isinstance(error, Diverged) else "failed"
            self._close(status)
            raise Failure(error, self.result(status)) from error
        failure = self._close(status)
        if failure is not None:
            raise Failure(failure, self.result("failed"))
        self._farewell(status, lines)
        return Result(self.result(status), EXIT_INTERRUPTED if status == "interrupted" else 0)

    def result(self, status: str) -> dict[str, Any]:
        """What `--json` prints."""
        from drivetrain.clock import process_seconds

        return {
            "run": run_name(self.run.path),
            "status": status,
            "steps": self.steps,
            "frames": self._frames(),
            "seconds": round(self.clock.seconds, 3),
            "eval_seconds": round(self.clock.eval_seconds, 3),
            "wall_seconds": round(process_seconds(), 3),
            "steps_per_s": round(self.steps / self.clock.seconds, 1) if self.clock.seconds > 0 else 0.0,
        } | self.found

    def _loop(self, stop: StopRequest) -> str:
        """All fits, by turns, from one look at the losses to the next."""
        from drivetrain.progress import say

        self._look()
        while not stop.requested:
            open_fits = [fit for fit in self.study.fits.values() if not fit.over]
            if not open_fits:
                return "done"
            before = self.steps
            with self._timed("seconds"):
                for fit in open_fits:
                    _advance(fit, stop)
            self._look()
            for line in self.trackers.look():
                say(line)
            every = self.settings.checkpoint_every
            going_on = not stop.requested and not all(fit.over for fit in open_fits)  # else the last one comes now
            if every is not None and self.steps // every > before // every and going_on:
                self._save()
        return "interrupted"

    def _look(self) -> None:
        """Measure, refuse what is no number any more, record and show."""
        values: dict[str, float] = {}
        with self._timed("eval_seconds"):
            for name, fit in self.study.fits.items():
                if fit.steps > fit.looked or fit.steps == 0:
                    values |= _named(name, fit.measure())
        if not values:
            return
        rate = self.steps / self.clock.seconds if self.clock.seconds > 0 else 0.0
        times = {"time/steps_per_s": rate, "time/eval_seconds": self.clock.eval_seconds}
        self.metrics.append(self.steps, self._frames(), self.clock.seconds, values | times)
        bad = [key for key, value in values.items() if key.startswith("loss/") and not math.isfinite(value)]
        if bad:
            from drivetrain.session import Diverged

            raise Diverged(self.steps, f"{bad[0]} = {values[bad[0]]}")
        self._show(values)

    def _show(self, values: Mapping[str, float]) -> None:
        from drivetrain.progress import say

        now = time.monotonic()
        if now - self.clock.shown_at < SHOWN_EVERY and self.steps < self.settings.steps:
            return
        self.clock.shown_at = now
        losses = [
            f"{name} {values[f'loss/train{end}']:.3g} / {values[f'loss/validation{end}']:.3g}".strip()
            for name, end in ((name, f"_{name}" if name else "") for name in self.study.fits)
            if f"loss/train{end}" in values
        ]
        say(f"{self.clock.seconds:6.1f} s  {self.steps:>9,} updates  loss, training / validation: {', '.join(losses)}")

    def _save(self) -> None:
        """Store a checkpoint of the present weights; a full disk is told at the end."""
        from drivetrain.agents.checkpoint import prune_checkpoints, save_checkpoint

        info = {"frames": self._frames(), "seconds": self.clock.seconds, "seq": self.metrics.seq}
        weights = self.study.model.state_dict()
        folder = self.run.checkpoints
        try:
            save_checkpoint(folder, self.steps, weights, {}, {}, info)
            self.unstored = None
            prune_checkpoints(folder)
        except OSError as error:
            self.unstored = error

    def _draw(self) -> list[str]:
        from drivetrain.pretrain_plots import draw_losses

        draw_losses(self.run.path, list(self.study.fits))
        return self.study.draw(self.run.path)

    def _close(self, status: str) -> UserError | None:
        """Close all files; returns what could not be stored."""
        from drivetrain.progress import say

        failure = self.unstored
        with contextlib.suppress(OSError):
            self.run.write_json("result.json", self.result(status))
        try:
            self.metrics.close()
        except OSError as error:
            failure = error
        for line in self.trackers.close(status):
            say(line)
        self.run.close()
        if failure is None:
            return None
        what = f"the run {self.run.path} could not be stored completely"
        return UserError(what, got=failure.strerror, fix="free space, then train again", code=EXIT_STORAGE)

    def _farewell(self, status: str, lines: list[str]) -> None:
        from drivetrain.progress import say

        for line in lines:
            say(line)
        say(f"{status}: {self.steps:,} updates in {self.clock.seconds:.1f} s; everything is in {self.run.path}")

    def _frames(self) -> int:
        return sum(fit.samples for fit in self.study.fits.values())

    @contextlib.contextmanager
    def _timed(self, which: str) -> Any:
        began = time.monotonic()
        try:
            yield
        finally:
            setattr(self.clock, which, getattr(self.clock, which) + time.monotonic() - began)


def _named(name: str, values: Mapping[str, float]) -> dict[str, float]:
    """Metrics of a fit; of several fits, only the losses, with the name of the model."""
    if not name:
        return dict(values)
    return {f"{key}_{name}": values[key] for key in ("loss/train", "loss/validation")}


def _advance(fit: Fit, stop: StopRequest) -> None:
    """Updates up to the next look at the losses."""
    every = fit.cfg.eval_every
    goal = min(fit.total_steps, (fit.steps // every + 1) * every)
    while fit.steps < goal and not stop.requested:
        fit.step()


def _resolve(options: MODEL) -> MODEL:
    """Device and threads, chosen and written into the options."""
    from drivetrain.device import choose_device, keep_freed_memory, set_threads

    settings = part_of(options, StudyOptions)
    device, threads = choose_device(settings.device), set_threads(settings.threads)
    keep_freed_memory()
    return options.model_copy(update={"device": device, "threads": threads})


def _write_records(run: RunDir, task: str, what: str, options: BaseModel, argv: list[str]) -> None:
    """config.json and code.json."""
    from drivetrain import __version__
    from drivetrain.provenance import code_record

    recorded = options.model_dump(mode="json", exclude={"name"})
    run.write_json("config.json", {"version": __version__, "algo": task, "env": what} | recorded)
    settings = part_of(options, StudyOptions)
    run.write_json("code.json", code_record(settings.device, settings.threads or 0, argv))
