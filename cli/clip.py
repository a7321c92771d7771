"""The process beside a training that films one episode of it: ``python -m drivetrain.clip RUN STEP NICENESS``.

It drives a validation track in the simulator with the weights that were laid down for it, at low priority and with one
thread, and ends when its standard input does: with the trainer, however that ended.
"""

from __future__ import annotations

import _thread
import os
import shutil
import sys
import threading
import time
from pathlib import Path

__all__ = ["WEIGHTS", "film_path", "main"]

WEIGHTS = ".filming"  # in a run folder: checkpoints that are here only until they are loaded
SIZE, FPS = (640, 480), 25  # half of the frames: a film costs the trainer half as much
GRACE, TRIES = 3.0, 5  # s that an interrupted film has to clean up, and interrupts in that time


def film_path(run: Path, step: int) -> Path:
    """The film of a step."""
    return run / "videos" / f"step_{step:012d}.mp4"


def main(argv: list[str]) -> int:
    """Film ``RUN`` at ``STEP``, with a priority lower by ``NICENESS`` than the trainer's."""
    run, step = Path(argv[0]), int(argv[1])
    if hasattr(os, "nice"):
        os.nice(int(argv[2]))
    threading.Thread(target=_end_with_stdin, daemon=True).start()

    import torch

    from drivetrain.drivers import trained_driver
    from drivetrain.envs.errors import UserError
    from drivetrain.film import Film
    from drivetrain.record import Cut, film_episode, stage
    from drivetrain.rundir import read_run_config
    from drivetrain.session import FIRST_VALIDATION_SEED

    torch.set_num_threads(1)
    weights = run / WEIGHTS / f"step_{step:012d}"
    driver = trained_driver(run.resolve().name, weights, read_run_config(run), step)
    out = film_path(run, step)
    try:
        scenes, montage = stage([driver], driver.env, SIZE, out.suffix, False)
        shutil.rmtree(weights)
        with Film(out, montage.size, FPS, threads=1) as film:
            film_episode(film, montage, scenes, FIRST_VALIDATION_SEED, Cut())
    except UserError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


def _end_with_stdin() -> None:
    while os.read(0, 4096):
        pass
    for _ in range(TRIES):  # an interrupt that strikes inside a callback of a library is lost
        _thread.interrupt_main()
        time.sleep(GRACE / TRIES)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
