"""Where the numbers are crunched: the device and the number of CPU threads, chosen once, here."""

from __future__ import annotations

import contextlib
import ctypes

from drivetrain.agents.cores import available_cores

__all__ = ["choose_device", "describe_device", "keep_freed_memory", "set_threads"]


def choose_device(name: str) -> str:
    """``auto`` is cuda where there is one, else cpu.

    Raises:
        UserError: cuda was asked for and is not there (code 2).
    """
    from drivetrain.agents.agent import pick_device

    return pick_device(name)


def describe_device(device: str) -> str:
    """The device in words: ``cpu, 2 threads`` or the name of the GPU."""
    import torch

    if device.startswith("cuda"):
        return f"cuda, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads != 1 else ''}"


def set_threads(threads: int | None) -> int:
    """Use this many CPU threads, in torch and in the simulator's kernels; None = one per core we may use.

    Sums are added up in another order with another number of threads, so a run notes the number and resuming restores
    it.
    """
    import torch

    wanted = available_cores() if threads is None else threads
    torch.set_num_threads(wanted)
    return wanted


def keep_freed_memory() -> None:
    """Have malloc keep what is freed.

    It hands large blocks back to the system at once and is given others full of zeros the next time, page by page. A
    network that reads a thousand pictures together spent half of its time so.
    """
    trim_threshold, mmap_max, never = -1, -4, (1 << 31) - 1
    with contextlib.suppress(OSError, AttributeError, TypeError):  # the settings are glibc's
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, never)
