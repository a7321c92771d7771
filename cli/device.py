"""Where the numbers are crunched: the device and the number of CPU threads, chosen once, here."""

from __future__ import annotations

import os
from pathlib import Path

from drivetrain.envs.errors import UserError

__all__ = ["available_cores", "choose_device", "describe_device", "set_threads"]


def choose_device(name: str) -> str:
    """``auto`` is cuda where there is one, else cpu.

    Raises:
        UserError: cuda was asked for and is not there (code 2).
    """
    import torch

    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    if name == "cuda" and not there:
        built = torch.version.cuda is not None
        why = "no CUDA device is visible" if built else "this torch was built without CUDA"
        raise UserError("--device cuda is not available", got=why, fix="use --device cpu, or see `drivetrain doctor`")
    return name


def describe_device(device: str) -> str:
    """The device in words: ``cpu, 2 threads`` or the name of the GPU."""
    import torch

    if device.startswith("cuda"):
        return f"cuda, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads != 1 else ''}"


def set_threads(threads: int | None) -> int:
    """Use this many CPU threads in torch (and numba where it is loaded); None = one per core we may use.

    Sums are added up in another order with another number of threads, so a run notes the number and resuming restores
    it.
    """
    import sys

    import torch

    wanted = available_cores() if threads is None else threads
    torch.set_num_threads(wanted)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(min(wanted, numba.config.NUMBA_NUM_THREADS))
    return wanted


def available_cores() -> int:
    """Cores this process may use: the affinity mask, capped by the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no quota, or another kind of system
        pass
    return max(1, cores)
