"""A comparison in words and tables: on the terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from drivetrain.compare_numbers import Comparison, GroupNumbers, Pair, RunNumbers
from drivetrain.output import console
from drivetrain.runs_list import short
from drivetrain.statistics import Interval

__all__ = ["Report", "as_csv", "as_json", "as_markdown", "conclusions", "listed", "print_report"]

SPELLED_OUT = 4  # groups that the best is held against in words, one by one
SUMMARIES = {
    "better": "it is better than",
    "unsure": "it looks better, but on too few runs to tell it from chance, than",
    "equal": "no clear difference from",
    "unknown": "one run alone says nothing against",
}
WIDE = 120  # columns of a terminal from which everything has room
NARROW = ("group", "runs", "IQM", "95 %", "steps to it", "against", "probability", "verdict", "run", "score")
MANY_RUNS = 12  # more are not listed on the terminal
VERDICTS = {"better": "better", "unsure": "too few runs to tell", "equal": "no clear difference", "unknown": "one run"}


@dataclass(frozen=True)
class Report:
    """A comparison, and what belongs into a report beside its numbers."""

    comparison: Comparison
    score: str  # what the numbers are
    curve: str  # what the curves show
    resamples: int
    seed: int
    command: str
    notes: tuple[str, ...]
    pictures: tuple[str, ...]


# ---- words -----------------------------------------------------------------------------------------------------------


def conclusions(comparison: Comparison) -> list[str]:
    """Which group is best, and how sure that is against each other."""
    best = comparison.groups[0]
    if len(comparison.groups) == 1:
        return [f"{best.group.label}: IQM {_with_ends(best.iqm, best.has_interval)}, {_runs(best.n)}"]
    sizes = {found.group.label: found.n for found in comparison.groups}
    pairs = [pair for pair in comparison.pairs if pair.a == best.group.label]
    if len(pairs) <= SPELLED_OUT:
        return [_conclusion(pair, sizes) for pair in pairs]
    lines = [
        f"{best.group.label} is the best of {len(comparison.groups)}: IQM {_with_ends(best.iqm, best.has_interval)}"
    ]
    for verdict, words in SUMMARIES.items():
        others = [pair.b for pair in pairs if pair.verdict == verdict]
        lines += [f"{words} {listed(others, SPELLED_OUT)}"] if others else []
    return lines


def _conclusion(pair: Pair, sizes: Mapping[str, int]) -> str:
    chance = f"probability {_with_ends(pair.probability, True, '.2f')} that a run of the first scores better"
    apart = f"{chance}, IQMs apart by {_with_ends(pair.difference, True, '+')}, p = {pair.p:.2g}"
    if pair.verdict == "better":
        return f"{pair.a} is better than {pair.b}: {apart}"
    if pair.verdict == "unsure":
        runs = f"{sizes[pair.a]} against {sizes[pair.b]} runs"
        return f"{pair.a} looks better than {pair.b}, but {runs} cannot tell it from chance: p = {pair.p:.2g}"
    if pair.verdict == "equal":
        return f"no clear difference between {pair.a} and {pair.b}: {apart}"
    apart = f"the IQMs of {pair.a} and {pair.b} are {_number(pair.difference.value)} apart"
    return f"{apart}, but a group of one run says nothing about its next run"


def _method(report: Report) -> list[str]:
    """What the numbers are, for a caption."""
    scale = report.comparison.scale
    scaled = ", ".join(f"{env} {low:g} to {high:g}" for env, (low, high) in scale.ends.items())
    lines = [
        f"Score of a run: {report.score}." + (f" Scaled to 0 to 1: {scaled}." if scaled else ""),
        "IQM: the mean of the runs without the lowest and the highest quarter (25 % trimmed, rounded down), over all "
        f"runs of all environments. Intervals: 95 %, percentile bootstrap with {report.resamples:,} resamples of the "
        f"runs within each environment, seed {report.seed}. Definitions: Agarwal et al. 2021.",
        "Probability: that a run of the better group scores above one of the other, ties counting half (Mann-Whitney U "
        "over the number of pairs). p: how often runs dealt to the two groups by chance are as far apart, in either "
        "direction (permutation test); it is not corrected for the number of pairs. better: the interval of the "
        "probability lies above one half and p is below 0.05.",
        f"Curves: {report.curve}. Line: IQM over the runs; band: its 95 % interval; thin lines: runs. Between "
        "validations a run counts with its last one. A run that is over keeps its last value; a curve ends where the "
        "first run that is not over does (marked by a cross). Seconds are those of rollouts and updates.",
    ]
    if scale.target is not None:
        lines.append(
            f"Target {scale.target:g}: the gap is by how much runs fall short of it, no run by less than nothing; "
            "reached: the median step and second of the first point of a run's curve at the target, runs that never "
            "came there last."
        )
    return lines


# ---- tables ----------------------------------------------------------------------------------------------------------


def print_report(report: Report) -> None:
    """The tables on the terminal."""
    from rich.table import Table
    from rich.text import Text

    out, comparison = console(), report.comparison
    tables = [_group_table(comparison), _pair_table(comparison)]
    alone = len(comparison.groups) == 1 or len(comparison.groups) == len(comparison.runs)
    if alone and len(comparison.runs) <= MANY_RUNS:
        tables.append(_run_table(comparison))
    for whole, cells in tables:
        if not cells:
            continue
        header, rows = (whole, cells) if out.width >= WIDE else _narrowed(whole, cells)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in header:
            table.add_column(
                title, justify="left" if title in WORDS else "right", no_wrap=title not in ("group", "run")
            )
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))  # brackets are no markup
        out.print(table)
        out.print()
    for line in conclusions(comparison):
        out.print(Text(line), style="bold" if " is better than " in line else "")
    for note in report.notes:
        out.print(Text(f"note: {note}"), style="dim")


WORDS = ("group", "run", "against", "verdict", "status")  # columns that are no numbers


def _narrowed(header: list[str], rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    """The columns that matter most, each title once; the report has them all."""
    kept = sorted({header.index(title) for title in header if title in NARROW})
    return [header[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _group_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    target = comparison.scale.target
    header = ["group", "runs", "IQM", "95 %", "median", "mean", "sd"]
    reach = any(found.reach is not None for found in comparison.groups)
    header += [f"gap to {target:g}"] if target is not None else []
    header += [f"reach {target:g}", "steps to it", "seconds to it"] if reach else []
    rows = []
    for found in comparison.groups:
        row = [found.group.label, str(found.n), _number(found.iqm.value), _ends(found.iqm, found.has_interval)]
        row += [_number(found.median.value), _number(found.mean.value), "–" if found.sd is None else _number(found.sd)]
        row += [_number(found.gap.value) if found.gap is not None else "–"] if target is not None else []
        rows.append(row + (_reach_cells(found) if reach else []))
    return header, rows


def _reach_cells(found: GroupNumbers) -> list[str]:
    if found.reach is None:
        return ["–"] * 3
    return [f"{found.reach.reached} of {found.reach.runs}", *map(_time, (found.reach.steps, found.reach.seconds))]


def _pair_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["group", "against", "probability", "95 %", "IQMs apart", "95 %", "p", "verdict"]
    rows = [
        [pair.a, pair.b, f"{pair.probability.value:.2f}", _ends(pair.probability, pair.has_interval, ".2f"),
         _number(pair.difference.value), _ends(pair.difference, pair.has_interval), f"{pair.p:.2g}",
         VERDICTS[pair.verdict]]
        for pair in comparison.pairs
    ]  # fmt: skip
    return header, rows


def _run_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    header = ["run", "group", "status", "score", "IQM of episodes", "95 %", "at step", "seconds"]
    rows = []
    for found in comparison.runs:
        run, episodes = found.run, found.episodes
        inner = ["–", "–"] if episodes is None else [_number(episodes.value), _ends(episodes, True)]
        step = "–" if run.step is None else f"{run.step:,}"
        seconds = "–" if run.seconds is None else f"{run.seconds:.1f}"
        rows.append([run.name, found.group, run.status, _number(run.score), *inner, step, seconds])
    return header, rows


def as_markdown(report: Report) -> str:
    """The whole report as a page."""
    comparison = report.comparison
    title = " and ".join(dict.fromkeys(found.run.env for found in comparison.runs))
    parts = [f"# Comparison on {title}", "", *(f"- {line}" for line in conclusions(comparison)), ""]
    for heading, (header, rows) in (
        ("Groups", _group_table(comparison)),
        ("Pairs", _pair_table(comparison)),
        ("Runs", _run_table(comparison)),
    ):
        if rows:
            parts += [f"## {heading}", "", *_markdown_table(header, rows), ""]
    shown = [name for name in report.pictures if not name.endswith(".pdf")]
    parts += [line for name in shown for line in (f"![{name.partition('.')[0]}]({name})", "")]
    parts += ["## How", "", *(line for text in _method(report) for line in (text, ""))]
    if report.notes:
        parts += ["## Notes", "", *(f"- {note}" for note in report.notes), ""]
    return "\n".join([*parts, f"    {report.command}", ""])


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    rule = ["---" if title in WORDS else "---:" for title in header]
    return [f"| {' | '.join(row)} |" for row in (header, rule, *escaped)]


# ---- files -----------------------------------------------------------------------------------------------------------


def as_json(report: Report) -> dict[str, Any]:
    """The figures of ``compare --json``."""
    comparison = report.comparison
    return {
        "runs": [_run_values(found) for found in comparison.runs],
        "groups": [_group_values(found) for found in comparison.groups],
        "pairs": [_pair_values(pair) for pair in comparison.pairs],
        "verdict": conclusions(comparison),
        "tasks": list(comparison.tasks),
        "score": report.score,
        "target": comparison.scale.target,
        "scale": {env: list(ends) for env, ends in comparison.scale.ends.items()},
        "lower_is_better": comparison.scale.lower_is_better,
        "resamples": report.resamples,
        "seed": report.seed,
        "notes": list(report.notes),
    }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as a table; lists are joined by spaces, what is not known stays empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0].keys() if rows else [])
    for row in rows:
        writer.writerow([" ".join(map(str, cell)) if isinstance(cell, list) else cell for cell in row.values()])
    return file.getvalue()


def _run_values(found: RunNumbers) -> dict[str, Any]:
    run, episodes = found.run, found.episodes
    return {
        "run": run.name,
        "group": found.group,
        "score": run.score,
        **_interval_values("iqm", episodes),
        "episodes": None if run.episodes is None else len(run.episodes),
        "step": run.step,
        "seconds": run.seconds,
        "steps_to_target": found.steps_to_target,
        "seconds_to_target": found.seconds_to_target,
        "status": run.status,
        "algo": run.algo,
        "env": run.env,
        "seed": run.settings.get("seed"),
        "path": str(run.path),
    }


def _group_values(found: GroupNumbers) -> dict[str, Any]:
    sure = found.has_interval
    reach = found.reach
    steps, seconds = ((None,) * 3,) * 2 if reach is None else (reach.steps, reach.seconds)
    return {
        "group": found.group.label,
        "runs": [run.name for run in found.group.runs],
        "n": found.n,
        **_interval_values("iqm", found.iqm, "", sure),
        **_interval_values("median", found.median, "median_", sure),
        **_interval_values("mean", found.mean, "mean_", sure),
        "sd": found.sd,
        **_interval_values("gap", found.gap, "gap_", sure),
        "reached": None if reach is None else reach.reached,
        **dict(zip(("steps_to_target", "steps_low", "steps_high"), steps, strict=True)),
        **dict(zip(("seconds_to_target", "seconds_low", "seconds_high"), seconds, strict=True)),
    }


def _pair_values(pair: Pair) -> dict[str, Any]:
    return {
        "a": pair.a,
        "b": pair.b,
        **_interval_values("probability", pair.probability, "", pair.has_interval),
        **_interval_values("difference", pair.difference, "difference_", pair.has_interval),
        "p": pair.p,
        "verdict": pair.verdict,
    }


def _interval_values(name: str, found: Interval | None, prefix: str = "", sure: bool = True) -> dict[str, float | None]:
    """Value, low and high; of a single run there are no ends."""
    if found is None:
        return {name: None, f"{prefix}low": None, f"{prefix}high": None}
    ends = (float(found.low), float(found.high)) if sure else (None, None)
    return {name: float(found.value), f"{prefix}low": ends[0], f"{prefix}high": ends[1]}


# ---- cells -----------------------------------------------------------------------------------------------------------


def _with_ends(found: Interval, sure: bool, form: str = "") -> str:
    """``12.3 (95 % 10.1 to 14.2)``."""
    value = _number(found.value, form)
    return f"{value} (95 % {_ends(found, True, form)})" if sure else value


def _ends(found: Interval, sure: bool, form: str = "") -> str:
    return f"{_number(found.low, form)} to {_number(found.high, form)}" if sure else "–"


def _number(value: Any, form: str = "") -> str:
    """One decimal; small ones, which are errors, accuracies and shares, with three digits; or as ``form`` says."""
    number = float(value)
    if form.startswith("."):
        return f"{number:{form}}"
    digits = ".1f" if abs(number) >= 10 or number == int(number) else ".3g"
    return f"{number:{form}{digits}}"


def _time(found: tuple[float, float, float]) -> str:
    value, low, high = (_amount(time) for time in found)
    return value if low == high else f"{value} ({low} to {high})"


def _amount(value: float) -> str:
    if not math.isfinite(value):
        return "never"
    return short(round(value)) if value >= 1000 else f"{value:.3g}"


def listed(names: Sequence[str], most: int) -> str:
    """``a, b and 3 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
