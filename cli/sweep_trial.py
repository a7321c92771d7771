"""One trial: the same options under several seeds at once, compared with other trials at equal steps.

Each seed is a ``drivetrain train`` of its own. Its validations are read from metrics.jsonl as they appear; the median
over the seeds goes to Optuna at the steps that all trials share, and a trial that falls behind is stopped.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drivetrain.rundir import read_or_empty
from drivetrain.sweep_study import Outcome, Study, Worker

if TYPE_CHECKING:
    from optuna import Trial

__all__ = ["Launch", "SeedRun", "launch", "run_trial", "score_at"]

Launch = Callable[[Sequence[str], Path], "subprocess.Popen[bytes]"]
"""starts `drivetrain ARGUMENTS` with its words going to a file"""

POLL = 0.25  # s between two looks at the runs
PATIENCE = 60.0  # s for a stopped run to store its last checkpoint
FAILURES = {4: "diverged", 5: "the environment failed", 6: "storage failed", 7: "run locked", 8: "out of memory"}
BAD_INPUT, DIVERGED, INTERRUPTED = 2, 4, 75


def launch(
    arguments: Sequence[str], log: Path, program: Sequence[str] = (sys.executable, "-P", "-m", "drivetrain")
) -> subprocess.Popen[bytes]:
    """Start `drivetrain ARGUMENTS`; on Linux it is told to stop when this process dies, however it dies."""
    with open(log, "ab") as file:
        return subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            preexec_fn=_stop_with_parent if sys.platform == "linux" else None,
        )


class SeedRun:
    """A run of a trial, from outside."""

    def __init__(self, path: Path, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.path, self.log, self.process = path, log, process
        self.code: int | None = None
        self.processor = 0.0  # s of processor time, known at the end
        self.validations: list[tuple[int, float]] = []
        self._read = 0  # bytes of metrics.jsonl

    def look(self) -> None:
        """Read new validations, and whether it has ended."""
        self._poll()  # first: what it wrote before it ended is read below
        with contextlib.suppress(OSError), open(self.path / "metrics.jsonl", "rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                self._take(line)

    def result(self) -> dict[str, Any]:
        """result.json, empty before the end."""
        return read_or_empty(self.path / "result.json")

    def stop(self) -> None:
        """Ask it to end as interrupted."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def error_line(self) -> str:
        """What it complained about."""
        return last_error(self.log)

    def _take(self, line: bytes) -> None:
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            score = record.get("eval/mean")
            if isinstance(score, (int, float)):
                self.validations.append((int(record["step"]), float(score)))

    def _poll(self) -> None:
        if self.code is not None:
            return
        if not hasattr(os, "wait4"):
            self.code = self.process.poll()
            return
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if pid:
            self.code = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.processor = usage.ru_utime + usage.ru_stime


def score_at(validations: Sequence[tuple[int, float]], step: int, ended: bool) -> float | None:
    """Score of a run at a step: that of its first validation there or later.

    A run that has ended counts with its last score from then on. None = not known yet.
    """
    for at, score in validations:
        if at >= step:
            return score
    return validations[-1][1] if ended and validations else None


def measure(objective: str, run: SeedRun) -> float:
    """What the objective is of a run that has ended; infinite where it did not get to ``--stop-at``."""
    result = run.result()
    if objective == "score":
        scores = [score for _, score in run.validations] + [result.get("score")]
        return max((float(score) for score in scores if isinstance(score, (int, float))), default=-math.inf)
    if result.get("status") != "reached":
        return math.inf
    return run.processor if objective == "processor" else float(result[objective])


def run_trial(
    study: Study, trial: Trial, worker: Worker, commands: Sequence[tuple[Path, list[str]]],
    stopped: Callable[[], bool],
    start: Launch = launch,
) -> Outcome:  # fmt: skip
    """Run all seeds of a trial to their end, or until it is pruned, fails or is stopped.

    Args:
        study: it belongs to.
        trial: claimed before.
        worker: that does it; its pulse goes on.
        commands: run folder and arguments of each seed.
        stopped: whether it is to end as interrupted.
        start: starts a run.
    """
    runs: list[SeedRun] = []
    try:
        for path, arguments in commands:
            log = study.path / "logs" / f"{path.name}.log"
            runs.append(SeedRun(path, log, start(arguments, log)))
        return _watch(study, trial, worker, runs, stopped)
    finally:
        end_all(runs)


def _watch(study: Study, trial: Trial, worker: Worker, runs: list[SeedRun], stopped: Callable[[], bool]) -> Outcome:
    grid = list(study.record.grid)
    while True:
        for run in runs:
            run.look()
        failed = next((run for run in runs if run.code not in (None, 0)), None)
        if stopped():
            return Outcome("interrupted", reason="stopped by hand", retry=True)
        if failed is not None:
            return failure(failed)
        ended = all(run.code == 0 for run in runs)
        while grid and (median := _median_at(runs, grid[0])) is not None:
            trial.report(study.sign * median, step=grid[0])
            if not ended and trial.should_prune():
                end_all(runs)
                return Outcome("pruned", reason=f"behind the median at {grid[0]:,} steps", facts=_facts(runs))
            grid.pop(0)
        if ended:
            return _conclude(study, runs)
        worker.beat()
        time.sleep(POLL)


def _median_at(runs: Sequence[SeedRun], step: int) -> float | None:
    scores = [score_at(run.validations, step, run.code == 0) for run in runs]
    known = [score for score in scores if score is not None]
    return statistics.median(known) if len(known) == len(scores) else None


def _conclude(study: Study, runs: Sequence[SeedRun]) -> Outcome:
    """All seeds came to their end: the median of the objective."""
    objective = study.record.objective
    each = [measure(objective, run) for run in runs]
    facts = _facts(runs) | {"each": [value if math.isfinite(value) else None for value in each]}
    value = statistics.median(each)
    if math.isfinite(value):
        return Outcome("complete", value, facts=facts)
    if objective == "score":
        return Outcome("failed", reason="no validation gave a score", facts=facts)
    target = study.record.fixed.get("stop_at")
    return Outcome("pruned", reason=f"half of the seeds did not reach {target:g}", facts=facts)


def failure(run: SeedRun) -> Outcome:
    """Why a run ended early, and whether another try makes sense."""
    code = run.code or 0
    if code < 0:
        return Outcome("failed", reason=f"{run.path.name} was killed by signal {-code}", retry=True)
    if code == INTERRUPTED:
        return Outcome("failed", reason=f"{run.path.name} was stopped from outside", retry=True)
    why = FAILURES.get(code) or run.error_line()[:300] or f"exit code {code}"
    reason = f"{run.path.name}: {why}"
    return Outcome("failed", reason=reason, retry=code != BAD_INPUT, other_seeds=code == DIVERGED)


def _facts(runs: Sequence[SeedRun]) -> dict[str, Any]:
    last = [run.validations[-1] if run.validations else (0, None) for run in runs]
    return {"runs": [run.path.name for run in runs], "steps": [at for at, _ in last], "scores": [s for _, s in last]}


def end_all(runs: Sequence[SeedRun]) -> None:
    """Stop what still runs, give it time to store where it is, and no longer."""
    for run in runs:
        run.stop()
    until = time.monotonic() + PATIENCE
    while any(run.code is None for run in runs):
        for run in runs:
            run.look()
            if run.code is None and time.monotonic() > until:
                run.process.kill()
        time.sleep(0.05)


def last_error(log: Path) -> str:
    """What a process complained about in its log, nothing if it did not."""
    with contextlib.suppress(OSError):
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        found = [line for line in lines if line.startswith("error: ")]
        return found[-1].removeprefix("error: ") if found else ""
    return ""


def _stop_with_parent() -> None:
    import ctypes

    ask_for_signal = 1  # PR_SET_PDEATHSIG
    ctypes.CDLL(None).prctl(ask_for_signal, signal.SIGTERM)
