"""What a study found: report.md, its pictures, and the command that trains with the best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from drivetrain.rundir import read_json
from drivetrain.statistics import difference as bootstrapped
from drivetrain.statistics import draw
from drivetrain.sweep_space import dashed
from drivetrain.sweep_study import Study
from drivetrain.sweep_work import options_text

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

__all__ = ["best_of", "default_of", "finished_line", "importances", "summary", "tally", "verdict", "write_report"]

TOP = 10  # trials in the table
FEWEST = 8  # trials below which an importance says nothing
FEWEST_SEEDS = 3  # on each side, for an interval
RESAMPLES = 10_000
BEST = 0.25  # part of the trials that counts as good where importance is asked for
AXES = {"score": "best validation score", "steps": "steps to the target"}
AXES |= {"seconds": "seconds to the target", "processor": "processor time to the target, s"}
UNITS = {
    "score": "best validation score",
    "steps": "steps to the target",
    "seconds": "seconds of training to the target",
    "processor": "seconds of processor time to the target, start-up included",
}


def tally(study: Study) -> dict[str, int]:
    """Every trial by how it stands; one that was tried again counts once, by its last try."""
    trials = study.trials()
    again = {trial.user_attrs["after"] for trial in trials if "after" in trial.user_attrs}
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}
    counts = dict.fromkeys(names.values(), 0)
    for trial in trials:
        if trial.number not in again:
            counts[names[trial.state.name]] += 1
    return counts | {"repeated": len(again)}


def best_of(study: Study) -> FrozenTrial | None:
    """The complete trial with the best value, the first of equals."""
    first = next(iter(ranking(study)), None)
    return first if first is not None and first.state.name == "COMPLETE" else None


def default_of(study: Study) -> FrozenTrial | None:
    """The last try of the first trial, if that is the defaults."""
    tries = [trial for trial in study.trials() if trial.user_attrs.get("default")]
    return tries[-1] if tries else None


def finished_line(study: Study, trial: FrozenTrial) -> str:
    """One line about a trial that has ended."""
    name = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]
    parts = [f"trial {trial.number:3d}  {name:<8}"]
    if trial.state.name == "COMPLETE" and trial.value is not None:
        parts.append(f"{number(trial.value)} {study.record.objective}")
    else:
        parts.append(str(trial.user_attrs.get("reason", "")))
    best = best_of(study)
    if best is not None:
        parts.append(f"best {number(best.value)} (trial {best.number})")
    parts.append(words(study.values(trial)))
    return "  ".join(part for part in parts if part)


def summary(study: Study) -> dict[str, Any]:
    """What ``--json`` prints."""
    best, default = best_of(study), default_of(study)
    return {
        "study": study.path.name,
        "path": str(study.path),
        "objective": study.record.objective,
        "trials": tally(study),
        "trial": best.number if best else None,
        "value": best.value if best else None,
        "params": study.values(best) if best else None,
        "default": default.value if default and default.state.name == "COMPLETE" else None,
        "confirmation": confirmation(study),
        "command": command(study, best) if best else None,
        "report": str(study.path / "report.md"),
    }


def confirmation(study: Study) -> dict[str, Any] | None:
    """Best and default on fresh seeds, if that was run for the present best."""
    best = best_of(study)
    if best is None or not (study.path / "confirm.json").is_file():
        return None
    runs = read_json(study.path / "confirm.json")
    pairs = [
        (runs[str(seed)]["best"]["value"], runs[str(seed)]["default"]["value"])
        for seed in sorted(int(key) for key in runs if key.isdigit())
        if runs[str(seed)].get("trial") == best.number and {"best", "default"} <= set(runs[str(seed)])
    ]
    if not pairs:
        return None
    missing = -math.inf if study.record.rises else math.inf
    ours, theirs = ([missing if value is None else float(value) for value in side] for side in zip(*pairs, strict=True))
    medians = statistics.median(ours), statistics.median(theirs)
    low, high = sorted(study.sign * end for end in difference(ours, theirs))
    wins = sum(study.sign * a > study.sign * b for a, b in zip(ours, theirs, strict=True))
    return {
        "trial": best.number, "best": ours, "default": theirs, "median_best": medians[0], "median_default": medians[1],
        "wins": wins, "seeds": len(pairs), "gain_low": low, "gain_high": high,
        "verdict": "beats" if low > 0 else "worse" if high < 0 else "even",
    }  # fmt: skip


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of median(ours) − median(theirs), by percentile bootstrap of each side.

    What was not reached counts as ten times the largest number that was. One or two seeds a side bound nothing.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (ours, theirs)]
    finite = np.concatenate([side[np.isfinite(side)] for side in sides])
    if min(len(side) for side in sides) < FEWEST_SEEDS or not len(finite):
        return -math.inf, math.inf
    large = 10 * np.abs(finite).max()
    known = [np.nan_to_num(side, posinf=large, neginf=-large) for side in sides]
    generator = np.random.default_rng(0)
    drawn = [draw(generator, [len(side)], RESAMPLES) for side in known]
    found = bootstrapped([known[0]], [known[1]], partial(np.median, axis=-1), (drawn[0], drawn[1]))
    return float(found.low), float(found.high)


def command(study: Study, best: FrozenTrial) -> str:
    """What trains like the best trial, ready to be pasted."""
    return options_text(study, {} if best.user_attrs.get("default") else study.values(best))


def importances(study: Study) -> dict[str, float]:
    """Share of each field in being among the best quarter of the trials; empty while there are too few.

    By PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
    subspaces"), which needs no package of its own, unlike fANOVA. Pruned trials stand behind all complete ones.
    """
    import warnings

    import optuna

    ranked = ranking(study)
    if len(ranked) < FEWEST:
        return {}
    ranks = optuna.create_study(direction="minimize")
    for place, trial in enumerate(ranked):
        copy = optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=float(place))
        ranks.add_trial(copy)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(ranks, evaluator=evaluator, normalize=True)
    return {name: float(share) for name, share in found.items() if math.isfinite(share)}


def ranking(study: Study) -> list[FrozenTrial]:
    """Complete trials from the best on, then those pruned: who came further first, and of these the better."""
    states = {"COMPLETE": 0, "PRUNED": 1}
    ended = [trial for trial in study.trials() if trial.state.name in states]

    def place(trial: FrozenTrial) -> tuple[float, ...]:
        value = -study.sign * (trial.value or 0.0)
        # what is reported of a trial on its way has the direction of the objective
        return (0, 0, value) if trial.state.name == "COMPLETE" else (1, -(trial.last_step or 0), value)

    return sorted(ended, key=place)


def write_report(study: Study) -> None:
    """report.md and its pictures, in the study folder."""
    from drivetrain.sweep_plots import draw_all

    shares = importances(study)
    pictures = draw_all(study, shares)
    best = best_of(study)
    lines = [*_head(study), *_verdict(study, best)]
    if best is not None:
        lines += ["## The command", "", "```bash", command(study, best), "```", ""]
    lines += _top(study)
    if shares:
        lines += ["## Importance", "", "| option | share |", "|---|---|"]
        lines += [f"| {dashed(name)} | {share:.0%} |" for name, share in shares.items()]
        lines += [
            "",
            f"In being among the best quarter of {len(ranking(study))} trials, pruned ones too (PED-ANOVA): a hint.",
            "",
        ]
    lines += _failures(study)
    lines += ["## Pictures", "", *[f"![{picture.removesuffix('.png')}]({picture})" for picture in pictures], ""]
    (study.path / "report.md").write_text("\n".join(lines), encoding="utf-8")


def _head(study: Study) -> list[str]:
    record, counts = study.record, tally(study)
    space = ", ".join(f"{dashed(name)} {dimension}" for name, dimension in record.space.items())
    held = ", ".join(f"{dashed(name)} {value}" for name, value in record.fixed.items()) or "nothing"
    states = ", ".join(f"{count} {name}" for name, count in counts.items() if count and name != "repeated")
    return [
        f"# {study.path.name}: {record.algo} on {record.env}",
        "",
        f"- objective: {UNITS[record.objective]}, median over {record.seeds} seed{'s' if record.seeds > 1 else ''}",
        f"- trials: {states or 'none'}; {counts['repeated']} tries were lost and repeated",
        f"- searched: {space}",
        f"- held: {held}",
        "",
    ]


def _verdict(study: Study, best: FrozenTrial | None) -> list[str]:
    lines = ["## Result", ""]
    default = default_of(study)
    if best is None:
        return [*lines, "No trial is complete yet.", ""]
    if default is None:
        moved = ", ".join(map(dashed, study.record.moved))
        worth = f"did not run, since the space leaves out their {moved}"
    else:
        worth = f"have {number(default.value)}" if default.state.name == "COMPLETE" else "came to no value"
    lines.append(f"Trial {best.number} is the best with {number(best.value)}; the defaults {worth}.")
    if best.user_attrs.get("default"):
        return [*lines, "", "No trial beats the defaults: they are confirmed.", ""]
    check = confirmation(study)
    if check is None:
        warning = "The best of many trials is partly luck: let both run on fresh seeds with `--confirm 3`."
        return [*lines, "", warning, ""]
    ours, theirs = check["median_best"], check["median_default"]
    rows = zip(check["best"], check["default"], strict=True)
    lines += ["", "On seeds that no trial had:", "", "| best | defaults |", "|---|---|"]
    lines += [f"| {number(a)} | {number(b)} |" for a, b in rows]
    lines += [f"| **median {number(ours)}** | **median {number(theirs)}** |", ""]
    return [*lines, verdict(check), ""]


def verdict(check: Mapping[str, Any]) -> str:
    """What the fresh seeds say, in a sentence."""
    gain = f"{number(check['gain_low'])} to {number(check['gain_high'])}" if math.isfinite(check["gain_low"]) else ""
    said = (
        f"medians {number(check['median_best'])} and {number(check['median_default'])}, better on {check['wins']} of "
        f"{check['seeds']} seeds" + (f", gain {gain} (95 %)" if gain else "")
    )
    if check["verdict"] == "beats":
        return f"The best trial beats the defaults: {said}."
    if check["verdict"] == "worse":
        return f"The defaults are confirmed, the best trial is worse on fresh seeds: {said}."
    return (
        f"The best trial cannot be told from the defaults, so keep those: {said}; a larger `--confirm` may part them."
    )


def _top(study: Study) -> list[str]:
    names = list(study.record.space)
    done = [trial for trial in ranking(study) if trial.state.name == "COMPLETE"]
    if not done:
        return []
    head = ["trial", study.record.objective, "of each seed", *map(dashed, names)]
    lines = [
        f"## The best {min(TOP, len(done))} of {len(done)} complete trials",
        "",
        _row(head),
        _row(["---"] * len(head)),
    ]
    for trial in done[:TOP]:
        values = study.values(trial)
        each = ", ".join(number(value) for value in trial.user_attrs.get("each", []))
        mark = " (defaults)" if trial.user_attrs.get("default") else ""
        lines.append(_row([f"{trial.number}{mark}", number(trial.value), each, *[str(values.get(n)) for n in names]]))
    return [*lines, ""]


def _failures(study: Study) -> list[str]:
    failed = [trial for trial in study.trials() if trial.state.name == "FAIL"]
    if not failed:
        return []
    follow = {trial.user_attrs.get("after"): trial for trial in study.trials()}
    lines = ["## Tries that were lost", "", "| trial | reason | repeated as |", "|---|---|---|"]
    for trial in failed:
        later = follow.get(trial.number)
        lines.append(_row([trial.number, trial.user_attrs.get("reason", ""), later.number if later else "–"]))
    return [*lines, ""]


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def number(value: float | None) -> str:
    """A value in a table: whole steps, scores and seconds with a decimal."""
    if value is None or not math.isfinite(value):
        return "not reached"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.1f}"


def words(values: Mapping[str, object]) -> str:
    """``learning-rate 0.001, gamma 0.99``."""
    return ", ".join(f"{dashed(name)} {value}" for name, value in values.items())
