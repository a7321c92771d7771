"""A run as a zip of Stable-Baselines3: `PPO.load` and `DQN.load` open it."""

from __future__ import annotations

import copy
import io
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete, Space
from stable_baselines3 import DQN, PPO
from torch import Tensor, nn

from ..envs.errors import UserError
from ..policies.config import PolicyConfig
from ..policies.noisy import NoisyLinear
from ..policies.normalize import RunningNorm
from ..policies.policy import Policy
from ..policies.qnet import QPolicy
from .config import PPOConfig
from .dqn_config import DQNConfig
from .sb3_plain import Plain, fill_actor_critic, fill_q, plain_actor_critic, plain_q
from .sb3_policy import DrivetrainActorCriticPolicy, DrivetrainDQNPolicy, check_start
from .sb3_settings import dqn_arguments, network_fields, ppo_arguments

PROBES = 512
"""observations on which the exported network is compared with ours"""
TOLERANCE, TIES = 1e-3, 0.005
"""of an action's size, and share of choices that rounding may turn: an export that is farther off is refused"""

Spaces = tuple[Space[Any], Space[Any]]


class Zip(NamedTuple):
    """A run as Stable-Baselines3 stores its models."""

    content: bytes
    max_abs_error: float  # between the actions of both without exploration; 0 of choices
    notes: tuple[str, ...]  # what is not the same there


def export_sb3(policy: Policy | QPolicy, config: PolicyConfig, spaces: Spaces, plain: bool = False) -> Zip:
    """The zip of a policy.

    Args:
        policy: what decides.
        config: of its network; where it is a PPOConfig or DQNConfig, its settings become those of the zip.
        spaces: observations and actions of one lane, as the policy sees them.
        plain: with its own policy classes, so that the zip opens where drivetrain is not installed.

    Raises:
        UserError: actions that Stable-Baselines3 cannot take; a policy with memory; plain: a network that its policies
            cannot express.
    """
    if config.core != "none":
        what = "Stable-Baselines3's PPO has no policies with memory"
        raise UserError(what, got=f"core={config.core}", allowed="core=none", fix="take --to onnx, which carries it")
    check_start(spaces[1])
    policy = copy.deepcopy(policy).cpu().eval()
    make = _dqn if isinstance(policy, QPolicy) else _ppo
    model, notes = make(policy, config, spaces, plain)  # type: ignore[arg-type]
    content = io.BytesIO()
    model.save(content)
    return Zip(content.getvalue(), _largest_gap(model, policy, spaces), notes)


def fitting_spaces(own: Spaces, seen: Spaces) -> Spaces:
    """The environment's own spaces where a policy can take them as they are, else those that it sees and acts in."""
    kept = []
    for here, there in zip(own, seen, strict=True):
        alike = type(here) is type(there) and here.shape == there.shape and here.dtype == there.dtype
        kept.append(here if alike else there)
    return kept[0], kept[1]


def blank_ppo(policy: Any, spaces: Spaces, arguments: dict[str, Any]) -> PPO:
    """Its PPO without an environment, as if it had learned on one lane."""
    return _blank(PPO(policy, None, device="cpu", _init_setup_model=False, **arguments), spaces)  # type: ignore[arg-type]


def blank_dqn(policy: Any, spaces: Spaces, arguments: dict[str, Any]) -> DQN:
    """Its DQN without an environment, as if it had learned on one lane; its replay is made when it is loaded."""
    model = DQN(policy, None, device="cpu", _init_setup_model=False, **arguments)  # type: ignore[arg-type]
    size, model.buffer_size = model.buffer_size, 1
    _blank(model, spaces)
    model.buffer_size, model.replay_buffer_class, model.replay_buffer_kwargs = size, None, {}
    return model


def _blank(model: Any, spaces: Spaces) -> Any:
    observations, model.action_space = spaces
    if isinstance(observations, Box) and len(observations.shape) == 3:  # as its VecTransposeImage hands them over
        low, high = (np.moveaxis(limit, -1, 0) for limit in (observations.low, observations.high))
        observations = Box(low, high, dtype=np.uint8)
    model.observation_space, model.n_envs = observations, 1
    model._setup_model()
    return model


def _ppo(policy: Policy, config: PolicyConfig, spaces: Spaces, plain: bool) -> tuple[PPO, tuple[str, ...]]:
    arguments = ppo_arguments(config) if isinstance(config, PPOConfig) else {}
    if plain:
        made = plain_actor_critic(policy)
        model = blank_ppo(made.policy, spaces, arguments | _plain_arguments(made) | {"use_sde": made.use_sde})
        fill_actor_critic(model.policy, policy)
        return model, made.notes
    kwargs = {"policy_kwargs": {"config": network_fields(config, "ppo")}}
    model = blank_ppo(DrivetrainActorCriticPolicy, spaces, arguments | kwargs)
    if int(policy.return_norm.updates):
        sd = torch.sqrt(policy.return_norm.var + 1e-5)
        _rescale(policy.value_head.value, sd, policy.return_norm.mean)
        policy.return_norm = type(policy.return_norm)(1, memory=20, limit=float("inf"))
    model.policy.get_submodule("core").load_state_dict(policy.state_dict())
    return model, ()


def _dqn(policy: QPolicy, config: PolicyConfig, spaces: Spaces, plain: bool) -> tuple[DQN, tuple[str, ...]]:
    arguments = dqn_arguments(config) if isinstance(config, DQNConfig) else {}
    if plain:
        made = plain_q(policy)
        model = blank_dqn(made.policy, spaces, arguments | _plain_arguments(made))
        fill_q(model.q_net, policy)
        notes = made.notes
    else:
        fields = network_fields(config, "dqn") | {"reward_scale": 1.0}
        model = blank_dqn(DrivetrainDQNPolicy, spaces, arguments | {"policy_kwargs": {"config": fields}})
        for stream in (policy.net.advantage, policy.net.value):
            if stream is not None:
                _rescale(stream.last, torch.tensor(1 / policy.reward_scale), torch.zeros(1))
        policy.reward_scale = 1.0
        model.q_net.get_submodule("core").load_state_dict(policy.state_dict())
        notes = ()
    model.q_net_target.load_state_dict(model.q_net.state_dict())
    return model, notes


def _plain_arguments(made: Plain) -> dict[str, Any]:
    return {"policy_kwargs": made.policy_kwargs}


@torch.no_grad()
def _rescale(layer: nn.Linear | NoisyLinear, factor: Tensor, offset: Tensor) -> None:
    """Makes a last layer's output y into factor·y + offset."""
    for name, parameter in layer.named_parameters():
        parameter.mul_(factor)
        if name == "bias":
            parameter.add_(offset)


def _largest_gap(model: PPO | DQN, policy: Policy | QPolicy, spaces: Spaces) -> float:
    """Between the actions of both, without exploration; of choices 0, where a tie may go either way.

    Raises:
        UserError: they do not decide the same.
    """
    obs = _probes(policy, spaces[0])
    here = policy.act(obs).numpy()
    there, _ = model.predict(obs.numpy(), deterministic=True)
    if isinstance(spaces[1], Discrete | MultiDiscrete | MultiBinary):
        gap, wrong = 0.0, float((here != there).mean()) > TIES
    else:
        gap = float(np.abs(here - there).max())
        wrong = gap > TOLERANCE * (1 + float(np.abs(here).max()))
    if wrong:
        raise UserError("the exported network does not decide as ours does", got=f"a difference of {gap}")
    return gap


def _probes(policy: Policy | QPolicy, space: Space[Any]) -> Tensor:
    """Observations at random: pictures of noise, or numbers as far spread as those that the normaliser met."""
    noise, norm = torch.Generator().manual_seed(0), policy.obs_norm
    if len(policy.obs_shape) == 3:
        return torch.randint(0, 256, (PROBES // 8, *policy.obs_shape), generator=noise, dtype=torch.uint8)
    spread = 2 * torch.randn((PROBES, *policy.obs_shape), generator=noise)
    assert isinstance(space, Box)
    obs = norm.invert(spread) if isinstance(norm, RunningNorm) else spread
    return torch.clamp(obs, torch.as_tensor(space.low), torch.as_tensor(space.high))
