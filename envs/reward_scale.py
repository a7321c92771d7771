"""Rewards divided by the spread of the discounted return."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EPS = 1e-8
LIMIT = 10.0
"""of a scaled reward: the spread is not known at first"""

Floats = NDArray[np.float64]


class RewardScale:
    """Divides rewards by the running standard deviation of the discounted return of each lane.

    R_t = γ R_{t−1} + r_t, begun anew with every episode; r_t / √(Var(R) + ε), at most ± LIMIT, where Var is over all R
    so far, of all lanes (Engstrom et al. 2020, "Implementation Matters", 1.2 "Reward scaling"; Chan et al. 1983 for
    the variance).

    Args:
        num_envs: B.
        gamma: discount, per step.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.returns: Floats = np.zeros(num_envs)
        self.moments: Floats = np.zeros(3)  # count, mean, sum of squared deviations

    def __call__(self, reward: Floats, done: NDArray[np.bool_], valid: NDArray[np.bool_] | None) -> Floats:
        """[B] scaled rewards.

        Args:
            reward: [B].
            done: [B], an episode ended with it.
            valid: [B], which lanes took a step; None = all.
        """
        self.returns *= self.gamma
        self.returns += reward
        self._add(self.returns if valid is None else self.returns[valid])
        self.returns[done if valid is None else done | ~valid] = 0
        spread = np.sqrt(self.moments[2] / max(self.moments[0], 1.0) + EPS)
        return np.clip(reward / spread, -LIMIT, LIMIT)

    def _add(self, values: Floats) -> None:
        n = len(values)
        if n == 0:
            return
        count, mean, squares = self.moments
        mine, total = values.mean(), count + n
        gap = mine - mean
        squares += ((values - mine) ** 2).sum() + gap**2 * count * n / total
        self.moments[:] = total, mean + gap * n / total, squares
