"""Proximal policy optimisation (Schulman et al. 2017) on batched environments.

Reading order: `update_once` is one round: collect a rollout, estimate values and advantages, then several epochs of
minibatches on the clipped loss. Shapes: T steps, B environments, N = T·B samples, O observation size
(pictures: H, W, C·k).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..policies.build import build_policy
from ..policies.cores import Memory
from ..policies.heads import Distribution
from ..policies.policy import Policy
from .adam import Adam
from .anchor import CLONE_STD, Anchor, freeze, freeze_encoder, judging, set_std
from .config import PPOConfig
from .frames import Frames
from .returns import gae
from .rollout import BatchedEnv, EpisodeStats, Rollout, collect
from .schedules import adapt_to_kl, linear

ADAM_EPS = 1e-5
ENV_PREFIX, OPTIMIZER_PREFIX, ANCHOR_PREFIX = "env.", "optimizer.", "anchor."


class Sequence(NamedTuple):
    """What a policy with memory has to know of L lanes to be run through T steps again."""

    kept: Tensor  # [L, M] remembered before the first step
    first: Tensor  # [T, L] bool, steps before which it is forgotten
    rows: Tensor | None  # [K] int64, which of the T·L samples are transitions; None = all


class Batch(NamedTuple):
    """Samples to learn from."""

    obs: Tensor | Frames  # [N, O] standardised; pictures uint8 [N, H, W, C·k], or a rollout's
    raw_action: Tensor  # [N, A] or [N]
    log_prob: Tensor  # [N] when the action was taken
    advantage: Tensor  # [N]
    return_: Tensor  # [N] standardised if norm_return
    anchor: Tensor | None = None  # [N, F] what the anchor's head reads

    def take(self, index: Tensor) -> Batch:
        """Samples index [K] int64."""
        obs = self.obs.take(index) if isinstance(self.obs, Frames) else self.obs.index_select(0, index)
        anchor = None if self.anchor is None else self.anchor.index_select(0, index)
        rest = (self.raw_action, self.log_prob, self.advantage, self.return_)
        return Batch(obs, *(x.index_select(0, index) for x in rest))._replace(anchor=anchor)


def ppo_loss(pi: Distribution, value: Tensor, batch: Batch, cfg: PPOConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate + value error − entropy bonus (Schulman et al. 2017, eq. 7 and 9), and its parts.

    The KL estimate is mean((ratio − 1) − log ratio) (Schulman 2020, "Approximating KL divergence").
    """
    log_ratio = pi.log_prob(batch.raw_action) - batch.log_prob
    ratio = log_ratio.exp()
    advantage = batch.advantage
    if cfg.norm_adv and len(advantage) > 1:  # a single sample has no spread
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    clipped = ratio.clamp(1 - cfg.clip_coef, 1 + cfg.clip_coef)
    policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    value_loss = 0.5 * ((value - batch.return_) ** 2).mean()
    entropy = pi.entropy().mean()
    total = policy_loss + cfg.vf_coef * value_loss - cfg.ent_coef * entropy
    with torch.no_grad():
        parts = {
            "loss/total": total.detach(),
            "loss/policy": policy_loss.detach(),
            "loss/value": value_loss.detach(),
            "loss/entropy": entropy.detach(),
            "diag/approx_kl": (ratio - 1 - log_ratio).mean(),
            "diag/clip_fraction": ((ratio - 1).abs() > cfg.clip_coef).float().mean(),
        }
    return total, parts


@torch.no_grad()
def estimate(policy: Policy, rollout: Rollout, last_obs: Tensor, cfg: PPOConfig) -> Batch:
    """Values, advantages and returns of a rollout, flattened to N samples."""
    obs = rollout.obs if isinstance(rollout.obs, Frames) else policy.obs_norm(rollout.obs.flatten(0, 1))
    value = values(policy, obs, rollout.reward.shape, cfg) if rollout.value is None else rollout.value
    last_value = policy.value_with(policy.obs_norm(last_obs), rollout.memory)
    # The state after a step is the one the next step acts in, but where an episode was cut off.
    next_value = torch.cat((value[1:], last_value[None]))
    if rollout.cut_value is not None:
        next_value = torch.where(rollout.cut, rollout.cut_value, next_value)
    elif rollout.cut_obs is not None:
        next_value[rollout.cut] = policy.value(policy.obs_norm(rollout.cut_obs[rollout.cut]))
    if cfg.norm_return:
        value, next_value = (policy.return_norm.invert(v[..., None])[..., 0] for v in (value, next_value))
    advantage = gae(rollout.reward, value, next_value, rollout.terminated, rollout.truncated, cfg.gamma, cfg.gae_lambda)
    return_ = (advantage + value).flatten()
    if cfg.norm_return:
        policy.return_norm.update(return_[samples(rollout)][:, None])
        return_ = policy.return_norm(return_[:, None])[:, 0]
    return Batch(obs, rollout.raw_action.flatten(0, 1), rollout.log_prob.flatten(), advantage.flatten(), return_)


def samples(rollout: Rollout) -> Tensor:
    """[N] int64: which of the T·B rows are transitions."""
    if rollout.valid is None:
        return torch.arange(rollout.reward.numel(), device=rollout.reward.device)
    return rollout.valid.flatten().nonzero()[:, 0]


def values(policy: Policy, obs: Tensor | Frames, shape: torch.Size, cfg: PPOConfig) -> Tensor:
    """[T, B] standardised values of a rollout's observations; pictures are worked on a minibatch at a time."""
    if not isinstance(obs, Frames):
        return policy.value(obs).view(shape)
    index = torch.arange(shape.numel(), device=obs.oldest.device)
    parts = index.split(len(index) // cfg.num_minibatches)
    return torch.cat([policy.value(obs.take(part)) for part in parts]).view(shape)


class PPOLearner:
    """Everything that changes while PPO learns, and the round that changes it.

    Args:
        env: what to learn on; it is reset here.
        cfg: settings.
        generator: the learner's own noise, on the environment's device.
        policy: continue with this one; None builds a fresh one.
        total_steps: where linear schedules end.
    """

    def __init__(
        self,
        env: BatchedEnv,
        cfg: PPOConfig,
        generator: torch.Generator,
        policy: Policy | None = None,
        total_steps: int = 1,
    ) -> None:
        self.env, self.cfg, self.generator, self.total_steps = env, cfg, generator, total_steps
        if policy is None:
            spaces = env.single_observation_space, env.single_action_space
            weights = torch.Generator().manual_seed(generator.initial_seed() ^ 0x5EED)
            policy = build_policy(*spaces, cfg, weights)
        self.policy = policy.to(env.device)
        self.optimizer = Adam(self.policy.parameters(), ADAM_EPS)
        self.rate = self.first_rate = cfg.learning_rate
        self.anchor: Anchor | None = None
        self.warmup = 0  # updates still to come that leave the policy as it is
        self.encoder_warmup = 0  # and those that leave its encoder as it is
        self.judging = judging(self.policy)
        self.steps, self.frames, self.updates = 0, 0, 0
        self.stats = EpisodeStats()
        self.obs = env.reset()
        self.memory = self.policy.core.start(env.num_envs, env.device)
        if cfg.random_phase:
            env.scatter(generator)

    def begin_from_here(self, cloned: bool) -> None:
        """What the policy does now was learned before, and is not to be lost; cloned = without a spread of its own.

        Raises:
            UserError: init_std is below the smallest spread of the head.
        """
        cfg = self.cfg
        std = CLONE_STD if cloned and cfg.init_std is None else cfg.init_std
        if std is not None:
            set_std(self.policy, std)
        self.rate = self.first_rate = cfg.init_learning_rate or cfg.learning_rate
        self.anchor = Anchor(self.policy, self.env.num_envs) if cfg.anchor_coef else None
        self.warmup = cfg.critic_warmup
        freeze(self.policy, self.warmup > 0)

    def begin_with_encoder(self) -> None:
        """What the policy sees with was learned before; the heads learn to use it before it learns on."""
        self.encoder_warmup = self.cfg.encoder_warmup
        freeze_encoder(self.policy, self.encoder_warmup > 0)

    def update_once(self) -> dict[str, float]:
        """One round: a rollout of T·B steps and an update on it. Returns its metrics."""
        cfg = self.cfg
        self.env.schedule(self.steps / self.total_steps)
        memory = self.memory
        rollout, self.obs = collect(self.env, self.policy, self.obs, memory, cfg.num_steps, self.generator)
        self.memory = rollout.memory
        batch = estimate(self.policy, rollout, self.obs, cfg)
        if self.anchor is not None:
            batch = batch._replace(anchor=self.anchor.features(rollout.obs, rollout.first, cfg.num_minibatches))
        rows = samples(rollout)
        parts = partial(self._lanes, rollout, memory) if self.policy.remembers else partial(self._samples, rows)
        metrics = self._optimise(batch, parts)
        if cfg.norm_obs and not isinstance(rollout.obs, Frames) and not (self.warmup or self.encoder_warmup):
            # Only now, so that actions were taken and judged through the same normaliser.
            self.policy.obs_norm.update(rollout.obs.flatten(0, 1)[rows])
        self.steps += len(rows)
        self.frames += int(rollout.frames.sum())
        self.updates += 1
        self._let_go()
        self.stats.add(rollout)
        return metrics | self.stats.metrics()

    def _let_go(self) -> None:
        """After the warm-up the policy learns; when its weight has fallen to 0 the anchor is of no use."""
        if self.warmup:
            self.warmup -= 1
            freeze(self.policy, self.warmup > 0)
        if self.encoder_warmup:
            self.encoder_warmup -= 1
            freeze_encoder(self.policy, self.encoder_warmup > 0)
            if not self.encoder_warmup:  # at the heads' own rate it would forget what it was taught
                self.rate = min(self.rate, self.cfg.init_learning_rate or self.rate)
        if self._pull() == 0:
            self.anchor = None

    def _pull(self) -> float:
        """Weight of the anchor now."""
        return linear(self.cfg.anchor_coef, self.steps, int(self.cfg.anchor_until * self.total_steps))

    def _samples(self, rows: Tensor) -> Iterator[tuple[Tensor, Sequence | None]]:
        """Minibatches of the samples rows [N], in a new order."""
        order = rows[torch.randperm(len(rows), generator=self.generator, device=rows.device)]
        return ((part, None) for part in order.tensor_split(self.cfg.num_minibatches) if len(part))

    def _lanes(self, rollout: Rollout, memory: Memory) -> Iterator[tuple[Tensor, Sequence | None]]:
        """Minibatches of whole lanes in a new order, each from what was remembered when the rollout began."""
        assert rollout.first is not None
        steps, lanes = rollout.first.shape
        device = rollout.first.device
        order = torch.randperm(lanes, generator=self.generator, device=device)
        for part in order.tensor_split(self.cfg.num_minibatches):
            samples = (torch.arange(steps, device=device)[:, None] * lanes + part).flatten()
            rows = None if rollout.valid is None else rollout.valid[:, part].flatten().nonzero()[:, 0]
            if rows is not None and not len(rows):
                continue
            yield samples, Sequence(memory.kept[part], rollout.first[:, part], rows)

    def _optimise(
        self, batch: Batch, parts: Callable[[], Iterator[tuple[Tensor, Sequence | None]]]
    ) -> dict[str, float]:
        """Epochs of minibatches, which parts gives anew for each; the learning rate follows its schedule."""
        cfg = self.cfg
        if cfg.lr_schedule == "linear":
            self.rate = linear(self.first_rate, self.steps, self.total_steps)
        desired_kl = linear(cfg.desired_kl, self.steps, self.total_steps, cfg.desired_kl_end or cfg.desired_kl)
        history: list[dict[str, Tensor]] = []
        for _ in range(cfg.update_epochs):
            epoch = [self._minibatch(batch.take(samples), sequence) for samples, sequence in parts()]
            if not epoch:  # an environment has used all steps to reset itself
                return {"diag/learning_rate": self.rate}
            history += epoch
            kl = float(torch.stack([parts["diag/approx_kl"] for parts in epoch]).mean())
            if cfg.lr_schedule == "adaptive" and not self.warmup:
                self.rate = adapt_to_kl(self.rate, kl, desired_kl)
            if cfg.target_kl is not None and kl > cfg.target_kl:
                break
        means = torch.stack([torch.stack(list(parts.values())) for parts in history]).mean(0).tolist()
        return dict(zip(history[0], means, strict=True)) | {
            "diag/learning_rate": self.rate,
            "diag/epochs": len(history) / len(epoch),
        }

    def _minibatch(self, batch: Batch, sequence: Sequence | None) -> dict[str, Tensor]:
        """One step of the optimiser."""
        assert isinstance(batch.obs, Tensor), "take() puts pictures together"
        if sequence is None:
            pi, value = self.policy.pi_and_value(batch.obs)
        else:
            features, _ = self.policy.over_time(batch.obs, sequence.kept, sequence.first)
            if sequence.rows is not None:
                features, batch = features[sequence.rows], batch.take(sequence.rows)
            pi, value = self.policy.head(features), self.policy.value_head(features)
        loss, parts = ppo_loss(pi, value, batch, self.cfg)
        if self.anchor is not None and batch.anchor is not None:
            away = self.anchor.divergence(batch.anchor, pi).mean()
            loss, parts = loss + self._pull() * away, parts | {"loss/anchor": away.detach()}
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.policy.parameters(), self.cfg.max_grad_norm)
        self._step()
        return parts

    def _step(self) -> None:
        """Along the gradients, each at its learning rate."""
        rate = self.cfg.critic_learning_rate or (self.cfg.learning_rate if self.warmup else None)
        if rate is None:
            self.optimizer.step(self.rate)
            return
        self.optimizer.step(rate, self.judging)
        if not self.warmup:
            self.optimizer.step(self.rate, [not judges for judges in self.judging])

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Rounds until at least total_steps steps were taken; yields the metrics of each."""
        self.total_steps = total_steps
        while self.steps < total_steps:
            yield self.update_once()

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What an exact continuation needs beside the policy's weights: tensors, and numbers fit for JSON.

        The tensors are the live ones: the next update overwrites them, so keep copies.
        """
        tensors = {ENV_PREFIX + name: value for name, value in self.env.state_tensors().items()}
        tensors |= {OPTIMIZER_PREFIX + name: value for name, value in self.optimizer.state_tensors().items()}
        tensors |= {"obs": self.obs, "generator": self.generator.get_state(), "stats": self.stats.table}
        if self.policy.remembers:
            tensors |= {"memory": self.memory.kept, "first": self.memory.first}
        if self.anchor is not None:
            tensors |= {ANCHOR_PREFIX + name: value for name, value in self.anchor.state_tensors().items()}
        names = ("steps", "frames", "updates", "rate", "first_rate", "warmup", "encoder_warmup")
        numbers: dict[str, Any] = {name: getattr(self, name) for name in names}
        return tensors, numbers | {"episodes": self.stats.episodes}

    def load_trainer_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Puts back what trainer_state gave.

        Raises:
            KeyError: something is missing.
        """
        self.env.load_state_tensors(_below(tensors, ENV_PREFIX))
        self.optimizer.load_state_tensors(_below(tensors, OPTIMIZER_PREFIX))
        self.generator.set_state(tensors["generator"].cpu())
        self.obs = tensors["obs"].to(self.env.device) if self.env.exact_state else self.env.reset()
        if self.policy.remembers and self.env.exact_state:
            self.memory = Memory(*(tensors[name].to(self.env.device) for name in ("memory", "first")))
        self.stats.table, self.stats.episodes = tensors["stats"], values["episodes"]
        self.steps, self.frames, self.updates = values["steps"], values["frames"], values["updates"]
        self.rate = values["rate"]
        self.first_rate, self.warmup = values.get("first_rate", self.first_rate), values.get("warmup", 0)
        freeze(self.policy, self.warmup > 0)
        self.encoder_warmup = values.get("encoder_warmup", 0)
        if self.encoder_warmup:
            freeze_encoder(self.policy, True)
        self.anchor = None
        if kept := _below(tensors, ANCHOR_PREFIX):
            self.anchor = Anchor(self.policy, self.env.num_envs)
            self.anchor.load_state_tensors(kept)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
