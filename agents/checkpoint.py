"""Checkpoints: immutable directories that survive a kill at any moment and are never trusted unread.

    checkpoints/step_000001000000/
        model.safetensors      the weights, no time, name or path inside: equal weights are equal bytes
        trainer.safetensors    what resuming needs beside them: optimiser, simulator, generators
        trainer.json           the same for plain values; integers above 2^53 are strings
        manifest.json          written last: format, step, versions, score, size and SHA-256 of each file

A checkpoint is written under a temporary name, every file and the folder are synced, and one rename makes it visible.
Nothing is ever overwritten. Loading checks size and hash before a byte is parsed, and no format here can hold code.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..envs.errors import UserError

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "NonFiniteError",
    "choose_checkpoint",
    "load_model",
    "load_trainer",
    "prune_checkpoints",
    "read_checkpoint",
    "save_checkpoint",
    "surplus_checkpoints",
    "sweep_debris",
    "valid_checkpoints",
]

FORMAT = 1
MODEL, TRAINER, VALUES, MANIFEST = "model.safetensors", "trainer.safetensors", "trainer.json", "manifest.json"
NAME = re.compile(r"step_(\d{12})")
TEMPORARY = ".tmp_"  # prefix of what may be swept
DAMAGED = ".damaged_"  # prefix of checkpoints moved out of the way
LARGEST_JSON = 16 * 2**20  # bytes; a manifest or trainer.json beyond this is not ours
EXIT_NO_CHECKPOINT = 3


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or of an unknown format (exit code 3)."""

    def __init__(self, what: str, *, got: object = None, fix: str | None = None) -> None:
        super().__init__(what, got=got, fix=fix, code=EXIT_NO_CHECKPOINT)


class NonFiniteError(ArithmeticError):
    """Something that is not a number was about to be stored."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint whose files matched its manifest."""

    path: Path
    step: int  # steps of all agents together when it was made
    score: float | None  # mean return of its validation, None without one
    info: Mapping[str, Any]  # what the writer noted: frames, seconds, seq …
    resumable: bool  # False where only the model is kept (shipped drivers)


def save_checkpoint(
    folder: Path,
    step: int,
    model: Mapping[str, Tensor],
    trainer: Mapping[str, Tensor],
    values: Mapping[str, Any],
    info: Mapping[str, Any] | None = None,
    score: float | None = None,
) -> Path:
    """Write one checkpoint; it is there completely or not at all.

    Args:
        folder: the ``checkpoints`` folder of a run, made when absent.
        step: steps so far; names the directory.
        model: the policy's state dict; enough to drive.
        trainer: tensors that resuming needs.
        values: JSON-able values that resuming needs.
        info: JSON-able notes kept in the manifest.
        score: mean return of the validation of these weights.

    Raises:
        FileExistsError: a valid checkpoint of this step is there already.
        NonFiniteError: a tensor or value is not finite; nothing was written.
        OSError: storage failed; nothing half-made stays behind.
    """
    _refuse_non_finite(model)
    _refuse_non_finite(trainer)
    if score is not None and not math.isfinite(score):
        raise NonFiniteError(f"the score is {score}")
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step_{step:012d}"
    if final.exists():
        if is_valid(final, resumable=True):
            raise FileExistsError(17, "a valid checkpoint of this step exists", str(final))
        _move_aside(final)
    parts = {MODEL: _tensor_bytes(model), TRAINER: _tensor_bytes(trainer), VALUES: _json_bytes(values)}
    manifest = {
        "format": FORMAT,
        "step": step,
        "score": score,
        "info": dict(info or {}),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
        "files": {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in parts.items()},
    }
    temporary = folder / f"{TEMPORARY}step_{step:012d}_{os.getpid()}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        for name, data in parts.items():
            _write_synced(temporary / name, data)
        _write_synced(temporary / MANIFEST, _json_bytes(manifest))  # last: a manifest vouches for what lies beside it
        _sync_folder(temporary)
        os.rename(temporary, final)  # fails rather than overwrites: `final` is a non-empty directory
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(folder)
    return final


def valid_checkpoints(folder: Path, resumable: bool = False) -> list[Checkpoint]:
    """The checkpoints of a run whose files match their manifests, newest first.

    Args:
        folder: the ``checkpoints`` folder of a run.
        resumable: only those that hold the trainer's state too.
    """
    if not folder.is_dir():
        return []
    found = []
    for path in sorted((p for p in folder.iterdir() if NAME.fullmatch(p.name)), reverse=True):
        try:
            checkpoint = read_checkpoint(path)
        except (CheckpointError, OSError):
            continue
        if checkpoint.resumable or not resumable:
            found.append(checkpoint)
    return found


def choose_checkpoint(folder: Path, which: str = "best", resumable: bool = False) -> Checkpoint:
    """Pick a checkpoint: ``best`` by validation score (else the newest), ``last``, or a step as text.

    Raises:
        CheckpointError: no valid checkpoint, or none of that step.
        UserError: ``which`` is neither of these.
    """
    if which not in ("best", "last") and not which.isdigit():
        raise UserError("unknown checkpoint", got=which, allowed="best, last, or a step such as 2000000")
    found = valid_checkpoints(folder, resumable)
    if not found:
        unusable = len(_named(folder))
        state = f"{unusable} damaged or incomplete" if unusable else "none"
        raise CheckpointError(f"no valid checkpoint in {folder}", got=state, fix="train again under another --name")
    if which == "last":
        return found[0]
    if which == "best":
        scored = [checkpoint for checkpoint in found if checkpoint.score is not None]
        return max(scored, key=lambda c: (c.score, c.step)) if scored else found[0]
    for checkpoint in found:
        if checkpoint.step == int(which):
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in found)
    raise CheckpointError(f"no valid checkpoint of step {which} in {folder}", got=which, fix=f"there are: {steps}")


def load_model(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, on the CPU; size and hash are checked first.

    Raises:
        CheckpointError: missing or damaged.
    """
    return _load_tensors(checkpoint, MODEL)


def load_trainer(checkpoint: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_checkpoint`` was given as ``trainer`` and ``values``; integers above 2^53 come back as text.

    Raises:
        CheckpointError: missing or damaged.
    """
    values = _parse_json(_read_checked(checkpoint, VALUES), checkpoint / VALUES)
    return _load_tensors(checkpoint, TRAINER), values


def read_checkpoint(path: Path) -> Checkpoint:
    """Check a checkpoint against its manifest: sizes and hashes of all its files.

    Raises:
        CheckpointError: missing, damaged, or of a newer format.
    """
    manifest = _manifest(path)
    resumable = True
    for name in manifest["files"]:
        if name != MODEL and not (path / name).exists():
            resumable = False  # a shipped driver: model and manifest suffice
            continue
        _read_checked(path, name)
    score = manifest.get("score")
    return Checkpoint(path, manifest["step"], score, manifest.get("info", {}), resumable)


def is_valid(path: Path, resumable: bool = False) -> bool:
    """Whether ``read_checkpoint`` accepts this folder."""
    try:
        return read_checkpoint(path).resumable or not resumable
    except (CheckpointError, OSError):
        return False


def surplus_checkpoints(folder: Path, keep: int = 2) -> list[Path]:
    """All but the newest ``keep`` and the best; none unless the newest one verifies."""
    found = valid_checkpoints(folder)
    newest_name = max((path.name for path in _named(folder)), default=None)
    if not found or found[0].path.name != newest_name:
        return []
    spared = {checkpoint.path for checkpoint in found[: max(keep, 1)]} | {choose_checkpoint(folder).path}
    return [checkpoint.path for checkpoint in found if checkpoint.path not in spared]


def prune_checkpoints(folder: Path, keep: int = 2) -> list[Path]:
    """Remove the ``surplus_checkpoints``; returns them."""
    removed = surplus_checkpoints(folder, keep)
    for path in removed:
        # renamed first: a kill in the middle of deleting leaves debris, not a damaged checkpoint
        doomed = folder / f"{TEMPORARY}old_{path.name}_{os.getpid()}"
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    return removed


def sweep_debris(folder: Path) -> int:
    """Remove what killed writers left; returns how many. Only the holder of the run's lock may call it."""
    debris = [path for path in folder.iterdir() if path.name.startswith(TEMPORARY)] if folder.is_dir() else []
    for path in debris:
        shutil.rmtree(path, ignore_errors=True)
    return len(debris)


def _named(folder: Path) -> Sequence[Path]:
    return [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []


def _manifest(path: Path) -> dict[str, Any]:
    manifest = _parse_json(_read_limited(path / MANIFEST), path / MANIFEST)
    if manifest.get("format") != FORMAT:
        fix = "update drivetrain, or choose another checkpoint"
        raise CheckpointError(f"{path} has an unknown format", got=manifest.get("format"), fix=fix)
    files, step, score = manifest.get("files"), manifest.get("step"), manifest.get("score")
    named = NAME.fullmatch(path.name)
    sound = (
        isinstance(files, dict)
        and MODEL in files
        and set(files) <= {MODEL, TRAINER, VALUES}
        and all(isinstance(entry, dict) for entry in files.values())
        and type(step) is int
        and (named is None or int(named[1]) == step)
        and (score is None or (isinstance(score, (int, float)) and math.isfinite(score)))
        and isinstance(manifest.get("info", {}), dict)
    )
    if not sound:
        raise CheckpointError(f"the manifest of {path} is damaged")
    return manifest


def _read_checked(checkpoint: Path, name: str) -> bytes:
    """A file of a checkpoint, once its size and hash were found to be those of the manifest."""
    entry = _manifest(checkpoint)["files"].get(name)
    path = checkpoint / name
    if entry is None:
        raise CheckpointError(f"{checkpoint} holds no {name}")
    try:
        size = path.stat().st_size
        if size != entry.get("bytes"):  # before reading: a damaged size must not cost memory
            raise CheckpointError(f"{path} is damaged", got=f"{size} bytes instead of {entry.get('bytes')}")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}", got=error.strerror) from None
    if _sha256(data) != entry.get("sha256"):
        raise CheckpointError(f"{path} is damaged", got="another SHA-256 than its manifest")
    return data


def _read_limited(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST_JSON:
            raise CheckpointError(f"{path} is damaged", got=f"{size} bytes")
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}", got=error.strerror) from None


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is damaged", got="no JSON object")
    return values


def _load_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(_read_checked(checkpoint, name))
    except (SafetensorError, KeyError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{checkpoint / name} is damaged", got=error) from None


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    # clones: safetensors refuses tensors that share memory; sorted: equal weights must be equal bytes
    return save({name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)})


def _json_bytes(values: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(_jsonable(values), indent=1, sort_keys=True, allow_nan=False).encode()
    except ValueError as error:
        raise NonFiniteError(str(error)) from None


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
        return str(value)
    return value


def _refuse_non_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFiniteError(f"{name} is not finite")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_synced(path: Path, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable; without it a rename can be lost with the power."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move_aside(path: Path) -> None:
    number = 0
    while (target := path.with_name(f"{DAMAGED}{path.name}_{number}")).exists():
        number += 1
    os.rename(path, target)
