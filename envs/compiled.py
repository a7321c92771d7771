"""How kernels are compiled, and where the compiled code is kept.

numba notices when the file of a cached kernel changes, but not when another file does whose functions or constants the
kernel has taken in. So the cache is a folder named after a hash of all sources that kernels are made of.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

SOURCES = (
    *("compiled", "kernel", "kernel_bars", "kernel_car", "kernel_lidar", "kernel_picture", "kernel_road"),
    *("indicators", "lidar", "noise", "observe", "paint", "picture", "screen", "spec", "sprite", "track", "view"),
)
_HERE = Path(__file__).resolve().parent
_PREFIX = "kernels-"


def source_hash() -> str:
    """Of everything that a kernel's code depends on."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((_HERE / f"{name}.py").read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Where compiled kernels are kept: below NUMBA_CACHE_DIR, else beside this file, else in the user's cache."""
    name = _PREFIX + source_hash()
    if numba.config.CACHE_DIR:
        return Path(numba.config.CACHE_DIR) / name
    beside = _HERE / "__pycache__"
    try:
        beside.mkdir(exist_ok=True)
        if os.access(beside, os.W_OK):
            if not (beside / name).is_dir():
                for old in beside.glob(_PREFIX + "*"):  # of sources that are no longer there
                    shutil.rmtree(old, ignore_errors=True)
            return beside / name
    except OSError:
        pass
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "drivetrain" / name


def compiled(*, allocates: bool = False, rounds: bool = True) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile with numba, without the interpreter's lock, and keep the result.

    Args:
        rounds: every operation rounds, as in torch; without it a product may be added unrounded, and numbers are taken
            to be finite, which lets whole vectors be worked on at once.
        allocates: the function makes arrays of its own. Others do without numba's reference counts: these are atomic,
            and two threads would fight over them at every access.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(_CACHE)
        try:
            loose = False if rounds else {"contract", "nnan", "ninf", "nsz", "arcp"}
            return numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=allocates, fastmath=loose)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


_CACHE = cache_folder()
