"""Where a run came from: code.json. No absolute path is in it, so that a run folder can be handed on."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
from importlib import metadata
from pathlib import Path

from drivetrain import __version__

__all__ = ["code_record", "versions"]

PACKAGES = ("torch", "numpy", "gymnasium", "stable-baselines3", "numba", "safetensors", "pydantic")
SOURCE = Path(__file__).resolve().parent.parent


def code_record(device: str, threads: int, argv: list[str]) -> dict[str, object]:
    """Commit, hash of uncommitted changes, versions, device, threads and command."""
    commit, changes = _git_state()
    return {
        "command": command_line(argv),
        "commit": commit,
        "uncommitted": changes,
        "device": device,
        "threads": threads,
        "versions": versions(),
    }


def versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of what it stands on; None where absent."""
    found: dict[str, str | None] = {"python": platform.python_version(), "drivetrain": __version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def command_line(argv: list[str]) -> str:
    """The command as typed; absolute paths become relative to the current folder, or their last part."""
    return " ".join(["drivetrain", *(shlex.quote(_without_root(word)) for word in argv)])


def _without_root(word: str) -> str:
    name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    if not os.path.isabs(value):
        return word
    path = Path(value)
    inside = path.is_relative_to(Path.cwd())
    return f"{name}{equals}{path.relative_to(Path.cwd()) if inside else path.name}"


def _git_state() -> tuple[str | None, str | None]:
    """(commit, SHA-256 of the uncommitted changes or None when clean); (None, None) outside a checkout."""
    if not (SOURCE / ".git").exists():
        return None, None
    commit = _git("rev-parse", "HEAD")
    if commit is None:
        return None, None
    changes = (_git("diff", "HEAD") or b"") + (_git("ls-files", "--others", "--exclude-standard", "*.py") or b"")
    return commit.decode().strip(), hashlib.sha256(changes).hexdigest() if changes.strip() else None


def _git(*arguments: str) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(SOURCE), *arguments],
            capture_output=True,
            timeout=10,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
