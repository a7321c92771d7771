"""What a learner takes over from a run: everything that acts, and of what judges as much as fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from drivetrain.agents.build import build
from drivetrain.agents.carry import LOGIT_VALUE, carry_encoder, carry_over
from drivetrain.agents.config import PPOConfig
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.presets import differing, inherited
from drivetrain.envs.errors import UserError
from drivetrain.policies.normalize import RunningNorm

SEES, DOES, CHOOSES = Box(-1, 1, (5,), np.float32), Box(-1, 1, (2,), np.float32), Discrete(4)
OBS = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))


def policy(seed: int, actions: Any = DOES, algo: str = "ppo", **settings: Any) -> Any:
    """With every weight and statistic its own."""
    model = DQNConfig if algo == "dqn" else PPOConfig
    cfg = model(**{"hidden": (8, 8), "activation": "tanh"} | settings)
    made = build(algo, cfg, (SEES, actions), torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.normal_(generator=generator)
    for norm in (made.obs_norm, getattr(made, "return_norm", None)):
        if isinstance(norm, RunningNorm):
            norm.update(torch.randn(30, len(norm.mean), generator=generator) * 3 + 1)
    return made


def value(made: Any) -> Tensor:
    """Of OBS, in points."""
    with torch.no_grad():
        return made.return_norm.invert(made.value(made.obs_norm(OBS))[:, None])[:, 0]


@pytest.mark.parametrize("settings", [{}, {"shared_trunk": True}, {"core": "gru", "core_size": 8}])
def test_a_network_of_the_same_shape_is_the_same_afterwards(settings: dict[str, Any]) -> None:
    old, new = policy(1, **settings), policy(2, **settings)
    assert carry_over(new, old.state_dict(), "a") == ()
    assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in old.state_dict().items())


def test_a_critic_that_was_not_there_begins_as_a_copy_and_values_stay_what_they_were() -> None:
    old, new = policy(1, shared_trunk=True), policy(2)
    assert carry_over(new, old.state_dict(), "a") == ()
    assert torch.equal(old.act(OBS), new.act(OBS))
    assert torch.equal(value(old), value(new))


def test_values_that_were_read_off_another_network_are_learned_anew() -> None:
    old, new = policy(1), policy(2, shared_trunk=True)
    head = new.value_head.value.weight.clone()
    (note,) = carry_over(new, old.state_dict(), "runs/a")
    assert "the value is learned anew" in note and "runs/a" in note
    assert torch.equal(old.act(OBS), new.act(OBS))
    assert torch.equal(head, new.value_head.value.weight)


def test_action_values_begin_as_small_logits_of_a_policy_that_chooses() -> None:
    for shared in (True, False):
        old, new = policy(1, CHOOSES, shared_trunk=shared), policy(2, CHOOSES, "dqn")
        assert carry_over(new, old.state_dict(), "a") == ()
        assert torch.equal(old.act(OBS), new.act(OBS))
        logits = old.pi(old.obs_norm(OBS)).logits.detach()
        values = new.q(new.obs_norm(OBS)).detach() / LOGIT_VALUE
        torch.testing.assert_close(values.log_softmax(-1), logits, rtol=1e-4, atol=1e-4)
    again = policy(3, CHOOSES, "dqn")
    carry_over(again, new.state_dict(), "b")
    assert torch.equal(again.act(OBS), new.act(OBS))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (policy(1, hidden=(16, 8)), policy(2), ["actor.layers.0.weight 16x5", "allowed 8x5"]),
        (policy(1, hidden=(8,)), policy(2), ["absent", "allowed 8x8"]),
        (policy(1, hidden=(8, 8, 8)), policy(2), ["8x8", "allowed absent"]),
        (policy(1, CHOOSES), policy(2), ["head.", "absent"]),
        (policy(1, CHOOSES, "dqn"), policy(2, CHOOSES), ["absent"]),
        (policy(1, CHOOSES), policy(2, CHOOSES, "dqn", dueling=True), ["net."]),
        (policy(1, DOES), policy(2, CHOOSES, "dqn"), ["net.advantage", "absent"]),
        (policy(1, norm_obs=True), policy(2, norm_obs=False), ["obs_norm.", "allowed absent"]),
    ],
)
def test_another_shape_is_one_line_and_nothing_is_changed(old: Any, new: Any, words: list[str]) -> None:
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(UserError, match="the network of runs/a has another shape; got") as error:
        carry_over(new, old.state_dict(), "runs/a")
    assert "\n" not in str(error.value)
    for word in [*words, "leave out"]:
        assert word in str(error.value)
    assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in before.items())


def test_settings_that_make_another_network_are_named_with_both_values() -> None:
    run = {"algo": "ppo", "env": "CartPole-v1", "hidden": [64, 64], "activation": "tanh", "frame_stack": 1}
    asked = {"hidden": (32,), "activation": "tanh", "frame_stack": 2, "learning_rate": 1.0}
    assert differing("ppo", "CartPole-v1", asked, run) == "hidden [32] (there [64, 64]), frame_stack 2 (there 1)"
    assert differing("ppo", "CartPole-v1", asked, run | {"hidden": [32], "frame_stack": 2}) == ""


def test_task_and_network_follow_the_run_and_settings_of_learning_do_not() -> None:
    clone = {"algo": "imitate", "env": "racing", "hidden": [16], "obs": "lidar", "frame_skip": 3, "learning_rate": 1.0}
    assert inherited("ppo", "CarRacing-v3", clone) == {"hidden": [16], "obs": "lidar", "frame_skip": 3}
    assert inherited("ppo", "CartPole-v1", clone) == {"hidden": [16]}
    q = clone | {"algo": "dqn", "dueling": True, "reward_scale": 0.5}
    assert inherited("dqn", "racing", q).items() >= {"dueling": True, "reward_scale": 0.5}.items()
    plain = {"dueling": False, "quantiles": 0, "noisy": False}  # logits are the values of a plain network
    assert inherited("dqn", "racing", clone).items() >= plain.items()
    seen = {"hidden": [16], "obs": "lidar", "frame_skip": 3}
    heads = {"core": "gru", "log_std_min": -1.0, "shared_trunk": True, "actions": "pedals"}
    assert inherited("ppo", "racing", clone | heads, encoder_alone=True) == seen
    assert inherited("dqn", "racing", clone | heads, encoder_alone=True) == seen | {"dueling": False}
    # dueling streams take the last of the hidden layers away from the encoder
    split = clone | {"algo": "dqn", "dueling": True, "hidden": [16, 8]}
    assert inherited("dqn", "racing", split, encoder_alone=True)["dueling"] is True
    assert inherited("ppo", "racing", split, encoder_alone=True)["hidden"] == [16]
    gym = {"algo": "ppo", "env": "CartPole-v1", "env_args": {"a": 1}, "frame_stack": 2, "norm_reward": True}
    assert inherited("ppo", "CartPole-v1", gym) == {"env_args": {"a": 1}, "frame_stack": 2}


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
@pytest.mark.parametrize("settings", [{}, {"shared_trunk": True}])
def test_an_encoder_alone_comes_with_its_normaliser_and_fresh_heads_stay(algo: str, settings: dict[str, Any]) -> None:
    old, new = policy(1, **settings), policy(2, CHOOSES, algo, **(settings if algo == "ppo" else {}))
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    carry_encoder(new, old.state_dict(), "a")
    encoders = [new.net.encoder] if algo == "dqn" else [new.actor] + [new.critic] * (new.critic is not None)
    normed = new.obs_norm(OBS)
    assert torch.equal(normed, old.obs_norm(OBS))
    assert all(torch.equal(encoder(normed), old.actor(normed)) for encoder in encoders)
    taken = ("actor.", "critic.", "net.encoder.", "obs_norm.")
    kept = [name for name in before if not name.startswith(taken)]
    assert kept and all(torch.equal(before[name], new.state_dict()[name]) for name in kept)


def test_an_encoder_of_another_shape_is_refused_and_nothing_is_changed() -> None:
    old, new = policy(1, hidden=(8, 8, 8)), policy(2, CHOOSES)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(UserError, match=r"encoder\.layers\.4\.weight 8x8; allowed absent"):
        carry_encoder(new, old.state_dict(), "runs/a")
    assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in before.items())
