"""The scripted driver on the original CarRacing-v3, seeds 0 to 99, and on the simulator for the same seeds."""

from __future__ import annotations

import argparse

from _row import publish

from drivetrain.agents.evaluate import expert_actor, play_original_in_workers, play_twin, scripted_actor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100, help="seeds 0 to this minus one (default 100)")
    episodes = parser.parse_args().episodes
    original = play_original_in_workers(scripted_actor, "expert", range(episodes))
    twin = play_twin(expert_actor(), range(episodes))
    low, high = original.ci95()
    values = {
        "episodes": episodes,
        "mean": original.mean,
        "sd": original.sd,
        "min": original.min,
        "p10": original.p10,
        "failures": original.failures(),
        "worst_seed": original.worst_seed,
        "seconds": original.seconds,
        "frames_per_s": sum(original.frames) / original.seconds,
        "mean_twin": twin.mean,
        "laps_of_equal_length": sum(a == b for a, b in zip(twin.frames, original.frames, strict=True)),
    }
    result = (
        f"mean {original.mean:.1f} (95 % {low:.1f} to {high:.1f}), sd {original.sd:.1f}, min {original.min:.1f} "
        f"(seed {original.worst_seed}), P10 {original.p10:.1f}, {original.failures()} below 900, "
        f"{original.seconds:.1f} s; simulator {twin.mean:.1f}, {values['laps_of_equal_length']} laps of equal length"
    )
    publish(values, f"Expert on CarRacing-v3, seeds 0 to {episodes - 1}", result)


if __name__ == "__main__":
    main()
