"""Our networks as Stable-Baselines3's own: which of them its MlpPolicy and CnnPolicy can express, and how.

The normaliser becomes part of the first layers, returns part of the value layer, and smaller convolutions are filled up
with zeros, which changes nothing. A tanh that squashes actions exists there with state-dependent noise only: actions
without noise are equal, the noise is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from ..envs.errors import UserError
from ..policies.encoders import CNN, MLP, Encoder
from ..policies.heads import BinaryHead, BoundedHead, DiscreteHead, GaussianHead, Head, MultiDiscreteHead
from ..policies.normalize import AsItIs, RunningNorm
from ..policies.policy import Policy

NATURE_CHANNELS = (32, 64, 64)
"""of the convolutions of its NatureCNN"""
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.ELU, nn.SiLU, nn.GELU)
FIX = "leave out --plain"


@dataclass(frozen=True)
class Plain:
    """How to make one of its policies that can hold a network of ours."""

    policy: str  # "MlpPolicy" or "CnnPolicy"
    policy_kwargs: dict[str, Any]
    use_sde: bool  # state-dependent noise
    notes: tuple[str, ...]  # what is not the same there


def plain_actor_critic(policy: Policy) -> Plain:
    """The ActorCriticPolicy that computes what our policy does.

    Raises:
        UserError: there is none.
    """
    encoders = [policy.actor] if policy.critic is None else [policy.actor, policy.critic]
    name, hidden, kwargs = _trunk(policy.actor)
    for encoder in encoders:
        _check_encoder(encoder)
    kwargs["net_arch"] = {"pi": hidden, "vf": hidden}
    if name == "CnnPolicy":
        kwargs["share_features_extractor"] = policy.critic is None
    notes = _norm_notes(policy.obs_norm)
    squashed = isinstance(policy.head, BoundedHead)
    _check_head(policy.head)
    if squashed:
        kwargs["squash_output"] = True
        notes += ("noise depends on the state there (gSDE); actions without noise are the same",)
    return Plain(name, kwargs, squashed, notes)


@torch.no_grad()
def fill_actor_critic(theirs: ActorCriticPolicy, ours: Policy) -> None:
    """Writes our weights into a policy made as plain_actor_critic says."""
    critic = ours.actor if ours.critic is None else ours.critic
    paths = (
        (ours.actor, theirs.pi_features_extractor, theirs.mlp_extractor.policy_net),
        (critic, theirs.vf_features_extractor, theirs.mlp_extractor.value_net),
    )
    for encoder, extractor, net in paths:
        _fill_trunk(extractor, net, encoder, ours.obs_norm)
    head = ours.head
    (last,) = _linears(head)
    _copy(_linears(theirs.action_net)[0], last.weight, last.bias)
    if isinstance(head, BoundedHead | GaussianHead):
        log_std = head.log_std.clamp(min=head.log_std_min)
        # of gSDE [units, A]: the variances of all units, each about as large as 1, add up to ours
        spread = 0.5 * math.log(theirs.log_std.shape[0]) if theirs.log_std.ndim == 2 else 0.0
        theirs.log_std.copy_((log_std - spread).expand_as(theirs.log_std))
    value, norm = ours.value_head.value, ours.return_norm
    if int(norm.updates):
        sd = torch.sqrt(norm.var.double() + 1e-5)
        _copy(theirs.value_net, value.weight.double() * sd, value.bias.double() * sd + norm.mean.double())
    else:
        _copy(theirs.value_net, value.weight, value.bias)


def _trunk(encoder: Encoder) -> tuple[str, list[int], dict[str, Any]]:
    """Name of its policy, the units of its own fully connected layers, and further arguments."""
    if isinstance(encoder, MLP):
        hidden = [layer.out_features for layer in _linears(encoder)]
        return "MlpPolicy", hidden, {"activation_fn": _activation(encoder)}
    if not isinstance(encoder, CNN):
        raise _refusal("a resnet", "mlp or cnn")
    dense = [layer.out_features for layer in _linears(encoder.dense)]
    if not dense:
        raise _refusal("convolutions without a fully connected layer", "one layer or more")
    kwargs = {"activation_fn": _activation(encoder), "features_extractor_kwargs": {"features_dim": dense[0]}}
    return "CnnPolicy", dense[1:], kwargs


def _check_encoder(encoder: Encoder) -> None:
    if any(isinstance(module, nn.LayerNorm | nn.GroupNorm) for module in encoder.modules()):
        raise _refusal("layer normalisation", "none")
    if not isinstance(encoder, CNN):
        return
    if _activation(encoder) is not nn.ReLU:
        raise _refusal(f"convolutions with {_activation(encoder).__name__}", "ReLU")
    convolutions = _convolutions(encoder)
    widths = [layer.out_channels for layer in convolutions]
    fits = len(widths) == len(NATURE_CHANNELS) and all(a <= b for a, b in zip(widths, NATURE_CHANNELS, strict=True))
    if not fits:
        raise _refusal(f"convolutions of {widths} channels", f"three of up to {list(NATURE_CHANNELS)}")


def _check_head(head: Head) -> None:
    if not isinstance(head, BoundedHead | GaussianHead | DiscreteHead | MultiDiscreteHead | BinaryHead):
        raise _refusal(f"a {type(head).__name__}", "squashed or plain Gaussian, or choices of a discrete space")
    start = getattr(head, "start", 0)
    if bool((start != 0).any() if isinstance(start, Tensor) else start):
        raise _refusal("actions that are not counted from 0", "0")


def _activation(encoder: Encoder) -> type[nn.Module]:
    for module in encoder.modules():
        if isinstance(module, ACTIVATIONS):
            return type(module)
    return nn.Tanh  # no layer, no activation


def _norm_notes(norm: RunningNorm | AsItIs) -> tuple[str, ...]:
    if isinstance(norm, AsItIs) or not int(norm.updates):
        return ()
    return (f"numbers more than {norm.limit:g} standard deviations from their mean are not clipped there",)


def _refusal(got: str, allowed: str) -> UserError:
    what = "no policy of Stable-Baselines3's own can express this network"
    return UserError(what, got=got, allowed=allowed, fix=FIX)


def _fill_trunk(extractor: nn.Module, net: nn.Module, ours: Encoder, norm: RunningNorm | AsItIs) -> None:
    """Encoder and normaliser into its features extractor and the layers behind it."""
    if isinstance(ours, CNN):
        _fill_convolutions(extractor, ours)
        rest = _linears(ours.dense)[1:]
    else:
        rest = _linears(ours)
    theirs = _linears(net)
    for k, (into, layer) in enumerate(zip(theirs, rest, strict=True)):
        if k == 0 and isinstance(norm, RunningNorm):
            _copy(into, *fold(norm, layer))
        else:
            _copy(into, layer.weight, layer.bias)


def fold(norm: RunningNorm, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight and bias that do to plain observations what a layer does to standardised ones, but for the clipping."""
    scale = torch.rsqrt(norm.var.double() + 1e-5)
    weight = layer.weight.double() * scale
    return weight, layer.bias.double() - weight @ norm.mean.double()


def _fill_convolutions(extractor: nn.Module, ours: CNN) -> None:
    """Our convolutions into the first channels of its wider ones; the others stay at zero and are not listened to."""
    theirs, known = _convolutions(extractor), _convolutions(ours)
    for into, layer in zip(theirs, known, strict=True):
        weight, bias = torch.zeros_like(into.weight), torch.zeros(into.out_channels, device=into.weight.device)
        weight[: layer.out_channels, : layer.in_channels] = layer.weight
        bias[: layer.out_channels] = torch.as_tensor(layer.bias)
        _copy(into, weight, bias)
    first, behind = _linears(ours.dense)[0], _linears(extractor)[0]
    wide = torch.zeros_like(behind.weight).view(behind.out_features, theirs[-1].out_channels, -1)
    wide[:, : known[-1].out_channels] = first.weight.view(first.out_features, known[-1].out_channels, -1)
    _copy(behind, wide.flatten(1), first.bias)


def _linears(module: nn.Module) -> list[nn.Linear]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)]


def _convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def _copy(into: nn.Linear | nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    into.weight.copy_(weight)
    torch.as_tensor(into.bias).copy_(bias)
