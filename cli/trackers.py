"""Who listens to a run.

metrics.jsonl is the truth; everything else mirrors it and can never stop, slow or change a run.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

__all__ = ["LocalMirror"]

PATIENCE = 20.0  # s the end of a run waits for its mirror


class LocalMirror:
    """TensorBoard files and curve.png, made by a process of its own (see ``drivetrain.mirror``)."""

    def __init__(self, run: Path, after_seq: int = 0, purge_step: int = -1) -> None:
        """Start mirroring the records of ``run`` with ``seq > after_seq``; does not wait for anything."""
        # -P: a folder called drivetrain where the user stands is not this package
        command = [sys.executable, "-P", "-m", "drivetrain.mirror", str(run), str(after_seq), str(purge_step)]
        self._process: subprocess.Popen[bytes] | None = None
        with contextlib.suppress(OSError):  # no room for another process: the run goes on, `close` reports it
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the trainer; a session of its own would set its low priority at naught
            )

    def close(self) -> str | None:
        """Let it catch up, draw and end; returns a warning, or None when all went well."""
        if self._process is None:
            return "TensorBoard files and curve.png were not written: no second process could be started"
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"TensorBoard files and curve.png are incomplete: their process took longer than {PATIENCE:.0f} s"
        if code != 0:
            return f"TensorBoard files and curve.png are incomplete: their process ended with code {code}"
        return None

    def abandon(self) -> None:
        """End it at once; the run folder is about to vanish."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
