"""Every name that may stand in metrics.jsonl and what it means; docs/metrics.md lists exactly these."""

from __future__ import annotations

__all__ = ["METRICS"]

METRICS: dict[str, str] = {
    "train/return": "mean score of the last 100 training episodes that ended, exploration included",
    "train/frames": "mean length of the last 100 training episodes, frames",
    "train/episodes": "training episodes ended so far",
    "train/laps": "share of the last 100 training episodes in which the lap was finished",
    "loss/total": "what the optimiser minimises, mean over the minibatches of an update",
    "loss/policy": "clipped surrogate objective, negative where the policy gains",
    "loss/value": "half the squared error of the value estimate against the return, in normalised units",
    "loss/entropy": "entropy of the action distribution, nats",
    "diag/approx_kl": "mean((ratio - 1) - log ratio): how far an update moved the policy, nats",
    "diag/clip_fraction": "share of samples whose probability ratio left the clipping range",
    "diag/learning_rate": "learning rate of Adam at the end of the update",
    "diag/epochs": "passes over the data before the update ended",
    "eval/mean": "mean score over 100 validation tracks, without exploration",
    "eval/min": "lowest of these scores",
    "eval/p10": "score that one validation episode in ten stays below",
    "eval/sd": "standard deviation of the scores over the validation tracks",
    "eval/failures": "validation episodes below 900",
    "eval/confirmed": "mean score over a second set of 100 tracks, disjoint from all before (--stop-at only)",
    "time/steps_per_s": "steps a second since the start, rollouts and updates only",
    "time/eval_seconds": "seconds spent on validation since the start",
}
