"""``drivetrain runs prune``: make room, without losing what is worth most.

What goes is moved to a hidden name first, under the run's lock: nothing half deleted is ever listed, and nothing that
is being trained is touched.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.lock import RunLock, holder
from drivetrain.options import Spec, parse
from drivetrain.output import Failure, Result
from drivetrain.rundir import RUNS, find_run, run_name
from drivetrain.runs_filter import FilterOptions, check_filter, matching
from drivetrain.runs_list import print_rows
from drivetrain.runs_rows import RunRow, bytes_of, describe_run, goodness, is_shipped, listed_runs, size_of
from drivetrain.wandb_state import FOLDER as WANDB

__all__ = ["main"]

DOOMED = ".deleted_"  # prefix of what is on its way out
EXIT_STORAGE, EXIT_LOCKED = 6, 7


class PruneOptions(FilterOptions):
    """Options"""

    keep: int | None = Field(None, ge=0, description="spare the newest so many of each environment and algorithm")
    checkpoints: bool = Field(
        False, description="remove no run, but of the chosen ones the checkpoints that are neither best nor newest"
    )
    yes: bool = Field(False, description="do not ask")


SPEC = Spec(
    PruneOptions,
    "drivetrain runs prune [RUN …]",
    "Delete runs: those named, or those that the options choose. It shows what goes and asks first. Never deleted are "
    "a run that is being trained or sent to wandb, the best run of an environment, algorithm and kind of observation, "
    "the best checkpoint of a run, and the drivers that came with the package.",
    many="run",
)


@dataclass(frozen=True)
class Choice:
    """What goes, and why other runs that were meant stay."""

    rows: list[RunRow]
    spared: dict[str, str]


def main(argv: list[str]) -> Result:
    """Delete runs or checkpoints.

    Raises:
        UserError: nothing chosen, no such run, one that must stay, or nobody to ask (2), in use (7).
    """
    parsed = parse(SPEC, argv)
    options: PruneOptions = parsed.options
    check_filter(options)
    chosen_by = [
        name for name, source in parsed.source.items() if source == "flag" and name not in ("checkpoints", "yes")
    ]
    if not parsed.words and not chosen_by:
        fix = "name runs, or choose by --older-than 30d, --status interrupted, --keep 5 and the like"
        raise UserError("nothing says which runs are to go", got="nothing", fix=fix)
    everyone = listed_runs()
    named = {_place(row): row for row in (_named(word, everyone, options.checkpoints) for word in parsed.words)}
    candidates = [*named.values()] or [row for row in everyone if not is_shipped(Path(row.path))]
    choice = _choose(matching(candidates, options), everyone, options)
    _sweep()
    if options.checkpoints:
        return _thin(choice, options.yes)
    return _delete(choice, options.yes)


def _named(word: str, everyone: Iterable[RunRow], thinning: bool) -> RunRow:
    """A run that was named; naming one that must stay is an error."""
    path = find_run(word)
    row = describe_run(run_name(path), path)
    if is_shipped(path):
        raise UserError("drivers that came with the package are not pruned", got=word, fix="leave it out")
    doing = _in_use(path)
    if doing is not None:
        who = holder(path) or holder(path / WANDB) or "another process"
        what = f"the run {word} {doing} and is not pruned"
        raise UserError(what, got=who, fix="wait for it or stop it", code=EXIT_LOCKED)
    if not thinning and _place(row) in _best(everyone):
        task = " ".join(str(part) for part in (row.algo, row.env, row.obs) if part)
        fix = "take --checkpoints to thin it, or remove the folder yourself"
        raise UserError(f"the best run of {task} is not pruned", got=f"{word}, score {row.best:.4g}", fix=fix)
    return row


def _choose(rows: Sequence[RunRow], everyone: Iterable[RunRow], options: PruneOptions) -> Choice:
    spared = {row.run: doing for row in rows if (doing := _in_use(Path(row.path)))}
    if not options.checkpoints:
        best = _best(everyone)
        spared |= {row.run: "is the best of its kind" for row in rows if _place(row) in best}
    if options.keep is not None:
        for row in _newest(everyone, options.keep):
            spared.setdefault(row, f"is one of the newest {options.keep} of its kind")
    return Choice(
        [row for row in rows if row.run not in spared], {r.run: spared[r.run] for r in rows if r.run in spared}
    )


def _in_use(path: Path) -> str | None:
    """What is being done with a run, in words; None if it rests."""
    trained, sent = holder(path), holder(path / WANDB)
    if trained is not None and trained != sent:  # `runs sync` holds both
        return "is being trained"
    return "is being sent to wandb" if sent is not None else None


def _place(row: RunRow) -> Path:
    """The folder itself: a link to it is the same run."""
    return Path(row.path).resolve()


def _best(rows: Iterable[RunRow]) -> set[Path]:
    """Folders of the best run of each kind, the newer of equals; drivers that came with the package do not count."""
    best: dict[tuple[str | None, ...], RunRow] = {}
    for row in rows:
        score = goodness(row)
        if score is None or is_shipped(Path(row.path)):
            continue
        kind = (row.env, row.algo, row.obs)
        if kind not in best or _rank(row) > _rank(best[kind]):
            best[kind] = row
    return {_place(row) for row in best.values()}


def _rank(row: RunRow) -> tuple[float, int]:
    return goodness(row) or 0.0, -row.age_seconds


def _newest(rows: Iterable[RunRow], keep: int) -> set[str]:
    """The newest of each environment and algorithm."""
    kinds: dict[tuple[str | None, ...], list[RunRow]] = {}
    for row in sorted(rows, key=lambda row: row.age_seconds):
        if not is_shipped(Path(row.path)):
            kinds.setdefault((row.env, row.algo), []).append(row)
    return {row.run for members in kinds.values() for row in members[:keep]}


def _delete(choice: Choice, yes: bool) -> Result:
    total = sum(row.size_bytes for row in choice.rows if not Path(row.path).is_symlink())
    _tell_spared(choice)
    if not choice.rows:
        print("no run is to go")
        return Result({"deleted": [], "spared": choice.spared, "freed_bytes": 0})
    print_rows(choice.rows)
    what = f"{len(choice.rows)} run{'s' if len(choice.rows) > 1 else ''}, {bytes_of(total)}"
    names = [row.run for row in choice.rows]
    if not _agreed(f"delete {what}", names, yes):
        return Result({"deleted": [], "spared": choice.spared, "freed_bytes": 0})
    deleted, freed = [], 0
    for row in choice.rows:
        is_link = Path(row.path).is_symlink()
        if _remove(Path(row.path)):
            deleted.append(row.run)
            freed += 0 if is_link else row.size_bytes
        else:
            choice.spared[row.run] = _in_use(Path(row.path)) or "is being trained"
            print(f"{row.run} stays: it {choice.spared[row.run]} by now")
    print(f"deleted {len(deleted)} of {len(names)}, {bytes_of(freed)} are free again")
    return Result({"deleted": deleted, "spared": choice.spared, "freed_bytes": freed})


def _thin(choice: Choice, yes: bool) -> Result:
    from drivetrain.agents.checkpoint import prune_checkpoints, surplus_checkpoints

    _tell_spared(choice)
    going = {row.run: surplus_checkpoints(Path(row.path) / "checkpoints", 1) for row in choice.rows}
    going = {run: found for run, found in going.items() if found}
    sizes = {run: sum(size_of(path) for path in found) for run, found in going.items()}
    number = sum(len(found) for found in going.values())
    if not number:
        print("no checkpoint is to go")
        return Result({"deleted": [], "spared": choice.spared, "freed_bytes": 0})
    for run, found in going.items():
        print(f"{run}: {len(found)} checkpoints, {bytes_of(sizes[run])}: {', '.join(path.name for path in found)}")
    if not _agreed(f"delete {number} checkpoints, {bytes_of(sum(sizes.values()))}", list(going), yes):
        return Result({"deleted": [], "spared": choice.spared, "freed_bytes": 0})
    deleted, freed = [], 0
    for row in choice.rows:
        if row.run not in going:
            continue
        try:
            with RunLock(Path(row.path)):
                removed = prune_checkpoints(Path(row.path) / "checkpoints", keep=1)
        except UserError:
            print(f"{row.run} stays: it is being trained by now")
            continue
        deleted += [f"{row.run}/checkpoints/{path.name}" for path in removed]
        freed += sizes[row.run] if removed else 0
    print(f"deleted {len(deleted)} of {number} checkpoints, {bytes_of(freed)} are free again")
    return Result({"deleted": deleted, "spared": choice.spared, "freed_bytes": freed})


def _tell_spared(choice: Choice) -> None:
    for name, why in choice.spared.items():
        print(f"{name} stays: it {why}")


def _agreed(what: str, names: list[str], yes: bool) -> bool:
    """Ask.

    Raises:
        Failure: nobody is there to be asked (2).
    """
    if yes:
        return True
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        error = UserError("nothing was deleted, because nobody is there to be asked", got=what, fix="add --yes")
        raise Failure(error, {"would_delete": names})
    try:
        answer = input(f"{what}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("nothing was deleted")
    return False


def _remove(path: Path) -> bool:
    """Delete a run folder, or a link to one but not what it leads to; False if somebody is at work there by now.

    Raises:
        UserError: it cannot be deleted (6).
    """
    doomed = path.with_name(f"{DOOMED}{path.name}_{os.getpid()}")
    try:
        lock = RunLock(path)
        try:
            if holder(path / WANDB) is not None:
                return False
            os.rename(path, doomed)
            lock.path = doomed / lock.path.name  # where the lock's file is now
        finally:
            lock.release()
    except UserError:
        return False
    except OSError as error:
        fix = "look at who owns the folder"
        raise UserError(f"cannot delete {path}", got=error.strerror, fix=fix, code=EXIT_STORAGE) from None
    _erase(doomed)
    if doomed.exists():
        print(f"warning: a rest of {path.name} could not be deleted: {doomed}")
    return True


def _sweep() -> None:
    """Remove what a prune that was killed left behind."""
    for rest in RUNS.glob(f"{DOOMED}*") if RUNS.is_dir() else ():
        _erase(rest)


def _erase(path: Path) -> None:
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)
