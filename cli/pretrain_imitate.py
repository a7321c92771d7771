"""``drivetrain pretrain imitate``: learning to drive from a teacher, before or instead of learning from reward."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, create_model

from drivetrain.envs.errors import UserError
from drivetrain.options import Parsed, Spec, flag, parse
from drivetrain.output import Result
from drivetrain.rundir import RunDir, check_new_name, create_run, find_run
from drivetrain.stopping import StopRequest
from drivetrain.trackers import Trackers
from drivetrain.train import ONLY_WITH, RunOptions, defaults, make_plan, part_of, write_config
from drivetrain.wandb_options import tracking

if TYPE_CHECKING:
    from drivetrain.agents.build import AnyPolicy
    from drivetrain.agents.cloning import CloningLearner
    from drivetrain.agents.imitation import ImitationLearner
    from drivetrain.envs.sim import SimConfig
    from drivetrain.session import Session

__all__ = ["imitate_spec", "main"]

ALGO = "imitate"
EXIT_MEMORY = 8
CORES = ("core", ("gru", "lstm", "transformer"))
WITHOUT_RUN = ("expert", "drives")
"""teachers that are no runs"""
SUMMARY = (
    "Teach a student to drive racing: it drives, the teacher says at every step what it would do, and the student "
    "learns that (DAgger). Student and teacher may see different things: a scripted expert that knows the road teaches "
    "a driver that sees only pictures. A teacher of pictures must be one that can be seen through: it must not brake "
    "for what lies beyond the 37 units of road that a picture shows, hence the expert's settings below. The run cannot "
    "be resumed, because its lessons are not kept; reinforcement goes on with it by train --init-from."
)


HIDDEN: dict[str, Any] = {"hidden": True}


class StudentOptions(RunOptions):
    """The run"""

    init_from: str | None = Field(
        None, description="run to begin with: its weights, and by default its task and network"
    )
    init_parts: Literal["all"] = Field("all", description="students take over all there is", json_schema_extra=HIDDEN)
    backend: Literal["native"] = Field("native", description="students learn here", json_schema_extra=HIDDEN)
    trust: bool = Field(False, description="students begin with runs alone", json_schema_extra=HIDDEN)


def main(argv: list[str]) -> Result:
    """Learn from a teacher."""
    parsed = parse(imitate_spec(), argv)
    for key, wanted in (("algo", ALGO), ("env", "racing")):
        if parsed.extras.get(key, wanted) != wanted:
            raise UserError(f"the config file is for another {key}", got=parsed.extras[key], allowed=wanted)
    _check_use(parsed)
    options = part_of(parsed.options, RunOptions)
    typed = parsed.source["name"] == "flag"
    check_new_name(options.name, typed)
    tracked = tracking(options)
    for name in ("init_from", "teacher"):
        _check_source(parsed, name)
    run = create_run(options.name, f"imitate-racing-{options.seed}", typed)
    # first of all: they load their libraries while this process loads torch
    trackers = Trackers(run.path, tracked).begin()
    with StopRequest() as stop:
        try:
            session = _start(run, trackers, parsed.options, ["pretrain", "imitate", *argv], stop)
        except BaseException:  # an interrupt too: nothing half-made stays behind
            trackers.abandon()
            run.discard()
            raise
        return session.train(stop)


def imitate_spec() -> Spec[Any]:
    """The options of ``pretrain imitate``."""
    from drivetrain.agents.imitation_config import ImitateConfig
    from drivetrain.tasks import TaskOptions

    return Spec(
        create_model("ImitateOptions", __base__=(StudentOptions, TaskOptions, ImitateConfig)),
        "drivetrain pretrain imitate",
        SUMMARY,
        preset=partial(defaults, ALGO, "racing"),
        config=True,
        file_extras=("version", "algo", "env"),
    )


def _check_use(parsed: Parsed[Any]) -> None:
    """Refuse options typed in vain."""
    if parsed.options.trust:
        raise UserError("--trust is of no use here: students begin with runs alone", fix="leave it out")
    from drivetrain.agents.imitation_config import EXPERT

    uses = dict(ONLY_WITH)
    uses |= {("teacher", ("expert",)): EXPERT, ("teacher", ("drives",)): ("drives", "held_share")}
    uses[CORES] = (*ONLY_WITH[CORES], "window")
    for (chooser, values), names in uses.items():
        chosen = getattr(parsed.options, chooser)
        for name in names:
            if parsed.source[name] == "flag" and chosen not in values:
                what = f"{flag(name)} is of no use with {flag(chooser)} {chosen}"
                raise UserError(what, fix=f"leave it out, or take {flag(chooser)} {' or '.join(values)}")


def _check_source(parsed: Parsed[Any], name: str) -> None:
    """A run that is named must exist; only a typed name may be a path."""
    who = getattr(parsed.options, name)
    if who in (None, *WITHOUT_RUN):
        return
    if parsed.source[name] == "file" and "/" in who:
        fix = f"give {flag(name)} on the command line"
        raise UserError("a run named in a file cannot be a path", got=who, fix=fix)
    find_run(who)


def _start(run: RunDir, trackers: Trackers, options: BaseModel, argv: list[str], stop: StopRequest) -> Session:
    """Everything between a valid command line and the first round."""
    from drivetrain.agents.checkpoint import choose_checkpoint
    from drivetrain.agents.cloning import build_cloning
    from drivetrain.agents.imitation import build_imitation
    from drivetrain.agents.imitation_config import ImitateConfig
    from drivetrain.agents.worlds import play
    from drivetrain.device import choose_device, describe_device, keep_freed_memory, set_threads
    from drivetrain.policies.summary import describe_policy
    from drivetrain.progress import make_progress
    from drivetrain.provenance import code_record
    from drivetrain.rundir import run_name
    from drivetrain.session import Session

    stop.check()
    settings = part_of(options, RunOptions)
    device, threads = choose_device(settings.device), set_threads(settings.threads)
    options = options.model_copy(update={"device": device, "threads": threads})
    write_config(run, ALGO, "racing", options)
    run.write_json("code.json", code_record(device, threads, argv))
    flat, cfg = options.model_dump(), part_of(options, ImitateConfig)
    keep_freed_memory()
    learner: ImitationLearner | CloningLearner
    if cfg.teacher == "drives":
        learner = build_cloning(cfg, flat, settings.seed, device, settings.steps)
    else:
        _check_memory(flat, device)
        trained = None if cfg.teacher == "expert" else _teacher(cfg.teacher, device)
        learner = build_imitation(cfg, flat, settings.seed, device, settings.steps, trained)
    stop.check()
    if settings.init_from is not None:
        learner.begin_from(choose_checkpoint(find_run(settings.init_from) / "checkpoints").path)

    def validate(first: int, episodes: int) -> Any:
        return play("racing", flat, learner.policy, range(first, first + episodes), device)

    progress = make_progress(f"imitate on racing, run {run_name(run.path)}, {describe_device(device)}", device)
    try:
        progress.note(describe_policy(learner.policy))
        return Session(learner, run, make_plan(settings, "racing"), validate, progress, trackers=trackers)
    except BaseException:  # the terminal must have its cursor back
        progress.close()
        raise


def _teacher(who: str, device: str) -> tuple[AnyPolicy, SimConfig]:
    """A trained driver and its task.

    Raises:
        UserError: it does not drive on racing (2), or has no valid checkpoint (3).
    """
    from pathlib import Path

    from drivetrain.drivers import find_driver
    from drivetrain.learner import load_policy_of

    driver = find_driver(who)
    if driver.env not in ("racing", "CarRacing-v3"):
        raise UserError(f"the teacher {who} does not drive", got=driver.env, allowed=("racing", "CarRacing-v3"))
    return load_policy_of(Path(driver.key), device), driver.sim_config


def _check_memory(flat: dict[str, Any], device: str) -> None:
    """Refuse lessons that would not fit: every picture is kept once.

    Raises:
        UserError: more is needed than is free (code 8).
    """
    import math

    from drivetrain.agents.worlds import spaces_of
    from drivetrain.memory import free_memory

    shape = spaces_of("racing", flat)[0].shape or ()
    each = math.prod(shape) // flat["frame_stack"] if len(shape) == 3 else 4 * shape[0]
    needed, free = flat["steps"] * (each + 40), free_memory(device)
    if free is None or needed <= free:
        return
    raise UserError(
        f"out of memory: the lessons need more than {needed / 2**30:.1f} GiB",
        got=f"{free / 2**30:.1f} GiB free, --steps {flat['steps']}",
        allowed=f"up to about {free // (each + 40):,} steps",
        fix="lower --steps",
        code=EXIT_MEMORY,
    )
