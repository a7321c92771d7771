"""Keys and a gamepad as steering wheel and pedals."""

import numpy as np
import pytest

from drivetrain.envs.hands import FAST_LOCK, MOST_BRAKE, Grip, Hands, Pad, by_keys, by_pad


def after(frames, held, speed=0.0, grip=None):
    grip = grip or Grip()
    for _ in range(frames):
        grip = by_keys(grip, held, speed)
    return grip


@pytest.mark.golden
def test_keys_turn_the_wheel_little_by_little_and_it_comes_back_faster():
    # 3 locks a second are 0.06 a frame of 0.02 s, and 7 a second are 0.14 on the way back
    assert after(5, {"left"}).steer == pytest.approx(-0.30)
    assert after(100, {"d"}).steer == 1.0
    assert after(2, set(), grip=Grip(steer=0.9)).steer == pytest.approx(0.62)
    assert after(20, set(), grip=Grip(steer=0.9)).steer == 0.0
    # steering against the wheel's side is quick as well: 0.5 - 0.14
    assert after(1, {"left"}, grip=Grip(steer=0.5)).steer == pytest.approx(0.36)
    assert after(10, {"left", "right"}).steer == 0.0


@pytest.mark.golden
def test_the_lock_of_the_keys_shrinks_with_speed():
    assert after(100, {"right"}, speed=20.0).steer == 1.0
    # half-way from 20 to 80 u/s: half-way from 1 to 0.35
    assert after(100, {"right"}, speed=50.0).steer == pytest.approx(0.675)
    assert after(100, {"right"}, speed=95.0).steer == pytest.approx(FAST_LOCK)


@pytest.mark.golden
def test_pedals_go_down_slowly_and_up_at_once():
    assert after(10, {"w"}).gas == pytest.approx(0.6)
    assert after(100, {"up"}).gas == 1.0
    assert after(1, set(), grip=Grip(gas=1.0)).gas == 0.0
    assert after(5, {"down"}).brake == pytest.approx(0.4)  # 4 pedals a second
    assert after(100, {"s"}).brake == MOST_BRAKE
    assert after(1, set(), grip=Grip(brake=0.8)).brake == 0.0


@pytest.mark.golden
def test_a_stick_is_calm_near_its_middle_and_whole_at_its_end():
    assert by_pad((0.1, 0.1, 0.1)) == Grip()
    assert by_pad((-1.0, 1.0, 1.0)) == Grip(-1.0, 1.0, MOST_BRAKE)
    # 0.56 is half of the way beyond the dead 0.12; 0.5 ** 1.5 = 0.3536
    assert by_pad((0.56, 0.0, 0.0)).steer == pytest.approx(0.35355, abs=1e-4)


class FakePad:
    def __init__(self, *axes):
        self.now = axes

    def axes(self):
        return self.now


def test_a_pad_drives_while_it_is_touched_and_keys_win():
    hands = Hands(FakePad(-1.0, 0.5, 0.0))
    np.testing.assert_allclose(hands.drive(set(), 10.0), [-1.0, 0.5, 0.0])
    assert hands.axes == (-1.0, 0.5, 0.0)
    # with a key held the wheel comes back from where the pad left it, 0.14 a frame
    np.testing.assert_allclose(hands.drive({"right", "x"}, 10.0), [-0.86, 0.0, 0.0], atol=1e-6)
    assert hands.keys == {"right"}
    hands.let_go()
    assert hands.drive({"up"}, 0.0)[0] == 0.0


def test_only_driving_keys_and_a_moved_pad_count_as_touch():
    assert not Hands().touched({"space", "n"})
    assert Hands().touched({"a"})
    assert not Hands(FakePad(0.05, 0.0, 0.0)).touched(set())
    assert Hands(FakePad(0.0, 0.6, 0.0)).touched(set())


def test_a_known_pad_is_read_by_stick_and_triggers_and_any_other_by_its_first_stick(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pad = Pad()
    monkeypatch.setattr(pad, "_pad", None)
    assert pad.axes() == (0.0, 0.0, 0.0)

    class Device:
        def __init__(self, values):
            self.values = values

        def get_axis(self, axis):
            return self.values[axis]

    import pygame

    known = {
        pygame.CONTROLLER_AXIS_LEFTX: -32768,
        pygame.CONTROLLER_AXIS_TRIGGERRIGHT: 32767,
        pygame.CONTROLLER_AXIS_TRIGGERLEFT: 0,
    }
    pad._pad, pad._mapped = Device(known), True
    assert pad.axes() == (-1.0, 1.0, 0.0)
    pad._pad, pad._mapped = Device({0: 0.5, 1: 0.25}), False  # stick half right and a quarter back
    assert pad.axes() == (0.5, 0.0, 0.25)
