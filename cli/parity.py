"""``drivetrain parity``: the batched simulator and the original, driven side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from drivetrain.agents.evaluate import expert_actor, play_original, play_twin
from drivetrain.envs.contact import touched_tiles
from drivetrain.envs.expert import act, build_lines
from drivetrain.envs.frame import frame
from drivetrain.envs.noise import hash_u32
from drivetrain.envs.original import OriginalEnv, read_states
from drivetrain.envs.spec import CAR
from drivetrain.envs.state import CarState, hull_origin
from drivetrain.envs.track import Tracks, build_tracks, centreline_of_seed
from drivetrain.likeness import REGIONS, mean_likeness, picture_parity
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, console

__all__ = ["Gaps", "contact_parity", "lap_parity", "main", "motion_parity", "parity_report", "track_parity"]

_STREAM = 100


class ParityOptions(Options):
    """Sizes of the comparison."""

    tracks: int = Field(default=200, ge=1, description="roads compared point for point, from the first seed on")
    laps: int = Field(default=20, ge=1, description="laps of the expert in both worlds")
    drives: int = Field(default=20, ge=1, description="drives with random controls from equal states")
    frames: int = Field(default=250, ge=1, description="frames of such a drive")
    contacts: int = Field(default=3000, ge=4, description="wheel-frames whose contacts with the road are compared")
    pictures: int = Field(default=10, ge=1, description="laps of the expert whose pictures are compared")
    seed: int = Field(default=0, ge=0, description="first seed")


@dataclass(frozen=True)
class Gaps:
    """Differences between both worlds over drives with equal controls; [K, T] = drives, frames."""

    position: NDArray[np.float64]  # [K, T] u, between the hulls
    reward: NDArray[np.float64]  # [K, T] of each frame's reward


def track_parity(seeds: Sequence[int]) -> int:
    """How many of the seeds' roads are equal: every centre point to the last bit, and every kerb."""
    env = OriginalEnv()
    equal = 0
    for seed in seeds:
        env.restart(seed)
        ours = centreline_of_seed(seed)
        equal += np.array_equal(ours.points, np.asarray(env.core.track)) and np.array_equal(ours.kerb, _kerbs(env))
    return equal


def _kerbs(env: OriginalEnv) -> NDArray[np.bool_]:
    """[n] bool, read off the original's draw list: a kerb follows its tile."""
    shapes = iter(env.core.road_poly)
    tiles = {id(tile.color) for tile in env.core.road}
    flags: list[bool] = []
    for _, colour in shapes:
        if id(colour) in tiles:
            flags.append(False)
        else:
            flags[-1] = True
    return np.array(flags, np.bool_)


def lap_parity(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A lap of the expert per seed in both worlds: scores, frames and their differences."""
    twin, original = play_twin(expert_actor(), seeds), play_original(expert_actor(), seeds)
    rows = zip(seeds, twin.scores, original.scores, twin.frames, original.frames, strict=True)
    return [
        {"seed": seed, "twin": ours, "original": theirs, "gap": abs(ours - theirs), "frames": f, "frames_original": g}
        for seed, ours, theirs, f, g in rows
    ]


def random_controls(drives: int, frames: int, seed: int) -> Tensor:
    """[T, K, 3] steer, gas and brake, held for ten frames.

    Even drives: uniform steering, mostly gas, now and then the brake: the car slides and spins. Odd drives: full gas
    and gentle steering, for cars that motion_parity launches.
    """
    drive, when = torch.arange(drives).repeat(frames), torch.arange(frames).repeat_interleave(drives) // 10
    steer, gas, brake = (
        (hash_u32(seed, drive, when, _STREAM + k).double() / 2**32).view(frames, drives) for k in range(3)
    )
    wild = torch.stack((2 * steer - 1, gas, (brake - 0.75).clamp(min=0)), -1)
    fast = torch.stack((0.06 * (2 * steer - 1), torch.ones_like(gas), torch.zeros_like(brake)), -1)
    odd = torch.arange(drives)[:, None] % 2 == 1
    return torch.where(odd, fast, wild).float()


def motion_parity(seeds: Sequence[int], controls: Tensor) -> Gaps:
    """Equal controls [T, K, 3] from equal states (the original's, after reset) in both worlds, one drive per seed.

    Odd drives start at 97 u/s: near 100 u/s Box2D caps the speed of each body by itself.
    """
    envs = _start(seeds)
    for env in envs[1::2]:
        _launch(env, 97.0)
    tracks = build_tracks([env.line for env in envs], seeds)
    state = read_states(envs, tracks.max_tiles)
    position, reward = np.zeros((2, len(seeds), len(controls)))
    for t, command in enumerate(controls):
        state, verdict = frame(tracks, state, command)
        for k, env in enumerate(envs):
            paid, *_ = env.advance(command[k].double().numpy())
            reward[k, t] = abs(paid - float(verdict.reward[k]))
        there = np.array([tuple(env.core.car.hull.position) for env in envs])
        position[:, t] = np.linalg.norm(hull_origin(state).double().numpy() - there, axis=1)
    return Gaps(position, reward)


def contact_parity(seeds: Sequence[int], wheel_frames: int) -> tuple[int, int]:
    """Our contact test on Box2D's own wheel poses, against Box2D's own contacts.

    The expert drives with a swing added to its steering, so that wheels leave the road and come back.

    Returns:
        Wheel-frames whose sets of tiles differ, and wheel-frames compared.
    """
    envs = _start(seeds)
    tracks = build_tracks([env.line for env in envs], seeds)
    line = build_lines(tracks)
    wrong = compared = t = 0
    while compared < wheel_frames:
        state = read_states(envs, tracks.max_tiles)
        controls = act(line, tracks, state).double().numpy()
        swing = 0.2 * np.sin(t / 25.0 + np.arange(len(envs)))
        centre, angle = _wheel_poses(envs)
        for k, env in enumerate(envs):
            env.advance(np.array([controls[k, 0] + swing[k], 0.7 * controls[k, 1], controls[k, 2]]))
        found = _tile_sets(tracks, state, centre, angle)
        theirs = [[{tile.idx for tile in wheel.tiles} for wheel in env.core.car.wheels] for env in envs]
        wrong += sum(found[k][w] != theirs[k][w] for k in range(len(envs)) for w in range(4))
        compared += 4 * len(envs)
        t += 1
    return wrong, compared


def _start(seeds: Sequence[int]) -> list[OriginalEnv]:
    envs = [OriginalEnv() for _ in seeds]
    for env, seed in zip(envs, seeds, strict=True):
        env.restart(seed)
    return envs


def _launch(env: OriginalEnv, speed: float) -> None:
    """The car at speed u/s straight ahead, its wheels rolling and its engine at full gas."""
    car = env.core.car
    ahead = (-float(np.sin(car.hull.angle)), float(np.cos(car.hull.angle)))
    for body in (car.hull, *car.wheels):
        body.linearVelocity = (speed * ahead[0], speed * ahead[1])
    for wheel in car.wheels:
        wheel.omega = speed / CAR.wheel_radius
    car.wheels[2].gas = car.wheels[3].gas = 1.0


def _wheel_poses(envs: Sequence[OriginalEnv]) -> tuple[Tensor, Tensor]:
    """[B, 4, 2] u and [B, 4] rad, as Box2D has them."""
    wheels = [env.core.car.wheels for env in envs]
    centre = torch.tensor([[tuple(wheel.position) for wheel in four] for four in wheels])
    return centre, torch.tensor([[wheel.angle for wheel in four] for four in wheels])


def _tile_sets(tracks: Tracks, state: CarState, centre: Tensor, angle: Tensor) -> list[list[set[int]]]:
    tiles, hit = touched_tiles(tracks, state.track, centre, angle)
    return [
        [set(tiles[row, wheel][hit[row, wheel]].tolist()) for wheel in range(4)] for row in range(len(state.heading))
    ]


def parity_report(options: ParityOptions | None = None) -> dict[str, Any]:
    """Every comparison, as the values of ``drivetrain parity --json``.

    `tracks_equal` is true when all roads are equal; `position_error_max` (u) and `reward_error_max` come from the
    random drives; `contact_mismatches` counts wheel-frames; `score_gap` is the largest difference of a lap's score.
    `picture_mae` (levels, mean absolute error of the rows above the indicators) and its parts compare pictures of the
    original's own cars, `picture_mae_laps` those of two laps side by side; `picture_far_off` is a share of pixels.
    """
    options = options or ParityOptions()
    seeds = range(options.seed, options.seed + max(options.tracks, options.laps, options.drives, options.pictures))
    equal = track_parity(seeds[: options.tracks])
    laps = lap_parity(seeds[: options.laps])
    controls = random_controls(options.drives, options.frames, options.seed)
    gaps = motion_parity(seeds[: options.drives], controls)
    wrong, compared = contact_parity(seeds[:4], options.contacts)
    return {
        "tracks_equal": equal == options.tracks,
        "position_error_max": float(gaps.position.max()),
        "reward_error_max": float(gaps.reward.max()),
        "contact_mismatches": wrong,
        **_picture_values(seeds[: options.pictures]),
        "score_gap": max(lap["gap"] for lap in laps),
        "tracks": options.tracks,
        "tracks_differing": options.tracks - equal,
        "position_error_median": float(np.median(gaps.position[:, -1])),
        "drives": options.drives,
        "drive_frames": options.frames,
        "wheel_frames": compared,
        "laps_of_equal_length": sum(lap["frames"] == lap["frames_original"] for lap in laps),
        "laps": laps,
    }


def _picture_values(seeds: Sequence[int]) -> dict[str, Any]:
    drawn, driven = picture_parity(seeds)
    mean, beside = mean_likeness(drawn), mean_likeness(driven)
    return {
        "picture_mae": mean.picture,
        "picture_mae_road": mean.road,
        "picture_mae_car": mean.car,
        "picture_mae_indicators": mean.indicators,
        "picture_mae_zoom": mean.zoom,
        "picture_mae_worst_lap": max(lap.picture for lap in drawn),
        "picture_far_off": mean.far_off,
        "picture_mae_laps": beside.picture,
        "picture_mae_laps_indicators": beside.indicators,
        "picture_laps": len(drawn),
        "pictures": mean.frames,
    }


def main(argv: Sequence[str]) -> Result:
    """The verb: a table for people, the report for ``--json``."""
    spec = Spec(ParityOptions, "drivetrain parity", "Drive twin and original side by side and report the differences.")
    options = parse(spec, argv).options
    torch.set_num_threads(1)  # many small tensors
    report = parity_report(options)
    _show(report)
    return Result(report)


def _show(report: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    laps = Table("seed", "twin", "original", "gap", "frames", "original's", title="A lap of the expert")
    for lap in report["laps"]:
        numbers = (f"{lap['twin']:.1f}", f"{lap['original']:.1f}", f"{lap['gap']:.4f}")
        laps.add_row(str(lap["seed"]), *numbers, str(lap["frames"]), str(lap["frames_original"]))
    out.print(laps)
    table = Table("compared", "over", "difference", title="The simulator against CarRacing-v3")
    table.add_row("roads, point for point", f"{report['tracks']} seeds", f"{report['tracks_differing']} differ")
    drives = f"{report['drives']} random drives of {report['drive_frames']} frames"
    middle = f"largest {report['position_error_max']:.2g} u, at the end median {report['position_error_median']:.1g} u"
    table.add_row("place of the car", drives, middle)
    table.add_row("reward of a frame", drives, f"largest {report['reward_error_max']:.2g}")
    wheels = f"{report['wheel_frames']} wheel-frames"
    table.add_row("tiles a wheel touches", wheels, f"{report['contact_mismatches']} differ")
    count = len(report["laps"])
    table.add_row("score of a lap", f"{count} laps of the expert", f"largest {report['score_gap']:.2g}")
    table.add_row("frames of a lap", f"{count} laps of the expert", f"{count - report['laps_of_equal_length']} differ")
    out.print(table)
    out.print(_picture_table(report))


def _picture_table(report: dict[str, Any]) -> Any:
    from rich.table import Table

    title = f"{report['pictures']} pictures of {report['picture_laps']} laps, errors in levels of 255"
    table = Table("region", "mean absolute error", title=title)
    keys = ("mae", "mae_road", "mae_car", "mae_indicators", "mae_zoom")
    for region, key in zip(REGIONS, keys, strict=True):
        table.add_row(region, f"{report[f'picture_{key}']:.3f}")
    table.add_row("picture, worst lap", f"{report['picture_mae_worst_lap']:.3f}")
    table.add_row("picture, a lap in each world", f"{report['picture_mae_laps']:.3f}")
    table.add_row("indicators, a lap in each world", f"{report['picture_mae_laps_indicators']:.3f}")
    table.add_row("pixels off by more than 24", f"{report['picture_far_off']:.3%}")
    return table
