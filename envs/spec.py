"""Constants of the car, the road and the rules, with units.

Source: CarRacing-v3 of Gymnasium 1.4 (`envs/box2d/car_racing.py` and `car_dynamics.py`) and Box2D 2.3's settings.
Units: u (the world unit of CarRacing), seconds, radians; forces and masses in Box2D's units. Derived values are
properties, so that changing one number never leaves another behind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DT = 0.02
"""s, length of one simulator frame"""


GAP_MARGIN = 5
"""tiles the car must be past a tile that it did not touch, for this to count as missed"""
GAP_REACH = 40
"""tiles ahead that may be reached in a frame; farther ones are another part of the road"""


@dataclass(frozen=True)
class CarSpec:
    """Rigid body with four wheels; body frame: x right, y forward, origin at the hull's origin."""

    hull_mass: float = 7.06
    hull_com_y: float = -0.0825309
    """u, the hull's own centre of mass"""
    hull_inertia: float = 18.2122768
    """about the hull's own centre of mass"""
    wheel_mass: float = 0.06048
    wheel_inertia: float = 0.0074592
    wheel_x: tuple[float, float, float, float] = (-1.1, 1.1, -1.1, 1.1)
    """u, order FL FR RL RR"""
    wheel_y: tuple[float, float, float, float] = (1.6, 1.6, -1.64, -1.64)
    wheel_half_width: float = 0.28
    wheel_radius: float = 0.54
    spin_inertia: float = 1.6
    """moment of inertia of a wheel's spin"""
    engine_power: float = 40_000.0
    """per rear wheel"""
    engine_floor: float = 5.0
    """rad/s added to the spin, so that power over speed stays finite"""
    gas_ramp: float = 0.1
    """largest rise of the gas level in a frame"""
    brake_spin: float = 15.0
    """rad/s a full brake takes from the spin in a frame"""
    brake_lock: float = 0.9
    """brake level from which the wheels stop at once"""
    slip_gain: float = 82.0
    """force per u/s of slip"""
    grip_road: float = 400.0
    grip_grass: float = 240.0
    servo_gain: float = 50.0
    servo_rate: float = 3.0
    """rad/s"""
    joint_limit: float = 0.4
    """rad"""
    joint_slop: float = 2.0 * math.pi / 180.0
    """rad a joint may overshoot its limit by"""
    servo_torque: float = 64.8
    """largest torque of a steering motor"""
    solver_rounds: int = 180
    """of Box2D's velocity solver, each of which passes on a little of a motor's push"""
    contact_margin: float = 0.02
    """u, two polygon skins of Box2D"""
    max_speed: float = 100.0
    """u/s, Box2D's largest translation of 2 u in a frame"""
    position_rounds: int = 8
    """of Box2D's position solver that the start of an episode can need: it takes three"""
    joint_gap: float = 0.005
    """u, gap at a wheel's pin that Box2D leaves alone"""

    @property
    def mass(self) -> float:
        return self.hull_mass + 4 * self.wheel_mass

    @property
    def com_y(self) -> float:
        """u, centre of mass of hull and wheels, from the hull's origin"""
        return (self.hull_mass * self.hull_com_y + self.wheel_mass * sum(self.wheel_y)) / self.mass

    @property
    def inertia(self) -> float:
        """about the combined centre of mass"""
        wheels = sum(
            self.wheel_inertia + self.wheel_mass * (x**2 + (y - self.com_y) ** 2)
            for x, y in zip(self.wheel_x, self.wheel_y, strict=True)
        )
        return self.hull_inertia + self.hull_mass * (self.hull_com_y - self.com_y) ** 2 + wheels

    @property
    def orbit_share(self) -> float:
        """share of `inertia` that is the wheels' going round the centre of mass"""
        round_ = sum(x**2 + (y - self.com_y) ** 2 for x, y in zip(self.wheel_x, self.wheel_y, strict=True))
        return self.wheel_mass * round_ / self.inertia

    @property
    def joint_inertia(self) -> float:
        """what a steering motor turns: wheel against hull"""
        return 1.0 / (1.0 / self.hull_inertia + 1.0 / self.wheel_inertia)

    @property
    def wheel_reach(self) -> float:
        """u, farthest a wheel's centre may be from what it touches"""
        return math.hypot(self.wheel_half_width, self.wheel_radius) + self.contact_margin


@dataclass(frozen=True)
class RoadSpec:
    """The track generator and the playing field."""

    checkpoints: int = 12
    radius: float = 150.0
    step: float = 3.5
    """u between centre points"""
    turn_rate: float = 0.31
    """rad, largest change of heading per point"""
    half_width: float = 40.0 / 6.0
    kerb_width: float = 8.0 / 6.0
    kerb_run: int = 4
    """consecutive turning points that make a kerb"""
    playfield: float = 2000.0 / 6.0
    """u, |x| or |y| of the hull's origin beyond which an episode ends"""


@dataclass(frozen=True)
class Rules:
    """Rewards and ends of an episode, as CarRacing-v3 has them."""

    time_limit: int = 1_000
    """frames"""
    lap_reward: float = 1_000.0
    """shared by all tiles of a track"""
    frame_cost: float = 0.1
    out_of_field: float = -100.0
    """replaces the reward of the frame that leaves the field"""
    lap_percent: float = 0.95
    """share of tiles that finishes a lap at tile 0 under lap_rule="percent" """


CAR = CarSpec()
ROAD = RoadSpec()
RULES = Rules()
