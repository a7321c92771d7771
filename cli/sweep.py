"""``drivetrain sweep``: a search for better options, by many short trainings on one or several machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from drivetrain.envs.errors import UserError, nearest
from drivetrain.options import Options, Parsed, Spec, flag, parse, read_config
from drivetrain.output import Result
from drivetrain.progress import say
from drivetrain.rundir import NAME, RUNS, TAKEN, expanded
from drivetrain.stopping import StopRequest
from drivetrain.sweep_space import TUNED, as_choice, as_flags, build_space, dashed, moved_inside
from drivetrain.sweep_study import Study, StudyRecord, optuna_or_hint, read_record, write_record
from drivetrain.wandb_options import tracking

__all__ = ["SweepOptions", "main", "sweep_spec"]

HERE = ("device", "threads")  # options of train that belong to a machine, not to a study
APART = ("seed", "name", *HERE)  # options of train that a study does not hold
MAY_CHANGE = ("trials", "retries", "confirm", "pruner", "prune_after", "prune_from", "sampler")
AS_BEGUN = ("version", "first", "moved")
BESIDE = ("track", "project", "entity", "group", "tags", "checkpoint_every", "video_every")  # change no result
WORDS = {
    "fixed": "setting",
    "env": "environment",
    "algo": "algorithm",
    "seed": "first seed",
    "seeds": "number of seeds",
}
POLL, ROUNDS = 1.0, 5  # s between two looks at the study; looks between two searches for dead workers
INTERRUPTED = 75


class SweepOptions(Options):
    """The sweep"""

    name: str | None = Field(
        None, description="name of the study in runs/, or a path; the same command goes on with it"
    )
    trials: int = Field(40, ge=1, le=100_000, description="parameter sets to try in all, the defaults first")
    workers: int = Field(2, ge=1, le=1_024, description="trials at the same time on this machine")
    seeds: int = Field(2, ge=1, le=100, description="trainings of a trial, from --seed on; their median counts")
    objective: Literal["score", "steps", "seconds", "processor"] = Field(
        "score",
        description="what is searched for: the best validation score, or little of something until --stop-at is "
        "reached: steps, seconds of training, or seconds of processor time of the whole run",
    )
    tune: tuple[str, ...] = Field((), description="options to tune, by name; empty = a set that suits the algorithm")
    range: dict[str, Any] = Field(
        {}, description="where to search: learning-rate=1e-4:1e-2:log,gamma=0.9:0.999,hidden=64x64/256x256"
    )
    space: str | None = Field(
        None, description="TOML or YAML file of such ranges, name = range; --range wins over it; none = no file"
    )
    sampler: Literal["tpe", "random"] = Field("tpe", description="who chooses: Optuna's TPE, or chance")
    pruner: Literal["median", "none"] = Field(
        "median", description="stop a trial whose median over seeds is below that of the complete trials, step by step"
    )
    prune_after: int = Field(5, ge=0, description="complete trials before any is pruned")
    prune_from: int = Field(0, ge=0, description="steps before a trial is pruned")
    retries: int = Field(1, ge=0, le=100, description="times that a trial which was killed or failed is tried again")
    confirm: int = Field(
        3, ge=0, le=1_000, description="fresh seeds on which the best and the defaults run at the end; 0 = none"
    )


class JoinOptions(Options):
    """Options"""

    workers: int = Field(2, ge=1, le=1_024, description="trials at the same time on this machine")
    device: Literal["auto", "cpu", "cuda"] | None = Field(None, description="where to compute; none = auto")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads of a run; none = a share of the cores")


JOIN = Spec(
    JoinOptions, "drivetrain sweep join STUDY", "Work on a study that another command or machine began.", ("study",)
)
WORKER = Spec(JoinOptions, "drivetrain sweep worker STUDY", "One worker; `sweep join` starts these.", ("study",))
REPORT = Spec(Options, "drivetrain sweep report STUDY", "Write the report of a study, finished or not.", ("study",))


def main(argv: list[str]) -> Result:
    """Search for better options."""
    from drivetrain.train import check_use, task_words

    verbs: dict[str, Callable[[list[str]], Result]] = {"join": _join, "report": _report, "worker": _worker}
    if argv and argv[0] in verbs:
        return verbs[argv[0]](argv[1:])
    if argv and argv[0] in ("--help", "-h"):
        print("Begin a study: drivetrain sweep ALGO ENV --name STUDY [options], as below.")
        print(
            "Then: drivetrain sweep join STUDY, on any machine that sees its folder; drivetrain sweep report STUDY.\n"
        )
        argv = ["ppo", "racing", "--help"]
    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        near = nearest(argv[0], verbs) if argv else None
        fix = f"did you mean `drivetrain sweep {near} STUDY`?" if near else None
        fix = fix or "write `drivetrain sweep ppo racing --name STUDY [options]`"
        raise UserError("ALGO ENV come first", got=" ".join(argv[:2]) or "nothing", fix=fix)
    algo, env = task_words(argv)
    parsed = parse(sweep_spec(algo, env), argv[2:])
    check_use(parsed)
    optuna_or_hint()
    path = _study_path(parsed.options.name)
    record = _record(algo, env, parsed)
    tracking(parsed.options)  # what wandb would refuse is refused before a folder is made
    _settle_folder(path, record)
    typed = {name: getattr(parsed.options, name) for name in HERE if parsed.source[name] in ("flag", "file")}
    return _run(path, parsed.options.workers, typed, last=True)


def sweep_spec(algo: str, env: str) -> Spec[Any]:
    """The options of ``sweep ALGO ENV``: those of the sweep, and all of train, which hold for every trial."""
    from drivetrain.train import train_spec

    train = train_spec(algo, env)
    return replace(
        train,
        model=create_model("AllSweepOptions", __base__=(SweepOptions, train.model)),
        usage=f"drivetrain sweep {algo} {env}",
        summary=f"Search for better options of {algo.upper()} on {env} with Optuna. Options of train hold for all "
        f"trials. Tuned are {', '.join(map(dashed, TUNED[algo]))}, or what --tune and --range name. Trials are runs, "
        "STUDY-t007-s0 for trial 7 and seed 0; report and pictures are in runs/STUDY. The same command goes on with a "
        "study that was stopped; `drivetrain sweep join STUDY` works on it too, here or on a machine that sees its "
        "folder; `drivetrain sweep report STUDY` writes the report at any time.",
    )


def _record(algo: str, env: str, parsed: Parsed[Any]) -> StudyRecord:
    """The study that a command line asks for.

    Raises:
        UserError: a space that makes no sense, an objective that cannot be measured.
    """
    from drivetrain import __version__
    from drivetrain.train import RunOptions, train_spec

    options, spec = parsed.options, train_spec(algo, env)
    fixed = _fixed(parsed, spec.model)
    defaults = parse(spec, as_flags(fixed)).options
    infos = {
        name: info
        for name, info in spec.model.model_fields.items()
        if name not in RunOptions.model_fields and not _hidden(info)
    }
    ranges = _ranges(options)
    space = build_space(algo, infos, defaults.model_dump(), options.tune, ranges, fixed)
    if options.objective != "score" and defaults.stop_at is None:
        raise UserError(f"--objective {options.objective} needs a target", fix="add --stop-at SCORE")
    if defaults.eval_every is None and (options.objective == "score" or options.pruner == "median"):
        fix = "leave --eval-every as it is, or give --objective steps --pruner none"
        raise UserError("trials are compared by their validations", got="--eval-every none", fix=fix)
    every = defaults.eval_every or defaults.steps
    first = {name: moved_inside(dimension, getattr(defaults, name)) for name, dimension in space.items()}
    return StudyRecord(
        version=__version__,
        algo=algo,
        env=env,
        fixed=fixed,
        space=space,
        first=first,
        moved=tuple(name for name, value in first.items() if value != as_choice(getattr(defaults, name))),
        grid=tuple(range(every, defaults.steps + 1, every)),
        **{name: getattr(options, name) for name in StudyRecord.model_fields if name in _PLAIN},
    )


_PLAIN = (
    "objective", "seed", "seeds", "trials", "retries", "sampler", "pruner", "prune_after", "prune_from", "confirm",
)  # fmt: skip


def _fixed(parsed: Parsed[Any], train: type[BaseModel]) -> dict[str, Any]:
    """What was typed or in the file of the options of train: it holds for all trials."""
    record = parsed.options.model_dump(mode="json")
    own = SweepOptions.model_fields
    fixed = {
        name: record[name]
        for name, source in parsed.source.items()
        if source in ("flag", "file") and name in train.model_fields and name not in own and name not in APART
    }
    begin = str(fixed.get("init_from") or "x")
    if "trust" in fixed or not NAME.fullmatch(begin) or begin.endswith(".zip"):
        # study.json is read by whoever joins: it must not be able to name a file to be opened
        fix = "copy the run to runs/ and give its name"
        raise UserError("a sweep begins with runs in runs/ only", got=f"--init-from {begin}", fix=fix)
    return fixed


def _hidden(info: Any) -> bool:
    extra = info.json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("hidden"))


def _ranges(options: SweepOptions) -> dict[str, str]:
    """The ranges of the file and of the command line, each as text."""
    given: dict[str, Any] = {}
    if options.space is not None:
        given |= {key.replace("-", "_"): value for key, value in read_config(Path(options.space)).items()}
    given |= {key.replace("-", "_"): value for key, value in options.range.items()}
    return {key: _range_text(key, value) for key, value in given.items()}


def _range_text(name: str, value: object) -> str:
    if isinstance(value, dict):
        unknown = set(value) - {"low", "high", "log"}
        if unknown or not {"low", "high"} <= set(value):
            raise UserError(f"the range of {name} is not understood", got=value, allowed="low, high, log")
        return f"{value['low']}:{value['high']}" + (":log" if value.get("log") else "")
    if isinstance(value, (list, tuple)):
        return "/".join("x".join(map(str, item)) if isinstance(item, (list, tuple)) else _word(item) for item in value)
    return _word(value)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _study_path(name: str | None) -> Path:
    """The folder of a study.

    Raises:
        UserError: no name, or an unsuitable one (code 2).
    """
    if not name:
        raise UserError("the study needs a name", fix="add --name STUDY; the same name goes on with it")
    path = expanded(name) if "/" in name else RUNS / name
    if not NAME.fullmatch(path.name) or path.name in TAKEN:
        allowed = f"letters, digits and . _ + = @ -, none of {', '.join(TAKEN)}"
        raise UserError("unsuitable name of a study", got=name, allowed=allowed)
    return path


def _settle_folder(path: Path, record: StudyRecord) -> None:
    """Make the folder of a new study, or check that an old one is the same.

    Raises:
        UserError: the study has another space, or something else is in its place (code 2).
    """
    if (path / "study.json").is_file():
        old = read_record(path)
        _check_same(path, old, record)
        write_record(path, record.model_copy(update={name: getattr(old, name) for name in AS_BEGUN}))
        return
    if (path / "config.json").is_file():
        raise UserError("a run has this name", got=path, fix="choose another --name")
    if path.exists() and any(path.iterdir()):
        raise UserError("the folder exists and is no study", got=path, fix="choose another --name")
    taken = next(path.parent.glob(f"{path.name}-t[0-9]*-s[0-9]*"), None)
    if taken is not None:
        raise UserError("a trial of an earlier study has this name", got=taken, fix="choose another --name")
    path.mkdir(parents=True, exist_ok=True)
    write_record(path, record)


def _check_same(path: Path, old: StudyRecord, new: StudyRecord) -> None:
    fix = "give the options it was begun with, or choose another --name"
    for key in StudyRecord.model_fields:
        a, b = getattr(old, key), getattr(new, key)
        if key == "fixed":
            a, b = ({k: v for k, v in side.items() if k not in BESIDE} for side in (a, b))
        if key in (*MAY_CHANGE, *AS_BEGUN) or a == b:
            continue
        if isinstance(a, dict):
            names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
            a, b = (", ".join(f"{flag(n)} {side.get(n, 'left out')}" for n in names) for side in (a, b))
        word = WORDS.get(key, key)
        raise UserError(f"the study {path.name} has another {word}", got=str(b), allowed=str(a), fix=fix)


def _join(argv: list[str]) -> Result:
    parsed = parse(JOIN, argv)
    path = _study_path(parsed.words[0])
    read_record(path)
    return _run(path, parsed.options.workers, _machine(parsed.options), last=False)


def _report(argv: list[str]) -> Result:
    from drivetrain.sweep_report import summary, write_report

    path = _study_path(parse(REPORT, argv).words[0])
    study = Study(path, read_record(path))
    write_report(study)
    say(f"written: {path / 'report.md'}")
    return Result(summary(study))


def _worker(argv: list[str]) -> Result:
    from drivetrain.sweep_work import work

    parsed = parse(WORKER, argv)
    path = _study_path(parsed.words[0])
    with StopRequest() as stop:
        work(Study(path, read_record(path)), stop, _machine(parsed.options))
    return Result({"study": path.name, "status": "done"})


def _machine(options: JoinOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in HERE if getattr(options, name) is not None}


def _run(path: Path, workers: int, typed: Mapping[str, Any], last: bool) -> Result:
    """Work on a study until it is finished or stopped; ``last`` = confirm the best at the end."""
    from drivetrain.sweep_confirm import confirm
    from drivetrain.sweep_report import summary, write_report
    from drivetrain.sweep_work import Crew, machine_options
    from drivetrain.tasks import environment

    record = read_record(path)
    environment(record.env)
    study = Study(path, record)
    study.begin()
    here = machine_options(record, typed, workers)
    say(
        f"{path.name}: {record.algo} on {record.env}, {record.trials} trials of {record.seeds} seeds, {workers} workers"
    )
    with StopRequest() as stop:
        stop.on_first = lambda: say("stopping: trials in hand end as interrupted and are queued again")
        crew = Crew(path, workers, here)
        try:
            _watch(study, crew, stop)
        finally:
            crew.dismiss()
        if last and not stop.requested:
            confirm(study, workers, here, lambda: stop.requested)
    write_report(study)
    values = summary(study)
    status = "interrupted" if stop.requested else "done"
    _tell(study, values, status)
    return Result({"status": status, **values}, INTERRUPTED if stop.requested else 0)


def _watch(study: Study, crew: Any, stop: StopRequest) -> None:
    """Say how trials end, and see that dead workers are replaced and their trials repeated."""
    from drivetrain.sweep_report import finished_line

    told = {trial.number for trial in study.trials() if trial.state.is_finished()}
    rounds = 0
    while not stop.requested:
        rounds += 1
        if rounds % ROUNDS == 0:
            study.bury()
        open_ones = False
        for trial in study.trials():
            open_ones = open_ones or not trial.state.is_finished()
            if trial.state.is_finished() and trial.number not in told:
                told.add(trial.number)
                say(finished_line(study, trial))
        if not crew.look(more=open_ones):
            return
        time.sleep(POLL)


def _tell(study: Study, values: Mapping[str, Any], status: str) -> None:
    from drivetrain.sweep_report import verdict

    counts = ", ".join(f"{count} {name}" for name, count in values["trials"].items() if count)
    say(f"{status}: {counts}; everything is in {study.path}")
    check = values["confirmation"]
    if check is not None:
        say(f"on fresh seeds: {verdict(check)}")
    if values["command"]:
        say(f"train with the best: {values['command']}")
    if status == "interrupted":
        say(f"go on: drivetrain sweep join {study.path}")
