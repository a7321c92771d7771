"""``drivetrain record WHO … --out FILE``: film drivers, without a display."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result

if TYPE_CHECKING:
    from drivetrain.drivers import Driver
    from drivetrain.film import Film
    from drivetrain.montage import Montage
    from drivetrain.scenes import Scene

__all__ = ["Cut", "film_episode", "main", "size_of", "stage"]

SIZES = {".mp4": (800, 600), ".gif": (480, 360)}
SMALLER_SIZES = {".mp4": (640, 480), ".gif": (320, 240)}  # of each, where several drive side by side
SMALLEST, LARGEST_SIDE = (64, 48), 4096
MOST_DRIVERS = 16


class RecordOptions(Options):
    """Options"""

    out: str | None = Field(None, description="the film, NAME.mp4 or NAME.gif; must be given")
    env: str | None = Field(
        None,
        description="racing, CarRacing-v3 (the original), or any Gymnasium environment that renders rgb_array; "
        "none = where the first run was trained",
    )
    episodes: int = Field(1, ge=1, le=1000, description="episodes, one after the other")
    env_args: dict[str, Any] = Field(
        {}, description="for random on a Gymnasium id: keyword arguments for gymnasium.make: a=1,b=text, or JSON"
    )
    seed: int = Field(0, ge=0, le=2**62, description="episode i is on the track of seed + i")
    size: str | None = Field(
        None,
        description="WIDTHxHEIGHT of a driver's picture in pixels; none = 800x600 for mp4, 480x360 for gif, and less "
        "where several drive",
    )
    pixels: bool = Field(False, description="film the small picture that CarRacing-v3 gives to its driver")
    start: float = Field(0.0, ge=0, description="seconds of every episode to leave out at its beginning")
    length: float | None = Field(None, gt=0, description="seconds of every episode to film; none = to its end")
    checkpoint: str = Field("best", description="of a run: best (by validation), last, or a step")


SPEC = Spec(
    RecordOptions,
    "drivetrain record WHO [WHO …]",
    "Film a run, expert or random, at the speed of the race; no display is needed. Several drive side by side, on the "
    "same track at the same time. --out names the film.",
    positionals=("who",),
    many="who",
)


def main(argv: list[str]) -> Result:
    """Film drivers."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    # all that is cheap to check comes before anything slow
    from drivetrain.drivers import HUMAN, env_of, find_driver, with_env_args
    from drivetrain.film import check_target

    if HUMAN in parsed.words:
        raise UserError("human drives only in a window", got=HUMAN, fix="use drivetrain watch human")
    if options.out is None:
        raise UserError("--out is missing", allowed=("--out NAME.mp4", "--out NAME.gif"))
    path = check_target(options.out)
    size = size_of(options.size)
    if len(parsed.words) > MOST_DRIVERS:
        raise UserError("too many drivers for one film", got=len(parsed.words), allowed=f"up to {MOST_DRIVERS}")
    from drivetrain.foreign import check_environment

    asked = None if options.env is None else check_environment(options.env)

    import torch

    from drivetrain.film import Film, film_rate
    from drivetrain.progress import say

    torch.set_num_threads(1)  # for a single car more threads only wait for each other
    drivers = [find_driver(who, options.checkpoint) for who in parsed.words]
    env = env_of(drivers, asked)
    drivers = with_env_args(drivers, env, options.env_args)
    scenes, montage = stage(drivers, env, size, path.suffix.lower(), options.pixels)
    try:
        scores = []
        cut = Cut(options.start, options.length)
        with Film(path, montage.size, film_rate(path.suffix.lower().lstrip("."), scenes[0].fps)) as film:
            for seed in range(options.seed, options.seed + options.episodes):
                film_episode(film, montage, scenes, seed, cut)
                scores += [scene.score for scene in scenes]
                for scene in scenes:
                    say(f"{scene.titles[-1]}, seed {seed}: score {scene.score:.1f} in {scene.frames} frames")
            if film.frames == 0:
                raise UserError("nothing was filmed: the episodes ended before", got=f"--start {options.start:g}")
    finally:
        for scene in scenes:
            scene.close()
    say(f"{path}: {film.frames} frames, {film.seconds:.1f} s, {path.stat().st_size / 1e6:.1f} MB")
    return Result({"out": str(path), "frames": film.frames, "seconds": film.seconds, "scores": scores})


@dataclass(frozen=True)
class Cut:
    """Which part of every episode is filmed, in seconds."""

    start: float = 0.0
    length: float | None = None

    def holds(self, second: float) -> bool:
        """Whether this moment of an episode is in the film."""
        return self.start <= second and (self.length is None or second < self.start + self.length)


def film_episode(film: Film, montage: Montage, scenes: Sequence[Scene], seed: int, cut: Cut) -> None:
    """All drivers on the track of a seed, at the same time; who has finished shows its last picture.

    An episode is played to its end also where only a part of it is filmed, so that the score is that of the whole.
    """
    from drivetrain.film import copies

    step = scenes[0].fps / film.fps
    undrawn: set[int] = set()  # scenes that went on since they were drawn
    first: int | None = None
    for frame, moved in enumerate(_together([scene.play(seed) for scene in scenes])):
        undrawn.update(moved)
        if not cut.holds(float(frame / scenes[0].fps)):
            continue
        first = frame if first is None else first
        times = copies(frame - first, step)
        if times:
            for index in undrawn:
                montage.show(index, scenes[index].picture(), scenes[index].score)
            undrawn.clear()
            film.add(montage.picture(), times)


def _together(plays: Sequence[Iterator[None]]) -> Iterator[list[int]]:
    """Moves all plays on, frame by frame, until the last has ended; tells which moved."""
    while moved := [index for index, play in enumerate(plays) if next(play, "ended") is None]:
        yield moved


def stage(
    drivers: Sequence[Driver], env: str, size: tuple[int, int] | None, suffix: str, pixels: bool
) -> tuple[list[Scene], Montage]:
    """The scenes of all drivers, and the picture they share.

    Raises:
        UserError: a driver or an environment that does not work here, or a film too large.
    """
    from drivetrain.envs.view import SIDE
    from drivetrain.foreign import GymScene
    from drivetrain.montage import Montage, grid, room_for
    from drivetrain.scenes import ORIGINAL, RACING, RaceScene

    largest = (SIZES if len(drivers) == 1 else SMALLER_SIZES)[suffix]
    scenes: list[Scene] = []
    if env in (RACING, ORIGINAL):
        scenes += [RaceScene(driver, env, size or largest, pixels) for driver in drivers]
        own = (SIDE, SIDE)
    else:
        if pixels:
            raise UserError("--pixels is the picture of CarRacing-v3", got=f"--env {env}", allowed=(RACING, ORIGINAL))
        foreign = [GymScene(env, driver) for driver in drivers]
        scenes += foreign
        own = foreign[0].size
    drawn_to_measure = env in (RACING, ORIGINAL) and not pixels
    tile = size or (largest if drawn_to_measure else room_for(own, largest))
    columns, rows = grid(len(drivers))
    if max(columns * tile[0], rows * tile[1]) > LARGEST_SIDE:
        got = f"{columns}x{rows} pictures of {tile[0]}x{tile[1]}"
        raise UserError("the film is too large", got=got, allowed=f"up to {LARGEST_SIDE}x{LARGEST_SIDE} in all")
    return scenes, Montage([scene.titles for scene in scenes], tile, on_top=drawn_to_measure)


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) of "WIDTHxHEIGHT"; None of None.

    Raises:
        UserError: not of that form, too small, or too large.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise UserError("--size is no size", got=text, allowed="WIDTHxHEIGHT, such as 960x720")
    width, height = int(sides[0]), int(sides[1])
    if width < SMALLEST[0] or height < SMALLEST[1]:
        raise UserError("--size is too small", got=text, allowed=f"{SMALLEST[0]}x{SMALLEST[1]} or more")
    if max(width, height) > LARGEST_SIDE:
        raise UserError("--size is too large", got=text, allowed=f"up to {LARGEST_SIDE}x{LARGEST_SIDE}")
    return width, height
