"""What looking after runs costs: listing many, and how long the end of a run waits for its TensorBoard mirror.

``--mirror FILE`` measures another version of cli/mirror.py by turns with the present one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _row import publish

RUNS, RECORDS, EVERY, TIMES = 200, 500, 16, 9
WARM = 6.0  # s that a mirror gets before its run ends
METRICS = ("train/return", "train/frames", "loss/policy", "loss/value", "diag/approx_kl", "diag/learning_rate")
COUNTS = list(range(21))


def make(run: Path, seed: int) -> None:
    """A run of the usual length, without weights."""
    run.mkdir(parents=True)
    settings = {f"setting_{number}": number for number in range(50)}
    task = {"algo": "ppo", "env": "racing", "obs": "state", "actions": "pedals", "seed": seed, "steps": 8_000_000}
    (run / "config.json").write_text(json.dumps(task | settings))
    (run / "code.json").write_text(json.dumps({"command": "drivetrain train ppo racing", "versions": {"torch": "2"}}))
    with open(run / "metrics.jsonl", "w", encoding="utf-8") as file:
        for number in range(1, RECORDS + 1):
            record = {"seq": number, "step": 16_000 * number, "frames": 32_000 * number, "seconds": 0.1 * number}
            record |= dict.fromkeys(METRICS, 0.123456 * number)
            if number % EVERY == 0:
                actions = [{"name": name, "low": -1, "high": 1, "counts": COUNTS} for name in ("steer", "pedals")]
                record |= {"eval/mean": 1.5 * number, "eval/min": 1.0 * number, "eval/actions": actions}
            file.write(json.dumps(record) + "\n")
    for number in (RECORDS - 2 * EVERY, RECORDS - EVERY, RECORDS):
        folder = run / "checkpoints" / f"step_{16_000 * number:012d}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps({"step": 16_000 * number, "score": 1.5 * number, "info": {}}))
        (folder / "model.safetensors").write_bytes(bytes(1000))
    finish(run)


def finish(run: Path) -> None:
    """How it ended."""
    ended = {"status": "done", "steps": 16_000 * RECORDS, "score": 1.5 * RECORDS, "steps_per_s": 160_000.0}
    (run / "result.json").write_text(json.dumps(ended))


def listing(folder: Path, *arguments: str) -> float:
    """Seconds of `drivetrain runs`, start-up included."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "drivetrain", *arguments]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    return time.perf_counter() - began


def delay(mirror: list[str], film: Path | None = None) -> tuple[float, float]:
    """Seconds from the end of a trainer to that of its mirror, and all its processor time."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        make(run, 0)
        process = subprocess.Popen([*mirror, str(run), "0", "-1"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        time.sleep(WARM)
        if film is not None:
            (run / "videos").mkdir()
            shutil.copy(film, run / "videos" / f"step_{16_000 * RECORDS:012d}.mp4")
        assert process.stdin is not None
        began = time.perf_counter()
        process.stdin.close()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, "the mirror failed"
        return seconds, usage.ru_utime + usage.ru_stime


def words(found: list[tuple[float, float]]) -> str:
    """Median (lowest to highest) of the delay, median of processor time."""
    delays, work = [seconds for seconds, _ in found], statistics.median(used for _, used in found)
    return f"{statistics.median(delays):.2f} s ({min(delays):.2f} to {max(delays):.2f}), {work:.1f} s of processor time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mirror", help="another version of cli/mirror.py")
    parser.add_argument("--film", type=Path, help="a film that appears as the run ends")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(RUNS):
            make(Path(folder, "runs", f"run-{number}"), number)
        table = [listing(Path(folder), "runs") for _ in range(TIMES)]
        start = [listing(Path(folder), "runs", "--help") for _ in range(TIMES)]
    publish(
        {"runs_s": table, "help_s": start},
        f"`drivetrain runs` with {RUNS} runs of {RECORDS} records, median of {TIMES}",
        f"{statistics.median(table):.2f} s ({min(table):.2f} to {max(table):.2f}); of that start-up "
        f"{statistics.median(start):.2f} s",
    )
    present = [sys.executable, "-P", "-m", "drivetrain.mirror"]
    kinds: dict[str, tuple[list[str], Path | None]] = {"now": (present, None)}
    if asked.film:
        kinds["now, with a film to turn into a gif"] = (present, asked.film)
    if asked.mirror:
        kinds["before"] = ([sys.executable, asked.mirror], None)
    found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(TIMES):
        for kind, (command, film) in kinds.items():
            found[kind].append(delay(command, film))
    publish(
        {kind: list(values) for kind, values in found.items()},
        f"End of a run until its TensorBoard mirror is done, {RECORDS} records, median of {TIMES}",
        "; ".join(f"{kind} {words(values)}" for kind, values in found.items()),
    )


if __name__ == "__main__":
    main()
