"""Deep Q-learning (Mnih et al. 2015) and its relatives on batched environments.

Reading order: `update_once` is one round: play some steps, then either replay as many transitions as the settings ask
for (`_replay`: double, n-step, prioritised, distributional, Munchausen), or learn from the new steps alone (`_newest`:
PQN, Gallici et al. 2024; with memory `_learn_through`, see passages). Shapes: T steps, B environments, S samples,
A actions, N quantiles (1 = the mean alone).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss

from ..policies.cores import Memory
from ..policies.qnet import QNet, QPolicy, build_q_policy
from .adam import Adam
from .dqn_config import DQNConfig
from .passages import Passage, choices, play_through
from .replay import Replay, Steps, Transitions, newest
from .rollout import FROM_ENV, BatchedEnv, EpisodeStats, Rollout
from .schedules import linear
from .targets import (
    explore,
    greedy_values,
    importance_weights,
    ladder,
    lambda_returns,
    margin_loss,
    munchausen_bonus,
    pick,
    quantile_huber,
    soft_values,
)

ANCHOR, ENV, OPTIMIZER, REPLAY, TARGET = "anchor.", "env.", "optimizer.", "replay.", "target."
"""prefixes of tensors in checkpoints"""


@torch.no_grad()
def play(
    env: BatchedEnv, policy: QPolicy, obs: Tensor, epsilon: Tensor, num_steps: int, generator: torch.Generator
) -> tuple[Steps, Tensor]:
    """Plays num_steps steps from obs [B, …], at random with probability epsilon [B]. Returns them and the next obs."""
    kept: dict[str, Tensor] = {}
    for t in range(num_steps):
        q = policy.q(policy.obs_norm(obs), generator)
        action = explore(q, epsilon, generator)
        seen = newest(obs, env.channels).clone()  # the step may overwrite it
        step = env.step(action + policy.start)
        row = {name: given for name in FROM_ENV if (given := getattr(step, name)) is not None}
        row |= {"obs": seen, "action": action, "next_obs": newest(step.next_obs, env.channels)}
        for name, column in row.items():
            if t == 0:
                kept[name] = column.new_empty(num_steps, *column.shape)
            kept[name][t] = column
        obs = step.obs
    return Steps(**kept), obs.clone()


@torch.no_grad()
def q_target(
    online: QNet, target: QNet, batch: Transitions, cfg: DQNConfig, generator: torch.Generator | None
) -> Tensor:
    """[S, N] what the values of the actions taken should have been; observations are standardised."""
    judged = target(batch.next_obs, generator)
    if cfg.munchausen:
        seen = target(batch.obs, generator)
        bonus = munchausen_bonus(seen, batch.action, cfg.munchausen_alpha, cfg.munchausen_tau, cfg.munchausen_clip)
        future, reward = soft_values(judged, cfg.munchausen_tau), cfg.reward_scale * batch.return_ + bonus
    else:
        chooser = online(batch.next_obs, generator) if cfg.double else judged
        future, reward = greedy_values(judged, chooser), cfg.reward_scale * batch.return_
    return reward[:, None] + batch.discount[:, None] * future


def q_loss(predicted: Tensor, target: Tensor, cfg: DQNConfig) -> Tensor:
    """[S] error of predicted values [S, N] against target [S, N]."""
    if cfg.quantiles:
        return quantile_huber(predicted, target)
    if cfg.loss == "huber":
        return smooth_l1_loss(predicted, target, reduction="none")[:, 0]
    return 0.5 * (predicted - target)[:, 0] ** 2


class DQNLearner:
    """Everything that changes while DQN learns, and the round that changes it.

    Args:
        env: what to learn on; it is reset here.
        cfg: settings.
        generator: the learner's own noise, on the environment's device.
        policy: continue with this one; None builds a fresh one.
        total_steps: where schedules end.
    """

    def __init__(
        self,
        env: BatchedEnv,
        cfg: DQNConfig,
        generator: torch.Generator,
        policy: QPolicy | None = None,
        total_steps: int = 1,
    ) -> None:
        self.env, self.cfg, self.generator, self.total_steps = env, cfg, generator, total_steps
        if policy is None:
            spaces = env.single_observation_space, env.single_action_space
            weights = torch.Generator().manual_seed(generator.initial_seed() ^ 0x5EED)
            policy = build_q_policy(*spaces, cfg, weights)
        self.policy = policy.to(env.device)
        self.target = copy.deepcopy(self.policy.net).requires_grad_(False)
        self.target_weights, self.weights = ([p.data for p in x.parameters()] for x in (self.target, self.policy.net))
        self.optimizer = Adam(self.policy.parameters(), cfg.adam_eps)
        self.steps, self.frames, self.updates, self.gradient_steps = 0, 0, 0, 0
        self.anchor: QNet | None = None
        self.first_eps = cfg.eps_start
        self.owed = 0.0  # transitions that are still to be replayed
        self.stats = EpisodeStats()
        self.obs = env.reset()
        self.memory = self.policy.core.start(env.num_envs, env.device)
        self.held_memory = self.memory.kept  # of the anchor
        if cfg.random_phase:
            env.scatter(generator)
        self.stored = 0  # transitions that went into the replay
        self.replay = self._empty_replay()

    def _empty_replay(self) -> Replay:
        """Without a replay, as many rows as a round can fill."""
        cfg = self.cfg
        least = 2 * cfg.num_steps + 2
        rows = least if cfg.buffer == "none" else max(least + cfg.n_step, -(-cfg.buffer_size // cfg.num_envs))
        depth = 1 if self.env.channels is None else self.obs.shape[-1] // self.env.channels
        return Replay(self.obs, rows + depth, self.env.channels, cfg.buffer == "prioritized")

    def begin_from_here(self, cloned: bool) -> None:
        """What the policy does now was learned before, and is not to be lost, however it was learned."""
        del cloned
        cfg = self.cfg
        self.anchor = copy.deepcopy(self.policy.net).requires_grad_(False) if cfg.anchor_coef else None
        self.held_memory = self.memory.kept
        self.first_eps = cfg.eps_start if cfg.init_eps is None else cfg.init_eps

    def update_once(self) -> dict[str, float]:
        """One round: T·B steps, and the learning they call for. Returns its metrics."""
        cfg, share = self.cfg, self.steps / self.total_steps
        self.env.schedule(share)
        epsilon = linear(self.first_eps, self.steps, int(cfg.eps_fraction * self.total_steps), cfg.eps_end)
        lanes = ladder(epsilon, self.env.num_envs, cfg.eps_ladder, self.env.device)
        rate, steps = self._rate(), self._play(lanes)
        count = steps.num_samples
        if isinstance(steps, Passage):
            parts = self._learn_through(steps, rate)
        else:
            places = self.replay.add(steps)
            self.stored += count
            parts = self._newest(steps, places, rate) if cfg.buffer == "none" else self._replay(count, rate)
        # Only now, so that actions were taken and judged through the same normaliser.
        if self.anchor is None:  # it looks through the same normaliser
            self.policy.obs_norm.update(steps.obs.flatten(0, 1) if steps.valid is None else steps.obs[steps.valid])
        self.steps += count
        self.frames += int(steps.frames.sum())
        self.updates += 1
        if self._pull() == 0:
            self.anchor = None
        self.stats.add(cast(Rollout, steps))
        found = {"diag/epsilon": epsilon, "diag/learning_rate": rate} | self._means(parts)
        return found | self.stats.metrics()

    def _play(self, epsilon: Tensor) -> Steps:
        """T steps of every lane, at random with probability epsilon [B]."""
        cfg = self.cfg
        if not self.policy.remembers:
            steps, self.obs = play(self.env, self.policy, self.obs, epsilon, cfg.num_steps, self.generator)
            return steps
        start = self.obs, self.memory
        passage, (self.obs, self.memory) = play_through(
            self.env, self.policy, start, epsilon, cfg.num_steps, self.generator
        )
        return passage

    def _rate(self) -> float:
        """Learning rate now: as the anchor lets go, it passes from the one begun with to that of the schedule."""
        cfg = self.cfg
        fixed = cfg.lr_schedule == "constant"
        rate = cfg.learning_rate if fixed else linear(cfg.learning_rate, self.steps, self.total_steps)
        if self.anchor is None or cfg.init_learning_rate is None:
            return rate
        held = self._pull() / cfg.anchor_coef
        return held * cfg.init_learning_rate + (1 - held) * rate

    def _replay(self, count: int, rate: float) -> list[Tensor]:
        """As many gradient steps as count new transitions call for; what is left over is kept for later rounds."""
        cfg = self.cfg
        if self.stored < cfg.learning_starts:
            return []
        if self.gradient_steps == 0:  # the policy may have been given other weights since the learner was made
            self.target.load_state_dict(self.policy.net.state_dict())
        self.owed += count * cfg.replay_ratio
        due, self.owed = divmod(self.owed, cfg.batch_size)
        return [self._learn_from(*drawn, rate) for drawn in self._drawn(int(due))]

    def _drawn(self, batches: int) -> Iterator[tuple[Transitions, Tensor, Tensor | None]]:
        """So many batches of standardised transitions, their places, and the probabilities of unequal draws."""
        cfg, norm = self.cfg, self.policy.obs_norm
        # What the learning between them does not change is drawn at once, if it is small.
        together = max(1, batches) if cfg.buffer == "uniform" and self.env.channels is None else 1
        for _ in range(batches // together):
            places, probability = self.replay.sample(together * cfg.batch_size, self.generator)
            found = self.replay.transitions(places, cfg.n_step, cfg.gamma)
            found = found._replace(obs=norm(found.obs), next_obs=norm(found.next_obs))
            for first in range(0, len(places), cfg.batch_size):
                rows = slice(first, first + cfg.batch_size)
                yield Transitions(*(column[rows] for column in found)), places[rows], probability

    def _learn_from(self, batch: Transitions, places: Tensor, probability: Tensor | None, rate: float) -> Tensor:
        """One gradient step on standardised transitions of places [S], drawn with probability [S]."""
        cfg, generator = self.cfg, self.generator
        target = q_target(self.policy.net, self.target, batch, cfg, generator)
        values = self.policy.net(batch.obs, generator)
        predicted = pick(values, batch.action)
        error = q_loss(predicted, target, cfg)
        if probability is not None:
            beta = linear(cfg.priority_beta, self.steps, self.total_steps, cfg.priority_beta_end)
            error = error * importance_weights(probability, beta).to(error.dtype)
            self.replay.judge(places, (target - predicted.detach()).mean(1), cfg.priority_alpha)
        loss = error.mean() + self._hold(values, self._wanted(batch.obs))
        found = self._descend(loss, predicted, target, rate)
        self._update_target()
        return found

    def _pull(self) -> float:
        """Weight of the anchor now."""
        return linear(self.cfg.anchor_coef, self.steps, int(self.cfg.anchor_until * self.total_steps))

    @torch.no_grad()
    def _wanted(self, obs: Tensor) -> Tensor | None:
        """[S] int64 what the anchor chooses in standardised obs [S, …]; None where there is none."""
        return None if self.anchor is None else self.anchor(obs).mean(-1).argmax(-1)

    def _hold(self, values: Tensor, wanted: Tensor | None) -> Tensor:
        """Weighted loss of not choosing, by values [S, A, N], what is wanted [S]."""
        if wanted is None:
            return values.new_zeros(())
        return self._pull() * margin_loss(values.mean(-1), wanted, self.cfg.anchor_margin).mean()

    def _newest(self, steps: Steps, places: Tensor, rate: float) -> list[Tensor]:
        """Epochs of minibatches on the λ-returns of the newest steps."""
        cfg, policy, flat = self.cfg, self.policy, places.flatten()
        with torch.no_grad():
            parts = flat.tensor_split(cfg.num_minibatches)
            best = [policy.q(policy.obs_norm(self.replay.after(part)), self.generator).max(1).values for part in parts]
            reward, next_value = cfg.reward_scale * steps.reward, torch.cat(best).view(places.shape)
            ends = steps.terminated, steps.truncated
            return_ = lambda_returns(reward, next_value, *ends, cfg.gamma, cfg.q_lambda).flatten()
        rows = torch.arange(len(flat), device=flat.device)
        rows = rows if steps.valid is None else rows[steps.valid.flatten()]
        action, found = steps.action.flatten(), []
        for _ in range(cfg.update_epochs):
            order = rows[torch.randperm(len(rows), generator=self.generator, device=flat.device)]
            for part in filter(len, order.tensor_split(cfg.num_minibatches)):
                obs = policy.obs_norm(self.replay.see(flat[part]))
                values = policy.net(obs, self.generator)
                predicted, target = pick(values, action[part]), return_[part, None]
                loss = q_loss(predicted, target, cfg).mean() + self._hold(values, self._wanted(obs))
                found.append(self._descend(loss, predicted, target, rate))
        return found

    def _learn_through(self, passage: Passage, rate: float) -> list[Tensor]:
        """As _newest, with memory: minibatches of whole lanes, each from what was remembered when it began."""
        cfg, net, normed = self.cfg, self.policy.net, self.policy.obs_norm(passage.obs)
        reward, ends = cfg.reward_scale * passage.reward, (passage.terminated, passage.truncated)
        return_ = lambda_returns(reward, passage.next_value, *ends, cfg.gamma, cfg.q_lambda)
        wanted, found = None, []
        if self.anchor is not None:
            given = normed, self.held_memory, passage.first, cfg.num_minibatches
            wanted, self.held_memory = choices(self.anchor, *given)
        for _ in range(cfg.update_epochs):
            for lanes in passage.lanes(cfg.num_minibatches, self.generator):
                rows = passage.samples(lanes)
                if not len(rows):
                    continue
                seen, first = normed[:, lanes].flatten(0, 1), passage.first[:, lanes]
                values, _ = net.over_time(seen, passage.kept[lanes], first, self.generator)
                values, taken = values[rows], passage.action[:, lanes].flatten()[rows]
                predicted, target = pick(values, taken), return_[:, lanes].flatten()[rows][:, None]
                held = self._hold(values, None if wanted is None else wanted[:, lanes].flatten()[rows])
                found.append(self._descend(q_loss(predicted, target, cfg).mean() + held, predicted, target, rate))
        return found

    def _descend(self, loss: Tensor, predicted: Tensor, target: Tensor, rate: float) -> Tensor:
        """One step of the optimiser. Returns loss, mean value and mean size of the error, [3]."""
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.optimizer.parameters, self.cfg.max_grad_norm)
        self.optimizer.step(rate)
        self.gradient_steps += 1
        with torch.no_grad():
            return torch.stack((loss.detach(), predicted.mean(), (target - predicted).mean(1).abs().mean()))

    @torch.no_grad()
    def _update_target(self) -> None:
        """The target network becomes the online one every so often, or follows it slowly (Lillicrap et al. 2016)."""
        if self.cfg.target_update == "soft":
            torch._foreach_lerp_(self.target_weights, self.weights, self.cfg.tau)
        elif self.gradient_steps % self.cfg.target_every == 0:
            torch._foreach_copy_(self.target_weights, self.weights)

    def _means(self, parts: list[Tensor]) -> dict[str, float]:
        """Metrics of the gradient steps of a round; the device is waited for once."""
        found = [torch.stack(parts).mean(0)] if parts else []
        names = ["loss/q", "diag/q_mean", "diag/td_error"] if parts else []
        if self.cfg.buffer != "none":
            found, names = [*found, self.replay.size[None].float()], [*names, "diag/replay_size"]
        return dict(zip(names, torch.cat(found).tolist() if found else [], strict=True))

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Rounds until at least total_steps steps were taken; yields the metrics of each."""
        self.total_steps = total_steps
        while self.steps < total_steps:
            yield self.update_once()

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What an exact continuation needs beside the policy's weights: tensors, and numbers fit for JSON.

        The tensors are the live ones: the next update overwrites them, so keep copies.
        """
        tensors = {ENV + name: value for name, value in self.env.state_tensors().items()}
        tensors |= {OPTIMIZER + name: value for name, value in self.optimizer.state_tensors().items()}
        tensors |= {TARGET + name: value for name, value in self.target.state_dict().items()}
        if self.anchor is not None:
            tensors |= {ANCHOR + name: value for name, value in self.anchor.state_dict().items()}
        if self.cfg.checkpoint_replay:
            tensors |= {REPLAY + name: value for name, value in self.replay.state_tensors().items()}
        if self.policy.remembers:
            tensors |= {"memory": self.memory.kept, "first": self.memory.first, "held_memory": self.held_memory}
        tensors |= {"obs": self.obs, "generator": self.generator.get_state(), "stats": self.stats.table}
        names = ("steps", "frames", "updates", "gradient_steps", "owed", "stored", "first_eps")
        return tensors, {name: getattr(self, name) for name in names} | {"episodes": self.stats.episodes}

    def load_trainer_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Puts back what trainer_state gave. Without the replay, an empty one is filled before learning goes on.

        Raises:
            KeyError: something is missing.
        """
        self.env.load_state_tensors(_below(tensors, ENV))
        self.optimizer.load_state_tensors(_below(tensors, OPTIMIZER))
        self.target.load_state_dict(_below(tensors, TARGET))
        self.generator.set_state(tensors["generator"].cpu())
        self.obs = tensors["obs"].to(self.env.device) if self.env.exact_state else self.env.reset()
        if self.policy.remembers and self.env.exact_state:
            stored = [tensors[name].to(self.env.device) for name in ("memory", "first", "held_memory")]
            self.memory, self.held_memory = Memory(*stored[:2]), stored[2]
        self.stats.table, self.stats.episodes = tensors["stats"], values["episodes"]
        self.steps, self.frames, self.updates = values["steps"], values["frames"], values["updates"]
        self.gradient_steps, self.owed = values["gradient_steps"], values["owed"]
        self.first_eps = values.get("first_eps", self.first_eps)
        self.anchor = None
        if held := _below(tensors, ANCHOR):
            self.anchor = copy.deepcopy(self.policy.net).requires_grad_(False)
            self.anchor.load_state_dict(held)
        self.replay, self.stored = self._empty_replay(), 0
        if kept := _below(tensors, REPLAY):
            self.replay.load_state_tensors(kept)
            self.stored = values["stored"]
            if not self.env.exact_state:
                self.replay.interrupt(self.obs)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
