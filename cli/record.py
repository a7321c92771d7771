"""``drivetrain record WHO --out FILE``: film a driver, without a display."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result

__all__ = ["main", "size_of"]

SIZES = {".mp4": (800, 600), ".gif": (480, 360)}
LARGEST_SIDE = 4096
FPS = 50  # one picture per frame of the simulator: films run at the speed of the race


class RecordOptions(Options):
    """Options"""

    out: str | None = Field(None, description="the film, NAME.mp4 or NAME.gif; must be given")
    env: Literal["racing", "CarRacing-v3"] = Field("racing", description="the simulator, or the original")
    episodes: int = Field(1, ge=1, le=1000, description="episodes, one after the other")
    seed: int = Field(0, ge=0, le=2**62, description="episode i is on the track of seed + i")
    size: str | None = Field(None, description="WIDTHxHEIGHT in pixels; none = 800x600 for mp4, 480x360 for gif")
    checkpoint: str = Field("best", description="of a run: best (by validation), last, or a step")


SPEC = Spec(
    RecordOptions,
    "drivetrain record WHO",
    "Film a run, expert or random at 50 pictures a second; no display is needed. --out names the film.",
    positionals=("who",),
)


def main(argv: list[str]) -> Result:
    """Film a driver."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    # all that is cheap to check comes before anything slow
    from drivetrain.film import check_target

    if options.out is None:
        raise UserError("--out is missing", allowed=("--out NAME.mp4", "--out NAME.gif"))
    path = check_target(options.out)
    size = size_of(options.size) or SIZES[path.suffix.lower()]

    import torch

    from drivetrain.drive import Drive
    from drivetrain.drivers import find_driver
    from drivetrain.envs.viewer import Viewer
    from drivetrain.film import Film

    torch.set_num_threads(1)  # for a single car more threads only wait for each other
    drive = Drive(find_driver(parsed.words[0], options.checkpoint), options.env)
    viewer = Viewer(size)
    scores: list[float] = []
    caption = f"{drive.driver.title} · {options.env}"
    with Film(path, size, FPS) as film:
        for seed in range(options.seed, options.seed + options.episodes):
            for tracks, state in drive.episode(seed):
                film.add(viewer.frame(tracks, state, caption=caption))
            scores.append(drive.score)
            print(f"track {seed}: score {drive.score:.1f} in {drive.frames} frames", flush=True)
    drive.close()
    print(f"{path}: {film.frames} frames, {film.frames / FPS:.1f} s, {path.stat().st_size / 1e6:.1f} MB")
    return Result({"out": str(path), "frames": film.frames, "seconds": film.frames / FPS, "scores": scores})


def size_of(text: str | None) -> tuple[int, int] | None:
    """(width, height) of "WIDTHxHEIGHT"; None of None.

    Raises:
        UserError: not of that form, or too large.
    """
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isascii() and side.isdigit() for side in sides):
        raise UserError("--size is no size", got=text, allowed="WIDTHxHEIGHT, such as 960x720")
    width, height = int(sides[0]), int(sides[1])
    if max(width, height) > LARGEST_SIDE:
        raise UserError("--size is too large", got=text, allowed=f"up to {LARGEST_SIDE}x{LARGEST_SIDE}")
    return width, height
