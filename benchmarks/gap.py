"""A driver on the same tracks of the simulator and of Gymnasium's CarRacing-v3: how far apart are its scores?"""

from __future__ import annotations

import argparse

from _row import publish

from drivetrain.agents.evaluate import Scores, play_original_in_workers, play_twin
from drivetrain.drivers import actor_of, find_driver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="racing-ppo-pixels", help="default racing-ppo-pixels")
    parser.add_argument("--episodes", type=int, default=50, help="test seeds 0 to this minus one (default 50)")
    options = parser.parse_args()
    driver, seeds = find_driver(options.run), range(options.episodes)
    twin = play_twin(driver.actor(), seeds, driver.sim_config)
    original = play_original_in_workers(actor_of, driver.key, seeds, driver.sim_config)
    pairs = zip(twin.scores, original.scores, strict=True)
    gap = Scores(tuple(seeds), tuple(ours - theirs for ours, theirs in pairs), original.frames, 0.0)
    low, high = gap.ci95()
    largest = max(gap.scores, key=abs)
    publish(
        {"twin": twin.scores, "original": original.scores, "gap": gap.mean, "ci95": [low, high]},
        f"{driver.title} on the same {options.episodes} test tracks of both worlds",
        f"simulator mean {twin.mean:.1f} (min {twin.min:.0f}), CarRacing-v3 mean {original.mean:.1f} "
        f"(min {original.min:.0f}, {original.failures()} below 900); paired gap {gap.mean:+.1f} "
        f"(95 % {low:+.1f} to {high:+.1f}), largest of a track {largest:+.1f}",
    )


if __name__ == "__main__":
    main()
