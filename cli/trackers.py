"""Who listens to a run.

metrics.jsonl is the truth; everything else mirrors it in processes of their own, which can never stop, slow or change
a run. The trainer hands them nothing but its end, and waits for them then alone, for a fixed time at most.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

from drivetrain.wandb_options import Tracking

__all__ = ["LocalMirror", "Trackers", "WandbMirror"]

PATIENCE = 20.0  # s the end of a run waits for the local mirror
PATIENCE_ALL = 25.0  # s it waits for all of them together
GRACE = 1.0  # s between asking a process to end and ending it
NICENESS = 10  # of a process that has time
LARGEST_TALK = 65536  # bytes read from a process at a time


class SideProcess:
    """A process beside the training; it ends when its standard input does: with the trainer, however that ended."""

    def __init__(self, module: str, arguments: list[str], talks: bool = False) -> None:
        """Start ``module`` of this package; does not wait for anything. ``talks``: its stdout is for the user."""
        # -P: a folder called drivetrain where the user stands is not this package
        command = [sys.executable, "-P", "-m", f"drivetrain.{module}", *arguments]
        self.process: subprocess.Popen[bytes] | None = None
        self._heard = b""
        with contextlib.suppress(OSError):  # no room for another process: the run goes on, `close` reports it
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE if talks else subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the trainer; a session of its own would set its low priority at naught
            )
            if talks and self.process.stdout is not None:
                os.set_blocking(self.process.stdout.fileno(), False)
                with contextlib.suppress(AttributeError):  # by us, because it would not come to it before it is loaded
                    os.setpriority(os.PRIO_PROCESS, self.process.pid, NICENESS)

    def heard(self) -> list[str]:
        """The lines it has written since the last look; never waits."""
        if self.process is None or self.process.stdout is None:
            return []
        with contextlib.suppress(OSError):  # nothing there yet
            self._heard += os.read(self.process.stdout.fileno(), LARGEST_TALK)
        *lines, self._heard = self._heard.split(b"\n")
        return [line.decode(errors="replace") for line in lines if line]

    def tell(self, word: str) -> None:
        """Write a line to it."""
        if self.process is not None and self.process.stdin is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self.process.stdin.write(word.encode() + b"\n")
                self.process.stdin.flush()

    def end(self, patience: float) -> int | None:
        """Close its input and wait; returns its exit code, or None if it had to be stopped."""
        assert self.process is not None
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            return self.process.wait(max(0.0, patience))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self.stop()
            return None

    def stop(self) -> None:
        """End it at once."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            self.process.kill()
            self.process.wait()


class LocalMirror:
    """TensorBoard files and curve.png, made by a process of its own (see ``drivetrain.mirror``)."""

    def __init__(self, run: Path, after_seq: int = 0, purge_step: int = -1) -> None:
        """Start mirroring the records of ``run`` with ``seq > after_seq``; does not wait for anything."""
        self._side = SideProcess("mirror", [str(run), str(after_seq), str(purge_step)])

    def close(self, patience: float = PATIENCE) -> str | None:
        """Let it catch up, draw and end; returns a warning, or None when all went well."""
        if self._side.process is None:
            return "TensorBoard files and curve.png were not written: no second process could be started"
        code = self._side.end(patience)
        if code is None:
            return f"TensorBoard files and curve.png are incomplete: their process took longer than {patience:.0f} s"
        if code != 0:
            return f"TensorBoard files and curve.png are incomplete: their process ended with code {code}"
        return None

    def abandon(self) -> None:
        """End it at once; the run folder is about to vanish."""
        self._side.stop()


class WandbMirror:
    """The run at wandb, or what `drivetrain runs sync` sends there later (see ``drivetrain.wandb_mirror``)."""

    def __init__(self, run: Path, mode: str) -> None:
        """Start; it begins its work when metrics.jsonl is there."""
        self._run = run
        self._side = SideProcess("wandb_mirror", [str(run), mode, str(os.getpid())], talks=True)

    def look(self) -> list[str]:
        """What it has to say; never waits."""
        return self._side.heard()

    def announce(self, status: str) -> None:
        """Tell it how the run ended, so that it sends the rest while other things are being closed."""
        self._side.tell(status)

    def close(self, patience: float) -> list[str]:
        """Wait until it has sent everything, or gives up; returns lines for the user."""
        if self._side.process is None:
            return ["wandb: no second process could be started; `drivetrain runs sync` sends the run"]
        code = self._side.end(patience)
        lines = self._side.heard()
        if code is None:
            lines.append("wandb: not everything was sent in time; `drivetrain runs sync` sends the rest")
        elif code != 0:
            lines.append(f"wandb: its process ended with code {code}; `drivetrain runs sync` sends the rest")
        return lines

    def abandon(self) -> None:
        """End it at once; the run folder is about to vanish."""
        self._side.stop()


class Trackers:
    """All that listen to one run."""

    def __init__(self, run: Path, tracking: Tracking | None = None) -> None:
        """Nothing starts before ``begin``."""
        self._run, self._tracking = run, tracking or Tracking()
        self._local: LocalMirror | None = None
        self._wandb: WandbMirror | None = None
        self._notes = [self._tracking.note] if self._tracking.note else []

    def begin(self, after_seq: int = 0, purge_step: int = -1) -> Trackers:
        """Start them, unless they were started before; see ``LocalMirror`` for the arguments."""
        if self._local is None:
            self._local = LocalMirror(self._run, after_seq, purge_step)
            if self._tracking.mode != "none":
                self._wandb = WandbMirror(self._run, self._tracking.mode)
        return self

    def look(self) -> list[str]:
        """Lines for the user since the last look; never waits."""
        lines, self._notes = self._notes, []
        return lines + (self._wandb.look() if self._wandb is not None else [])

    def close(self, status: str) -> list[str]:
        """Let them catch up and end, all together for ``PATIENCE_ALL`` seconds at most; returns lines for the user."""
        deadline = time.monotonic() + PATIENCE_ALL
        if self._wandb is not None:
            self._wandb.announce(status)
        lines = self.look()
        warning = self._local.close() if self._local is not None else None
        if warning:
            lines.append(f"warning: {warning}")
        if self._wandb is not None:  # after the local mirror, because curve.png goes to wandb too
            lines += self._wandb.close(deadline - time.monotonic())
        return lines

    def abandon(self) -> None:
        """End them at once; the run folder is about to vanish."""
        for mirror in (self._local, self._wandb):
            if mirror is not None:
                mirror.abandon()
