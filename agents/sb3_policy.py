"""Our networks inside Stable-Baselines3: `PPO(DrivetrainActorCriticPolicy, env, policy_kwargs={"config": {...}})`.

A zip that its `save` writes names these classes, so their names and this file's stay as they are. `config` is plain
JSON: sb3_settings.NETWORK names what it may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from ..envs.errors import UserError
from ..policies.build import build_policy
from ..policies.config import PolicyConfig
from ..policies.distributions import Categorical, Distribution, MultiCategorical
from ..policies.qnet import build_q_policy
from .dqn_config import DQNConfig
from .sb3_settings import NETWORK


class DrivetrainActorCriticPolicy(ActorCriticPolicy):
    """Our policy as its PPO and A2C train it: normaliser, encoders and heads are `core`, a policies.policy.Policy.

    What the algorithm keeps and judges are our raw actions; `unscale_action` turns them into those of a Box. The
    normaliser stays as it is: only drivetrain's own `--backend sb3` updates it.

    Args:
        observation_space: numbers [O], or pictures as its VecTransposeImage hands them over.
        action_space: counted from 0 where it is discrete.
        lr_schedule: part of the training that is left, 1 to 0 → learning rate.
        use_sde: not supported.
        config: fields of PolicyConfig; None takes its defaults.
        optimizer_class: of torch.
        optimizer_kwargs: None takes eps=1e-5 for Adam, as its own policies do.

    Raises:
        UserError: settings or spaces that no network of ours is made for.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        lr_schedule: Schedule,
        use_sde: bool = False,
        config: Mapping[str, Any] | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if use_sde:
            raise UserError("our policies explore without state-dependent noise", got="use_sde=True", allowed="False")
        check_start(action_space)
        self.config = dict(config or {})
        self.channels_first = transposed(observation_space)
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        spaces = as_seen(self.observation_space), self.action_space
        try:
            self.core = build_policy(*spaces, PolicyConfig(**self.config), weight_noise())
        except ValueError as error:
            raise _no_network(error) from None
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces = {"observation_space": self.observation_space, "action_space": self.action_space}
        optimizer = {"optimizer_class": self.optimizer_class, "optimizer_kwargs": self.optimizer_kwargs}
        return spaces | optimizer | {"lr_schedule": self._dummy_schedule, "config": self.config}

    @property
    def squash_output(self) -> bool:
        """Whether unscale_action makes the environment's actions out of those the policy gives: of a Box, always."""
        return isinstance(self.action_space, Box)

    def unscale_action(self, scaled_action: NDArray[Any]) -> NDArray[Any]:
        """Actions [B, A] in the box, of raw ones."""
        raw = torch.as_tensor(scaled_action, device=self.device)
        return self.core.head.to_env(raw).cpu().numpy().astype(np.float32)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Raw actions [B, …], values [B, 1] and log-probabilities [B] for observations [B, …]."""
        pi, value = self.core.pi_and_value(self._normed(obs))
        raw = pi.mode() if deterministic else pi.sample(None)
        return raw, value[:, None], pi.log_prob(raw)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values [B, 1], log-probabilities [B] and entropies [B] of raw actions [B, …]."""
        pi, value = self.core.pi_and_value(self._normed(obs))
        if isinstance(pi, Categorical | MultiCategorical):  # its buffer keeps indices as numbers
            actions = actions.long()
        if isinstance(pi, Categorical):
            actions = actions.flatten()
        return value[:, None], pi.log_prob(actions), pi.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:  # type: ignore[override]
        """Our distribution over raw actions, which has sample, mode, log_prob and entropy."""
        return self.core.pi(self._normed(obs))

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """[B, 1]."""
        return self.core.value(self._normed(obs))[:, None]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        pi = self.get_distribution(observation)
        return pi.mode() if deterministic else pi.sample(None)

    def _normed(self, obs: PyTorchObs) -> Tensor:
        return self.core.obs_norm(seen(obs, self.channels_first))


class DrivetrainQNetwork(BasePolicy):
    """Our network of action values as its DQN trains it: `core` is a policies.qnet.QPolicy.

    Of quantiles it trains the mean, and noisy layers are quiet.
    """

    def __init__(self, observation_space: Space[Any], action_space: Space[Any], config: Mapping[str, Any]) -> None:
        super().__init__(observation_space, action_space)
        self.config, self.channels_first = dict(config), transposed(observation_space)
        try:
            settings = DQNConfig(**{name: config[name] for name in config if name in NETWORK["dqn"]})
            self.core = build_q_policy(as_seen(observation_space), action_space, settings, weight_noise())
        except ValueError as error:
            raise _no_network(error) from None

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Values [B, A], of scaled rewards, of observations [B, …]."""
        return self.core.q(self.core.obs_norm(seen(obs, self.channels_first)))

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> Tensor:
        del deterministic  # noise is the algorithm's
        return self(observation).argmax(1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces = {"observation_space": self.observation_space, "action_space": self.action_space}
        return spaces | {"config": self.config}


class DrivetrainDQNPolicy(DQNPolicy):
    """Our network of action values, and its target network, for its DQN.

    Args:
        observation_space: numbers [O], or pictures as its VecTransposeImage hands them over.
        action_space: Discrete, counted from 0.
        lr_schedule: part of the training that is left, 1 to 0 → learning rate.
        config: fields of NETWORK["dqn"]; None takes the defaults of DQNConfig.
        optimizer_class: of torch.
        optimizer_kwargs: further arguments for it.

    Raises:
        UserError: settings or spaces that no network of ours is made for.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Space[Any],
        lr_schedule: Schedule,
        config: Mapping[str, Any] | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_start(action_space)
        self.config = dict(config or {})
        super().__init__(
            observation_space,
            action_space,  # type: ignore[arg-type]
            lr_schedule,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def make_q_net(self) -> DrivetrainQNetwork:  # type: ignore[override]
        """A network with first weights of the seed that Stable-Baselines3 has set."""
        return DrivetrainQNetwork(self.observation_space, self.action_space, self.config).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces = {"observation_space": self.observation_space, "action_space": self.action_space}
        optimizer = {"optimizer_class": self.optimizer_class, "optimizer_kwargs": self.optimizer_kwargs}
        return spaces | optimizer | {"lr_schedule": self._dummy_schedule, "config": self.config}


def _no_network(error: ValueError) -> UserError:
    return UserError("no network for this environment and these settings", got=" ".join(str(error).split()))


def seen(obs: PyTorchObs, channels_first: bool) -> Tensor:
    """Observations [B, …] as our networks see them: numbers float32, pictures [B, H, W, C]."""
    assert isinstance(obs, Tensor), "our networks read one Box"
    if obs.ndim == 2:
        return obs.to(torch.float32)
    return obs.permute(0, 2, 3, 1) if channels_first else obs


def transposed(space: Space[Any]) -> bool:
    """Whether these are pictures [C, H, W], as its VecTransposeImage makes them."""
    return isinstance(space, Box) and is_image_space(space) and is_image_space_channels_first(space)


def as_seen(space: Space[Any]) -> Space[Any]:
    """The space as our networks see it: pictures are [H, W, C]."""
    if not isinstance(space, Box) or not transposed(space):
        return space
    low, high = (np.moveaxis(limit, 0, -1) for limit in (space.low, space.high))
    return Box(low, high, dtype=np.uint8)


def check_start(space: Space[Any]) -> None:
    """Refuses discrete actions that Stable-Baselines3 would count wrongly.

    Raises:
        UserError: they do not begin with 0.
    """
    if np.any(getattr(space, "start", 0)):
        raise UserError("Stable-Baselines3 counts actions from 0", got=f"start {space.start}")  # type: ignore[attr-defined]


def weight_noise() -> torch.Generator:
    """Of first weights, out of the seed that Stable-Baselines3 has set."""
    return torch.Generator().manual_seed(torch.initial_seed() % 2**63)
