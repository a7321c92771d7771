"""Which runs are meant: by name, algorithm, environment, how they stand, how well they do and how old they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field

from drivetrain.envs.errors import UserError, nearest
from drivetrain.options import Options
from drivetrain.runs_rows import STATUSES, RunRow, goodness

__all__ = ["FilterOptions", "check_filter", "matching", "seconds_of", "sort_rows"]

ALGORITHMS = ("ppo", "dqn", "imitate", "function", "sequence", "classify")
UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
LENGTH = re.compile(r"(\d+(?:\.\d+)?)(s|min|h|d|w)")


class FilterOptions(Options):
    """Which runs; of several conditions all must hold, of several values any"""

    name: tuple[str, ...] = Field((), description="names, with * and ? for what may differ: 'ppo-*'")
    status: tuple[str, ...] = Field((), description=f"any of {', '.join(STATUSES)}")
    algo: tuple[str, ...] = Field((), description=f"any of {', '.join(ALGORITHMS)}")
    env: tuple[str, ...] = Field((), description="environments, or what is learned; * and ? as in names")
    group: tuple[str, ...] = Field((), description="groups at wandb, and sweeps; * and ? as in names")
    seed: tuple[int, ...] = Field((), description="seeds")
    min_score: float | None = Field(None, description="lowest score of the best checkpoint")
    max_score: float | None = Field(None, description="highest score of the best checkpoint")
    older_than: str | None = Field(None, description="written last longer ago than this: 30d, 12h, 15min, 2w")
    newer_than: str | None = Field(None, description="written last more recently than this")


def check_filter(asked: FilterOptions) -> None:
    """Refuse what no run can be.

    Raises:
        UserError: an unknown status or algorithm, or a time that is none.
    """
    for what, given, known in (("--status", asked.status, STATUSES), ("--algo", asked.algo, ALGORITHMS)):
        for word in given:
            if word not in known:
                near = nearest(word, known)
                fix = f"did you mean {near}?" if near else None
                raise UserError(f"{what} does not know this value", got=word, allowed=known, fix=fix)
    for what, length in (("--older-than", asked.older_than), ("--newer-than", asked.newer_than)):
        if length is not None:
            seconds_of(length, what)


def matching(rows: Iterable[RunRow], asked: FilterOptions) -> list[RunRow]:
    """The rows for which all conditions hold."""
    return [row for row in rows if _holds(row, asked)]


def sort_rows(rows: list[RunRow], column: str, reverse: bool = False) -> list[RunRow]:
    """In order of a column: newest, longest, largest and best first, words by the alphabet; gaps come last.

    Scores are compared within an environment alone, for a good one there may be a bad one elsewhere.
    """
    key, downwards = _KEYS[column]
    known = [row for row in rows if key(row) is not None]
    known.sort(key=key, reverse=downwards != reverse)
    if column in ("score", "last"):
        known.sort(key=_task)
    return known + [row for row in rows if key(row) is None]


def seconds_of(length: str, what: str) -> float:
    """``30d`` -> 2592000.

    Raises:
        UserError: no such length.
    """
    found = LENGTH.fullmatch(length.strip())
    if found is None:
        allowed = "a number and a unit without a space: 90s, 15min, 12h, 30d, 2w"
        raise UserError(f"{what} is no length of time", got=length, allowed=allowed)
    return float(found[1]) * UNITS[found[2]]


def _holds(row: RunRow, asked: FilterOptions) -> bool:
    best = row.best
    return (
        _is_any(row.run, asked.name)
        and (not asked.status or row.status in asked.status)
        and (not asked.algo or row.algo in asked.algo)
        and _is_any(row.env or "", asked.env)
        and _is_any(row.group or "", asked.group)
        and (not asked.seed or row.seed in asked.seed)
        and (asked.min_score is None or (best is not None and best >= asked.min_score))
        and (asked.max_score is None or (best is not None and best <= asked.max_score))
        and (asked.older_than is None or row.age_seconds > seconds_of(asked.older_than, "--older-than"))
        and (asked.newer_than is None or row.age_seconds < seconds_of(asked.newer_than, "--newer-than"))
    )


def _is_any(word: str, patterns: tuple[str, ...]) -> bool:
    return not patterns or any(fnmatchcase(word, pattern) for pattern in patterns)


def _task(row: RunRow) -> str:
    return row.env or ""


def _last(row: RunRow) -> float | None:
    turned = goodness(row)
    return None if row.score is None else (row.score if turned == row.best else -row.score)


_KEYS: dict[str, tuple[Callable[[RunRow], Any], bool]] = {
    "age": (lambda row: row.age_seconds, False),
    "name": (lambda row: row.run, False),
    "status": (lambda row: STATUSES.index(row.status), False),
    "score": (goodness, True),
    "last": (_last, True),
    "steps": (lambda row: row.steps, True),
    "size": (lambda row: row.size_bytes, True),
    "algo": (lambda row: row.algo, False),
    "env": (lambda row: row.env, False),
    "seed": (lambda row: row.seed, False),
    "group": (lambda row: row.group, False),
}
