"""What drivers see over time, from pictures and beams: borders of episodes, options, colours, contracts."""

from __future__ import annotations

import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import drivetrain
from drivetrain.envs import kernel, kernel_lidar, kernel_picture, lidar
from drivetrain.envs.errors import UserError
from drivetrain.envs.gym_single import RacingEnv
from drivetrain.envs.gym_vector import RacingVectorEnv
from drivetrain.envs.original import OriginalEnv
from drivetrain.envs.paint import paint
from drivetrain.envs.sight import look
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool
from drivetrain.envs.view import nearest_colour

TURN = np.array([0.3, 0.5, 0.0], np.float32)


def alike(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    """Whether two pictures differ by rounding at most."""
    error = (ours.int() - theirs.int()).abs()
    return int(error.max()) <= 1 and float((error > 0).double().mean()) < 1e-3


@pytest.mark.golden
@pytest.mark.parametrize("fast", [False, True])
def test_a_stack_ends_with_its_episode_and_the_next_begins_with_its_first_picture_alone(fast: bool) -> None:
    # 1,000 frames are four decisions of 300 frames, the last of them cut short; lane 1 is 900 frames ahead of lane 0
    config = SimConfig(obs="pixels", picture="grey", picture_size=64, crop=True, frame_stack=3, frame_skip=300)
    sim = Sim(pool(0, 2), 2, config, fast=fast)
    first = sim.reset().clone()
    assert all(torch.equal(first[..., k], first[..., 0]) for k in (1, 2))
    sim.state.frames[1] += 900
    seen = [first]
    for _ in range(2):
        outcome = sim.step(torch.zeros(2, 3))
        now = look(sim.tracks, sim.state, config, sim.paint)
        if outcome.done[1]:  # the last picture of an episode is the newest of next_obs, and none of obs
            assert outcome.done.tolist() == [False, True]
            assert torch.equal(outcome.next_obs[1, ..., :2], seen[-1][1, ..., 1:])
            assert all(alike(outcome.obs[1, ..., k], now[1, ..., 0]) for k in range(3))
            assert not alike(outcome.next_obs[1, ..., 2], now[1, ..., 0])
        for lane in (~outcome.done).nonzero()[:, 0].tolist():
            assert torch.equal(outcome.obs[lane], outcome.next_obs[lane])
            assert torch.equal(outcome.obs[lane, ..., :2], seen[-1][lane, ..., 1:])
            assert alike(outcome.obs[lane, ..., 2], now[lane, ..., 0])
        seen.append(outcome.obs.clone())
    assert sim.lanes.episode.tolist() == [0, 1]


@pytest.mark.golden
def test_pictures_are_drawn_on_decision_frames_only(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    see = kernel_picture.see
    monkeypatch.setattr(kernel_picture, "see", lambda *args: (drawn.append(len(args[4])), see(*args)))
    sim = Sim(pool(0, 2), 3, SimConfig(obs="pixels", frame_skip=400))
    sim.reset()
    for _ in range(3):
        sim.step(torch.zeros(3, 3))
    # reset, three decisions of 400, 400 and 200 frames, and the three new episodes after the last
    assert drawn == [3, 3, 3, 3, 3]


@pytest.mark.oracle
def test_a_palette_on_the_compiled_path_is_that_of_the_coloured_picture() -> None:
    sims = [Sim(pool(0, 2), 2, SimConfig(obs="pixels", picture=picture)) for picture in ("palette", "rgb")]
    for _ in range(2):
        numbers, colours = (sim.step(torch.tensor([[0.2, 1.0, 0.0]] * 2)).obs for sim in sims)
        assert (numbers != nearest_colour(colours)).double().mean() < 1e-3


@pytest.mark.conformance
def test_with_pixels_the_spaces_are_those_of_the_original() -> None:
    pytest.importorskip("Box2D")
    ours, theirs = RacingEnv(obs="pixels"), gymnasium.make("CarRacing-v3")
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    theirs.close()


@pytest.mark.oracle
def test_random_colours_are_drawn_as_the_original_draws_them() -> None:
    pytest.importorskip("Box2D")
    ours = RacingEnv(obs="pixels", domain_randomize=True)
    theirs = gymnasium.make("CarRacing-v3", domain_randomize=True).unwrapped
    before = None
    for seed, options in ((5, None), (None, None), (None, {"randomize": False}), (9, {"randomize": True})):
        picture, _ = ours.reset(seed=seed, options=options)
        wanted, _ = theirs.reset(seed=seed, options=options)
        colours = ours.sim.paint
        for name, colour in (("road", theirs.road_color), ("grass", theirs.bg_color), ("patch", theirs.grass_color)):
            np.testing.assert_allclose(getattr(colours, name)[0], colour, rtol=1e-6)
        assert (options == {"randomize": False}) == (before is not None and torch.equal(before, colours.road))
        assert np.abs(picture.astype(int) - wanted).mean() < 0.6
        before = colours.road
        picture = ours.step(TURN)[0]
        assert np.abs(picture.astype(int) - theirs.step(TURN)[0]).mean() < 0.6
    theirs.close()


@pytest.mark.conformance
def test_an_option_to_keep_colours_means_nothing_where_they_are_not_random() -> None:
    env = RacingEnv(obs="pixels")
    first, _ = env.reset(seed=3)
    again, _ = env.reset(seed=3, options={"randomize": True})
    np.testing.assert_array_equal(first, again)


@pytest.mark.invariance
def test_colours_are_a_hash_of_seed_lane_and_episode_within_the_originals_ranges() -> None:
    lane = torch.arange(300)
    colours = paint(7, lane, torch.zeros_like(lane), True, True)
    few = paint(7, lane[40:42], torch.zeros(2, dtype=torch.int64), True, True)
    for name in ("road", "grass", "patch", "score"):
        assert torch.equal(getattr(few, name), getattr(colours, name)[40:42])
    assert colours.road.min() >= 0
    assert colours.grass.max() < 210
    raised = colours.patch - colours.grass  # one channel by 20
    assert torch.allclose(raised.sum(1), torch.tensor(20.0), atol=1e-3)
    assert sorted(colours.score.unique().tolist()) == [0, 1, 2]
    assert not torch.equal(paint(7, lane, lane + 1, True, False).road, paint(7, lane, lane, True, False).road)


def complaints(env: gymnasium.Env) -> set[str]:
    """What both checkers say, without colours and numbers."""
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
        check_env_sb3(env)
    texts = {re.sub(r"\x1b\[\d+m", "", str(w.message)) for w in caught if issubclass(w.category, UserWarning)}
    return {re.sub(r"[\d.]+", "#", text) for text in texts}


@pytest.mark.conformance
@pytest.mark.parametrize(
    "options",
    [
        {"obs": "pixels"},
        {"obs": "pixels", "picture": "grey", "picture_size": 64, "crop": True, "frame_stack": 4},
        {"obs": "pixels", "picture": "palette", "indicators": "random"},
        {"obs": "pixels", "domain_randomize": True},
        {"obs": "lidar", "beams": 7},
    ],
    ids=str,
)
def test_the_checkers_of_gymnasium_and_stable_baselines3_find_nothing(options: dict) -> None:
    said = complaints(RacingEnv(actions="pedals", frame_skip=2, **options))
    # stable-baselines3's own CNN wants three channels or at least 36 pixels a side; pictures may be smaller than that
    assert {text for text in said if "image" not in text} == set()


@pytest.mark.conformance
@pytest.mark.parametrize("options", [{"obs": "pixels", "frame_stack": 2}, {"obs": "lidar"}], ids=str)
def test_a_lane_of_many_sees_what_a_single_car_sees(options: dict) -> None:
    many, one = RacingVectorEnv(3, num_tracks=3, **options), RacingEnv(**options)
    seen, _ = many.reset(seed=4)
    alone, _ = one.reset(seed=5)
    assert seen.dtype == alone.dtype
    assert seen in many.observation_space
    np.testing.assert_array_equal(seen[1], alone)
    for _ in range(3):
        seen, *_ = many.step(np.tile(TURN, (3, 1)))
        np.testing.assert_array_equal(seen[1], one.step(TURN)[0])


@pytest.mark.oracle
def test_beams_on_the_original_are_those_of_the_simulator() -> None:
    pytest.importorskip("Box2D")
    theirs, ours = drivetrain.original(obs="lidar", beams=9), RacingEnv(obs="lidar", beams=9)
    assert theirs.observation_space == ours.observation_space
    far, _ = theirs.reset(seed=6)
    np.testing.assert_allclose(far, ours.reset(seed=6)[0], atol=1e-3)
    for _ in range(25):
        far = theirs.step(TURN)[0]
        np.testing.assert_allclose(far, ours.step(TURN)[0], atol=0.02)
    read = lidar.observe(theirs.tracks, theirs.car_state(), 9, 40.0)[0]
    np.testing.assert_allclose(far, read, atol=1e-5)


def test_after_warming_up_no_observation_waits_for_the_compiler() -> None:
    kernel.warm()
    kernels = (kernel_picture._see, kernel_lidar._observe, kernel._decide, kernel._restart_all)
    before = [len(compiled.signatures) for compiled in kernels]
    for options in (
        {"obs": "pixels", "picture": "grey", "picture_size": 64, "crop": True, "frame_stack": 4},
        {"obs": "pixels", "picture": "palette", "frame_skip": 2},
        {"obs": "pixels", "domain_randomize": True, "indicators": "random"},
        {"obs": "lidar", "beams": 5},
    ):
        sim = Sim(pool(0, 2), 3, SimConfig(**options))
        sim.reset()
        sim.step(torch.zeros(3, 3))
        sim.restart(torch.tensor([True, False, True]))
    assert [len(compiled.signatures) for compiled in kernels] == before


@pytest.mark.parametrize("obs", ["state", "lidar"])
@pytest.mark.parametrize("fast", [True, False])
def test_hidden_motion_is_zero_and_all_else_is_as_it_was(obs: str, fast: bool) -> None:
    # speeds, yaw rate and slip: 7 numbers of the state, 5 of lidar, which has no front wheels
    hidden = [0, 1, 2, 3, 4, 5, 6] if obs == "state" else [0, 1, 2, 3, 4]
    tracks, seen = pool(1_000_000_000, 3), []
    for hide in (False, True):
        sim = Sim(tracks, 3, SimConfig(obs=obs, frame_skip=8, patience=40, hide_motion=hide), 0, fast=fast)
        rows, generator = [sim.reset().clone()], torch.Generator().manual_seed(0)
        for _ in range(40):
            action = torch.rand(3, 3, generator=generator) * torch.tensor([0.4, 1.0, 0.1])
            outcome = sim.step(action)
            rows += [outcome.obs.clone(), outcome.next_obs.clone()]
        rows.append(sim.restart(torch.tensor([True, False, True])).clone())
        seen.append(torch.stack(rows))
    plain, blind = seen
    assert bool((plain[..., hidden] != 0).any())
    assert not blind[..., hidden].any()
    rest = [k for k in range(plain.shape[-1]) if k not in hidden]
    torch.testing.assert_close(blind[..., rest], plain[..., rest], atol=2e-6, rtol=0)  # a kernel rounds otherwise


def test_hidden_motion_is_hidden_in_the_original_too() -> None:
    env, plain = OriginalEnv(frame_skip=4, hide_motion=True), OriginalEnv(frame_skip=4)
    last = []
    for each in (env, plain):
        each.reset(seed=5)
        last.append([each.step(np.array([0.1, 1.0, 0.0], np.float32))[0] for _ in range(12)][-1])
        each.close()
    blind, seen = last
    assert not blind[:7].any()
    assert seen[0] > 0.1
    np.testing.assert_array_equal(blind[7:], seen[7:])


def test_pictures_show_motion_in_other_ways() -> None:
    with pytest.raises(UserError, match="hide_motion hides numbers; got obs=pixels; allowed state, lidar"):
        SimConfig(obs="pixels", hide_motion=True)
