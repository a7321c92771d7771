"""The batched simulator: the kernel equals the reference, cars do not know their neighbours, episodes end rightly."""

import pytest
import torch

from drivetrain.envs import kernel
from drivetrain.envs.errors import UserError
from drivetrain.envs.noise import hash_u32
from drivetrain.envs.observe import LOOK_AHEAD, OBS_SIZE, OBS_SPEC, locate, observe
from drivetrain.envs.sim import Sim, SimConfig, count_gaps, farthest
from drivetrain.envs.track import pool

FLAGS = ("terminated", "truncated", "lap_finished", "frames", "episode_frames")


@pytest.fixture(scope="module")
def tracks():
    return pool(0, 16)


def random_actions(num_envs, steps, seed=0, hold=10):
    """Wild pedal work [steps, num_envs, 2], each action held for some steps; row i is the same for every num_envs."""
    rows = []
    for lane in range(num_envs):
        rng = torch.Generator().manual_seed(1000 * seed + lane)
        draws = torch.rand(steps // hold + 1, 2, generator=rng) * torch.tensor([2.0, 1.6]) - torch.tensor([1.0, 0.6])
        rows.append(draws.repeat_interleave(hold, 0)[:steps])
    return torch.stack(rows, 1)


def keep(outcome):
    return {name: getattr(outcome, name).clone() for name in outcome.__dataclass_fields__}


def copy_state(source, target):
    target.load_state_tensors({name: value.clone() for name, value in source.state_tensors().items()})


@pytest.mark.oracle
@pytest.mark.parametrize(
    "config",
    [
        SimConfig(actions="pedals"),
        SimConfig(actions="pedals", frame_skip=3, lap_rule="percent"),
        SimConfig(actions="pedals", frame_skip=2, gap_cost=50.0, patience=40),
    ],
    ids=lambda c: f"skip{c.frame_skip}-{c.gap_cost}-{c.lap_rule}",
)
def test_the_kernel_equals_the_reference_step_for_step(tracks, config):
    # from the same state each time: every flag equal, numbers within rounding of float32
    fast, plain = Sim(tracks, 48, config), Sim(tracks, 48, config, fast=False)
    torch.testing.assert_close(fast.reset(), plain.reset(), atol=2e-6, rtol=0)
    for action in random_actions(48, 140):
        copy_state(fast, plain)
        a, b = fast.step(action), plain.step(action)
        for name in FLAGS:
            assert torch.equal(getattr(a, name), getattr(b, name)), name
        for name in ("obs", "next_obs", "reward"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(a.episode_return, b.episode_return, atol=1e-3, rtol=0)
        after_fast, after_plain = fast.state_tensors(), plain.state_tensors()
        for name, value in after_fast.items():
            if value.is_floating_point():
                torch.testing.assert_close(value, after_plain[name], atol=5e-5, rtol=1e-6, msg=name)
            else:
                assert torch.equal(value, after_plain[name]), name
    assert int(fast.lanes.episode.sum()) > 0 or config.patience == 0


@pytest.mark.oracle
def test_the_kernels_hash_equals_the_tensor_hash():
    lane, episode = torch.arange(200), torch.arange(200) * 7 % 13
    for seed in (0, 5, 2**31 + 7, 2**40 + 3):
        wanted = hash_u32(seed, lane, episode, 1).tolist()
        assert [kernel.hash_u32(seed, i, int(episode[i]), 1) for i in range(200)] == wanted
    assert len(set(hash_u32(0, lane, torch.zeros_like(lane), 1).tolist())) == 200


@pytest.mark.invariance
@pytest.mark.parametrize("num_envs", [1, 2, 33, 257])
@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "torch"])
def test_cars_together_drive_as_each_alone(tracks, num_envs, fast):
    # Lanes are compared with the same lanes of the largest batch, from the same state each step: draws and flags bit
    # for bit; states within 4 units in the last place (the kernel: equal), because vector and scalar code may differ.
    config = SimConfig(actions="pedals", frame_skip=2, gap_cost=50.0, patience=30)
    steps = 60 if fast else 12
    many, few = Sim(tracks, 257, config, 3, fast), Sim(tracks, num_envs, config, 3, fast)
    actions = random_actions(257, steps)
    many.reset(), few.reset()
    for action in actions:
        few.load_state_tensors({name: value[:num_envs].clone() for name, value in many.state_tensors().items()})
        a, b = keep(many.step(action)), keep(few.step(action[:num_envs]))
        for name in (*FLAGS, "reward"):
            assert torch.equal(a[name][:num_envs], b[name]), name
        for name, value in few.state_tensors().items():
            together = many.state_tensors()[name][:num_envs]
            if value.is_floating_point() and not fast:
                torch.testing.assert_close(together, value, atol=1e-6, rtol=4 * 2**-23, msg=name)
            else:
                assert torch.equal(together, value), name
    assert num_envs < 33 or not fast or int(few.lanes.episode.sum()) > 0


@pytest.mark.invariance
def test_the_number_of_threads_changes_no_bit(tracks):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            sim = Sim(tracks, 256, SimConfig(actions="pedals"))
            sim.reset()
            results.append([keep(sim.step(action)) for action in random_actions(256, 40)][-1])
        assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.invariance
def test_an_action_held_by_frame_skip_equals_the_action_repeated(tracks):
    skip, every = Sim(tracks, 8, SimConfig(actions="pedals", frame_skip=4)), Sim(tracks, 8, SimConfig(actions="pedals"))
    skip.reset(), every.reset()
    for action in random_actions(8, 30, hold=3):
        a = keep(skip.step(action))
        parts = [keep(every.step(action)) for _ in range(4)]
        torch.testing.assert_close(a["reward"], sum(p["reward"] for p in parts), atol=1e-4, rtol=0)
        assert torch.equal(a["next_obs"], parts[-1]["next_obs"])


def test_the_frame_that_ends_an_episode_stops_the_action(tracks):
    # 998 frames are used up: of four frames of the next action only two are left
    sim = Sim(tracks, 2, SimConfig(frame_skip=4))
    sim.reset()
    sim.state.frames.fill_(998)
    outcome = sim.step(torch.zeros(2, 3))
    assert outcome.frames.tolist() == [2, 2]
    assert outcome.truncated.all()
    assert not outcome.terminated.any()
    assert outcome.episode_frames.tolist() == [1000, 1000]


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "torch"])
def test_after_an_end_obs_is_the_new_episodes_and_next_obs_the_old_ones(tracks, fast):
    sim = Sim(tracks, 3, SimConfig(), 0, fast)
    sim.reset()
    for _ in range(5):
        sim.step(torch.tensor([[0.0, 1.0, 0.0]]).repeat(3, 1))
    sim.state.frames[1] = 999
    outcome = sim.step(torch.tensor([[0.0, 1.0, 0.0]]).repeat(3, 1))
    assert outcome.done.tolist() == [False, True, False]
    assert torch.equal(outcome.obs[0], outcome.next_obs[0])
    # a fresh episode stands still; the true last observation still moves
    assert float(outcome.obs[1, 0]) == 0.0
    assert float(outcome.next_obs[1, 0]) > 0.05
    assert sim.state.frames.tolist() == [6, 0, 6]
    assert sim.lanes.episode.tolist() == [0, 1, 0]
    torch.testing.assert_close(outcome.obs, observe(sim.tracks, sim.state), atol=2e-6, rtol=0)


def test_episodes_of_a_lane_run_on_different_tracks_drawn_by_the_hash(tracks):
    sim = Sim(tracks, 4, SimConfig(), seed=9)
    sim.reset()
    seen = []
    for episode in range(1, 9):
        sim.state.frames.fill_(999)
        sim.step(torch.zeros(4, 3))
        wanted = hash_u32(9, torch.arange(4), torch.full((4,), episode), 1) % tracks.num_tracks
        assert torch.equal(sim.state.track, wanted)
        seen.append(sim.state.track.tolist())
    assert len({tuple(row) for row in seen}) > 4
    assert Sim(tracks, 20, SimConfig()).state.track.tolist() == [i % 16 for i in range(20)]


@pytest.mark.golden
def test_gaps_are_runs_of_untouched_tiles_clearly_behind_the_car():
    visited = torch.zeros(3, 60, dtype=torch.bool)
    visited[:, :20] = True
    visited[0, 3] = False  # one gap of one tile
    visited[1, [4, 5, 6, 9]] = False  # two gaps
    visited[2, [16, 17]] = False  # one gap, but only three tiles behind tile 19: not given up yet
    far = farthest(visited, torch.tensor([10, 10, 10]))
    assert far.tolist() == [19, 19, 19]
    assert count_gaps(visited, far).tolist() == [1, 2, 0]
    visited[0, 3] = True  # made good
    assert count_gaps(visited, far).tolist() == [0, 2, 0]
    # 40 tiles further on at most: what lies beyond is another part of the road
    visited[:, [30, 59]] = True
    assert farthest(visited, torch.tensor([19, 19, 18])).tolist() == [59, 59, 30]


@pytest.mark.golden
def test_the_cost_of_a_gap_rises_over_the_first_half_of_a_training_if_asked_to(tracks):
    # from 100 half way to 300 at a quarter of the training; a cost below the first one stays as it is
    for cost, wanted in ((300.0, [100.0, 200.0, 300.0, 300.0]), (50.0, [50.0] * 4), (0.0, [0.0] * 4)):
        sim = Sim(tracks, 1, SimConfig(gap_cost=cost, gap_cost_start=100.0))
        found = []
        for share in (0.0, 0.25, 0.5, 0.75):
            sim.schedule(share)
            found.append(sim.config.gap_cost)
        assert found == wanted


@pytest.mark.golden
@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "torch"])
def test_a_gap_costs_its_price_once_and_is_refunded_when_it_is_closed(tracks, fast):
    # tiles 0 … 9 are touched but for 2 and 3; the car stands on tile 10: one gap, price 50, and one new tile
    sim = Sim(tracks, 1, SimConfig(gap_cost=10.0), 0, fast)
    sim.charge(50.0)
    sim.reset()
    sim.state.visited[0, :10] = True
    sim.state.visited[0, 2:4] = False
    sim.state.visited_count.fill_(8)
    sim.state.frames.fill_(1)
    sim.state.pos.copy_(tracks.centre[:1, 10] + 0.5 * (tracks.centre[:1, 9] - tracks.centre[:1, 10]))
    sim.state.heading.copy_(tracks.beta[:1, 10])
    outcome = sim.step(torch.zeros(1, 3))
    gained = int(sim.state.visited_count[0]) - 8
    assert float(outcome.reward) == pytest.approx(gained * 1000 / 319 - 0.1 - 50, abs=1e-3)
    sim.state.pos.copy_(tracks.centre[:1, 3] + 0.5 * (tracks.centre[:1, 2] - tracks.centre[:1, 3]))
    before = int(sim.state.visited_count[0])
    outcome = sim.step(torch.zeros(1, 3))
    gained = int(sim.state.visited_count[0]) - before
    assert gained == 2
    assert float(outcome.reward) == pytest.approx(2 * 1000 / 319 - 0.1 + 50, abs=1e-3)
    # the score of the episode knows nothing of it: 1000 · tiles/319 − 0.1 · 3 frames
    assert float(outcome.episode_return) == pytest.approx((before + 2) * 1000 / 319 - 0.3, abs=1e-3)


@pytest.mark.golden
def test_a_lap_given_up_costs_like_a_gap(tracks):
    sim = Sim(tracks, 1, SimConfig(gap_cost=50.0, patience=2))
    sim.reset()
    rewards = [float(sim.step(torch.zeros(1, 3)).reward) for _ in range(3)]
    # two tiles in the first frame, then two idle frames, of which the second gives up
    assert rewards == pytest.approx([2000 / 319 - 0.1, -0.1, -50.1], abs=1e-3)


@pytest.mark.golden
def test_patience_ends_an_episode_that_gains_nothing_but_leaves_its_score_alone(tracks):
    # standing still: the two tiles of reset are paid in frame 1, then 20 idle frames end the episode in frame 21;
    # the score of the episode is 2 · 1000/319 − 0.1 · 21
    sim = Sim(tracks, 1, SimConfig(patience=20))
    sim.reset()
    ends = [bool(sim.step(torch.zeros(1, 3)).terminated) for _ in range(20)]
    outcome = sim.step(torch.zeros(1, 3))
    assert ends == [False] * 20
    assert bool(outcome.terminated)
    assert float(outcome.episode_return) == pytest.approx(2000 / 319 - 2.1, abs=1e-4)


@pytest.mark.parametrize("fast", [True, False], ids=["kernel", "torch"])
def test_actions_that_carry_gradients_are_driven_like_any_other(tracks, fast):
    sim = Sim(tracks, 2, SimConfig(), fast=fast)
    sim.reset()
    outcome = sim.step(torch.full((2, 3), 0.1, requires_grad=True))
    assert not outcome.obs.requires_grad
    assert not any(value.requires_grad for value in sim.state_tensors().values())


def test_a_car_that_leaves_the_road_and_comes_back_elsewhere_is_credited_there(tracks):
    # put down 150 tiles further on, at rest: the wheels touch what lies there in the next frame
    sim = Sim(tracks, 2, SimConfig())
    sim.reset()
    far = 150
    sim.state.pos.copy_(tracks.centre[sim.state.track, far])
    sim.step(torch.zeros(2, 3))
    assert sim.state.visited[:, far].all()
    assert sim.state.road.all()
    place = locate(tracks, sim.state.track, sim.state.pos)
    assert ((place.index - far).abs() <= 1).all()
    sim.state.pos.copy_(torch.tensor([[0.0, 0.0], [300.0, 300.0]]))
    sim.step(torch.zeros(2, 3))
    assert not sim.state.road.any()


@pytest.mark.invariance
def test_a_saved_simulator_goes_on_bit_for_bit(tracks):
    config = SimConfig(actions="pedals", gap_cost=50.0, patience=25)
    actions = random_actions(32, 80)
    sim = Sim(tracks, 32, config, seed=1)
    sim.reset()
    for action in actions[:50]:
        sim.step(action)
    saved = {name: value.clone() for name, value in sim.state_tensors().items()}
    wanted = [keep(sim.step(action)) for action in actions[50:]]
    other = Sim(tracks, 32, config, seed=1)
    other.reset()
    other.load_state_tensors(saved)
    for action, want in zip(actions[50:], wanted, strict=True):
        got = keep(other.step(action))
        assert all(torch.equal(got[name], want[name]) for name in want)


def test_a_state_of_another_size_is_refused(tracks):
    saved = Sim(tracks, 4, SimConfig()).state_tensors()
    with pytest.raises(UserError, match="does not fit"):
        Sim(tracks, 5, SimConfig()).load_state_tensors(saved)


@pytest.mark.parametrize(
    "wrong",
    [
        {"obs": "stat"},
        {"actions": "pedal"},
        {"lap_rule": "most"},
        {"gap_cost": -1.0},
        {"frame_skip": 0},
        {"patience": -1},
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(wrong):
    with pytest.raises(UserError, match="allowed"):
        SimConfig(**wrong)


@pytest.mark.golden
def test_the_observation_says_what_its_specification_says(tracks):
    sim = Sim(tracks, 4, SimConfig())
    sim.reset()
    for _ in range(40):
        outcome = sim.step(torch.tensor([[-0.05, 0.5, 0.0]]).repeat(4, 1))
    start, parts = 0, {}
    for element in OBS_SPEC:
        parts[element.name] = outcome.next_obs[:, start : start + element.size] * element.scale
        start += element.size
    assert start == OBS_SIZE == outcome.next_obs.shape[1]
    state = sim.state
    speed = state.velocity.norm(dim=1)
    felt = (parts["speed_ahead"][:, 0] ** 2 + parts["speed_aside"][:, 0] ** 2).sqrt()
    torch.testing.assert_close(felt, speed, atol=1e-3, rtol=0)
    torch.testing.assert_close(parts["yaw_rate"][:, 0], state.yaw_rate, atol=1e-5, rtol=0)
    torch.testing.assert_close(parts["steering"][:, 0], state.joint[:, :2].mean(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(parts["controls"], state.controls, atol=0, rtol=0)
    angle = parts["heading_sin"] ** 2 + parts["heading_cos"] ** 2
    torch.testing.assert_close(angle, torch.ones_like(angle), atol=1e-5, rtol=0)
    # places ahead, turned back into the world, lie on the centre line
    ahead = torch.stack((-torch.sin(state.heading), torch.cos(state.heading)), 1)[:, None]
    aside = torch.stack((torch.cos(state.heading), torch.sin(state.heading)), 1)[:, None]
    world = state.pos[:, None] + parts["ahead_right"][..., None] * aside + parts["ahead_forward"][..., None] * ahead
    place = locate(tracks, state.track, state.pos)
    for k, points in enumerate(LOOK_AHEAD):
        a = tracks.centre[state.track, place.index + points]
        b = tracks.centre[state.track, place.index + points + 1]
        torch.testing.assert_close(world[:, k], torch.lerp(a, b, place.share[:, None]), atol=1e-3, rtol=0)


@pytest.mark.golden
def test_offset_and_heading_are_positive_where_the_specification_says(tracks):
    sim = Sim(tracks, 1, SimConfig())
    sim.reset()
    at = 60
    beta, centre, normal = tracks.beta[0, at], tracks.centre[0, at], tracks.normal[0, at]
    sim.state.pos.copy_(centre + 2.0 * normal)  # 2 u to the right
    sim.state.heading.fill_(float(beta) + 0.1)  # turned left
    obs = sim.observe()[0]
    names = [element.name for element in OBS_SPEC for _ in range(element.size)]
    assert float(obs[names.index("offset")]) * OBS_SPEC[7].scale == pytest.approx(2.0, abs=0.1)
    assert float(obs[names.index("heading_sin")]) == pytest.approx(0.0998, abs=0.05)
    assert float(obs[names.index("heading_cos")]) > 0.98


@pytest.mark.gpu
def test_the_reference_runs_on_a_gpu_and_agrees_with_the_cpu(tracks):
    config = SimConfig(actions="pedals", gap_cost=50.0, patience=40)
    cpu, gpu = Sim(tracks, 64, config), Sim(tracks.to("cuda"), 64, config)
    cpu.reset(), gpu.reset()
    for action in random_actions(64, 60):
        gpu.load_state_tensors(cpu.state_tensors())
        a, b = cpu.step(action), gpu.step(action.cuda())
        torch.testing.assert_close(a.next_obs, b.next_obs.cpu(), atol=1e-4, rtol=1e-4)
        assert torch.equal(a.done, b.done.cpu())
