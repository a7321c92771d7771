"""How long this process has lived, start-up of Python included."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["process_seconds"]

_IMPORTED = time.monotonic()


def process_seconds() -> float:
    """Seconds since the process was started; since this module was imported where the system does not tell."""
    try:
        # field 22 counts from the boot of the machine, in clock ticks; field 2 is a name that may hold blanks
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        age = 0.0
    since_import = time.monotonic() - _IMPORTED
    return age if age >= since_import else since_import
