"""Weights out of zips of Stable-Baselines3, and nothing else."""

import base64
import io
import json
import os
import pickle
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

from drivetrain.agents.config import PPOConfig
from drivetrain.agents.dqn_config import DQNConfig
from drivetrain.agents.sb3_import import begin_from_sb3
from drivetrain.agents.sb3_zip import blank_dqn, blank_ppo, export_sb3
from drivetrain.envs.errors import UserError
from drivetrain.policies.build import build_policy
from drivetrain.policies.qnet import build_q_policy

NUMBERS, PICTURES = Box(-60, 60, (5,), np.float32), Box(0, 255, (48, 40, 2), np.uint8)
BOX, CHOICES = Box(-1, 1, (2,), np.float32), Discrete(3)


def fresh(spaces, config):
    build = build_q_policy if isinstance(config, DQNConfig) else build_policy
    return build(*spaces, config, torch.Generator().manual_seed(9))


@pytest.fixture(autouse=True)
def first_weights():
    """Stable-Baselines3 draws them from the global generator."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        yield


def stirred(model):
    """A model of theirs whose last layers are not at rest."""
    rng = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter += torch.randn(parameter.shape, generator=rng) / max(4, parameter[0].numel() ** 0.5)
    if isinstance(model, DQN):
        model.q_net_target.load_state_dict(model.q_net.state_dict())
    return model


def seen(space, count=100):
    rng = np.random.default_rng(2)
    if len(space.shape) == 3:
        return rng.integers(0, 256, (count, *space.shape), dtype=np.uint8)
    return rng.normal(0, 15, (count, *space.shape)).astype(np.float32)  # nothing may be clipped at 10


def save(model, folder):
    model.save(folder / "theirs.zip")
    return folder / "theirs.zip"


CNN = {"features_extractor_kwargs": {"features_dim": 32}}
CNN_OURS = {"encoder": "cnn", "hidden": (32,), "activation": "relu"}
CASES = {
    # spaces, its policy and further arguments, our settings
    "gaussian": ((NUMBERS, BOX), {}, {"head": "gaussian"}),
    "gsde": ((NUMBERS, BOX), {"squash_output": True, "log_std_init": -2.0}, {}),
    "relu": ((NUMBERS, CHOICES), {"activation_fn": torch.nn.ReLU}, {"activation": "relu"}),
    "layers": ((NUMBERS, CHOICES), {"net_arch": [16, 8, 8]}, {"hidden": (16, 8, 8)}),
    "linear": ((NUMBERS, CHOICES), {"net_arch": []}, {"hidden": (), "activation": "elu"}),
    "pictures": ((PICTURES, BOX), CNN, CNN_OURS | {"shared_trunk": True, "head": "gaussian"}),
    "two trunks": ((PICTURES, BOX), CNN | {"share_features_extractor": False}, CNN_OURS | {"head": "gaussian"}),
}


@pytest.mark.conformance
@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_our_policy_decides_and_judges_as_the_ppo_it_began_from(case, trust, tmp_path):
    spaces, kwargs, settings = CASES[case]
    name = "CnnPolicy" if spaces[0] is PICTURES else "MlpPolicy"
    arguments = {"n_steps": 2, "policy_kwargs": kwargs, "use_sde": case == "gsde"}
    model = stirred(blank_ppo(name, spaces, arguments))
    config = PPOConfig(**settings)
    policy = fresh(spaces, config)
    notes = begin_from_sb3(policy, config, save(model, tmp_path), trust)
    obs = seen(spaces[0])
    here = policy.act(torch.as_tensor(obs)).numpy()
    there, _ = model.predict(obs, deterministic=True)
    np.testing.assert_allclose(here, there, atol=1e-5)
    assert len(np.unique(here, axis=0)) > 1
    theirs = torch.as_tensor(np.moveaxis(obs, -1, 1) if obs.ndim == 4 else obs)
    with torch.no_grad():
        value = policy.return_norm.invert(policy.value(policy.obs_norm(torch.as_tensor(obs)))[:, None])
        np.testing.assert_allclose(value.numpy(), model.policy.predict_values(theirs).numpy(), rtol=1e-4, atol=1e-4)
    assert bool(notes) == (case == "gsde")


@pytest.mark.conformance
@pytest.mark.parametrize("case", ["numbers", "scaled", "pictures"])
def test_our_values_are_those_of_the_dqn_they_began_from(case, tmp_path):
    pictures = case == "pictures"
    spaces = (PICTURES if pictures else NUMBERS), CHOICES
    model = blank_dqn("CnnPolicy" if pictures else "MlpPolicy", spaces, {"policy_kwargs": CNN if pictures else {}})
    config = DQNConfig(**({"reward_scale": 0.1} if case == "scaled" else {}) | (CNN_OURS if pictures else {}))
    policy = fresh(spaces, config)
    begin_from_sb3(policy, config, save(stirred(model), tmp_path))
    obs = seen(spaces[0])
    theirs = torch.as_tensor(np.moveaxis(obs, -1, 1) if pictures else obs)
    with torch.no_grad():
        np.testing.assert_allclose(
            policy.q_values(torch.as_tensor(obs)).numpy(), model.q_net(theirs).numpy(), atol=1e-4
        )


@pytest.mark.conformance
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_what_we_exported_comes_back(algo, plain, tmp_path):
    config = PPOConfig(hidden=(16,)) if algo == "ppo" else DQNConfig(hidden=(16,), reward_scale=0.5)
    spaces = NUMBERS, BOX if algo == "ppo" else CHOICES
    first = fresh(spaces, config)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4))
    first.obs_norm.update(3 + torch.randn(200, 5, generator=torch.Generator().manual_seed(5)))
    (tmp_path / "ours.zip").write_bytes(export_sb3(first, config, spaces, plain).content)
    again = build_q_policy(*spaces, config, torch.Generator()) if algo == "dqn" else fresh(spaces, config)
    begin_from_sb3(again, config, tmp_path / "ours.zip")
    obs = 3 + 2 * torch.randn(200, 5, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(again.act(obs), first.act(obs), atol=1e-4, rtol=1e-4)
    if algo == "dqn":
        torch.testing.assert_close(again.q_values(obs), first.q_values(obs), atol=1e-4, rtol=1e-4)
    else:
        torch.testing.assert_close(again.head.log_std, first.head.log_std)


def test_its_a2c_is_taken_too_and_learning_goes_on_from_there(tmp_path):
    from drivetrain.agents.ppo import PPOLearner
    from drivetrain.envs.sim import Sim, SimConfig
    from drivetrain.envs.track import pool

    sim = Sim(pool(0, 2), 4, SimConfig(actions="macro", frame_skip=10))
    spaces = sim.single_observation_space, sim.single_action_space
    model = A2C("MlpPolicy", None, device="cpu", _init_setup_model=False)
    model.observation_space, model.action_space, model.n_envs = *spaces, 1
    model._setup_model()
    config = PPOConfig(num_envs=4, num_steps=4)
    learner = PPOLearner(sim, config, torch.Generator().manual_seed(0))
    begin_from_sb3(learner.policy, config, save(model, tmp_path))
    obs = sim.observe()
    before, _ = model.predict(obs.numpy(), deterministic=True)
    assert np.array_equal(learner.policy.act(obs).numpy(), before)
    learner.update_once()
    norm = learner.policy.obs_norm
    assert float(norm.mean.abs().max()) < 0.1, "statistics move slowly, so that the network is not torn away from them"
    torch.testing.assert_close(norm.var, torch.full((43,), 4.0), rtol=0.01, atol=0.0)  # numbers up to 20, clipped at 10


def test_numbers_are_clipped_only_beyond_their_bounds(tmp_path):
    space = Box(np.array([-60, -np.inf, -1], np.float32), np.array([10, np.inf, 30], np.float32))
    path = save(blank_ppo("MlpPolicy", (space, CHOICES), {"n_steps": 2}), tmp_path)
    policy = fresh((space, CHOICES), PPOConfig())
    begin_from_sb3(policy, PPOConfig(), path)
    # clipped at 10 standard deviations: 60/10, 50/10 without bounds, 30/10
    torch.testing.assert_close(policy.obs_norm.var.sqrt(), torch.tensor([6.0, 5.0, 3.0]))


# ---- what is refused -----------------------------------------------------------------------------------------------


class Bomb:
    """Whoever unpickles it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def with_bombs(path, member, bomb):
    """The zip again, with a bomb in one of its members."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if member == "data":
        data = json.loads(contents["data"])
        text = base64.b64encode(pickle.dumps(Bomb(bomb))).decode()
        for name in ("policy_class", "observation_space", "policy_kwargs"):
            data[name] = {**(data[name] if isinstance(data[name], dict) else {}), ":serialized:": text}
        contents["data"] = json.dumps(data).encode()
    else:
        into = io.BytesIO()
        torch.save({"action_net.weight": Bomb(bomb)}, into)
        contents[member] = into.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


@pytest.fixture
def gaussian(tmp_path):
    """A zip of its PPO on continuous actions, our settings that fit, and a policy for it."""
    spaces = NUMBERS, BOX
    config = PPOConfig(head="gaussian")
    return save(blank_ppo("MlpPolicy", spaces, {"n_steps": 2}), tmp_path), config, fresh(spaces, config)


def test_code_hidden_in_the_description_is_not_run(gaussian, tmp_path):
    path, config, policy = gaussian
    with_bombs(path, "data", tmp_path / "bang")
    begin_from_sb3(policy, config, path)
    assert not (tmp_path / "bang").exists()
    with pytest.raises(UserError):
        begin_from_sb3(policy, config, path, trust=True)
    assert (tmp_path / "bang").exists(), "the bomb works, and trust runs it"


def test_code_hidden_in_the_weights_is_refused_unrun(gaussian, tmp_path):
    path, config, policy = gaussian
    with_bombs(path, "policy.pth", tmp_path / "bang")
    with pytest.raises(UserError, match="more than weights"):
        begin_from_sb3(policy, config, path)
    assert not (tmp_path / "bang").exists()


def test_its_optimiser_is_never_opened(gaussian, tmp_path):
    path, config, policy = gaussian
    with_bombs(path, "policy.optimizer.pth", tmp_path / "bang")
    begin_from_sb3(policy, config, path)
    assert not (tmp_path / "bang").exists()


class Reversed(ActorCriticPolicy):
    """Does the opposite of what its weights say."""

    def _predict(self, observation, deterministic=False):
        return -super()._predict(observation, deterministic)


class Renamed(ActorCriticPolicy):
    """Does what its weights say."""


def test_a_class_unknown_here_needs_trust_and_must_do_what_its_weights_say(gaussian, tmp_path):
    _, config, policy = gaussian
    path = save(stirred(blank_ppo(Renamed, (NUMBERS, BOX), {"n_steps": 2})), tmp_path)
    with pytest.raises(UserError, match="--trust"):
        begin_from_sb3(policy, config, path)
    assert begin_from_sb3(policy, config, path, trust=True) == ()
    path = save(stirred(blank_ppo(Reversed, (NUMBERS, BOX), {"n_steps": 2})), tmp_path)
    with pytest.raises(UserError, match="more than its weights say"):
        begin_from_sb3(policy, config, path, trust=True)


@pytest.mark.conformance
def test_its_normaliser_is_taken_with_trust_alone(tmp_path):
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0), norm_reward=False)
    model = PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0, device="cpu").learn(256)
    path = save(stirred(model), tmp_path)
    env.save(tmp_path / "vecnormalize.pkl")
    config = PPOConfig()
    policy = fresh((env.observation_space, env.action_space), config)
    (note,) = begin_from_sb3(policy, config, path)
    assert "--trust" in note
    (note,) = begin_from_sb3(policy, config, path, trust=True)
    assert "taken" in note
    env.training = False
    obs = np.random.default_rng(0).uniform(-0.2, 0.2, (50, 4)).astype(np.float32)
    there, _ = model.predict(env.normalize_obs(obs), deterministic=True)
    assert np.array_equal(policy.act(torch.as_tensor(obs)).numpy(), there)
    assert set(there.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"head": "gaussian", "hidden": (64,)}, "--hidden 64,64"),
        ({"head": "gaussian", "activation": "relu"}, "--activation tanh"),
        ({"head": "gaussian", "shared_trunk": True}, "--no-shared-trunk"),
        ({}, "--head gaussian"),
    ],
    ids=str,
)
def test_a_network_of_another_shape_is_refused_with_the_options_that_fit(gaussian, settings, fix):
    path, _, _ = gaussian
    config = PPOConfig(**settings)
    with pytest.raises(UserError, match=fix):
        begin_from_sb3(fresh((NUMBERS, BOX), config), config, path)


def test_other_spaces_and_other_algorithms_are_refused(gaussian):
    path, config, _ = gaussian
    with pytest.raises(UserError, match="other observations or actions"):
        begin_from_sb3(fresh((NUMBERS, Box(-1, 1, (3,), np.float32)), config), config, path)
    with pytest.raises(UserError, match="another algorithm"):
        begin_from_sb3(fresh((NUMBERS, CHOICES), DQNConfig()), DQNConfig(), path)


@pytest.mark.parametrize("damage", ["missing", "text", "half", "empty zip", "no object", "not finite"])
def test_damaged_files_are_one_line(gaussian, damage, tmp_path):
    path, config, policy = gaussian
    if damage == "missing":
        path = tmp_path / "no.zip"
    elif damage == "text":
        path.write_text("no zip")
    elif damage == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "not finite":
        model = blank_ppo("MlpPolicy", (NUMBERS, BOX), {"n_steps": 2})
        model.policy.action_net.bias.data.fill_(float("nan"))
        save(model, tmp_path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            if damage == "no object":
                archive.writestr("data", "[1]")
    with pytest.raises(UserError) as refused:
        begin_from_sb3(policy, config, path)
    assert refused.value.code == 2
    assert "\n" not in str(refused.value)


def test_the_environment_of_a_zip_need_not_be_one_of_ours(tmp_path):
    env = gymnasium.make("CartPole-v1")
    path = save(DQN("MlpPolicy", env, buffer_size=10, seed=0, device="cpu"), tmp_path)
    config = DQNConfig()
    policy = fresh((env.observation_space, env.action_space), config)
    begin_from_sb3(policy, config, path)
    assert policy.q_values(torch.zeros(1, 4)).shape == (1, 2)
