"""Presets: options that make `train ALGO ENV` good without tuning. One TOML file each, beside this one.

A file `preset_ALGO_ENV.toml` (`/` in an id is written `-`) holds `reached`, what it was measured to reach; `[options]`,
what differs from the defaults; and tables with what differs further, of which a later one goes before: `[core]` for
networks that remember, one named after a kind of observation, `[pixels]`, and `[domain_randomize]` for pictures in
other colours in every episode.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..policies.config import PolicyConfig
from .config import ORIGINAL, RACING, TASK
from .dqn_config import DQNConfig

__all__ = ["differing", "inherited", "preset", "preset_file", "reached"]

DRIVING = (RACING, ORIGINAL)
SEEN = ("env_args", "frame_skip", "frame_stack", "grey", "resize", "atari")
"""settings of a Gymnasium environment that decide what an agent sees and does"""
OF_ENCODER = ("encoder", "hidden", "channels", "activation", "norm_obs", "layer_norm")
"""settings of an encoder and of what comes before it"""
OF_Q = ("dueling", "quantiles", "noisy", "reward_scale")
"""settings of a network of action values, beside those of any"""


def preset(algo: str, env: str, asked: Mapping[str, object]) -> dict[str, Any]:
    """Options that make an algorithm good on an environment.

    Args:
        algo: which.
        env: which.
        asked: options that were given, of which `obs`, `domain_randomize` and `core` matter.
    """
    tables = _read(algo, env)
    found: dict[str, Any] = dict(tables.get("options", {}))
    if asked.get("core", "none") != "none":
        found |= tables.get("core") or {}
    found |= tables.get(str(asked.get("obs", found.get("obs", "")))) or {}
    if asked.get("domain_randomize") is True:
        found |= tables.get("domain_randomize") or {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def reached(algo: str, env: str) -> str | None:
    """What the preset was measured to reach; None without a preset."""
    return _read(algo, env).get("reached")


def preset_file(algo: str, env: str) -> Path:
    """Where the preset of an algorithm on an environment is, or would be."""
    return Path(__file__).with_name(f"preset_{algo}_{env.replace('/', '-')}.toml")


def inherited(algo: str, env: str, record: Mapping[str, Any], encoder_alone: bool = False) -> dict[str, Any]:
    """Settings that make an algorithm's task and network on env those of a run, out of its config.json.

    A network of action values that begins with a policy of another kind is a plain one. With encoder_alone it is
    settings of what is seen, and of the encoder that sees it.
    """
    names, plain = list(OF_ENCODER if encoder_alone else PolicyConfig.model_fields), {}
    if record.get("env") in DRIVING and env in DRIVING:
        names += [name for name in TASK if name != "actions"] if encoder_alone else TASK
    elif record.get("env") == env:
        names += SEEN
    if encoder_alone:
        return {name: record[name] for name in names if name in record} | _same_encoder(algo, record)
    if algo == "dqn" and record.get("algo") == "dqn":
        names += OF_Q
    elif algo == "dqn":
        plain = {name: DQNConfig.model_fields[name].default for name in OF_Q if name != "reward_scale"}
    return plain | {name: record[name] for name in names if name in record}


def _same_encoder(algo: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under which an encoder has the layers of a run's: dueling streams take the last of them away."""
    dueling = record.get("algo") == "dqn" and bool(record.get("dueling"))
    if algo == "dqn":
        return {"dueling": dueling}
    return {"hidden": list(record["hidden"])[:-1]} if dueling and record.get("hidden") else {}


def differing(
    algo: str, env: str, settings: Mapping[str, Any], record: Mapping[str, Any], encoder_alone: bool = False
) -> str:
    """Settings of task and network that are not those of a run, in words: ``hidden [32] (there [64, 64]), …``."""
    theirs = {name: _plain(value) for name, value in inherited(algo, env, record, encoder_alone).items()}
    ours = {name: _plain(settings[name]) for name in theirs if name in settings}
    return ", ".join(f"{name} {ours[name]} (there {theirs[name]})" for name in ours if ours[name] != theirs[name])


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _read(algo: str, env: str) -> dict[str, Any]:
    file = preset_file(algo, env)
    inside = file.parent == Path(__file__).parent  # an id is the user's word
    return tomllib.loads(file.read_text(encoding="utf-8")) if inside and file.is_file() else {}
