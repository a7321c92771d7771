"""What a learner takes over from a trained run: all that acts and of what judges as much as fits, or its encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ..envs.errors import UserError

if TYPE_CHECKING:
    from .build import AnyPolicy

JUDGES = ("critic.", "value_head.", "return_norm.")
"""parts of a policy that only the value depends on"""
AS_Q = {"actor.": "net.encoder.", "core.": "net.core.", "head.logits.": "net.advantage.last."}
"""where the parts of a policy that chooses are in a network of action values: its logits order the actions alike"""
ENCODERS, CRITIC = ("actor.", "net.encoder."), "critic."
"""encoders of what acts in policies that choose and in networks of action values, and of what judges alone"""
LOGIT_VALUE = 0.05
"""value that a nat of a logit begins as: small, so that what is learned first is not to unlearn large differences"""


def carry_over(policy: AnyPolicy, weights: Mapping[str, Tensor], who: str) -> tuple[str, ...]:
    """Puts weights of a run into a policy. Returns what the user should know.

    Encoder, core, head and normaliser must fit. A critic that is not there begins as a copy of the encoder that acts,
    so that a value read off shared features is the same as before; one that does not fit is learned anew. Action values
    begin as the logits of a policy, scaled down.

    Args:
        policy: changed in place, or left alone if anything is wrong.
        weights: of the run, by name.
        who: the run, for messages.

    Raises:
        UserError: a network of another shape.
    """
    here = policy.state_dict()
    offered = _renamed(weights) if any(name.startswith("net.") for name in here) else dict(weights)
    found = {name: tensor for name, tensor in offered.items() if not name.startswith(JUDGES)}
    _check_shapes(found, {name: tensor for name, tensor in here.items() if not name.startswith(JUDGES)}, who)
    judges = {name: offered.get(name, _of_actor(name, offered)) for name in here if name.startswith(JUDGES)}
    fits = all(tensor is not None and tensor.shape == here[name].shape for name, tensor in judges.items())
    extra = any(name.startswith("critic.") and name not in here for name in offered)
    fits = fits and not extra  # a value head that read another network's features
    policy.load_state_dict(here | found | ({k: v for k, v in judges.items() if v is not None} if fits else {}))
    return () if fits else (f"note: the value is learned anew, because {who} has another network for it",)


def carry_encoder(policy: AnyPolicy, weights: Mapping[str, Tensor], who: str) -> None:
    """Puts the encoder and the normaliser of a run into a policy; heads and core stay as they are.

    A critic with an encoder of its own begins with the same one.

    Args:
        policy: changed in place, or left alone if anything is wrong.
        weights: of the run, by name.
        who: the run, for messages.

    Raises:
        UserError: an encoder of another shape.
    """
    here = policy.state_dict()
    offered = {key: tensor for name, tensor in weights.items() if (key := _encoder_key(name, ENCODERS))}
    ours = {name: key for name in here if (key := _encoder_key(name, (*ENCODERS, CRITIC)))}
    _check_shapes(offered, {key: here[name] for name, key in ours.items()}, who)
    policy.load_state_dict(here | {name: offered[key] for name, key in ours.items()})


def _encoder_key(name: str, encoders: tuple[str, ...]) -> str:
    """What a weight of an encoder or of the normaliser is called in every kind of policy; empty for others."""
    if name.startswith("obs_norm."):
        return name
    return next(("encoder." + name.removeprefix(part) for part in encoders if name.startswith(part)), "")


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a policy that chooses by the names of a network of action values; those of one are left alone."""
    named = {}
    for name, tensor in weights.items():
        old = next((old for old in AS_Q if name.startswith(old)), "")
        if not name.startswith(JUDGES):
            value = LOGIT_VALUE if old == "head.logits." else 1
            named[AS_Q.get(old, "") + name.removeprefix(old)] = tensor * value
    return named


def _of_actor(name: str, offered: Mapping[str, Tensor]) -> Tensor | None:
    """For a critic's weight where there was no critic, that of the encoder that acts."""
    return offered.get("actor." + name.removeprefix("critic.")) if name.startswith("critic.") else None


def _check_shapes(found: Mapping[str, Tensor], here: Mapping[str, Tensor], who: str) -> None:
    for name in [*here, *found]:
        shapes = [_shape(tensors.get(name)) for tensors in (found, here)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"the network of {who} has another shape",
                got=f"{name} {shapes[0]}",
                allowed=shapes[1],
                fix="leave out options of task and network: those of that run are taken",
            )


def _shape(tensor: Tensor | None) -> str:
    if tensor is None:
        return "absent"
    return "x".join(map(str, tensor.shape)) or "1"
