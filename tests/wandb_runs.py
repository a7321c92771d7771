"""Run folders as a training leaves them, the mirror beside them, and offline files read by wandb's own reader."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from wandb_server import WandbServer

from drivetrain.agents.checkpoint import save_checkpoint
from drivetrain.rundir import create_run
from drivetrain.trackers import WandbMirror

KEY = "0123456789" * 4  # of no account
ACTIONS = [{"name": "steer", "low": -1.0, "high": 1.0, "counts": [1, 2]}]


def stranger(home: Path, patch: pytest.MonkeyPatch) -> None:
    """A user without any trace of wandb, in a folder of their own."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            patch.delenv(name)
    patch.setenv("HOME", str(home))
    patch.chdir(home)


@contextlib.contextmanager
def logged_in(patch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A server, and a user who has a key for it."""
    with WandbServer() as server:
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", KEY)
        yield server


def make_run(name: str = "r", **options: Any) -> Path:
    """A run folder with nothing but its config and code."""
    run = create_run(name, "x")
    run.write_json("config.json", {"algo": "ppo", "env": "racing", "seed": 3, "track": "auto"} | options)
    run.write_json("code.json", {"command": "drivetrain train ppo racing", "commit": "abc"})
    run.close()
    return run.path


def write(run: Path, *seqs: int, lap: int = 0) -> None:
    """Append the records with these numbers; record n is of step 100 n."""
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        for seq in seqs:
            record = {"seq": seq, "step": 100 * seq, "frames": 200 * seq, "seconds": 0.5 * seq}
            record |= {"train/return": float(seq + 1000 * lap), "loss/policy": None}
            record |= {"eval/mean": 7.0, "eval/actions": ACTIONS} if seq % 2 == 0 else {}
            file.write(json.dumps(record) + "\n")


def publish(run: Path, seq: int, score: float | None = None) -> None:
    """A checkpoint that covers the records up to ``seq``."""
    weights = {"w": torch.full((4,), float(seq))}
    save_checkpoint(run / "checkpoints", 100 * seq, weights, {}, {}, {"seq": seq}, score)


def end(run: Path, status: str, seq: int) -> None:
    """The result of a training that ended after record ``seq``."""
    result = {"run": run.name, "status": status, "steps": 100 * seq, "score": 7.0, "steps_per_s": 50.0}
    (run / "result.json").write_text(json.dumps(result))


def mirror(run: Path, mode: str, status: str = "") -> list[str]:
    """The mirror of a training from its first word to its last; returns what it said."""
    side = WandbMirror(run, mode)
    if status:
        side.announce(status)
    return side.close(60.0)


def until_said(side: WandbMirror, word: str, seconds: float = 30.0) -> list[str]:
    """Wait until a mirror says something with this word in it; returns all lines."""
    lines, deadline = list[str](), time.monotonic() + seconds
    while not any(word in line for line in lines):
        assert time.monotonic() < deadline, lines
        lines += side.look()
        time.sleep(0.02)
    return lines


def read_back(run: Path) -> list[dict[str, Any]]:
    """Every record of the offline files of a run, in order."""
    found = []
    for folder in sorted((run / "wandb").glob("offline-run-*")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", str(folder), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found += [json.loads(line) for line in done.stdout.splitlines()]
    return found


def history(run: Path) -> list[dict[str, Any]]:
    """The rows of the offline files of a run."""
    return [record["history"]["item"] for record in read_back(run) if record["type"] == "history"]
