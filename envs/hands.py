"""Driving by hand: held keys, or a gamepad, become steering and pedals."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .spec import DT
from .viewer import load_pygame

Array = np.ndarray

KEYS = ("left", "right", "up", "down", "a", "d", "w", "s")
"""names of the keys that drive"""
_LEFT, _RIGHT, _UP, _DOWN = ({arrow, letter} for arrow, letter in zip(KEYS[:4], KEYS[4:], strict=True))

STEER_RATE, RETURN_RATE = 3.0, 7.0
"""full locks a second: how fast keys turn the wheel, and how fast it comes back"""
GAS_RATE, BRAKE_RATE = 3.0, 4.0
"""full pedals a second"""
MOST_BRAKE = 0.8
"""a harder brake locks the wheels"""
CALM, FAST = 20.0, 80.0
"""u/s, between which the keys' lock falls from 1 to FAST_LOCK: a full lock at speed is a spin"""
FAST_LOCK = 0.35
DEAD = 0.12
"""of a stick's way, taken for rest"""


@dataclass(frozen=True)
class Grip:
    """Where wheel and pedals are held."""

    steer: float = 0.0  # -1 left to 1 right
    gas: float = 0.0
    brake: float = 0.0

    def controls(self) -> Array:
        """[3] float32: steer, gas, brake."""
        return np.array((self.steer, self.gas, self.brake), np.float32)


def by_keys(grip: Grip, held: Collection[str], speed: float) -> Grip:
    """The grip a frame later, with these keys held, at a speed in u/s."""
    keys = set(held)
    side = bool(keys & _RIGHT) - bool(keys & _LEFT)
    share = min(max((speed - CALM) / (FAST - CALM), 0.0), 1.0)
    wanted = side * (1 + share * (FAST_LOCK - 1))
    # letting go, and steering against where the wheel is, are quick
    rate = STEER_RATE if side * grip.steer >= 0 and side else RETURN_RATE
    return Grip(
        _towards(grip.steer, wanted, rate * DT),
        _towards(grip.gas, float(bool(keys & _UP)), GAS_RATE * DT if keys & _UP else 1.0),
        _towards(grip.brake, MOST_BRAKE * bool(keys & _DOWN), BRAKE_RATE * DT if keys & _DOWN else 1.0),
    )


def by_pad(axes: tuple[float, float, float]) -> Grip:
    """The grip of a gamepad: stick -1 to 1, gas and brake trigger 0 to 1. Near its middle the stick is calm."""
    stick, gas, brake = axes
    beyond = max(abs(stick) - DEAD, 0.0) / (1 - DEAD)
    steer = np.copysign(beyond**1.5, stick)
    return Grip(float(steer), gas if gas > DEAD else 0.0, MOST_BRAKE * brake if brake > DEAD else 0.0)


def _towards(value: float, wanted: float, step: float) -> float:
    return min(max(wanted, value - step), value + step)


class Pad:
    """The first gamepad, or any joystick, if one is plugged in; a window must be open."""

    def __init__(self) -> None:
        self._pygame = load_pygame()
        self._pad: Any = None
        self._mapped = False
        with contextlib.suppress(self._pygame.error, ImportError):  # a system without joysticks
            from pygame._sdl2 import controller

            self._pygame.joystick.init()
            controller.init()
            if self._pygame.joystick.get_count():
                # SDL knows the layout of common pads; of others, the first stick is used
                self._mapped = bool(controller.is_controller(0))
                self._pad = controller.Controller(0) if self._mapped else self._pygame.joystick.Joystick(0)

    def axes(self) -> tuple[float, float, float]:
        """Steering -1 to 1, gas and brake 0 to 1; at rest without a pad, or when it was unplugged."""
        if self._pad is None:
            return 0.0, 0.0, 0.0
        try:
            if self._mapped:
                names = ("CONTROLLER_AXIS_LEFTX", "CONTROLLER_AXIS_TRIGGERRIGHT", "CONTROLLER_AXIS_TRIGGERLEFT")
                numbers = (self._pad.get_axis(getattr(self._pygame, name)) / 32767 for name in names)
                stick, gas, brake = numbers
            else:
                stick, pedal = self._pad.get_axis(0), self._pad.get_axis(1)
                gas, brake = max(-pedal, 0.0), max(pedal, 0.0)
        except self._pygame.error:
            return 0.0, 0.0, 0.0
        return min(max(stick, -1.0), 1.0), min(max(gas, 0.0), 1.0), min(max(brake, 0.0), 1.0)


class Hands:
    """What a person does with keys and pad, frame by frame."""

    def __init__(self, pad: Pad | None = None) -> None:
        self._pad = pad
        self._grip = Grip()
        self.keys: frozenset[str] = frozenset()
        """driving keys held in the last frame"""
        self.axes = (0.0, 0.0, 0.0)
        """the pad's axes in the last frame"""

    def drive(self, held: Collection[str], speed: float) -> Array:
        """Controls [3] float32 of this frame: those of the pad while it is touched, else those of the keys."""
        self.keys = frozenset(held) & frozenset(KEYS)
        self.axes = self._pad.axes() if self._pad is not None else (0.0, 0.0, 0.0)
        touched = not self.keys and max(map(abs, self.axes)) > DEAD
        self._grip = by_pad(self.axes) if touched else by_keys(self._grip, self.keys, speed)
        return self._grip.controls()

    def touched(self, held: Collection[str]) -> bool:
        """Whether a driving key is held, or the pad is moved."""
        axes = self._pad.axes() if self._pad is not None else (0.0, 0.0, 0.0)
        return bool(set(held) & set(KEYS)) or max(map(abs, axes)) > DEAD

    def let_go(self) -> None:
        """Wheel straight, feet off the pedals."""
        self._grip = Grip()
