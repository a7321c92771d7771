"""``drivetrain pretrain TASK``: learning from examples or from a teacher, before or instead of learning from reward."""

from __future__ import annotations

from importlib import import_module

from drivetrain.envs.errors import UserError, nearest
from drivetrain.output import Result

__all__ = ["SUPERVISED", "main"]

TASKS = {
    "function": "a function y = f(x): the sine of an angle, a formula of yours, or a CSV file",
    "sequence": "the next value of a series, by networks with and without memory",
    "classify": "pictures into classes: handwritten digits, an .npz, or a folder of pictures",
    "imitate": "to drive as a teacher does, from the state or from pictures (DAgger)",
}

SUPERVISED = ("function", "sequence", "classify")
"""tasks that learn from examples: nothing drives, and the score is an error or an accuracy"""


def main(argv: list[str]) -> Result:
    """Learn from examples or from a teacher."""
    task = argv[0] if argv else ""
    if task in ("--help", "-h"):
        width = max(len(name) for name in TASKS)
        lines = [f"  {name:<{width}}  {what}" for name, what in TASKS.items()]
        print("\n".join(["usage: drivetrain pretrain TASK [options]", "", "TASK is what is learned:", *lines]))
        print("\nEvery task explains its options: drivetrain pretrain TASK --help")
        raise SystemExit(0)
    if task not in TASKS:
        near = nearest(task, TASKS)
        fix = f"did you mean {near}?" if near else "write `drivetrain pretrain function [options]`"
        raise UserError("TASK comes first", got=task or "nothing", allowed=TASKS, fix=fix)
    result: Result = import_module(f"drivetrain.pretrain_{task}").main(argv[1:])
    return result
