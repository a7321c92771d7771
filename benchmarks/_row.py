"""What every benchmark prints last: one JSON line, and one row for benchmarks/RESULTS.md."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("WANDB_MODE", "disabled")  # a figure is nobody's experiment: where somebody is logged in, too


def machine() -> str:
    """Processor, cores we may use, and the GPU if there is one."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    import torch

    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{model}, {cores} cores{gpu}"


def commit() -> str:
    """Short hash of the checkout, with a + where files have changed since."""
    here = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def publish(values: Mapping[str, object], what: str, result: str) -> None:
    """Print the JSON line and the row: what was measured, the result, command, commit, machine."""
    command = " ".join(["python", os.path.relpath(sys.argv[0]), *sys.argv[1:]])
    where = {"command": command, "commit": commit(), "machine": machine()}
    print(json.dumps({**values, **where}))
    print(f"| {what} | {result} | `{command}` | {where['commit']} | {where['machine']} |")
