"""``drivetrain evaluate WHO``: fresh episodes on fixed seeds, one row each, and what they say together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from drivetrain.agents.config import ORIGINAL, RACING
from drivetrain.drivers import SCRIPTED, Driver, actor_of, find_driver, with_env_args
from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, console
from drivetrain.tasks import environment

if TYPE_CHECKING:
    from drivetrain.agents.evaluate import Scores

__all__ = ["main", "play", "summary"]

CARS = (RACING, ORIGINAL)
BATCH = 1000  # episodes played together in the simulator
COLUMNS = 4  # episodes side by side in the table
LONGEST_SPACE = 80  # characters


class EvaluateOptions(Options):
    """Options"""

    env: str | None = Field(
        None, description="racing, CarRacing-v3 (the original), or a Gymnasium id; none = where the run was trained"
    )
    episodes: int = Field(100, ge=1, le=1_000_000, description="episodes, each with a seed of its own")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="of the first episode; episode i is on seed + i")
    checkpoint: str = Field("best", description="of a run: best by validation score, last, or a step")
    actions: Literal["continuous", "pedals", "discrete", "macro"] | None = Field(
        None, description="for expert and random: their action set; none = continuous"
    )
    frame_skip: int | None = Field(
        None, ge=1, le=100, description="for expert and random: frames an action is held for; none = 1"
    )
    env_args: dict[str, Any] = Field(
        {}, description="for random on a Gymnasium id: keyword arguments for gymnasium.make: a=1,b=text, or JSON"
    )
    domain_randomize: bool = Field(False, description="for drivers that see pictures: other colours in every episode")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto = cuda if present")
    csv: str | None = Field(None, description="file to write the episodes to: seed, score, frames")


SPEC = Spec(
    EvaluateOptions,
    "drivetrain evaluate WHO",
    "Score a run, expert or random on episodes it never saw. A run is scored without exploration.",
    positionals=("who",),
)


def main(argv: list[str]) -> Result:
    """Score a driver."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    asked = environment(options.env) if options.env is not None else None
    driver = find_driver(parsed.words[0], options.checkpoint, options.actions, options.frame_skip)
    env = asked or driver.env
    _check_use(options, driver, env)
    if driver.key in SCRIPTED and env not in CARS:
        driver = replace(driver, record={"env_args": options.env_args, "frame_skip": options.frame_skip or 1})
    target = Path(options.csv) if options.csv is not None else None
    if target is not None:
        _check_writable(target)
    _check_fit(driver, env)
    seeds = range(options.seed, options.seed + options.episodes)
    scores = play(driver, env, seeds, options.device, options.domain_randomize)
    if target is not None:
        rows = zip(scores.seeds, scores.scores, scores.frames, strict=True)
        target.write_text("seed,score,frames\n" + "".join(f"{s},{x:.3f},{f}\n" for s, x, f in rows), encoding="utf-8")
    from drivetrain.agents.worlds import threshold_of

    threshold = threshold_of(env)
    _print(driver, env, scores, threshold)
    return Result({"env": env, **summary(scores, threshold)})


def play(driver: Driver, env: str, seeds: range, device: str = "auto", colours: bool = False) -> Scores:
    """One episode per seed; of a car with ``colours`` in other ones each."""
    if env not in CARS:
        return _play_elsewhere(driver, env, seeds, device)
    from drivetrain.agents.evaluate import Scores, play_original_in_workers, play_twin
    from drivetrain.device import choose_device, keep_freed_memory, set_threads

    if env == ORIGINAL:
        return play_original_in_workers(actor_of, driver.key, seeds, driver.sim_config, colours=colours)
    place = choose_device(device)
    set_threads(None)
    keep_freed_memory()
    actor = driver.actor(place)
    parts = [
        play_twin(actor, seeds[k : k + BATCH], driver.sim_config, place, colours=colours)
        for k in range(0, len(seeds), BATCH)
    ]
    return Scores(
        tuple(seed for part in parts for seed in part.seeds),
        tuple(score for part in parts for score in part.scores),
        tuple(frames for part in parts for frames in part.frames),
        sum(part.seconds for part in parts),
    )


def _play_elsewhere(driver: Driver, env: str, seeds: range, device: str) -> Scores:
    from drivetrain.agents.worlds import RandomActor, play, spaces_of
    from drivetrain.device import choose_device, set_threads
    from drivetrain.learner import load_policy_of

    place = choose_device(device)
    set_threads(None)
    if driver.key in SCRIPTED:
        actor = RandomActor(spaces_of(env, driver.record)[1], place, seeds[0])
        return play(env, driver.record, actor, seeds, place)
    return play(env, driver.record, load_policy_of(Path(driver.key), place), seeds, place)


def _check_use(options: EvaluateOptions, driver: Driver, env: str) -> None:
    """Refuse options given in vain."""
    if options.actions is not None and env not in CARS:
        raise UserError(f"--actions is of no use with {env}: it has actions of its own", fix="leave it out")
    if options.domain_randomize and (env not in CARS or driver.sim_config.obs != "pixels"):
        what = f"--domain-randomize is of no use: {driver.name} sees no picture of {RACING} or {ORIGINAL}"
        raise UserError(what, fix="leave it out")
    with_env_args([driver], env, options.env_args)


def _check_fit(driver: Driver, env: str) -> None:
    """Refuse an environment whose spaces are not those that the driver knows."""
    if driver.key == "expert" and env not in CARS:
        raise UserError(f"the expert cannot play {env}", allowed=CARS, fix="take random, or a run")
    if driver.key in SCRIPTED or env == driver.env or {env, driver.env} <= set(CARS):
        return
    from drivetrain.agents.worlds import spaces_of

    pairs = zip(spaces_of(driver.env, driver.record), spaces_of(env, driver.record), strict=True)
    for what, (known, there) in zip(("observations", "actions"), pairs, strict=True):
        if known != there:
            fix = f"take --env {driver.env}" + (f" or {ORIGINAL}" if driver.env == RACING else "")
            raise UserError(
                f"the {what} of {env} are not those of {driver.name}", got=_short(there), allowed=_short(known), fix=fix
            )


def _short(space: object) -> str:
    """A space in one line: a Box with many numbers is printed in several."""
    text = " ".join(str(space).split())
    return text if len(text) <= LONGEST_SPACE else f"{text[: LONGEST_SPACE - 1]}…"


def summary(scores: Scores, threshold: float | None) -> dict[str, Any]:
    """The figures of ``evaluate --json``; failures are episodes below a threshold."""
    low, high = scores.ci95()
    return {
        "episodes": len(scores.seeds),
        "seeds": list(scores.seeds),
        "scores": [round(score, 4) for score in scores.scores],
        "mean": scores.mean,
        "sd": scores.sd,
        "min": scores.min,
        "p10": scores.p10,
        "failures": None if threshold is None else scores.failures(threshold),
        "ci95": [low, high],
        "worst_seed": scores.worst_seed,
        "seconds": round(scores.seconds, 3),
    }


def _check_writable(path: Path) -> None:
    """Refuse a file that cannot be written before minutes are spent on its contents."""
    try:
        existed = path.exists()
        with open(path, "a", encoding="utf-8"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise UserError(f"cannot write {path}", got=error.strerror, fix="choose another --csv") from None


def _print(driver: Driver, env: str, scores: Scores, threshold: float | None) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for _ in range(COLUMNS):
        table.add_column("seed", justify="right", style="dim")
        table.add_column("score", justify="right")
        table.add_column("frames", justify="right", style="dim")
    episodes = list(zip(scores.seeds, scores.scores, scores.frames, strict=True))
    height = -(-len(episodes) // COLUMNS)
    for row in range(height):
        cells: list[str] = []
        for seed, score, frames in episodes[row::height]:
            colour = "red" if threshold is not None and score < threshold else "green"
            cells += [str(seed), f"[{colour}]{score:.1f}[/]", f"{frames}"]
        table.add_row(*cells)
    out = console()
    task = driver.sim_config
    how = f": {task.obs}, {task.actions}, frame skip {task.frame_skip}" if env in CARS else ""
    out.print(f"{driver.title} on {env}{how}", style="bold")
    out.print(table)
    low, high = scores.ci95()
    few = f"{scores.failures(threshold)} of {len(scores.seeds)} below {threshold:g}, " if threshold is not None else ""
    out.print(
        f"mean {scores.mean:.1f} (95 % {low:.1f} to {high:.1f}), sd {scores.sd:.1f}, "
        f"min {scores.min:.1f} (seed {scores.worst_seed}), P10 {scores.p10:.1f}, {few}{scores.seconds:.1f} s"
    )
