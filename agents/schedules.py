"""Learning rates as functions of steps taken or of how far the policy moved; never of the clock."""

from __future__ import annotations

LOWEST_RATE, HIGHEST_RATE = 1e-5, 1e-2
RATE_STEP = 1.5


def linear(start: float, steps: int, total_steps: int, end: float = 0.0) -> float:
    """From start at step 0 to end at total_steps, and end from there on."""
    return end + (start - end) * max(0.0, 1.0 - steps / max(1, total_steps))


def adapt_to_kl(rate: float, kl: float, desired_kl: float) -> float:
    """The next learning rate: lower where the policy moved more than twice as far as desired, higher below half.

    As in legged_gym's rsl_rl (Rudin et al. 2022, section 4), with the same factor of 1.5.
    """
    if kl > 2.0 * desired_kl:
        return max(LOWEST_RATE, rate / RATE_STEP)
    if kl < 0.5 * desired_kl:
        return min(HIGHEST_RATE, rate * RATE_STEP)
    return rate
