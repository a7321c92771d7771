"""How often drivers fail: 2,000 validation tracks of the simulator, apart from those that chose the checkpoint."""

from __future__ import annotations

import argparse

from _row import publish

from drivetrain.agents.evaluate import Scores, play_twin
from drivetrain.drivers import find_driver

FIRST_SEED, EPISODES = 1_000_500_000, 2_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", default=["racing-ppo-state"], help="runs (default racing-ppo-state)")
    found: dict[str, Scores] = {}
    for run in parser.parse_args().runs:
        driver = find_driver(run)
        found[run] = play_twin(driver.actor(), range(FIRST_SEED, FIRST_SEED + EPISODES), driver.sim_config)
    words = [
        f"{run}: mean {s.mean:.1f}, min {s.min:.0f}, {s.failures() / EPISODES:.2%} below 900, "
        f"{s.failures(800)} episodes below 800"
        for run, s in found.items()
    ]
    values = {run: {"mean": s.mean, "min": s.min, "failures": s.failures()} for run, s in found.items()}
    publish(values, f"Failures on {EPISODES:,} validation tracks of the simulator", "; ".join(words))


if __name__ == "__main__":
    main()
