"""Ids and tasks: what exists, what is missing, what the registry says, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import pytest
import torch
from gym_probes import register_probes

from drivetrain.envs.adapt import GymBatch, GymTask, check_env_id, reward_threshold, spaces_of, time_limit
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_ids import find_spec, not_made

register_probes()


@pytest.mark.parametrize(
    ("env", "near"),
    [
        ("CartPole-v9", "CartPole-v1"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("cartpol-v1", "CartPole-v1"),
        ("LunarLandr-v3", "LunarLander-v3"),
        ("racin", "racing"),
    ],
)
def test_an_unknown_id_is_answered_with_the_nearest(env: str, near: str) -> None:
    with pytest.raises(UserError, match="unknown environment") as caught:
        check_env_id(env, also=("racing",))
    assert caught.value.code == 2
    assert f"did you mean {near}?" in str(caught.value.fix)


def test_an_id_like_no_other_is_answered_with_how_to_bring_ones_own() -> None:
    with pytest.raises(UserError, match="--import MODULE"):
        check_env_id("qqqqqqqqqqqqqqqqq")


def test_an_id_that_would_import_a_module_is_refused_before_anything_is_imported() -> None:
    for make in (check_env_id, GymTask, find_spec):
        with pytest.raises(UserError, match="give the id alone"):
            make("antigravity:CartPole-v1")  # type: ignore[operator]
    assert "antigravity" not in sys.modules


def test_a_known_id_is_handed_back() -> None:
    assert [check_env_id(env) for env in ("CartPole-v1", "Probe-v0")] == ["CartPole-v1", "Probe-v0"]


@pytest.mark.parametrize(
    ("env", "module", "line"),
    [
        ("ALE/Pong-v5", "ale_py", "pip install ale-py"),
        ("highway-fast-v0", "highway_env", "pip install highway-env"),
        ("MiniGrid-Empty-5x5-v0", "minigrid", "pip install minigrid"),
        ("LunarLander-v3", "Box2D", 'pip install "gymnasium[box2d]"'),
        ("phys2d/CartPole-v1", "jax", 'pip install "gymnasium[jax]"'),
    ],
)
def test_a_package_that_is_missing_is_answered_with_the_line_that_installs_it(
    env: str, module: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(module, monkeypatch)
    for look in (check_env_id, lambda env: spaces_of(GymTask(env))):
        with pytest.raises(UserError, match="needs a package that is not installed") as caught:
            look(env)
        assert caught.value.code == 2
        assert line in str(caught.value.fix)


def without(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a module, and all that was imported with its help, were not installed."""
    helped = (module, "gymnasium.envs.box2d", "gymnasium.envs.phys2d")
    for name in [name for name in sys.modules if name.startswith(helped)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


def test_a_package_that_only_the_constructor_misses_is_named_too() -> None:
    class Needy(gymnasium.Env[Any, Any]):
        def __init__(self) -> None:
            raise gymnasium.error.DependencyNotInstalled('MuJoCo is missing, run `pip install "gymnasium[mujoco]"`')

    gymnasium.register("Needy-v0", Needy)
    try:
        with pytest.raises(UserError, match="needs a package") as caught:
            GymBatch(GymTask("Needy-v0"), 1, 0)
    finally:
        del gymnasium.registry["Needy-v0"]
    assert caught.value.fix == 'pip install "gymnasium[mujoco]"'


def test_arguments_that_an_environment_does_not_take_are_named() -> None:
    for task in (GymTask("CartPole-v1", {"gravty": 1}), GymTask("CartPole-v1", {"gravty": 1}, vectorization="sync")):
        with pytest.raises(UserError, match="gravty") as caught:
            GymBatch(task, 2, 0)
        assert caught.value.code == 2
        assert caught.value.fix == "check --env-args"


@pytest.mark.parametrize("value", [-5, "abc", 0])
def test_a_value_that_gymnasium_does_not_take_is_bad_input(value: object) -> None:
    for kind in ("native", "sync", "auto"):
        with pytest.raises(UserError) as caught:
            GymBatch(GymTask("CartPole-v1", {"max_episode_steps": value}, vectorization=kind), 2, 0)
        assert caught.value.code == 2, kind
    with pytest.raises(UserError, match="check --env-args") as caught:
        spaces_of(GymTask("CartPole-v1", {"max_episode_steps": value}))
    assert caught.value.code == 2


def test_a_refusal_without_arguments_is_a_failure_of_the_environment() -> None:
    for error in (ValueError("x"), AssertionError("x")):
        assert [not_made("X-v0", error, args).code for args in (None, {}, {"a": 1})] == [5, 5, 2]


def test_an_environment_that_breaks_while_it_is_made_is_an_environment_failure() -> None:
    assert not_made("X-v0", RuntimeError("no\nroad")).code == 5
    assert str(not_made("X-v0", RuntimeError("no\nroad"))) == (
        "the environment X-v0 cannot be made; got RuntimeError: no road"
    )


@pytest.mark.golden
def test_what_the_registry_says_of_an_environment() -> None:
    assert [reward_threshold(env) for env in ("CartPole-v1", "Probe-v0", "Painter-v0")] == [475.0, 2.5, None]
    assert time_limit(GymTask("CartPole-v1")) == 500
    assert time_limit(GymTask("CartPole-v1", frame_skip=3)) == 167
    assert time_limit(GymTask("CartPole-v1", {"max_episode_steps": 20})) == 20
    assert time_limit(GymTask("Probe-v0")) is None


def test_a_time_limit_among_the_arguments_holds() -> None:
    for kind in ("native", "sync"):
        batch = GymBatch(GymTask("CartPole-v1", {"max_episode_steps": 3}, vectorization=kind), 1, 0)
        batch.reset()
        cut = [bool(batch.step(torch.tensor([t % 2])).truncated) for t in range(3)]
        assert cut == [False, False, True]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"env": ""}, "no id"),
        ({"frame_skip": 0}, "frame_skip"),
        ({"frame_stack": 0}, "frame_stack"),
        ({"resize": 4}, "resize"),
        ({"resize": 4000}, "resize"),
        ({"vectorization": "asink"}, "did you mean async"),
        ({"clip_reward": 0.0}, "clip_reward"),
        ({"env_timeout": float("inf")}, "env_timeout"),
        ({"env_timeout": float("nan")}, "env_timeout"),
        ({"env_args": {"a": object()}}, "JSON"),
        ({"env_args": {1: 2}}, "env_args"),
        ({"env_args": [1]}, "env_args"),
    ],
)
def test_a_task_out_of_range_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        GymTask(**{"env": "CartPole-v1"} | values)
    assert caught.value.code == 2


@pytest.mark.golden
def test_the_frames_of_a_decision() -> None:
    assert GymTask("X-v0").skip == 1
    assert GymTask("X-v0", frame_skip=3).skip == 3
    assert GymTask("ALE/Pong-v5", atari=True).skip == 4
    assert GymTask("ALE/Pong-v5", atari=True, frame_skip=2).skip == 2
    assert GymTask("drivetrain/Original-v0", {"frame_skip": 2}).skip == 2


def test_what_workers_and_help_pages_import_knows_no_torch() -> None:
    code = (
        "import sys, drivetrain.envs.lanes, drivetrain.envs.tally, drivetrain.envs.reward_scale;"
        "print(sorted({'torch', 'numba', 'cv2', 'pygame'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
