"""A policy as one ONNX graph: from what the environment shows to what it takes, normaliser and frames included."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete, Space
from torch import Tensor, nn

from .cores import Memory
from .heads import BinaryHead
from .normalize import RunningNorm
from .policy import Policy

if TYPE_CHECKING:
    from .qnet import QPolicy

OPSET = 18
TOLERANCE = 1e-4
"""two choices closer than this are as good as each other; a graph that is farther from its network is no copy of it"""
BATCHES = (1, 3, 64)
"""sizes of the batches that a graph is compared on"""


class Port(NamedTuple):
    """An input or output of the graph."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]  # "batch" stands for any number


class Decision(nn.Module):
    """The whole decision without exploration, and what it rests on.

    Inputs: `observation` [B, …]. Of k stacked observations this is the newest alone, [B, …, C]; then there are also
    `memory` [B, …, C·(k − 1)], those before it, oldest first, and `start` [B] bool, true where an episode begins: there
    the memory is not looked at, and the first observation stands in for those before it. A policy with a core takes
    what it remembers, `core_memory` [B, M], behind these.

    Outputs: `action` as the environment takes it; where it is one of several, what each of them is worth, `logits`
    [B, K] or [B, A, K] (of switches [B, A]) or `q` [B, K]; where there is a memory, `next_memory`, and
    `next_core_memory`.

    Args:
        policy: on the CPU.
        frame_stack: k.
        action_space: the environment's own, where the policy's is that flattened and counted from 0; None = the same.

    Raises:
        ValueError: the observations are not so many.
    """

    def __init__(self, policy: Policy | QPolicy, frame_stack: int = 1, action_space: Space | None = None) -> None:
        super().__init__()
        if policy.obs_shape[-1] % frame_stack:
            raise ValueError(f"observations {list(policy.obs_shape)} are no {frame_stack} in one")
        self.policy, self.frame_stack, self.action_space = policy.eval(), frame_stack, action_space
        self.newest = policy.obs_shape[-1] // frame_stack

    @property
    def remembers(self) -> bool:
        """Whether the policy has a core."""
        return self.policy.remembers

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names, in the order of forward's arguments."""
        stack, core = self.frame_stack > 1, self.remembers
        return ("observation", *["memory"] * stack, *["start"] * (stack or core), *["core_memory"] * core)

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        """Outputs, of the inputs in their order."""
        named = dict(zip(self.inputs, given, strict=True))
        stack, start = named["observation"], named.get("start")
        after: tuple[Tensor, ...] = ()
        if "memory" in named:
            assert start is not None
            first = torch.cat([stack] * (self.frame_stack - 1), -1)
            begins = start.view(-1, *[1] * (stack.ndim - 1))
            stack = torch.cat((torch.where(begins, first, named["memory"]), stack), -1)
            after = (stack[..., self.newest :],)
        core = None if start is None or "core_memory" not in named else Memory(named["core_memory"], start)
        *decided, kept = self.decide(stack, core)
        return (*decided, *after) if core is None else (*decided, *after, kept)

    def decide(self, obs: Tensor, memory: Memory | None = None) -> tuple[Tensor, ...]:
        """Actions, the scores that they were chosen by if they were, and what is remembered ([B, 0] without a core),
        from whole observations [B, …]."""
        policy = self.policy
        normed = policy.obs_norm(obs)
        memory = memory or Memory(torch.zeros(len(obs), 0), torch.zeros(len(obs), dtype=torch.bool))
        if isinstance(policy, Policy):
            pi, _, kept = policy.step(normed, memory)
            action, scores = policy.head.to_env(pi.mode()), getattr(pi, "logits", None)
        else:
            scores, kept = policy.q_with(normed, memory)
            action = scores.argmax(-1) + policy.start
        if self.action_space is not None:
            action = unflattened(action, self.action_space)
        return (action, kept) if scores is None else (action, scores, kept)

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
            seen = norm.invert(2 * torch.randn(shape, generator=generator))
        else:
            seen = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        start = torch.rand(count, generator=generator) < 0.25
        stack = (seen[..., : -self.newest],) if self.frame_stack > 1 else ()
        if not self.remembers:
            return (seen[..., -self.newest :], *stack, start) if stack else (seen,)
        kept = self._remembered(count, generator)
        return seen[..., -self.newest :], *stack, start, kept

    @torch.no_grad()
    def _remembered(self, count: int, generator: torch.Generator) -> Tensor:
        """[B, M] after a few random steps."""
        memory = self.policy.core.start(count, "cpu")
        for _ in range(3):
            normed = torch.randn(count, *self.policy.obs_shape, generator=generator)
            if len(self.policy.obs_shape) == 3:
                normed = torch.randint(0, 256, normed.shape, generator=generator, dtype=torch.uint8)
            step = self.policy.step if isinstance(self.policy, Policy) else self.policy.q_with
            memory = Memory(step(normed, memory)[-1], torch.zeros(count, dtype=torch.bool))
        return memory.kept

    @torch.no_grad()
    def ports(self) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """Inputs and outputs."""
        given = self.example(2, torch.Generator().manual_seed(0))
        found = self(*given)
        after = tuple(f"next_{name}" for name in self.inputs if name.endswith("memory"))
        scores = ("logits" if isinstance(self.policy, Policy) else "q",) * (len(found) - len(after) - 1)
        inputs = tuple(map(_port, self.inputs, given))
        return inputs, tuple(map(_port, ("action", *scores, *after), found))


def _port(name: str, tensor: Tensor) -> Port:
    return Port(name, str(tensor.dtype).removeprefix("torch."), ("batch", *tensor.shape[1:]))


def unflattened(action: Tensor, space: Space) -> Tensor:
    """Actions of a space, of actions [B] or [B, A] that are flat and counted from 0."""
    dtype = torch.from_numpy(np.zeros(0, space.dtype)).dtype
    action = action.reshape(-1, *(space.shape or ()))
    if isinstance(space, Box):
        wide = dtype if dtype.is_floating_point else torch.float64
        action = (action if dtype.is_floating_point else action.round()).to(wide)
        # float32 rounds some edges of float64 outwards
        return action.clamp(*(torch.as_tensor(edge).to(wide) for edge in (space.low, space.high))).to(dtype)
    if isinstance(space, Discrete | MultiDiscrete):
        action = action + torch.as_tensor(space.start)
    return action.to(dtype)


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
