"""One frame: golden numbers of the original, and pieces calculated by hand."""

import math

import pytest
import torch

from drivetrain.envs.dynamics import gas_level, move, servo_rates
from drivetrain.envs.frame import frame, start_states
from drivetrain.envs.spec import CAR, RULES
from drivetrain.envs.state import hull_origin
from drivetrain.envs.track import pool


@pytest.fixture(scope="module")
def tracks():
    return pool(0, 2)


def drive(tracks, state, controls, frames, lap_rule="all"):
    verdicts = []
    for _ in range(frames):
        state, verdict = frame(tracks, state, controls, lap_rule)
        verdicts.append(verdict)
    return state, verdicts


@pytest.mark.golden
def test_reset_leaves_the_car_where_box2d_leaves_it(tracks):
    start = start_states(tracks)
    torch.testing.assert_close(hull_origin(start)[0], torch.tensor([220.38512, -52.16353]), atol=1e-4, rtol=0)
    assert float(start.heading[0]) == pytest.approx(-0.084713, abs=1e-4)
    assert float(start.joint[0, 0]) == pytest.approx(-0.004307, abs=1e-4)
    assert start.visited[0].nonzero()[:, 0].tolist() == [0, 1]


@pytest.mark.golden
def test_sixty_frames_of_seed_0_follow_the_original(tracks):
    # read off gymnasium 1.4.0 with Box2D 2.3.10 under the action (-0.1, 0.3, 0)
    controls = torch.tensor([[-0.1, 0.3, 0.0]]).expand(2, 3)
    state = start_states(tracks)
    state, verdicts = drive(tracks, state, controls, 1)
    assert float(verdicts[0].reward[0]) == pytest.approx(6.169592, abs=1e-5)  # 2 · 1000 / 319 − 0.1
    assert float(state.joint[0, 0]) == pytest.approx(0.0557, abs=1e-4)
    assert state.spin[0].tolist() == pytest.approx([0.0, 0.0, 7.30, 7.30], abs=1e-2)
    state, _ = drive(tracks, state, controls, 9)
    assert hull_origin(state)[0].tolist() == pytest.approx([220.4599, -50.8664], abs=1e-3)
    assert state.spin[0].tolist() == pytest.approx([13.7705, 14.2134, 33.7083, 33.7083], abs=1e-3)
    state, _ = drive(tracks, state, controls, 20)
    assert hull_origin(state)[0].tolist() == pytest.approx([220.0584, -43.2766], abs=2e-3)
    assert int(state.visited_count[0]) == 5
    state, _ = drive(tracks, state, controls, 30)
    assert hull_origin(state)[0].tolist() == pytest.approx([212.1991, -25.4904], abs=5e-3)
    assert float(state.heading[0]) == pytest.approx(0.65974, abs=2e-4)
    assert float(state.yaw_rate[0]) == pytest.approx(1.12862, abs=2e-4)
    assert int(state.visited_count[0]) == 8


@pytest.mark.golden
def test_the_engine_level_rises_slowly_and_falls_at_once():
    gas = torch.tensor([0.0, 0.95, 0.8])
    assert gas_level(gas, torch.tensor([1.0, 1.0, 0.3])).tolist() == pytest.approx([0.1, 1.0, 0.3])


@pytest.mark.golden
def test_full_lock_moves_in_steps_of_six_hundredths_and_overshoots_to_forty_two(tracks):
    # 3 rad/s · 0.02 s = 0.06; the limit is noticed only from 0.4 on: 0.06 … 0.36, 0.42, and there it stays
    state = start_states(tracks)
    state = state.map(lambda x: x.clone())
    state.joint.zero_()
    left = torch.tensor([[-1.0, 0.0, 0.0]]).expand(2, 3)
    angles = []
    for _ in range(9):
        state = move(state, left)
        angles.append(float(state.joint[0, 0]))
    assert angles == pytest.approx([0.06, 0.12, 0.18, 0.24, 0.30, 0.36, 0.42, 0.42, 0.42], abs=1e-6)


@pytest.mark.golden
def test_the_servo_slows_near_its_target():
    # error 0.1 − 0.08 = 0.02: 50 · 0.02 = 1 rad/s; the rear wheels go back to straight
    rates, _ = servo_rates(torch.full((1, 4), 0.08), torch.tensor([-0.1]), torch.zeros(1, 4))
    assert rates[0].tolist() == pytest.approx([1.0, 1.0, -3.0, -3.0])


@pytest.mark.golden
def test_a_wheel_pressed_against_its_stop_comes_off_late():
    # a joint turns against 1 / (1/18.2122768 + 1/0.0074592) = 0.0074561; beyond its stop at 0.4 it is held.
    # target 0.45: 50 · 0.04 = 2 rad/s outwards, 180 rounds would press 180 · 0.0074561 · 2 = 2.68, the motor ends at
    # 64.8 · 0.02 = 1.296
    joint, press = torch.full((1, 1), 0.41).expand(1, 4), torch.zeros(1, 4)
    rates, press = servo_rates(joint, torch.tensor([-0.45]), press)
    assert rates[0, :2].tolist() == [0, 0]
    assert press[0, :2].tolist() == pytest.approx([1.296, 1.296])
    # target 0.40: 50 · −0.01 = −0.5 rad/s inwards uses up 180 · 0.0074561 · 0.5 = 0.671 a frame, so one frame is held
    rates, press = servo_rates(joint, torch.tensor([-0.40]), press)
    assert rates[0, :2].tolist() == [0, 0]
    assert press[0, :2].tolist() == pytest.approx([0.625, 0.625], abs=1e-3)
    rates, press = servo_rates(joint, torch.tensor([-0.40]), press)
    assert rates[0, :2].tolist() == pytest.approx([-0.5, -0.5], rel=1e-3)
    assert press.abs().max() == 0


@pytest.mark.golden
def test_full_gas_from_rest_reaches_the_measured_speeds(tracks):
    # measured on the original, straight ahead: 23.7 u/s after 25 frames, 45.5 after 50
    state, speeds = start_states(tracks), []
    gas = torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3)
    for _ in range(50):
        state = move(state, gas)
        speeds.append(float(state.velocity[0].norm()))
    assert speeds[24] == pytest.approx(23.7, abs=0.1)
    assert speeds[49] == pytest.approx(45.5, abs=0.1)


@pytest.mark.golden
def test_locked_wheels_brake_with_the_grip_of_all_four_tyres(tracks):
    # 4 · 400 / 7.30192 = 219.12 u/s², so one frame takes 4.382 u/s
    state = start_states(tracks).map(lambda x: x.clone())
    state.velocity[:, 1] = 50.0
    state.heading.zero_(), state.prev_heading.zero_(), state.joint.zero_()
    after = move(state, torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3))
    assert float(after.velocity[0, 1]) == pytest.approx(50.0 - 0.02 * 4 * CAR.grip_road / CAR.mass, abs=1e-4)
    grass = after.map(lambda x: x.clone())
    grass.road.zero_()
    slower = move(grass, torch.tensor([[0.0, 0.0, 1.0]]).expand(2, 3))
    lost = float(grass.velocity[0, 1] - slower.velocity[0, 1])
    assert lost == pytest.approx(0.02 * 4 * CAR.grip_grass / CAR.mass, abs=1e-3)


@pytest.mark.golden
def test_a_coasting_car_keeps_its_speed(tracks):
    state = start_states(tracks).map(lambda x: x.clone())
    state.heading.zero_(), state.prev_heading.zero_(), state.joint.zero_()
    state.velocity[:, 1] = 40.0
    state.spin.fill_(40.0 / CAR.wheel_radius)
    for _ in range(50):
        state = move(state, torch.zeros(2, 3))
    assert float(state.velocity[0, 1]) == pytest.approx(40.0, abs=1e-3)


@pytest.mark.golden
def test_leaving_the_field_replaces_the_reward_and_ends_the_episode(tracks):
    state = start_states(tracks).map(lambda x: x.clone())
    state.pos[0] = torch.tensor([333.5, 0.0])
    _, verdict = frame(tracks, state, torch.zeros(2, 3))
    assert verdict.terminated.tolist() == [True, False]
    assert float(verdict.reward[0]) == RULES.out_of_field
    assert not verdict.lap_finished.any()


@pytest.mark.golden
def test_time_runs_out_with_frame_1000_and_not_before(tracks):
    state = start_states(tracks).map(lambda x: x.clone())
    state.frames[:] = torch.tensor([998, 999])
    _, verdict = frame(tracks, state, torch.zeros(2, 3))
    assert verdict.truncated.tolist() == [False, True]
    assert not verdict.terminated.any()


@pytest.mark.golden
def test_the_two_lap_rules_differ_where_a_tile_was_missed(tracks):
    # All tiles but number 9, and the car comes to tile 0 anew: 318 of 319 is a lap only by percent.
    state = start_states(tracks).take(torch.zeros(2, dtype=torch.int64))
    state.visited[:] = True
    state.visited[:, tracks.num_tiles[0] :] = False
    state.visited[0, 9] = False
    state.frames.fill_(600)
    state.on_start.zero_()
    for rule, wanted in (("all", [False, True]), ("percent", [True, True])):
        _, verdict = frame(tracks, state.map(torch.clone), torch.zeros(2, 3), rule)
        assert verdict.lap_finished.tolist() == wanted, rule
        assert verdict.terminated.tolist() == wanted, rule


@pytest.mark.golden
def test_a_tile_reached_by_this_frames_motion_is_paid_in_the_next(tracks):
    # At 100 u/s the car covers 2 u a frame; tile 2 comes into touch between two frames.
    state = start_states(tracks).map(lambda x: x.clone())
    along = torch.stack((-torch.sin(state.heading), torch.cos(state.heading)), 1)
    state.velocity.copy_(along * 90)
    state.spin.fill_(90 / CAR.wheel_radius)
    before = state
    for _ in range(6):
        after, verdict = frame(tracks, before, torch.zeros(2, 3))
        if int(after.visited_count[0]) > 2:
            break
        before = after
    # the same poses, without moving on: the touch was already there when the frame began
    still = before.map(lambda x: x.clone())
    still.velocity.zero_(), still.spin.zero_()
    again, _ = frame(tracks, still, torch.zeros(2, 3))
    assert int(again.visited_count[0]) == int(after.visited_count[0]) > 2
    assert float(verdict.reward[0]) == pytest.approx(1000 / 319 - 0.1, abs=1e-4)


@pytest.mark.invariance
def test_turning_the_whole_world_turns_the_motion_with_it(tracks):
    generator = torch.Generator().manual_seed(3)
    state = start_states(tracks).map(lambda x: x.clone())
    for _ in range(30):
        state = move(state, torch.tensor([[0.3, 0.6, 0.0]]).expand(2, 3))
    angle = float(torch.rand((), generator=generator) * 6)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    turned = state.map(lambda x: x.clone())
    turned.velocity.copy_(state.velocity @ turn.T)
    turned.pos.copy_(state.pos @ turn.T)
    turned.heading.add_(angle), turned.prev_heading.add_(angle)
    controls = torch.tensor([[-0.4, 0.2, 0.1]]).expand(2, 3)
    a, b = move(state, controls), move(turned, controls)
    torch.testing.assert_close(a.velocity @ turn.T, b.velocity, atol=2e-4, rtol=0)
    torch.testing.assert_close(a.yaw_rate, b.yaw_rate, atol=2e-4, rtol=0)
    torch.testing.assert_close(a.spin, b.spin, atol=2e-3, rtol=0)
