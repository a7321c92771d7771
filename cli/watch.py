"""``drivetrain watch WHO``: see drivers drive, in a window, and drive yourself."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from drivetrain.drivers import HUMAN
from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result
from drivetrain.rundir import expanded
from drivetrain.scenes import ORIGINAL, RACING

if TYPE_CHECKING:
    from drivetrain.drivers import Driver
    from drivetrain.envs.window import Window
    from drivetrain.show import Show

__all__ = ["main"]

MOST_GHOSTS = 16
KEYS = (
    "space pauses, . goes on by a single frame, + and - change the speed, n takes the next track, c another camera, v "
    "shows what the network sees, t takes over by hand and gives back, tab follows the next car, h helps, q quits"
)


class WatchOptions(Options):
    """Options"""

    env: str | None = Field(
        None,
        description="racing, CarRacing-v3 (the original), or any Gymnasium environment that renders rgb_array; none = "
        "where the first run was trained",
    )
    env_args: dict[str, Any] = Field(
        {}, description="for random on a Gymnasium id: keyword arguments for gymnasium.make: a=1,b=text, or JSON"
    )
    seed: int = Field(0, ge=0, le=2**62, description="episode i is on the track of seed + i")
    episodes: int | None = Field(None, ge=1, description="episodes to show; none = until the window is closed")
    size: str | None = Field(None, description="WIDTHxHEIGHT of the window in pixels; none = 960x720")
    checkpoint: str = Field("best", description="of a run: best (by validation), last, or a step")
    out: str = Field("runs/drives", description="folder for what is driven by hand, a file an episode")
    player: str = Field(HUMAN, description="name of whom drives by hand, kept with the drive")


SPEC = Spec(
    WatchOptions,
    "drivetrain watch WHO [WHO …]",
    f"See a run, expert or random drive in a window, or drive yourself: human. More of them drive beside the first on "
    f"the same track, as ghosts. Keys: {KEYS}.",
    positionals=("who",),
    many="who",
)


def main(argv: list[str]) -> Result:
    """Show drivers."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    # all that is cheap to check comes before anything slow
    words = _in_order(parsed.words)
    from drivetrain.envs.viewer import SIZE
    from drivetrain.envs.window import Window, require_display
    from drivetrain.record import size_of

    size = size_of(options.size) or SIZE
    if not options.player.strip() or not options.player.isprintable():
        raise UserError("--player is no name", got=repr(options.player), allowed="letters, digits, spaces and signs")
    _check_folder(options.out)
    require_display()
    from drivetrain.foreign import check_environment

    asked = None if options.env is None else check_environment(options.env)

    import torch

    from drivetrain.drivers import env_of, find_driver, with_env_args

    torch.set_num_threads(1)  # for a single car more threads only wait for each other
    drivers = [_human(options.player) if who == HUMAN else find_driver(who, options.checkpoint) for who in words]
    env = env_of(drivers, asked)
    drivers = with_env_args(drivers, env, options.env_args)
    window = Window(size, f"drivetrain watch {' '.join(words)}")
    try:
        show = _show(window, drivers, env, size, options)
    except BaseException:
        window.close()
        raise
    return _run(show, options.seed, options.episodes)


def _run(show: Show, seed: int, episodes: int | None) -> Result:
    """Episodes until there were enough or the window is closed."""
    from drivetrain.progress import say

    scores: list[float] = []
    played = told = 0
    try:
        with show.stop:
            while show.window.is_open and not show.stop.requested and (episodes is None or played < episodes):
                if show.play(seed):
                    played += 1
                    for name, score, frames in show.stage.results():
                        scores.append(score)
                        say(f"{name}, seed {seed}: score {score:.1f} in {frames} frames")
                told = _tell(show.kept, told)
                seed += 1
    except KeyboardInterrupt:
        pass  # in the terminal, that is how one closes it
    finally:
        show.window.close()
        show.stage.close()
        _tell(show.kept, told)
    return Result({"episodes": played, "scores": scores, "drives": [str(path) for path in show.kept]})


def _tell(kept: list[Path], told: int) -> int:
    from drivetrain.progress import say

    for path in kept[told:]:
        say(f"kept {path}")
    return len(kept)


def _show(window: Window, drivers: list[Driver], env: str, size: tuple[int, int], options: WatchOptions) -> Show:
    """The show of these drivers.

    Raises:
        UserError: a driver that does not work there.
    """
    from drivetrain.show import Show
    from drivetrain.stage import GymStage, RaceStage

    if env in (RACING, ORIGINAL):
        from drivetrain.envs.hands import Hands, Pad
        from drivetrain.envs.viewer import Viewer

        hands = Hands(Pad())
        stage = RaceStage(drivers, env, Viewer(size), hands, expanded(options.out), options.player)
        return Show(window, stage, hands if stage.is_human else None)
    if drivers[0].key == HUMAN:
        raise UserError("nobody can drive this environment by hand", got=f"--env {env}", allowed=(RACING, ORIGINAL))
    if len(drivers) > 1:
        raise UserError("ghosts need a track", got=f"--env {env}", allowed=(RACING, ORIGINAL), fix="name one driver")
    from drivetrain.foreign import GymScene

    return Show(window, GymStage(GymScene(env, drivers[0]), size))


def _in_order(words: tuple[str, ...]) -> tuple[str, ...]:
    """The human first: the first car is the user's own.

    Raises:
        UserError: two humans, or too many ghosts.
    """
    humans = words.count(HUMAN)
    if humans > 1:
        raise UserError("there is one wheel only", got=" ".join(words), fix=f"name {HUMAN} once")
    if len(words) > MOST_GHOSTS + 1:
        raise UserError("too many ghosts", got=len(words) - 1, allowed=f"up to {MOST_GHOSTS}")
    return tuple(sorted(words, key=lambda word: word != HUMAN))


def _human(name: str) -> Driver:
    from drivetrain.drivers import Driver
    from drivetrain.envs.sim import SimConfig

    return Driver(name, HUMAN, RACING, SimConfig())


def _check_folder(out: str) -> None:
    """Refuse before anybody has driven in vain.

    Raises:
        UserError: drives cannot be kept there.
    """
    fix = "choose another --out"
    if "\0" in out:
        raise UserError("unsuitable name for a folder", got=repr(out), fix=fix)
    there = expanded(out)
    try:
        # a link that leads nowhere is in the way, too
        while not there.exists() and not there.is_symlink() and there != there.parent:
            there = there.parent
        is_folder = there.is_dir()
    except OSError as error:  # a name too long
        raise UserError("unsuitable name for a folder", got=error.strerror, fix=fix) from error
    if not is_folder:
        raise UserError(f"{there} is no folder", got=f"--out {out}", fix=fix)
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"the folder {there} cannot be written", got=f"--out {out}", fix=fix)
