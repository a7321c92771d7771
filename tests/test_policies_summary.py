"""The table of a policy's layers that is printed before it is trained."""

from __future__ import annotations

import pytest
import torch

from drivetrain.agents.agent import DQN, PPO
from drivetrain.policies.summary import describe_policy

FEW = {"num_envs": 4, "num_steps": 8, "num_minibatches": 2, "device": "cpu"}


def table(text: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in text.splitlines()}


def test_an_actor_and_its_critic_are_both_in_the_table() -> None:
    policy = PPO("CartPole-v1", hidden=(8,), shared_trunk=False, **FEW).policy
    rows = table(describe_policy(policy))
    # 4 numbers to 8 units: 8 x 4 weights and 8 biases; two operations a weight
    assert rows["actor.layers.0"] == ["Linear", "8", "40", "64"]
    assert rows["critic.layers.0"] == ["Linear", "8", "40", "64"]
    assert rows["head.logits"] == ["Linear", "2", "18", "32"]
    assert rows["value_head.value"] == ["Linear", "1", "9", "16"]
    assert rows["all"] == ["Policy", "107", "176"]


def test_memory_and_pictures_are_in_the_table() -> None:
    rows = table(describe_policy(PPO("CartPole-v1", hidden=(8,), core="gru", core_size=4, **FEW).policy))
    # three gates of 4 units, each of 8 features and 4 remembered numbers, with two biases: 12 x (8 + 4 + 2)
    assert rows["core.cell"] == ["GRUCell", "4", "168", "288"]
    rows = table(describe_policy(PPO("racing", obs="pixels", **FEW).policy))
    assert rows["actor.layers.0"][0] == "Conv2d"


@pytest.mark.parametrize("noisy", [False, True])
def test_the_table_of_a_q_network_counts_every_parameter(noisy: bool) -> None:
    policy = DQN("CartPole-v1", hidden=(8,), noisy=noisy, device="cpu").policy
    before = torch.random.get_rng_state()
    rows = table(describe_policy(policy))
    assert rows["all"][:2] == ["QPolicy", f"{sum(p.numel() for p in policy.parameters()):,}"]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("core", ["none", "gru", "lstm", "transformer"])
def test_the_rows_of_a_table_add_up(core: str) -> None:
    text = describe_policy(PPO("racing", hidden=(8,), core=core, core_size=8, shared_trunk=True, **FEW).policy)
    *rows, total = [line.replace(",", "").split() for line in text.splitlines()[1:]]
    assert total[0] == "all"
    assert sum(int(row[-2]) for row in rows) == int(total[-2])
    assert ["head.log_std", "Parameter", "2", "2", "0"] in rows
