"""An environment that fails is named with lane, seed, step and action, and leaves nothing running."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gym_probes import Faulty, register_probes

from drivetrain.envs.adapt import GymBatch, GymTask, spaces_of
from drivetrain.envs.errors import UserError
from drivetrain.envs.guard import AGAIN, FAULT, RESET_FAULT, SOON, Alarm, Guard, Hanging, Place, Watch, failure

register_probes()
B, SEED, SICK = 3, 2_000_000_000, 1  # the lane in which it happens
BROKEN = {
    "raise": "RuntimeError: the wheel came off",
    "exit": "SystemExit: 3",
    "nan": "number 0 of the observation is nan",
    "inf": "number 2 of the observation is inf",
    "nan reward": "the reward is nan",
    "no reward": "TypeError: float",
    "shape": r"the observation has shape \(3,\), its space says \(4,\)",
    "dtype": "the observation is <U1, its space says float32",
    "hang": r"no answer within 0\.3 s",
    "die": r"its process died \(exit code -9\)",
}
IN_WORKERS = ("raise", "hang", "die")
"""of these: the others are found by the same code in a worker as in this process"""
AT_RESET = ("raise", "exit", "nan", "inf", "shape", "dtype", "hang")


def drive(batch: GymBatch, steps: int) -> None:
    batch.reset()
    for t in range(1, steps):
        batch.step((torch.arange(B) + t) % 3)


def run_into(task: GymTask, steps: int = 12) -> UserError:
    """The error that ends a batch; lane i does action (t + i) mod 3 in step t."""
    batch = GymBatch(task, B, SEED)
    with pytest.raises(UserError) as caught:
        drive(batch, steps)
    assert batch._lanes._closed
    batch.close()
    return caught.value


def task_of(env: str, kind: str, fault: str, at: int = 2) -> GymTask:
    args = {"fault": fault, "lane_seed": SEED + SICK, "at": at}
    quick = 0.3 if fault == "hang" else 30.0
    return GymTask(env, args, vectorization=kind, env_timeout=quick)


def workers() -> list[Any]:
    return [child for child in multiprocessing.active_children() if child.name.startswith("Worker<")]


def kinds(here: Iterable[str], in_workers: Iterable[str]) -> list[tuple[str, str, str]]:
    """Id, vectorization, fault; a death ends a process, so it needs one."""
    alone = [("Faulty-v0", "sync", fault) for fault in here if fault != "die"]
    workers = [("Faulty-v0", "async", fault) for fault in in_workers]
    own = [(env, "native", fault) for env in ("FaultyNext-v0", "FaultySame-v0") for fault in here if "nan" in fault]
    return alone + workers + own


@pytest.mark.parametrize(("env", "kind", "fault"), kinds(BROKEN, BROKEN))
def test_a_fault_in_a_step_names_lane_seed_episode_step_and_action(env: str, kind: str, fault: str) -> None:
    error = run_into(task_of(env, kind, fault))
    # the first episode ends with step 3; NEXT_STEP resets in a step of its own, so that step 2 is the 6th, not the 5th
    t = 6 if env == "FaultyNext-v0" else 5
    assert error.code == 5
    assert error.got == f"lane 1, seed {SEED + 1}, episode 2, step 2, action {(t + SICK) % 3}"
    with pytest.raises(AssertionError, match=f"the environment {env} failed: {BROKEN[fault]}"):
        raise AssertionError(error.what)
    assert "\n" not in str(error)
    assert not workers()


@pytest.mark.parametrize(("env", "kind", "fault"), kinds(AT_RESET, IN_WORKERS))
def test_a_fault_in_a_reset_names_lane_seed_and_episode(env: str, kind: str, fault: str) -> None:
    error = run_into(task_of(env, kind, fault, at=0))
    assert error.code == 5
    assert BROKEN[fault].split("\\")[0] in error.what
    if kind == "async" and fault in ("hang", "die"):  # all that its parent knows is that the step gave no answer
        assert str(error.got).startswith(f"lane 1, seed {SEED + 1}, episode 1, step 3, action 1")
    else:
        assert error.got == f"lane 1, seed {SEED + 1}, episode 2, step 0"
        assert "failed in reset(): " in error.what
    assert not workers()


@pytest.mark.parametrize(
    ("env", "kind"), [("Faulty-v0", "sync"), ("FaultyNext-v0", "native"), ("FaultySame-v0", "native")]
)
def test_the_last_observation_of_an_episode_is_looked_at_too(env: str, kind: str) -> None:
    args = {"fault": "nan", "lane_seed": SEED + SICK, "at": 3, "when": 1}
    error = run_into(GymTask(env, args, vectorization=kind))
    assert error.got == f"lane 1, seed {SEED + 1}, episode 1, step 3, action 1"


def test_a_fault_in_the_first_reset_is_named_too() -> None:
    class Broken(Faulty):
        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            if seed == SEED + 2:
                raise OSError("no road")
            return super().reset(seed=seed)

    gymnasium.register("BrokenFirst-v0", lambda: Broken("raise", lane_seed=0))
    try:
        error = run_into(GymTask("BrokenFirst-v0"))
    finally:
        del gymnasium.registry["BrokenFirst-v0"]
    assert error.got == f"lane 2, seed {SEED + 2}, episode 1, step 0"
    assert error.what == "the environment BrokenFirst-v0 failed in reset(): OSError: no road"


@pytest.mark.parametrize(("fault", "why"), [("raise", "the wheel came off"), ("hang", "no answer"), ("shape", "stack")])
def test_a_batched_environment_that_fails_as_a_whole_says_so(fault: str, why: str) -> None:
    if fault == "shape":
        why = "ValueError"
    error = run_into(task_of("FaultySame-v0", "native", fault))
    assert error.code == 5
    assert why in error.what
    # lane 0 and its seed stand for all
    assert str(error.got).startswith(f"lane unknown, seed {SEED}, episode ")
    assert "action [2, 0, 1]" in str(error.got)


def test_a_worker_killed_from_outside_is_named_and_the_others_are_ended() -> None:
    batch = GymBatch(GymTask("Probe-v0", vectorization="async"), B, SEED)
    batch.reset()
    batch.step(torch.zeros(B, dtype=torch.int64))
    processes = list(batch._lanes.vec.processes)  # type: ignore[attr-defined]
    os.kill(processes[2].pid, signal.SIGKILL)
    processes[2].join()
    with pytest.raises(UserError, match=r"its process died \(exit code -9\); got lane 2, seed 2000000002"):
        batch.step(torch.zeros(B, dtype=torch.int64))
    assert all(process.exitcode is not None for process in processes)


def test_workers_that_ignore_being_told_to_end_are_made_to() -> None:
    batch = GymBatch(GymTask("Faulty-v0", {"fault": "hang"}, vectorization="async", env_timeout=30.0), 2, SEED)
    batch.reset()
    vec: Any = batch._lanes.vec
    for pipe in vec.parent_pipes:  # they are at work for ever
        for _ in range(6):
            pipe.send(("step", 0))
    began = time.monotonic()
    batch.close()
    assert time.monotonic() - began < 10
    assert not any(process.is_alive() for process in vec.processes)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from drivetrain.envs.gym_task import GymTask\n"
        "from drivetrain.envs.lanes import Lanes\n"
        "if __name__ == '__main__':\n"
        "    lanes = Lanes(GymTask('CartPole-v1', vectorization='async'), 2)\n"
        "    lanes.reset([0, 1])\n"
        "    print(*[p.pid for p in lanes.vec.processes], flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in pids)


def test_workers_that_do_not_start_are_an_environment_failure_and_none_stays() -> None:
    with pytest.raises(UserError, match="the workers of Homebound-v0 did not start") as caught:
        GymBatch(GymTask("Homebound-v0", vectorization="async"), 2, SEED)
    assert caught.value.code == 5
    assert "__main__" in str(caught.value.fix)
    assert not workers()


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_sent_to_the_whole_group_does_not_reach_the_workers(number: signal.Signals) -> None:
    batch = GymBatch(GymTask("Probe-v0", vectorization="async"), 2, SEED)
    batch.reset()
    for process in batch._lanes.vec.processes:  # type: ignore[attr-defined]
        os.kill(process.pid, number)
    for _ in range(5):
        batch.step(torch.zeros(2, dtype=torch.int64))
    batch.close()


def test_an_interrupt_by_the_user_goes_through_as_it_is() -> None:
    class Stopped(Faulty):
        def step(self, action: Any) -> Any:
            raise KeyboardInterrupt

    gymnasium.register("Stopped-v0", lambda: Stopped("raise", lane_seed=0))
    try:
        batch = GymBatch(GymTask("Stopped-v0"), 1, SEED)
        batch.reset()
        with pytest.raises(KeyboardInterrupt):
            batch.step(torch.zeros(1, dtype=torch.int64))
    finally:
        del gymnasium.registry["Stopped-v0"]


def test_an_action_that_is_no_number_is_the_policys_fault() -> None:
    with pytest.raises(UserError, match="the policy gave an action that is no number") as caught:
        raise failure("Pendulum-v1", "number 0 of the observation is nan", Place(0, 7, 1, 2, np.array([np.nan])))
    assert caught.value.code == 4
    batch = GymBatch(GymTask("Pendulum-v1"), 2, SEED)
    batch.reset()
    with pytest.raises(UserError, match="the policy gave an action") as caught:
        batch.step(torch.tensor([[0.0], [torch.nan]]))
    assert caught.value.code == 4
    assert "lane 1" in str(caught.value.got)


def test_a_guard_adds_nothing_to_what_goes_well() -> None:
    bare, guarded = Faulty("raise", at=99), Guard(Faulty("raise", at=99))
    a, b = bare.reset(seed=4)[0], guarded.reset(seed=4)
    assert np.array_equal(a, b[0])
    assert b[1] == {}
    for action in (0, 2, 1):
        one, other = bare.step(action), guarded.step(action)
        assert np.array_equal(one[0], other[0])
        assert one[1:4] == other[1:4]
        assert other[4] == {}


def test_a_guard_reports_instead_of_raising() -> None:
    env = Guard(gymnasium.wrappers.OrderEnforcing(Faulty("raise")))
    assert "ResetNeeded" in env.step(0)[4][FAULT]
    env = Guard(Faulty("raise", at=0))
    env.reset(seed=0)
    assert env.reset()[1] == {RESET_FAULT: "RuntimeError: the wheel came off"}


def test_the_watch_rings_only_for_one_environment_that_takes_too_long() -> None:
    watch = Watch(0.2)
    with watch:
        for _ in range(4):  # together longer than the limit
            watch.begin()
            time.sleep(0.08)
    with pytest.raises(Hanging, match=r"no answer within 0\.2 s"), watch:
        time.sleep(5)
    with watch:
        pass
    time.sleep(0.3)  # an alarm that was left on would ring here


def test_two_watches_share_the_alarm_and_each_has_its_own_limit() -> None:
    long, short = Watch(30.0), Watch(0.1)
    with long:
        time.sleep(0.15)
    with pytest.raises(Hanging), short:
        time.sleep(5)


def test_outside_the_main_thread_and_beside_another_alarm_nothing_is_watched() -> None:
    found: list[bool] = []
    watch = Watch(0.1)

    def elsewhere() -> None:
        found.append(Watch(1.0)._works)
        with watch:
            time.sleep(0.2)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        found.append(Watch(1.0)._works)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert found == [False, False]


@pytest.mark.golden
def test_a_place_is_told_in_one_short_line() -> None:
    assert str(Place(3, 7, 2, 9, 1)) == "lane 3, seed 7, episode 2, step 9, action 1"
    wide = str(Place(0, 1, 1, 5, np.arange(100) / 8))
    assert wide.endswith("action [ 0. , 0.125, ..., 12.25 , 12.375]")
    assert str(Place(None, 7, 1, 0)) == "lane unknown, seed 7, episode 1, step 0"
    assert len(failure("X-v0", "a" * 5000, Place(0, 0, 1, 1)).what) < 400


def test_a_step_that_began_just_after_the_alarm_was_set_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    # so little is left that a second alarm would go off before the program sleeps again, and wake nobody
    set_at: list[tuple[float, float]] = []
    monkeypatch.setattr(signal, "setitimer", lambda _kind, seconds, again=0.0: set_at.append((seconds, again)))
    alarm = Alarm()
    alarm.since, alarm.timeout = time.monotonic(), 1e-3
    alarm(signal.SIGALRM, None)
    assert set_at == [(SOON, AGAIN)]


def test_one_who_swallows_the_alarm_hears_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivetrain.envs.guard.AGAIN", 0.05)

    def hang_twice() -> None:
        with Watch(0.02) as watch:
            watch.begin()
            with contextlib.suppress(BaseException):
                time.sleep(3.0)
            time.sleep(3.0)

    with pytest.raises(Hanging):
        hang_twice()


class Slow(Faulty):
    """Hangs in every lane."""

    def step(self, action: Any) -> Any:
        time.sleep(30.0)


def test_where_one_lane_hangs_the_others_are_not_waited_for() -> None:
    gymnasium.register("Slow-v0", lambda: Slow("raise", lane_seed=0))
    try:
        batch = GymBatch(GymTask("Slow-v0", vectorization="sync", env_timeout=0.5), 12, SEED)
        batch.reset()
        began = time.monotonic()
        with pytest.raises(UserError, match=r"no answer within 0\.5 s \(--env-timeout\); got lane 0, seed 2000000000"):
            batch.step(torch.zeros(12, dtype=torch.int64))
        assert time.monotonic() - began < 3.0  # 6 s if each were waited for
    finally:
        del gymnasium.registry["Slow-v0"]


def test_an_environment_that_hangs_while_it_is_made_is_interrupted() -> None:
    def make() -> Any:
        time.sleep(30.0)

    gymnasium.register("Unmade-v0", make)
    try:
        with pytest.raises(UserError, match=r"the environment Unmade-v0 cannot be made; got no answer within 0\.2 s"):
            spaces_of(GymTask("Unmade-v0", env_timeout=0.2))
    finally:
        del gymnasium.registry["Unmade-v0"]


def test_one_who_catches_every_interrupt_takes_the_process_down_with_its_line() -> None:
    script = (
        "import time\n"
        "from drivetrain.envs import guard\n"
        "guard.AGAIN = 0.01\n"
        "with guard.Watch(0.05) as watch:\n"
        "    watch.begin()\n"
        "    while True:\n"
        "        try:\n"
        "            time.sleep(10)\n"
        "        except BaseException:\n"
        "            pass\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert done.stderr.startswith(
        "error: an environment failed: no answer within 0.05 s (--env-timeout), and it catches"
    )


class Recycling(gymnasium.Env[Any, Any]):
    """Shows its observations in one array, again and again."""

    observation_space, action_space = gymnasium.spaces.Box(-9.0, 9.0, (1,)), gymnasium.spaces.Discrete(2)

    def __init__(self) -> None:
        self.obs = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.obs[:] = 0.0
        return self.obs, {}

    def step(self, action: Any) -> Any:
        self.obs += 1.0
        return self.obs, 0.0, False, bool(self.obs[0] == 3.0), {}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_an_episode_ended_with_is_not_overwritten_by_the_next_one(kind: str) -> None:
    gymnasium.register("Recycling-v0", Recycling)
    try:
        batch = GymBatch(GymTask("Recycling-v0", vectorization=kind), 2, SEED)
        batch.reset()
        for t in range(1, 7):
            step = batch.step(torch.zeros(2, dtype=torch.int64))
            # 1, 2, 3 and over again
            assert step.next_obs[:, 0].tolist() == [1.0 + (t - 1) % 3] * 2
            assert step.obs[:, 0].tolist() == [float(t % 3)] * 2
        batch.close()
    finally:
        del gymnasium.registry["Recycling-v0"]
