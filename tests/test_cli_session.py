"""A run from its first update to its end, with a learner whose every number is scripted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from drivetrain import session as session_module
from drivetrain import trackers
from drivetrain.agents.checkpoint import load_trainer, valid_checkpoints
from drivetrain.agents.evaluate import Scores
from drivetrain.envs.errors import UserError
from drivetrain.journal import read_metrics
from drivetrain.output import Failure, Result
from drivetrain.rundir import create_run
from drivetrain.session import FIRST_VALIDATION_SEED, Plan, RunState, Session
from drivetrain.stopping import StopRequest

BASE = FIRST_VALIDATION_SEED


class NoMirror:
    def close(self) -> None:
        return None


class Silence:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def show(self, snapshot: Any) -> None:
        assert snapshot.step <= snapshot.total

    def note(self, text: str) -> None:
        self.notes.append(text)

    ring = note

    def close(self) -> None: ...


class Scripted:
    """Ten steps an update; update k reports returns[k] (the last one for ever)."""

    def __init__(self, returns: list[float]) -> None:
        self.policy = torch.nn.Linear(1, 1)
        self.returns, self.updates = returns, 0
        self.loss = 0.5

    steps = property(lambda self: 10 * self.updates)
    frames = property(lambda self: 20 * self.updates)

    class env:
        @staticmethod
        def close() -> None:
            pass

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        while self.steps < total_steps:
            self.on_update()
            return_ = self.returns[min(self.updates, len(self.returns) - 1)]
            self.updates += 1
            yield {"train/return": return_, "train/episodes": 100.0, "loss/policy": self.loss}

    def on_update(self) -> None: ...

    def trainer_state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"t": torch.ones(1)}, {"updates": self.updates}


class Judge:
    """Hands out scores in order (the last one for ever) and remembers which tracks were asked for."""

    def __init__(self, *means: float) -> None:
        self.means, self.asked = list(means), []

    def __call__(self, first: int, episodes: int) -> Scores:
        self.asked.append((first, episodes))
        mean = self.means.pop(0) if len(self.means) > 1 else self.means[0]
        seeds = tuple(range(first, first + episodes))
        return Scores(seeds, (mean,) * episodes, (500,) * episodes, 0.0)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "LocalMirror", lambda *_: NoMirror())


def begin(agent: Scripted, judge: Judge, plan: Plan) -> Session:
    return Session(agent, create_run("r", "x"), plan, judge, Silence())


def play(session: Session) -> Result:
    with StopRequest() as stop:
        return session.train(stop)


def records() -> list[dict[str, Any]]:
    return read_metrics(Path("runs/r/metrics.jsonl"))


def kept() -> list[tuple[int, float | None]]:
    return [(c.step, c.score) for c in reversed(valid_checkpoints(Path("runs/r/checkpoints")))]


def test_the_last_line_names_the_commands_that_one_wants_next() -> None:
    session = begin(Scripted([1.0]), Judge(0), Plan(30, judge=" --env CarRacing-v3", imports=" --import mine"))
    play(session)
    assert isinstance(session.progress, Silence)
    assert session.progress.notes[-1] == (
        "next: drivetrain watch runs/r --import mine, drivetrain evaluate runs/r --env CarRacing-v3 --import mine, "
        "drivetrain compare runs/r --import mine"
    )


def test_without_validation_a_run_ends_with_its_last_step_and_no_score() -> None:
    result = play(begin(Scripted([1.0]), Judge(0), Plan(30)))
    assert result.code == 0
    assert {k: result.values[k] for k in ("run", "status", "steps", "frames", "score")} == {
        "run": "runs/r",  # it has no config.json here, so its plain name finds nothing
        "status": "done",
        "steps": 30,
        "frames": 60,
        "score": None,
    }
    assert [(r["seq"], r["step"], r["frames"]) for r in records()] == [(1, 10, 20), (2, 20, 40), (3, 30, 60)]
    assert kept() == [(0, None), (30, None)]
    assert json.loads(Path("runs/r/result.json").read_text())["status"] == "done"


def test_validation_for_a_target_waits_until_training_is_within_five_percent() -> None:
    judge = Judge(950.0)
    # 854.9 < 900 - 5 % = 855 <= 855
    result = play(begin(Scripted([0.0, 854.9, 855.0]), judge, Plan(1000, stop_at=900.0)))
    assert (result.values["status"], result.values["steps"], result.values["score"]) == ("reached", 30, 950.0)
    assert judge.asked == [(BASE, 100), (BASE + 100, 100)]


def test_a_negative_target_is_approached_from_below_too() -> None:
    judge = Judge(-90.0)
    # 5 % of -100 away: from -105 on
    assert play(begin(Scripted([-106.0, -105.0]), judge, Plan(1000, stop_at=-100.0))).values["steps"] == 20


def test_a_second_set_of_tracks_must_pass_too_and_is_new_each_time() -> None:
    judge = Judge(890.0, 905.0, 899.0, 905.0, 903.0)
    result = play(begin(Scripted([900.0]), judge, Plan(1000, stop_at=900.0)))
    # update 1: 890 fails. update 2: 905 passes, 899 does not confirm. update 3: 905 passes, 903 confirms
    assert judge.asked == [(BASE, 100), (BASE, 100), (BASE + 100, 100), (BASE, 100), (BASE + 200, 100)]
    assert (result.values["status"], result.values["steps"], result.values["score"]) == ("reached", 30, 903.0)
    # checkpoints are compared by all tracks of their validation: (905 + 899) / 2 and (905 + 903) / 2
    assert kept() == [(20, 902.0), (30, 904.0)]
    assert [r.get("eval/confirmed") for r in records()] == [None, 899.0, 903.0]


def test_the_mean_of_fewer_than_a_hundred_episodes_does_not_count() -> None:
    agent = Scripted([900.0])
    episodes = iter([99.0, 100.0])
    plain = agent.iterate
    agent.iterate = lambda total: ({**m, "train/episodes": next(episodes)} for m in plain(total))  # type: ignore[method-assign]
    assert play(begin(agent, Judge(950.0), Plan(1000, stop_at=900.0))).values["steps"] == 20


def test_after_a_miss_the_next_validation_waits() -> None:
    judge = Judge(890.0)
    play(begin(Scripted([900.0]), judge, Plan(50, stop_at=900.0, retry_after=20)))
    # at 10, 30 and 50 steps
    assert len(judge.asked) == 3


def test_regular_validations_and_the_last_one_choose_the_best_checkpoint() -> None:
    judge = Judge(100.0, 300.0, 200.0)
    result = play(begin(Scripted([0.0]), judge, Plan(50, eval_every=20)))
    # at 20, 40 and at the end
    assert [r["step"] for r in records() if "eval/mean" in r] == [20, 40, 50]
    assert result.values["score"] == 200.0
    assert kept() == [(40, 300.0), (50, 200.0)]
    rows = Path("runs/r/eval.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 100
    assert rows[1] == f"20,validation,{BASE},100.000,500"


def test_the_last_checkpoint_carries_its_score_even_where_one_was_due_anyway() -> None:
    # at 20 steps a validation and at the end another; 50 steps are a multiple of 25, so a checkpoint falls due there
    play(begin(Scripted([0.0]), Judge(100.0, 300.0), Plan(50, eval_every=40, checkpoint_every=25)))
    assert kept()[-1] == (50, 300.0)


def test_the_best_and_the_last_two_checkpoints_are_kept() -> None:
    play(begin(Scripted([0.0]), Judge(9.0, 1.0), Plan(50, eval_every=10, checkpoint_every=10)))
    assert [step for step, _ in kept()] == [10, 40, 50]


def test_a_loss_that_is_no_number_ends_the_run_and_is_never_stored() -> None:
    agent = Scripted([0.0])

    def spoil() -> None:
        if agent.updates == 2:
            agent.loss = float("nan")
            torch.nn.init.constant_(agent.policy.weight, float("nan"))

    agent.on_update = spoil  # type: ignore[method-assign]
    with pytest.raises(Failure) as failure:
        play(begin(agent, Judge(0), Plan(50, checkpoint_every=10)))
    assert isinstance(failure.value.cause, UserError)
    assert failure.value.cause.code == 4
    assert failure.value.values["status"] == "diverged"
    assert [step for step, _ in kept()] == [10, 20]
    assert records()[-1]["loss/policy"] is None


def test_a_weight_that_is_no_number_is_found_when_it_would_be_stored() -> None:
    agent = Scripted([0.0])
    agent.on_update = lambda: torch.nn.init.constant_(agent.policy.weight, float("inf"))  # type: ignore[method-assign]
    with pytest.raises(Failure) as failure:
        play(begin(agent, Judge(0), Plan(50)))
    assert (failure.value.values["status"], failure.value.cause.code) == ("diverged", 4)  # type: ignore[attr-defined]
    assert [step for step, _ in kept()] == [0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_at_the_next_update_with_a_checkpoint(number: int) -> None:
    agent = Scripted([0.0])
    agent.on_update = lambda: os.kill(os.getpid(), number) if agent.updates == 2 else None  # type: ignore[method-assign]
    before = signal.getsignal(number)
    result = play(begin(agent, Judge(0), Plan(1000)))
    assert (result.code, result.values["status"], result.values["steps"]) == (75, "interrupted", 30)
    assert [step for step, _ in kept()] == [0, 30]
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once() -> None:
    agent = Scripted([0.0])

    def twice() -> None:
        if agent.updates == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    agent.on_update = twice  # type: ignore[method-assign]
    result = play(begin(agent, Judge(0), Plan(1000)))
    assert (result.code, result.values["status"]) == (75, "interrupted")
    assert [step for step, _ in kept()] == [0]  # the update was not finished


def test_any_other_failure_keeps_the_run_and_passes_on_the_cause() -> None:
    agent = Scripted([0.0])

    def fail() -> None:
        if agent.updates == 2:
            raise MemoryError("no room")

    agent.on_update = fail  # type: ignore[method-assign]
    with pytest.raises(Failure) as failure:
        play(begin(agent, Judge(0), Plan(50, checkpoint_every=10)))
    assert isinstance(failure.value.cause, MemoryError)
    assert [step for step, _ in kept()] == [10, 20]
    assert not Path("runs/r/lock").exists()


def test_a_disk_that_is_full_for_a_while_costs_one_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = session_module.save_checkpoint, iter(range(100))

    def full_once(*args: Any) -> Path:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(session_module, "save_checkpoint", full_once)
    session = begin(Scripted([0.0]), Judge(0), Plan(30, checkpoint_every=10))
    assert play(session).code == 0
    assert "No space left" in " ".join(session.progress.notes)  # type: ignore[attr-defined]
    assert [step for step, _ in kept()] == [20, 30]


def test_a_disk_that_is_full_at_the_end_is_a_storage_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Path:
        raise OSError(28, "No space left on device")

    session = begin(Scripted([0.0]), Judge(0), Plan(30))
    monkeypatch.setattr(session_module, "save_checkpoint", full)
    with pytest.raises(Failure) as failure:
        play(session)
    assert failure.value.cause.code == 6  # type: ignore[attr-defined]
    assert len(records()) == 3


def test_the_state_of_a_session_survives_a_checkpoint() -> None:
    play(begin(Scripted([0.0]), Judge(100.0), Plan(50, eval_every=20)))
    _, values = load_trainer(valid_checkpoints(Path("runs/r/checkpoints"))[0].path)
    state = RunState.from_values(values["run"] | {"from_the_future": 1})
    assert (state.seq, state.score, state.best, state.evaluated_at) == (6, 100.0, 100.0, 50)
    assert values["agent"] == {"updates": 5}
