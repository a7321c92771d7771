"""``drivetrain compare WHO …``: which runs are better, how sure that is, and pictures of it."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from drivetrain.compare_groups import Group, Named, find_named, group_runs, tasks_of
from drivetrain.compare_numbers import ALL_PAIRS, Comparison, Scale, compare_groups
from drivetrain.compare_report import Report, as_csv, as_json, as_markdown, listed, print_report
from drivetrain.compare_runs import ComparedRun, Rule, is_error, rule_for, score_run, task_of
from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, dumps
from drivetrain.pretrain import SUPERVISED
from drivetrain.rundir import RUNS, expanded, read_run_config, run_name

__all__ = ["main"]

FEW_RUNS = 5  # below this a bootstrap interval is too narrow
UNEQUAL = 0.05  # share by which steps may differ and still count as equal
LISTED = 6  # names in a line
RACING = "racing"


class CompareOptions(Options):
    """Options"""

    by: tuple[str, ...] = Field(
        ("auto",),
        description="what makes a group of runs without a label: settings (equal but for the seed), group (their "
        "--group at training), run (each alone), or names of options: num-envs,encoder; auto = group where all have "
        "one and not the same, else settings",
    )
    score: Literal["last", "best", "train"] = Field(
        "last",
        description="the score of a run: its last validation (of a run that stopped at --stop-at, the confirmation); "
        "its best, which is too high by what its choice was lucky; or its last training return",
    )
    at: int | None = Field(None, ge=1, description="compare at this step: what came later does not count")
    csv: str | None = Field(
        None, description="score by a file in each run folder, as `evaluate RUN --csv runs/RUN/FILE` writes it"
    )
    target: float | None = Field(None, description="score to reach; none = the environment's threshold")
    scale: dict[str, Any] = Field(
        {},
        description="for several environments at once: ENV=LOW:HIGH,…, the scores that count 0 (random actions, say) "
        "and 1; every group needs runs on all of them",
    )
    resamples: int = Field(10_000, ge=100, le=1_000_000, description="of the bootstrap")
    seed: int = Field(0, ge=0, le=10**12, description="of the bootstrap")
    out: str | None = Field(None, description="folder for report, tables and pictures; none = runs/compare")
    format: Literal["png", "pdf", "svg"] = Field("png", description="of the pictures")
    width: float = Field(7.0, ge=2.5, le=20, description="of the pictures, inches; below 5 for one column of a page")


SPEC = Spec(
    CompareOptions,
    "drivetrain compare WHO …",
    "Compare runs: curves over steps and seconds, IQM with 95 % intervals, how likely one group beats another. WHO is "
    "a run, a pattern in quotes, or a group with a label: drivetrain compare 'ppo-racing-*'; drivetrain compare "
    "ours=new-1,new-2,new-3 theirs='old-*'. Without labels, runs that differ in nothing but the seed are one group.",
    many="who",
)


def main(argv: list[str]) -> Result:
    """Compare runs."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    if not parsed.words:
        fix = "write `drivetrain compare RUN RUN …`, or a pattern in quotes: 'ppo-racing-*'"
        raise UserError("WHO is missing", got="nothing", fix=fix)
    _check_options(options)
    named = find_named(parsed.words)
    _check_tasks(named, bool(options.scale))
    rule = rule_for([run.path for run in named], Rule(options.score, options.at, options.csv))
    runs, notes = _scored(named, rule)
    labels = {run_name(run.path): run.label for run in named if run.label is not None}
    groups = group_runs(runs, labels, options.by)
    scale = _scale(runs, groups, options)
    out = _folder(options.out)
    comparison = compare_groups(groups, scale, options.resamples, options.seed)
    if rule.score != options.score:
        notes.insert(0, "no run was validated: training returns are compared, which hold exploration")
    notes += _cautions(runs, groups, rule)
    names = _names(runs, rule, bool(scale.ends))
    pictures, hidden = _draw(comparison, out, options, names)
    notes += hidden
    command = f"drivetrain compare {' '.join(_quoted(word) for word in argv)}"
    report = Report(comparison, *names, options.resamples, options.seed, command, tuple(notes), tuple(pictures))
    values = as_json(report) | {"out": str(out), "files": _write(report, out)}
    print_report(report)
    print(f"report and pictures: {out}/report.md, {', '.join(pictures)}")
    return Result(values)


def _scored(named: Sequence[Named], rule: Rule) -> tuple[list[ComparedRun], list[str]]:
    """The runs with a score; those that only fit a pattern and have none are left out, and said to be."""
    runs, lost = [], []
    for run in named:
        try:
            runs.append(score_run(run.path, rule))
        except UserError as error:
            if run.is_literal:
                raise
            lost.append((run_name(run.path), error))
    if not runs:
        raise lost[0][1]
    names = [name for name, _ in lost]
    return runs, [f"left out, without a score: {_listed(names)} ({lost[0][1].what})"] if lost else []


def _check_tasks(named: Sequence[Named], has_scale: bool) -> None:
    """Refuse runs whose scores mean different things, whether or not they have one yet.

    Raises:
        UserError: runs of different environments without a common scale (code 2).
    """
    configs = [read_run_config(run.path) for run in named]
    tasks = list(dict.fromkeys(task_of(config) for config in configs))
    kinds = {config.get("algo") if config.get("algo") in SUPERVISED else "return" for config in configs}
    if len(kinds) > 1 or (len(tasks) > 1 and kinds & set(SUPERVISED)):
        raise UserError("these runs learn different things", got=_listed(tasks), fix="compare runs of one task")
    if len(tasks) > 1 and not has_scale:
        fix = "name runs of one of them, or put scores on a common scale: --scale ENV=LOW:HIGH,ENV=LOW:HIGH"
        raise UserError("these runs are of different environments", got=_listed(tasks), fix=fix)


def _scale(runs: Sequence[ComparedRun], groups: Sequence[Group], options: CompareOptions) -> Scale:
    """The common scale of all scores.

    Raises:
        UserError: scores that cannot be compared (code 2).
    """
    if options.scale and runs[0].algo in SUPERVISED:
        raise UserError("--scale is of no use with supervised runs", got=runs[0].algo, fix="leave it out")
    if options.scale:
        return Scale(_ends(options.scale, runs, groups), 1.0 if options.target is None else options.target)
    target = options.target if options.target is not None else _threshold(runs[0])
    return Scale({}, target, is_error(runs[0]))


def _ends(
    given: Mapping[str, Any], runs: Sequence[ComparedRun], groups: Sequence[Group]
) -> dict[str, tuple[float, float]]:
    envs = list(dict.fromkeys(run.env for run in runs))
    if len(envs) < len(tasks_of(runs)):
        fix = "name runs that differ in neither env_args nor lap_rule"
        raise UserError("these runs are of different versions of an environment", got=_listed(tasks_of(runs)), fix=fix)
    ends = {}
    for env in envs:
        low, _, high = str(given.get(env, "")).partition(":")
        try:
            ends[env] = float(low), float(high)
        except ValueError:
            fix = f"write --scale {','.join(f'{name}=LOW:HIGH' for name in envs)}"
            raise UserError(f"--scale has no two numbers for {env}", got=given.get(env, "nothing"), fix=fix) from None
        if not -math.inf < ends[env][0] < ends[env][1] < math.inf:
            raise UserError(f"--scale: LOW must lie below HIGH for {env}", got=given[env])
    for unknown in set(given) - set(envs):
        raise UserError("--scale: no run is on this environment", got=unknown, allowed=envs)
    for group in groups:
        missing = set(envs) - {run.env for run in group.runs}
        if missing:
            fix = "every group needs runs on every environment; choose groups with labels, --by algo or --by group"
            raise UserError(f"the group {group.label} has no run on {_listed(sorted(missing))}", fix=fix)
    return ends


def _threshold(run: ComparedRun) -> float | None:
    """From which score on the environment counts as solved; None where nobody says."""
    if run.algo in SUPERVISED:
        return None
    from drivetrain.envs.gym_ids import reward_threshold

    with contextlib.suppress(UserError):  # an environment that is not known here can be compared all the same
        return reward_threshold("drivetrain/Racing-v0" if run.env == RACING else run.env)
    return None


def _cautions(runs: Sequence[ComparedRun], groups: Sequence[Group], rule: Rule) -> list[str]:
    """What a reader should know before believing the numbers."""
    notes = []
    going = [f"{run.name} ({run.status})" for run in runs if not run.is_over]
    if going:
        notes.append(f"not trained to the end, compared by what is there: {_listed(going)}")
    steps = [run.step for run in runs if run.step is not None]
    if rule.at is None and rule.score != "best" and steps and max(steps) > (1 + UNEQUAL) * min(steps):
        where = f"the scores are of different steps, {min(steps):,} to {max(steps):,}"
        notes.append(where + ("; --at STEP compares at equal ones" if runs[0].algo not in SUPERVISED else ""))
    few = [group.label for group in groups if 1 < len(group.runs) < FEW_RUNS]
    if few:
        which = "those of all groups" if len(few) == len(groups) else _listed(few)
        notes.append(f"intervals of fewer than {FEW_RUNS} runs are too narrow: {which}")
    if len(groups) > ALL_PAIRS:
        notes.append(f"the best of {len(groups)} groups is partly the luckiest: train it again with other seeds")
    if rule.score == "best":
        notes.append("each run is scored by its best validation: the score holds the luck of the choice")
    copies = _copies(groups)
    if copies:
        notes.append(f"same settings and same seed, one is no second opinion: {_listed(copies)}")
    if len(runs) == 1:
        notes.append("one run alone; name more to compare it with")
    versions = {str(run.settings["version"]) for run in runs if "version" in run.settings}
    if len(versions) > 1:
        notes.append(f"trained by different versions of drivetrain: {_listed(sorted(versions))}")
    return notes


def _copies(groups: Sequence[Group]) -> list[str]:
    pairs = []
    for group in groups:
        seen: dict[tuple[object, ...], str] = {}
        for run in group.runs:
            # the score tells a rerun with other settings, which a label may hold together, from a copy
            key = (run.task, run.settings.get("seed"), run.score, run.seconds, run.step)
            if key in seen:
                pairs.append(f"{seen[key]} and {run.name}")
            seen.setdefault(key, run.name)
    return pairs


def _names(runs: Sequence[ComparedRun], rule: Rule, scaled: bool) -> tuple[str, str]:
    """(what the numbers are, what the curves show)."""
    algo = runs[0].algo
    if algo in SUPERVISED:
        return ("test accuracy" if algo == "classify" else "mean absolute error"), "validation loss"
    curve = "training return" if rule.score == "train" else "validation return"
    score = {"last": "last validation", "best": "best validation", "train": "last training return"}[rule.score]
    if rule.at is not None:
        score += f" up to step {rule.at:,}"
    if rule.csv is not None:
        score = f"mean score in {rule.csv}"
    return f"{score}{', scaled' if scaled else ''}", curve


def _draw(
    comparison: Comparison, out: Path, options: CompareOptions, names: tuple[str, str]
) -> tuple[list[str], list[str]]:
    """Names of the pictures, and a note where they do not show every group."""
    from drivetrain.compare_plots import COLOURS, MOST_ROWS, Look, draw_comparison

    score, curve = names
    drawn = draw_comparison(comparison, Look(out, options.format, options.width, curve, score))
    count = len(comparison.groups)
    if count <= len(COLOURS):
        return drawn, []
    rows = f", the verdict the best {MOST_ROWS}" if count > MOST_ROWS else ""
    return drawn, [f"curves and profile show the best {len(COLOURS)} of {count} groups{rows}"]


def _write(report: Report, out: Path) -> list[str]:
    """report.md, compare.json and the tables; returns the names of all files."""
    values = as_json(report)
    texts = {"report.md": as_markdown(report), "compare.json": dumps(values, indent=2) + "\n"}
    texts |= {f"{name}.csv": as_csv(values[name]) for name in ("groups", "pairs", "runs")}
    for name, text in texts.items():
        temporary = out / f".{os.getpid()}.{name}"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out / name)
    return [*texts, *report.pictures]


def _check_options(options: CompareOptions) -> None:
    if options.csv is not None:
        if Path(options.csv).name != options.csv:
            raise UserError(
                "--csv is the name of a file in each run folder", got=options.csv, fix="leave out the folder"
            )
        if options.score != "last" or options.at is not None:
            fix = "leave it out, or leave out --csv"
            raise UserError("--csv brings its own scores", got="--score or --at beside it", fix=fix)


def _folder(asked: str | None) -> Path:
    """The folder for the results, made and tried before anything is drawn.

    Raises:
        UserError: it is a run, or cannot be written (code 2).
    """
    path = expanded(asked) if asked is not None else RUNS / "compare"
    if (path / "config.json").exists():
        raise UserError("--out is a run folder", got=path, fix="choose another --out FOLDER")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"cannot write {path}", got=error.strerror, fix="choose another --out FOLDER") from None
    return path


def _listed(names: Sequence[str]) -> str:
    return listed(names, LISTED)


def _quoted(word: str) -> str:
    import shlex

    return shlex.quote(word)
