"""Trials of a sweep: medians at equal steps, pruning, deaths, retries, several workers on one study.

Trials are played by a small program in place of `drivetrain train`: it writes the scores it is told.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from drivetrain.envs.errors import UserError
from drivetrain.stopping import StopRequest
from drivetrain.sweep_confirm import confirm
from drivetrain.sweep_report import (
    best_of,
    confirmation,
    difference,
    importances,
    ranking,
    summary,
    tally,
    write_report,
)
from drivetrain.sweep_space import Dimension
from drivetrain.sweep_study import WAIT, Outcome, Study, StudyRecord, Worker, read_record, write_record
from drivetrain.sweep_trial import launch, score_at
from drivetrain.sweep_work import arguments_of, options_text, work

ACTOR = """
import json, os, signal, sys, time
def word(name): return sys.argv[sys.argv.index(name) + 1]
run, seed, rate = word("--name"), word("--seed"), float(word("--learning-rate"))
here = os.path.dirname(os.path.abspath(__file__))
part = json.load(open(os.path.join(here, "parts.json")))
mine = next((part[key] for key in (f"{rate}:{seed}", f"{rate}", "all") if key in part), {})
os.makedirs(run)
open(os.path.join(run, "config.json"), "w").write("{}")
open(os.path.join(run, "pid"), "w").write(str(os.getpid()))
def stop(*_): sys.exit(75)
signal.signal(signal.SIGTERM, stop)
scores = mine.get("scores", [[100, 1.0]])
with open(os.path.join(run, "metrics.jsonl"), "w") as file:
    for step, score in scores:
        file.write(json.dumps({"step": step, "eval/mean": score}) + "\\n"); file.flush()
        time.sleep(mine.get("pause", 0))
time.sleep(mine.get("linger", 0))
if mine.get("code"):
    print("error: " + mine.get("error", "no"), flush=True); sys.exit(mine["code"])
result = {"status": mine.get("status", "done"), "steps": scores[-1][0], "seconds": 1.5, "score": scores[-1][1]}
open(os.path.join(run, "result.json"), "w").write(json.dumps(result))
"""
RATE = Dimension(kind="float", low=0.001, high=1.0, log=True)


class Stage:
    """A study whose runs are played."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "runs" / "s"
        self.path.mkdir(parents=True)
        (folder / "actor.py").write_text(ACTOR)
        self.parts({})
        self.start = partial(launch, program=(sys.executable, "-S", str(folder / "actor.py")))

    def parts(self, parts: dict[str, Any]) -> None:
        """What runs do, by "rate:seed", "rate" or "all"."""
        (self.folder / "parts.json").write_text(json.dumps(parts))

    def study(self, **changes: object) -> Study:
        record = StudyRecord(
            version="0", algo="ppo", env="CartPole-v1", fixed={}, objective="score", seed=0, seeds=1,
            space={"learning_rate": RATE}, first={"learning_rate": 0.01}, grid=(100, 200, 300), trials=3, retries=1,
            sampler="random", pruner="median", prune_after=1, prune_from=0, confirm=0,
        )  # fmt: skip
        record = record.model_copy(update=changes)
        write_record(self.path, record)
        study = Study(self.path, record)
        study.begin()
        return study

    def work(self, study: Study) -> None:
        with StopRequest() as stop:
            work(study, stop, {}, self.start)

    def hire(self, behind_a_shell: bool = False) -> subprocess.Popen[bytes]:
        """A worker in a process of its own, or the shell that waits for it."""
        code = (
            "import sys\nfrom functools import partial\nfrom pathlib import Path\n"
            "from drivetrain.stopping import StopRequest\nfrom drivetrain.sweep_study import Study, read_record\n"
            "from drivetrain.sweep_trial import launch\nfrom drivetrain.sweep_work import work\n"
            "path = Path(sys.argv[1])\nstart = partial(launch, program=(sys.executable, '-S', sys.argv[2]))\n"
            "with StopRequest() as stop:\n    work(Study(path, read_record(path)), stop, {}, start)\n"
        )
        command = [sys.executable, "-c", code, str(self.path), str(self.folder / "actor.py")]
        return subprocess.Popen(["sh", "-c", '"$@" & wait', "sh", *command] if behind_a_shell else command)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def wait_for(what: Callable[[], object], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.trials()]


def rates(study: Study) -> list[float]:
    return [trial.params["learning_rate"] for trial in study.trials()]


# ---- medians at equal steps ----------------------------------------------------------------------------------------


@pytest.mark.golden
def test_the_score_at_a_step_is_that_of_the_first_validation_there_or_later() -> None:
    validations = [(104, 3.0), (190, 7.0), (208, 4.0)]
    assert score_at(validations, 100, ended=False) == 3.0
    assert score_at(validations, 200, ended=False) == 4.0, "the one at 190 came before the step"
    assert score_at(validations, 300, ended=False) is None
    assert score_at(validations, 300, ended=True) == 4.0, "who has ended keeps his last score"


@pytest.mark.golden
def test_a_trial_is_pruned_by_the_median_over_its_seeds_at_equal_steps(stage: Stage) -> None:
    # Defaults, three seeds: medians 10, 20, 30 at steps 100, 200, 300.
    # Second trial: at 104 scores 12, 11, 500, median 12 > 10: goes on. At 200 and 230: 13, 19, 500, median 19 < 20:
    # pruned at 200, though its mean of 177 is far above 20.
    stage.parts(
        {
            "0.01:0": {"scores": [[100, 9], [200, 19], [300, 29]]},
            "0.01:1": {"scores": [[100, 10], [200, 20], [300, 30]]},
            "0.01:2": {"scores": [[100, 11], [200, 21], [300, 31]]},
            "0.5:0": {"scores": [[104, 12], [200, 13]], "linger": 60},
            "0.5:1": {"scores": [[104, 11], [230, 19]], "linger": 60},
            "0.5:2": {"scores": [[104, 500], [200, 500]], "linger": 60},
        }
    )
    study = stage.study(seeds=3, trials=2)
    study.optuna.enqueue_trial({"learning_rate": 0.5})
    stage.work(study)
    first, second = study.trials()
    assert (first.state.name, first.value) == ("COMPLETE", 30.0)
    assert first.intermediate_values == {100: 10.0, 200: 20.0, 300: 30.0}
    assert second.state.name == "PRUNED"
    assert second.intermediate_values == {100: 12.0, 200: 19.0}
    assert second.user_attrs["reason"] == "behind the median at 200 steps"


@pytest.mark.golden
def test_steps_to_the_target_are_a_median_and_who_arrived_stays_at_his_score(stage: Stage) -> None:
    # Defaults: reached at 120 and 200 steps, median 160. At 100: 50 and 60; at 200 and 300: 91 (arrived) and 90.
    # The second trial has 70 at 100, 80 at 200, where the first has 90.5: pruned, since less is reported as minus.
    stage.parts(
        {
            "0.01:0": {"scores": [[100, 50], [120, 91]], "status": "reached"},
            "0.01:1": {"scores": [[100, 60], [200, 90]], "status": "reached"},
            "0.5": {"scores": [[100, 70], [200, 80]], "linger": 60},
        }
    )
    study = stage.study(objective="steps", seeds=2, trials=2, fixed={"stop_at": 90.0})
    study.optuna.enqueue_trial({"learning_rate": 0.5})
    stage.work(study)
    first, second = study.trials()
    assert first.value == 160.0
    assert first.intermediate_values == {100: -55.0, 200: -90.5, 300: -90.5}
    assert second.user_attrs["reason"] == "behind the median at 200 steps"


def test_a_target_that_half_of_the_seeds_miss_prunes_the_trial(stage: Stage) -> None:
    stage.parts({"0.01:0": {"status": "reached"}, "0.01:1": {"status": "done"}})
    study = stage.study(objective="steps", seeds=2, trials=1, fixed={"stop_at": 90.0})
    stage.work(study)
    (trial,) = study.trials()
    assert (trial.state.name, trial.user_attrs["reason"]) == ("PRUNED", "half of the seeds did not reach 90")
    assert trial.user_attrs["each"] == [100.0, None]


def test_the_objective_score_is_the_best_validation_of_each_seed(stage: Stage) -> None:
    stage.parts({"all": {"scores": [[100, 1.0], [200, 8.0], [300, 5.0]]}})
    study = stage.study(trials=1)
    stage.work(study)
    assert study.trials()[0].value == 8.0


# ---- deaths --------------------------------------------------------------------------------------------------------


def test_a_worker_killed_in_the_middle_of_a_trial_costs_nothing_but_time(stage: Stage) -> None:
    stage.parts({"0.01": {"linger": 60}})
    study = stage.study()
    worker = stage.hire()
    run = stage.path.with_name("s-t000-s0")
    wait_for(lambda: (run / "pid").is_file() and (run / "pid").read_text())
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    pid = int((run / "pid").read_text())
    if sys.platform == "linux":
        wait_for(lambda: not alive(pid))  # no run goes on without its worker
    stage.parts({})
    stage.work(study)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    dead, again = study.trials()[:2]
    assert dead.user_attrs["reason"] == "its worker was killed"
    assert again.user_attrs["after"] == 0
    assert again.params == dead.params
    assert tally(study) == {"complete": 3, "pruned": 0, "failed": 0, "running": 0, "waiting": 0, "repeated": 1}
    assert not any((stage.path / "workers").iterdir())


def test_a_run_that_is_killed_ends_its_trial_which_is_tried_again(stage: Stage) -> None:
    stage.parts({"0.01:0": {"linger": 60}, "0.01:1": {"linger": 60}})
    study = stage.study(trials=1, seeds=2)
    worker = stage.hire()
    pids = [stage.path.with_name(f"s-t000-s{seed}") / "pid" for seed in (0, 1)]
    wait_for(lambda: all(pid.is_file() and pid.read_text() for pid in pids))
    stage.parts({})
    os.kill(int(pids[1].read_text()), signal.SIGKILL)
    assert worker.wait(30) == 0
    first, second = study.trials()
    assert first.user_attrs["reason"] == "s-t000-s1 was killed by signal 9"
    assert not alive(int(pids[0].read_text())), "the other seed is of no use any more"
    assert second.state.name == "COMPLETE"


def test_a_kill_between_the_begin_of_a_trial_and_its_name_is_noticed(stage: Stage) -> None:
    study = stage.study(trials=1)
    study.optuna.ask(study._distributions())
    study.bury()
    assert states(study) == ["FAIL", "WAITING"]
    study.bury()
    assert states(study) == ["FAIL", "WAITING"], "once is enough"


def test_a_kill_between_queueing_again_and_closing_queues_once(stage: Stage) -> None:
    study = stage.study(trials=1)
    trial = study.claim("nobody.1.1")
    study.optuna.enqueue_trial(dict(trial.params), user_attrs={"after": trial.number, "tries": 2})
    study.bury()
    assert states(study) == ["FAIL", "WAITING"]


def test_the_dead_of_other_machines_are_known_by_their_silence(stage: Stage) -> None:
    study = stage.study(trials=1)
    lock = stage.path / "workers" / "elsewhere.7.1" / "lock"
    lock.parent.mkdir()
    lock.touch()
    study.claim("elsewhere.7.1")
    study.bury()
    assert states(study) == ["RUNNING"], "it gave a sign of life just now"
    os.utime(lock, (time.time() - 1000, time.time() - 1000))
    study.bury()
    assert states(study) == ["FAIL", "WAITING"]


def test_a_trial_given_up_as_dead_cannot_be_settled_by_who_did_it(stage: Stage) -> None:
    study = stage.study(trials=1)
    trial = study.claim("nobody.1.1")
    study.bury()
    assert not study.settle(trial.number, Outcome("complete", 5.0))
    assert states(study) == ["FAIL", "WAITING"]


def test_a_diverged_trial_is_tried_again_on_other_seeds_and_no_more_than_asked(stage: Stage) -> None:
    stage.parts({"0.01": {"code": 4}})
    study = stage.study(trials=1, seeds=2, retries=2)
    stage.work(study)
    assert states(study) == ["FAIL", "FAIL", "FAIL"]
    assert [study.seeds_of(trial) for trial in study.trials()] == [[0, 1], [2, 3], [4, 5]]
    assert all(trial.user_attrs["reason"].endswith(": diverged") for trial in study.trials())
    assert tally(study)["failed"] == 1, "three tries of one trial"


def test_out_of_memory_is_tried_again_on_the_same_seeds(stage: Stage) -> None:
    stage.parts({"0.01": {"code": 8}})
    study = stage.study(trials=1)
    stage.work(study)
    assert [study.seeds_of(trial) for trial in study.trials()] == [[0], [0]]
    assert study.trials()[0].user_attrs["reason"] == "s-t000-s0: out of memory"


def test_defaults_that_cannot_be_trained_end_the_sweep_with_their_complaint(stage: Stage) -> None:
    stage.parts({"0.01": {"code": 2, "error": "no such thing"}})
    study = stage.study()
    with pytest.raises(UserError, match="the defaults cannot be trained; got s-t000-s0: no such thing"):
        stage.work(study)
    assert states(study) == ["FAIL"]


def test_values_that_do_not_go_together_fail_without_a_run(stage: Stage) -> None:
    space = {"learning_rate": RATE, "num_minibatches": Dimension(kind="choice", choices=(2, 3))}
    study = stage.study(space=space, first={"learning_rate": 0.01, "num_minibatches": 2}, trials=2)
    study.optuna.enqueue_trial({"learning_rate": 0.5, "num_minibatches": 3})
    stage.work(study)
    assert states(study) == ["COMPLETE", "FAIL"]
    assert "num_minibatches=3 must divide" in study.trials()[1].user_attrs["reason"]


# ---- stop and go on ------------------------------------------------------------------------------------------------


def test_a_sweep_stopped_by_hand_goes_on_where_it_was(stage: Stage) -> None:
    stage.parts({"0.01": {"linger": 60}})
    study = stage.study(retries=0)
    worker = stage.hire()
    run = stage.path.with_name("s-t000-s0")
    wait_for(lambda: (run / "pid").is_file() and (run / "pid").read_text())
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert states(study) == ["FAIL", "WAITING"], "no retry is used up by a stop"
    assert study.trials()[0].user_attrs["reason"] == "stopped by hand"
    stage.parts({})
    stage.work(Study(stage.path, read_record(stage.path)))
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    stage.work(study)
    assert len(study.trials()) == 4, "a finished study has nothing to do"
    stage.work(stage.study(retries=0, trials=5))
    assert tally(study)["complete"] == 5, "--trials is the total"


def test_a_worker_stops_when_the_command_that_hired_it_is_gone(stage: Stage) -> None:
    stage.parts({"0.01": {"linger": 60}})
    study = stage.study()
    hirer = stage.hire(behind_a_shell=True)
    run = stage.path.with_name("s-t000-s0")
    wait_for(lambda: (run / "pid").is_file() and (run / "pid").read_text())
    hirer.send_signal(signal.SIGKILL)
    hirer.wait()
    wait_for(lambda: states(study) == ["FAIL", "WAITING"])
    assert not alive(int((run / "pid").read_text()))
    wait_for(lambda: not any((stage.path / "workers").iterdir()))


def test_two_workers_share_one_study(stage: Stage) -> None:
    stage.parts({"all": {"linger": 0.4}})
    study = stage.study(trials=6)
    workers = [stage.hire(), stage.hire()]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert tally(study)["complete"] == 6
    assert len({trial.user_attrs["worker"] for trial in study.trials()}) == 2
    assert len(set(rates(study))) == 6, "no two workers draw the same"
    assert len(list(stage.path.parent.glob("s-t*"))) == 6


def test_a_worker_waits_for_a_trial_that_may_have_to_be_repeated(stage: Stage) -> None:
    study = stage.study(trials=1)
    worker = Worker(stage.path)
    trial = study.claim(worker.name)
    assert study.claim("another") == WAIT
    study.settle(trial.number, Outcome("complete", 1.0))
    assert study.claim("another") is None
    worker.leave()


def test_what_is_drawn_depends_on_the_study_alone(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        stage = Stage(tmp_path / name)
        study = stage.study(trials=4, sampler="tpe")
        stage.work(study)
        drawn.append(rates(study))
    assert drawn[0] == drawn[1]


def test_a_journal_cut_short_by_a_power_failure_can_be_read(stage: Stage) -> None:
    study = stage.study(trials=1)
    stage.work(study)
    journal = stage.path / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    again = Study(stage.path, study.record)
    assert journal.read_bytes().startswith(whole + b'{"op_code":0,'), "the next line begins at a line's begin"
    assert states(again) == ["COMPLETE"]


# ---- what comes of it ----------------------------------------------------------------------------------------------


def test_the_command_of_a_run_names_the_trial_the_seed_and_what_is_held(stage: Stage) -> None:
    study = stage.study(fixed={"steps": 5000, "track": "none"})
    words = arguments_of(study, {"learning_rate": 0.02}, 3, study.run_path("t001-s3"), {"threads": 1})
    assert words[:3] == ["train", "ppo", "CartPole-v1"]
    pairs = dict(zip(words[3::2], words[4::2], strict=True))
    expected = {"--steps": "5000", "--track": "none", "--learning-rate": "0.02", "--threads": "1", "--seed": "3"}
    assert pairs.items() >= {**expected, "--name": str(stage.path.with_name("s-t001-s3"))}.items()
    assert pairs["--group"] == "s", "wandb shows all runs of a study together"
    typed = options_text(study, {"learning_rate": 0.02})
    assert typed == "drivetrain train ppo CartPole-v1 --steps 5000 --learning-rate 0.02"


@pytest.mark.golden
def test_a_gain_is_certain_only_where_the_resampled_medians_part() -> None:
    # every median of the first is 10, of the second 12: the difference is -2 without doubt
    assert difference([10.0] * 5, [12.0] * 5) == (-2.0, -2.0)
    assert difference([10.0] * 2, [12.0] * 2) == (-math.inf, math.inf), "two seeds prove nothing"
    # what was not reached counts as 10 x 10
    assert difference([10.0] * 3, [math.inf] * 3) == (10.0 - 100.0, 10.0 - 100.0)
    low, high = difference([9.0, 10.0, 11.0, 30.0], [9.5, 10.5, 11.5, 12.0])
    assert low < 0 < high


@pytest.mark.golden
def test_a_report_says_by_how_much_the_best_beats_the_defaults(stage: Stage) -> None:
    stage.parts({"0.01": {"scores": [[100, 40.0]]}, "all": {"scores": [[100, 50.0]]}})
    study = stage.study(trials=3)
    stage.work(study)
    assert best_of(study).number == 1, "the first of equals"
    # 60, 70, 80 against 50, 75, 60: medians 70 and 60, better on two of three; of resamples the medians lie anywhere
    # in 60 to 80 and 50 to 75, so that the gain lies between 60 - 75 and 80 - 50
    fresh = {
        str(10_000 + k): {"trial": 1, "best": {"value": a}, "default": {"value": b}}
        for k, (a, b) in enumerate([(60, 50), (70, 75), (80, 60)])
    }
    (stage.path / "confirm.json").write_text(json.dumps(fresh))
    check = confirmation(study)
    assert (check["median_best"], check["median_default"], check["wins"]) == (70.0, 60.0, 2)
    assert (check["gain_low"], check["gain_high"], check["verdict"]) == (-15.0, 30.0, "even")
    write_report(study)
    text = (stage.path / "report.md").read_text()
    assert "cannot be told from the defaults, so keep those: medians 70.0 and 60.0, better on 2 of 3 seeds" in text
    assert ", gain -15.0 to 30.0 (95 %)" in text
    assert "Trial 1 is the best with 50.0; the defaults have 40.0." in text
    assert (stage.path / "history.png").is_file()
    assert (stage.path / "slices.png").is_file()
    values = summary(study)
    assert values["value"] == 50.0
    assert values["command"] in text


def test_a_confirmation_of_another_trial_counts_for_nothing(stage: Stage) -> None:
    stage.parts({"0.01": {"scores": [[100, 40.0]]}})
    study = stage.study(trials=2)
    stage.work(study)
    old = {"10000": {"trial": 7, "best": {"value": 60}, "default": {"value": 50}}}
    (stage.path / "confirm.json").write_text(json.dumps(old))
    assert confirmation(study) is None


def test_a_run_of_a_confirmation_that_failed_is_tried_again(stage: Stage) -> None:
    stage.parts({"0.01": {"scores": [[100, 40.0]]}, "all": {"scores": [[100, 50.0]]}})
    study = stage.study(trials=3, confirm=2)
    stage.work(study)
    ok = {"code": 0, "value": 50}
    fresh = {str(10_000 + k): {"trial": 1, "best": ok, "default": ok} for k in range(study.record.confirm)}
    fresh["10000"] = {"trial": 1, "best": {"code": 5, "value": None}, "default": ok}
    (stage.path / "confirm.json").write_text(json.dumps(fresh))
    started: list[list[str]] = []

    def start(words: list[str], log: Path) -> Any:
        started.append(words)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        confirm(study, 1, {}, lambda: False, start)
    assert len(started) == 1
    assert started[0][started[0].index("--seed") + 1] == "10000"


def test_defaults_that_nothing_beats_are_confirmed(stage: Stage) -> None:
    stage.parts({"0.01": {"scores": [[100, 99.0]]}})
    study = stage.study(trials=3)
    stage.work(study)
    write_report(study)
    text = (stage.path / "report.md").read_text()
    assert "No trial beats the defaults: they are confirmed." in text
    assert "\ndrivetrain train ppo CartPole-v1\n" in text, "the command is that of the defaults"


@pytest.mark.golden
def test_importance_goes_to_the_option_that_decides_and_pruned_trials_stand_last(stage: Stage) -> None:
    # 24 trials, better with the learning rate, every other one pruned; gamma runs through its range three times.
    space = {"learning_rate": RATE, "gamma": Dimension(kind="float", low=0.9, high=1.0)}
    study = stage.study(space=space, first={"learning_rate": 0.01, "gamma": 0.95}, trials=24)
    worker = Worker(stage.path)
    for k in range(24):
        if k:
            study.optuna.enqueue_trial({"learning_rate": 0.001 * 1.3**k, "gamma": 0.9 + 0.1 * (k % 8) / 8})
        trial = study.claim(worker.name)
        trial.report(float(k), step=100)
        good = Outcome("complete", float(k)) if k % 2 else Outcome("pruned")
        study.settle(trial.number, good)
    worker.leave()
    assert [trial.number for trial in ranking(study)] == [*range(23, 0, -2), *range(22, -1, -2)]
    shares = importances(study)
    assert shares["learning_rate"] > 0.6
    assert sum(shares.values()) == pytest.approx(1.0)


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        if Path("/proc/self").exists():
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
