"""``drivetrain runs``: a group of verbs on the runs that are there; without one of them, the list."""

from __future__ import annotations

from importlib import import_module

from drivetrain.envs.errors import UserError, nearest
from drivetrain.output import Result

__all__ = ["main"]

PARTS = {
    "list": "runs_list",
    "show": "runs_show",
    "prune": "runs_prune",
    "board": "runs_board",
    "sync": "sync",
}


def main(argv: list[str]) -> Result:
    """List, show, prune, draw or send runs."""
    word = argv[0] if argv else "list"
    if word.startswith("-"):
        word, argv = "list", ["list", *argv]
    if word not in PARTS:
        near = nearest(word, PARTS)
        fix = f"did you mean `drivetrain runs {near}`?" if near else "write `drivetrain runs show RUN`"
        raise UserError("runs does not know this word", got=word, allowed=PARTS, fix=fix)
    result: Result = import_module(f"drivetrain.{PARTS[word]}").main(argv[1:])
    return result
