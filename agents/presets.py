"""Presets: options that make `train ALGO ENV` good without tuning. One TOML file each, beside this one.

A file `preset_ALGO_ENV.toml` (`/` in an id is written `-`) holds `reached`, what it was measured to reach; `[options]`,
what differs from the defaults; and where an environment has several kinds of observation, a table named after one,
`[pixels]`, with what differs further there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["preset", "preset_file", "reached"]


def preset(algo: str, env: str, asked: Mapping[str, object]) -> dict[str, Any]:
    """Options that make an algorithm good on an environment; asked = those given, of which `obs` matters."""
    tables = _read(algo, env)
    found: dict[str, Any] = dict(tables.get("options", {}))
    more = tables.get(str(asked.get("obs", found.get("obs", "")))) or {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in (found | dict(more)).items()}


def reached(algo: str, env: str) -> str | None:
    """What the preset was measured to reach; None without a preset."""
    return _read(algo, env).get("reached")


def preset_file(algo: str, env: str) -> Path:
    """Where the preset of an algorithm on an environment is, or would be."""
    return Path(__file__).with_name(f"preset_{algo}_{env.replace('/', '-')}.toml")


def _read(algo: str, env: str) -> dict[str, Any]:
    file = preset_file(algo, env)
    inside = file.parent == Path(__file__).parent  # an id is the user's word
    return tomllib.loads(file.read_text(encoding="utf-8")) if inside and file.is_file() else {}
