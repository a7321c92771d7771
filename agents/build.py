"""From names and flat settings to learners, and from a run's record and weights to its policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from gymnasium.spaces import Box, Space

from ..envs.errors import UserError, nearest
from ..policies.build import build_policy
from ..policies.config import PolicyConfig
from ..policies.encoders import DENSE
from ..policies.policy import Policy
from .checkpoint import load_model
from .config import ALGORITHMS, PPOConfig
from .dqn_config import DQNConfig
from .worlds import make_env, spaces_of

if TYPE_CHECKING:
    from ..policies.qnet import QPolicy
    from .dqn import DQNLearner
    from .ppo import PPOLearner
    from .sb3_backend import Sb3DQNLearner, Sb3PPOLearner

    AnyPolicy = Policy | QPolicy
    AnyLearner = PPOLearner | DQNLearner | Sb3PPOLearner | Sb3DQNLearner

CONFIGS: dict[str, type[PPOConfig] | type[DQNConfig]] = {"ppo": PPOConfig, "dqn": DQNConfig}


def make_config(algo: str, settings: Mapping[str, Any]) -> PPOConfig | DQNConfig:
    """The settings of an algorithm out of flat ones; others are left alone.

    Raises:
        UserError: unknown algorithm, or a value out of its range.
    """
    if algo not in CONFIGS:
        raise UserError("unknown algorithm", got=algo, allowed=ALGORITHMS, fix=_did_you_mean(algo))
    model = CONFIGS[algo]
    try:
        return model(**{name: settings[name] for name in model.model_fields if name in settings})
    except ValueError as error:
        raise UserError("a setting is out of its range", got=" ".join(str(error).split())) from None


def build_learner(
    algo: str, env: str, settings: Mapping[str, Any], seed: int, device: str, total_steps: int = 1
) -> AnyLearner:
    """An algorithm on an environment with training seeds of its own.

    Args:
        algo: ppo or dqn.
        env: racing, CarRacing-v3, or a Gymnasium id.
        settings: flat: the task, the training in it, the algorithm's, and backend: "native", or "sb3" for
            Stable-Baselines3's version of the algorithm.
        seed: of weights, environments and exploration.
        device: where to compute.
        total_steps: where schedules end.

    Raises:
        UserError: settings that do not go together, or an environment that cannot be made.
    """
    config = make_config(algo, settings)
    borrowed = settings.get("backend", "native") == "sb3"
    if borrowed and settings.get("vectorization", "auto") == "auto":  # it cannot use lanes that reset a step late
        settings = {**settings, "vectorization": "sync"}
    spaces = spaces_of(env, settings)
    _check_encoder(config, spaces[0])
    generator = torch.Generator(device).manual_seed(seed)
    weights = torch.Generator().manual_seed(generator.initial_seed() ^ 0x5EED)
    policy = build(algo, config, spaces, weights)
    batch = make_env(env, settings, config.num_envs, seed, device)
    if borrowed:
        from .sb3_backend import sb3_learner

        return sb3_learner(batch, config, generator, policy, total_steps)
    if isinstance(config, DQNConfig):
        from .dqn import DQNLearner

        return DQNLearner(batch, config, generator, cast("QPolicy", policy), total_steps)
    from .ppo import PPOLearner

    return PPOLearner(batch, config, generator, cast(Policy, policy), total_steps)


def build(
    algo: str, config: PolicyConfig, spaces: tuple[Space[Any], Space[Any]], generator: torch.Generator
) -> AnyPolicy:
    """A policy with fresh weights, of the kind that an algorithm trains.

    Raises:
        UserError: no such network for these spaces.
    """
    try:
        if isinstance(config, DQNConfig):
            from ..policies.qnet import build_q_policy

            return build_q_policy(*spaces, config, generator)
        return build_policy(*spaces, config, generator)
    except ValueError as error:  # an action space that the algorithm cannot take, a picture too small for the network
        raise UserError(f"no network of {algo} for this environment", got=error) from None


def load_policy(record: Mapping[str, Any], checkpoint: Path) -> AnyPolicy:
    """The network that config.json describes, with the weights of a checkpoint folder.

    Raises:
        UserError: damaged checkpoint (3), or weights of another shape (2).
    """
    algo = str(record.get("algo", "ppo"))
    model = DQNConfig if algo == "dqn" else PolicyConfig
    config = model(**{name: record[name] for name in model.model_fields if name in record})
    policy = build(algo, config, spaces_of(str(record.get("env", "racing")), record), torch.Generator())
    load_weights(policy, checkpoint)
    return policy.eval()


def load_weights(policy: AnyPolicy, checkpoint: Path) -> None:
    """Puts the weights of a checkpoint folder into a policy.

    Raises:
        UserError: damaged checkpoint (3), or weights of another shape (2).
    """
    found, here = load_model(checkpoint), policy.state_dict()
    for name in [*here, *found]:
        stored, asked = (tuple(tensors[name].shape) if name in tensors else "absent" for tensors in (found, here))
        if stored != asked:
            what = f"the network of {checkpoint} is not the one that config.json describes"
            fix = "restore config.json from a copy"
            raise UserError(what, got=f"{name} {stored}", allowed=str(asked), fix=fix)
    policy.load_state_dict(found)


def pick_device(name: str) -> str:
    """ "auto" is cuda where there is one, else cpu.

    Raises:
        UserError: no such device here.
    """
    there = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if there else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise UserError("unknown device", got=name, allowed="auto, cpu, cuda")
    if name.startswith("cuda") and not there:
        built = torch.version.cuda is not None
        why = "no CUDA device is visible" if built else "this torch was built without CUDA"
        fix = "take cpu (on the command line --device cpu), or see `drivetrain doctor`"
        raise UserError(f"the device {name} is not available", got=why, fix=fix)
    return name


def _check_encoder(config: PolicyConfig, observations: Space[Any]) -> None:
    pictures = isinstance(observations, Box) and len(observations.shape) == 3
    if pictures == (config.encoder in DENSE):
        seen, fix = ("pictures", "--encoder cnn or resnet") if pictures else ("numbers", "--encoder mlp")
        raise UserError(f"the encoder {config.encoder} does not read {seen}", got=config.encoder, fix=f"take {fix}")


def _did_you_mean(algo: str) -> str | None:
    near = nearest(algo, ALGORITHMS)
    return f"did you mean {near}?" if near else None
