"""One trainer per run folder: a lock that dies with its process."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType

from drivetrain.envs.errors import UserError

try:
    import fcntl
except ImportError:  # no flock on this system: the lock file only says who is there
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunLock", "holder"]

NAME = "lock"
EXIT_LOCKED = 7


class RunLock:
    """Holds ``FOLDER/lock`` from construction to ``release``.

    The kernel drops the lock when the process dies, however it dies, so nobody has to clean up. ``flock`` is unreliable
    on some network file systems; the file names the holder so that a person can judge.

    Raises:
        UserError: another living process holds it (code 7).
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        tries = 5
        while True:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if fcntl is not None:
                    fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                tries -= 1
                if tries:  # `holder` may be asking this very moment
                    os.close(self._handle)
                    time.sleep(0.02)
                    continue
                who = _read(self._handle) or "another process"
                os.close(self._handle)
                fix = "wait for it, stop it, or train under another --name"
                raise UserError(f"the run {folder} is in use", got=who, fix=fix, code=EXIT_LOCKED) from None
            if self._is_current():
                break
            os.close(self._handle)  # the former holder removed the file between our open and our lock
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._handle), os.stat(self.path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Remove the lock file and let go; safe to call twice."""
        if self._handle < 0:
            return
        self.path.unlink(missing_ok=True)  # while still held, so that nobody locks a file that is about to vanish
        os.close(self._handle)
        self._handle = -1

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(folder: Path) -> str | None:
    """Who trains in this folder right now, or None. Asks without taking the lock for longer than the question."""
    try:
        handle = os.open(folder / NAME, os.O_RDONLY)
    except OSError:
        return None
    try:
        if fcntl is None:
            return _read(handle)
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return _read(handle) or "another process"
    finally:
        os.close(handle)
    return None


def _read(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace").strip()
