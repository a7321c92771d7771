"""``drivetrain doctor``: is this machine ready, and which line mends what is not."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import Field

from drivetrain.agents.cores import available_cores
from drivetrain.device import describe_device
from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, console
from drivetrain.provenance import versions
from drivetrain.wandb_key import base_url, has_key, login_hint

__all__ = ["main"]

# import name: (what to install, what for, whether training works without it)
NEEDED = {
    "torch": ("torch>=2.10", "everything", False),
    "numpy": ("numpy", "everything", False),
    "gymnasium": ("gymnasium>=1.4", "environments", False),
    "pydantic": ("pydantic>=2.10", "options", False),
    "safetensors": ("safetensors", "checkpoints", False),
    "numba": ("numba", "the fast simulator on CPUs", False),
    "Box2D": ("gymnasium[box2d]", "scores in the original CarRacing-v3", True),
    "pygame": ("pygame-ce", "watch and record", True),
    "av": ("av", "mp4 files", True),
    "matplotlib": ("matplotlib", "curve.png", True),
    "tensorboard": ("tensorboard>=2.21", "TensorBoard files", True),
    "rich": ("rich", "tables and the live display", False),
    "yaml": ("pyyaml", "YAML config files", True),
    "stable_baselines3": ("stable-baselines3>=2.9", "--backend sb3 and zips of Stable-Baselines3", True),
    "wandb": ("wandb>=0.31,<0.33", "--track wandb and offline", True),
    "optuna": ("optuna>=5", "sweep", True),
    "sklearn": ("scikit-learn", "the digits of pretrain classify", True),
    "minari": ("minari[hdf5]>=0.5.3", "drives from and to Minari", True),
    "onnx": ("onnx>=1.18", "export --to onnx", True),
    "onnxruntime": ("onnxruntime>=1.20", "export --to onnx, which checks its graph", True),
}


class DoctorOptions(Options):
    """Options"""

    warm: bool = Field(False, description="compile the simulator's kernels now, so that the first training starts fast")


SPEC = Spec(
    DoctorOptions, "drivetrain doctor", "Versions, device, what is compiled, what is missing and how to get it."
)


def main(argv: list[str]) -> Result:
    """Look at the machine; exit code 0 unless training cannot work here (2)."""
    options = parse(SPEC, argv).options
    problems, fatal = _missing()
    problems += _both_pygames() + _unwritable()
    report: dict[str, Any] = {"versions": versions() | {"pygame-ce": _version("pygame-ce"), "av": _version("av")}}
    report["device"] = _device() if not fatal else None
    report["cores"] = available_cores()
    if options.warm and not fatal:
        report["warm_seconds"] = _warm()
    report["compiled"] = _compiled()
    report["wandb"] = {"server": base_url(), "key": has_key()}
    report["problems"] = problems
    if fatal:
        what = UserError("training cannot work here", got=problems[0].partition(": ")[0], fix="see the problems listed")
        print(f"error: {what}", file=sys.stderr, flush=True)
    _print(report)
    return Result(report, 2 if fatal else 0)


def _missing() -> tuple[list[str], bool]:
    """What cannot be imported, and whether training needs it."""
    lines, fatal = [], False
    for module, (package, purpose, optional) in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            lines.append(f"{module} is missing (needed for {purpose}): {_install(package)}")
            fatal = fatal or not optional
    return lines, fatal


def _both_pygames() -> list[str]:
    # both own the import name `pygame`; pip installs one over the other without a word
    if _version("pygame") and _version("pygame-ce"):
        mend = f"{_pip()} uninstall -y pygame pygame-ce && {_install('pygame-ce')}"
        return [f"pygame and pygame-ce are both installed and overwrite each other: {mend}"]
    return []


def _unwritable() -> list[str]:
    runs = Path("runs")
    place = runs if runs.is_dir() else Path()
    if os.access(place, os.W_OK):
        return []
    return [f"{place.resolve()} cannot be written: train elsewhere, or give --name PATH"]


def _device() -> str:
    import torch

    return describe_device("cuda" if torch.cuda.is_available() else "cpu")


def _warm() -> float:
    """Compile what the simulator compiles; returns seconds."""
    from drivetrain.envs import kernel

    began = time.monotonic()
    kernel.warm()
    return round(time.monotonic() - began, 2)


def _compiled() -> dict[str, Any]:
    """Which kernels lie compiled on disk for this version of their sources, and where."""
    try:
        from drivetrain.envs.compiled import cache_folder
    except ImportError:  # no numba
        return {"kernels": 0, "folder": None}
    folder = cache_folder()
    return {"kernels": len(list(folder.rglob("kernel.*.nbc"))), "folder": str(folder)}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _pip() -> str:
    return f"{sys.executable} -m pip"


def _install(package: str) -> str:
    return f'{_pip()} install "{package}"'


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, version in report["versions"].items():
        table.add_row(name, version or "absent")
    table.add_row("device", report["device"] or "unknown")
    table.add_row("cores", str(report["cores"]))
    compiled = report["compiled"]
    state = f"{compiled['kernels']} on disk" if compiled["kernels"] else "none yet: run `drivetrain doctor --warm` once"
    table.add_row("compiled kernels", state)
    wandb = report["wandb"]
    table.add_row("wandb", f"{wandb['server']}, {'a key is there' if wandb['key'] else f'no key: {login_hint()}'}")
    console().print(table)
    for problem in report["problems"]:
        print(f"problem: {problem}")
    if not report["problems"]:
        print("no problems found")
