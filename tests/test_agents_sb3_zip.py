"""Zips that `PPO.load` and `DQN.load` open, with and without drivetrain."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete, MultiBinary, MultiDiscrete
from stable_baselines3 import DQN, PPO

from drivetrain.agents.config import PPOConfig
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.sb3_zip import export_sb3
from drivetrain.envs.errors import UserError
from drivetrain.policies.build import build_policy
from drivetrain.policies.qnet import build_q_policy

NUMBERS = Box(-np.inf, np.inf, (5,), np.float32)
PICTURES = Box(0, 255, (40, 48, 2), np.uint8)
BOX = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 5.0], np.float32))
ACTORS = {
    "squashed": (NUMBERS, BOX, {}),
    "gaussian": (NUMBERS, BOX, {"head": "gaussian", "activation": "relu", "hidden": (16, 8, 4)}),
    "one trunk": (NUMBERS, Discrete(4), {"shared_trunk": True, "activation": "elu"}),
    "multi": (NUMBERS, MultiDiscrete([2, 4, 3]), {"activation": "silu"}),
    "binary": (NUMBERS, MultiBinary(3), {"activation": "gelu"}),
    "no hidden layer": (NUMBERS, Discrete(3), {"hidden": ()}),
    "pictures": (PICTURES, Discrete(3), {"encoder": "cnn", "activation": "relu", "hidden": (32, 16)}),
    "few channels": (
        PICTURES,
        BOX,
        {"encoder": "cnn", "activation": "relu", "hidden": (24,), "channels": (8, 16, 12), "shared_trunk": True},
    ),
}
CRITICS = {
    "plain": (NUMBERS, {}),
    "no normaliser": (NUMBERS, {"norm_obs": False}),
    "dueling": (NUMBERS, {"dueling": True, "hidden": (16, 8)}),
    "dueling without hidden layers": (NUMBERS, {"dueling": True, "hidden": ()}),
    "quantiles": (NUMBERS, {"quantiles": 7, "dueling": True, "reward_scale": 0.1}),
    "noisy": (NUMBERS, {"noisy": True, "reward_scale": 4.0}),
    "pictures": (PICTURES, {"encoder": "cnn", "hidden": (32,), "dueling": True, "channels": (8, 8, 8)}),
}


def stir(policy, seed=0):
    """Weights and statistics as a training might leave them."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=rng)
        for norm in (policy.obs_norm, getattr(policy, "return_norm", None)):
            if hasattr(norm, "mean"):
                norm.update(7 + 3 * torch.randn(500, len(norm.mean), generator=rng))
    return policy.eval()


def actor(case):
    observations, actions, settings = ACTORS[case]
    config = PPOConfig(**{"hidden": (16, 16), "num_envs": 4} | settings)
    policy = build_policy(observations, actions, config, torch.Generator().manual_seed(1))
    return stir(policy), config, (observations, actions)


def critic(case):
    observations, settings = CRITICS[case]
    config = DQNConfig(**{"hidden": (16, 16), "num_envs": 4} | settings)
    policy = build_q_policy(observations, Discrete(5), config, torch.Generator().manual_seed(1))
    return stir(policy), config, (observations, Discrete(5))


def write(folder, policy, config, spaces, plain=False):
    """The file of an export, and what else it gave."""
    made = export_sb3(policy, config, spaces, plain)
    (folder / "out.zip").write_bytes(made.content)
    return folder / "out.zip", made


def seen(space, count=200):
    rng = np.random.default_rng(2)
    if len(space.shape) == 3:
        return rng.integers(0, 256, (count, *space.shape), dtype=np.uint8)
    return rng.normal(7, 5, (count, *space.shape)).astype(np.float32)


def channels_first(obs):
    return torch.as_tensor(np.moveaxis(obs, -1, 1) if obs.ndim == 4 else obs)


@pytest.mark.conformance
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", ACTORS)
def test_ppo_loads_the_zip_and_decides_and_judges_as_our_policy(case, plain, tmp_path):
    policy, config, spaces = actor(case)
    file, made = write(tmp_path, policy, config, spaces, plain)
    model = PPO.load(file, device="cpu")
    obs = seen(spaces[0])
    here, (there, _) = policy.act(torch.as_tensor(obs)).numpy(), model.predict(obs, deterministic=True)
    assert here.shape == there.shape
    np.testing.assert_allclose(here, there, atol=1e-4)
    assert made.max_abs_error < 1e-4
    if case != "binary":
        assert len(np.unique(here, axis=0)) > 1, "a policy that always does the same proves nothing"
    with torch.no_grad():
        value = policy.return_norm.invert(policy.value(policy.obs_norm(torch.as_tensor(obs)))[:, None])
        judged = model.policy.predict_values(channels_first(obs))
    np.testing.assert_allclose(judged.numpy(), value.numpy(), rtol=1e-4, atol=1e-3)
    assert any("gSDE" in note for note in made.notes) == (plain and isinstance(spaces[1], Box) and case != "gaussian")
    assert any("clipped" in note for note in made.notes) == (plain and spaces[0] is NUMBERS)


@pytest.mark.conformance
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", CRITICS)
def test_dqn_loads_the_zip_and_its_values_are_ours_in_points(case, plain, tmp_path):
    policy, config, spaces = critic(case)
    model = DQN.load(write(tmp_path, policy, config, spaces, plain)[0], device="cpu")
    obs = seen(spaces[0])
    here, (there, _) = policy.act(torch.as_tensor(obs)).numpy(), model.predict(obs, deterministic=True)
    assert (here == there).mean() > 0.99
    assert len(set(here.tolist())) > 1
    points = policy.q_values(torch.as_tensor(obs)).numpy()
    with torch.no_grad():
        np.testing.assert_allclose(model.q_net(channels_first(obs)).numpy(), points, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(model.q_net_target(channels_first(obs)).numpy(), points, rtol=1e-4, atol=1e-3)


@pytest.mark.conformance
@pytest.mark.parametrize("case", ["gaussian", "multi"])
def test_exploration_of_a_plain_zip_is_ours_where_its_distribution_is(case, tmp_path):
    policy, config, spaces = actor(case)
    theirs = PPO.load(write(tmp_path, policy, config, spaces, True)[0], device="cpu").policy
    obs = torch.as_tensor(seen(spaces[0]))
    with torch.no_grad():
        pi = policy.pi(policy.obs_norm(obs))
        raw = pi.sample(torch.Generator().manual_seed(0))
        _, log_prob, entropy = theirs.evaluate_actions(obs, raw)
    np.testing.assert_allclose(log_prob.numpy(), pi.log_prob(raw).numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(entropy.numpy(), pi.entropy().numpy(), rtol=1e-4, atol=1e-4)


WITHOUT_US = """
import sys
sys.modules["drivetrain"] = None  # importing it fails
import numpy as np
from stable_baselines3 import PPO
plain, ours = sys.argv[1:]
print(PPO.load(plain, device="cpu").predict(np.zeros(5, np.float32), deterministic=True)[0].tolist())
try:
    PPO.load(ours, device="cpu")
except ImportError:
    print("not without drivetrain")
"""


def test_a_plain_zip_opens_where_drivetrain_is_not_installed_and_another_does_not(tmp_path):
    policy, config, spaces = actor("squashed")
    files = [str(tmp_path / name) for name in ("plain.zip", "ours.zip")]
    for file, plain in zip(files, (True, False), strict=True):
        Path(file).write_bytes(export_sb3(policy, config, spaces, plain).content)
    done = subprocess.run([sys.executable, "-c", WITHOUT_US, *files], capture_output=True, text=True, check=False)
    action, refused = done.stdout.splitlines()
    action = np.array(action.strip("[]").split(","), np.float32)
    np.testing.assert_allclose(action, policy.act(torch.zeros(1, 5))[0].numpy(), atol=1e-5)
    assert refused == "not without drivetrain"


def test_a_loaded_zip_goes_on_learning_with_the_settings_of_the_run(tmp_path):
    import gymnasium

    observations, actions = gymnasium.make("CartPole-v1").observation_space, Discrete(2)
    config = PPOConfig(num_envs=4, num_steps=16, gamma=0.9, clip_coef=0.3, vf_coef=0.5)
    policy = build_policy(observations, actions, config, torch.Generator().manual_seed(0))
    for plain in (True, False):
        file, _ = write(tmp_path, policy, config, (observations, actions), plain)
        model = PPO.load(file, env=gymnasium.make("CartPole-v1"), device="cpu")
        assert (model.gamma, model.n_steps, model.clip_range(1.0), model.vf_coef) == (0.9, 16, 0.3, 0.25)
        model.learn(32)
        assert model.num_timesteps == 32


@pytest.mark.parametrize(
    ("settings", "space", "why"),
    [
        ({"head": "beta"}, BOX, "BetaHead"),
        ({"head": "levels"}, BOX, "LevelsHead"),
        ({"layer_norm": True}, BOX, "layer normalisation"),
        ({}, Discrete(3, start=1), "counts actions from 0"),
        ({}, MultiDiscrete([2, 2], start=[0, 1]), "counts actions from 0"),
        ({"encoder": "resnet", "channels": (4,)}, BOX, "resnet"),
        ({"encoder": "cnn", "activation": "tanh"}, BOX, "Tanh"),
        ({"encoder": "cnn", "activation": "relu", "channels": (64, 64, 64)}, BOX, "channels"),
        ({"encoder": "cnn", "activation": "relu", "hidden": ()}, BOX, "fully connected"),
    ],
    ids=str,
)
def test_a_network_that_its_policies_cannot_express_is_refused_with_the_reason(settings, space, why):
    config = PPOConfig(**settings)
    observations = NUMBERS if config.encoder == "mlp" else PICTURES
    policy = build_policy(observations, space, config, torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match=why) as refused:
        export_sb3(policy, config, (observations, space), plain=True)
    assert refused.value.code == 2


def test_the_policy_that_was_exported_stays_as_it_was():
    policy, config, spaces = actor("squashed")
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    for plain in (True, False):
        export_sb3(policy, config, spaces, plain)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
