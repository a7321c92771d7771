"""``drivetrain train ALGO ENV``: from a command line to a run folder with a trained driver in it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import BaseModel, Field, create_model

from drivetrain.envs.errors import UserError, nearest
from drivetrain.main import split_imports
from drivetrain.options import Parsed, Spec, flag, parse
from drivetrain.output import Result
from drivetrain.rundir import RunDir, check_new_name, create_run, find_run, read_run_config
from drivetrain.stopping import StopRequest
from drivetrain.tasks import environment, task_models
from drivetrain.trackers import Trackers
from drivetrain.wandb_options import TrackOptions, tracking

if TYPE_CHECKING:
    from drivetrain.session import Plan, Session

__all__ = ["RunOptions", "main", "make_plan", "part_of", "task_words", "train_spec", "write_config"]

MODEL = TypeVar("MODEL", bound=BaseModel)

# (option, its values): options that mean something only then
ONLY_WITH: dict[tuple[str, tuple[str, ...]], tuple[str, ...]] = {
    ("obs", ("pixels",)): ("picture", "picture_size", "crop", "frame_stack", "indicators", "domain_randomize"),
    ("obs", ("lidar",)): ("beams", "beam_range"),
    ("obs", ("state", "lidar")): ("hide_motion",),
    ("core", ("gru", "lstm", "transformer")): ("core_size",),
    ("core", ("transformer",)): ("core_layers", "core_heads", "core_context"),
    ("encoder", ("cnn", "resnet")): ("channels",),
}
RETRY_AFTER = 100_000  # steps; training takes longer than a validation in between, so that most time goes to training
RECORDED = ("version", "algo", "env")  # keys of config.json that are no options; --config takes such a file


class RunOptions(TrackOptions):
    """The run"""

    steps: int = Field(20_000_000, ge=1, description="length of the training: decisions, all environments together")
    stop_at: float | None = Field(None, description="end early, once this mean score holds on two sets of 100 episodes")
    seed: int = Field(0, ge=0, le=10**12, description="of weights, environments and exploration")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto = cuda if present")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads; none = one per core")
    name: str | None = Field(None, description="name of the run in runs/, or a path; none = made from the time")
    init_from: str | None = Field(
        None,
        description="run to begin with: its weights, and by default its task and network; or a zip of "
        "Stable-Baselines3, of which the weights alone are taken",
    )
    init_parts: Literal["all", "encoder"] = Field(
        "all",
        description="with --init-from RUN: what is taken: all that acts, which is then held on to, or its encoder "
        "alone, under fresh heads",
    )
    eval_every: int | None = Field(2_000_000, ge=1, description="steps between validations; none = no validation")
    checkpoint_every: int | None = Field(2_000_000, ge=1, description="steps between checkpoints; none = at the end")
    video_every: int | None = Field(
        None, ge=1, description="steps between films of a lap of validation; none = no films"
    )
    backend: Literal["native", "sb3"] = Field(
        "native",
        description="who learns: drivetrain, or Stable-Baselines3's algorithm with our networks and run folders",
    )
    trust: bool = Field(
        False, description="with --init-from FILE.zip: open it as Stable-Baselines3 does, code included"
    )


def main(argv: list[str]) -> Result:
    """Train an agent."""
    if not argv or argv[0] in ("--help", "-h"):
        argv = ["ppo", "racing", "--help"] if argv else []
    algo, env = task_words(argv)
    parsed = parse(train_spec(algo, env), argv[2:])
    _check_record(parsed.extras, algo, env)
    check_use(parsed)
    run_options = part_of(parsed.options, RunOptions)
    typed = parsed.source["name"] == "flag"
    check_new_name(run_options.name, typed)
    tracked = tracking(run_options)
    if run_options.init_from is not None:
        _check_source(parsed, run_options.init_from)
    run = create_run(run_options.name, f"{algo}-{env.replace('/', '-')}-{run_options.seed}", typed)
    # first of all: they load their libraries while this process loads torch
    trackers = Trackers(run.path, tracked).begin()
    with StopRequest() as stop:
        try:
            session = _start(run, trackers, parsed.options, ["train", *argv], stop)
        except BaseException:  # an interrupt too: nothing half-made stays behind
            trackers.abandon()
            run.discard()
            raise
        return session.train(stop)


def train_spec(algo: str, env: str) -> Spec[Any]:
    """The options of ``train ALGO ENV``: the run, the task, and every field of the algorithm's config."""
    from drivetrain.agents.config import PPOConfig
    from drivetrain.agents.dqn_config import DQNConfig
    from drivetrain.agents.presets import reached

    config = DQNConfig if algo == "dqn" else PPOConfig
    model = create_model("TrainOptions", __base__=(RunOptions, *task_models(env), config))
    measured = reached(algo, env)
    return Spec(
        model,
        f"drivetrain train {algo} {env}",
        f"Train an agent with {algo.upper()} on {env}; everything about it goes to a folder below runs/. "
        + (f"The defaults reach {measured}." if measured else "There is no preset for this environment."),
        preset=partial(defaults, algo, env),
        config=True,
        file_extras=RECORDED,
    )


def defaults(algo: str, env: str, asked: Mapping[str, object]) -> dict[str, Any]:
    """The preset, and of a run to begin with its task and network.

    Raises:
        UserError: no such run.
    """
    from drivetrain.agents.presets import inherited, preset

    source = asked.get("init_from")
    if not isinstance(source, str) or source == "none" or source.endswith(".zip"):
        return preset(algo, env, asked)
    given = inherited(algo, env, read_run_config(find_run(source)), asked.get("init_parts") == "encoder")
    return preset(algo, env, given | dict(asked)) | given


def part_of(options: BaseModel, model: type[MODEL]) -> MODEL:
    """The fields of ``model`` out of a flat set of options."""
    return model(**{name: getattr(options, name) for name in model.model_fields})


def make_plan(settings: RunOptions, env: str) -> Plan:
    """When to validate, store and stop."""
    from drivetrain.agents.config import ORIGINAL, RACING
    from drivetrain.agents.worlds import threshold_of
    from drivetrain.session import Plan

    every = (settings.eval_every, settings.checkpoint_every, settings.video_every)
    judge = f" --env {ORIGINAL}" if env == RACING else ""
    threshold = threshold_of(env)
    # where validations are more frequent than that, one of them may as well be for the target
    retry = min(RETRY_AFTER, settings.eval_every or RETRY_AFTER)
    return Plan(settings.steps, settings.stop_at, *every, retry, judge, imports=typed_imports(), threshold=threshold)


def typed_imports() -> str:
    """The ``--import`` flags of this command line, to be repeated in hints."""
    return "".join(f" --import {module}" for module in split_imports(sys.argv[1:])[1])


def write_config(run: RunDir, algo: str, env: str, options: BaseModel) -> None:
    """config.json: every option as resolved, but the run's name, which is that of its folder."""
    from drivetrain import __version__

    recorded = options.model_dump(mode="json", exclude={"name"})
    run.write_json("config.json", {"version": __version__, "algo": algo, "env": env} | recorded)


def task_words(argv: list[str]) -> tuple[str, str]:
    """The algorithm and the environment, both checked."""
    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        got = " ".join(argv[:2]) or "nothing"
        raise UserError("ALGO ENV come first", got=got, fix="write `drivetrain train ppo racing [options]`")
    algo, env = argv[0], argv[1]
    from drivetrain.agents.config import ALGORITHMS

    if algo not in ALGORITHMS:
        near = nearest(algo, ALGORITHMS)
        raise UserError("unknown algorithm", got=algo, allowed=ALGORITHMS, fix=f"did you mean {near or 'ppo'}?")
    return algo, environment(env)


def _check_record(extras: Mapping[str, object], algo: str, env: str) -> None:
    """A config.json given as --config must be of the same algorithm and environment."""
    for key, wanted in (("algo", algo), ("env", env)):
        if extras.get(key, wanted) != wanted:
            raise UserError(f"the config file is for another {key}", got=extras[key], allowed=wanted)


def check_use(parsed: Parsed[Any]) -> None:
    """Refuse options typed in vain."""
    for (chooser, values), names in ONLY_WITH.items():
        chosen = getattr(parsed.options, chooser, None)
        for name in names:
            if chosen is not None and parsed.source.get(name) == "flag" and chosen not in values:
                what = f"{flag(name)} is of no use with {flag(chooser)} {chosen}"
                raise UserError(what, fix=f"leave it out, or take {flag(chooser)} {' or '.join(values)}")
    if parsed.source["trust"] == "flag" and not str(parsed.options.init_from).endswith(".zip"):
        raise UserError("--trust is of no use without --init-from FILE.zip", fix="leave it out")
    if parsed.options.init_parts == "encoder" and str(parsed.options.init_from or "x.zip").endswith(".zip"):
        raise UserError("--init-parts encoder is of use with --init-from RUN alone", fix="leave it out, or name a run")


def _check_source(parsed: Parsed[Any], init_from: str) -> None:
    if parsed.source["trust"] == "file" and parsed.options.trust:
        raise UserError("trust cannot be set in a file", fix="give --trust on the command line")
    if parsed.source["init_from"] == "file" and "/" in init_from:
        fix = "give --init-from on the command line"
        raise UserError("a run named in a file cannot be a path", got=init_from, fix=fix)
    if not init_from.endswith(".zip"):
        find_run(init_from)


def _start(run: RunDir, trackers: Trackers, options: BaseModel, argv: list[str], stop: StopRequest) -> Session:
    """Everything between a valid command line and the first update."""
    from drivetrain.agents.presets import differing
    from drivetrain.device import choose_device, set_threads
    from drivetrain.learner import begin_from, build_learner
    from drivetrain.progress import make_progress
    from drivetrain.provenance import code_record
    from drivetrain.rundir import run_name
    from drivetrain.session import Session

    stop.check()
    algo, env = task_words(argv[1:])
    device = choose_device(part_of(options, RunOptions).device)
    threads = set_threads(part_of(options, RunOptions).threads)
    options = options.model_copy(update={"device": device, "threads": threads})
    write_config(run, algo, env, options)
    run.write_json("code.json", code_record(device, threads, argv))
    learner = build_learner(algo, env, options)
    stop.check()
    settings = part_of(options, RunOptions)
    notes = learner.notes
    if settings.init_from is not None:
        alone = settings.init_parts == "encoder"
        theirs = partial(differing, algo, env, options.model_dump(), encoder_alone=alone)
        notes += begin_from(learner.agent, settings.init_from, settings.trust, theirs, alone)
    plan = make_plan(settings, env)
    progress = make_progress(f"{algo} on {env}, run {run_name(run.path)}, {learner.device_words}", device)
    try:
        for note in notes:
            progress.note(note)
        return Session(learner.agent, run, plan, learner.validate, progress, trackers=trackers)
    except BaseException:  # the terminal must have its cursor back
        progress.close()
        raise
