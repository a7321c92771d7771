"""One training run from its first update to its last: records, validations, checkpoints and the way it ends.

Everything here decides on steps, never on the clock, so that a run that was stopped and resumed takes the same
decisions as one that never stopped.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from torch import Tensor, nn

from drivetrain.agents.checkpoint import NonFiniteError, prune_checkpoints, save_checkpoint, sweep_debris
from drivetrain.agents.evaluate import Scores
from drivetrain.clock import process_seconds
from drivetrain.envs.errors import UserError
from drivetrain.journal import EvalFile, MetricsFile
from drivetrain.output import Failure, Result
from drivetrain.progress import Progress, Snapshot
from drivetrain.rundir import RunDir, run_name
from drivetrain.stopping import StopRequest
from drivetrain.trackers import Trackers
from drivetrain.videos import Videos

__all__ = ["FIRST_VALIDATION_SEED", "Agent", "Plan", "RunState", "Session"]

FIRST_VALIDATION_SEED = 1_000_000_000
VALIDATION_EPISODES = 100
NEAR_TARGET = 0.05  # a validation is worth its time when training is this close to the target
EXIT_DIVERGED, EXIT_STORAGE, EXIT_INTERRUPTED = 4, 6, 75


class World(Protocol):
    """What a learner learns on."""

    def close(self) -> None:
        """Let go of it."""


class Agent(Protocol):
    """What a session needs of a learner."""

    @property
    def env(self) -> World:
        """What it learns on."""

    @property
    def policy(self) -> nn.Module:
        """The network, normalisers included."""

    @property
    def steps(self) -> int:
        """Decisions so far, all lanes together."""

    @property
    def frames(self) -> int:
        """Simulator frames so far."""

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Train until ``steps >= total_steps``; yields the metrics of each update."""

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What an exact continuation needs beside the policy."""


@dataclass(frozen=True)
class Plan:
    """When a run validates, stores and ends; all in steps."""

    steps: int
    stop_at: float | None = None  # validation score that ends the run
    eval_every: int | None = None
    checkpoint_every: int | None = None
    video_every: int | None = None
    retry_after: int = 0  # steps from a validation whose first set missed `stop_at` to the next
    judge: str = ""  # flags of `evaluate` that score the run elsewhere than where it learned
    imports: str = ""  # flags that every command on the run needs, because its environment is the user's own
    threshold: float | None = None  # score below which a validation episode counts as failed


@dataclass
class RunState:
    """What a session remembers beside the agent; stored with every checkpoint."""

    seq: int = 0
    seconds: float = 0.0  # of rollouts and updates
    eval_seconds: float = 0.0
    score: float | None = None  # of the last validation: what is reported
    rank: float | None = None  # of the last validation: what checkpoints are compared by
    best: float | None = None  # highest rank so far
    evaluated_at: int = -1  # step of the last validation, -1 before the first
    missed_at: int = -1  # step of the last validation whose first set missed `stop_at`
    confirmations: int = 0  # second validation sets used up so far
    reached: bool = False  # whether `stop_at` was reached

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> RunState:
        """From what ``asdict`` gave; unknown keys are ignored, missing ones are as at the start."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in values.items() if name in known})


class Session:
    """Runs an agent in a run folder.

    Args:
        agent: what learns.
        run: where it is written; locked by this process.
        plan: when to validate, store and stop.
        validate: (first seed, episodes) -> Scores of the present policy, without exploration.
        progress: who is told.
        state: None for a new run, else that of the checkpoint the agent was restored from.
        trackers: who listens; by default the local mirror alone.
    """

    def __init__(
        self,
        agent: Agent,
        run: RunDir,
        plan: Plan,
        validate: Callable[[int, int], Scores],
        progress: Progress,
        state: RunState | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        self.agent, self.run, self.plan, self.validate, self.progress = agent, run, plan, validate, progress
        resumed = state is not None
        self.state = state or RunState()
        sweep_debris(run.checkpoints)
        self.metrics = MetricsFile(run.path / "metrics.jsonl", self.state.seq if resumed else None)
        self.metrics.seq = self.state.seq
        self.evals = EvalFile(run.path / "eval.csv", agent.steps if resumed else None)
        self.trackers = trackers or Trackers(run.path)
        self.trackers.begin(self.state.seq, agent.steps if resumed else -1)
        self.videos = Videos(run.path, self._say)
        self.validation: dict[str, Any] = {}
        self.unstored: OSError | None = None
        self.saved_at = agent.steps if resumed else -1

    def train(self, stop: StopRequest) -> Result:
        """Train to the end of the plan, or until ``stop`` (entered by the caller) is requested.

        Raises:
            Failure: diverged (4), storage failed at the end (6), or whatever stopped the agent.
        """
        status = "failed"
        stop.on_first = lambda: self._say("stopping after this update; once more stops at once")
        try:
            if self.saved_at < 0:
                self._save()  # from here on the run can be resumed, however it ends
            status = self._loop(stop)
            if status == "done" and self._owes_a_score():
                self._record({}, self._validate_first())
            self._save()
        except KeyboardInterrupt:
            status = "interrupted"
        except Exception as error:
            status = "diverged" if isinstance(error, (Diverged, NonFiniteError)) else "failed"
            self._close(status)
            cause = Diverged(self.agent.steps, error) if isinstance(error, NonFiniteError) else error
            raise Failure(cause, self.result(status)) from error
        failure = self._close(status)
        if failure is not None:
            raise Failure(failure, self.result("failed"))
        return Result(self.result(status), EXIT_INTERRUPTED if status == "interrupted" else 0)

    def leave(self, status: str) -> Result:
        """End without training: nothing was left to do."""
        failure = self._close(status)
        if failure is not None:
            raise Failure(failure, self.result("failed"))
        return Result(self.result(status))

    def result(self, status: str) -> dict[str, Any]:
        """What ``--json`` prints."""
        state = self.state
        return {
            "run": run_name(self.run.path),
            "status": status,
            "steps": self.agent.steps,
            "frames": self.agent.frames,
            "seconds": round(state.seconds, 3),
            "eval_seconds": round(state.eval_seconds, 3),
            "wall_seconds": round(process_seconds(), 3),
            "steps_per_s": round(self.agent.steps / state.seconds, 1) if state.seconds > 0 else 0.0,
            "score": state.score,
        }

    def _loop(self, stop: StopRequest) -> str:
        """Updates until the plan is fulfilled; returns the status."""
        updates = self.agent.iterate(self.plan.steps)
        while not stop.requested:
            before = self.agent.steps
            began = time.monotonic()
            metrics = next(updates, None)
            self.state.seconds += time.monotonic() - began
            if metrics is None:
                return "done"
            _refuse_divergence(metrics, self.agent.steps, self._record)
            reached, evaluation = self._validations(before, metrics)
            self._record(metrics, evaluation)
            improved = bool(evaluation) and self._is_best()
            due = _crossed(before, self.agent.steps, self.plan.checkpoint_every)
            # the last one waits for the score that the end of a run may still owe
            if improved or (due and self.agent.steps < self.plan.steps):
                self._save()
            self.videos.look()
            self._pass_on(self.trackers.look())
            if _crossed(before, self.agent.steps, self.plan.video_every):
                self.videos.film(self.agent.steps, self.agent.policy.state_dict())
            stands = (self.agent.steps, self.plan.steps, self.state.seconds, metrics, self.validation, self.state.best)
            self.progress.show(Snapshot(*stands))
            if reached:
                return "reached"
        return "interrupted"

    def _validations(self, before: int, metrics: Mapping[str, float]) -> tuple[bool, dict[str, Any]]:
        """Validate where the plan asks for it. Returns (target reached, eval/… metrics, empty without one)."""
        close = self._is_close(metrics)
        if not close and not _crossed(before, self.agent.steps, self.plan.eval_every):
            return False, {}
        evaluation = self._validate_first()
        target = self.plan.stop_at
        if target is None or not close:
            return False, evaluation
        if evaluation["eval/mean"] < target:
            self.state.missed_at = self.agent.steps
            return False, evaluation
        # a set that was passed by luck must not end the run: tracks never used before have the last word
        first = FIRST_VALIDATION_SEED + VALIDATION_EPISODES * (1 + self.state.confirmations)
        self.state.confirmations += 1
        confirmed = self._play("confirmation", first)
        evaluation |= {"eval/confirmed": confirmed.mean}
        self._judge(confirmed.mean, (evaluation["eval/mean"] + confirmed.mean) / 2)
        self.state.reached = confirmed.mean >= target
        return self.state.reached, evaluation

    def _is_close(self, metrics: Mapping[str, float]) -> bool:
        """Whether a validation for ``stop_at`` is worth its time: training is within 5 % of the target."""
        target, training = self.plan.stop_at, metrics.get("train/return")
        if target is None or training is None or not math.isfinite(training):
            return False
        if metrics.get("train/episodes", VALIDATION_EPISODES) < VALIDATION_EPISODES:
            return False
        waited = self.state.missed_at < 0 or self.agent.steps - self.state.missed_at >= self.plan.retry_after
        return waited and training >= target - NEAR_TARGET * abs(target)

    def _validate_first(self) -> dict[str, Any]:
        """Score the policy on the first validation set; remembers the score."""
        scores = self._play("validation", FIRST_VALIDATION_SEED)
        self.state.evaluated_at = self.agent.steps
        self._judge(scores.mean, scores.mean)
        self.validation = {
            "eval/mean": scores.mean,
            "eval/min": scores.min,
            "eval/p10": scores.p10,
            "eval/sd": scores.sd,
        } | ({} if self.plan.threshold is None else {"eval/failures": scores.failures(self.plan.threshold)})
        return self.validation | ({"eval/actions": list(scores.actions)} if scores.actions else {})

    def _owes_a_score(self) -> bool:
        """Whether the last weights were not validated although the plan validates at all."""
        validates = self.plan.eval_every is not None or self.plan.stop_at is not None
        return validates and self.state.evaluated_at != self.agent.steps

    def _is_best(self) -> bool:
        """Whether the last validation is the best so far; remembers it."""
        rank, best = self.state.rank, self.state.best
        if rank is None or (best is not None and rank < best):
            return False
        self.state.best = rank
        return True

    def _judge(self, score: float, rank: float) -> None:
        """Note the outcome of a validation; ``rank`` is the mean over all its tracks."""
        self.state.score, self.state.rank = score, rank

    def _play(self, group: str, first: int) -> Scores:
        began = time.monotonic()
        scores = self.validate(first, VALIDATION_EPISODES)
        self.state.eval_seconds += time.monotonic() - began
        rows = zip(scores.seeds, scores.scores, scores.frames, strict=True)
        self.evals.append(self.agent.steps, group, rows)
        return scores

    def _record(self, metrics: Mapping[str, Any], evaluation: Mapping[str, Any] | None = None) -> None:
        times = {"time/steps_per_s": self.agent.steps / self.state.seconds if self.state.seconds > 0 else 0.0}
        values = dict(metrics) | dict(evaluation or {}) | times | {"time/eval_seconds": self.state.eval_seconds}
        self.metrics.append(self.agent.steps, self.agent.frames, self.state.seconds, values)
        self.state.seq = self.metrics.seq

    def _save(self) -> None:
        """Store a checkpoint of the present step; a full disk is survived, the next one tries again."""
        if self.saved_at == self.agent.steps:
            return
        tensors, values = self.agent.trainer_state()
        score = self.state.rank if self.state.evaluated_at == self.agent.steps else None
        info = {"frames": self.agent.frames, "seconds": self.state.seconds, "seq": self.state.seq}
        values = {"agent": values, "run": asdict(self.state)}
        weights = self.agent.policy.state_dict()
        try:
            save_checkpoint(self.run.checkpoints, self.agent.steps, weights, tensors, values, info, score)
            self.saved_at, self.unstored = self.agent.steps, None
            prune_checkpoints(self.run.checkpoints)
        except FileExistsError:
            self.saved_at, self.unstored = self.agent.steps, None
        except OSError as error:
            self.unstored = error
            self._say(f"warning: checkpoint of step {self.agent.steps} not stored ({error.strerror}); going on")

    def _close(self, status: str) -> UserError | None:
        """Close all files; returns what could not be stored."""
        self.videos.close(patient=status in ("done", "reached"))
        self.agent.env.close()
        self.progress.close()
        failure = self.unstored
        with contextlib.suppress(OSError):
            self.run.write_json("result.json", self.result(status))
        for file in (self.metrics, self.evals):
            try:
                file.close()
            except OSError as error:
                failure = error
        self._pass_on(self.trackers.close(status))
        self.run.close()
        self._say(self._farewell(status))
        self.progress.ring(self._next_commands(status))
        if failure is None:
            return None
        what = f"the run {self.run.path} could not be stored completely"
        fix = f"free space, then `drivetrain resume {run_name(self.run.path)}`"
        return UserError(what, got=failure.strerror, fix=fix, code=EXIT_STORAGE)

    def _farewell(self, status: str) -> str:
        """How it ended."""
        state = self.state
        score = f", validation {state.score:.1f}" if state.score is not None else ""
        return f"{status}: {self.agent.steps:,} steps in {state.seconds:.1f} s{score}; everything is in {self.run.path}"

    def _next_commands(self, status: str) -> str:
        """What one wants to type now, in one line."""
        name, imports = shlex.quote(run_name(self.run.path)), self.plan.imports
        if status not in ("done", "reached"):
            return f"go on: drivetrain resume {name}{imports}"
        commands = (f"watch {name}", f"evaluate {name}{self.plan.judge}", f"compare {name}")
        return "next: " + ", ".join(f"drivetrain {command}{imports}" for command in commands)

    def _pass_on(self, lines: list[str]) -> None:
        for line in lines:
            self._say(line)

    def _say(self, text: str) -> None:
        self.progress.note(text)


class Diverged(UserError):
    """A loss or weight is no longer a number (code 4)."""

    def __init__(self, step: int, what: object) -> None:
        fix = "lower the learning rate or clip gradients harder; the last good checkpoint is kept"
        super().__init__(f"training diverged at step {step}", got=what, fix=fix, code=EXIT_DIVERGED)


def _refuse_divergence(metrics: Mapping[str, float], step: int, record: Callable[[Mapping[str, float]], None]) -> None:
    bad = [name for name, value in metrics.items() if name.startswith("loss/") and not math.isfinite(value)]
    if bad:
        record(metrics)
        raise Diverged(step, f"{bad[0]} = {metrics[bad[0]]}")


def _crossed(before: int, now: int, every: int | None) -> bool:
    """Whether a multiple of ``every`` lies in (before, now]."""
    return every is not None and now // every > before // every
