"""Steps a second: the simulator alone from 1 to 16,384 cars, and PPO with the default config, learning included.

PPO is set against the floor of its own arithmetic, measured in the same run and alternating with it: the forward passes
that choose actions, the loss and the optimiser's steps, on tensors that are already there. What the simulator, the
bookkeeping and the advantages cost on top is the difference.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import torch
from _row import publish

from drivetrain.agents.agent import PPO
from drivetrain.agents.ppo import Batch, PPOLearner
from drivetrain.device import choose_device, set_threads
from drivetrain.envs.sim import Sim, SimConfig
from drivetrain.envs.track import pool

CARS = (1, 16, 64, 256, 1_024, 4_096, 16_384)


def rate(advance: Callable[[], int], seconds: float) -> float:
    """Steps a second of advance, which returns the steps it took."""
    advance()
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        steps += advance()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    return steps / (time.perf_counter() - began)


def simulator(cars: int, device: str) -> tuple[Callable[[], int], int]:
    """A call that advances all cars by twenty frames, and the bytes of state a car has."""
    sim = Sim(pool(0, 256, device), cars, SimConfig())
    sim.reset()
    # gentle random steering and enough gas to leave the start: cars on the road, on the grass and starting anew
    noise = torch.Generator().manual_seed(0)
    steer = torch.rand(20, cars, 1, generator=noise) * 0.3 - 0.15
    actions = torch.cat((steer, torch.full((20, cars, 1), 0.3), torch.zeros(20, cars, 1)), 2).to(device)

    def advance() -> int:
        for action in actions:
            sim.step(action)
        return 20 * cars

    size = sum(value.element_size() * value[0].numel() for value in sim.state_tensors().values())
    return advance, size


def floor(learner: PPOLearner) -> Callable[[], int]:
    """A call that does the forward passes, losses and optimiser steps of one update, and nothing else."""
    cfg, policy = learner.cfg, learner.policy
    total = cfg.num_envs * cfg.num_steps
    noise = {"generator": learner.generator, "device": learner.env.device}
    obs = torch.randn(total, policy.obs_norm.mean.shape[0], **noise)
    with torch.no_grad():
        pi = policy.pi(obs)
        raw = pi.sample(learner.generator)
        batch = Batch(obs, raw, pi.log_prob(raw), torch.randn(total, **noise), torch.randn(total, **noise))
    parts = [Batch(*(x[i :: cfg.num_minibatches].contiguous() for x in batch)) for i in range(cfg.num_minibatches)]
    seen = obs[: cfg.num_envs]

    def advance() -> int:
        learner.rate = 1e-12  # the arithmetic of an update without its effect
        with torch.no_grad():
            for _ in range(cfg.num_steps):
                policy.pi(seen)
        for _ in range(cfg.update_epochs):
            for part in parts:
                learner._minibatch(part)
        return total

    return advance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one measurement (default 1.5)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, cases alternating (default 5)")
    options = parser.parse_args()
    device = choose_device(options.device)
    threads = set_threads(None)

    cases = {cars: simulator(cars, device) for cars in CARS}
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for cars, (advance, _) in cases.items():
            found.setdefault(f"{cars} cars", []).append(rate(advance, options.seconds))
    agent, other = PPO("racing", device=device), PPO("racing", device=device)
    bare = floor(other.learner)

    def update() -> int:
        before = agent.steps
        agent.learner.update_once()
        return agent.steps - before

    for _ in range(options.rounds):
        found.setdefault("PPO", []).append(rate(update, 3 * options.seconds))
        found.setdefault("PPO floor", []).append(rate(bare, 3 * options.seconds))
    shares = [a / b for a, b in zip(found["PPO"], found["PPO floor"], strict=True)]
    median = {name: statistics.median(values) for name, values in found.items()}
    for name, values in found.items():
        print(f"{name:>12}: {median[name]:>12,.0f} steps/s  ({min(values):,.0f} to {max(values):,.0f})")
    size = cases[1_024][1]
    values = {"steps_per_s": median, "ppo_share_of_floor": statistics.median(shares), "bytes_per_car": size}
    sims = ", ".join(f"{cars:,}: {median[f'{cars} cars']:,.0f}" for cars in CARS)
    publish(
        values | {"device": device, "threads": threads},
        "Simulator, state observation, frame skip 1, steps/s by cars",
        f"{sims}; {size} bytes of state a car",
    )
    low, high = min(found["PPO"]), max(found["PPO"])
    publish(
        values | {"device": device, "threads": threads},
        "PPO on racing, default config, learning included",
        f"{median['PPO']:,.0f} steps/s ({low:,.0f} to {high:,.0f}); {statistics.median(shares):.2f} of what forward, "
        f"loss and update alone allow ({median['PPO floor']:,.0f})",
    )


if __name__ == "__main__":
    main()
