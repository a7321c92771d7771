"""Pictures a second of `drivetrain watch`: simulate, decide, think, draw, show, with no cap on their rate.

Needs a display; where there is none, it starts the virtual one of Xvfb.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from _row import publish

from drivetrain.drivers import find_driver
from drivetrain.envs.hands import Hands
from drivetrain.envs.viewer import SIZE, Viewer
from drivetrain.envs.window import Window
from drivetrain.show import Show
from drivetrain.stage import RaceStage

RUN, ROUNDS, GHOSTS = "racing-ppo-state", 5, 16


@contextlib.contextmanager
def display() -> Iterator[str]:
    """A display, and what to call it."""
    if os.environ.get("DISPLAY"):
        yield f"display {os.environ['DISPLAY']}"
        return
    xvfb = shutil.which("Xvfb")
    if xvfb is None:
        raise SystemExit("error: there is no display and no Xvfb; install xvfb")
    read, write = os.pipe()
    command = [xvfb, "-displayfd", str(write), "-screen", "0", "1280x1024x24"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    try:
        os.environ["DISPLAY"] = f":{os.read(read, 16).decode().strip()}"
        yield "Xvfb"
    finally:
        server.terminate()
        server.wait()


class Counting(Window):
    """A window that counts its pictures."""

    pictures = 0

    def show(self, surface: object, fps: float) -> None:
        self.pictures += 1
        super().show(surface, fps)


def rate(show: Show, window: Counting, seed: int) -> float:
    """Pictures a second of one lap."""
    window.pictures, began = 0, time.perf_counter()
    show.play(seed)
    return window.pictures / (time.perf_counter() - began)


def main() -> None:
    torch.set_num_threads(1)
    ghosts = [(RUN, "expert")[i % 2] for i in range(GHOSTS)]
    rates: dict[str, list[float]] = {"one": [], "ghosts": []}
    with display() as where:
        window = Counting(SIZE, "benchmark")
        stages = {"one": [RUN], "ghosts": [RUN, *ghosts]}
        shows = {}
        for name, words in stages.items():
            stage = RaceStage(
                [find_driver(who) for who in words], "racing", Viewer(), Hands(), Path("unused"), "nobody"
            )
            stage.press("v")  # what the network sees is drawn, too
            shows[name] = Show(window, stage, cap=False)
        for seed in range(ROUNDS + 1):
            for name, show in shows.items():
                measured = rate(show, window, seed)
                if seed:  # the first round compiles kernels and fills caches
                    rates[name].append(measured)
        window.close()
    middle = {name: statistics.median(values) for name, values in rates.items()}
    spread = {name: f"{min(values):.0f} to {max(values):.0f}" for name, values in rates.items()}
    publish(
        {"pictures_per_s": middle, "rates": rates, "size": SIZE, "display": where},
        f"`watch` in a window of {SIZE[0]}x{SIZE[1]}, whole laps with policy panel and view, {ROUNDS} rounds",
        f"{middle['one']:.0f} pictures/s with one car ({spread['one']}); {middle['ghosts']:.0f} with {GHOSTS} ghosts "
        f"({spread['ghosts']})",
    )


if __name__ == "__main__":
    main()
