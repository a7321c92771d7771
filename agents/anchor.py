"""Reinforcement that does not forget what was learned before: an anchor to the policy it begins with.

The loss gets a weight times KL(anchor ‖ policy), and the weight falls to 0 (kickstarting, Schmitt et al. 2018). The
anchor looks through its own normaliser and has its own memory, so that it goes on deciding as it did at the start.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..envs.errors import UserError
from ..policies.distributions import Bernoulli, Beta, Categorical, Distribution, Gaussian, MultiCategorical
from ..policies.heads import GaussianHead
from ..policies.policy import Policy
from .frames import Frames

CLONE_STD = 0.3
"""first standard deviation of a normal head that was cloned: its own was never trained"""
KEPT = "anchor_memory"
"""name of the anchor's memory among its tensors"""


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """[B] KL(p ‖ q) in nats, in closed form, of two distributions of one kind over the same raw actions.

    Of squashed actions it is the same as of raw ones, because the squash is one to one.

    Raises:
        TypeError: of different kinds, or of a kind not known here.
    """
    match p, q:
        case Gaussian(), Gaussian():
            ratio = (p.log_std - q.log_std).exp()
            shift = (p.mean - q.mean) * torch.exp(-q.log_std)
            return 0.5 * (ratio**2 + shift**2 - 1 - 2 * (p.log_std - q.log_std)).sum(-1)
        case Beta(), Beta():
            return _beta_kl(p, q)
        case Categorical(), Categorical():
            return (p.logits.exp() * (p.logits - q.logits)).sum(-1)
        case MultiCategorical(), MultiCategorical():
            return (p.logits.exp() * (p.logits - q.logits)).sum((-2, -1))
        case Bernoulli(), Bernoulli():
            gap = p.logits - q.logits
            return (p.logits.sigmoid() * gap - softplus(p.logits) + softplus(q.logits)).sum(-1)
    raise TypeError(f"no divergence from {type(q).__name__} to {type(p).__name__}")


def _beta_kl(p: Beta, q: Beta) -> Tensor:
    """[B]: Σ ln B(α', β') − ln B(α, β) + (α − α') ψ(α) + (β − β') ψ(β) + (α' − α + β' − β) ψ(α + β)."""

    def log_norm(d: Beta) -> Tensor:
        return torch.lgamma(d.alpha) + torch.lgamma(d.beta) - torch.lgamma(d.alpha + d.beta)

    a, b = p.alpha - q.alpha, p.beta - q.beta
    moments = a * torch.digamma(p.alpha) + b * torch.digamma(p.beta) - (a + b) * torch.digamma(p.alpha + p.beta)
    return (log_norm(q) - log_norm(p) + moments).sum(-1)


class Anchor:
    """What a policy decided when it was made.

    Args:
        policy: copied, and left alone from then on.
        num_envs: lanes whose episodes it follows, each from its beginning.
    """

    def __init__(self, policy: Policy, num_envs: int) -> None:
        self.policy = copy.deepcopy(policy).eval().requires_grad_(False)
        self.kept = self.policy.core.start(num_envs, policy.device).kept

    @torch.no_grad()
    def features(self, obs: Tensor | Frames, first: Tensor | None, parts: int) -> Tensor:
        """[T·B, F] what its head reads, of plain observations [T, B, …]; goes on from what it remembers.

        Args:
            obs: of a rollout.
            first: [T, B] bool, steps before which memory is forgotten; None without memory.
            parts: into which the work on pictures is cut.
        """
        if isinstance(obs, Frames):
            index = torch.arange(obs.oldest.numel(), device=obs.oldest.device)
            seen = torch.cat([self.policy.actor(obs.take(part)) for part in index.tensor_split(parts)])
        else:
            seen = self.policy.actor(self.policy.obs_norm(obs.flatten(0, 1)))
        if first is None:
            return seen
        features, self.kept = self.policy.core(seen.unflatten(0, first.shape), self.kept, first)
        return features.flatten(0, 1)

    def divergence(self, features: Tensor, pi: Distribution) -> Tensor:
        """[N] KL(anchor ‖ pi) where the anchor's head reads features [N, F]."""
        with torch.no_grad():
            before = self.policy.head(features)
        return kl_divergence(before, pi)

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything that a continuation needs."""
        return self.policy.state_dict() | {KEPT: self.kept}

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what state_tensors gave.

        Raises:
            KeyError: something is missing.
        """
        for name, here in self.state_tensors().items():
            here.copy_(tensors[name])


def freeze(policy: Policy, frozen: bool) -> None:
    """Whether what acts (encoder, core, head) is kept as it is; what judges alone learns on."""
    for part in (policy.actor, policy.core, policy.head):
        part.requires_grad_(not frozen)


def freeze_encoder(policy: Policy, frozen: bool) -> None:
    """Whether what reads observations, for the policy and for the value, is kept as it is."""
    for part in (policy.actor, policy.critic):
        if part is not None:
            part.requires_grad_(not frozen)


def judging(policy: Policy) -> list[bool]:
    """Of every parameter, in the order of policy.parameters(), whether only the value depends on it."""
    return [name.startswith(("critic.", "value_head.")) for name, _ in policy.named_parameters()]


def set_std(policy: Policy, std: float) -> None:
    """Sets the standard deviation of a normal head; others have none.

    Raises:
        UserError: it is below the smallest that the head may have.
    """
    head = policy.head
    if not isinstance(head, GaussianHead):
        return
    least = math.exp(head.log_std_min)
    if std < least:
        fix = f"raise init_std, or lower log_std_min to {math.floor(10 * math.log(std)) / 10}"
        raise UserError("init_std is below the smallest spread of the head", got=std, allowed=f"{least:.3g}", fix=fix)
    head.log_std.data.fill_(math.log(std))
