"""A clone of a slow expert, then reinforcement on top of it: is anything lost on the way, and what is won?

Every variant goes through the options of `drivetrain train ALGO racing --init-from CLONE`. The policy is scored without
exploration on validation tracks after each of the first updates, and on the test seeds of CarRacing-v3 at the start
and, the best by validation, at the end.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from _row import publish

from drivetrain.agents.worlds import play
from drivetrain.device import set_threads
from drivetrain.learner import begin_from, build_learner
from drivetrain.main import main as drivetrain
from drivetrain.options import parse
from drivetrain.train import train_spec

VALIDATION = 1_000_000_000
FIRST, WATCHED, EACH = 50, 100, 40
"""updates that the bar holds for, updates after each of which the policy is scored, and tracks that it is scored on"""
BAR = 0.9
"""share of the clone's return that must be kept"""
NONE = ("--anchor-coef", "0", "--critic-warmup", "0")
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "ppo": {
        "default": (),
        "no warm-up, no anchor": NONE,
        "no warm-up": NONE[2:],
        "no anchor": NONE[:2],
        "until a tenth": ("--anchor-until", "0.1"),
        "rate of the preset": ("--init-learning-rate", "none"),
        "spread 0.1": ("--init-std", "0.1"),
        "spread 0.6": ("--init-std", "0.6"),
        "nothing at all": (*NONE, "--init-learning-rate", "none", "--init-std", "0.6"),
    },
    "dqn": {
        "default": (),
        "no anchor": NONE[:2],
        "rate of the preset": ("--init-learning-rate", "none"),
        "all actions at random at first": ("--init-eps", "none"),
        "nothing at all": (*NONE[:2], "--init-learning-rate", "none", "--init-eps", "none"),
        "held to the end": ("--anchor-coef", "20", "--anchor-until", "1"),
        "slow afterwards": ("--learning-rate", "3e-4", "--eps-fraction", "0.5"),
    },
}
CLONE = {"ppo": ("--v-max", "60"), "dqn": ("--v-max", "60", "--actions", "macro", "--frame-skip", "4")}
STEPS = {"ppo": 4_000_000, "dqn": 3_000_000}


def train(algo: str, clone: str, seed: int, flags: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    """One training: returns after every watched update, and the scores at both ends."""
    words = ["--init-from", clone, "--seed", str(seed), "--steps", str(options.steps), "--device", "cpu", *flags]
    parsed = parse(train_spec(algo, "racing"), words).options
    parsed = parsed.model_copy(update={"threads": set_threads(1)})
    flat = parsed.model_dump()
    learner = build_learner(algo, "racing", parsed).agent
    begin_from(learner, clone)
    policy = learner.policy

    def returns(first: int, episodes: int) -> float:
        return play("racing", flat, policy, range(first, first + episodes), "cpu").mean

    def original() -> Any:
        return play("CarRacing-v3", flat, policy, range(options.episodes), "cpu")

    began = time.monotonic()
    watched, best, kept = [returns(VALIDATION, EACH)], (float("-inf"), 0), copy.deepcopy(policy.state_dict())
    seconds, later, learned = 0.0, options.steps, 0
    while learner.steps < options.steps:
        begun = time.monotonic()
        metrics = learner.update_once()
        seconds += time.monotonic() - begun
        learned += any(name.startswith("loss/") for name in metrics)
        if 0 < learned <= options.watched:
            watched.append(returns(VALIDATION, EACH))
        if learner.steps >= options.eval_every * (1 + best[1]) or learner.steps >= options.steps:
            score = returns(VALIDATION + 1_000, 100)
            if score > best[0]:
                kept = copy.deepcopy(policy.state_dict())
            best, later = (max(score, best[0]), learner.steps // options.eval_every), min(later, score)
    policy.load_state_dict(kept)
    end = original()
    found = {"seed": seed, "start": watched[0], "lowest": min(watched[: FIRST + 1]), "later": later, "end": end.mean}
    found |= {"min": end.min, "failures": end.failures(), "seconds": seconds, "watched": watched}
    share = found["lowest"] / watched[0]
    print(f"  seed {seed}: lowest {share:.1%}, later {later:.0f}, end {end.mean:.1f}, {time.monotonic() - began:.0f} s")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("algo", choices=list(VARIANTS))
    parser.add_argument("--variants", nargs="+", help="which (default: all)")
    parser.add_argument("--seeds", type=int, default=5, help="training seeds 0 to this minus one (default 5)")
    parser.add_argument("--episodes", type=int, default=100, help="test seeds 0 to this minus one (default 100)")
    parser.add_argument("--steps", type=int, help="decisions of a training (default: what is enough)")
    parser.add_argument("--watched", type=int, default=WATCHED, help="first updates to score (default 100)")
    parser.add_argument("--eval-every", type=int, help="decisions between validations (default 250k, dqn 125k)")
    options = parser.parse_args()
    options.steps = options.steps or STEPS[options.algo]
    options.eval_every = options.eval_every or {"ppo": 250_000, "dqn": 125_000}[options.algo]
    with tempfile.TemporaryDirectory() as scratch:
        clone = str(Path(scratch) / "clone")
        if drivetrain(["pretrain", "imitate", *CLONE[options.algo], "--name", clone]):
            raise SystemExit("no clone")
        judge = parse(train_spec(options.algo, "racing"), ["--init-from", clone, "--device", "cpu"]).options
        learner = build_learner(options.algo, "racing", judge.model_copy(update={"threads": set_threads(1)})).agent
        begin_from(learner, clone)
        first = play("CarRacing-v3", judge.model_dump(), learner.policy, range(options.episodes), "cpu").mean
        for name in options.variants or VARIANTS[options.algo]:
            flags = VARIANTS[options.algo][name]
            print(name, *flags)
            runs = [train(options.algo, clone, seed, flags, options) for seed in range(options.seeds)]
            report(name, flags, first, runs, options)


def report(name: str, flags: tuple[str, ...], first: float, runs: list[dict[str, Any]], options: Any) -> None:
    """The row of one variant."""
    held = sum(run["lowest"] >= BAR * run["start"] for run in runs)
    lowest = min(run["lowest"] / run["start"] for run in runs)
    longer = min(min(run["watched"]) / run["start"] for run in runs)
    ends = [run["end"] for run in runs]
    said = " ".join(flags) or "as by default"
    publish(
        {"algo": options.algo, "variant": name, "clone": first, "runs": runs},
        f"`train {options.algo} racing --init-from CLONE`, {name} ({said}), {options.steps:,} decisions",
        f"clone {first:.1f} on test seeds 0 to {options.episodes - 1} of CarRacing-v3; never below 90 % of it in the "
        f"first {FIRST} updates: {held} of {len(runs)} (lowest {lowest:.1%}; in the first {options.watched} updates "
        f"{longer:.1%}); lowest validation later {min(run['later'] for run in runs):.0f}; "
        f"at the end a median of {statistics.median(ends):.1f} "
        f"({min(ends):.1f} to {max(ends):.1f}), {statistics.median(ends) - first:+.1f}; "
        f"median {statistics.median(run['seconds'] for run in runs):.0f} s of training, one thread",
    )


if __name__ == "__main__":
    main()
