"""Any Gymnasium environment as something to film: it is drawn, it is timed, and what cannot be drawn is refused."""

from dataclasses import replace
from fractions import Fraction
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gym_probes import Faulty
from gymnasium.spaces import Discrete

from drivetrain.agents.evaluate import play_twin
from drivetrain.drivers import find_driver
from drivetrain.envs.errors import UserError
from drivetrain.envs.guard import Watch
from drivetrain.envs.viewer import load_pygame
from drivetrain.foreign import GymScene, check_environment

RANDOM = find_driver("random")


class Counting(gymnasium.Env):
    """Shows its step in the colour of the picture; ends after ten steps."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 12.5}
    observation_space = action_space = Discrete(3)

    def __init__(self, render_mode=None, breaks_at=None, picture=(40, 60, 3), limit=10):
        self.render_mode, self.breaks_at, self.picture, self.limit = render_mode, breaks_at, picture, limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps == self.breaks_at:
            raise RuntimeError("out of\norder")
        return 0, 0.5, self.steps == self.limit, False, {}

    def render(self):
        return np.full(self.picture, self.steps, np.uint8)


class Blind(Counting):
    metadata: ClassVar = {"render_modes": ["ansi"]}


@pytest.fixture(autouse=True)
def registered():
    names = {"Counting-v0": Counting, "Counting-v3": Counting, "Blind-v0": Blind, "Missing-v0": "no_such_module:Env"}
    for name, creator in names.items():
        gymnasium.register(name, entry_point=creator)
    gymnasium.register("Breaking-v0", entry_point=Counting, kwargs={"breaks_at": 4})
    gymnasium.register("Flat-v0", entry_point=Counting, kwargs={"picture": (40, 60)})
    gymnasium.register("Endless-v0", entry_point=Counting, kwargs={"limit": None})
    yield
    for name in (*names, "Breaking-v0", "Flat-v0", "Endless-v0"):
        del gymnasium.registry[name]


def test_a_foreign_environment_is_played_and_drawn_step_by_step():
    scene = GymScene("Counting-v0", RANDOM)
    shown = []
    for _ in scene.play(0):
        shown.append(int(scene.picture()[0, 0, 0]))
    assert shown == [*range(1, 11)]
    assert (scene.score, scene.frames) == (5.0, 10)  # ten steps of 0.5
    assert (scene.size, scene.fps) == ((60, 40), Fraction(25, 2))
    assert scene.titles == ("random · Counting-v0", "random")


def test_a_seed_repeats_an_episode_random_choices_included():
    scene = GymScene("CartPole-v1", RANDOM)
    first, second, third = ([scene.picture().copy() for _ in scene.play(seed)] for seed in (5, 5, 6))
    scene.close()
    assert len(first) == len(second)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[-1], third[-1])


def test_an_episode_without_an_end_is_cut(monkeypatch):
    monkeypatch.setattr("drivetrain.foreign.LONGEST", 25)
    scene = GymScene("Endless-v0", RANDOM)
    assert sum(1 for _ in scene.play(0)) == 25


def test_an_environment_that_closes_leaves_pygame_to_others():
    pygame = load_pygame()
    font = pygame.font.Font(None, 20)
    scene = GymScene("CartPole-v1", RANDOM)  # its close() calls pygame.quit()
    scene.close()
    assert font.size("still there")[0] > 0
    assert pygame.quit.__module__ == "pygame.base"


@pytest.mark.parametrize(
    ("name", "found"),
    [("racing", "racing"), ("drivetrain/Racing-v0", "racing"), ("CarRacing-v3", "CarRacing-v3")],
)
def test_our_two_worlds_are_known_by_name(name, found):
    assert check_environment(name) == found


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CartPol-v1", "unknown environment; got CartPol-v1; did you mean CartPole-v1?"),
        ("Counting-v7", "unknown environment; got Counting-v7; did you mean Counting-v3?"),
        ("Counting", "unknown environment; got Counting; did you mean Counting-v3?"),
        ("racin", "unknown environment; got racin; did you mean racing?"),
        ("zzzzzzzz", "--import MODULE"),
        ("", "no id of an environment"),
        ("Blind-v0", "the environment Blind-v0 cannot be rendered; got ansi; allowed one with rgb_array"),
    ],
)
def test_what_is_unknown_or_has_no_picture_is_refused_before_it_is_made(name, said):
    with pytest.raises(UserError) as caught:
        check_environment(name)
    assert said in str(caught.value)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Missing-v0", "the environment Missing-v0 "),
        ("Flat-v0", "the environment Flat-v0 cannot be drawn here; got TypeError: render() gave ndarray, no picture"),
    ],
)
def test_what_cannot_be_made_or_drawn_here_says_why(name, said):
    assert check_environment(name) == name
    with pytest.raises(UserError) as caught:
        GymScene(name, RANDOM)
    assert said in str(caught.value)
    assert caught.value.code == 2


def test_an_environment_that_fails_in_the_middle_ends_with_code_5():
    scene = GymScene("Breaking-v0", RANDOM)
    with pytest.raises(UserError) as caught:
        list(scene.play(0))
    assert "the environment Breaking-v0 failed: RuntimeError: out of order; got lane 0, seed 0, " in str(caught.value)
    assert caught.value.code == 5


def test_a_run_plays_wherever_its_spaces_are_found():
    driver = find_driver("racing-ppo-state")
    task = driver.sim_config
    gymnasium.register(
        "Alike-v0",
        entry_point="drivetrain.envs.gym_single:RacingEnv",
        kwargs={"actions": task.actions, "frame_skip": task.frame_skip},
    )
    scene = GymScene("Alike-v0", driver)
    del gymnasium.registry["Alike-v0"]
    for _ in scene.play(3):
        pass
    # it is our own environment under a foreign name
    assert scene.score == pytest.approx(play_twin(driver.actor(), [3], task).mean, abs=1e-3)


def test_a_run_on_an_environment_is_filmed_there_and_scores_what_it_scores_in_a_batch(tmp_path):
    from drivetrain.agents import PPO
    from drivetrain.agents.worlds import play

    agent = PPO("CartPole-v1", num_envs=4, num_steps=8, num_minibatches=1, hidden=(8,), device="cpu").learn(32)
    agent.save(tmp_path / "run")
    driver = find_driver(str(tmp_path / "run"))
    assert driver.env == "CartPole-v1"
    scene = GymScene("CartPole-v1", driver)
    for _ in scene.play(3):
        pass
    assert scene.picture().shape == (400, 600, 3)
    assert scene.score == play("CartPole-v1", driver.record, agent.policy, [3], "cpu").mean
    scene.close()


def test_drivers_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="the expert cannot play CartPole-v1; allowed racing, CarRacing-v3"):
        GymScene("CartPole-v1", find_driver("expert"))
    run = replace(RANDOM, name="mine", key="runs/mine/checkpoints/step_000000000001", step=1)
    with pytest.raises(UserError, match="the observations of mine are not those of CartPole-v1") as caught:
        GymScene("CartPole-v1", run)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("nan", "an observation is not finite"),
        ("nan reward", "the reward is nan"),
        ("hang", r"no answer within 0\.2 s \(--env-timeout\)"),
    ],
)
def test_what_is_filmed_is_looked_at_as_closely_as_what_is_scored(fault, why):
    class Drawn(Faulty):
        metadata: ClassVar = {"render_modes": ["rgb_array"]}
        render_mode = "rgb_array"

        def __init__(self, render_mode=None):
            super().__init__(fault, lane_seed=3, at=2, when=1)

        def render(self):
            return np.zeros((8, 8, 3), np.uint8)

    gymnasium.register("Drawn-v0", Drawn)
    try:
        scene = GymScene("Drawn-v0", RANDOM)
        scene._watch = Watch(0.2)
        with pytest.raises(UserError, match=f"the environment Drawn-v0 failed: {why}") as caught:
            list(scene.play(3))
    finally:
        del gymnasium.registry["Drawn-v0"]
    assert caught.value.code == 5
