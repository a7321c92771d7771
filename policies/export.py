"""A policy as one ONNX graph: from what the environment shows to what it takes, normaliser and frames included."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .heads import BinaryHead
from .normalize import RunningNorm
from .policy import Policy

if TYPE_CHECKING:
    from .qnet import QPolicy

OPSET = 18
TOLERANCE = 1e-4
"""two choices closer than this are as good as each other; a graph that is farther from its network is no copy of it"""
BATCHES = (1, 3, 256)
"""sizes of the batches that a graph is compared on"""


class Port(NamedTuple):
    """An input or output of the graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]  # "batch" stands for any number


class Decision(nn.Module):
    """The whole decision without exploration, and what it rests on.

    Inputs: `observation` [B, …]. Of k stacked pictures this is the newest alone, uint8 [B, H, W, C]; then there are
    also `memory` uint8 [B, H, W, C·(k − 1)], the pictures before it, oldest first, and `start` [B] bool, true where an
    episode begins: there the memory is not looked at, and the first picture stands in for those before it.

    Outputs: `action` as the environment takes it; where it is one of several, what each of them is worth, `logits`
    [B, K] or [B, A, K] (of switches [B, A]) or `q` [B, K]; where there is a memory, `next_memory`.

    Args:
        policy: on the CPU.
        frame_stack: k.

    Raises:
        ValueError: the observations are not so many pictures.
    """

    def __init__(self, policy: Policy | QPolicy, frame_stack: int = 1) -> None:
        super().__init__()
        shape = policy.obs_shape
        if frame_stack > 1 and (len(shape) != 3 or shape[2] % frame_stack):
            raise ValueError(f"observations {list(shape)} are no {frame_stack} pictures")
        self.policy, self.frame_stack = policy.eval(), frame_stack

    def forward(
        self, observation: Tensor, memory: Tensor | None = None, start: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        if memory is None or start is None:
            return self.decide(observation)
        first = observation.repeat(1, 1, 1, self.frame_stack - 1)
        stack = torch.cat((torch.where(start[:, None, None, None], first, memory), observation), -1)
        return *self.decide(stack), stack[..., observation.shape[-1] :]

    def decide(self, obs: Tensor) -> tuple[Tensor, ...]:
        """Actions, and the scores that they were chosen by if they were, from whole observations [B, …]."""
        policy = self.policy
        normed = policy.obs_norm(obs)
        if not isinstance(policy, Policy):
            q = policy.q(normed)
            return q.argmax(-1) + policy.start, q
        pi = policy.pi(normed)
        action, logits = policy.head.to_env(pi.mode()), getattr(pi, "logits", None)
        return (action,) if logits is None else (action, logits)

    def doubtful(self, scores: Tensor) -> Tensor:
        """[B] bool: choices with these scores may turn on rounding."""
        if isinstance(self.policy, Policy) and isinstance(self.policy.head, BinaryHead):
            gaps = scores.abs()
        else:
            best = scores.topk(min(2, scores.shape[-1]), -1).values
            gaps = best[..., :1] - best[..., 1:]  # one choice alone is never in doubt
        return (gaps < TOLERANCE).flatten(1).any(1)

    def example(self, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Inputs at random: pictures of noise, or numbers twice as far spread as those that the normaliser met."""
        shape, norm = (count, *self.policy.obs_shape), self.policy.obs_norm
        if isinstance(norm, RunningNorm):
            return (norm.invert(2 * torch.randn(shape, generator=generator)),)
        pictures = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        if self.frame_stack == 1:
            return (pictures,)
        channels = shape[-1] // self.frame_stack
        start = torch.rand(count, generator=generator) < 0.25
        return pictures[..., -channels:], pictures[..., :-channels], start

    @torch.no_grad()
    def ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """Inputs and outputs."""
        given = self.example(2, torch.Generator().manual_seed(0))
        found = self(*given)
        has_scores = len(found) - (self.frame_stack > 1) > 1
        scores = ("logits" if isinstance(self.policy, Policy) else "q",) if has_scores else ()
        inputs = tuple(map(_port, ("observation", "memory", "start"), given))
        return inputs, tuple(map(_port, ("action", *scores, "next_memory"), found))


def _port(name: str, tensor: Tensor) -> Port:
    return Port(name, str(tensor.dtype).removeprefix("torch."), ("batch", *tensor.shape[1:]))


def to_onnx(decision: Decision) -> bytes:
    """The graph, for batches of any size."""
    inputs, outputs = ([port.name for port in ports] for ports in decision.ports())
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter that traces is marked as old, but is far faster and needs fewer packages. It warns of all that
        # Python decides while it traces; `largest_error` shows what would come of that.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            decision,
            decision.example(2, torch.Generator().manual_seed(0)),
            file,  # type: ignore[arg-type]  # this exporter takes files, too
            dynamo=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)},
        )
    return file.getvalue()


@torch.no_grad()
def largest_error(decision: Decision, graph: bytes, seed: int = 0) -> float:
    """Largest difference between a graph run by onnxruntime and its network, over random observations in BATCHES.

    Numbers above 1 in size are compared relative to it. Choices that may turn on rounding are not compared, only their
    scores. Infinite where types or shapes differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    inputs, outputs = ([port.name for port in ports] for ports in decision.ports())
    generator, largest = torch.Generator().manual_seed(seed), 0.0
    for count in BATCHES:
        given = decision.example(count, generator)
        wanted = dict(zip(outputs, decision(*given), strict=True))
        found = session.run(outputs, {name: x.numpy() for name, x in zip(inputs, given, strict=True)})
        for (name, want), got in zip(wanted.items(), map(torch.as_tensor, found), strict=True):
            if got.dtype != want.dtype or got.shape != want.shape:
                return float("inf")
            gap = (got.double() - want.double()).abs() / want.double().abs().clamp(min=1)
            scores = wanted.get("logits", wanted.get("q"))
            if name == "action" and scores is not None:
                gap = gap[~decision.doubtful(scores)]
            largest = max(largest, float(gap.max()) if gap.numel() else 0.0)
    return largest
