"""Cores remember what they should and no more: steps equal sequences, and no episode sees another."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from drivetrain.policies.config import PolicyConfig
from drivetrain.policies.cores import Core, Transformer, first_nearness, lookback, make_core

KINDS = ("none", "gru", "lstm", "transformer")
T, B, F = 13, 3, 5
SMALL = PolicyConfig(core_size=8, core_layers=2, core_heads=2, core_context=4)


def core_of(kind: str) -> Core:
    core = make_core(kind, F, SMALL)
    generator = torch.Generator().manual_seed(0)
    core.initialise(generator)
    with torch.no_grad():  # what begins at 0 would hide mistakes
        for parameter in core.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return core.double()


def sequence() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    first = torch.rand(T, B, generator=generator) < 0.2
    first[0, 0], first[0, 1] = True, False
    return torch.randn(T, B, F, generator=generator, dtype=torch.float64), first


def memory_of(core: Core, steps: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(steps, B, F, generator=generator, dtype=torch.float64)
    return core(x, core.start(B, "cpu").kept.double(), torch.zeros(steps, B, dtype=torch.bool))[1].detach()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cuts", [(1,) * T, (5, 8), (2, 1, 10), (12, 1)])
def test_a_sequence_gives_what_its_parts_give_one_after_the_other(kind: str, cuts: tuple[int, ...]) -> None:
    core, (x, first) = core_of(kind), sequence()
    memory = memory_of(core)
    whole, last = core(x, memory, first)
    parts = []
    for part, begins in zip(x.split(cuts), first.split(cuts), strict=True):
        y, memory = core(part, memory, begins)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-12)
    assert memory.shape == (B, core.memory_size)
    # of a transformer's memory only what belongs to the episode counts
    probe = torch.ones(1, B, F, dtype=torch.float64), torch.zeros(1, B, dtype=torch.bool)
    torch.testing.assert_close(
        core(probe[0], memory, probe[1])[0], core(probe[0], last, probe[1])[0], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_knows_nothing_of_the_one_before(kind: str) -> None:
    core, (x, _) = core_of(kind), sequence()
    first = torch.zeros(T, B, dtype=torch.bool)
    first[7] = True
    y, _ = core(x, memory_of(core), first)
    alone, _ = core(x[7:], core.start(B, "cpu").kept.double(), first[7:] & False)
    torch.testing.assert_close(y[7:], alone, rtol=0, atol=1e-12)
    other = x.clone()
    other[:7] += 1.0
    torch.testing.assert_close(core(other, memory_of(core), first)[0][7:], y[7:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_within_an_episode_the_past_matters_and_the_future_does_not(kind: str) -> None:
    core, (x, _) = core_of(kind), sequence()
    first = torch.zeros(T, B, dtype=torch.bool)
    start = core.start(B, "cpu").kept.double()
    y, _ = core(x, start, first)
    other = x.clone()
    other[5] += 1.0
    changed = (core(other, start, first)[0] - y).abs().amax((1, 2))
    assert torch.equal(changed > 1e-9, torch.arange(T) >= 5) or kind == "transformer"
    assert not changed[:5].any()
    assert bool(changed[6] > 1e-6)
    if kind == "transformer":  # two layers of 4 steps each hand it on over 8 steps, and no further
        assert torch.equal(changed > 1e-9, (torch.arange(T) >= 5) & (torch.arange(T) <= 5 + 8))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_lanes_do_not_know_each_other(kind: str) -> None:
    core, (x, first) = core_of(kind), sequence()
    y, memory = core(x, memory_of(core), first)
    alone, kept = core(x[:, 1:2], memory_of(core)[1:2], first[:, 1:2])
    torch.testing.assert_close(alone, y[:, 1:2], rtol=0, atol=1e-12)
    torch.testing.assert_close(kept, memory[1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_gradients_reach_every_weight_and_flow_back_to_the_beginning_of_the_episode_only(kind: str) -> None:
    core, (x, _) = core_of(kind), sequence()
    first = torch.zeros(T, B, dtype=torch.bool)
    first[9] = True
    x.requires_grad_()
    y, _ = core(x, memory_of(core), first)
    y[11].sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().amax((1, 2)) > 0
    assert torch.equal(reached, (torch.arange(T) >= 9) & (torch.arange(T) <= 11))
    # the bias of keys shifts all scores of a query alike, and cancels
    unused = [name for name, p in core.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unused


def test_what_steps_see_by_hand() -> None:
    # C = 2, T = 3: memory at places -2 and -1, of which lane 0 has one step; it begins an episode at step 2
    visible, distance = lookback(torch.tensor([1.0]), torch.tensor([[False], [False], [True]]), 2)
    assert distance.tolist() == [[2, 1, 0, -1, -2], [3, 2, 1, 0, -1], [4, 3, 2, 1, 0]]
    assert visible[0].tolist() == [
        [False, True, True, False, False],
        [False, True, True, True, False],
        [False, False, False, False, True],
    ]


def test_attention_equals_the_sum_over_steps_written_out() -> None:
    config = PolicyConfig(core_size=4, core_layers=1, core_heads=2, core_context=3)
    core = make_core("transformer", F, config).double()
    core.initialise(torch.Generator().manual_seed(3))
    assert isinstance(core, Transformer)
    block = core.blocks[0]
    with torch.no_grad():
        for parameter in block.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)).double()
    x = torch.randn(6, 1, F, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    y, _ = core(x, core.start(1, "cpu").kept.double(), torch.zeros(6, 1, dtype=torch.bool))
    z = core.enter(x[:, 0])
    n = block.norm(z)
    q, (k, v) = block.query(n), block.key_value(n).chunk(2, -1)
    out = []
    for t in range(6):
        heads = []
        for head, near in enumerate(block.nearness.view(2, 4)):
            part = slice(2 * head, 2 * head + 2)
            places = range(max(0, t - 3), t + 1)
            weight = torch.stack([(q[t, part] @ k[j, part]) / math.sqrt(2) + near[t - j] for j in places]).softmax(0)
            heads.append(sum(w * v[j, part] for w, j in zip(weight, places, strict=True)))
        a = z[t] + block.mix(torch.cat(heads))
        out.append(core.leave(a + block.down(torch.nn.functional.gelu(block.up(block.norm_wide(a))))))
    torch.testing.assert_close(y[:, 0], torch.stack(out), rtol=0, atol=1e-12)


def test_nearness_by_hand() -> None:
    # of 4 heads: 2², 2⁰, 2⁻², 2⁻⁴ nats a step
    assert first_nearness(4, 3).tolist() == [[0, -4, -8], [0, -1, -2], [0, -0.25, -0.5], [0, -0.0625, -0.125]]


def test_a_transformer_begins_without_memory() -> None:
    core = make_core("transformer", F, SMALL)
    core.initialise(torch.Generator().manual_seed(0))
    x, first = torch.randn(T, B, F), torch.zeros(T, B, dtype=torch.bool)
    y, _ = core(x, core.start(B, "cpu").kept, first)
    torch.testing.assert_close(y, core.leave(core.enter(x)))


def test_heads_must_divide_the_size() -> None:
    with pytest.raises(ValueError, match="core_heads=3 must divide core_size=64"):
        PolicyConfig(core="transformer", core_heads=3)
