"""A driver on the same tracks of the simulator and of Gymnasium's CarRacing-v3: how far apart are its scores?

A lap that fails hangs by a thread: a network's sums differ in their last bit with the number of cars that it drives
together, and this alone may lose a lap or save it. With several --batches each track is driven once in batches of every
size, in both worlds, and its scores are averaged.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from _row import publish

from drivetrain.agents.evaluate import Scores, play_original_in_workers, play_twin
from drivetrain.drivers import actor_of, find_driver


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", default="racing-imitate-pixels", help="default racing-imitate-pixels")
    parser.add_argument("--episodes", type=int, default=50, help="test seeds 0 to this minus one (default 50)")
    parser.add_argument("--batches", type=int, nargs="+", help="cars driven together (default: all)")
    options = parser.parse_args()
    driver, seeds = find_driver(options.run), range(options.episodes)
    actor, sizes = driver.actor(), options.batches or [options.episodes]
    twin = mean_scores(seeds, sizes, lambda part: play_twin(actor, part, driver.sim_config))
    original = mean_scores(
        seeds, sizes, lambda part: play_original_in_workers(actor_of, driver.key, part, driver.sim_config)
    )
    pairs = zip(twin.scores, original.scores, strict=True)
    gap = Scores(tuple(seeds), tuple(ours - theirs for ours, theirs in pairs), original.frames, 0.0)
    low, high = gap.ci95()
    largest = max(gap.scores, key=abs)
    publish(
        {"twin": twin.scores, "original": original.scores, "gap": gap.mean, "ci95": [low, high]},
        f"{driver.title} on the same {options.episodes} test tracks of both worlds, "
        f"driven in batches of {', '.join(map(str, sizes))}",
        f"simulator mean {twin.mean:.1f} (min {twin.min:.0f}), CarRacing-v3 mean {original.mean:.1f} "
        f"(min {original.min:.0f}, {original.failures()} below 900); paired gap {gap.mean:+.1f} "
        f"(95 % {low:+.1f} to {high:+.1f}), largest of a track {largest:+.1f}",
    )


def mean_scores(seeds: range, sizes: list[int], play: Callable[[range], Scores]) -> Scores:
    """The scores of the seeds, averaged over playing them in batches of each size."""
    rounds = [
        [score for first in range(0, len(seeds), size) for score in play(seeds[first : first + size]).scores]
        for size in sizes
    ]
    means = tuple(sum(scores) / len(sizes) for scores in zip(*rounds, strict=True))
    return Scores(tuple(seeds), means, (0,) * len(seeds), 0.0)


if __name__ == "__main__":
    main()
