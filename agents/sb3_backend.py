"""`--backend sb3`: Stable-Baselines3's PPO and DQN train our networks on our lanes, in our run folders.

The rounds are those of its own `learn`, one at a time. Before each, its shared generators are seeded with the number of
the round, so that a run that was resumed draws what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from ..envs.errors import UserError
from ..policies.normalize import RunningNorm
from ..policies.policy import Policy
from ..policies.qnet import QPolicy
from .config import PPOConfig
from .dqn_config import DQNConfig
from .rollout import HISTORY, BatchedEnv
from .sb3_policy import DrivetrainActorCriticPolicy, DrivetrainDQNPolicy
from .sb3_settings import dqn_arguments, network_fields, ppo_arguments
from .sb3_vec import Sb3VecEnv, check_autoreset
from .schedules import adapt_to_kl, linear

ENV, OPTIMIZER, TARGET, REPLAY = "env.", "optimizer.", "target.", "replay."
"""prefixes of tensors in checkpoints"""
REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class Sb3PPOLearner:
    """Its PPO behind the surface of agents.ppo.PPOLearner.

    Standardised returns are its VecNormalize, which divides rewards by the spread of returns; an adaptive learning rate
    is adapted after each update.

    Args:
        env: what to learn on; it is reset here.
        cfg: settings.
        generator: its first seed is that of the training.
        policy: begin with its weights; None takes fresh ones.
        total_steps: where linear schedules end.

    Raises:
        UserError: an environment that Stable-Baselines3 cannot use.
    """

    def __init__(
        self,
        env: BatchedEnv,
        cfg: PPOConfig,
        generator: torch.Generator,
        policy: Policy | None = None,
        total_steps: int = 1,
    ) -> None:
        self.env, self.cfg, self.total_steps = env, cfg, total_steps
        self.seed, self.rate, self.updates = generator.initial_seed(), cfg.learning_rate, 0
        self.lanes = Sb3VecEnv(env)
        self.returns = VecNormalize(self.lanes, norm_obs=False, gamma=cfg.gamma) if cfg.norm_return else None
        arguments = ppo_arguments(cfg) | {"device": env.device, "stats_window_size": HISTORY}
        arguments["policy_kwargs"] = {"config": network_fields(cfg, "ppo")}
        self.model = PPO(DrivetrainActorCriticPolicy, self.returns or self.lanes, seed=_seed(self.seed, 0), **arguments)
        self.policy: Policy = cast(Policy, self.model.policy.get_submodule("core"))
        if policy is not None:
            self.policy.load_state_dict(policy.state_dict())
        self.model.lr_schedule = lambda _: self.rate
        self.callback = _begin(self.model, env, generator if cfg.random_phase else None)

    @property
    def steps(self) -> int:
        """Decisions so far, all lanes together."""
        return self.model.num_timesteps

    @property
    def frames(self) -> int:
        """Simulator frames so far."""
        return self.lanes.frames

    def update_once(self) -> dict[str, float]:
        """One round: a rollout and an update on it. Returns its metrics."""
        model, cfg = self.model, self.cfg
        self.updates += 1
        model.set_random_seed(_seed(self.seed, self.updates))
        self.env.schedule(self.steps / self.total_steps)
        if cfg.lr_schedule == "linear":
            self.rate = linear(cfg.learning_rate, self.steps, self.total_steps)
        desired = linear(cfg.desired_kl, self.steps, self.total_steps, cfg.desired_kl_end or cfg.desired_kl)
        assert model.env is not None
        model.collect_rollouts(model.env, self.callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
        seen = model.rollout_buffer.observations
        model.train()
        if cfg.norm_obs:  # only now, so that actions were taken and judged through the same normaliser
            _update_norm(self.policy, seen)
        if self.returns is not None:  # what makes points of the values that were learned
            self.policy.return_norm.var.fill_(float(self.returns.ret_rms.var))
            self.policy.return_norm.updates.fill_(self.updates)
        logged = model.logger.name_to_value
        if cfg.lr_schedule == "adaptive":
            self.rate = adapt_to_kl(self.rate, float(logged["train/approx_kl"]), desired)
        names = {"loss/total": "loss", "loss/policy": "policy_gradient_loss", "diag/approx_kl": "approx_kl"}
        names |= {"diag/clip_fraction": "clip_fraction"}
        found = {name: float(logged[f"train/{theirs}"]) for name, theirs in names.items()}
        found["loss/value"] = 0.5 * float(logged["train/value_loss"])
        found["loss/entropy"] = -float(logged["train/entropy_loss"])
        return found | {"diag/learning_rate": self.rate} | self.lanes.stats.metrics()

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Rounds until at least total_steps steps were taken; yields the metrics of each."""
        self.total_steps = total_steps
        while self.steps < total_steps:
            yield self.update_once()

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What an exact continuation needs beside the policy's weights: tensors, and numbers fit for JSON."""
        tensors = _state(self.model, self.lanes)
        values: dict[str, Any] = {"steps": self.steps, "frames": self.frames, "updates": self.updates}
        if self.returns is not None:
            tensors["returns"] = torch.as_tensor(self.returns.returns)
            spread = self.returns.ret_rms
            moments = [float(value) for value in (spread.mean, spread.var, spread.count)]
            tensors["return_rms"] = torch.tensor(moments, dtype=torch.float64)
        return tensors, values | {"rate": self.rate, "episodes": self.lanes.stats.episodes}

    def load_trainer_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Puts back what trainer_state gave.

        Raises:
            KeyError: something is missing.
        """
        _load_state(self.model, self.lanes, tensors)
        self.lanes.stats.episodes = values["episodes"]
        self.model.num_timesteps, self.updates, self.rate = values["steps"], values["updates"], values["rate"]
        self.lanes.frames = values["frames"]
        if self.returns is not None:
            if self.env.exact_state:  # else new episodes began, and with them new returns
                self.returns.returns = tensors["returns"].numpy().copy()
            spread = self.returns.ret_rms
            spread.mean, spread.var, spread.count = tensors["return_rms"].numpy().copy()


class Sb3DQNLearner:
    """Its DQN behind the surface of agents.dqn.DQNLearner; what it does without is in sb3_settings.dqn_lacks.

    Args:
        env: what to learn on; it is reset here.
        cfg: settings.
        generator: its first seed is that of the training.
        policy: begin with its weights; None takes fresh ones.
        total_steps: where schedules end.

    Raises:
        UserError: an environment or settings that Stable-Baselines3 cannot use.
    """

    def __init__(
        self,
        env: BatchedEnv,
        cfg: DQNConfig,
        generator: torch.Generator,
        policy: QPolicy | None = None,
        total_steps: int = 1,
    ) -> None:
        self.env, self.cfg, self.total_steps = env, cfg, total_steps
        self.seed, self.rate, self.updates = generator.initial_seed(), cfg.learning_rate, 0
        self.lanes = Sb3VecEnv(env, cfg.reward_scale)
        kwargs = {"config": network_fields(cfg, "dqn"), "optimizer_kwargs": {"eps": cfg.adam_eps}}
        arguments = dqn_arguments(cfg) | {"device": env.device, "policy_kwargs": kwargs, "stats_window_size": HISTORY}
        self.model = DQN(DrivetrainDQNPolicy, self.lanes, seed=_seed(self.seed, 0), **arguments)
        self.policy: QPolicy = cast(QPolicy, self.model.q_net.get_submodule("core"))
        if policy is not None:
            self.policy.load_state_dict(policy.state_dict())
        self.target = cast(QPolicy, self.model.q_net_target.get_submodule("core"))
        self.target.load_state_dict(self.policy.state_dict())
        self.target.obs_norm = self.policy.obs_norm  # one for both
        self.model.lr_schedule = lambda _: self.rate
        self.callback = _begin(self.model, env, generator if cfg.random_phase else None)

    @property
    def steps(self) -> int:
        """Decisions so far, all lanes together."""
        return self.model.num_timesteps

    @property
    def frames(self) -> int:
        """Simulator frames so far."""
        return self.lanes.frames

    @property
    def replay(self) -> ReplayBuffer:
        """Its replay."""
        assert self.model.replay_buffer is not None
        return self.model.replay_buffer

    def update_once(self) -> dict[str, float]:
        """One round: some steps, and the gradient steps they call for. Returns its metrics."""
        model, cfg, before = self.model, self.cfg, self.replay.pos
        if self.steps == 0:  # the policy may have been given other weights since the learner was made
            self.target.load_state_dict(self.policy.state_dict())
        self.updates += 1
        model.set_random_seed(_seed(self.seed, self.updates))
        model._total_timesteps = self.total_steps
        self.env.schedule(self.steps / self.total_steps)
        if cfg.lr_schedule == "linear":
            self.rate = linear(cfg.learning_rate, self.steps, self.total_steps)
        assert model.env is not None
        rhythm = cast(TrainFreq, model.train_freq)
        model.collect_rollouts(model.env, self.callback, rhythm, self.replay, learning_starts=model.learning_starts)
        found = {"diag/epsilon": float(model.exploration_rate), "diag/learning_rate": self.rate}
        if self.steps > model.learning_starts:
            model.train(model.gradient_steps, model.batch_size)
            found["loss/q"] = float(model.logger.name_to_value["train/loss"])
        if cfg.norm_obs:  # only now, so that actions were taken and judged through the same normaliser
            rows = (before + np.arange(cfg.num_steps)) % self.replay.buffer_size
            _update_norm(self.policy, self.replay.observations[rows])
        found["diag/replay_size"] = float(self.replay.size() * self.env.num_envs)
        return found | self.lanes.stats.metrics()

    def iterate(self, total_steps: int) -> Iterator[dict[str, float]]:
        """Rounds until at least total_steps steps were taken; yields the metrics of each."""
        self.total_steps = total_steps
        while self.steps < total_steps:
            yield self.update_once()

    def trainer_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What an exact continuation needs beside the policy's weights: tensors, and numbers fit for JSON."""
        tensors = _state(self.model, self.lanes)
        tensors |= {TARGET + name: value for name, value in self.target.net.state_dict().items()}
        used = self.replay.size() if self.cfg.checkpoint_replay else 0
        tensors |= {REPLAY + name: torch.as_tensor(getattr(self.replay, name)[:used]) for name in REPLAYED}
        values = {"steps": self.steps, "frames": self.frames, "updates": self.updates, "rate": self.rate}
        values |= {"episodes": self.lanes.stats.episodes, "calls": self.model._n_calls, "used": used}
        return tensors, values | {"pos": self.replay.pos, "epsilon": float(self.model.exploration_rate)}

    def load_trainer_state(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Puts back what trainer_state gave. Without the replay, learning goes on from an empty one.

        Raises:
            KeyError: something is missing.
        """
        _load_state(self.model, self.lanes, tensors)
        self.lanes.stats.episodes = values["episodes"]
        self.target.net.load_state_dict(_below(tensors, TARGET))
        self.model.num_timesteps, self.updates, self.rate = values["steps"], values["updates"], values["rate"]
        self.model._n_calls, self.lanes.frames = values["calls"], values["frames"]
        used = values["used"]
        for name in REPLAYED:
            getattr(self.replay, name)[:used] = tensors[REPLAY + name].numpy()
        self.replay.full = used == self.replay.buffer_size
        self.replay.pos = values["pos"] if used else 0
        # it sets the rate only after a step; a checkpoint without it is of an older version
        self.model.exploration_rate = values.get("epsilon", self.model.exploration_rate)
        if used and not self.env.exact_state:  # new episodes follow: sums of several steps end at the last one kept
            newest = self.replay.pos - 1
            self.replay.timeouts[newest] = np.where(self.replay.dones[newest], self.replay.timeouts[newest], 1)


def sb3_learner(
    env: BatchedEnv,
    cfg: PPOConfig | DQNConfig,
    generator: torch.Generator,
    policy: Policy | QPolicy | None = None,
    total_steps: int = 1,
) -> Sb3PPOLearner | Sb3DQNLearner:
    """The learner of a config; see Sb3PPOLearner and Sb3DQNLearner.

    Raises:
        UserError: a policy with memory, or an environment that Stable-Baselines3 cannot use.
    """
    check_autoreset(env)
    if cfg.core != "none":
        what = "Stable-Baselines3 trains no policy with memory"
        raise UserError(
            what, got=f"core={cfg.core}", allowed="core=none", fix="leave --core out, or take backend native"
        )
    if isinstance(cfg, DQNConfig):
        return Sb3DQNLearner(env, cfg, generator, cast("QPolicy | None", policy), total_steps)
    return Sb3PPOLearner(env, cfg, generator, cast("Policy | None", policy), total_steps)


def _begin(model: PPO | DQN, env: BatchedEnv, scatter: torch.Generator | None) -> BaseCallback:
    """What its `learn` does before the first round; scatter draws how far first episodes are."""
    model.set_logger(Logger(None, []))
    _, callback = model._setup_learn(1, None)
    if scatter is not None:
        env.scatter(scatter)
    return callback


def _seed(seed: int, number: int) -> int:
    """Of its generators in a round of a training: both numbers, stirred into 32 bits."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


@torch.no_grad()
def _update_norm(policy: Policy | QPolicy, seen: NDArray[Any]) -> None:
    """Statistics of observations [..., O]; of pictures there are none."""
    if isinstance(policy.obs_norm, RunningNorm):
        policy.obs_norm.update(torch.as_tensor(seen).flatten(0, -2).to(policy.device))


def _state(model: PPO | DQN, lanes: Sb3VecEnv) -> dict[str, Tensor]:
    """What both algorithms remember beside their weights."""
    tensors = {ENV + name: value for name, value in lanes.env.state_tensors().items()}
    for k, moments in model.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{k}.{name}": value for name, value in moments.items()}
    tensors |= {"obs": torch.as_tensor(model._last_obs), "lengths": torch.as_tensor(lanes.lengths)}
    return tensors | {"starts": torch.as_tensor(model._last_episode_starts), "stats": lanes.stats.table}


def _load_state(model: PPO | DQN, lanes: Sb3VecEnv, tensors: dict[str, Tensor]) -> None:
    """Puts back what _state gave."""
    lanes.env.load_state_tensors(_below(tensors, ENV))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _below(tensors, OPTIMIZER).items():
        number, _, kind = name.partition(".")
        moments.setdefault(int(number), {})[kind] = value
    optimizer = model.policy.optimizer
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    lanes.stats.table = tensors["stats"]
    if lanes.env.exact_state:
        model._last_obs, model._last_episode_starts = tensors["obs"].numpy(), tensors["starts"].numpy()
        lanes.lengths[:] = tensors["lengths"].numpy()
    else:  # new episodes begin
        assert model.env is not None
        model._last_obs = model.env.reset()  # type: ignore[assignment]
        model._last_episode_starts = np.ones(lanes.num_envs, bool)


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
