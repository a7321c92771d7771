"""To begin from a model of Stable-Baselines3: the weights of its zip in a network of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..envs.errors import UserError
from ..policies.config import PolicyConfig
from ..policies.encoders import CHANNELS, CNN, MLP, Encoder
from ..policies.heads import BoundedHead, GaussianHead
from ..policies.normalize import RunningNorm
from ..policies.policy import Policy
from ..policies.qnet import QPolicy
from .sb3_read import Sb3Zip, read_zip

THEIRS, OURS = "stable_baselines3.", "drivetrain.agents.sb3_policy"
"""modules of policies whose weights mean what their names say"""
NORMALISER = "vecnormalize.pkl"
TIES = 0.02
"""share of choices that rounding may turn"""
UNBOUNDED = 50.0
"""size up to which numbers without bounds are taken over exactly"""

Layer = tuple[Tensor, Tensor]  # weight, bias


@dataclass(frozen=True)
class Network:
    """Layers in a row: convolutions, then fully connected ones."""

    convolutions: list[Layer]
    dense: list[Layer]


@dataclass(frozen=True)
class Foreign:
    """A network of Stable-Baselines3's own."""

    options: dict[str, Any]  # our settings that make a network of its shape
    networks: tuple[Network, ...]  # actor and critic, or the values of actions
    log_std: Tensor | None  # [A] of continuous actions


def begin_from_sb3(policy: Policy | QPolicy, config: PolicyConfig, path: Path, trust: bool = False) -> tuple[str, ...]:
    """Gives a fresh policy the weights of a zip of Stable-Baselines3. Nothing in the zip is run, unless it is trusted.

    Observations are not standardised there. Our statistics begin where they change nothing, and move slowly.

    Args:
        policy: made as config says, for the environment of the zip.
        config: settings of the policy.
        path: the zip.
        trust: also open the zip as Stable-Baselines3 does, which runs code that it may bring along: takes the
            normaliser beside it, and policies of classes unknown here, if they decide as their weights do.

    Returns:
        What the user should know.

    Raises:
        UserError: no such zip, a network of another kind or shape (names the options that fit), or code to be trusted.
    """
    archive = read_zip(path)
    if archive.policy_class == OURS:
        _load_ours(policy, config, archive)
        return ()
    if not archive.policy_class.startswith(THEIRS) and not trust:
        what = f"the policy in {path} is of a class whose code would have to be run"
        raise UserError(what, got=archive.policy_class or "no class", fix="if you trust the file, add --trust")
    foreign = _foreign(archive, isinstance(policy, QPolicy))
    _check_options(policy, config, foreign, path)
    if isinstance(policy.obs_norm, RunningNorm):
        sd = _spread(archive, policy.obs_norm)
        _fill(policy, _scaled(foreign, sd), path)
        _rest(policy.obs_norm, sd)
    else:
        _fill(policy, foreign, path)
    if isinstance(policy, Policy) and getattr(config, "norm_return", False):
        _rest(policy.return_norm, torch.ones(1))
    notes = ("noise depended on the state there; here it does not",) if archive.use_sde else ()
    beside = [file for file in (path.parent / NORMALISER, path.with_suffix("") / NORMALISER) if file.is_file()]
    if not trust:
        return notes + tuple(f"{file} holds a normaliser, which is taken with --trust only" for file in beside[:1])
    _compare(policy, path)
    return notes + (_take_normaliser(policy, foreign, path, beside[0]) if beside else ())


def _load_ours(policy: Policy | QPolicy, config: PolicyConfig, archive: Sb3Zip) -> None:
    """A zip that holds a policy of ours."""
    prefix = "q_net.core." if isinstance(policy, QPolicy) else "core."
    state = {k.removeprefix(prefix): v for k, v in archive.weights.items() if k.startswith(prefix)}
    if not state:
        raise _other_algorithm(archive.path)
    written = archive.kwargs.get("config")
    _refuse_others(config, written if isinstance(written, dict) else {}, archive.path)
    try:
        policy.load_state_dict(state)
    except RuntimeError as error:
        raise _other_spaces(archive.path, str(error).splitlines()[-1].strip()) from None
    if isinstance(policy, QPolicy) and policy.reward_scale != 1.0:  # values in the zip are those of points
        _scale_values(policy, policy.reward_scale)


def _scale_values(policy: QPolicy, factor: float) -> None:
    with torch.no_grad():
        for stream in (policy.net.advantage, policy.net.value):
            for parameter in stream.last.parameters() if stream is not None else ():
                parameter.mul_(factor)


def _foreign(archive: Sb3Zip, values: bool) -> Foreign:
    """The network in a zip, of values of actions or of actor and critic."""
    weights = archive.weights
    if values != any(name.startswith("q_net.q_net.") for name in weights):
        raise _other_algorithm(archive.path)
    if values:
        network = _network(weights, "q_net.features_extractor", "q_net.q_net", None)
        return Foreign(_shape_options(archive, network, "ReLU"), (network,), None)
    if "action_net.weight" not in weights or any(".shared_net." in name for name in weights):
        raise _unknown(archive)
    split = any(name.startswith("pi_features_extractor.") for name in weights)
    eyes = ("pi_features_extractor", "vf_features_extractor") if split else ("features_extractor",) * 2
    actor = _network(weights, eyes[0], "mlp_extractor.policy_net", "action_net")
    critic = _network(weights, eyes[1], "mlp_extractor.value_net", "value_net")
    if [w.shape[0] for w, _ in actor.dense[:-1]] != [w.shape[0] for w, _ in critic.dense[:-1]]:
        raise UserError(f"actor and critic of {archive.path} are of different sizes; ours are of one")
    options, log_std = _shape_options(archive, actor, "Tanh"), weights.get("log_std")
    if log_std is not None:
        options["head"] = "squashed" if archive.kwargs.get("squash_output") is True else "gaussian"
        if log_std.ndim == 2:  # gSDE [units, A]: variances of all units add up
            log_std = 0.5 * torch.logsumexp(2 * log_std, 0)
    one = len(actor.dense) == 2 and bool(actor.convolutions) and _same(actor, critic)
    return Foreign(options | {"shared_trunk": one}, (actor, critic), log_std)


def _same(one: Network, other: Network) -> bool:
    """Whether all but the last layers are equal."""
    pairs = zip(one.convolutions + one.dense[:-1], other.convolutions + other.dense[:-1], strict=True)
    return all(torch.equal(a, b) for here, there in pairs for a, b in zip(here, there, strict=True))


def _network(weights: Mapping[str, Tensor], eyes: str, body: str, last: str | None) -> Network:
    """What lies below the names of a features extractor, of the layers behind, and of the last one."""
    convolutions = _layers(weights, f"{eyes}.cnn")
    dense = _layers(weights, f"{eyes}.linear") + _layers(weights, body)
    if last is not None:
        dense.append((weights[f"{last}.weight"], weights[f"{last}.bias"]))
    return Network(convolutions, dense)


def _layers(weights: Mapping[str, Tensor], prefix: str) -> list[Layer]:
    found = [re.fullmatch(re.escape(prefix) + r"\.(\d+)\.weight", name) for name in weights]
    places = sorted(int(match[1]) for match in found if match)
    return [(weights[f"{prefix}.{place}.weight"], weights[f"{prefix}.{place}.bias"]) for place in places]


def _shape_options(archive: Sb3Zip, network: Network, default: str) -> dict[str, Any]:
    """Our settings for layers of these sizes."""
    known = {"features_extractor", "pi_features_extractor", "vf_features_extractor", "mlp_extractor", "action_net"}
    known |= {"value_net", "log_std", "q_net", "q_net_target"}
    strange = [name for name in archive.weights if name.split(".")[0] not in known]
    wanted = [8, 4, 3] if network.convolutions else []
    if strange or [weight.shape[-1] for weight, _ in network.convolutions] != wanted:
        raise _unknown(archive)
    hidden = tuple(weight.shape[0] for weight, _ in network.dense[:-1])
    plain = {"hidden": hidden, "layer_norm": False}
    if not network.convolutions:
        used = {"activation": archive.activation(default)} if hidden else {}
        return {"encoder": "mlp"} | used | plain
    mixed = len(hidden) > 1 and archive.activation(default) != "relu"
    if mixed or archive.kwargs.get("normalize_images") is False:
        raise _unknown(archive)
    channels = tuple(weight.shape[0] for weight, _ in network.convolutions)
    return {"encoder": "cnn", "activation": "relu", "channels": channels} | plain


def _check_options(policy: Policy | QPolicy, config: PolicyConfig, foreign: Foreign, path: Path) -> None:
    """Refuses a policy of another shape; names the options that fit."""
    options = dict(foreign.options)
    if isinstance(policy, QPolicy):
        options |= {"dueling": False, "quantiles": 0, "noisy": False}
    elif type(policy.head) is {"squashed": BoundedHead, "gaussian": GaussianHead}.get(options.get("head", "")):
        del options["head"]  # config.head may be auto
    _refuse_others(config, options, path)


def _refuse_others(config: PolicyConfig, options: Mapping[str, Any], path: Path) -> None:
    """Refuses settings that differ from options."""
    here = config.model_dump()
    if here.get("channels") is None:
        here["channels"] = CHANNELS.get(here["encoder"])
    away = []
    for name, wanted in options.items():
        wanted = tuple(wanted) if isinstance(wanted, list) else wanted
        if name == "channels" and wanted is None:
            wanted = CHANNELS.get(here["encoder"])
        decides = name in here and name not in ("log_std_min", "log_std_init", "reward_scale")
        if decides and here[name] != wanted:
            away.append(_flag(name, wanted))
    if away:
        raise UserError(f"the network in {path} has another shape", fix=f"take {' '.join(away)}")


def _flag(name: str, value: Any) -> str:
    """As it is typed."""
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{words}" if value else f"--no-{words}"
    if isinstance(value, tuple):
        return f"--{words} {','.join(map(str, value)) or 'none'}"
    return f"--{words} {value}"


def _spread(archive: Sb3Zip, norm: RunningNorm) -> Tensor:
    """[O] standard deviations so large that nothing is clipped, and no larger: what was learned fits a spread of 1."""
    reach = archive.reach(len(norm.mean))
    return (torch.where(reach.isinf(), UNBOUNDED, reach) / norm.limit).clamp(min=1.0).to(norm.mean.device)


def _scaled(foreign: Foreign, sd: Tensor) -> Foreign:
    """The same network for observations that were divided by sd [O]."""
    networks = []
    for network in foreign.networks:
        (weight, bias), *rest = network.dense
        if weight.shape[1] == len(sd):  # else another shape, which is refused elsewhere
            weight = weight * sd.to(weight.device)
        networks.append(replace(network, dense=[(weight, bias), *rest]))
    return replace(foreign, networks=tuple(networks))


@torch.no_grad()
def _fill(policy: Policy | QPolicy, foreign: Foreign, path: Path) -> None:
    """The weights, layer by layer."""
    if isinstance(policy, QPolicy):
        _fill_network([policy.net.encoder], policy.net.advantage.last, foreign.networks[0], path)
        _scale_values(policy, policy.reward_scale)
        return
    actor, critic = foreign.networks
    (last,) = (module for module in policy.head.modules() if isinstance(module, nn.Linear))
    _fill_network([policy.actor], last, actor, path)
    _fill_network([] if policy.critic is None else [policy.critic], policy.value_head.value, critic, path)
    if foreign.log_std is not None and isinstance(policy.head, BoundedHead | GaussianHead):
        policy.head.log_std.copy_(foreign.log_std)


def _fill_network(encoders: list[Encoder], last: nn.Module, network: Network, path: Path) -> None:
    rows: list[tuple[nn.Module, Layer]] = [(last, network.dense[-1])]
    for encoder in encoders:
        assert isinstance(encoder, CNN | MLP)
        layers = [m for m in encoder.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        rows += zip(layers, network.convolutions + network.dense[:-1], strict=True)
    for module, (weight, bias) in rows:
        here = torch.as_tensor(module.weight)
        if here.shape != weight.shape:
            raise _other_spaces(path, f"{list(weight.shape)} instead of {list(here.shape)} weights")
        here.copy_(weight)
        torch.as_tensor(module.bias).copy_(bias)


def _rest(norm: RunningNorm, sd: Tensor) -> None:
    """Statistics that only divide by sd, and change little soon."""
    norm.mean.zero_()
    norm.var.copy_(sd**2 - 1e-5)  # forward adds as much
    norm.updates.fill_(norm.memory)


def _compare(policy: Policy | QPolicy, path: Path) -> None:
    """Opens the zip as Stable-Baselines3 does, and refuses it if it decides differently from its weights."""
    from stable_baselines3 import DQN, PPO

    noise, shape = np.random.default_rng(0), (256, *policy.obs_shape)
    pictures = len(shape) == 4
    obs = noise.integers(0, 256, shape, np.uint8) if pictures else noise.normal(size=shape).astype(np.float32)
    here = policy.act(torch.as_tensor(obs).to(policy.device)).cpu().numpy()
    model: PPO | DQN
    try:
        model = DQN.load(path, device="cpu") if isinstance(policy, QPolicy) else PPO.load(path, device="cpu")
        there, _ = model.predict(obs, deterministic=True)
    except Exception as error:  # its code may fail in any way
        raise UserError(f"{path} cannot be opened by Stable-Baselines3", got=error) from None
    wrong = np.abs(here - there) > 1e-4 if here.dtype.kind == "f" else here != there
    if wrong.mean() > TIES:
        raise UserError(f"the policy in {path} does more than its weights say", fix="its class cannot be taken over")


def _take_normaliser(policy: Policy | QPolicy, foreign: Foreign, path: Path, file: Path) -> tuple[str, ...]:
    """Statistics of its VecNormalize, and the weights as they are there."""
    from stable_baselines3.common.save_util import load_from_pkl

    found, norm = load_from_pkl(file), policy.obs_norm
    if not getattr(found, "norm_obs", False):
        return (f"{file} does not standardise observations",)
    if not isinstance(norm, RunningNorm):
        raise UserError(f"{file} standardises observations, our network does not", fix="take --norm-obs")
    _fill(policy, foreign, path)
    norm.mean.copy_(torch.as_tensor(found.obs_rms.mean))
    norm.var.copy_(torch.as_tensor(found.obs_rms.var + found.epsilon - 1e-5))  # forward adds 1e-5
    limits = "" if found.clip_obs == norm.limit else f"; clipped at {norm.limit:g} instead of {found.clip_obs:g}"
    return (f"normaliser taken from {file}{limits}",)


def _other_algorithm(path: Path) -> UserError:
    return UserError(f"{path} holds the network of another algorithm", fix="a PPO begins from a PPO, a DQN from a DQN")


def _other_spaces(path: Path, got: str) -> UserError:
    return UserError(f"{path} was trained on other observations or actions", got=got)


def _unknown(archive: Sb3Zip) -> UserError:
    what = f"the network in {archive.path} is not built like one of ours"
    return UserError(what, allowed="MlpPolicy, CnnPolicy (NatureCNN) of PPO, A2C and DQN")
