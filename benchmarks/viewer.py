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
PICTURES = 300
"""of each measurement: six seconds of a lap"""


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
    """A window that counts its pictures, and in which somebody presses "n" after enough of them."""

    pictures = 0

    def show(self, surface: object, fps: float) -> None:
        self.pictures += 1
        super().show(surface, fps)

    def pressed(self) -> list[str]:
        return [*super().pressed(), *(["n"] if self.pictures >= PICTURES else [])]


def rates(show: Show, window: Counting, seed: int) -> tuple[float, float]:
    """Pictures a second, and a second of this process's computing time: the two differ where others compute, too."""
    window.pictures, began, used = 0, time.perf_counter(), time.process_time()
    show.play(seed)
    return window.pictures / (time.perf_counter() - began), window.pictures / (time.process_time() - used)


def main() -> None:
    torch.set_num_threads(1)
    ghosts = [(RUN, "expert")[i % 2] for i in range(GHOSTS)]
    found: dict[str, list[tuple[float, float]]] = {"one": [], "ghosts": []}
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
                measured = rates(show, window, seed)
                if seed:  # the first round compiles kernels and fills caches
                    found[name].append(measured)
        window.close()
    wall = {name: [measured[0] for measured in values] for name, values in found.items()}
    computing = {name: statistics.median(measured[1] for measured in values) for name, values in found.items()}
    words = {
        name: f"{statistics.median(values):.0f} pictures/s ({min(values):.0f} to {max(values):.0f}; of computing time "
        f"{computing[name]:.0f})"
        for name, values in wall.items()
    }
    publish(
        {"pictures_per_s": wall, "pictures_per_computing_s": computing, "size": SIZE, "display": where},
        f"`watch` in a window of {SIZE[0]}x{SIZE[1]} with panel and view, median of {ROUNDS}",
        f"one car {words['one']}; {GHOSTS} ghosts beside it {words['ghosts']}",
    )


if __name__ == "__main__":
    main()
