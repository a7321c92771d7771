"""The options of experiment tracking, and what they come to on this machine: off, offline or online.

wandb is not imported here: what it would refuse is refused before anything is written, and at no cost.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options
from drivetrain.wandb_key import has_key, login_hint

__all__ = ["TrackOptions", "Tracking", "project_of", "tracking"]

FORBIDDEN = "/\\#?%:"  # in the name of a project
LONGEST_PROJECT, LONGEST_TAG, LONGEST_NAME = 128, 64, 128  # characters
PROJECT = "drivetrain"


class TrackOptions(Options):
    """Tracking"""

    track: Literal["auto", "wandb", "offline", "none"] = Field(
        "auto",
        description="wandb beside the local files: auto = online if there is a key and the server answers; wandb = "
        "online; offline = into the run folder, for `drivetrain runs sync`; none = local files only",
    )
    project: str | None = Field(None, description="project at wandb; none = WANDB_PROJECT, else drivetrain")
    entity: str | None = Field(None, description="user or team at wandb; none = WANDB_ENTITY, else yours")
    group: str | None = Field(None, description="group of the run at wandb; none = WANDB_RUN_GROUP, else no group")
    tags: tuple[str, ...] = Field((), description="tags of the run at wandb, separated by commas")


@dataclass(frozen=True)
class Tracking:
    """What tracking comes to."""

    mode: Literal["none", "offline", "auto", "online"] = "none"  # auto: online if the server answers
    note: str = ""  # one line for the user


def tracking(options: TrackOptions, typed: bool = True) -> Tracking:
    """Check the options and decide; imports nothing, writes nothing and asks no server.

    ``typed`` is False where the options come from a run that goes on: a key that is gone must not keep it from that.

    Raises:
        UserError: no key, a name that wandb refuses, or wandb is not installed (code 2).
    """
    if options.track == "none":
        return Tracking()
    _check_names(options)
    asked = options.track
    wish = os.environ.get("WANDB_MODE", "")  # wandb's own switch holds where nothing was asked for
    if asked == "auto" and wish in ("disabled", "offline", "dryrun"):
        return Tracking() if wish == "disabled" else Tracking("offline")
    if importlib.util.find_spec("wandb") is None:
        if asked == "auto":
            return Tracking(note="wandb: not installed, the run stays local")
        raise UserError("wandb is not installed", got=f"--track {asked}", fix="python -m pip install wandb")
    if asked == "offline":
        return Tracking("offline")
    if has_key():
        return Tracking("auto" if asked == "auto" else "online")
    if asked == "auto":
        return Tracking(note=f"wandb: no key, the run stays local; {login_hint()}, or take --track offline")
    if not typed:
        return Tracking("offline", "wandb: no key any more, the run is kept offline")
    fix = f"{login_hint()}, or take --track offline and send the run later with `drivetrain runs sync`"
    raise UserError("--track wandb needs a key", got="none for this server", fix=fix)


def project_of(project: str | None) -> str:
    """The project a run goes to."""
    return project or os.environ.get("WANDB_PROJECT") or PROJECT


def _check_names(options: TrackOptions) -> None:
    project = project_of(options.project)
    where = "--project" if options.project is not None else "WANDB_PROJECT"
    if options.project == "" or len(project) > LONGEST_PROJECT or set(project) & set(FORBIDDEN):
        allowed = f"1 to {LONGEST_PROJECT} characters, none of {' '.join(FORBIDDEN)}"
        raise UserError(f"{where}: wandb refuses this name", got=project or "nothing", allowed=allowed)
    if project != project.strip() or not project.isprintable():
        raise UserError(f"{where}: wandb refuses this name", got=repr(project), allowed="no blanks at either end")
    for name in ("entity", "group"):
        value = getattr(options, name)
        if value is not None and (not value.strip() or len(value) > LONGEST_NAME or not value.isprintable()):
            raise UserError(f"--{name}: wandb refuses this name", got=repr(value)[:60], allowed="1 to 128 characters")
    if options.entity is not None and set(options.entity) & set(FORBIDDEN + " "):
        raise UserError("--entity: no user or team has such a name", got=options.entity, allowed="letters, digits, - _")
    for tag in options.tags:
        if not 1 <= len(tag) <= LONGEST_TAG:
            raise UserError("--tags: wandb refuses this tag", got=tag[:80], allowed=f"1 to {LONGEST_TAG} characters")
