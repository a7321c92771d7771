"""A sweep of PPO on racing for the processor time to a validated 900, while one third of its trials is killed.

Every trial must be accounted for at the end. The best trial and the defaults then run once more on fresh seeds.
Processor time is that of the whole process of a run, start-up and validations included: it is what a clock shows on an
idle machine with one thread a run, and it stays what it is on a busy one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from _row import publish

from drivetrain.sweep_study import Study, read_record

TASKS = {
    "racing": ["--stop-at", "900", "--prune-from", "750000"],
    "CartPole-v1": ["--stop-at", "400", "--steps", "200000", "--eval-every", "10000", "--prune-from", "20000"],
}


@dataclass
class Killer:
    """Kills a given number of first tries at random times: in turn a worker, and a run of a trial."""

    study: Study
    left: int
    draw: random.Random
    delay: tuple[float, float]

    def __post_init__(self) -> None:
        self.due: dict[int, float] = {}
        self.spared: set[int] = set()
        self.done: dict[int, str] = {}

    def look(self) -> None:
        """Choose among new trials, and kill those whose time has come."""
        for trial in self.study.trials():
            if trial.state.name != "RUNNING" or "after" in trial.user_attrs or "worker" not in trial.user_attrs:
                self.due.pop(trial.number, None)
                continue
            if trial.number not in self.due and trial.number not in self.spared | set(self.done):
                # somewhat more than needed, for some will be pruned before their time has come
                if self.draw.random() < self._chance() and len(self.due) < self.left:
                    self.due[trial.number] = time.monotonic() + self.draw.uniform(*self.delay)
                else:
                    self.spared.add(trial.number)
            elif time.monotonic() >= self.due.get(trial.number, float("inf")):
                self._kill(trial.number, str(trial.user_attrs["worker"]))

    def _chance(self) -> float:
        begun = len(self.spared) + len(self.done) + len(self.due)
        return 1.5 * self.left / max(1, self.study.record.trials - begun)

    def _kill(self, number: int, worker: str) -> None:
        what = "worker" if len(self.done) % 2 == 0 else "run"
        folder = self.study.path / "workers" / worker
        if what == "run":
            runs = [path for path in self.study.path.parent.glob(f"{self.study.path.name}-t{number:03d}-s*")]
            if not runs:
                return
            folder = self.draw.choice(sorted(runs))
        pid = process_of(folder)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            self.done[number] = what
            self.due.pop(number)
            self.left -= 1
            print(f"killed the {what} of trial {number}", flush=True)


def process_of(folder: Path) -> int | None:
    """Who holds the lock of a folder."""
    try:
        found = re.match(r"process (\d+) on", (folder / "lock").read_text())
    except OSError:
        return None
    return int(found.group(1)) if found else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", choices=TASKS, default="racing")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of a trial")
    parser.add_argument("--confirm", type=int, default=5, help="fresh seeds at the end")
    parser.add_argument(
        "--delay", type=float, nargs=2, default=(4.0, 30.0), help="s from a trial's begin to its end by force"
    )
    parser.add_argument("--name", default="runs/sweep-racing", help="the study; an old one is gone on with")
    asked = parser.parse_args()
    command = [sys.executable, "-m", "drivetrain", "sweep", "ppo", asked.env, *TASKS[asked.env]]
    command += ["--objective", "processor", "--trials", str(asked.trials), "--workers", str(asked.workers)]
    command += ["--seeds", str(asked.seeds), "--confirm", str(asked.confirm), "--prune-after", "4"]
    command += ["--threads", "1", "--track", "none", "--name", asked.name, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    path = Path(asked.name)
    while not (path / "journal.jsonl").exists() and process.poll() is None:
        time.sleep(0.2)
    study = Study(path, read_record(path))
    wanted = asked.trials // 3
    killer = Killer(study, wanted, random.Random(0), tuple(asked.delay))
    began = time.monotonic()
    while process.poll() is None:
        killer.look()
        time.sleep(0.5)
    assert process.stdout is not None
    result = json.loads(process.stdout.read().splitlines()[-1])
    report(asked.env, result, killer, study, time.monotonic() - began)


def report(env: str, result: dict, killer: Killer, study: Study, seconds: float) -> None:
    """The row, after a check that nothing was lost."""
    counts = result["trials"]
    ended = counts["complete"] + counts["pruned"] + counts["failed"]
    follow = {trial.user_attrs.get("after") for trial in study.trials()}
    assert ended == study.record.trials, f"{ended} of {study.record.trials} trials are accounted for"
    assert counts["running"] == counts["waiting"] == 0
    assert set(killer.done) <= {n for n in follow if n is not None}, "a killed trial was not repeated"
    check = result["confirmation"]
    kinds = [list(killer.done.values()).count(kind) for kind in ("worker", "run")]
    words = (
        f"{study.record.trials} trials of {study.record.seeds} seeds, {len(killer.done)} killed ({kinds[0]} with their "
        f"worker, {kinds[1]} by one of their runs): {counts['complete']} complete, {counts['pruned']} pruned, "
        f"{counts['failed']} failed, {counts['repeated']} tries repeated, none missing; {seconds / 60:.0f} min. "
    )
    if check is None:
        words += f"No trial beats the defaults ({result['default']:.1f} s): they are confirmed"
    else:
        best, default = (_times(check[side]) for side in ("best", "default"))
        words += (
            f"Processor time to the target on {check['seeds']} fresh seeds: best trial {best}, defaults {default}; "
            f"better on {check['wins']}; gain {check['gain_low']:.1f} to {check['gain_high']:.1f} s (95 %)"
        )
    publish({"result": result, "killed": killer.done}, f"`sweep ppo {env}`, objective processor", words)


def _times(each: list[float | None]) -> str:
    """Median and range; None = not reached."""
    known = [float("inf") if value is None else value for value in each]
    return f"{statistics.median(known):.1f} s ({min(known):.1f} to {max(known):.1f})"


if __name__ == "__main__":
    main()
