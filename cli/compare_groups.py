"""Which runs are meant, and which of them are the same thing under several seeds."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from drivetrain.compare_runs import ComparedRun
from drivetrain.envs.errors import UserError, nearest
from drivetrain.rundir import find_run, known_runs, run_name
from drivetrain.wandb_options import TrackOptions

__all__ = ["Group", "Named", "find_named", "group_runs", "tasks_of"]

# settings that change nothing that is learned
ELSEWHERE = (
    *("version", "seed", "name", "device", "threads", *TrackOptions.model_fields),
    *("eval_every", "checkpoint_every", "video_every", "checkpoint_replay", "trust", "vectorization", "env_timeout"),
)
SHOWN_SETTINGS = 3  # in a label
LONGEST_LABEL = 48  # characters
STARS = "*?["


@dataclass(frozen=True)
class Named:
    """A run that somebody asked for."""

    path: Path
    label: str | None  # of the group it was put into; None = none was said
    is_literal: bool  # it was named, not found by a pattern


@dataclass(frozen=True)
class Group:
    """Runs that are the same thing, each with its own luck."""

    label: str
    runs: tuple[ComparedRun, ...]


def find_named(words: Sequence[str]) -> list[Named]:
    """The runs behind the words of a command line: RUN, a pattern, or LABEL=RUN,RUN,….

    Where one word has a label, the others are groups of their own, called what was typed.

    Raises:
        UserError: an unknown run, a pattern without one, a run named twice (code 2).
    """
    parts = [_split(word) for word in words]
    labelled = any(label is not None for label, _ in parts)
    found: dict[Path, tuple[Named, str]] = {}
    for word, (label, whos) in zip(words, parts, strict=True):
        for who in whos:
            for path in _paths(who):
                named = Named(path, label or (word if labelled else None), not _is_pattern(who))
                known, before = found.get(path.resolve(), (None, ""))
                if known is not None and (known.label != named.label or (known.is_literal and named.is_literal)):
                    where = f"in {before} and in {word}" if before != word else f"twice in {word}"
                    fix = "a run counts once: leave one out"
                    raise UserError(f"{run_name(path)} is named twice", got=where, fix=fix)
                if known is None or named.is_literal:
                    found[path.resolve()] = named, word
    return [named for named, _ in found.values()]


def group_runs(runs: Sequence[ComparedRun], labels: Mapping[str, str], by: Sequence[str]) -> tuple[Group, ...]:
    """Put runs together.

    Args:
        runs: at least one.
        labels: name of a run → label that was typed; empty if none was.
        by: auto, group, run, settings, or names of options.

    Raises:
        UserError: an option that no run has, or a run without a group (code 2).
    """
    if labels:
        return _collect(runs, [labels[run.name] for run in runs])
    word = by[0] if len(by) == 1 else ""
    if word == "auto":
        recorded = [run.settings.get("group") for run in runs]
        apart = len(set(recorded)) > 1 and all(isinstance(group, str) for group in recorded)
        several_tasks = len(tasks_of(runs)) > 1
        word = "group" if apart else "algo" if several_tasks else "settings"
    if word == "run":
        return _collect(runs, [run.name for run in runs])
    if word == "group":
        return _collect(runs, [_recorded_group(run) for run in runs])
    if word == "settings":
        return _by_settings(runs)
    return _by_options(runs, [word] if word else [name.replace("-", "_") for name in by])


def tasks_of(runs: Sequence[ComparedRun]) -> list[str]:
    """What the runs were trained on, each once."""
    return list(dict.fromkeys(run.task for run in runs))


def _collect(runs: Sequence[ComparedRun], labels: Sequence[str]) -> tuple[Group, ...]:
    groups: dict[str, list[ComparedRun]] = {}
    for run, label in zip(runs, labels, strict=True):
        groups.setdefault(label, []).append(run)
    return tuple(Group(label, tuple(members)) for label, members in groups.items())


def _by_options(runs: Sequence[ComparedRun], names: Sequence[str]) -> tuple[Group, ...]:
    known = sorted({name for run in runs for name in run.settings})
    for name in names:
        if name.replace("-", "_") not in known:
            near = nearest(name.replace("-", "_"), (*known, "settings", "group", "run"))
            fix = f"did you mean {near}?" if near else "take names of options, settings, group or run"
            raise UserError("--by: no run has such an option", got=name, fix=fix)
    keys = [name.replace("-", "_") for name in names]
    labels = [", ".join(_words(key, run.settings.get(key)) for key in keys) for run in runs]
    return _collect(runs, labels)


def _by_settings(runs: Sequence[ComparedRun]) -> tuple[Group, ...]:
    """One group for each set of settings, labelled by what differs."""
    algos = {run.algo for run in runs}
    keys = {algo: _differing([run for run in runs if run.algo == algo]) for algo in algos}
    groups: dict[tuple[str, ...], list[ComparedRun]] = {}
    for run in runs:
        shown = tuple(_words(key, run.settings[key]) for key in keys[run.algo])
        groups.setdefault((run.algo, *shown), []).append(run)
    labels = [_label(key, members, len(algos) > 1) for key, members in groups.items()]
    return tuple(Group(label, tuple(members)) for label, members in zip(_unique(labels), groups.values(), strict=True))


def _label(key: tuple[str, ...], members: Sequence[ComparedRun], several: bool) -> str:
    algo, *settings = key
    if len(members) == 1 and not settings:
        return members[0].name
    words = [algo, *settings] if several or not settings else settings
    label = ", ".join(words)
    if len(settings) <= SHOWN_SETTINGS and len(label) <= LONGEST_LABEL:
        return label
    # too much differs to be written out: what the names of the runs have in common
    if len(members) == 1:
        return members[0].name
    return _stem([run.name for run in members]) or f"{algo} {members[0].name}"


def _stem(names: Sequence[str]) -> str:
    """What names have in common, without the number of a seed that they differ by: ``s-t003-s1`` -> ``s-t003``."""
    letters = itertools.takewhile(lambda column: len(set(column)) == 1, zip(*names, strict=False))
    stem = "".join(column[0] for column in letters)
    if any(name[len(stem) :][:1].isdigit() for name in names):  # not half a number
        stem = stem.rstrip("0123456789")
    return re.sub(r"[-_. ]+(s|seed)?[-_. ]*\d*$", "", stem)


def _unique(labels: Sequence[str]) -> list[str]:
    counts = {label: labels.count(label) for label in labels}
    seen: dict[str, int] = {}
    result = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        result.append(label if counts[label] == 1 else f"{label} ({chr(ord('A') + (seen[label] - 1) % 26)})")
    return result


def _differing(runs: Sequence[ComparedRun]) -> list[str]:
    """Options that all have and not all alike; one that an older version did not record tells nothing."""
    common = set.intersection(*(set(run.settings) for run in runs)) - set(ELSEWHERE) - {"algo", "env"}
    ordered = [name for name in runs[0].settings if name in common]
    return [name for name in ordered if any(run.settings[name] != runs[0].settings[name] for run in runs)]


def _words(name: str, value: Any) -> str:
    """``learning-rate 0.001``; the algorithm speaks for itself."""
    if name == "algo":
        return str(value)
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return f"{dashed} {'on' if value else 'off'}"
    if isinstance(value, (list, tuple)):
        return f"{dashed} {'x'.join(str(item) for item in value)}"
    if isinstance(value, float):
        return f"{dashed} {value:g}"
    return f"{dashed} {'none' if value is None else value}"


def _recorded_group(run: ComparedRun) -> str:
    group = run.settings.get("group")
    if not isinstance(group, str):
        fix = "write LABEL=RUN,RUN, or take --by settings"
        raise UserError(f"{run.name} was trained without --group", got="--by group", fix=fix)
    return group


def _split(word: str) -> tuple[str | None, list[str]]:
    """A label and its runs. An equals sign may be part of a run's name or path."""
    label, equals, rest = word.partition("=")
    if not equals or word in known_runs() or (os.sep in label) or _is_pattern(label):
        return None, [word]
    whos = [who.strip() for who in rest.split(",") if who.strip()]
    if not label.strip() or not whos:
        raise UserError("a group needs a label and runs", got=word, fix="write LABEL=RUN,RUN or LABEL='PATTERN*'")
    return label.strip(), whos


def _paths(who: str) -> list[Path]:
    if not _is_pattern(who):
        return [find_run(who)]
    if os.sep in who:
        found = [Path(place) for place in sorted(glob.glob(os.path.expanduser(who)))]
        found = [path for path in found if (path / "config.json").is_file()]
    else:
        found = [path for name, path in known_runs().items() if fnmatchcase(name, who)]
    if not found:
        near = nearest(who.strip(STARS), known_runs())
        fix = f"the nearest is {near}" if near else "list the runs with `drivetrain runs`"
        raise UserError("no run fits the pattern", got=who, fix=fix)
    return found


def _is_pattern(who: str) -> bool:
    literal = os.sep in who and (Path(who) / "config.json").is_file()  # a folder's name may hold a bracket
    return any(star in who for star in STARS) and not literal
