"""``drivetrain export RUN``: the whole decision of a run as a file for other programs."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, parse
from drivetrain.output import Result, dumps

if TYPE_CHECKING:
    from drivetrain.drivers import Driver

__all__ = ["main"]

PACKAGES = ("onnx", "onnxruntime")
EXIT_BUG = 1


class ExportOptions(Options):
    """Options"""

    to: Literal["onnx", "sb3", "minari"] = Field(
        "onnx",
        description="kind of file: onnx, or a zip of Stable-Baselines3; of a folder of recorded drives, a dataset of "
        "Minari",
    )
    out: str | None = Field(
        None, description="the file, such as driver.onnx, or of minari an id such as racing/mine-v0; must be given"
    )
    plain: bool = Field(False, description="of sb3: by its own policy classes; nobody needs drivetrain to open it")
    force: bool = Field(False, description="replace files that are there already")
    checkpoint: str = Field("best", description="of the run: best (by validation), last, or a step")


SPEC = Spec(
    ExportOptions,
    "drivetrain export RUN",
    "Write the decision of a run to a file: observations in, actions out, with its normaliser and its memory of "
    "pictures. FILE.json beside an ONNX graph says what goes in and what comes out; a zip is opened by PPO.load or "
    "DQN.load of Stable-Baselines3.",
    positionals=("run",),
)


def main(argv: list[str]) -> Result:
    """Export a run."""
    parsed = parse(SPEC, argv)
    options = parsed.options
    if options.out is None:
        raise UserError("--out is missing", allowed="--out FILE, such as driver.onnx")
    from drivetrain.drivers import SCRIPTED, find_driver

    if options.to == "minari":
        return export_drives(Path(parsed.words[0]), options.out)
    if parsed.words[0] in SCRIPTED:
        raise UserError("only a run can be exported", got=parsed.words[0], fix="list the runs with `drivetrain runs`")
    if options.plain and options.to != "sb3":
        raise UserError(f"--plain is of no use with --to {options.to}", fix="leave it out, or take --to sb3")
    path = target(options.out)
    driver = find_driver(parsed.words[0], options.checkpoint)
    if options.to == "sb3":
        return export_zip(driver, path, options.plain, options.force)
    return export_onnx(driver, path, options.force)


def export_drives(folder: Path, dataset: str) -> Result:
    """Write recorded drives as a dataset of Minari: what was seen of the state, and the controls, of every frame.

    Raises:
        UserError: no drives, a package is missing, or the dataset is there already (2).
    """
    from drivetrain.agents.drives import drives_in
    from drivetrain.agents.exchange import export_minari
    from drivetrain.envs.sim import SimConfig
    from drivetrain.progress import say

    files = drives_in(folder)
    count = export_minari(files, SimConfig(), dataset)
    say(f"{dataset}: {len(files)} drives, {count:,} frames")
    return Result({"files": [dataset], "max_abs_error": 0.0})


def export_onnx(driver: Driver, path: Path, force: bool) -> Result:
    """Write path and path.json.

    Raises:
        UserError: a file is there already, or a package is missing (2), or the graph is no copy of the network (1).
    """
    files = (path, path.with_name(path.name + ".json"))
    check_free(files, force)
    check_packages(PACKAGES)
    from drivetrain.agents.agent import load_policy
    from drivetrain.policies.export import TOLERANCE, Decision, largest_error, to_onnx
    from drivetrain.sidecar import facts_of, sidecar

    policy = load_policy(driver.record, Path(driver.key))
    facts = facts_of(driver)
    decision = Decision(policy, facts.frame_stack, facts.spaces[1])
    graph = to_onnx(decision)
    error = largest_error(decision, graph)
    if not error <= TOLERANCE:
        what = "the graph does not decide as the network does"
        raise UserError(what, got=f"{error:.2g}", allowed=f"a difference up to {TOLERANCE:g}", code=EXIT_BUG)
    words = dumps(sidecar(driver, facts, decision.ports(), error), indent=2) + "\n"
    write_whole(dict(zip(files, (graph, words.encode()), strict=True)))
    return _done(driver, files, error)


def export_zip(driver: Driver, path: Path, plain: bool, force: bool) -> Result:
    """Write a zip of Stable-Baselines3; where its spaces have room for those of the environment, it holds these.

    Raises:
        UserError: the file is there already, or Stable-Baselines3 cannot express the network (2).
    """
    check_free((path,), force)
    from drivetrain.agents.agent import load_policy
    from drivetrain.agents.build import make_config
    from drivetrain.agents.sb3_zip import export_sb3, fitting_spaces
    from drivetrain.agents.worlds import spaces_of
    from drivetrain.progress import say
    from drivetrain.sidecar import facts_of

    config = make_config(str(driver.record.get("algo", "ppo")), driver.record)
    spaces = fitting_spaces(facts_of(driver).spaces, spaces_of(driver.env, driver.record))
    made = export_sb3(load_policy(driver.record, Path(driver.key)), config, spaces, plain)
    write_whole({path: made.content})
    say("\n".join([f"{path}: {len(made.content) / 1e3:.1f} kB", *(f"note: {note}" for note in made.notes)]))
    say(f"{driver.title}: without exploration its actions differ by {made.max_abs_error:.1e} at most")
    return Result({"files": [str(path)], "max_abs_error": made.max_abs_error})


def _done(driver: Driver, files: tuple[Path, ...], error: float) -> Result:
    from drivetrain.progress import say

    for path in files:
        say(f"{path}: {path.stat().st_size / 1e3:.1f} kB")
    say(f"{driver.title}: run by onnxruntime, its outputs differ by {error:.1e} at most")
    return Result({"files": [str(path) for path in files], "max_abs_error": error})


def target(out: str) -> Path:
    """The file behind --out.

    Raises:
        UserError: no file can be there.
    """
    from drivetrain.rundir import expanded

    if not out or "\0" in out:
        raise UserError("unsuitable name for a file", got=repr(out), fix="choose another --out")
    path = expanded(out)
    try:
        taken, there = path.is_dir(), path.parent.is_dir()
    except OSError as error:  # a name too long
        raise UserError("unsuitable name for a file", got=error.strerror, fix="choose another --out") from error
    if taken:
        raise UserError(f"{path} is a folder", fix="name a file in it, such as " + str(path / "driver.onnx"))
    if not there:
        raise UserError(f"the folder {path.parent} does not exist", got=out, fix=f"run: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"the folder {path.parent} cannot be written", got=out, fix="choose another --out")
    return path


def check_free(files: tuple[Path, ...], force: bool) -> None:
    """Refuse to write over files, unless forced.

    Raises:
        UserError: one is there.
    """
    taken = [path for path in files if path.exists()]
    if taken and not force:
        raise UserError(f"{taken[0]} exists", fix="choose another --out, or replace it with --force")


def check_packages(names: tuple[str, ...]) -> None:
    """Refuse to begin without packages.

    Raises:
        UserError: one is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        fix = f"run: pip install {' '.join(names)}"
        raise UserError("this export needs packages that are not installed", got=" ".join(missing), fix=fix)


def write_whole(contents: dict[Path, bytes]) -> None:
    """Write files aside and give them their names only when all are whole."""
    parts = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in contents}
    try:
        for path, content in contents.items():
            with open(parts[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
