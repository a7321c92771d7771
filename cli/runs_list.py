"""``drivetrain runs list``: what was trained here, how far it came and how well it does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, console
from drivetrain.runs_filter import FilterOptions, check_filter, matching, sort_rows
from drivetrain.runs_rows import RunRow, bytes_of, listed_runs

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["age_of", "main", "print_rows", "score_of", "steps_of", "styled"]

STYLES = {"running": "green", "interrupted": "yellow", "diverged": "red", "failed": "red", "reached": "cyan"}
WIDE = 120  # columns of a terminal from which everything has room


class OrderOptions(Options):
    """The table"""

    sort: Literal["age", "name", "status", "score", "last", "steps", "size", "algo", "env", "seed", "group"] = Field(
        "age", description="order of the rows: newest, longest, largest and best first, words by the alphabet"
    )
    reverse: bool = Field(False, description="the other way round")
    limit: int | None = Field(None, ge=1, description="rows to show at most; none = all")


class ListOptions(OrderOptions, FilterOptions):
    """Options"""


SPEC = Spec(
    ListOptions,
    "drivetrain runs",
    "List the runs in ./runs, ./runs/baselines and those shipped. Other things to do with runs: runs show RUN "
    "(everything about one), runs board (TensorBoard), runs prune (make room), runs sync RUN (send to wandb); each "
    "explains its options with --help.",
)


def main(argv: list[str]) -> Result:
    """List the runs."""
    options = parse(SPEC, argv).options
    check_filter(options)
    every = listed_runs()
    rows = sort_rows(matching(every, options), options.sort, options.reverse)
    shown = rows[: options.limit]
    if shown:
        print_rows(shown)
    elif every:
        print(f"none of the {len(every)} runs is like that; `drivetrain runs` lists them all")
    else:
        print("no runs yet; begin with: drivetrain train ppo racing --stop-at 900")
    if len(shown) < len(rows):
        print(f"{len(rows) - len(shown)} more; --limit {len(rows)} shows all")
    return Result({"runs": [asdict(row) for row in shown]})


def print_rows(rows: list[RunRow]) -> None:
    """The table of runs; a narrow terminal gets fewer columns."""
    from rich.table import Table
    from rich.text import Text

    out = console()
    wide = out.width >= WIDE
    columns = [column for column in _COLUMNS if wide or column[3]]
    if not any(row.group for row in rows):
        columns = [column for column in columns if column[0] != "group"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, justify, _, _ in columns:
        table.add_column(title, justify="right" if justify else "left", no_wrap=True)
    for row in rows:
        shown = (show(row) for _, _, show, _ in columns)
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in shown))  # brackets are no markup
    out.print(table)


def score_of(value: float | None) -> str:
    """One decimal; small ones, which are errors and accuracies, with three digits."""
    if not isinstance(value, (int, float)) or not math.isfinite(value):  # a damaged record may hold anything
        return "–"
    return f"{value:.1f}" if abs(value) >= 10 or value == int(value) else f"{value:.3g}"


def steps_of(row: RunRow) -> str:
    """``1.2M of 8M``."""
    total = row.total_steps
    return short(row.steps) if total is None or row.steps >= total else f"{short(row.steps)} of {short(total)}"


def short(steps: int) -> str:
    """8011776 -> 8.01M."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if steps >= size:
            return f"{steps / size:.3g}{letter}"
    return str(steps)


def age_of(seconds: int) -> str:
    """One number and a unit."""
    for size, letter in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {letter}"
    return f"{seconds} s"


def styled(status: str) -> Text:
    """With the colour of a status."""
    from rich.text import Text

    return Text.assemble((status, STYLES.get(status, "")))


def _seen(row: RunRow) -> str:
    return ", ".join(word for word in (row.obs, row.actions) if word) or "–"


_COLUMNS: tuple[tuple[str, bool, Callable[[RunRow], str | Text], bool], ...] = (
    # title, right-hand side, what it shows, also in a narrow terminal
    ("run", False, lambda row: row.run, True),
    ("status", False, lambda row: styled(row.status), True),
    ("best", True, lambda row: score_of(row.best), True),
    ("last", True, lambda row: score_of(row.score), False),
    ("steps", True, steps_of, True),
    ("age", True, lambda row: age_of(row.age_seconds), True),
    ("size", True, lambda row: bytes_of(row.size_bytes), True),
    ("algorithm", False, lambda row: row.algo or "–", True),
    ("environment", False, lambda row: row.env or "–", True),
    ("obs, actions", False, _seen, False),
    ("seed", True, lambda row: "–" if row.seed is None else str(row.seed), False),
    ("group", False, lambda row: row.group or "", False),
)
