"""How a car moves in one frame: steering servo, tyres, one rigid body.

The equations are those of `car_dynamics.py` in Gymnasium 1.4 with Box2D's joints solved by hand: the steering motors
are so strong and the wheels so light that hull and wheels move as one body (docs/environment.md gives the measured
difference).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .spec import CAR, DT
from .state import CarState, forward, right, rotate, wheel_levers


def cross(rate: Tensor, lever: Tensor) -> Tensor:
    """Velocity [..., 2] of a point at lever [..., 2] on a body turning at rate [...] rad/s."""
    return rate[..., None] * torch.stack((-lever[..., 1], lever[..., 0]), -1)


def gas_level(gas: Tensor, pedal: Tensor) -> Tensor:
    """Engine level [B] after a frame: rises by a limited amount, falls at once."""
    return gas + (pedal.clamp(0, 1) - gas).clamp(max=CAR.gas_ramp)


def servo_rates(joint: Tensor, steer: Tensor, press: Tensor) -> tuple[Tensor, Tensor]:
    """Rates [B, 4] rad/s of the wheel joints, and press after the frame; steer [B] is positive to the right.

    Box2D starts from the impulses of the frame before: a wheel that its motor pressed against the stop stays there
    until a pull away from it has used the impulse up, in rounds of the solver that each turn the joint to its rate.
    """
    target = torch.stack((-steer, -steer, torch.zeros_like(steer), torch.zeros_like(steer)), 1)
    error = target - joint
    rate = error.sign() * (CAR.servo_gain * error.abs()).clamp(max=CAR.servo_rate)
    pushed = press + (CAR.solver_rounds * CAR.joint_inertia) * rate * joint.sign()
    held = (joint.abs() >= CAR.joint_limit) & (pushed > 0)
    return torch.where(held, 0.0, rate), torch.where(held, pushed.clamp(max=CAR.servo_torque * DT), 0.0)


def speed_cap(velocity: Tensor, yaw_rate: Tensor, heading: Tensor) -> Tensor:
    """[B, 5, 2] u/s that Box2D takes from hull and wheels of a car moving at velocity [B, 2] and yaw_rate [B].

    It limits the speed of each body by itself, after the pins were solved: a fast car in a bend loses it on one side.
    """
    levers = torch.cat((velocity.new_tensor([[0.0, CAR.hull_com_y - CAR.com_y]]), wheel_levers(velocity)))
    each = velocity[:, None] + cross(yaw_rate[:, None], rotate(levers[None], heading[:, None]))
    speed = torch.sqrt((each**2).sum(-1, keepdim=True))
    return torch.where(speed > CAR.max_speed, each * (CAR.max_speed / speed.clamp(min=1e-9) - 1.0), 0.0)


def shared(lost: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
    """What velocities [B, 5, 2] of hull and wheels mean for the car as one body: [B, 2] u/s and [B] rad/s."""
    levers = torch.cat((lost.new_tensor([[0.0, CAR.hull_com_y - CAR.com_y]]), wheel_levers(lost)))
    lever = rotate(levers[None], heading[:, None])
    momentum = lost * lost.new_tensor([CAR.hull_mass, *[CAR.wheel_mass] * 4])[:, None]
    turning = lever[..., 0] * momentum[..., 1] - lever[..., 1] * momentum[..., 0]
    return momentum.sum(1) / CAR.mass, turning.sum(1) / CAR.inertia


def tyres(state: CarState, gas: Tensor, brake: Tensor, capped: Tensor) -> tuple[Tensor, Tensor]:
    """Wheel spins [B, 4] after the frame and forces [B, 4, 2] on the body; capped [B, 4, 2] u/s was taken from wheels.

    A tyre pushes against its slip, forwards (rim speed − ground speed) and sideways, up to the grip of the ground.
    """
    levers = wheel_levers(state.pos)[None]
    angle = state.heading[:, None] + state.joint
    ahead, aside = forward(angle), right(angle)
    # Box2D keeps the velocities that it solved before it turned the body: the levers are those of the last frame.
    ground = state.velocity[:, None] + cross(state.yaw_rate[:, None], rotate(levers, state.prev_heading[:, None]))
    ground = ground + capped
    speed_ahead, speed_aside = (ground * ahead).sum(-1), (ground * aside).sum(-1)

    push = (DT * CAR.engine_power / CAR.spin_inertia) * gas[:, None] / (state.spin.abs() + CAR.engine_floor)
    spin = state.spin + push * state.spin.new_tensor((0.0, 0.0, 1.0, 1.0))
    brake = brake[:, None]
    slowed = spin - spin.sign() * torch.minimum(CAR.brake_spin * brake, spin.abs())
    spin = torch.where(brake >= CAR.brake_lock, 0.0, torch.where(brake > 0, slowed, spin))

    force_ahead = CAR.slip_gain * (CAR.wheel_radius * spin - speed_ahead)
    force_aside = -CAR.slip_gain * speed_aside
    force = torch.sqrt(force_ahead**2 + force_aside**2)
    grip = torch.where(state.road, CAR.grip_road, CAR.grip_grass)
    scale = torch.where(force > grip, grip / force.clamp(min=1e-9), 1.0)
    force_ahead, force_aside = force_ahead * scale, force_aside * scale
    # The spin drawn by the phase is the one before the tyre's reaction, as in the original.
    reacted = spin - (DT * CAR.wheel_radius / CAR.spin_inertia) * force_ahead
    return torch.stack((spin, reacted)), force_ahead[..., None] * ahead + force_aside[..., None] * aside


def move(state: CarState, controls: Tensor) -> CarState:
    """One frame of motion under controls [B, 3]; contacts, tiles and counters are left as they are.

    Semi-implicit Euler; Newton's law for the body, and the reaction of the steering motors as the change of the wheels'
    angular momentum. `velocity` and `yaw_rate` are those before Box2D's cap on the speed of each body: the car moves by
    what the cap leaves, and the next frame begins with it. Two traces remain of the pins that hold the wheels, for a
    body that turns by x = yaw_rate DT in a frame: the wheels' velocities point where they pointed before the turn, so
    that the pins keep cos x of the angular momentum of their going round; and the wheels move on straight lines, by
    the angle atan x, so that setting them right turns the hull back. Both are taken to their first order.
    """
    gas = gas_level(state.gas, controls[:, 1])
    rate, press = servo_rates(state.joint, controls[:, 0], state.press)
    lost = speed_cap(state.velocity, state.yaw_rate, state.prev_heading)
    lost_speed, lost_turn = shared(lost, state.heading)
    (spin, reacted), force = tyres(state, gas, controls[:, 2], lost[:, 1:])

    lever = rotate(wheel_levers(state.pos)[None], state.heading[:, None])
    torque = (lever[..., 0] * force[..., 1] - lever[..., 1] * force[..., 0]).sum(-1)
    reaction = CAR.wheel_inertia * (rate - state.joint_rate).sum(-1)
    kept = 1.0 - (CAR.orbit_share / 2) * (DT * state.yaw_rate) ** 2
    yaw_rate = kept * state.yaw_rate + lost_turn + (DT * torque - reaction) / CAR.inertia
    velocity = state.velocity + lost_speed + (DT / CAR.mass) * force.sum(1)
    slower, straighter = shared(speed_cap(velocity, yaw_rate, state.heading), state.heading)

    joint = state.joint + DT * rate
    limit = CAR.joint_limit + CAR.joint_slop
    joint = torch.where(state.joint.abs() >= CAR.joint_limit, joint.clamp(-limit, limit), joint)
    turn = DT * yaw_rate
    turned = DT * (yaw_rate + straighter)
    back = (CAR.orbit_share / 3) * turn * turn * turn
    return replace(
        state,
        pos=state.pos + DT * (velocity + slower),
        heading=state.heading + (turned - back),
        prev_heading=state.heading,
        velocity=velocity,
        yaw_rate=yaw_rate,
        spin=reacted,
        phase=state.phase + DT * spin,
        joint=joint + (turn - turned + back)[:, None],
        joint_rate=rate,
        press=press,
        gas=gas,
        controls=controls,
    )
