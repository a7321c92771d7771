"""The picture against Gymnasium's: how like it is over whole laps of the expert, and how many frames a second.

The simulator and CarRacing-v3 alone and in its fastest vector form alternate in one run, all with the default picture
of 96 by 96 colours, physics and indicators included, every frame drawn, the same gentle driving.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

import gymnasium
import numpy as np
import torch
from _row import publish

from drivetrain.device import choose_device, set_threads
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool
from drivetrain.likeness import mean_likeness, picture_parity

GAS = (0.0, 0.1, 0.0)
WORKERS = 2


def rate(advance: Callable[[], int], seconds: float) -> float:
    """Frames a second of advance, which returns the frames it took."""
    began, frames = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        frames += advance()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return frames / (time.perf_counter() - began)


def simulator(cars: int, device: str) -> Callable[[], int]:
    sim = Sim(pool(0, 256, device), cars, SimConfig(obs="pixels"))
    sim.reset()
    sim.scatter(torch.Generator(device).manual_seed(0))
    action = torch.tensor(GAS, device=device).repeat(cars, 1)

    def advance() -> int:
        sim.step(action)
        return cars

    return advance


def alone() -> Callable[[], int]:
    env = gymnasium.make("CarRacing-v3")
    env.reset(seed=0)

    def advance() -> int:
        *_, terminated, truncated, _ = env.step(np.array(GAS, np.float32))
        if terminated or truncated:
            env.reset()
        return 1

    return advance


def workers() -> tuple[Callable[[], int], Callable[[], None]]:
    envs = gymnasium.make_vec("CarRacing-v3", num_envs=WORKERS, vectorization_mode="async")
    envs.reset(seed=0)
    actions = np.array([GAS] * WORKERS, np.float32)

    def advance() -> int:
        envs.step(actions)
        return WORKERS

    return advance, envs.close


def speed(cars: int, device: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Frames a second of all three in every round."""
    vector, close = workers()
    cases = {"ours": simulator(cars, device), "alone": alone(), "workers": vector}
    for advance in cases.values():
        rate(advance, 1.5)  # past compiling and the opening zoom
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, advance in cases.items():
            found[name].append(rate(advance, seconds))
    close()
    return found


def publish_speed(options: argparse.Namespace) -> None:
    device = choose_device(options.device)
    set_threads(None)
    found = speed(options.cars, device, options.rounds, options.seconds)
    median = {name: statistics.median(values) for name, values in found.items()}
    ratios = {
        name: [ours / theirs for ours, theirs in zip(found["ours"], found[name], strict=True)]
        for name in ("alone", "workers")
    }
    words = [
        f"{median['ours']:,.0f} frames/s ({min(found['ours']):,.0f} to {max(found['ours']):,.0f}), {options.cars} cars",
        *(
            f"CarRacing-v3 {what} {median[name]:,.0f}: {statistics.median(ratios[name]):,.0f} times "
            f"({min(ratios[name]):,.0f} to {max(ratios[name]):,.0f})"
            for name, what in (("alone", "alone"), ("workers", f"in AsyncVectorEnv with {WORKERS} workers"))
        ),
    ]
    values = {"frames_per_s": found, "ratio": {name: statistics.median(r) for name, r in ratios.items()}}
    what = f"Pictures, raw, 96x96x3, physics and indicators included, {device}, {options.rounds} rounds alternating"
    publish(values, what, "; ".join(words))


def publish_likeness(laps: int) -> None:
    torch.set_num_threads(1)
    drawn, driven = picture_parity(range(laps))
    mean, beside = mean_likeness(drawn), mean_likeness(driven)
    result = "; ".join(
        [
            f"rows 0 to 82: mean absolute error {mean.picture:.3f} levels "
            f"(worst lap {max(lap.picture for lap in drawn):.3f}), {mean.far_off:.3%} of pixels off by more than 24",
            f"road {mean.road:.3f}, car {mean.car:.3f}, opening zoom {mean.zoom:.3f}",
            f"indicators {mean.indicators:.3f}",
            f"a lap in each world: rows 0 to 82 {beside.picture:.3f}, indicators {beside.indicators:.3f}",
        ]
    )
    values = {"drawn": vars(mean), "driven": vars(beside), "laps": laps}
    publish(values, f"Picture against CarRacing-v3, {mean.frames} pictures of {laps} laps of the expert", result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--cars", type=int, default=256, help="cars of the simulator (default 256)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, cases alternating (default 5)")
    parser.add_argument(
        "--laps", type=int, default=10, help="laps whose pictures are compared, 0 for none (default 10)"
    )
    options = parser.parse_args()
    if options.rounds:
        publish_speed(options)
    if options.laps:
        publish_likeness(options.laps)


if __name__ == "__main__":
    main()
