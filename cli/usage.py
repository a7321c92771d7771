"""What a run takes of the machine: processor time, memory, and of a GPU its load and memory."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["DeviceUse"]

GIB = 2**30


class DeviceUse:
    """Asks the system, never the GPU's queue; what it does not tell is left out.

    Args:
        device: "cpu" or "cuda…".
    """

    def __init__(self, device: str = "cpu") -> None:
        self._cuda = device.startswith("cuda")
        self._asked = (time.monotonic(), _processor_seconds())
        self._load: float | None = None
        self._gpu_load_known = self._cuda

    def words(self) -> str:
        """``CPU 187 %, 1.2 GiB`` and on a GPU ``; GPU 93 %, 3.4 of 79.2 GiB``."""
        parts = []
        load = self._processor_load()
        if load is not None:
            parts.append(f"CPU {100 * load:.0f} %")
        resident = _resident_bytes()
        if resident is not None:
            parts.append(f"{resident / GIB:.1f} GiB")
        words = ", ".join(parts)
        return f"{words}; {self._gpu()}" if self._cuda else words

    def _processor_load(self) -> float | None:
        """Cores in use on average since the last question, at least a fifth of a second ago."""
        now, used = time.monotonic(), _processor_seconds()
        began, before = self._asked
        if now - began >= 0.2:
            self._load = (used - before) / (now - began)
            self._asked = (now, used)
        return self._load

    def _gpu(self) -> str:
        import torch

        try:
            free, total = torch.cuda.mem_get_info()
        except RuntimeError:  # whatever is wrong there, it is for the training to find out
            return "GPU"
        words = f"{(total - free) / GIB:.1f} of {total / GIB:.1f} GiB"
        if self._gpu_load_known:
            try:
                return f"GPU {torch.cuda.utilization()} %, {words}"
            except Exception:  # its driver library is not there
                self._gpu_load_known = False
        return f"GPU {words}"


def _processor_seconds() -> float:
    times: Any = os.times()
    return float(times.user + times.system)


def _resident_bytes() -> int | None:
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None
