"""Our networks as Stable-Baselines3's own: which of them its MlpPolicy and CnnPolicy can express, and how.

The normaliser becomes part of the first layers, a scale of returns part of the last; smaller convolutions are filled up
with zeros, which changes nothing; two streams become one of twice the width; of quantiles the mean remains. A tanh that
squashes actions exists there with state-dependent noise only: actions without noise are equal, the noise is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor, nn

from ..envs.errors import UserError
from ..policies.encoders import CNN, MLP, Encoder
from ..policies.heads import BinaryHead, BoundedHead, DiscreteHead, GaussianHead, Head, MultiDiscreteHead
from ..policies.noisy import NoisyLinear
from ..policies.normalize import AsItIs, RunningNorm
from ..policies.policy import Policy
from ..policies.qnet import QPolicy, Stream

NATURE_CHANNELS = (32, 64, 64)
"""of the convolutions of its NatureCNN"""
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.ELU, nn.SiLU, nn.GELU)


@dataclass(frozen=True)
class Plain:
    """How to make one of its policies that can hold a network of ours."""

    policy: str  # "MlpPolicy" or "CnnPolicy"
    policy_kwargs: dict[str, Any]
    use_sde: bool  # state-dependent noise
    notes: tuple[str, ...]  # what is not the same there


@dataclass(frozen=True)
class Dense:
    """Weight [out, in] and bias [out] of a fully connected layer."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Stack:
    """A network as layers in a row: convolutions, then fully connected ones, the last without an activation."""

    convolutions: list[nn.Conv2d]
    dense: list[Dense]
    activation: type[nn.Module]

    @property
    def widths(self) -> list[int]:
        """Units of the fully connected layers but the last."""
        return [len(layer.bias) for layer in self.dense[:-1]]


def plain_actor_critic(policy: Policy) -> Plain:
    """The ActorCriticPolicy that computes what our policy does.

    Raises:
        UserError: there is none.
    """
    _check_head(policy.head)
    actor, critic = _actor(policy), _critic(policy)
    name, widths, kwargs = _arguments(actor)
    kwargs["net_arch"] = {"pi": widths, "vf": _arguments(critic)[1]}
    if actor.convolutions:
        kwargs["share_features_extractor"] = policy.critic is None
    notes, squashed = _norm_notes(policy.obs_norm), isinstance(policy.head, BoundedHead)
    if squashed:
        kwargs["squash_output"] = True
        notes += ("noise depends on the state there (gSDE); actions without noise are the same",)
    return Plain(name, kwargs, squashed, notes)


def plain_q(policy: QPolicy) -> Plain:
    """The DQNPolicy that computes the values of our policy, in points, without noise.

    Raises:
        UserError: there is none.
    """
    if policy.start:
        raise _refusal("actions that are not counted from 0", "0")
    name, widths, kwargs = _arguments(_values(policy))
    return Plain(name, kwargs | {"net_arch": widths}, False, _norm_notes(policy.obs_norm))


@torch.no_grad()
def fill_actor_critic(theirs: ActorCriticPolicy, ours: Policy) -> None:
    """Writes our weights into a policy made as plain_actor_critic says."""
    nets = theirs.mlp_extractor
    _fill(theirs.pi_features_extractor, [*_linears(nets.policy_net), *_linears(theirs.action_net)], _actor(ours))
    _fill(theirs.vf_features_extractor, [*_linears(nets.value_net), theirs.value_net], _critic(ours))
    if isinstance(ours.head, BoundedHead | GaussianHead):
        log_std = ours.head.log_std.clamp(min=ours.head.log_std_min)
        # of gSDE [units, A]: the variances of all units, each about as large as 1, add up to ours
        spread = 0.5 * math.log(theirs.log_std.shape[0]) if theirs.log_std.ndim == 2 else 0.0
        theirs.log_std.copy_((log_std - spread).expand_as(theirs.log_std))


@torch.no_grad()
def fill_q(theirs: QNetwork, ours: QPolicy) -> None:
    """Writes our weights into a network made as plain_q says."""
    assert theirs.features_extractor is not None
    _fill(theirs.features_extractor, _linears(theirs.q_net), _values(ours))


def _actor(policy: Policy) -> Stack:
    (last,) = _linears(policy.head)
    return _stack(policy.actor, [], Dense(last.weight, last.bias), policy.obs_norm)


def _critic(policy: Policy) -> Stack:
    value, norm = policy.value_head.value, policy.return_norm
    last = Dense(value.weight, value.bias)
    if int(norm.updates):  # values are learned standardised
        sd = torch.sqrt(norm.var.double() + 1e-5)
        last = Dense(value.weight.double() * sd, value.bias.double() * sd + norm.mean.double())
    return _stack(policy.actor if policy.critic is None else policy.critic, [], last, policy.obs_norm)


def _values(policy: QPolicy) -> Stack:
    """Streams side by side, quantiles averaged, values in points."""
    net, scale = policy.net, policy.reward_scale
    last = _mean_of_quantiles(net.advantage, net.outputs)
    body = _dense(net.advantage.body)
    if net.value is not None:
        value = _mean_of_quantiles(net.value, net.outputs)
        centred = Dense(last.weight - last.weight.mean(0), last.bias - last.bias.mean())
        joined = [side_by_side(*pair) for pair in zip(_dense(net.value.body), body, strict=True)]
        wide = torch.cat((value.weight.expand(net.actions, -1), centred.weight), 1)
        shared = Dense(value.weight + centred.weight, value.bias + centred.bias)  # without hidden layers of their own
        last = Dense(wide, value.bias + centred.bias) if joined else shared
        body = joined
    points = Dense(last.weight / scale, last.bias / scale)
    return _stack(net.encoder, body, points, policy.obs_norm, net.advantage)


def side_by_side(one: Dense, other: Dense) -> Dense:
    """Both layers at once, of the same input."""
    return Dense(torch.cat((one.weight, other.weight)), torch.cat((one.bias, other.bias)))


def _mean_of_quantiles(stream: Stream, quantiles: int) -> Dense:
    last: nn.Linear | NoisyLinear = stream.last
    weight = last.weight.double().view(-1, quantiles, last.weight.shape[1]).mean(1)
    return Dense(weight, last.bias.double().view(-1, quantiles).mean(1))


def _stack(
    encoder: Encoder, body: list[Dense], last: Dense, norm: RunningNorm | AsItIs, further: nn.Module | None = None
) -> Stack:
    """The layers of a network in a row.

    Raises:
        UserError: there are others between them.
    """
    parts = [encoder, further] if further is not None else [encoder]
    modules = [module for part in parts for module in part.modules()]
    if any(isinstance(module, nn.LayerNorm | nn.GroupNorm) for module in modules):
        raise _refusal("layer normalisation", "none")
    activation = next((type(module) for module in modules if isinstance(module, ACTIVATIONS)), nn.Tanh)
    if isinstance(encoder, MLP):
        dense = [*_dense(encoder), *body, last]
        if isinstance(norm, RunningNorm):
            dense[0] = fold(norm, dense[0])
        return Stack([], dense, activation)
    if not isinstance(encoder, CNN):
        kind = type(encoder).__name__.lower()
        raise _refusal(f"an encoder with connections around its layers ({kind})", "mlp or cnn")
    convolutions = [layer for layer in encoder.layers if isinstance(layer, nn.Conv2d)]
    stack = Stack(convolutions, [*_dense(encoder.dense), *body, last], activation)
    _check_convolutions(stack)
    return stack


def fold(norm: RunningNorm, layer: Dense) -> Dense:
    """A layer that does to plain observations what this does to standardised ones, but for the clipping."""
    scale = torch.rsqrt(norm.var.double() + 1e-5)
    weight = layer.weight.double() * scale
    return Dense(weight, layer.bias.double() - weight @ norm.mean.double())


def _arguments(stack: Stack) -> tuple[str, list[int], dict[str, Any]]:
    """Name of its policy, the units of its own fully connected layers, and further arguments."""
    if not stack.convolutions:
        return "MlpPolicy", stack.widths, {"activation_fn": stack.activation}
    features = {"features_extractor_kwargs": {"features_dim": stack.widths[0]}}
    return "CnnPolicy", stack.widths[1:], features | {"activation_fn": stack.activation}


def _check_convolutions(stack: Stack) -> None:
    widths = [layer.out_channels for layer in stack.convolutions]
    if stack.activation is not nn.ReLU:
        raise _refusal(f"convolutions with {stack.activation.__name__}", "ReLU")
    if len(widths) != len(NATURE_CHANNELS) or any(a > b for a, b in zip(widths, NATURE_CHANNELS, strict=True)):
        raise _refusal(f"convolutions of {widths} channels", f"three of up to {list(NATURE_CHANNELS)}")
    if not stack.widths:
        raise _refusal("convolutions without a fully connected layer", "one layer or more")


def _check_head(head: Head) -> None:
    if not isinstance(head, BoundedHead | GaussianHead | DiscreteHead | MultiDiscreteHead | BinaryHead):
        raise _refusal(f"a {type(head).__name__}", "squashed or plain Gaussian, or choices of a discrete space")
    start = getattr(head, "start", 0)
    if bool((start != 0).any() if isinstance(start, Tensor) else start):
        raise _refusal("actions that are not counted from 0", "0")


def _norm_notes(norm: RunningNorm | AsItIs) -> tuple[str, ...]:
    if isinstance(norm, AsItIs):
        return ()
    return (f"numbers more than {norm.limit:g} standard deviations from their mean are not clipped there",)


def _refusal(got: str, allowed: str) -> UserError:
    what = "no policy of Stable-Baselines3's own can express this network"
    return UserError(what, got=got, allowed=allowed, fix="leave out --plain")


def _fill(extractor: nn.Module, layers: list[nn.Linear], stack: Stack) -> None:
    """A stack into its features extractor and the layers behind it."""
    dense = stack.dense
    if stack.convolutions:
        theirs = [layer for layer in extractor.modules() if isinstance(layer, nn.Conv2d)]
        _fill_convolutions(theirs, stack.convolutions)
        (behind,), first = _linears(extractor), dense[0]
        known, all_channels = stack.convolutions[-1].out_channels, theirs[-1].out_channels
        wide = torch.zeros_like(behind.weight).view(behind.out_features, all_channels, -1)
        wide[:, :known] = first.weight.view(behind.out_features, known, -1)
        dense, layers = [Dense(wide.flatten(1), first.bias), *dense[1:]], [behind, *layers]
    for into, layer in zip(layers, dense, strict=True):
        into.weight.copy_(layer.weight)
        into.bias.copy_(layer.bias)


def _fill_convolutions(theirs: list[nn.Conv2d], ours: list[nn.Conv2d]) -> None:
    """Into the first channels of its wider ones; the others stay at zero and are not listened to."""
    for into, layer in zip(theirs, ours, strict=True):
        into.weight.zero_()[: layer.out_channels, : layer.in_channels] = layer.weight
        bias = torch.as_tensor(into.bias).zero_()
        bias[: layer.out_channels] = torch.as_tensor(layer.bias)


def _dense(module: nn.Module) -> list[Dense]:
    return [Dense(layer.weight, layer.bias) for layer in _linears(module)]


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
