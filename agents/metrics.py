"""Every name that may stand in metrics.jsonl and what it means; docs/metrics.md lists exactly these."""

from __future__ import annotations

__all__ = ["METRICS"]

METRICS: dict[str, str] = {
    "train/return": "mean score of the last 100 training episodes that ended, exploration included",
    "train/frames": "mean length of the last 100 training episodes, frames",
    "train/episodes": "training episodes ended so far",
    "train/laps": "share of the last 100 training episodes in which the lap was finished (driving)",
    "loss/total": "what the optimiser minimises, mean over the minibatches of an update",
    "loss/policy": "clipped surrogate objective, negative where the policy gains (PPO)",
    "loss/value": "half the squared error of the value estimate against the return, in normalised units",
    "loss/entropy": "entropy of the action distribution, nats",
    "loss/anchor": "KL divergence of the policy from the one begun with, nats, while that holds (PPO, --init-from)",
    "loss/q": "mean error of the action values against their targets, by the loss that was chosen (DQN)",
    "loss/imitation": "weighted error of the student's actions against the teacher's (imitation)",
    "loss/situation": "mean squared error of the situation told from what is seen (imitation)",
    "loss/train": "loss over training samples without dropout and augmentation, at most 4,096 (supervised)",
    "loss/validation": "the same over samples that are never learned from (supervised)",
    **{
        f"loss/{part}_{model}": f"the loss/{part} of {model}, where several models are compared (supervised)"
        for model in ("mlp", "gru", "lstm", "transformer")
        for part in ("train", "validation")
    },
    "diag/grad_norm": "norm of the gradient before it is clipped, mean since the last record (supervised)",
    "diag/approx_kl": "mean((ratio - 1) - log ratio): how far an update moved the policy, nats",
    "diag/clip_fraction": "share of samples whose probability ratio left the clipping range",
    "diag/learning_rate": "learning rate of Adam at the end of the update",
    "diag/epochs": "passes over the data before the update ended",
    "diag/q_mean": "mean predicted value of the actions taken, in units of scaled reward (DQN)",
    "diag/td_error": "mean size of the difference between target and predicted value (DQN)",
    "diag/epsilon": "share of random actions; with a ladder, that of the first environment (DQN)",
    "diag/replay_size": "transitions in the replay (DQN)",
    "diag/teacher_share": "share of the cars that is in the teacher's hands (imitation)",
    "eval/mean": "mean score over 100 validation episodes, without exploration",
    "eval/min": "lowest of these scores",
    "eval/p10": "score that one validation episode in ten stays below",
    "eval/sd": "standard deviation of the scores over the validation episodes",
    "eval/failures": "validation episodes below the environment's reward threshold, where it has one (driving: 900)",
    "eval/actions": "how often which action was taken in the validation: of each component its name, the range from "
    "low to high, and counts of equal bins in it; no number but a list",
    "eval/confirmed": "mean score over a second set of 100 episodes, disjoint from all before (--stop-at only)",
    "time/steps_per_s": "steps a second since the start, rollouts and updates only",
    "time/eval_seconds": "seconds spent on validation since the start",
}
