"""The original CarRacing-v3 behind our interface: its world stays its own, bit for bit."""

from __future__ import annotations

import re
import sys
import warnings
from functools import cache

import gymnasium
import numpy as np
import pytest
import torch

pytest.importorskip("Box2D")

from gymnasium.envs.box2d.car_racing import CarRacing

from drivetrain.envs.actions import ACTIONS
from drivetrain.envs.errors import UserError
from drivetrain.envs.observe import observe
from drivetrain.envs.original import OriginalEnv, read_states
from drivetrain.envs.state import hull_origin, wheel_centres
from drivetrain.envs.track import build_tracks, centreline_of_seed


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def theirs(continuous: bool = True, pictures: bool = False) -> CarRacing:
    env = CarRacing(continuous=continuous)
    if not pictures:
        env._render = lambda mode: None
    return env


def body(core: CarRacing) -> list[float]:
    hull = core.car.hull
    wheels = [number for w in core.car.wheels for number in (w.omega, w.angle, *w.position, *w.linearVelocity)]
    return [*hull.position, hull.angle, *hull.linearVelocity, hull.angularVelocity, *wheels]


def put_outside(core: CarRacing) -> None:
    for part in (core.car.hull, *core.car.wheels):
        part.position = (part.position[0] + 400.0, part.position[1])


@pytest.mark.oracle
def test_discrete_moves_exactly_like_the_originals_own_five_actions() -> None:
    ours, other = OriginalEnv(actions="discrete"), theirs(continuous=False)
    ours.reset(seed=3)
    other.reset(seed=3)
    for action in np.random.default_rng(0).choice(5, 300, p=[0.1, 0.2, 0.2, 0.4, 0.1]):
        _, reward, *_ = ours.step(action)
        _, wanted, *_ = other.step(int(action))
        assert reward == wanted
        assert body(ours.core) == body(other)


@pytest.mark.oracle
def test_continuous_is_passed_on_untouched() -> None:
    ours, other = OriginalEnv(), theirs()
    ours.reset(seed=4)
    other.reset(seed=4)
    for action in np.random.default_rng(1).uniform((-1, 0, 0), (1, 1, 1), (200, 3)).astype(np.float32):
        _, reward, terminated, truncated, info = ours.step(action)
        _, wanted, wanted_end, _, wanted_info = other.step(action)
        assert (reward, terminated, truncated, info) == (wanted, wanted_end, False, wanted_info)
        assert body(ours.core) == body(other)


@pytest.mark.oracle
@pytest.mark.parametrize("frame_skip", [1, 3])
def test_pictures_are_the_originals_at_every_frame_skip(frame_skip: int) -> None:
    ours, other = OriginalEnv(obs="pixels", frame_skip=frame_skip), theirs(pictures=True)
    obs, _ = ours.reset(seed=5)
    np.testing.assert_array_equal(obs, other.reset(seed=5)[0])
    action = np.array([0.1, 0.6, 0.0], np.float32)
    for _ in range(12 // frame_skip):
        obs, reward, *_ = ours.step(action)
        frames = [other.step(action) for _ in range(frame_skip)]
        np.testing.assert_array_equal(obs, frames[-1][0])
        assert reward == pytest.approx(sum(frame[1] for frame in frames), abs=1e-12)


@pytest.mark.oracle
def test_an_end_within_a_skip_shows_the_picture_of_the_frame_that_ended_it() -> None:
    ours, other = OriginalEnv(obs="pixels", frame_skip=4), theirs(pictures=True)
    for core in (ours.core, other):
        (ours if core is ours.core else other).reset(seed=5)
        put_outside(core)
    obs, reward, terminated, truncated, info = ours.step(np.zeros(3, np.float32))
    wanted = other.step(np.zeros(3, np.float32))
    np.testing.assert_array_equal(obs, wanted[0])
    assert (reward, terminated, truncated, info) == (-100, True, False, {"lap_finished": False})
    assert ours.frames == 1


def test_the_time_limit_counts_frames_and_cuts_the_last_step_short() -> None:
    env = OriginalEnv(frame_skip=3)
    env.reset(seed=0)
    ends = [env.step(np.zeros(3, np.float32)) for _ in range(334)]
    # 333 steps of 3 frames are 999 frames; the last step has room for one frame and costs 0.1
    assert [end[3] for end in ends] == [False] * 333 + [True]
    assert ends[-1][1] == pytest.approx(-0.1)
    assert ends[1][1] == pytest.approx(-0.3)


@pytest.mark.oracle
def test_resets_without_a_seed_continue_the_originals_random_stream() -> None:
    ours, other = OriginalEnv(), theirs()
    ours.reset(seed=11)
    other.reset(seed=11)
    for _ in range(2):
        ours.reset()
        other.reset()
        assert ours.core.track == other.track
    assert ours.np_random.bit_generator.state == other.np_random.bit_generator.state


def test_nothing_is_drawn_while_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    black = np.zeros((96, 96, 3), np.uint8)
    monkeypatch.setattr(CarRacing, "_render", lambda self, mode: drawn.append(mode) or black)
    env = OriginalEnv(frame_skip=2, render_mode="rgb_array")
    env.reset(seed=0)
    env.step(np.zeros(3, np.float32))
    assert drawn == []
    env.render()
    assert drawn == ["rgb_array"]
    pixels = OriginalEnv(obs="pixels", frame_skip=4)
    pixels.reset(seed=0)
    pixels.step(np.zeros(3, np.float32))
    assert drawn[1:] == ["state_pixels"] * 2


def test_other_environments_of_the_class_go_on_drawing() -> None:
    OriginalEnv().reset(seed=0)
    assert gymnasium.make("CarRacing-v3").reset(seed=0)[0].shape == (96, 96, 3)


@pytest.mark.oracle
def test_the_state_read_from_box2d_is_the_cars() -> None:
    env = OriginalEnv()
    env.reset(seed=7)
    for action in np.random.default_rng(2).uniform((-0.3, 0.5, 0), (0.3, 1, 0.1), (80, 3)).astype(np.float32):
        env.step(action)
    state, core = env.car_state(), env.core
    np.testing.assert_allclose(hull_origin(state)[0], core.car.hull.position, atol=1e-4)
    # the pins give way by less than a slop of Box2D
    np.testing.assert_allclose(wheel_centres(state)[0], [tuple(w.position) for w in core.car.wheels], atol=5e-3)
    assert state.heading.item() == pytest.approx(core.car.hull.angle)
    assert state.spin[0].tolist() == pytest.approx([w.omega for w in core.car.wheels])
    assert state.road[0].tolist() == [bool(w.tiles) for w in core.car.wheels]
    assert state.visited.sum() == state.visited_count == core.tile_visited_count
    assert state.frames == 80
    np.testing.assert_allclose(state.controls[0], action)


@pytest.mark.oracle
def test_the_observation_is_that_of_the_simulator_for_the_same_state() -> None:
    env = OriginalEnv()
    env.reset(seed=9)
    for _ in range(40):
        obs, *_ = env.step(np.array([-0.3, 0.8, 0], np.float32))
        np.testing.assert_allclose(obs, observe(env.tracks, env.car_state())[0], rtol=1e-5, atol=1e-5)


@pytest.mark.invariance
def test_states_read_together_are_the_states_read_alone() -> None:
    envs = [OriginalEnv() for _ in range(3)]
    for seed, env in enumerate(envs):
        env.reset(seed=seed)
        for _ in range(5 * seed):
            env.step(np.array([0.2, 1, 0], np.float32))
    together = read_states(envs, 400)
    for row, env in enumerate(envs):
        alone = read_states([env], 400)
        for name, column in vars(together).items():
            if name != "track":
                assert torch.equal(column[row], getattr(alone, name)[0]), name


@pytest.mark.oracle
def test_a_track_knows_its_seed_where_int64_holds_it() -> None:
    env = OriginalEnv()
    for seed, known in ((21, 21), (None, -1), (0, 0), (2**63, -1)):
        env.reset(seed=seed)
        assert env.tracks.seed.tolist() == [known]


def test_the_track_of_a_seed_is_the_simulators() -> None:
    env = OriginalEnv()
    env.reset(seed=21)
    np.testing.assert_array_equal(env.line.points, centreline_of_seed(21).points)
    assert torch.equal(env.tracks.corners, build_tracks([centreline_of_seed(21)]).corners)


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize(
    "wrong", [np.zeros(7, np.float32), np.full(3, np.nan), np.full(2, np.nan), np.array(99), np.array("left")]
)
def test_a_wrong_action_is_refused_in_words(actions: str, wrong: np.ndarray) -> None:
    env = OriginalEnv(actions=actions)
    env.reset(seed=0)
    before = body(env.core)
    with pytest.raises(UserError, match=actions):
        env.step(wrong)
    assert body(env.core) == before


def test_step_before_reset_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="reset"):
        OriginalEnv().step(np.zeros(3, np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"obs": "lidar", "beams": 0},
        {"obs": "stat"},
        {"actions": "pedal"},
        {"frame_skip": 0},
        {"frame_skip": 1.5},
        {"render_mode": "film"},
    ],
)
def test_wrong_arguments_are_refused_in_words(wrong: dict) -> None:
    with pytest.raises(UserError):
        OriginalEnv(**wrong)


def test_without_box2d_the_error_gives_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium.envs.box2d.car_racing", None)
    with pytest.raises(UserError, match=re.escape('pip install "gymnasium[box2d]"')):
        OriginalEnv()


def complaints(check: object, env: gymnasium.Env) -> set[str]:
    """Warnings of a checker, without colours and numbers."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(env)  # type: ignore[operator]
    texts = {re.sub(r"\x1b\[\d+m", "", str(w.message)) for w in caught if issubclass(w.category, UserWarning)}
    return {re.sub(r"[\d.]+", "#", text) for text in texts}


def both_checks(env: gymnasium.Env) -> set[str]:
    from gymnasium.utils.env_checker import check_env
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    return complaints(lambda e: check_env(e, skip_render_check=True), env) | complaints(sb3_check_env, env)


@cache
def allowed_complaints() -> set[str]:
    return both_checks(gymnasium.make("CarRacing-v3").unwrapped)


@pytest.mark.conformance
@pytest.mark.parametrize("obs", ["state", "pixels"])
@pytest.mark.parametrize("actions", ACTIONS)
def test_the_checkers_find_nothing_that_they_do_not_find_in_the_original(obs: str, actions: str) -> None:
    assert both_checks(OriginalEnv(obs=obs, actions=actions)) <= allowed_complaints()


def test_closing_its_window_leaves_pygame_to_others() -> None:
    import pygame

    pygame.font.init()
    font = pygame.font.Font(None, 20)
    env = OriginalEnv(render_mode="human")
    env.reset(seed=0)
    env.close()
    assert not pygame.display.get_init()
    assert font.render("still here", True, (0, 0, 0)).get_width() > 0


@pytest.mark.conformance
def test_it_can_be_made_again_from_its_spec_in_every_render_mode() -> None:
    env = OriginalEnv(obs="state", actions="pedals", frame_skip=2)
    for mode in env.metadata["render_modes"]:
        again = env.spec.make(render_mode=mode)
        again.reset(seed=0)
        picture = again.render()
        assert (picture is None) == (mode == "human")
        assert again.unwrapped.frame_skip == 2
        again.close()
