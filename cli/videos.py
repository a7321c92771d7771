"""Films of a training: an evaluation episode now and then, drawn by a process beside it.

The trainer only lays down its weights. It never waits for a film before its own end, and whatever happens to one is a
line of warning.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from drivetrain.agents.checkpoint import NonFiniteError, save_checkpoint
from drivetrain.clip import WEIGHTS, film_path
from drivetrain.film import sweep_parts

__all__ = ["Videos"]

NICENESS = 19  # the lowest priority: a film takes what the trainer leaves
PATIENCE = 60.0  # s that the end of a run waits for its last film
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


class Videos:
    """Makes ``videos/step_….mp4`` of a run, one at a time; a film that is due while another is made is left out.

    Args:
        run: the run folder, locked by this process.
        say: told what went wrong.
    """

    def __init__(self, run: Path, say: Callable[[str], None]) -> None:
        self._run, self._say = run, say
        self._process: subprocess.Popen[bytes] | None = None
        self._step = -1  # of the film being made
        self._left_out = 0
        self._sweep()

    @property
    def filming(self) -> bool:
        """Whether a film is being made."""
        self.look()
        return self._process is not None

    @property
    def process_id(self) -> int:
        """Of the process that makes the film, 0 without one."""
        return self._process.pid if self._process is not None else 0

    def film(self, step: int, weights: Mapping[str, Tensor]) -> None:
        """Begin a film of these weights, unless one is being made."""
        if self.filming:
            if not self._left_out:
                self._say(f"no video of step {step:,}: the one of step {self._step:,} is still being made")
            self._left_out += 1
            return
        self._step = step
        try:
            film_path(self._run, step).parent.mkdir(exist_ok=True)
            save_checkpoint(self._run / WEIGHTS, step, weights, {}, {})
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by _reap)
            self._process = subprocess.Popen(
                # -P: a folder called drivetrain where the user stands is not this package
                [sys.executable, "-P", "-m", "drivetrain.clip", str(self._run), str(step), str(NICENESS)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                env=os.environ | ALONE,
                # Ctrl-C is for the trainer; in a session of its own, though, Linux would not heed its low priority
                process_group=0,
            )
        except (OSError, NonFiniteError) as error:
            self._sweep()
            self._say(f"warning: no video of step {step:,}: {error}")

    def look(self) -> None:
        """Take note of a film that is done; never waits."""
        if self._process is not None and self._process.poll() is not None:
            self._reap()

    def close(self, patient: bool) -> None:
        """Let the film being made come to its end if ``patient``, but not for ever; otherwise stop it at once."""
        if self._process is not None:
            try:
                if patient and self._process.poll() is None:
                    self._say(f"finishing the video of step {self._step:,}")
                    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                        self._process.wait(PATIENCE)
            finally:
                if self._process.poll() is None:
                    self._process.kill()
                    self._process.wait()
                    self._say(f"no video of step {self._step:,}: it was stopped")
                    self._forget()
                else:
                    self._reap()
        if self._left_out > 1:
            self._say(f"{self._left_out} videos were left out in all; a larger --video-every leaves time for each")

    def _reap(self) -> None:
        assert self._process is not None
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        if self._process.returncode != 0:
            why = next((line.strip() for line in reversed(said) if line.strip()), f"code {self._process.returncode}")
            self._say(f"warning: no video of step {self._step:,}: {why}")
        self._forget()

    def _forget(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._errors.close()
        self._process = None
        self._sweep()

    def _sweep(self) -> None:
        shutil.rmtree(self._run / WEIGHTS, ignore_errors=True)
        with contextlib.suppress(OSError):
            sweep_parts(self._run / "videos")
