"""``drivetrain resume RUN``: go on from the newest valid checkpoint, exactly as if never stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from drivetrain.envs.errors import UserError
from drivetrain.options import Options, Spec, from_record, parse
from drivetrain.output import Result
from drivetrain.pretrain import SUPERVISED
from drivetrain.rundir import RunDir, open_run, read_run_config, run_name
from drivetrain.stopping import StopRequest
from drivetrain.tasks import check_recorded
from drivetrain.trackers import Trackers
from drivetrain.train import RunOptions, make_plan, part_of, task_words, train_spec, write_config
from drivetrain.wandb_options import TrackOptions, tracking

if TYPE_CHECKING:
    from drivetrain.agents.checkpoint import Checkpoint
    from drivetrain.session import RunState, Session

__all__ = ["main"]


class ResumeOptions(Options):
    """Options"""

    steps: int | None = Field(
        None,
        ge=1,
        description="new length of the whole training, over which schedules are stretched; none = as it was",
    )
    stop_at: float | None = Field(None, description="new score to end at; none = as it was")
    video_every: int | None = Field(None, ge=1, description="steps between films of a validation lap; none = as it was")
    track: Literal["auto", "wandb", "offline", "none"] | None = Field(
        None, description="where the run is tracked from here on; none = as it was"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to compute; auto = as it was")
    threads: int | None = Field(
        None, ge=1, le=4096, description="CPU threads; none = as it was, which repeats the run bit by bit"
    )


SPEC = Spec(
    ResumeOptions,
    "drivetrain resume RUN",
    "Go on from the newest valid checkpoint, exactly as if never stopped.",
    positionals=("run",),
)


def main(argv: list[str]) -> Result:
    """Resume a run."""
    parsed = parse(SPEC, argv)
    run = open_run(parsed.words[0])
    with StopRequest() as stop:
        try:
            session, ended = _start(run, parsed.options)
        except BaseException:
            run.close()
            raise
        return session.leave("reached") if ended else session.train(stop)


def _start(run: RunDir, asked: ResumeOptions) -> tuple[Session, bool]:
    """The session as its checkpoint left it, and whether it had reached its target and nothing more is asked for."""
    from drivetrain.agents.build import load_weights
    from drivetrain.agents.checkpoint import choose_checkpoint, load_trainer
    from drivetrain.device import choose_device, set_threads
    from drivetrain.learner import build_learner
    from drivetrain.progress import make_progress
    from drivetrain.session import RunState, Session

    record = read_run_config(run.path)
    if record.get("algo") == "imitate":
        what = "what a teacher taught is not kept, so that such a run cannot be resumed"
        raise UserError(what, got=run.path, fix="go on from it with `drivetrain train ppo racing --init-from RUN`")
    if record.get("algo") in SUPERVISED:
        what = "a run that learned from examples cannot be resumed"
        again = f"drivetrain pretrain {record['algo']} --config {run.path}/config.json"
        raise UserError(what, got=f"{run_name(run.path)}, {record['algo']}", fix=f"train again: {again}")
    if "steps" not in record and asked.steps is None:  # Python trains as far as it is told to, and records no end
        fix = "give --steps N, the length of the whole training"
        raise UserError("this run was saved from Python, which records no length", got=run.path, fix=fix)
    check_recorded(str(record.get("env")))
    algo, env = task_words([str(record.get("algo")), str(record.get("env"))])
    recorded = from_record(train_spec(algo, env), record, run.path / "config.json")
    options = _renewed(recorded, asked)
    chosen = choose_checkpoint(run.checkpoints, "last", resumable=True)
    shortest = min(chosen.step, part_of(recorded, RunOptions).steps)  # the last update may go beyond the plan
    if asked.steps is not None and asked.steps < shortest:
        got, allowed = f"--steps {asked.steps}", f"{shortest} or more"
        raise UserError("the run is longer than that already", got=got, allowed=allowed)
    trackers = Trackers(run.path, tracking(part_of(options, TrackOptions), asked.track is not None))
    device = choose_device(part_of(options, RunOptions).device)
    threads = set_threads(part_of(options, RunOptions).threads)
    options = options.model_copy(update={"device": device, "threads": threads})
    learner = build_learner(algo, env, options)
    load_weights(learner.agent.policy, chosen.path)
    tensors, values = load_trainer(chosen.path)
    learner.agent.load_trainer_state(tensors, values["agent"])
    state = RunState.from_values(values["run"])
    ended = state.reached and asked.steps is None and asked.stop_at is None
    if state.reached and not ended:  # a target that was reached does not stop the run a second time
        options, state.reached = options.model_copy(update={"stop_at": asked.stop_at}), False
    settings = part_of(options, RunOptions)
    plan = make_plan(settings, env)
    write_config(run, algo, env, options)
    progress = make_progress(f"{algo} on {env}, run {run_name(run.path)}, {learner.device_words}", device)
    try:
        session = Session(learner.agent, run, plan, learner.validate, progress, state, trackers)
        progress.note(_where_from(run, chosen, state, ended))
    except BaseException:  # the terminal must have its cursor back
        progress.close()
        raise
    return session, ended


def _renewed(options: BaseModel, asked: ResumeOptions) -> BaseModel:
    changes: dict[str, Any] = asked.model_dump(exclude_none=True)
    if asked.device == "auto":
        changes.pop("device")
    return options.model_copy(update=changes)


def _where_from(run: RunDir, chosen: Checkpoint, state: RunState, ended: bool) -> str:
    newer = [path.name for path in run.checkpoints.glob("step_*") if path.name > chosen.path.name]
    lines = [f"warning: {name} is damaged and was passed over" for name in sorted(newer)]
    if ended:
        lines.append(f"the target was reached at step {chosen.step:,}; go on with --steps N or --stop-at SCORE")
    else:
        lines.append(f"going on from step {chosen.step:,}, {state.seconds:.0f} s of training so far")
    return "\n".join(lines)
